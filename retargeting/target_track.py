"""Targets between motion frames: frames come at 72-120 Hz, commands at 200 Hz.

Each new frame is reached one frame period and one tick after its stamp, in a straight line from where
the targets were. Nothing is extrapolated: when frames stop, the targets stand still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.clock_offset import ClockOffset
from retargeting.solver import SolverTargets
from retargeting.trainer_to_robot import Targets

Array = NDArray[np.float64]

_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.004, 0.040
_USUAL_PERIOD_S, _PERIOD_SHARE = 1.0 / 90.0, 0.05


@numba.njit(cache=True)
def _interpolate_poses(start, end, fraction, poses, positions, rotations):  # type: ignore[no-untyped-def]
    """Fill poses ``(k, 7)``, positions ``(k, 3)``, rotations ``(k, 3, 3)``: straight line, shortest arc."""
    for k in range(start.shape[0]):
        for i in range(3):
            poses[k, i] = start[k, i] + fraction * (end[k, i] - start[k, i])
            positions[k, i] = poses[k, i]
        dot = 0.0
        for i in range(3, 7):
            dot += start[k, i] * end[k, i]
        sign = 1.0 if dot >= 0.0 else -1.0
        angle = np.arccos(min(1.0, abs(dot)))
        if angle > 1e-6:
            a = np.sin((1.0 - fraction) * angle) / np.sin(angle)
            b = sign * np.sin(fraction * angle) / np.sin(angle)
        else:
            a, b = 1.0 - fraction, sign * fraction
        norm = 0.0
        for i in range(3, 7):
            poses[k, i] = a * start[k, i] + b * end[k, i]
            norm += poses[k, i] * poses[k, i]
        norm = np.sqrt(norm)
        for i in range(3, 7):
            poses[k, i] /= norm
        x, y, z, w = poses[k, 3], poses[k, 4], poses[k, 5], poses[k, 6]
        rotations[k, 0, 0] = 1 - 2 * (y * y + z * z)
        rotations[k, 0, 1] = 2 * (x * y - z * w)
        rotations[k, 0, 2] = 2 * (x * z + y * w)
        rotations[k, 1, 0] = 2 * (x * y + z * w)
        rotations[k, 1, 1] = 1 - 2 * (x * x + z * z)
        rotations[k, 1, 2] = 2 * (y * z - x * w)
        rotations[k, 2, 0] = 2 * (x * z - y * w)
        rotations[k, 2, 1] = 2 * (y * z + x * w)
        rotations[k, 2, 2] = 1 - 2 * (x * x + y * y)


@dataclass(frozen=True)
class _Knot:
    """Targets due at `due_s`: poses ``(3, 7)``, elbow directions ``(2, 3)``, openings ``(2,)``."""

    due_s: float
    poses: Array
    directions: Array
    openings: Array


class TargetTrack:
    """The targets at any time between the frame before and the newest one.

    poses ``(3, 7)`` in the order of `retargeting.solver.POSE_SITES`; hand openings ``(2,)``. Times
    are of the steady clock.
    """

    def __init__(self, poses: Array, openings: Array, tick_s: float) -> None:
        self.poses = poses.copy()
        self._knots = [_Knot(-np.inf, poses.copy(), np.zeros((2, 3)), openings.copy())]
        self._tick_s = tick_s
        self._clock = ClockOffset()
        self._last_stamp_s: float | None = None
        self._period_s = _USUAL_PERIOD_S

    @property
    def newest_poses(self) -> Array:
        """Where the newest frame leads to: ``(3, 7)``."""
        return self._knots[-1].poses

    def add(self, targets: Targets, stamp_ns: int, now_s: float) -> None:
        """Head for a new frame's targets; what it does not hold stays where it is.

        The frame is due one frame period and one tick after its stamp. The stamps' distances are
        kept, not those of the arrivals, which the tick makes uneven.
        """
        stamp_s = stamp_ns * 1e-9
        sent_s = self._clock.sent_s(stamp_s, now_s)
        if self._last_stamp_s is not None:
            period_s = min(max(stamp_s - self._last_stamp_s, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
            # The average period: one odd interval must not shift when frames are due.
            self._period_s += _PERIOD_SHARE * (period_s - self._period_s)
        self._last_stamp_s = stamp_s
        newest = self._knots[-1]
        if now_s > newest.due_s:
            # The last frame's time is over: leave from there now, not from when it was due.
            self._knots = [_Knot(now_s, newest.poses, newest.directions, newest.openings)]
            newest = self._knots[0]
        poses, openings = newest.poses.copy(), newest.openings.copy()
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
        due_s = max(sent_s + self._period_s + self._tick_s, newest.due_s + 1e-3)
        self._knots.append(_Knot(due_s, poses, directions, openings))

    def at(self, now_s: float) -> tuple[SolverTargets, Array]:
        """The solver's targets and the hand openings ``(2,)`` at `now_s`; also leaves `poses`."""
        while len(self._knots) > 2 and self._knots[1].due_s <= now_s:
            self._knots.pop(0)
        before, after = self._knots[0], self._knots[-1 if len(self._knots) < 2 else 1]
        share = 1.0
        if now_s < after.due_s and np.isfinite(before.due_s):
            share = max(0.0, (now_s - before.due_s) / (after.due_s - before.due_s))
        positions, rotations = np.empty((3, 3)), np.empty((3, 3, 3))
        _interpolate_poses(before.poses, after.poses, share, self.poses, positions, rotations)
        # A side whose elbow was not tracked in one of the two frames has no direction between them.
        known = before.directions.any(axis=1) & after.directions.any(axis=1)
        directions = before.directions + share * (after.directions - before.directions)
        lengths = np.linalg.norm(directions, axis=1)
        directions[~known | (lengths < 1e-3)] = 0.0
        directions[known] /= np.maximum(lengths[known], 1e-3)[:, None]
        openings: Array = before.openings + share * (after.openings - before.openings)
        return SolverTargets(positions, rotations, directions), openings

    def blend_from(self, start: Array, share: float, targets: SolverTargets) -> SolverTargets:
        """Targets `share` (0..1) of the way from the poses `start` ``(3, 7)`` to the current ones."""
        positions, rotations = np.empty((3, 3)), np.empty((3, 3, 3))
        blended = np.empty((3, 7))
        _interpolate_poses(start, self.poses, share, blended, positions, rotations)
        self.poses = blended
        directions = targets.elbow_directions if share >= 1.0 else np.zeros((2, 3))
        return SolverTargets(positions, rotations, directions)
