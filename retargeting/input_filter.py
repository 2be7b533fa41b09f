"""The trainer's motion without the tracker's glitches and jitter, point by point.

Every tracked point goes through `outlier_gate` and then `one_euro`. An impossible sample is replaced by
where the last good motion leads, once; a second one in a row, or one that is only unlikely, stands
still. A point that stays in doubt for longer than `longest_doubt_s` is not tracked. A point that comes back
after `forget_s` starts anew.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import BODY_POINTS
from retargeting.bounds import check_bounds
from retargeting.compiled import compiled
from retargeting.motion_frame import Controls
from retargeting.one_euro import JITTER_M_S, smooth_pose
from retargeting.outlier_gate import GOOD, JUMPED, UNLIKELY, judge
from retargeting.quaternions import turn_by
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]

_INDEX = {name: k for k, name in enumerate(BODY_POINTS)}
_COUNT = len(BODY_POINTS)
_SHORTEST_S = 1e-4


@dataclass(frozen=True)
class InputFilterParameters:
    """Smoothing at rest and how it gives way to speed (`one_euro`), and how long doubt may last.

    The defaults take jitter at rest to under half and never lag more than 2 mm and 0.8° behind a
    steady motion.
    """

    minimum_cutoff_hz: float = 5.0
    cutoff_hz_per_m_s: float = 80.0
    cutoff_hz_per_rad_s: float = 12.0
    derivative_cutoff_hz: float = 6.0
    longest_doubt_s: float = 0.1
    forget_s: float = 0.25

    def __post_init__(self) -> None:
        bounds = {
            "minimum_cutoff_hz": (0.1, 1000.0),
            "cutoff_hz_per_m_s": (0.0, 10_000.0),
            "cutoff_hz_per_rad_s": (0.0, 10_000.0),
            "derivative_cutoff_hz": (0.1, 1000.0),
            "longest_doubt_s": (0.02, 1.0),
            "forget_s": (0.05, 5.0),
        }
        check_bounds(self, bounds, "input filter")


@dataclass(frozen=True)
class FilteredMotion:
    """A motion frame after the filter.

    delays_s: by how much smoothing delays position and rotation of each point at their present speed;
    doubted: points whose sample of this frame was not believed; jumped: points whose tracking went
    elsewhere for good.
    """

    stamp_ns: int
    poses: Mapping[str, Array]
    controls: Controls
    delays_s: Mapping[str, tuple[float, float]]
    doubted: tuple[str, ...]
    jumped: tuple[str, ...]


@compiled
def _go_on(pose, raw_velocity, velocity, dt):  # type: ignore[no-untyped-def]
    """Move `pose` ``(7,)`` on for dt (s) by the last velocity; where that is jitter, by the smooth one."""
    squared = raw_velocity[0] ** 2 + raw_velocity[1] ** 2 + raw_velocity[2] ** 2
    chosen = raw_velocity if squared > JITTER_M_S * JITTER_M_S else velocity
    for i in range(3):
        pose[i] += dt * chosen[i]
    turn_by(pose[3:], velocity[3:], dt)


@compiled
def _filter_points(  # type: ignore[no-untyped-def]
    points, samples, now, known, good, good_s, last, last_s, in_doubt, doubt_s, poses, velocities,
    raw_velocities, parameters, verdicts, delays,
):  # fmt: skip
    """One frame through the filter, for the rows `points`; samples ``(n, 7)``, now and all `_s` in s."""
    turn = np.empty(3)
    coefficients = parameters[1:3]
    for k in points:
        sample = samples[k]
        verdicts[k], delays[k, :] = GOOD, 0.0
        if not known[k] or now - last_s[k] > parameters[5]:
            known[k], in_doubt[k] = True, False
            good[k], last[k], poses[k] = sample, sample, sample
            good_s[k], last_s[k] = now, now
            velocities[k, :], raw_velocities[k, :] = 0.0, 0.0
            continue
        since_good, since_last = now - good_s[k], now - last_s[k]
        verdict = judge(
            good[k], raw_velocities[k], since_good, last[k], in_doubt[k], since_last, sample, turn
        )
        verdicts[k] = verdict
        if verdict >= UNLIKELY:
            if not in_doubt[k]:
                in_doubt[k], doubt_s[k] = True, now
                # What moved too hard may have turned round: then going on would be the wrong way.
                if verdict > UNLIKELY:
                    _go_on(poses[k], raw_velocities[k], velocities[k], since_good)
            last[k], last_s[k] = sample, now
            continue
        before, since = (good[k], since_good) if verdict == GOOD else (last[k], since_last)
        for i in range(3):
            # Stamps closer than any tracker's rate tell no speed.
            raw_velocities[k, i] = (sample[i] - before[i]) / max(since, 0.004)
        if verdict == JUMPED:
            poses[k], velocities[k, :] = sample, 0.0
        else:
            delays[k, 0], delays[k, 1] = smooth_pose(
                poses[k],
                velocities[k],
                before,
                sample,
                since,
                parameters[0],
                coefficients,
                parameters[3],
                turn,
            )
        good[k], last[k] = sample, sample
        good_s[k], last_s[k] = now, now
        in_doubt[k] = False


class InputFilter:
    """Frames of one trainer in, filtered frames out; remembers the last ones of every body point."""

    def __init__(self, parameters: InputFilterParameters | None = None) -> None:
        self.parameters = parameters or InputFilterParameters()
        limits = self.parameters
        self._numbers = np.array(
            [
                limits.minimum_cutoff_hz,
                limits.cutoff_hz_per_m_s,
                limits.cutoff_hz_per_rad_s,
                limits.derivative_cutoff_hz,
                limits.longest_doubt_s,
                limits.forget_s,
            ]
        )
        self._samples = np.zeros((_COUNT, 7))
        self._known, self._in_doubt = np.zeros(_COUNT, dtype=np.bool_), np.zeros(_COUNT, dtype=np.bool_)
        self._good, self._last, self._poses = (np.zeros((_COUNT, 7)) for _ in range(3))
        self._good_s, self._last_s, self._doubt_s = (np.zeros(_COUNT) for _ in range(3))
        self._velocities, self._raw_velocities = np.zeros((_COUNT, 6)), np.zeros((_COUNT, 3))
        self._verdicts, self._delays_s = np.zeros(_COUNT, dtype=np.int64), np.zeros((_COUNT, 2))
        self._origin_ns: int | None = None
        self._newest_s = -math.inf
        self.doubted_samples = 0
        self.jumps = 0

    def filter(self, frame: TrackedMotion) -> FilteredMotion:
        """The filtered frame. A frame that is no later than the last is taken as just after it."""
        if self._origin_ns is None:
            self._origin_ns = frame.stamp_ns
        now_s = max((frame.stamp_ns - self._origin_ns) * 1e-9, self._newest_s + _SHORTEST_S)
        self._newest_s = now_s
        names = list(frame.poses)
        rows = np.array([_INDEX[name] for name in names], dtype=np.int64)
        for name, row in zip(names, rows.tolist(), strict=True):
            self._samples[row] = frame.poses[name]
        _filter_points(
            rows,
            self._samples,
            now_s,
            self._known,
            self._good,
            self._good_s,
            self._last,
            self._last_s,
            self._in_doubt,
            self._doubt_s,
            self._poses,
            self._velocities,
            self._raw_velocities,
            self._numbers,
            self._verdicts,
            self._delays_s,
        )
        out = self._poses[rows]
        verdicts = self._verdicts[rows].tolist()
        doubt_s = np.where(self._in_doubt[rows], now_s - self._doubt_s[rows], 0.0).tolist()
        delays = self._delays_s[rows].tolist()
        poses: dict[str, Array] = {}
        doubted, jumped = [], []
        for k, name in enumerate(names):
            if doubt_s[k] <= self.parameters.longest_doubt_s:
                poses[name] = out[k]
            if verdicts[k] >= UNLIKELY:
                doubted.append(name)
            elif verdicts[k] == JUMPED:
                jumped.append(name)
        self.doubted_samples += len(doubted)
        self.jumps += len(jumped)
        return FilteredMotion(
            frame.stamp_ns,
            poses,
            frame.controls,
            {name: (delay[0], delay[1]) for name, delay in zip(names, delays, strict=True) if name in poses},
            tuple(doubted),
            tuple(jumped),
        )
