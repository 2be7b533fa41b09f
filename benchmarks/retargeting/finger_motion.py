"""Fingers for motions that were recorded without: both hands open and close, the thumb comes to meet them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from benchmarks.retargeting.motions import Motion
from retargeting.body_points import FINGERS, SIDES
from retargeting.frames import pose_compose, quaternion_from_rotation_vector, rotate
from retargeting.motion_frame import MotionFrame

Array = NDArray[np.float64]

_FREQUENCY_HZ = 0.4
# Of a right hand, in the axes of its wrist (m): first joints, and lengths of the three bones after them.
_BASES_M = np.array(
    [[0.02, 0.02, -0.01], [0.09, 0.025, 0.0], [0.095, 0.004, 0.0], [0.09, -0.015, 0.0], [0.08, -0.03, 0.0]]
)
_BONES_M = np.array(
    [
        [0.045, 0.032, 0.027],
        [0.044, 0.025, 0.022],
        [0.05, 0.03, 0.022],
        [0.045, 0.028, 0.022],
        [0.035, 0.02, 0.02],
    ]
)
# How far each joint bends in a fist (rad), and the axes that fingers and thumb bend about.
_FIST_RAD = np.array([[0.4, 0.5, 0.7], *[[1.1, 1.3, 0.8]] * 4])
_FINGER_AXIS, _THUMB_AXIS = np.array([0.0, 1.0, 0.0]), np.array([0.3, 0.3, -0.9]) / np.sqrt(0.99)
_THUMB_TURN = quaternion_from_rotation_vector(np.array([0.0, 0.4, 0.6]))
_JOINTS = ("proximal", "intermediate", "distal", "tip")
_THUMB_JOINTS = ("metacarpal", "proximal", "distal", "tip")
_UNTURNED = np.array([0.0, 0.0, 0.0, 1.0])


def hand_points(side: str, closed: float) -> dict[str, Array]:
    """Poses ``(7,)`` in the wrist's axes of a hand that is `closed` (0..1), by the names of body points."""
    points = {}
    mirror = np.array([1.0, -1.0 if side == "left" else 1.0, 1.0])
    for f, finger in enumerate(FINGERS):
        thumb = finger == "thumb"
        joints, axis = (_THUMB_JOINTS, _THUMB_AXIS) if thumb else (_JOINTS, _FINGER_AXIS)
        start = rotate(_THUMB_TURN, np.array([1.0, 0.0, 0.0])) if thumb else np.array([1.0, 0.0, 0.0])
        place, bent_rad = _BASES_M[f].copy(), 0.0
        points[f"{side}_{finger}_{joints[0]}"] = place * mirror
        for joint, bone_m, bend_rad in zip(joints[1:], _BONES_M[f], _FIST_RAD[f], strict=True):
            bent_rad += closed * bend_rad
            place = place + bone_m * rotate(quaternion_from_rotation_vector(bent_rad * axis), start)
            points[f"{side}_{finger}_{joint}"] = place * mirror
    return {name: np.concatenate([place, _UNTURNED]) for name, place in points.items()}


def with_fingers(motion: Motion) -> Motion:
    """The motion with fingers on each wrist that is tracked."""
    return replace(motion, name=f"{motion.name}_fingers", frames=tuple(map(_with_fingers, motion.frames)))


def _with_fingers(frame: MotionFrame) -> MotionFrame:
    poses = dict(frame.poses)
    for k, side in enumerate(SIDES):
        wrist = frame.poses.get(f"{side}_wrist")
        if wrist is None:
            continue
        closed = 0.5 - 0.5 * np.cos(2.0 * np.pi * _FREQUENCY_HZ * frame.stamp_ns * 1e-9 + k)
        poses |= {name: pose_compose(wrist, pose) for name, pose in hand_points(side, closed).items()}
    return replace(frame, poses=poses)
