"""Which targets the robot could be at, were it not for time: position limits alone, solved to the end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.retargeting.pin_robot import PinRobot, Residual
from benchmarks.retargeting.playback import Playback
from benchmarks.retargeting.reduced_robot import ReducedRobot
from retargeting.solver import SolverParameters, SolverTargets

Array = NDArray[np.float64]

REACHED_M = 0.005
_RANDOM_STARTS = 2


def reachable_ticks(robot: ReducedRobot, playback: Playback, every: int = 12) -> NDArray[np.bool_]:
    """Per tick ``(t,)``: a posture within the position limits has every wrist within `REACHED_M`.

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

    def solve(start: Array, targets: SolverTargets) -> tuple[Array, bool]:
        start = np.clip(start, lower + 1e-6, upper - 1e-6)
        result = least_squares(
            lambda q: residual.evaluate(q, targets, start)[0],
            start,
            jac=lambda q: residual.evaluate(q, targets, start)[1],
            bounds=(lower, upper),
            max_nfev=40,
        )
        pin_robot.place(result.x)
        errors = [
            float(np.linalg.norm(pin_robot.site(site).translation - targets.positions[k]))
            for k, site in pin_robot.pose_sites
            if site != "head"
        ]
        return result.x, max(errors) < REACHED_M

    for tick in range(0, len(playback.targets), every):
        targets = playback.targets[tick]
        posture, reached = solve(last, targets)
        if not reached and not tried_all:
            others = [robot.neutral, *rng.uniform(lower, upper, (_RANDOM_STARTS, len(lower)))]
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
