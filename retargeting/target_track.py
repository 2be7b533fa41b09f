"""Targets between motion frames: frames come at 72-120 Hz, commands at 200 Hz.

From the first tick that knows a new frame on, the targets are on their way to it, in a straight line
from where they were in the tick before; they are there one frame period (and a margin for late
frames) after its stamp. That is when the next frame is expected: so a steady motion stays even, though
ticks and frames do not fall together, and no later than it must. Nothing is extrapolated: when frames
stop, the targets stand still.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.clock_offset import ClockOffset
from retargeting.pose_blend import blend_targets
from retargeting.trainer_to_robot import Targets

Array = NDArray[np.float64]
# Poses, elbow directions, openings, the waist's joints and the stamp (ns) of the motion they show.
_Knot = tuple[Array, Array, Array, Array, float]

_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.004, 0.040
_USUAL_PERIOD_S, _PERIOD_SHARE = 1.0 / 90.0, 0.05
# By how much later than the quickest a frame may come without a pause of the targets.
_LATE_FRAME_S = 0.001
# After a longer pause of the ticks, targets leave from now.
_LONGEST_TICK_S = 0.05


class TargetTrack:
    """The targets of a trainer in every tick.

    poses ``(3, 7)`` in the order of `retargeting.solver.POSE_SITES`, directions ``(2, 3)`` of the
    elbows, openings ``(2,)`` of the hands, waist ``(w,)``, shown_ns: the stamp of the motion they show
    (between frames, between their stamps), all as of the last `move_to`. Times are of the steady clock.
    """

    def __init__(self, poses: Array, openings: Array, waist: Array) -> None:
        self.poses, self.directions, self.openings = poses.copy(), np.zeros((2, 3)), openings.copy()
        self.waist = waist.copy()
        self.shown_ns = 0.0
        self._at_s = -np.inf
        self._from: _Knot = (poses.copy(), np.zeros((2, 3)), openings.copy(), waist.copy(), 0.0)
        self._to: _Knot = (poses.copy(), np.zeros((2, 3)), openings.copy(), waist.copy(), 0.0)
        self._leave_s = self._due_s = -np.inf
        self._clock = ClockOffset()
        self._last_stamp_ns: int | None = None
        self._period_s = _USUAL_PERIOD_S

    @property
    def newest_poses(self) -> Array:
        """Where the newest frame leads to: ``(3, 7)``."""
        return self._to[0]

    @property
    def newest_waist(self) -> Array:
        """Likewise, ``(w,)``."""
        return self._to[3]

    def add(self, targets: Targets, stamp_ns: int, now_s: float) -> None:
        """Head for a new frame's targets; what it does not hold stays where it was wanted last."""
        sent_s = self._clock.sent_s(stamp_ns * 1e-9, now_s)
        if self._last_stamp_ns is not None:
            gap_s = (stamp_ns - self._last_stamp_ns) * 1e-9
            period_s = min(max(gap_s, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
            # The average period: one odd interval must not shift when frames are due.
            self._period_s += _PERIOD_SHARE * (period_s - self._period_s)
        first = self._last_stamp_ns is None
        self._last_stamp_ns = stamp_ns
        poses, openings = self._to[0].copy(), self._to[2].copy()
        directions = np.zeros((2, 3))
        for k, side in enumerate(SIDES):
            if side in targets.wrists:
                poses[k] = targets.wrists[side]
            if side in targets.elbow_directions:
                directions[k] = targets.elbow_directions[side]
            if side in targets.openings:
                openings[k] = targets.openings[side]
        if targets.head_rotation is not None:
            poses[2, 3:] = targets.head_rotation
        shown_ns = float(stamp_ns) if first else self.shown_ns
        waist = self._to[3] if targets.waist is None else targets.waist
        self._from = (
            self.poses.copy(), self.directions.copy(), self.openings.copy(), self.waist.copy(), shown_ns
        )  # fmt: skip
        self._to = (poses, directions, openings, waist, float(stamp_ns))
        self._leave_s = self._at_s if now_s - self._at_s < _LONGEST_TICK_S else now_s
        self._due_s = max(sent_s + self._period_s + _LATE_FRAME_S, now_s + 1e-3)

    def skip_to_newest(self) -> None:
        """Be where the newest frame leads to, at once: whoever follows comes there softly by itself."""
        self._from = self._to
        self.poses[:], self.directions[:], self.openings[:], self.waist[:] = self._to[:4]
        self.shown_ns = self._to[4]

    def move_to(self, now_s: float) -> None:
        """Bring everything to the time `now_s`, later than at the last call."""
        share = 1.0
        if now_s < self._due_s:
            share = max(0.0, (now_s - self._leave_s) / (self._due_s - self._leave_s))
        start, end = self._from, self._to
        blend_targets(start, end, share, self.poses, self.directions, self.openings, self.waist)
        self.shown_ns = start[4] + share * (end[4] - start[4])
        self._at_s = now_s
