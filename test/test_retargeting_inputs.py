"""What the retargeter is fed in a tick: subscriptions are filled here, the clock is turned here."""

from __future__ import annotations

import math
from collections import deque
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import WrenchStamped
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState, Joy, MultiDOFJointState

from capture_nodes import retargeting_inputs, topics
from capture_nodes.motion_messages import MotionWriter
from capture_nodes.retargeting_inputs import RetargetingInputs
from capture_nodes.stamp_clock import StampClock
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, Controls, MotionFrame

TICK_NS = 5_000_000
START_NS = 10**18


class Subscription:
    """Raw messages in the order they came."""

    def __init__(self, depth: int) -> None:
        self.handle = self
        self.waiting: deque[bytes] = deque(maxlen=depth)

    def take_message(self, _kind: type, _raw: bool) -> Any:
        return (self.waiting.popleft(), {}) if self.waiting else None


class Node:
    def __init__(self) -> None:
        self.subscriptions: dict[str, Subscription] = {}
        self.warnings: list[str] = []

    def create_subscription(
        self, _kind: type, topic: str, _call: Any, qos: Any, **_more: Any
    ) -> Subscription:
        self.subscriptions[topic] = Subscription(qos.depth)
        return self.subscriptions[topic]

    def get_logger(self) -> Any:
        return SimpleNamespace(warning=lambda text, **_throttle: self.warnings.append(text))


class Fed:
    """In place of the retargeter: what it was fed."""

    def __init__(self, wrenches: tuple[str, ...]) -> None:
        self.model = SimpleNamespace(description=SimpleNamespace(wrenches=dict.fromkeys(wrenches)))
        self.parameters = SimpleNamespace(stale_s=0.1)
        self.controls = Controls()
        self.frames: list[MotionFrame] = []
        self.joints: dict[str, float] = {}
        self.forces: list[tuple[str, float]] = []

    def observe_controls(self, controls: Controls) -> None:
        self.controls = controls

    def observe_motion(self, frame: MotionFrame, _now_s: float) -> None:
        self.frames.append(frame)

    def observe_joints(self, positions: dict[str, float], _now_s: float) -> None:
        if not all(math.isfinite(q) for q in positions.values()):
            raise RetargetingError("joint_states hold a non-finite position")
        self.joints |= positions

    def observe_wrench(self, sensor: str, force_n: float) -> None:
        self.forces.append((sensor, force_n))


class World:
    def __init__(self, monkeypatch: pytest.MonkeyPatch, *wrenches: str) -> None:
        self.now_s = 100.0
        monkeypatch.setattr(retargeting_inputs, "time", SimpleNamespace(monotonic=lambda: self.now_s))
        self.node, self.fed, self.write = Node(), Fed(wrenches), MotionWriter()
        self.inputs = RetargetingInputs(self.node, self.fed)  # type: ignore[arg-type]
        self.ticks = 0

    def send(self, topic: str, message: bytes) -> None:
        self.node.subscriptions[topic].waiting.append(message)

    def tick(self) -> None:
        self.ticks += 1
        self.now_s += 1e-9 * TICK_NS
        stamp_ns = START_NS + self.ticks * TICK_NS
        self.inputs.take(stamp_ns, stamp_ns)


def joy(value: float) -> bytes:
    axes = [0.0] * len(Axis)
    axes[Axis.LEFT_SQUEEZE] = axes[Axis.LEFT_STICK_Y] = value
    return bytes(serialize_message(Joy(axes=axes, buttons=[0] * 8)))


@pytest.mark.parametrize("bad", [joy(math.nan), joy(1.0)[:30], b""], ids=["not finite", "cut", "empty"])
def test_controls_that_cannot_be_read_are_let_go_like_none(monkeypatch: pytest.MonkeyPatch, bad: bytes):
    world = World(monkeypatch)
    world.send(topics.BUTTONS, joy(1.0))
    world.tick()
    assert world.fed.controls.axes[Axis.LEFT_SQUEEZE] == 1.0
    for _ in range(22):
        world.send(topics.BUTTONS, bad)
        world.tick()
    assert world.inputs.rejected == 22
    assert world.fed.controls.axes[Axis.LEFT_SQUEEZE] == 0.0
    assert world.inputs.controls.axes[Axis.LEFT_STICK_Y] == 0.0
    world.send(topics.BUTTONS, joy(1.0))
    world.tick()
    assert world.fed.controls.axes[Axis.LEFT_SQUEEZE] == 1.0


def wrench(x: float) -> bytes:
    message = WrenchStamped()
    message.wrench.force.x = x
    return bytes(serialize_message(message))


def test_a_wrench_that_cannot_be_read_hides_no_other(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, "left_wrist", "right_wrist")
    world.send("wrench/left_wrist", wrench(1.0)[:20])
    world.send("wrench/right_wrist", wrench(500.0))
    world.tick()
    assert world.fed.forces == [("right_wrist", 500.0)]
    assert world.inputs.rejected == 1


def test_a_force_sensor_that_falls_silent_is_told_once(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch, "left_wrist", "right_wrist")
    for _ in range(300):
        world.tick()
    assert world.node.warnings == [] and world.inputs.silent_wrenches == ["left_wrist", "right_wrist"]
    for time_of_silence in (1, 2):
        world.send("wrench/left_wrist", wrench(3.0))
        world.tick()
        assert world.inputs.silent_wrenches == ["right_wrist"]
        for _ in range(300):
            world.tick()
        assert len(world.node.warnings) == time_of_silence
        assert "wrench/left_wrist has said nothing for 1 s" in world.node.warnings[-1]
    assert world.inputs.silent_wrenches == ["left_wrist", "right_wrist"]


def test_joint_states_in_parts_are_all_heard(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch)
    for name, position in (("arm", 1.0), ("hand", 2.0), ("lift", 0.1)):
        state = JointState(name=[name], position=[position])
        world.send(topics.JOINT_STATES, bytes(serialize_message(state)))
    world.tick()
    assert world.fed.joints == {"arm": 1.0, "hand": 2.0, "lift": 0.1}


def motion(world: World, stamp_ns: int) -> bytes:
    return bytes(world.write.motion(MotionFrame(stamp_ns, {"head": np.array([0, 0, 1.6, 0, 0, 0, 1.0])})))


def test_motion_in_another_frame_is_refused(monkeypatch: pytest.MonkeyPatch):
    world = World(monkeypatch)
    for name in ("map", "", "trainers"):
        message = MultiDOFJointState()
        message.header.frame_id = name
        world.send(topics.MOTION, bytes(serialize_message(message)))
        world.tick()
        assert f"in the frame {name!r}, 'trainer' is expected" in world.node.warnings[-1]
    assert world.fed.frames == []
    world.send(topics.MOTION, motion(world, START_NS + world.ticks * TICK_NS))
    world.tick()
    assert len(world.fed.frames) == 1


@pytest.mark.parametrize("scheduled", [False, True])
def test_a_clock_that_is_set_back_makes_no_true_frame_late(monkeypatch: pytest.MonkeyPatch, scheduled: bool):
    """Whether the source stamps by the clock or, as the tick does, goes on at half pace."""
    world, stamps = World(monkeypatch), StampClock(lambda: 0)
    for k in range(1000):
        world.now_s = 0.005 * k
        clock_ns = START_NS + k * TICK_NS - (1_000_000_000 if k >= 100 else 0)
        stamp_ns = stamps.stamp_at(clock_ns, world.now_s, world.now_s)
        assert stamps.clock_ns == clock_ns
        world.send(topics.MOTION, motion(world, (stamp_ns if scheduled else clock_ns) - 1_000_000))
        world.inputs.take(stamp_ns, stamps.clock_ns)
    assert world.inputs.rejected == 0 and len(world.fed.frames) == 1000
    world.send(topics.MOTION, motion(world, clock_ns - 200_000_000))
    world.inputs.take(stamp_ns + 1, stamps.clock_ns)
    assert world.inputs.rejected == 1 and "after its stamp" in world.node.warnings[-1]
