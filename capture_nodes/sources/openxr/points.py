"""Every point an OpenXR headset can track, and the way from the runtime's axes to the trainer's.

Points are in order of trust: where two are one body point (the wrist of a tracked hand and that of a tracked
body), the first that is tracked counts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from capture_nodes.sources.openxr.location_table import LocationTable
from retargeting.body_points import CONTROLLER_POINTS, HAND_JOINTS, SIDES
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
_UNTIL_BODY = (
    "head",
    *CONTROLLER_POINTS,
    *(f"{side}_{joint}" for side in SIDES for joint in HAND_POINT_NAMES),
)
# Rows of the table: the spaces, then the joints of both hands, then those of a body.
HEAD_ROW = 0
SPACE_ROWS = slice(0, 1 + len(CONTROLLER_POINTS))
HAND_ROWS = {
    side: slice(first, first + len(HAND_POINT_NAMES))
    for side, first in zip(SIDES, (SPACE_ROWS.stop, SPACE_ROWS.stop + len(HAND_POINT_NAMES)), strict=True)
}
_FIRST_BODY_ROW = len(_UNTIL_BODY)

# XrSpaceLocationFlags
ORIENTATION_VALID, POSITION_VALID, ORIENTATION_TRACKED, POSITION_TRACKED = 1, 2, 4, 8
VALID = ORIENTATION_VALID | POSITION_VALID
TRACKED = VALID | ORIENTATION_TRACKED | POSITION_TRACKED

_LARGEST_NORM_ERROR = 0.01
_OWN = np.array([0.0, 0.0, 0.0, 1.0])


class TrackedPoints:
    """`table` is filled by what locates; `needs` ``(points,)``: flags without which a point is not tracked.

    body_joints: joint of each body point, of a body of `body_count` joints. A hidden finger is given as far
    as the runtime vouches for it (valid, be it inferred), and so is a body, of which much is inferred from
    head and hands; but a wrist is what an arm follows: it has to be tracked.
    """

    def __init__(self, body_joints: Mapping[str, int] | None = None, body_count: int = 0) -> None:
        joints = body_joints or {}
        self._names = (*_UNTIL_BODY, *joints)
        self.body_rows = slice(_FIRST_BODY_ROW, _FIRST_BODY_ROW + body_count)
        self._rows = np.concatenate(
            [np.arange(_FIRST_BODY_ROW), _FIRST_BODY_ROW + np.array(list(joints.values()), dtype=np.intp)]
        )
        self.table = LocationTable(_FIRST_BODY_ROW + body_count)
        self.needs: NDArray[np.uint64] = np.full(len(self._names), VALID, dtype=np.uint64)
        self.needs[SPACE_ROWS] = TRACKED
        wrists = [k for k, name in enumerate(self._names) if name.endswith("_wrist") and k >= _FIRST_BODY_ROW]
        self.needs[wrists] = TRACKED
        self._axes: Array = np.tile(turn_to_trainer(_OWN), (len(self._names), 1, 1))
        for side in SIDES:
            grip = self._names.index(f"{side}_grip")
            self._axes[grip] = turn_to_trainer(OPENXR_GRIP_AXES[side])
        self.unusable = 0
        self._known: tuple[bytes, tuple[str, ...], NDArray[np.intp]] = (b"", (), np.zeros(0, dtype=np.intp))

    def set_body_axes(self, axes: Array) -> None:
        """The body points' axes ``(points, 4)`` in those of their joints, both turned to the trainer's."""
        for k, own in enumerate(axes):
            self._axes[_FIRST_BODY_ROW + k] = turn_to_trainer(own)

    def clear(self) -> None:
        self.table.flags[:] = 0

    def tracks(self, row: int, flags: int) -> bool:
        return int(self.table.flags[row]) & flags == flags

    def lose(self, rows: slice) -> None:
        self.table.flags[rows] = 0

    def head(self) -> Array | None:
        """Where the head is in the base space, axes the trainer's ``(7,)``; None while it is not tracked."""
        if not self.tracks(HEAD_ROW, int(self.needs[HEAD_ROW])):
            return None
        rows = [HEAD_ROW]
        pose = np.concatenate([self.table.positions[rows], self.table.rotations[rows]], axis=1)[0]
        return pose_to_trainer(pose, ROTATION_OPENXR_TO_TRAINER)

    def in_trainer(self, base_to_trainer: Array | None = None) -> dict[str, Array]:
        """The tracked points by name, poses ``(7,)`` in `trainer`; what no body can have is counted and left
        out.

        base_to_trainer: pose of the base space, its axes already the trainer's; None where it is `trainer`.
        """
        table = self.table
        points = np.flatnonzero((table.flags[self._rows] & self.needs) == self.needs)
        rows = self._rows[points]
        places, turns = table.positions[rows].astype(np.float64), table.rotations[rows].astype(np.float64)
        norms = np.sqrt(np.einsum("ij,ij->i", turns, turns))
        # Comparisons with what is not a number are false.
        usable = (np.abs(places) < 0.5 * LARGEST_DISTANCE_M).all(axis=1) & (
            np.abs(norms - 1.0) < _LARGEST_NORM_ERROR
        )
        if not usable.all():
            self.unusable += int((~usable).sum())
            points, places, turns, norms = points[usable], places[usable], turns[usable], norms[usable]
        if not len(points):
            return {}
        names, first = self._named(points)
        poses = np.empty((len(first), 7))
        poses[:, :3] = places[first] @ ROTATION_OPENXR_TO_TRAINER.T
        turns = turns[first] / norms[first, None]
        poses[:, 3:] = np.matmul(self._axes[points[first]], turns[:, :, None])[:, :, 0]
        if base_to_trainer is not None:
            poses = pose_compose(base_to_trainer, poses)
        return dict(zip(names, poses, strict=True))

    def _named(self, points: NDArray[np.intp]) -> tuple[Sequence[str], NDArray[np.intp]]:
        """Names of points, and which of them come first under their name; what is tracked seldom changes."""
        key = points.tobytes()
        if key != self._known[0]:
            first: dict[str, int] = {}
            for k, point in enumerate(points.tolist()):
                first.setdefault(self._names[point], k)
            self._known = key, tuple(first), np.array(list(first.values()))
        return self._known[1], self._known[2]


def turn_to_trainer(own_axes: Array) -> Array:
    """The matrix ``(4, 4)`` that makes of a rotation in OpenXR axes that of a body point in the trainer's.

    own_axes ``(4,)``: the point's axes in those of what is tracked, both in trainer axes. Turning to other
    axes and multiplying are linear in a quaternion's numbers.
    """
    poses = np.hstack([np.zeros((4, 3)), np.eye(4)])
    turned = pose_to_trainer(poses, ROTATION_OPENXR_TO_TRAINER)[:, 3:]
    matrix: Array = quaternion_multiply(turned, own_axes).T
    return matrix
