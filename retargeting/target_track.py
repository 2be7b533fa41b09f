"""Targets between motion frames: frames come at 72-120 Hz, commands at 200 Hz.

From the first tick that knows a new frame on, the targets are on their way to it, in a straight line
from where they were in the tick before; they are there one frame period (and a margin for late
frames) after its stamp. That is when the next frame is expected: so a steady motion stays even, though
ticks and frames do not fall together, and no later than it must. Nothing is extrapolated: when frames
stop, the targets stand still.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.clock_offset import ClockOffset
from retargeting.compiled import compiled
from retargeting.packed import bind, pack
from retargeting.pose_blend import blend_directions, blend_poses
from retargeting.quaternions import angle_between, way_between
from retargeting.trainer_to_robot import Targets

Array = NDArray[np.float64]

_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.004, 0.040
_USUAL_PERIOD_S, _PERIOD_SHARE = 1.0 / 90.0, 0.05
# By how much later than the quickest a frame may come without a pause of the targets.
_LATE_FRAME_S = 0.001
# After a longer pause of the ticks, targets leave from now.
_LONGEST_TICK_S = 0.05


_HEAD, _WAIST = 2, 3


class Knot(NamedTuple):
    """poses ``(3, 7)``, directions ``(2, 3)`` of the elbows, openings ``(2,)``, waist ``(w,)``."""

    poses: Array
    directions: Array
    openings: Array
    waist: Array

    def copy(self) -> Knot:
        return Knot(*(array.copy() for array in self))


class TrackArrays(NamedTuple):
    """Where the targets left, where they go, and where they are between."""

    start: Knot
    end: Knot
    now: Knot


@compiled
def _copy_knot(source, to):  # type: ignore[no-untyped-def]
    to.poses[:] = source.poses
    to.directions[:] = source.directions
    to.openings[:] = source.openings
    to.waist[:] = source.waist


@compiled
def _leave_for(packed, targets):  # type: ignore[no-untyped-def]
    """Leave where the targets are now for those of packed `TargetArrays`."""
    track, wanted = packed.content, targets.content
    end = track.end
    _copy_knot(track.now, track.start)
    for k in range(wanted.directions.shape[0]):
        if wanted.known[k]:
            end.poses[k] = wanted.poses[k]
    if wanted.known[_HEAD]:
        end.poses[_HEAD, 3:] = wanted.poses[_HEAD, 3:]
    end.directions[:] = wanted.directions
    end.openings[:] = wanted.openings
    if wanted.known[_WAIST]:
        end.waist[:] = wanted.waist


@compiled
def _arrive(packed):  # type: ignore[no-untyped-def]
    track = packed.content
    _copy_knot(track.end, track.start)
    _copy_knot(track.end, track.now)


@compiled
def _go(packed, share):  # type: ignore[no-untyped-def]
    """Be `share` (0..1) of the way."""
    start, end, now = packed.content
    blend_poses(start.poses, end.poses, share, now.poses)
    blend_directions(start.directions, end.directions, share, now.directions)
    for d in range(now.openings.shape[0]):
        now.openings[d] = start.openings[d] + share * (end.openings[d] - start.openings[d])
    for w in range(now.waist.shape[0]):
        now.waist[w] = start.waist[w] + share * (end.waist[w] - start.waist[w])


@compiled
def _has_jumped(packed, targets, jump_m, jump_rad):  # type: ignore[no-untyped-def]
    """See `TargetTrack.has_jumped`."""
    end, wanted = packed.content.end, targets.content
    for k in range(wanted.directions.shape[0]):
        if wanted.known[k]:
            distance, angle = way_between(wanted.poses[k], end.poses[k])
            if distance > jump_m or angle > jump_rad:
                return True
    if wanted.known[_HEAD] and angle_between(wanted.poses[_HEAD, 3:], end.poses[_HEAD, 3:]) > jump_rad:
        return True
    if wanted.known[_WAIST]:
        for w in range(end.waist.shape[0]):
            if abs(wanted.waist[w] - end.waist[w]) > jump_rad:
                return True
    return False


class TargetTrack:
    """The targets of a trainer in every tick.

    poses ``(3, 7)`` in the order of `retargeting.solver.POSE_SITES`, directions ``(2, 3)`` of the
    elbows, openings ``(2,)`` of the hands, waist ``(w,)``, shown_ns: the stamp of the motion they show
    (between frames, between their stamps), all as of the last `move_to`; packed_now: their packed `Knot`.
    Times are of the steady clock.
    """

    def __init__(self, poses: Array, openings: Array, waist: Array) -> None:
        now = Knot(poses, np.zeros((2, 3)), openings, waist).copy()
        self.poses, self.directions, self.openings, self.waist = now
        self.shown_ns = 0.0
        self._arrays = TrackArrays(now.copy(), now.copy(), now)
        self.packed_now: Any = pack(now)
        self._packed = pack(self._arrays)
        self._go = bind(_go, (self._packed,), (1.0,))
        self._asked: Targets | None = None
        self._left_ns = self._newest_ns = 0.0
        self._at_s = self._leave_s = self._due_s = -np.inf
        self._clock = ClockOffset()
        self._last_stamp_ns: int | None = None
        self._period_s = _USUAL_PERIOD_S

    @property
    def newest_poses(self) -> Array:
        """Where the newest frame leads to: ``(3, 7)``."""
        return self._arrays.end.poses

    @property
    def newest_waist(self) -> Array:
        """Likewise, ``(w,)``."""
        return self._arrays.end.waist

    def has_jumped(self, targets: Targets, jump_m: float, jump_rad: float) -> bool:
        """Whether a wrist, the head or the waist is farther than that from where the track leads to."""
        if targets is not self._asked:
            self._ask(targets)
        return bool(self._asked_jumped(jump_m, jump_rad))

    def _ask(self, targets: Targets) -> None:
        """Read these targets from now on: they are filled anew with each frame."""
        both = self._packed, targets.packed
        self._leave_for_asked = bind(_leave_for, both)
        self._asked_jumped = bind(_has_jumped, both, (1.0, 1.0))
        self._asked = targets

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
        if targets is not self._asked:
            self._ask(targets)
        self._leave_for_asked()
        self._left_ns = float(stamp_ns) if first else self.shown_ns
        self._newest_ns = float(stamp_ns)
        self._leave_s = self._at_s if now_s - self._at_s < _LONGEST_TICK_S else now_s
        self._due_s = max(sent_s + self._period_s + _LATE_FRAME_S, now_s + 1e-3)

    def skip_to_newest(self) -> None:
        """Be where the newest frame leads to, at once: whoever follows comes there softly by itself."""
        _arrive(self._packed)
        self._left_ns = self.shown_ns = self._newest_ns

    def move_to(self, now_s: float) -> None:
        """Bring everything to the time `now_s`, later than at the last call."""
        share = 1.0
        if now_s < self._due_s:
            share = max(0.0, (now_s - self._leave_s) / (self._due_s - self._leave_s))
        self._go(share)
        self.shown_ns = self._left_ns + share * (self._newest_ns - self._left_ns)
        self._at_s = now_s
