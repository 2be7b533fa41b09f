"""Which targets the robot could be at, were it not for time: position limits and margins, solved out."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.retargeting.pin_robot import PinRobot, Residual
from benchmarks.retargeting.playback import Playback
from benchmarks.retargeting.reduced_robot import ReducedRobot
from retargeting.collision_pairs import CollisionModel
from retargeting.solver import SolverParameters, SolverTargets

Array = NDArray[np.float64]

REACHED_M = 0.005
_RANDOM_STARTS = 2
# Of a missing margin (m) against a wrist's distance, so that what is reached at the end keeps the margins.
_MARGIN_WEIGHT = 3.0
_MARGIN_TOLERANCE_M = 1e-4


class _Apart:
    """Margins as residuals: what each pair of capsules lacks (m), and its derivatives by differences."""

    def __init__(self, collision: CollisionModel, others: Array) -> None:
        self._collision, self._others = collision, others

    def lacking(self, q: Array) -> Array:
        distances = self._collision.distances(np.concatenate([q, self._others]))
        missing: Array = np.maximum(0.0, self._collision.margins - distances)
        return missing

    def residual(self, q: Array) -> tuple[Array, Array]:
        here, step = self.lacking(q), 1e-6
        rows = np.flatnonzero(here)
        jacobian = np.zeros((len(here), len(q)))
        for i in range(len(q) if len(rows) else 0):
            moved = q.copy()
            moved[i] += step
            jacobian[rows, i] = (self.lacking(moved) - here)[rows] / step
        return _MARGIN_WEIGHT * here, _MARGIN_WEIGHT * jacobian


def reachable_ticks(
    robot: ReducedRobot, playback: Playback, every: int = 12, collision: CollisionModel | None = None
) -> NDArray[np.bool_]:
    """Per tick ``(t,)``: a posture within the position limits has every wrist within `REACHED_M`.

    With `collision` the posture keeps its margins, too; what was commanded then is one more start.

    Wrist poses are the only task. Solved for every `every`-th tick from the last answer, else from the
    neutral posture and from random ones (seeded); the ticks between share the answer.
    """
    parameters = SolverParameters(damping=1e-8)
    pin_robot = PinRobot(robot)
    residual = Residual(pin_robot, parameters, pose_only=True)
    rng = np.random.default_rng(0)
    lower, upper = np.maximum(robot.lower, -2.0 * np.pi), np.minimum(robot.upper, 2.0 * np.pi)
    last, tried_all = robot.neutral.copy(), False
    answer = np.zeros(len(playback.targets), dtype=np.bool_)

    apart = None if collision is None else _Apart(collision, robot.model.neutral[len(lower) :])

    def evaluate(q: Array, targets: SolverTargets, start: Array, which: int) -> Array:
        found = residual.evaluate(q, targets, start)[which]
        return found if apart is None else np.concatenate([found, apart.residual(q)[which]])

    def solve(start: Array, targets: SolverTargets) -> tuple[Array, bool]:
        start = np.clip(start, lower + 1e-6, upper - 1e-6)
        result = least_squares(
            lambda q: evaluate(q, targets, start, 0),
            start,
            jac=lambda q: evaluate(q, targets, start, 1),
            bounds=(lower, upper),
            max_nfev=40,
        )
        pin_robot.place(result.x)
        errors = [
            float(np.linalg.norm(pin_robot.site(site).translation - targets.positions[k]))
            for k, site in pin_robot.pose_sites
            if site != "head"
        ]
        clear = apart is None or float(apart.lacking(result.x).max(initial=0.0)) < _MARGIN_TOLERANCE_M
        return result.x, clear and max(errors) < REACHED_M

    for tick in range(0, len(playback.targets), every):
        targets = playback.targets[tick]
        posture, reached = solve(last, targets)
        if not reached and not tried_all:
            commanded = [] if apart is None else [playback.positions[tick, : len(lower)]]
            others = [*commanded, robot.neutral, *rng.uniform(lower, upper, (_RANDOM_STARTS, len(lower)))]
            for start in others:
                other, reached = solve(start, targets)
                if reached:
                    posture = other
                    break
        # Out of reach goes on being out of reach: the search elsewhere is repeated only after a success.
        tried_all = not reached
        last = posture
        answer[tick : tick + every] = reached
    return answer
