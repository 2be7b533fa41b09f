"""What robots read of one trainer at one instant, as arrays: made once a frame, whatever robots follow."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import BODY_POINTS, FINGERS, SIDES
from retargeting.hand_points import see_fingers
from retargeting.packed import pack
from retargeting.tracked_motion import TrackedMotion
from retargeting.trainer_place import TrainerPlace

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

ROWS = {name: row for row, name in enumerate(BODY_POINTS)}


class TrainerArrays(NamedTuple):
    """One instant of a trainer; what is not tracked keeps the numbers it had.

    stamp_ns ``(1,)``; poses ``(p, 7)`` in `trainer` in the order of `BODY_POINTS`, tracked ``(p,)``;
    openings ``(2,)``: 1 open .. 0 closed by the triggers, controlled ``(2,)``: whether a controller is
    tracked; inverse_heading ``(4,)``, shoulders ``(2, 3)``, shoulders_known ``(2,)``, trunk_turn ``(4,)``,
    trunk_known ``(1,)``: see `TrainerPlace`; fingers ``(2, 5, 4, 3)`` in the axes of the wrists,
    fingers_tracked ``(2, 5)``: see `hand_points`. Sides and fingers in the order of `SIDES` and `FINGERS`.
    """

    stamp_ns: NDArray[np.int64]
    poses: Array
    tracked: BoolArray
    openings: Array
    controlled: BoolArray
    inverse_heading: Array
    shoulders: Array
    shoulders_known: BoolArray
    trunk_turn: Array
    trunk_known: BoolArray
    fingers: Array
    fingers_tracked: BoolArray


class TrainerView:
    """Holds the arrays of the newest frame; `packed` is what compiled code takes."""

    def __init__(self) -> None:
        points, sides, fingers = len(BODY_POINTS), len(SIDES), len(FINGERS)
        self.arrays = TrainerArrays(
            np.zeros(1, dtype=np.int64),
            np.zeros((points, 7)),
            np.zeros(points, dtype=np.bool_),
            np.ones(sides),
            np.zeros(sides, dtype=np.bool_),
            np.array([0.0, 0.0, 0.0, 1.0]),
            np.zeros((sides, 3)),
            np.zeros(sides, dtype=np.bool_),
            np.zeros(4),
            np.zeros(1, dtype=np.bool_),
            np.zeros((sides, fingers, 4, 3)),
            np.zeros((sides, fingers), dtype=np.bool_),
        )
        self.packed: Any = pack(self.arrays)

    def show(self, motion: TrackedMotion, place: TrainerPlace | None = None) -> None:
        """Take over a frame and where the trainer is in it; None: that is not known, the hands are."""
        arrays = self.arrays
        arrays.stamp_ns[0] = motion.stamp_ns
        arrays.tracked[:] = False
        for name, pose in motion.poses.items():
            row = ROWS[name]
            arrays.poses[row] = pose
            arrays.tracked[row] = True
        arrays.trunk_known[0] = place is not None and place.trunk_turn is not None
        if place is not None:
            arrays.inverse_heading[:] = place.inverse_heading
            if place.trunk_turn is not None:
                arrays.trunk_turn[:] = place.trunk_turn
        for k, side in enumerate(SIDES):
            arrays.openings[k] = motion.controls.hand_opening(side)
            arrays.controlled[k] = f"{side}_grip" in motion.poses or f"{side}_aim" in motion.poses
            shoulder = None if place is None else place.shoulders.get(side)
            arrays.shoulders_known[k] = shoulder is not None
            if shoulder is not None:
                arrays.shoulders[k] = shoulder
        see_fingers(arrays.poses, arrays.tracked, arrays.fingers, arrays.fingers_tracked)


def view_of(motion: TrackedMotion, place: TrainerPlace | None = None) -> TrainerView:
    """A view of one frame by itself."""
    view = TrainerView()
    view.show(motion, place)
    return view
