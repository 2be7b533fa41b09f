"""What the launch tests share: a launch of its own for each scenario, and eyes on its ROS domain.

The launch under test is a process of the test's launch: it is interrupted, killed and asked for its
exit code as `ros2 launch` would be.
"""

from __future__ import annotations

import atexit
import json
import os
import select
import shutil
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from launch.actions import ExecuteProcess
from launch_testing.actions import ReadyToTest
from rclpy.executors import SingleThreadedExecutor
from std_srvs.srv import Trigger

from capture_nodes.resources import share_folder
from capture_nodes.topics import latched_qos
from episodes.bag import read_bag
from launch import LaunchDescription

HERE = Path(__file__).resolve().parent
MOTIONS = HERE.parents[2] / "shared" / "motions"
# Every process of a launch under test carries its mark in this variable.
MARK = "TELEOP_CAPTURE_TEST"
WHOLE_RUN_S = 240.0
ENDING_S = 60.0
SMALL = {"camera_width": "64", "camera_height": "48"}
# Where only the end matters: a busy machine must not end the episode before the test does.
PATIENT = {"stale_s": "1.0", "command_timeout_s": "1.0"}


def launch_file(name: str) -> Path:
    return share_folder() / "launch" / name


def new_root() -> Path:
    """A folder for episodes that is removed when the tests have ended."""
    root = Path(tempfile.mkdtemp(prefix="station_under_launch_"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    return root


class LaunchedStation:
    """One `station.launch.py` as a process of its own, in a folder of its own."""

    def __init__(self, domain: int, **arguments: str) -> None:
        self.domain = domain
        self.mark = uuid.uuid4().hex
        self.root = new_root()
        given = {"root": str(self.root), "domain_id": str(domain), **SMALL, **arguments}
        self.process = ExecuteProcess(
            cmd=[
                sys.executable,
                str(HERE / "run_launch_file.py"),
                str(launch_file("station.launch.py")),
                *(f"{name}:={value}" for name, value in given.items()),
            ],
            additional_env={MARK: self.mark, "PYTHONUNBUFFERED": "1"},
            # The launch inside takes the time its own processes need.
            sigterm_timeout=str(ENDING_S),
            output="screen",
        )

    def description(self) -> tuple[LaunchDescription, dict[str, Any]]:
        """What `generate_test_description` returns; the tests get the station by name."""
        return LaunchDescription([self.process, ReadyToTest()]), {"station": self}

    @property
    def pid(self) -> int:
        details = self.process.process_details
        assert details is not None, "the launch has not started"
        return int(details["pid"])

    def processes(self) -> dict[int, str]:
        """All that runs of this launch, itself included: command lines by process id."""
        found = {}
        for folder in Path("/proc").iterdir():
            if folder.name.isdecimal():
                try:
                    if f"{MARK}={self.mark}" in (folder / "environ").read_text().split("\0"):
                        found[int(folder.name)] = (folder / "cmdline").read_text().replace("\0", " ")
                except OSError:
                    # Ended meanwhile, or another user's.
                    continue
        return found

    def node_pid(self, name: str) -> int:
        (pid,) = (pid for pid, line in self.processes().items() if f"/{name}_node " in line)
        return pid

    def episodes(self) -> list[Path]:
        return sorted(path for path in self.root.rglob("*.mcap") if ".trash" not in path.parts)

    def unfinished(self) -> list[Path]:
        return sorted(self.root.rglob("*.mcap.active"))

    def report(self) -> dict[str, Any]:
        (file,) = self.root.glob(".station/report_domain_*.json")
        report = json.loads(file.read_text())
        assert isinstance(report, dict)
        return report

    def wait_until_nothing_is_left(self, timeout_s: float = ENDING_S) -> None:
        """Wait for each process that is there to end, watched through its descriptor."""
        deadline = time.monotonic() + timeout_s
        while left := self.processes():
            for pid in left:
                wait_for_end(pid, deadline - time.monotonic())
            assert time.monotonic() < deadline, f"still there: {left}"

    def watch(self) -> Watcher:
        return Watcher(self.domain, lambda: bool(self.processes()))


def check_recorded(station: LaunchedStation) -> Path:
    """The one file of a run where nothing was lost, complete."""
    (file,) = station.episodes()
    assert station.unfinished() == []
    report = station.report()
    assert report["lost_in_episodes"] == 0
    assert report["received"] > 1000
    bag = read_bag(file)
    assert bag.is_episode
    return file


def wait_for_end(pid: int, timeout_s: float) -> None:
    """Return when the process has ended, or after the time limit."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        select.select([descriptor], [], [], max(0.0, timeout_s))
    finally:
        os.close(descriptor)


class Watcher:
    """A node on the station's domain: waits for states, calls services, as long as the station is there."""

    def __init__(self, domain: int, is_alive: Callable[[], bool] = lambda: True) -> None:
        self._is_alive = is_alive
        self._context = rclpy.Context()
        rclpy.init(args=[], context=self._context, domain_id=domain)
        self._node = rclpy.create_node("watcher", context=self._context, enable_rosout=False)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._newest: dict[str, Any] = {}

    def __enter__(self) -> Watcher:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        self._context.try_shutdown()

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = WHOLE_RUN_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            self._executor.spin_once(timeout_sec=0.2)
            assert self._is_alive(), f"the station ended before {what} came about"
            assert time.monotonic() < deadline, f"{what} did not come about within {timeout_s:g} s"

    def until_status(
        self, topic: str, matches: Callable[[str, dict[str, str]], bool], timeout_s: float = WHOLE_RUN_S
    ) -> None:
        """Until a latched status says what is waited for; `matches` gets its word and its values."""
        if topic not in self._newest:
            self._newest[topic] = None
            self._node.create_subscription(
                DiagnosticStatus, topic, lambda m: self._newest.__setitem__(topic, m), latched_qos()
            )

        def fits() -> bool:
            message = self._newest[topic]
            if message is None:
                return False
            return matches(message.message, {item.key: item.value for item in message.values})

        self.until(fits, f"the awaited state of {topic}", timeout_s)

    def until_recording(self, seconds: float = 1.0) -> None:
        """Until the middle of an episode: the recorder has written for this long."""
        self.until_status(
            "/kestrel/recorder/episode",
            lambda word, values: word == "recording" and float(values["duration_s"]) >= seconds,
        )

    def call(self, service: str, timeout_s: float = WHOLE_RUN_S) -> tuple[bool, str]:
        client = self._node.create_client(Trigger, service)
        try:
            self.until(client.service_is_ready, f"the service {service}", timeout_s)
            future = client.call_async(Trigger.Request())
            self.until(future.done, f"an answer of {service}", timeout_s)
            response = future.result()
            return bool(response.success), str(response.message)
        finally:
            self._node.destroy_client(client)

    def until_accepted(self, service: str, timeout_s: float = WHOLE_RUN_S) -> str:
        """Ask until the node says yes: it may still be joining topics; answers its message."""
        deadline = time.monotonic() + timeout_s
        while True:
            accepted, message = self.call(service, deadline - time.monotonic())
            if accepted:
                return message
            assert time.monotonic() < deadline, f"{service} refuses: {message}"
