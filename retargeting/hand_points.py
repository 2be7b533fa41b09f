"""The trainer's hand in the axes of its own wrist: where each finger bends and ends.

A finger is four points: base, middle, distal, tip. For index to little these are the proximal (the
knuckle), intermediate and distal joint and the tip; the thumb begins at its metacarpal joint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS, SIDES
from retargeting.frames import quaternion_inverse, rotate
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BASE, MIDDLE, DISTAL, TIP = range(4)
_THUMB_JOINTS = ("metacarpal", "proximal", "distal", "tip")
_FINGER_JOINTS = ("proximal", "intermediate", "distal", "tip")
_NAMES = {
    side: tuple(
        tuple(
            f"{side}_{finger}_{joint}" for joint in (_THUMB_JOINTS if finger == "thumb" else _FINGER_JOINTS)
        )
        for finger in FINGERS
    )
    for side in SIDES
}


def finger_points(motion: TrackedMotion, side: str) -> tuple[Array, BoolArray]:
    """Points ``(5, 4, 3)`` (m, axes of the wrist; fingers in the order of `FINGERS`) and which are known.

    A finger counts as tracked, ``(5,)``, where all its four points and the wrist are; the points of
    the others are 0.
    """
    points = np.zeros((len(FINGERS), 4, 3))
    tracked = np.zeros(len(FINGERS), dtype=np.bool_)
    wrist = motion.poses.get(f"{side}_wrist")
    if wrist is None:
        return points, tracked
    for f, names in enumerate(_NAMES[side]):
        poses = [motion.poses.get(name) for name in names]
        for j, pose in enumerate(poses):
            if pose is None:
                break
            points[f, j] = pose[:3]
        else:
            tracked[f] = True
    points[tracked] = rotate(quaternion_inverse(wrist[3:]), points[tracked] - wrist[:3])
    points[~tracked] = 0.0
    return points, tracked


def bone_lengths(points: Array) -> Array:
    """Length of every finger along its bones (m), ``(5,)``, for `points` ``(5, 4, 3)``."""
    lengths: Array = np.sqrt(((points[:, 1:] - points[:, :-1]) ** 2).sum(axis=-1)).sum(axis=-1)
    return lengths
