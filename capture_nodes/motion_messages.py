"""Motion frames as the messages of `/trainer/…`, serialized: sixty poses as objects would cost a tenth of a
core at a headset's rate."""

from __future__ import annotations

import numpy as np
from geometry_msgs.msg import Quaternion, Transform, TransformStamped, Vector3
from rclpy.time import Time
from std_msgs.msg import Header

from capture_nodes.cdr_template import CdrTemplate, joy_template, multi_dof_template, pose_template
from capture_nodes.recording.tf_stream import TRAINER_FRAME
from retargeting.motion_frame import Axis, Button, MotionFrame


class MotionWriter:
    """Writes the messages of frame after frame; points seldom change, and only then are they made anew."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._motion: CdrTemplate | None = None
        self._buttons = joy_template(TRAINER_FRAME, len(Axis), len(Button))
        self._point = pose_template(TRAINER_FRAME)

    def motion(self, frame: MotionFrame) -> bytes:
        """`/trainer/motion` (`sensor_msgs/MultiDOFJointState`): the tracked points and their poses."""
        names = tuple(frame.poses)
        if self._motion is None or names != self._names:
            self._names, self._motion = names, multi_dof_template(TRAINER_FRAME, names)
        self._motion.set_stamp(frame.stamp_ns)
        if names:
            self._motion.set("transforms", np.concatenate(list(frame.poses.values())))
        return bytes(self._motion)

    def buttons(self, frame: MotionFrame) -> bytes:
        """`/trainer/buttons` (`sensor_msgs/Joy`), in the order of `Axis` and `Button`."""
        self._buttons.set_stamp(frame.stamp_ns)
        self._buttons.set("axes", frame.controls.axes)
        self._buttons.set("buttons", frame.controls.buttons)
        return bytes(self._buttons)

    def point(self, frame: MotionFrame, point: str) -> bytes:
        """One tracked point for viewers (`geometry_msgs/PoseStamped`)."""
        self._point.set_stamp(frame.stamp_ns)
        self._point.set("pose", frame.poses[point])
        return bytes(self._point)


def transform_messages(frame: MotionFrame) -> list[TransformStamped]:
    """The tracked points as TF frames `trainer/<point>`."""
    header = Header(stamp=Time(nanoseconds=frame.stamp_ns).to_msg(), frame_id=TRAINER_FRAME)
    return [
        TransformStamped(
            header=header, child_frame_id=f"{TRAINER_FRAME}/{point}", transform=_transform(pose.tolist())
        )
        for point, pose in frame.poses.items()
    ]


def _transform(values: list[float]) -> Transform:
    x, y, z, qx, qy, qz, qw = values
    return Transform(translation=Vector3(x=x, y=y, z=z), rotation=Quaternion(x=qx, y=qy, z=qz, w=qw))
