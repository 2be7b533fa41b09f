"""A recorder that is stopped (SIGSTOP) at any moment keeps nobody else from publishing."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

import yaml  # noqa: E402
from rclpy.qos import QoSProfile, ReliabilityPolicy  # noqa: E402
from sensor_msgs.msg import JointState  # noqa: E402

from benchmarks.recorder.load_plan import ROBOT, plan_load, recorder_yaml  # noqa: E402
from benchmarks.recorder.run_processes import RunProcesses  # noqa: E402
from benchmarks.recorder.station_calls import StationCalls  # noqa: E402
from capture_nodes.resources import config_file  # noqa: E402
from capture_nodes.ros_environment import picture_environment, station_environment  # noqa: E402

DOMAIN = 83
PARTS = ("robot", "commands", "cameras")
STOPS = 60
# In the stop and after it, of every topic: 0.1 s of commands at 200 Hz.
FURTHER = 20
# Fast DDS itself gives up waiting for a stopped process after 10 s.
TIMEOUT_S = 5.0


class Heard:
    """Messages of the robot's joints and of its commands so far, by somebody who is not stopped."""

    def __init__(self, calls: StationCalls) -> None:
        self.counts = {"joint_states": 0, "joint_commands": 0}
        self._calls = calls
        quality = QoSProfile(depth=1000, reliability=ReliabilityPolicy.RELIABLE)
        for name in self.counts:
            calls.subscribe(JointState, f"/{ROBOT}/{name}", self._counter(name), quality)

    def _counter(self, name: str) -> Callable[[Any], None]:
        def count(_message: Any) -> None:
            self.counts[name] += 1

        return count

    def wait_for_more(self, when: str) -> None:
        before = dict(self.counts)
        for name in self.counts:
            self._calls.wait(
                lambda name=name: self.counts[name] >= before[name] + FURTHER,
                f"{FURTHER} more {name} {when}",
                TIMEOUT_S,
            )


def test_commands_go_on_whenever_the_recorder_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    environment = station_environment(os.environ, DOMAIN)
    pictures = picture_environment(os.environ)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    streams = plan_load()
    shipped = yaml.safe_load(config_file("recorder.yaml").read_text(encoding="utf-8"))
    configuration = tmp_path / "recorder.yaml"
    configuration.write_text(yaml.safe_dump(recorder_yaml(shipped, streams, {})), encoding="utf-8")

    def named(node: str, **parameters: str) -> list[str]:
        arguments = ["-r", f"__ns:=/{ROBOT}", "-r", f"__node:={node}"]
        for name, value in parameters.items():
            arguments += ["-p", f"{name}:={value}"]
        return arguments

    # Without real-time priority it is more often stopped in the middle of something.
    real_time = shutil.which("setpriv") is None
    processes = RunProcesses(tmp_path, {**os.environ, "ROS_LOG_DIR": str(tmp_path / "log")}, real_time)
    try:
        recorder = processes.start_module(
            "recorder",
            "capture_nodes.recorder_node",
            named("recorder", root=str(tmp_path / "data"), robot=ROBOT, config=str(configuration)),
            **pictures,
        )
        for part in PARTS:
            processes.start_module(
                f"load_{part}",
                "benchmarks.recorder.load",
                named(f"load_{part}", part=part),
                **(pictures if part == "cameras" else {}),
            )
        calls = StationCalls(DOMAIN, ["recorder", *(f"load_{part}" for part in PARTS)], processes.check)
        try:
            for part in PARTS:
                calls.wait_for_word(f"load_{part}", "publishing")
            heard = Heard(calls)
            heard.wait_for_more("before anything is stopped")
            for number in range(STOPS):
                os.kill(recorder, signal.SIGSTOP)
                try:
                    heard.wait_for_more(f"in stop {number + 1} of the recorder")
                finally:
                    os.kill(recorder, signal.SIGCONT)
                heard.wait_for_more(f"after stop {number + 1} of the recorder")
        finally:
            calls.close()
    finally:
        processes.close()
