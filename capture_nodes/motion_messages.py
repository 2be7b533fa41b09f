"""Motion frames as the messages of `/trainer/…`, and back."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Point, Pose, PoseStamped, Quaternion, Transform, TransformStamped, Vector3
from rclpy.time import Time
from sensor_msgs.msg import Joy, MultiDOFJointState
from std_msgs.msg import Header

from capture_nodes.recording.tf_stream import TRAINER_FRAME
from retargeting.errors import InvalidMotion
from retargeting.motion_frame import Controls, MotionFrame


def motion_header(frame: MotionFrame) -> Header:
    return Header(stamp=Time(nanoseconds=frame.stamp_ns).to_msg(), frame_id=TRAINER_FRAME)


def motion_message(frame: MotionFrame, header: Header) -> MultiDOFJointState:
    """`/trainer/motion`: the tracked points and their poses."""
    transforms = [_transform(pose.tolist()) for pose in frame.poses.values()]
    return MultiDOFJointState(header=header, joint_names=list(frame.poses), transforms=transforms)


def buttons_message(frame: MotionFrame, header: Header) -> Joy:
    """`/trainer/buttons`, in the order of `Axis` and `Button`."""
    return Joy(header=header, axes=list(frame.controls.axes), buttons=list(frame.controls.buttons))


def point_message(frame: MotionFrame, header: Header, point: str) -> PoseStamped:
    """One tracked point for viewers."""
    x, y, z, qx, qy, qz, qw = frame.poses[point].tolist()
    orientation = Quaternion(x=qx, y=qy, z=qz, w=qw)
    return PoseStamped(header=header, pose=Pose(position=Point(x=x, y=y, z=z), orientation=orientation))


def transform_messages(frame: MotionFrame, header: Header) -> list[TransformStamped]:
    """The tracked points as TF frames `trainer/<point>`."""
    return [
        TransformStamped(
            header=header, child_frame_id=f"{TRAINER_FRAME}/{point}", transform=_transform(pose.tolist())
        )
        for point, pose in frame.poses.items()
    ]


def motion_frame(message: MultiDOFJointState, controls: Controls) -> MotionFrame:
    """A `/trainer/motion` message as a motion frame. Raises `InvalidMotion` on a bad one."""
    if len(message.joint_names) != len(message.transforms):
        raise InvalidMotion(
            f"/trainer/motion has {len(message.joint_names)} names for {len(message.transforms)} poses"
        )
    poses = {}
    for name, transform in zip(message.joint_names, message.transforms, strict=True):
        t, r = transform.translation, transform.rotation
        poses[name] = np.array([t.x, t.y, t.z, r.x, r.y, r.z, r.w])
    stamp = message.header.stamp
    return MotionFrame(stamp.sec * 1_000_000_000 + stamp.nanosec, poses, controls)


def controls(message: Joy) -> Controls:
    """A `/trainer/buttons` message as controls. Raises `InvalidMotion` on a bad one."""
    return Controls(tuple(message.axes), tuple(message.buttons))


def _transform(values: list[float]) -> Transform:
    x, y, z, qx, qy, qz, qw = values
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
