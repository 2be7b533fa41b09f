"""The simulated robot and its cameras as real processes over real DDS."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="rclpy is not installed")

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus  # noqa: E402
from geometry_msgs.msg import PoseStamped, WrenchStamped  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from rclpy.qos import DurabilityPolicy, QoSProfile  # noqa: E402
from sensor_msgs.msg import CameraInfo, Image, JointState  # noqa: E402
from std_msgs.msg import Bool, String  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

ROOT = Path(__file__).parents[2]
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
DOMAINS = {"robot": 71, "cameras": 72, "errors": 73}


def environment(domain: int) -> dict[str, str]:
    return {
        **os.environ,
        "ROS_DOMAIN_ID": str(domain),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
        "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]),
    }


def start(module: str, domain: int, *parameters: str) -> subprocess.Popen[str]:
    arguments = [word for parameter in parameters for word in ("-p", parameter)]
    return subprocess.Popen(
        [sys.executable, "-m", f"capture_nodes.{module}", "--ros-args", "-r", "__ns:=/kestrel", *arguments],
        env=environment(domain),
        cwd=ROOT,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


def stop(process: subprocess.Popen[str]) -> int:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        process.communicate(timeout=15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


class Listener:
    """A node that keeps what it hears."""

    def __init__(self, domain: int) -> None:
        os.environ.update(environment(domain))
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("listener", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.heard: dict[str, list[Any]] = {}

    def hear(self, topic: str, kind: type, qos: QoSProfile | int = 1000) -> list[Any]:
        messages = self.heard.setdefault(topic, [])
        self.node.create_subscription(kind, topic, messages.append, qos)
        return messages

    def until(self, condition: Callable[[], bool], what: str, timeout_s: float = 30.0) -> None:
        deadline = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline, f"no {what} within {timeout_s} s"
            self.executor.spin_once(timeout_sec=0.1)

    def until_more(self, messages: list[Any]) -> None:
        """Wait for the next message of a topic."""
        count = len(messages)
        self.until(lambda: len(messages) > count, "further message")

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self.context)


@pytest.fixture
def processes() -> Iterator[list[subprocess.Popen[str]]]:
    started: list[subprocess.Popen[str]] = []
    yield started
    for process in started:
        stop(process)


def stamps_ns(messages: list[Any]) -> np.ndarray:
    return np.array([m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in messages], dtype=np.int64)


def state_of(messages: list[DiagnosticStatus]) -> str:
    return str(messages[-1].message) if messages else ""


def test_streams_commands_stop_and_reset(processes: list[subprocess.Popen[str]]) -> None:
    domain = DOMAINS["robot"]
    listener = Listener(domain)
    try:
        joints = listener.hear("/kestrel/joint_states", JointState)
        wrenches = listener.hear("/kestrel/wrench/right_wrist", WrenchStamped)
        pads = listener.hear("/kestrel/tactile/right_inner", Image)
        cube = listener.hear("/kestrel/object/cube/pose", PoseStamped)
        states = listener.hear("/kestrel/simulated_robot/state", DiagnosticStatus, LATCHED)
        urdf = listener.hear("/kestrel/robot_description", String, LATCHED)
        diagnostics = listener.hear("/diagnostics", DiagnosticArray, 100)
        commands = listener.node.create_publisher(JointState, "/kestrel/joint_commands", 200)
        stops = listener.node.create_publisher(Bool, "/kestrel/emergency_stop", LATCHED)
        reset = listener.node.create_client(Trigger, "/kestrel/simulated_robot/reset_scene")
        process = start("simulated_robot_node", domain, "seed:=3")
        processes.append(process)

        listener.until(lambda: state_of(states) == "ready", "ready state")
        listener.until(lambda: len(joints) >= 400, "joint states")
        assert "<robot" in urdf[0].data
        for messages, period_ms in ((joints, 5.0), (wrenches, 5.0), (pads, 10.0), (cube, 10.0)):
            steps = np.diff(stamps_ns(messages)) / 1e6
            assert steps.min() > 0.0
            assert steps.mean() == pytest.approx(period_ms, rel=0.02)
            assert np.mean(steps < 2.0 * period_ms) >= 0.99
        assert abs(stamps_ns(joints)[-1] - time.time_ns()) < 1_000_000_000
        last = joints[-1]
        assert len(last.name) == len(last.position) == len(last.velocity) == len(last.effort)
        assert (pads[0].encoding, pads[0].height, pads[0].width, pads[0].step) == ("32FC1", 6, 4, 16)

        # A slow move of the left elbow, then silence.
        where = last.name.index("left_elbow_pitch")
        begin = last.position[where]
        position = begin
        # Until it is there: a pause of this process lets the robot hold in between, as it should.
        while joints[-1].position[where] > begin - 0.15:
            position = max(position - 0.004, begin - 0.2)
            commands.publish(JointState(name=["left_elbow_pitch"], position=[position], velocity=[-0.8]))
            listener.until_more(joints)
        listener.until(lambda: state_of(states) == "holding", "holding state")
        assert joints[-1].position[where] < begin - 0.1
        listener.until(lambda: abs(joints[-1].velocity[where]) < 1e-2, "standstill")

        # The emergency stop is latched and refuses commands.
        stops.publish(Bool(data=True))
        listener.until(lambda: state_of(states) == "emergency_stop", "emergency stop state")
        held = joints[-1].position[where]
        for _ in range(20):
            commands.publish(JointState(name=["left_elbow_pitch"], position=[held + 0.05]))
            listener.until_more(joints)
        assert joints[-1].position[where] == pytest.approx(held, abs=1e-3)
        stops.publish(Bool(data=False))
        listener.until(lambda: state_of(states) == "holding", "holding state")

        # Of others only the retargeter's service undoes it.
        stops.publish(Bool(data=True))
        listener.until(lambda: state_of(states) == "emergency_stop", "emergency stop state")
        panel = listener.node.create_publisher(Bool, "/kestrel/emergency_stop", 10)
        service = rclpy.create_node("retargeting", namespace="/kestrel", context=listener.context)
        resets = service.create_publisher(Bool, "/kestrel/emergency_stop", LATCHED)
        for publisher in (panel, resets):
            listener.until(lambda p=publisher: p.get_subscription_count() >= 2, "the robot to listen")
        for _ in range(20):
            panel.publish(Bool(data=False))
            listener.until_more(joints)
        assert state_of(states) == "emergency_stop"
        resets.publish(Bool(data=False))
        listener.until(lambda: state_of(states) == "holding", "holding state")
        service.destroy_node()

        before = cube[-1].pose.position
        assert reset.wait_for_service(timeout_sec=10.0)
        answer = reset.call_async(Trigger.Request())
        listener.until(answer.done, "answer of reset_scene")
        assert answer.result().success and "cube:" in answer.result().message
        listener.until(lambda: abs(cube[-1].pose.position.y - before.y) > 1e-4, "cube at another place")

        process.send_signal(signal.SIGINT)
        listener.until(
            lambda: any(s.hardware_id == "final" for array in diagnostics for s in array.status),
            "final counts",
        )
        assert stop(process) == 0
        final = next(s for array in diagnostics for s in array.status if s.hardware_id == "final")
        counts = {entry.key: int(entry.value.split()[0]) for entry in final.values}
        assert counts["/kestrel/joint_states"] >= len(joints)
    finally:
        listener.close()


def test_cameras_show_what_the_robot_does(processes: list[subprocess.Popen[str]]) -> None:
    domain = DOMAINS["cameras"]
    listener = Listener(domain)
    try:
        head = listener.hear("/kestrel/camera/head/image", Image)
        wrist = listener.hear("/kestrel/camera/wrist/image", Image)
        infos = listener.hear("/kestrel/camera/head/camera_info", CameraInfo)
        states = listener.hear("/kestrel/simulated_cameras/state", DiagnosticStatus, LATCHED)
        cameras = start("simulated_cameras_node", domain, "width:=160", "height:=120")
        robot = start("simulated_robot_node", domain)
        processes += [cameras, robot]
        listener.until(lambda: state_of(states) == "ready" or cameras.poll() is not None, "ready state", 60.0)
        if cameras.poll() is not None:
            message = cameras.communicate()[1]
            if "apt install" in message:
                pytest.skip(message.strip())
            pytest.fail(message)
        listener.until(lambda: min(len(head), len(wrist), len(infos)) >= 60, "pictures", 60.0)
        steps = np.diff(stamps_ns(head)) / 1e6
        assert steps.min() > 0.0
        assert np.median(steps) == pytest.approx(33.3, abs=5.0)
        picture = np.frombuffer(bytes(head[-1].data), np.uint8).reshape(120, 160, 3)
        assert head[-1].encoding == "rgb8" and picture.std() > 20.0
        assert infos[-1].header.frame_id == head[-1].header.frame_id == "kestrel/head_camera_optical"
        assert infos[-1].k[2] == pytest.approx(79.5) and len(infos[-1].d) == 5
        assert stop(cameras) == 0 and stop(robot) == 0
    finally:
        listener.close()


@pytest.mark.parametrize(
    ("module", "parameter", "part"),
    [
        ("simulated_robot_node", "robot:=kestrell", "unknown robot 'kestrell'. Did you mean 'kestrel'?"),
        ("simulated_robot_node", "command_timeout_s:=-1.0", "command_timeout_s: -1.0 is outside"),
        ("simulated_robot_node", "scene:=/nowhere/scene.yaml", "/nowhere/scene.yaml: file: cannot be read"),
        ("simulated_cameras_node", "width:=3", "parameter width: 3 is outside 16 .. 4096"),
    ],
)
def test_bad_configuration_is_told_clearly(
    processes: list[subprocess.Popen[str]], module: str, parameter: str, part: str
) -> None:
    process = start(module, DOMAINS["errors"], parameter)
    processes.append(process)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 2
    assert part in errors and "error:" in errors and "Traceback" not in errors
