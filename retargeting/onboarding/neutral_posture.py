"""A posture to rest in and to start from: hands before the body, elbows down, inside every limit."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import (
    quaternion_from_rotation_matrix,
    rotation_vector_from_quaternion,
)
from retargeting.onboarding.skeleton import Posture, Skeleton, middle, resting, rounded_inside, travel

Array = NDArray[np.float64]

_STARTS, _STEPS, _DAMPING = 10, 40, 1e-3
# Of the travel on each side: an arm that rests at a limit cannot move one way.
_AWAY_FROM_LIMITS = 0.06
_ORIENTATION_M_RAD, _ELBOW_M, _MIDDLE_M_RAD = 0.12, 0.04, 0.01
_DIFFERENCE = 1e-5
# A start that ends this near (about 1 cm and 5 degrees) is good enough; the next ones are not tried.
_GOOD_COST_M2 = 8e-4


@dataclass(frozen=True)
class HandGoal:
    """Where a hand should be in the neutral posture, in the root.

    `local_*`: the wrist and the elbow in the links `link` and `elbow_link` (the same twice where there
    is no elbow); `axes` ``(3, 3)`` columns: along the fingers, left of the hand, out of its back.
    """

    link: str
    local_wrist: Array
    local_axes: Array
    position: Array
    axes: Array
    elbow_link: str
    local_elbow: Array
    elbow: Array


def _residual(posture: Posture, goal: HandGoal) -> Array:
    rotation = posture.rotation(goal.link)
    wrist = posture.link_origin(goal.link) + rotation @ goal.local_wrist
    turn = rotation_vector_from_quaternion(
        quaternion_from_rotation_matrix(rotation @ goal.local_axes @ goal.axes.T)
    )
    elbow = posture.link_origin(goal.elbow_link) + posture.rotation(goal.elbow_link) @ goal.local_elbow
    return np.concatenate([wrist - goal.position, _ORIENTATION_M_RAD * turn, _ELBOW_M * (elbow - goal.elbow)])


def bring_hand(skeleton: Skeleton, joints: Sequence[str], goal: HandGoal) -> tuple[dict[str, float], float]:
    """Joint positions (rad, m) that bring a hand nearest to its goal, and how far off it is (m).

    Damped Gauss-Newton with the step clipped to the limits, from rest, mid-travel and seeded random
    starts; the best wins,
    or the first good one.
    """
    entries = [skeleton.urdf.joints[name] for name in joints]
    # A posture is not wound up by a turn or more.
    ends = np.array(
        [
            (max(travel(entry)[0], middle(entry) - np.pi), min(travel(entry)[1], middle(entry) + np.pi))
            for entry in entries
        ]
    )
    away = _AWAY_FROM_LIMITS * (ends[:, 1] - ends[:, 0])
    lower, upper = ends[:, 0] + away, ends[:, 1] - away
    centre = 0.5 * (lower + upper)
    scale = _MIDDLE_M_RAD / np.maximum(1.0, 0.5 * (upper - lower))

    def residual(q: Array) -> Array:
        posture = skeleton.posture(dict(zip(joints, q.tolist(), strict=True)))
        return np.concatenate([_residual(posture, goal), scale * (q - centre)])

    rng = np.random.default_rng(0)
    rest = np.array([resting(entry) for entry in entries])
    starts = [np.clip(rest, lower, upper), centre, *rng.uniform(lower, upper, (_STARTS, len(joints)))]
    best_cost, best = np.inf, centre
    for start in starts:
        q = start.copy()
        value = residual(q)
        cost = float(value @ value)
        damping = _DAMPING
        for _ in range(_STEPS):
            slope = np.stack(
                [(residual(q + _DIFFERENCE * unit) - value) / _DIFFERENCE for unit in np.eye(len(joints))],
                axis=1,
            )
            step = np.linalg.solve(slope.T @ slope + damping * np.eye(len(joints)), -slope.T @ value)
            trial = np.clip(q + np.clip(step, -0.5, 0.5), lower, upper)
            trial_value = residual(trial)
            trial_cost = float(trial_value @ trial_value)
            if trial_cost >= cost:
                damping *= 10.0
                if damping > 10.0:
                    break
                continue
            converged = cost - trial_cost < 1e-9
            q, value, cost, damping = trial, trial_value, trial_cost, max(1e-6, 0.3 * damping)
            if converged:
                break
        if cost < best_cost:
            best_cost, best = cost, q
        if best_cost < _GOOD_COST_M2:
            break
    off_m = float(np.linalg.norm(residual(best)[:3]))
    return {
        name: rounded_inside(skeleton.urdf.joints[name], float(value))
        for name, value in zip(joints, best, strict=True)
    }, off_m
