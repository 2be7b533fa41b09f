"""The goal: joint positions that suit the targets best, however far they are; a few steps of search a tick.

Damped Gauss-Newton steps, each an exact quadratic problem inside the position limits and, near other links,
under rows that keep capsules apart.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED
from retargeting.compiled import compiled, compiled_inside
from retargeting.row_qp import RowQpWork, solve_row_qp
from retargeting.tasks import QuadraticModel, quadratic_model

Array = NDArray[np.float64]

# A step this small is the last: what remains is a micrometre.
ARRIVED_RAD = 1e-6
# Weight (squared) of bringing the goal out of a margin, against 1 for the wrists' positions.
_PUSH_OUT = 100.0
# No more is added to the Hessian (m²/rad²): far out of reach the search would creep.
MOST_DAMPING = 1.0
# Robots share room for a multiple of so many bodies.
_BODIES_STEP = 32


class GoalRows(NamedTuple):
    """Pairs of links that are near at the goal before this tick: the change of their distance by each joint.

    rows ``(r, m)``, gaps ``(r,)`` (m): what the distance exceeds its margin by; the first `used` hold.
    """

    rows: Array
    gaps: Array
    used: int

    @staticmethod
    def none(m: int) -> GoalRows:
        return GoalRows(np.empty((0, m)), np.empty(0), 0)


class GoalWork(NamedTuple):
    """Room for `m` joints and `r` rows: step, low, high ``(m,)``, bounds ``(r,)``."""

    model: QuadraticModel
    step: Array
    low: Array
    high: Array
    bounds: Array
    qp: RowQpWork

    @staticmethod
    def of_size(m: int, bodies: int, r: int) -> GoalWork:
        return GoalWork(
            QuadraticModel.of_size(m, bodies),
            np.empty(m),
            np.empty(m),
            np.empty(m),
            np.empty(r),
            RowQpWork.of_size(m, r),
        )

    @staticmethod
    @cache
    def shared(m: int, bodies: int, r: int) -> GoalWork:
        """One for all robots of this size: what is in it counts for one call of compiled code only, in which
        nothing else runs, and what they all use stays in the processor's cache. There may be more bodies."""
        more = -(-bodies // _BODIES_STEP) * _BODIES_STEP
        return GoalWork.of_size(m, bodies, r) if bodies == more else GoalWork.shared(m, more, r)


@compiled_inside
def _goal_step(q, origin, reach, damping, limits, near, work):  # type: ignore[no-untyped-def]
    """One step of q ``(m,)``, in place, by the model in `work`; see `search_goal`."""
    m = q.shape[0]
    hessian, gradient = work.model.hessian, work.model.gradient
    step, low, high, bounds = work.step, work.low, work.high, work.bounds
    for k in range(near.used):
        moved = 0.0
        for i in range(m):
            moved += near.rows[k, i] * (q[i] - origin[i])
        bounds[k] = min(0.0, -max(near.gaps[k], 0.0) - moved) - 1e-12
        room = near.gaps[k] + moved
        if room < 0.0:
            # Too near already: no nearer, and out.
            for i in range(m):
                gradient[i] += _PUSH_OUT * room * near.rows[k, i]
                for j in range(m):
                    hessian[i, j] += _PUSH_OUT * near.rows[k, i] * near.rows[k, j]
    for i in range(m):
        hessian[i, i] += damping
        low[i] = min(0.0, max(limits.lower[i], origin[i] - reach[i]) - q[i])
        high[i] = max(0.0, min(limits.upper[i], origin[i] + reach[i]) - q[i])
        step[i] = 0.0
    status = solve_row_qp(hessian, gradient, low, high, near.rows, bounds, near.used, step, work.qp)
    for i in range(m):
        q[i] = min(max(q[i] + step[i], limits.lower[i]), limits.upper[i])
    return status


@compiled
def search_goal(  # type: ignore[no-untyped-def]
    q, origin, reach, steps, damping, residual_damping, tree, tasks, targets, limits, near, work
):
    """Bring q ``(m,)`` nearer to what suits the targets, in place, by up to `steps` damped steps.

    No joint leaves its limits (`JointLimits`, of which the first m count) or gets farther than `reach`
    ``(m,)`` from `origin` ``(m,)``; no pair of `near` (`GoalRows`, as of `origin`) comes nearer than it may.
    What is added to the Hessian is `damping` and, out of reach where Gauss-Newton swings, `residual_damping`
    times the cost: nothing where the targets are met (Sugihara, IEEE Trans. Robotics 27(5), 2011).
    tree `TreeArrays`, tasks `TaskArrays`, targets `SolverTargets`, work `GoalWork`. Returns (status of the
    quadratic problem, cost before the last step).
    """
    cost, status = 0.0, SOLVED
    for _ in range(steps):
        cost = quadratic_model(q, tree, tasks, targets, work.model)
        damped = damping + min(residual_damping * cost, MOST_DAMPING)
        status = _goal_step(q, origin, reach, damped, limits, near, work)
        if status != SOLVED:
            break
        largest = 0.0
        for i in range(q.shape[0]):
            largest = max(largest, abs(work.step[i]))
        if largest < ARRIVED_RAD:
            break
    return status, cost
