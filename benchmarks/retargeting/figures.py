"""The figures of one solver on one motion, and their sum over motions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray
from scipy.signal import welch

from benchmarks.retargeting.pin_robot import PinRobot
from retargeting.solver import SolverTargets

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

SHAKE_HZ = 3.0
# A freeze: the target goes round the shoulder at over this speed, the wrist is off it and stands.
_MOVING_M_S, _AWAY_M, _STANDING_M_S = 0.02, 0.01, 0.002


@dataclass(frozen=True)
class Errors:
    """Per tick and wrist ``(t, k)``: position (m), orientation and elbow error (rad; NaN where unknown).

    wrists, shoulders, targets ``(t, k, 3)``: where they are and should be, in the root.
    """

    position_m: Array
    orientation_rad: Array
    elbow_rad: Array
    wrists: Array
    shoulders: Array
    targets: Array


def errors_of(pin_robot: PinRobot, positions: Array, targets: tuple[SolverTargets, ...]) -> Errors:
    """Where `positions` ``(t, m)`` are from `targets`, by pinocchio."""
    wrists = [(k, site) for k, site in pin_robot.pose_sites if site != "head"]
    shape = (len(positions), len(wrists))
    position, orientation = np.empty(shape), np.empty(shape)
    elbow = np.full(shape, np.nan)
    places, shoulders = np.empty((*shape, 3)), np.empty((*shape, 3))
    wanted = np.empty((*shape, 3))
    elbows = dict(pin_robot.elbow_sides)
    for row, (q, target) in enumerate(zip(positions, targets, strict=True)):
        pin_robot.place(q)
        for column, (k, site) in enumerate(wrists):
            place = pin_robot.site(site)
            places[row, column], wanted[row, column] = place.translation, target.positions[k]
            position[row, column] = np.linalg.norm(place.translation - target.positions[k])
            orientation[row, column] = np.linalg.norm(pin.log3(place.rotation.T @ target.rotations[k]))
            if k in elbows:
                shoulders[row, column] = pin_robot.site(f"{elbows[k]}_shoulder").translation
                direction = target.elbow_directions[k]
                if direction.any():
                    cosine = float(pin_robot.elbow_direction(elbows[k]) @ direction)
                    elbow[row, column] = np.arccos(np.clip(cosine, -1.0, 1.0))
            else:
                shoulders[row, column] = 0.0
    return Errors(position, orientation, elbow, places, shoulders, wanted)


def longest_freeze_s(errors: Errors, tracking: BoolArray, steps_s: Array) -> float:
    """The longest time in which a wrist stands off a target that moves round its shoulder."""
    dt = steps_s[1:, None]
    target_velocity = np.diff(errors.targets, axis=0) / dt[..., None]
    arm = errors.targets[1:] - errors.shoulders[1:]
    arm = arm / np.maximum(np.linalg.norm(arm, axis=-1, keepdims=True), 1e-9)
    # Along the arm a wrist at the edge of its reach cannot follow.
    target_velocity -= np.sum(target_velocity * arm, axis=-1, keepdims=True) * arm
    speed = np.linalg.norm(np.diff(errors.wrists, axis=0), axis=-1) / dt
    frozen = (
        (np.linalg.norm(target_velocity, axis=-1) > _MOVING_M_S)
        & (errors.position_m[1:] > _AWAY_M)
        & (speed < _STANDING_M_S)
        & tracking[1:, None]
    )
    longest = 0.0
    for column in range(frozen.shape[1]):
        lasted = 0.0
        for now, step in zip(frozen[:, column], dt[:, 0], strict=True):
            lasted = lasted + float(step) if now else 0.0
            longest = max(longest, lasted)
    return longest


def jerk_rms(positions: Array, steps_s: Array) -> float:
    """Root mean square of the joints' third difference (rad/s³)."""
    if len(positions) < 5:
        return 0.0
    dt = steps_s[1:, None]
    velocity = np.diff(positions, axis=0) / dt
    acceleration = np.diff(velocity, axis=0) / dt[1:]
    jerk = np.diff(acceleration, axis=0) / dt[2:]
    return float(np.sqrt(np.mean(jerk**2)))


def shake_power(positions: Array, nominal_s: float) -> float:
    """Power of the joint velocities above `SHAKE_HZ`, summed over the joints ((rad/s)²); Welch's estimate."""
    if len(positions) < 32:
        return 0.0
    velocity = np.diff(positions, axis=0) / nominal_s
    frequency, density = welch(velocity, 1.0 / nominal_s, nperseg=min(512, len(velocity)), axis=0)
    above = frequency > SHAKE_HZ
    width = float(frequency[1] - frequency[0])
    return float(density[above].sum() * width)


def percentiles(values: Array) -> dict[str, float]:
    """median, p95, p99 of what is known; NaN where nothing is."""
    known = values[np.isfinite(values)]
    if not len(known):
        return dict.fromkeys(("median", "p95", "p99"), float("nan"))
    low, middle, high = np.percentile(known, (50, 95, 99))
    return {"median": float(low), "p95": float(middle), "p99": float(high)}


def lag_s(leader: Array, follower: Array, nominal_s: float, longest_s: float = 0.25) -> float:
    """How long `follower` ``(t, k, 3)`` comes after `leader` in the same ticks; NaN where nothing moves.

    The shift at which their velocities agree best, to 0.5 ms. Their scale does not matter.
    """
    lead, follow = (
        np.diff(path, axis=0).reshape(len(path) - 1, -1) / nominal_s for path in (leader, follower)
    )
    shift = int(np.ceil(longest_s / nominal_s))
    if len(lead) < 3 * shift or np.abs(lead).max() < 0.05:
        return float("nan")
    times = np.arange(shift, len(follow))
    best, best_lag = -np.inf, 0.0
    kept = follow[times]
    for lag in np.arange(-0.02, longest_s - nominal_s, 0.0005):
        moved = times - lag / nominal_s
        keep = moved <= len(lead) - 1
        whole = np.floor(moved[keep]).astype(np.int64)
        share = (moved[keep] - whole)[:, None]
        earlier = (1 - share) * lead[whole] + share * lead[np.minimum(whole + 1, len(lead) - 1)]
        size = np.linalg.norm(earlier) * np.linalg.norm(kept[keep])
        agreement = float((earlier * kept[keep]).sum() / max(size, 1e-12))
        if agreement > best:
            best, best_lag = agreement, float(lag)
    return best_lag
