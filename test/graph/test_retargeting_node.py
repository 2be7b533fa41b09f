"""The retargeting node as a real process over real DDS, with a trainer and an ideal robot played here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import WrenchStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.time import Time  # noqa: E402
from sensor_msgs.msg import JointState, MultiDOFJointState  # noqa: E402
from std_msgs.msg import Bool, Float64MultiArray  # noqa: E402
from std_srvs.srv import SetBool, Trigger  # noqa: E402

from capture_nodes import motion_messages, topics  # noqa: E402
from capture_nodes.node_runtime import DrainedGroup  # noqa: E402
from capture_nodes.resources import robot_description_file  # noqa: E402
from capture_nodes.sources.person import Person  # noqa: E402
from capture_nodes.sources.script import ScriptSource, reach_and_circle  # noqa: E402
from retargeting.robot_model import load_robot  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 67
TIMEOUT_S = 60.0
TICK_S = 0.005
KESTREL = load_robot(robot_description_file("kestrel"))


class World:
    """Publishes motion at 100 Hz and joint states at 200 Hz, which are where the last command was."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = node = rclpy.create_node("world", context=self.context)
        stream = topics.stream_qos(200)
        self._motion = node.create_publisher(MultiDOFJointState, topics.MOTION, stream)
        self._joints = node.create_publisher(JointState, "/kestrel/joint_states", stream)
        self.wrench = node.create_publisher(WrenchStamped, "/kestrel/wrench/left_wrist", stream)
        # Volatile, as a plain publisher is by default: it must be heard too.
        self.stop = node.create_publisher(Bool, "/kestrel/emergency_stop", 10)
        # An executor that waits for a service's answer must not take them.
        drained = DrainedGroup()
        self._commands = node.create_subscription(
            JointState, "/kestrel/joint_commands", print, stream, callback_group=drained
        )
        self._states = node.create_subscription(
            DiagnosticStatus,
            "/kestrel/retargeting/state",
            print,
            topics.latched_qos(),
            callback_group=drained,
        )
        self._source = ScriptSource(reach_and_circle(Person()))
        self.has_motion = self.has_joints = True
        self.positions = KESTREL.neutral_positions()
        self.commands: list[tuple[float, np.ndarray, np.ndarray]] = []
        self.states: list[tuple[str, str]] = []
        self._clients: dict[str, Any] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started_s = next_s = time.monotonic()
        k = 0
        while not self._ending.wait(max(0.0, next_s - time.monotonic())):
            next_s += TICK_S
            k += 1
            now_ns = self.node.get_clock().now().nanoseconds
            while (taken := self._commands.handle.take_message(JointState, False)) is not None:
                message = taken[0]
                stamp_s = Time.from_msg(message.header.stamp).nanoseconds * 1e-9
                self.commands.append((stamp_s, np.array(message.position), np.array(message.velocity)))
                self.positions |= dict(zip(message.name, message.position, strict=True))
            while (taken := self._states.handle.take_message(DiagnosticStatus, False)) is not None:
                reason = next((v.value for v in taken[0].values if v.key == "reason"), "")
                self.states.append((taken[0].message, reason))
            if self.has_joints:
                joints = JointState(name=list(self.positions), position=list(self.positions.values()))
                joints.header.stamp = Time(nanoseconds=now_ns).to_msg()
                self._joints.publish(joints)
            if self.has_motion and k % 2 == 0:
                moment_s = (time.monotonic() - started_s) % self._source.duration_s
                frame = self._source.frame_at(moment_s, now_ns)
                self._motion.publish(
                    motion_messages.motion_message(frame, motion_messages.motion_header(frame))
                )

    def call(self, name: str, request: Any = None) -> Any:
        """Call a service of the node; this process needs no executor for it."""
        kind = Trigger if request is None else SetBool
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"/kestrel/retargeting/{name}")
        client = self._clients[name]
        assert client.wait_for_service(TIMEOUT_S)
        future = client.call_async(kind.Request() if request is None else request)
        executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        rclpy.spin_until_future_complete(self.node, future, executor, TIMEOUT_S)
        executor.shutdown()
        return future.result()

    def wait_for(self, word: str, reason: str = "") -> None:
        self.wait(lambda: bool(self.states) and self.states[-1][0] == word, f"{word}: {self.states[-3:]}")
        assert reason in self.states[-1][1]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert time.monotonic() < deadline, what
            self._ending.wait(TICK_S)

    def wait_for_rest(self) -> None:
        """Commands go on, and ask for standing still."""
        seen = len(self.commands)
        self.wait(
            lambda: len(self.commands) > seen + 2 and not self.commands[-1][2].any(), "the arms to stand"
        )

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@contextmanager
def running_node(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)}
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    command = [sys.executable, "-m", "capture_nodes.retargeting_node", "--ros-args", "-r", "__ns:=/kestrel"]
    process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    yield process
    if process.poll() is None:
        process.kill()
        process.communicate()


@pytest.fixture
def node() -> Iterator[subprocess.Popen[str]]:
    with running_node() as process:
        yield process


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def check_limits(world: World) -> None:
    """Of every command the world heard, against the one before."""
    previous: tuple[float, np.ndarray, np.ndarray] | None = None
    for stamp_s, q, v in world.commands:
        assert (q >= KESTREL.lower - 1e-9).all() and (q <= KESTREL.upper + 1e-9).all()
        assert (np.abs(v) <= KESTREL.velocity + 1e-6).all()
        if previous is not None and stamp_s - previous[0] < 1.5 * TICK_S:
            assert (np.abs(q - previous[1]) <= KESTREL.velocity * TICK_S + 1e-6).all()
            assert (np.abs(v - previous[2]) <= KESTREL.acceleration * TICK_S * (1 + 1e-3) + 1e-6).all()
        previous = stamp_s, q, v


def test_services_faults_and_the_emergency_stop(world: World, node: subprocess.Popen[str]) -> None:
    world.wait_for("idle")
    assert world.commands == []

    def engage() -> None:
        """As soon as the trainer is measured and everything is fresh."""
        world.wait(lambda: world.call("engage").success, f"engage: {world.states[-3:]}")
        world.wait_for("tracking")

    engage()
    assert world.call("release").success
    world.wait_for("holding", "released")
    world.wait_for_rest()

    engage()
    world.has_motion = False
    world.wait_for("holding", "/trainer/motion is stale")
    world.wait_for_rest()
    assert "old" in world.call("engage").message
    world.has_motion = True

    engage()
    world.has_joints = False
    world.wait_for("holding", "joint_states are stale")
    world.has_joints = True

    engage()
    push = WrenchStamped()
    push.wrench.force.x = 500.0
    world.wrench.publish(push)
    world.wait_for("holding", "left_wrist pushes with 500 N")

    engage()
    world.stop.publish(Bool(data=True))
    world.wait_for("emergency_stop")
    world.wait_for_rest()
    refused = world.call("engage")
    assert not refused.success and "reset it first" in refused.message
    assert world.call("set_emergency_stop", SetBool.Request(data=False)).success
    world.wait_for("holding", "emergency stop was reset")

    engage()
    node.send_signal(signal.SIGINT)
    _, errors = node.communicate(timeout=TIMEOUT_S)
    assert node.returncode == 0, errors
    # It braked before it ended: the robot's own watchdog had nothing left to do.
    world.wait(lambda: not world.commands[-1][2].any(), "the last command to stand still")
    check_limits(world)


def test_controllers_are_sent_what_is_commanded(world: World, tmp_path: Path) -> None:
    robot = robot_description_file("kestrel")
    (tmp_path / "kestrel.urdf").write_text(robot.with_name("kestrel.urdf").read_text())
    joints = list(KESTREL.description.chains["right_arm"])[::-1]
    (tmp_path / "robot.yaml").write_text(
        robot.read_text()
        + "command_interface:\n  kind: float64_multi_array\n"
        + f"  controllers: {{right: {{topic: right_arm_controller/commands, joints: {joints}}}}}\n"
    )
    sent = world.node.create_subscription(
        Float64MultiArray,
        "/kestrel/right_arm_controller/commands",
        print,
        topics.stream_qos(200),
        callback_group=DrainedGroup(),
    )
    with running_node("-p", f"robot:={tmp_path / 'robot.yaml'}") as node:
        world.wait_for("idle")
        world.wait(lambda: world.call("engage").success, "engage")
        world.wait_for("tracking")
        world.wait(lambda: len(world.commands) > 400, "two seconds of commands")
        node.send_signal(signal.SIGINT)
        _, errors = node.communicate(timeout=TIMEOUT_S)
        assert node.returncode == 0, errors
    columns = [KESTREL.joint_names.index(name) for name in joints]
    commanded = {tuple(q[columns]) for _, q, _ in world.commands}
    received = []
    while (taken := sent.handle.take_message(Float64MultiArray, False)) is not None:
        received.append(tuple(taken[0].data))
    assert len(received) > 100 and len(set(received)) > 50
    assert set(received) <= commanded
