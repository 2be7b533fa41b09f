"""The headset node replaying an episode, over real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Joy, MultiDOFJointState
from std_srvs.srv import Trigger

from capture_nodes import topics
from capture_nodes.recording.motion_cdr import MotionReader, read_controls
from retargeting.motion_frame import Axis, Controls, MotionFrame

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 77
TIMEOUT_S = 60.0


def recorded(count: int) -> list[MotionFrame]:
    """Frames at uneven intervals with a gap of 0.3 s, each told by its place and its trigger."""
    rng = np.random.default_rng(5)
    intervals = rng.integers(5_000_000, 16_000_000, count)
    intervals[count // 2] = 300_000_000
    frames = []
    for k, stamp_ns in enumerate((10**18 + np.cumsum(intervals)).tolist()):
        axes = [0.0] * len(Axis)
        axes[Axis.LEFT_TRIGGER], axes[Axis.RIGHT_SQUEEZE] = k / 256.0, float(k % 2)
        pose = np.array([0.001 * k, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0])
        frames.append(MotionFrame(stamp_ns, {"head": pose, "left_wrist": pose}, Controls(tuple(axes))))
    return frames


class Node:
    def __init__(self, domain: int, *parameters: str) -> None:
        words = [word for parameter in parameters for word in ("-p", parameter)]
        environment = {
            **os.environ,
            "ROS_DOMAIN_ID": str(domain),
            "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
            "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
            "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        }
        self.context = rclpy.Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("watcher", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.motion: list[MultiDOFJointState] = []
        self.buttons: list[Joy] = []
        self.words: list[str] = []
        deep = topics.stream_qos(2000)
        self.node.create_subscription(MultiDOFJointState, topics.MOTION, self.motion.append, deep)
        self.node.create_subscription(Joy, topics.BUTTONS, self.buttons.append, deep)
        self.node.create_subscription(
            DiagnosticStatus,
            "/trainer/headset/state",
            lambda status: self.words.append(status.message),
            topics.latched_qos(),
        )
        command = [sys.executable, "-m", "capture_nodes.headset_node", "--ros-args"]
        self.process = subprocess.Popen([*command, "-r", "__ns:=/trainer", *words], env=environment, cwd=ROOT)

    def until(self, condition, what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert self.process.poll() is None, "the node ended"
            assert time.monotonic() < deadline, f"no {what} within {TIMEOUT_S} s"
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, name: str) -> Trigger.Response:
        client = self.node.create_client(Trigger, f"/trainer/headset/{name}")
        self.until(client.service_is_ready, name)
        future = client.call_async(Trigger.Request())
        self.until(future.done, f"answer of {name}")
        return future.result()

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(timeout=TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def replay(record_trainer, tmp_path: Path):
    nodes = []

    def start(frames: list[MotionFrame], *parameters: str) -> Node:
        file = record_trainer(tmp_path / "one.mcap", frames)
        nodes.append(Node(DOMAIN, "source:=bag", f"motion:={file}", "start:=service", *parameters))
        return nodes[-1]

    yield start
    for node in nodes:
        node.close()


def places(messages: list[MultiDOFJointState]) -> list[int]:
    return [round(1000 * message.transforms[0].translation.x) for message in messages]


def test_an_episode_comes_out_as_it_was(replay) -> None:
    frames = recorded(150)
    node = replay(frames)
    node.until(lambda: "ready" in node.words and len(node.motion) > 20, "held frames")
    answer = node.call("play")
    assert answer.success and answer.message.endswith(" s")
    assert not node.call("play").success
    assert "only" in node.call("step").message or "plays by itself" in node.call("step").message
    node.until(lambda: "finished" in node.words, "end")
    node.until(lambda: len(node.buttons) >= len(node.motion) > 0, "buttons")
    found = places(node.motion)
    # The first frame is held before, the last one after: what is between came once each, in order.
    first = next(k for k in range(len(found)) if found[k + 1] == 1)
    played = node.motion[first : first + len(frames)]
    assert places(played) == list(range(len(frames)))
    joys = dict(read_controls(serialize_message(joy)) for joy in node.buttons)
    samples = [MotionReader().read(serialize_message(message)) for message in played]
    got = [MotionFrame(sample.stamp_ns, sample.poses, joys[sample.stamp_ns]) for sample in samples]
    offsets = [frame.stamp_ns - got[0].stamp_ns for frame in got]
    assert offsets == [frame.stamp_ns - frames[0].stamp_ns for frame in frames]
    for one, other in zip(got, frames, strict=True):
        np.testing.assert_allclose(one.controls.axes, other.controls.axes, atol=1e-7)
        np.testing.assert_array_equal(one.poses["head"], other.poses["head"])
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in node.motion]
    assert min(np.diff(stamps)) > 0
    # What is held now is stamped now.
    node.motion.clear()
    node.until(lambda: node.motion, "held frame")
    stamp = node.motion[-1].header.stamp
    assert abs(time.time() - stamp.sec - stamp.nanosec * 1e-9) < 5.0


def test_step_by_step(replay) -> None:
    node = replay(recorded(4), "speed:=0.0")
    assert node.call("play").message == "4 steps"
    for k in (1, 2, 3):
        answer = node.call("step")
        assert answer.success and answer.message.startswith(f"frame {k + 1} of 4")
        node.motion.clear()
        node.until(lambda k=k: places(node.motion)[-5:] == [k] * 5, f"frame {k}, held")
    assert not node.call("step").success
