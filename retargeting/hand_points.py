"""The trainer's hand in the axes of its own wrist: where each finger bends and ends.

A finger is four points: base, middle, distal, tip. For index to little these are the proximal (the
knuckle), intermediate and distal joint and the tip; the thumb begins at its metacarpal joint.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import BODY_POINTS, FINGERS, SIDES
from retargeting.compiled import compiled
from retargeting.quaternions import rotate_by

Array = NDArray[np.float64]

BASE, MIDDLE, DISTAL, TIP = range(4)
_THUMB_JOINTS = ("metacarpal", "proximal", "distal", "tip")
_FINGER_JOINTS = ("proximal", "intermediate", "distal", "tip")

# Rows of `BODY_POINTS`: of both wrists, and of the four points of every finger.
_WRISTS = np.array([BODY_POINTS.index(f"{side}_wrist") for side in SIDES])
_POINTS = np.array(
    [
        [
            [
                BODY_POINTS.index(f"{side}_{finger}_{joint}")
                for joint in (_THUMB_JOINTS if finger == "thumb" else _FINGER_JOINTS)
            ]
            for finger in FINGERS
        ]
        for side in SIDES
    ]
)


@compiled
def see_fingers(poses, tracked, points, fingers_tracked):  # type: ignore[no-untyped-def]
    """Fill `points` ``(2, 5, 4, 3)`` (m, axes of the wrist; order of `SIDES`, `FINGERS`).

    A finger counts as tracked, ``(2, 5)``, where all its four points and the wrist are; the points of the
    others are 0. poses ``(p, 7)`` and tracked ``(p,)`` in the order of `BODY_POINTS`.
    """
    points[:] = 0.0
    inverse = np.empty(4)
    for s in range(_WRISTS.shape[0]):
        wrist = poses[_WRISTS[s]]
        inverse[0], inverse[1], inverse[2], inverse[3] = -wrist[3], -wrist[4], -wrist[5], wrist[6]
        for f in range(_POINTS.shape[1]):
            known = tracked[_WRISTS[s]]
            for j in range(_POINTS.shape[2]):
                known = known and tracked[_POINTS[s, f, j]]
            fingers_tracked[s, f] = known
            if not known:
                continue
            for j in range(_POINTS.shape[2]):
                seen, point = poses[_POINTS[s, f, j]], points[s, f, j]
                point[0], point[1], point[2] = rotate_by(
                    inverse, seen[0] - wrist[0], seen[1] - wrist[1], seen[2] - wrist[2]
                )


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
