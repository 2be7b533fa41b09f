"""The trainer's messages, written and read as bytes, against ROS's own serialization."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from geometry_msgs.msg import PoseStamped, Quaternion, Transform, Vector3
from rclpy.serialization import deserialize_message, serialize_message
from sensor_msgs.msg import Joy, MultiDOFJointState

from capture_nodes.motion_messages import MotionWriter
from capture_nodes.recording.cdr import MalformedMessage
from capture_nodes.recording.motion_cdr import MotionReader, read_controls
from retargeting.body_points import BODY_POINTS
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame


@st.composite
def frames(draw: st.DrawFn) -> MotionFrame:
    names = draw(st.lists(st.sampled_from(BODY_POINTS), unique=True, max_size=len(BODY_POINTS)))
    random = np.random.default_rng(draw(st.integers(0, 2**31)))
    poses = {}
    for name in names:
        turn = random.normal(size=4)
        poses[name] = np.r_[random.normal(size=3), turn / np.linalg.norm(turn)]
    axes = tuple(float(np.float32(value)) for value in random.uniform(-1, 1, len(Axis)))
    buttons = tuple(int(value) for value in random.integers(0, 2, len(Button)))
    return MotionFrame(draw(st.integers(0, 2**31 * 10**9 - 1)), poses, Controls(axes, buttons))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(played=st.lists(frames(), min_size=1, max_size=4))
def test_what_is_written_is_what_ros_reads_and_so_do_we(played: list[MotionFrame]) -> None:
    """One writer and one reader for frames whose points change."""
    writer, reader = MotionWriter(), MotionReader()
    for frame in [*played, *played]:
        data = writer.motion(frame)
        message = deserialize_message(data, MultiDOFJointState)
        stamp = message.header.stamp
        assert stamp.sec * 10**9 + stamp.nanosec == frame.stamp_ns and message.header.frame_id == "trainer"
        assert message.joint_names == list(frame.poses) and not message.twist and not message.wrench
        for pose, transform in zip(frame.poses.values(), message.transforms, strict=True):
            t, r = transform.translation, transform.rotation
            assert [t.x, t.y, t.z, r.x, r.y, r.z, r.w] == pose.tolist()
        sample = reader.read(data)
        assert (sample.stamp_ns, sample.frame_id) == (frame.stamp_ns, "trainer")
        assert list(sample.poses) == list(frame.poses)
        assert all((sample.poses[name] == pose).all() for name, pose in frame.poses.items())
        joy = deserialize_message(writer.buttons(frame), Joy)
        assert (tuple(joy.axes), tuple(joy.buttons)) == (frame.controls.axes, frame.controls.buttons)
        assert read_controls(serialize_message(joy)) == (frame.stamp_ns, frame.controls)
        for name, pose in frame.poses.items():
            point = deserialize_message(writer.point(frame, name), PoseStamped)
            p, q = point.pose.position, point.pose.orientation
            assert [p.x, p.y, p.z, q.x, q.y, q.z, q.w] == pose.tolist()


def test_bytes_that_are_no_motion() -> None:
    reader = MotionReader()
    pose = Transform(translation=Vector3(x=1.0), rotation=Quaternion(w=1.0))
    whole = serialize_message(MultiDOFJointState(joint_names=["head"], transforms=[pose]))
    assert reader.read(whole).poses["head"].tolist() == [1, 0, 0, 0, 0, 0, 1]
    for size in range(len(whole) - 8):
        with pytest.raises(MalformedMessage):
            reader.read(whole[:size])
    with pytest.raises(MalformedMessage, match="little-endian"):
        reader.read(b"\0\0" + whole[2:])
    with pytest.raises(MalformedMessage, match="2 names for 1 poses"):
        reader.read(serialize_message(MultiDOFJointState(joint_names=["head", "chest"], transforms=[pose])))
    assert reader.read(whole).poses["head"].tolist() == [1, 0, 0, 0, 0, 0, 1]
