"""What the retargeting node has around it, played here: a trainer, an ideal robot, and who listens."""

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
import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from geometry_msgs.msg import Twist, WrenchStamped
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.time import Time
from sensor_msgs.msg import JointState, Joy, JoyFeedbackArray, MultiDOFJointState
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from capture_nodes import topics
from capture_nodes.motion_messages import MotionWriter
from capture_nodes.node_runtime import DrainedGroup
from capture_nodes.resources import robot_description_file
from capture_nodes.sources.person import Person
from capture_nodes.sources.script import ScriptSource, reach_and_circle
from retargeting.motion_frame import Axis, Controls, MotionFrame
from retargeting.robot_model import load_robot

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 67
TIMEOUT_S = 60.0
# The first node of a checkout compiles before it says anything.
COMPILING_S = 400.0
TICK_S = 0.005
KESTREL = load_robot(robot_description_file("kestrel"))


class World:
    """Publishes motion at 100 Hz and joint states at 200 Hz, which are where the last command was.

    `is_still`: the trainer stands as at the beginning; `pull_m`: the left hand goes this much farther ahead,
    at 0.5 m/s; `axes`: its sticks, triggers and squeezes, published while `has_buttons`.
    """

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
        self._feedback = node.create_subscription(
            JoyFeedbackArray, topics.FEEDBACK, print, stream, callback_group=drained
        )
        self._twists = node.create_subscription(
            Twist, "/kestrel/cmd_vel", print, stream, callback_group=drained
        )
        self._diagnostics = node.create_subscription(
            DiagnosticArray, topics.DIAGNOSTICS, print, stream, callback_group=drained
        )
        self._buttons = node.create_publisher(Joy, topics.BUTTONS, stream)
        self._write = MotionWriter()
        self._source = ScriptSource(reach_and_circle(Person()))
        self.has_motion = self.has_joints = True
        self.has_buttons = self.is_still = False
        # How old a frame is when it is sent (s).
        self.late_s = 0.0
        self.axes = dict.fromkeys(Axis, 0.0)
        self.pull_m = self._pulled_m = 0.0
        # Intensity per id, each as said; velocities (m/s, m/s, rad/s); the node's newest numbers.
        self.rumbles: list[dict[int, float]] = []
        self.velocities: list[tuple[float, float, float]] = []
        self.numbers: dict[str, str] = {}
        self.values: dict[str, str] = {}
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
                self.values = {item.key: item.value for item in taken[0].values}
                self.states.append((taken[0].message, self.values.get("reason", "")))
            self._hear()
            if self.has_joints:
                joints = JointState(name=list(self.positions), position=list(self.positions.values()))
                joints.header.stamp = Time(nanoseconds=now_ns).to_msg()
                self._joints.publish(joints)
            if self.has_motion and k % 2 == 0:
                moment_s = (time.monotonic() - started_s) % self._source.duration_s
                stamp_ns = now_ns - round(1e9 * self.late_s)
                self._show(self._source.frame_at(0.0 if self.is_still else moment_s, stamp_ns))

    def _show(self, frame: MotionFrame) -> None:
        self._pulled_m += float(np.clip(self.pull_m - self._pulled_m, -0.005, 0.005))
        frame.poses["left_wrist"][0] += self._pulled_m
        self._motion.publish(self._write.motion(frame))
        if self.has_buttons:
            held = MotionFrame(frame.stamp_ns, {}, Controls(tuple(self.axes.values())))
            self._buttons.publish(self._write.buttons(held))

    def _hear(self) -> None:
        while (taken := self._feedback.handle.take_message(JoyFeedbackArray, False)) is not None:
            assert all(entry.type == entry.TYPE_RUMBLE for entry in taken[0].array)
            self.rumbles.append({entry.id: entry.intensity for entry in taken[0].array})
        while (taken := self._twists.handle.take_message(Twist, False)) is not None:
            twist = taken[0]
            self.velocities.append((twist.linear.x, twist.linear.y, twist.angular.z))
        while (taken := self._diagnostics.handle.take_message(DiagnosticArray, False)) is not None:
            for status in taken[0].status:
                if status.name == "/kestrel/retargeting":
                    self.numbers = {item.key: item.value for item in status.values}

    def call(self, name: str, request: Any = None) -> Any:
        """Call a service of the node: Trigger, or SetBool where a request is given."""
        kind = Trigger if request is None else SetBool
        return self._ask(kind, name, kind.Request() if request is None else request)

    def set_parameter(self, name: str, value: str) -> Any:
        text = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=value)
        request = SetParameters.Request(parameters=[Parameter(name=name, value=text)])
        return self._ask(SetParameters, "set_parameters", request).results[0]

    def _ask(self, kind: Any, name: str, request: Any) -> Any:
        """This process needs no executor for it."""
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"/kestrel/retargeting/{name}")
        client = self._clients[name]
        assert client.wait_for_service(TIMEOUT_S)
        future = client.call_async(request)
        executor = rclpy.executors.SingleThreadedExecutor(context=self.context)
        rclpy.spin_until_future_complete(self.node, future, executor, TIMEOUT_S)
        executor.shutdown()
        return future.result()

    def wait_for(self, word: str, reason: str = "") -> None:
        if not self.states:
            self.wait(lambda: bool(self.states), "the node's first state", COMPILING_S)
        self.wait(lambda: bool(self.states) and self.states[-1][0] == word, f"{word}: {self.states[-3:]}")
        assert reason in self.states[-1][1]

    def wait(self, condition: Callable[[], bool], what: str, timeout_s: float = TIMEOUT_S) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, what
            self._ending.wait(TICK_S)

    def wait_for_rest(self) -> None:
        """Commands go on, and ask for standing still."""
        seen = len(self.commands)
        self.wait(
            lambda: len(self.commands) > seen + 2 and not self.commands[-1][2].any(), "the arms to stand"
        )

    def wait_for_commands(self, count: int) -> None:
        seen = len(self.commands)
        self.wait(lambda: len(self.commands) >= seen + count, f"{count} more commands")

    def close(self) -> None:
        self._ending.set()
        self._thread.join()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


def interrupt(process: subprocess.Popen[str]) -> None:
    """The node ends by itself and has nothing to complain about."""
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=TIMEOUT_S)
    assert process.returncode == 0, errors


@contextmanager
def running_node(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)}
    environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    command = [sys.executable, "-m", "capture_nodes.retargeting_node", "--ros-args", "-r", "__ns:=/kestrel"]
    process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
            process.communicate()


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
