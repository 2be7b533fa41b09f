"""The retargeting node as a real process over real DDS, with a trainer and an ideal robot played here."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import WrenchStamped  # noqa: E402
from retargeting_world import KESTREL, World, check_limits, interrupt, running_node  # noqa: E402
from std_msgs.msg import Bool, Float64MultiArray  # noqa: E402
from std_srvs.srv import SetBool  # noqa: E402

from capture_nodes import topics  # noqa: E402
from capture_nodes.node_runtime import DrainedGroup  # noqa: E402
from capture_nodes.resources import robot_description_file  # noqa: E402


@pytest.fixture
def node() -> Iterator[subprocess.Popen[str]]:
    with running_node() as process:
        yield process


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


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

    # They come at their rate, but were made long before: nobody sees what the robot does.
    engage()
    world.late_s = 0.3
    world.wait_for("holding", "/trainer/motion is stale")
    world.wait_for_rest()
    world.late_s = 0.0

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

    # Nobody else's False undoes a stop, and who publishes best effort is heard too.
    engage()
    hurried = world.node.create_publisher(Bool, "/kestrel/emergency_stop", topics.newest_qos())
    world.wait(lambda: hurried.get_subscription_count() > 0, "a subscription to what is best effort")
    hurried.publish(Bool(data=True))
    world.wait_for("emergency_stop")
    for _ in range(20):
        world.stop.publish(Bool(data=False))
        world.wait_for_commands(2)
    world.wait_for("emergency_stop")
    hurried.publish(Bool(data=False))
    world.wait_for("holding", "emergency stop was reset")

    engage()
    interrupt(node)
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
        interrupt(node)
    columns = [KESTREL.joint_names.index(name) for name in joints]
    commanded = {tuple(q[columns]) for _, q, _ in world.commands}
    received = []
    while (taken := sent.handle.take_message(Float64MultiArray, False)) is not None:
        received.append(tuple(taken[0].data))
    assert len(received) > 100 and len(set(received)) > 50
    assert set(received) <= commanded
