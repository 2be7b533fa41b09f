"""The headset node with a suit on the line, over real DDS: frames pass, and a cut line is told."""

from __future__ import annotations

import os
import signal
import socket
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
from sensor_msgs.msg import MultiDOFJointState

from capture_nodes import topics

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 76
TIMEOUT_S = 60.0


def joint(name: str, offset: str, *children: str) -> str:
    inner = "".join(children) or "End Site\n{\nOFFSET 0 -7 16\n}\n"
    return f"JOINT {name}\n{{\nOFFSET {offset}\nCHANNELS 1 Zrotation\n{inner}}}\n"


def skeleton() -> str:
    parts = [joint("Head", "0 16 0")]
    for side, sign in (("Left", ""), ("Right", "-")):
        hand = joint(f"{side}Hand", f"{sign}25 0 0")
        parts.append(joint(f"{side}Arm", f"{sign}17 11 0", joint(f"{side}ForeArm", f"{sign}28 0 0", hand)))
    legs = []
    for side, sign in (("Left", ""), ("Right", "-")):
        foot = joint(f"{side}Foot", "0 -41 0")
        legs.append(joint(f"{side}UpLeg", f"{sign}9 -5 0", joint(f"{side}Leg", "0 -42 0", foot)))
    root = "ROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n"
    return (
        f"HIERARCHY\n{root}{joint('Spine3', '0 36 0', *parts)}{''.join(legs)}}}\nMOTION\nFrame Time: 0.01\n"
    )


CHANNELS = 3 + 14


@pytest.fixture
def line():
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(TIMEOUT_S)
        yield server


def test_a_suit_moves_and_its_line_is_cut(line: socket.socket) -> None:
    environment = {
        **os.environ,
        "ROS_DOMAIN_ID": str(DOMAIN),
        "RMW_IMPLEMENTATION": "rmw_fastrtps_cpp",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "AMENT_PREFIX_PATH": os.environ.get("AMENT_PREFIX_PATH", sys.prefix),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
    }
    command = [sys.executable, "-m", "capture_nodes.headset_node", "--ros-args", "-r", "__ns:=/trainer"]
    address = f"address:=tcp://127.0.0.1:{line.getsockname()[1]}"
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=DOMAIN)
    node = rclpy.create_node("watcher", context=context)
    executor = SingleThreadedExecutor(context=context)
    executor.add_node(node)
    motion: list[MultiDOFJointState] = []
    words: list[str] = []
    node.create_subscription(MultiDOFJointState, topics.MOTION, motion.append, topics.stream_qos(1000))
    node.create_subscription(
        DiagnosticStatus, "/trainer/headset/state", lambda s: words.append(s.message), topics.latched_qos()
    )
    process = subprocess.Popen([*command, "-p", "source:=mocap", "-p", address], env=environment, cwd=ROOT)

    def until(condition, what: str) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while not condition():
            assert process.poll() is None, "the node ended"
            assert time.monotonic() < deadline, f"no {what} within {TIMEOUT_S} s; {words}"
            executor.spin_once(timeout_sec=0.002)

    try:
        sender, _ = line.accept()
        with sender:
            sender.sendall(skeleton().encode())
            sent = 0

            def send() -> bool:
                nonlocal sent
                values = [0.0] * CHANNELS
                values[1], values[6] = 95.0, 0.1 * sent
                sender.sendall((f"{sent} " + " ".join(map(repr, values)) + "||").encode())
                sent += 1
                return len(motion) >= 100

            until(send, "frames")
            assert "tracking" in words
        until(lambda: "lost" in words, "loss")
        count = len(motion)
        # One frame at most after the line was cut, then none: the retargeter's stale input stops the arms.
        stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in motion]
        assert min(np.diff(stamps[:-1])) > 0
        assert abs(time.time() - stamps[-1] * 1e-9) < 10.0
        again, _ = line.accept()
        with again:
            again.sendall(skeleton().encode())
            until(lambda: send_to(again) and len(motion) > count, "frames after it came back")
    finally:
        process.send_signal(signal.SIGINT)
        try:
            process.wait(timeout=TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        executor.shutdown()
        node.destroy_node()
        rclpy.shutdown(context=context)


def send_to(sender: socket.socket) -> bool:
    sender.sendall((" ".join(["0.0", "95.0", *["0.0"] * (CHANNELS - 2)]) + "||").encode())
    return True
