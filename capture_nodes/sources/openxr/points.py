"""Every point an OpenXR headset can track, a row each, and the way from the runtime's axes to the trainer's.

Rows are in order of trust: where two rows are one body point (the wrist of a tracked hand and that of a
tracked body), the first that is tracked counts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import CENTRAL_POINTS, CONTROLLER_POINTS, HAND_JOINTS, LIMB_POINTS, SIDES
from retargeting.frames import (
    OPENXR_GRIP_AXES,
    ROTATION_OPENXR_TO_TRAINER,
    Array,
    pose_compose,
    pose_to_trainer,
    quaternion_multiply,
)
from retargeting.motion_frame import LARGEST_DISTANCE_M

# In the order of XrHandJointEXT.
HAND_POINT_NAMES = ("palm", "wrist", *HAND_JOINTS[1:])
BODY_POINT_NAMES = (*CENTRAL_POINTS, *LIMB_POINTS)
POINTS = (
    "head",
    *CONTROLLER_POINTS,
    *(f"{side}_{joint}" for side in SIDES for joint in HAND_POINT_NAMES),
    *BODY_POINT_NAMES,
)
HEAD_ROW = 0
HAND_ROWS = {
    side: slice(first, first + len(HAND_POINT_NAMES))
    for side, first in zip(SIDES, (5, 5 + len(HAND_POINT_NAMES)), strict=True)
}
FIRST_BODY_ROW = 5 + 2 * len(HAND_POINT_NAMES)
BODY_ROWS = slice(FIRST_BODY_ROW, len(POINTS))
CONTROLLER_ROWS = {name: 1 + k for k, name in enumerate(CONTROLLER_POINTS)}

# XrSpaceLocationFlags
ORIENTATION_VALID, POSITION_VALID, ORIENTATION_TRACKED, POSITION_TRACKED = 1, 2, 4, 8
VALID = ORIENTATION_VALID | POSITION_VALID
TRACKED = VALID | ORIENTATION_TRACKED | POSITION_TRACKED

_LARGEST_NORM_ERROR = 0.01


class TrackedPoints:
    """poses ``(points, 7)``: position and rotation (xyzw) in the base space, OpenXR axes; tracked
    ``(points,)``; own_axes ``(points, 4)``: the body point's axes in those of the runtime's point, both in
    trainer axes."""

    def __init__(self) -> None:
        count = len(POINTS)
        self.poses: Array = np.zeros((count, 7))
        self.tracked: NDArray[np.bool_] = np.zeros(count, dtype=np.bool_)
        self.own_axes: Array = np.tile([0.0, 0.0, 0.0, 1.0], (count, 1))
        for side in SIDES:
            self.own_axes[CONTROLLER_ROWS[f"{side}_grip"]] = OPENXR_GRIP_AXES[side]
        self.unusable = 0

    def clear(self) -> None:
        self.tracked[:] = False

    def in_trainer(self, base_to_trainer: Array | None = None) -> dict[str, Array]:
        """The tracked points by name, poses ``(7,)`` in `trainer`; what no body can have is counted and left
        out.

        base_to_trainer: pose of the base space, its axes already the trainer's; None where it is `trainer`.
        """
        poses = self.poses
        norms = np.sqrt(np.einsum("ij,ij->i", poses[:, 3:], poses[:, 3:]))
        near = np.abs(poses[:, :3]).max(axis=1) < 0.5 * LARGEST_DISTANCE_M
        # Comparisons with what is not a number are false.
        usable = near & (np.abs(norms - 1.0) < _LARGEST_NORM_ERROR)
        self.unusable += int((self.tracked & ~usable).sum())
        rows = np.flatnonzero(self.tracked & usable)
        if not len(rows):
            return {}
        chosen = poses[rows]
        chosen[:, 3:] /= norms[rows, None]
        turned = pose_to_trainer(chosen, ROTATION_OPENXR_TO_TRAINER)
        turned[:, 3:] = quaternion_multiply(turned[:, 3:], self.own_axes[rows])
        if base_to_trainer is not None:
            turned = pose_compose(base_to_trainer, turned)
        found: dict[str, Array] = {}
        for row, pose in zip(rows.tolist(), turned, strict=True):
            found.setdefault(POINTS[row], pose)
        return found
