from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

from geometry_msgs.msg import PoseStamped, Twist, WrenchStamped
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import CameraInfo, Image, JointState, TimeReference
from std_msgs.msg import Float64MultiArray

from capture_nodes.cdr_template import (
    camera_info_template,
    float64_multi_array_template,
    image_template,
    joint_command_template,
    joint_state_template,
    joint_trajectory_template,
    pose_template,
    time_reference_template,
    twist_template,
    wrench_template,
)

STAMP_NS = 1_700_000_000_123_456_789


@pytest.mark.parametrize("frame", ["", "a", "robot/pelvis", "robot/link_7"])
@pytest.mark.parametrize("names", [["a"], ["joint", "other_joint", "x" * 31]])
def test_joint_state(frame: str, names: list[str]) -> None:
    template = joint_state_template(frame, names)
    values = np.arange(3.0 * len(names)).reshape(3, -1) + 0.25
    for field, row in zip(("position", "velocity", "effort"), values, strict=True):
        template.set(field, row)
    template.set_stamp(STAMP_NS)
    message = deserialize_message(bytes(template), JointState)
    assert message.header.stamp.sec * 10**9 + message.header.stamp.nanosec == STAMP_NS
    assert message.header.frame_id == frame and message.name == names
    for field, row in zip(("position", "velocity", "effort"), values, strict=True):
        assert list(getattr(message, field)) == list(row)
    # Byte for byte they may differ in padding, which Fast CDR leaves as it finds it.
    assert len(serialize_message(message)) == len(bytes(template))


def test_wrench_and_pose() -> None:
    wrench, pose = wrench_template("robot/hand"), pose_template("robot/pelvis")
    wrench.set("wrench", [1, 2, 3, 4, 5, 6])
    pose.set("pose", [1, 2, 3, 0.5, -0.5, 0.5, -0.5])
    wrench.set_stamp(STAMP_NS)
    pose.set_stamp(STAMP_NS)
    w, p = deserialize_message(bytes(wrench), WrenchStamped), deserialize_message(bytes(pose), PoseStamped)
    assert (w.wrench.force.x, w.wrench.force.z, w.wrench.torque.x, w.wrench.torque.z) == (1, 3, 4, 6)
    assert (p.pose.position.z, p.pose.orientation.x, p.pose.orientation.w) == (3, 0.5, -0.5)
    assert len(serialize_message(w)) == len(bytes(wrench)) and len(serialize_message(p)) == len(bytes(pose))


def test_twist() -> None:
    template = twist_template()
    template.set("linear", [0.5, -0.25, 0.0])
    template.set("angular", [0.0, 0.0, 0.75])
    twist = deserialize_message(bytes(template), Twist)
    assert (twist.linear.x, twist.linear.y, twist.angular.z) == (0.5, -0.25, 0.75)
    assert len(serialize_message(twist)) == len(bytes(template))


@pytest.mark.parametrize(("encoding", "size"), [("rgb8", 3), ("32FC1", 4)])
def test_image(encoding: str, size: int) -> None:
    template = image_template("robot/head_camera_optical", 5, 7, encoding, size)
    data = np.arange(5 * 7 * size, dtype=np.uint8)
    template.set("data", data)
    template.set_stamp(STAMP_NS)
    message = deserialize_message(bytes(template), Image)
    assert (message.height, message.width, message.encoding, message.step) == (5, 7, encoding, 7 * size)
    assert bytes(message.data) == data.tobytes()
    # Byte for byte they may differ in padding, which Fast CDR leaves as it finds it.
    assert len(serialize_message(message)) == len(bytes(template))


def test_camera_info() -> None:
    template = camera_info_template("robot/head_camera_optical", 240, 320)
    for field, count in (("d", 5), ("k", 9), ("r", 9), ("p", 12)):
        template.set(field, np.arange(count) + 0.5)
    template.set_stamp(STAMP_NS)
    message = deserialize_message(bytes(template), CameraInfo)
    assert (message.height, message.width, message.distortion_model) == (240, 320, "plumb_bob")
    for field, count in (("d", 5), ("k", 9), ("r", 9), ("p", 12)):
        assert list(getattr(message, field)) == list(np.arange(count) + 0.5)
    # Byte for byte they may differ in padding, which Fast CDR leaves as it finds it.
    assert len(serialize_message(message)) == len(bytes(template))


def test_a_wrong_count_is_refused() -> None:
    template = joint_state_template("", ["a", "b"])
    with pytest.raises(ValueError):
        template.set("position", [1.0, 2.0, 3.0])


def test_a_joint_command_and_a_time_reference_are_what_rclpy_reads():
    command = joint_command_template(["a", "longer"])
    command.set_stamp(3_000_000_007)
    command.set("position", [1.0, 2.0])
    command.set("velocity", [3.0, 4.0])
    message = deserialize_message(bytes(command), JointState)
    assert message.name == ["a", "longer"]
    assert list(message.position) == [1.0, 2.0]
    assert list(message.velocity) == [3.0, 4.0]
    assert list(message.effort) == []
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (3, 7)
    cause = time_reference_template("/trainer/motion")
    cause.set_stamp(3_000_000_007)
    cause.set_time("time_ref", 2_000_000_009)
    message = deserialize_message(bytes(cause), TimeReference)
    assert message.source == "/trainer/motion"
    assert (message.time_ref.sec, message.time_ref.nanosec) == (2, 9)


@pytest.mark.parametrize("names", [["a"], ["joint", "other_joint", "x" * 31]])
def test_what_controllers_take_is_what_rclpy_reads(names: list[str]) -> None:
    values = np.arange(float(len(names))) + 0.25
    array = float64_multi_array_template(len(names))
    array.set("position", values)
    message = deserialize_message(bytes(array), Float64MultiArray)
    assert list(message.data) == list(values)
    assert list(message.layout.dim) == [] and message.layout.data_offset == 0

    trajectory_msgs = pytest.importorskip("trajectory_msgs.msg", reason="trajectory_msgs is not installed")
    trajectory = joint_trajectory_template(names, 0.02)
    trajectory.set("position", values)
    message = deserialize_message(bytes(trajectory), trajectory_msgs.JointTrajectory)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == (0, 0)
    assert message.joint_names == names
    (point,) = message.points
    assert list(point.positions) == list(values)
    assert list(point.velocities) == list(point.accelerations) == list(point.effort) == []
    assert (point.time_from_start.sec, point.time_from_start.nanosec) == (0, 20_000_000)
