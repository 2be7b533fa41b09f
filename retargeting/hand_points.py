"""The trainer's hand in the axes of its own wrist: where each finger bends and ends.

A finger is four points: base, middle, distal, tip. For index to little these are the proximal (the
knuckle), intermediate and distal joint and the tip; the thumb begins at its metacarpal joint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS, SIDES
from retargeting.compiled import compiled
from retargeting.quaternions import rotate_by
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

BASE, MIDDLE, DISTAL, TIP = range(4)
_THUMB_JOINTS = ("metacarpal", "proximal", "distal", "tip")
_FINGER_JOINTS = ("proximal", "intermediate", "distal", "tip")


def _names(side: str, finger: str) -> tuple[tuple[str, ...], frozenset[str]]:
    joints = _THUMB_JOINTS if finger == "thumb" else _FINGER_JOINTS
    names = tuple(f"{side}_{finger}_{joint}" for joint in joints)
    return names, frozenset(names)


_WRISTS = {side: f"{side}_wrist" for side in SIDES}
NO_FINGERS = np.zeros((len(FINGERS), 4, 3)), np.zeros(len(FINGERS), dtype=np.bool_)
for _array in NO_FINGERS:
    _array.flags.writeable = False
_NAMES = {side: tuple(_names(side, finger) for finger in FINGERS) for side in SIDES}


def finger_points(motion: TrackedMotion, side: str) -> tuple[Array, BoolArray]:
    """Points ``(5, 4, 3)`` (m, axes of the wrist; fingers in the order of `FINGERS`) and which are known.

    A finger counts as tracked, ``(5,)``, where all its four points and the wrist are; the points of
    the others are 0. `NO_FINGERS` itself where none is.
    """
    poses = motion.poses
    wrist = poses.get(_WRISTS[side])
    fingers = [] if wrist is None else [f for f, (_, all_) in enumerate(_NAMES[side]) if all_ <= poses.keys()]
    if not fingers:
        return NO_FINGERS
    points = np.zeros((len(FINGERS), 4, 3))
    tracked = np.zeros(len(FINGERS), dtype=np.bool_)
    for f in fingers:
        tracked[f] = True
        for j, name in enumerate(_NAMES[side][f][0]):
            points[f, j] = poses[name][:3]
    _see_from_wrist(points, tracked, wrist)
    return points, tracked


@compiled
def _see_from_wrist(points, tracked, wrist):  # type: ignore[no-untyped-def]
    """Bring the `points` ``(5, 4, 3)`` of tracked fingers into the axes of the wrist ``(7,)``."""
    inverse = np.array([-wrist[3], -wrist[4], -wrist[5], wrist[6]])
    for f in range(points.shape[0]):
        if not tracked[f]:
            continue
        for j in range(points.shape[1]):
            p = points[f, j]
            p[0], p[1], p[2] = rotate_by(inverse, p[0] - wrist[0], p[1] - wrist[1], p[2] - wrist[2])


@compiled
def bone_length(finger):  # type: ignore[no-untyped-def]
    """Length (m) of a finger along its bones, from its points ``(4, 3)``."""
    total = 0.0
    for j in range(finger.shape[0] - 1):
        squared = 0.0
        for r in range(3):
            squared += (finger[j + 1, r] - finger[j, r]) ** 2
        total += np.sqrt(squared)
    return total
