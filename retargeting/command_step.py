"""The command: of the velocities that the limits allow, the one that leads best towards the goal."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED, BoxQpWork, solve_box_qp
from retargeting.compiled import compiled_inside
from retargeting.joint_limits import braking_velocity, velocity_box

Array = NDArray[np.float64]

NOT_FINITE = 10
# Added to the tasks' metric (m²/rad²). With much less, joints that still can stand in for those that cannot,
# overshoot their own goals and swing back.
METRIC_DAMPING = 0.1


class Motion(NamedTuple):
    """What passes from tick to tick: positions and velocities ``(n,)`` of the goal and the command."""

    goal: Array
    goal_velocity: Array
    q: Array
    v: Array


class Approach(NamedTuple):
    """How the command comes to its goal, and the goal along a margin; see `retargeting.solver_parameters`."""

    average_s: float
    settling_time_s: float
    braking_share: float
    contact_damping: float
    contact_gap_m: float


class CommandWork(NamedTuple):
    """Room for `n` joints: before, wanted, velocity, low, high, gradient ``(n,)``, hessian ``(n, n)``.

    `wanted` is the velocity that the goal asks for, low and high what is allowed, hessian the metric.
    """

    before: Array
    wanted: Array
    velocity: Array
    low: Array
    high: Array
    gradient: Array
    hessian: Array
    qp: BoxQpWork

    @staticmethod
    def of_size(n: int) -> CommandWork:
        return CommandWork(
            np.zeros(n),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n),
            np.zeros(n),
            np.zeros((n, n)),
            BoxQpWork.of_size(n),
        )

    @staticmethod
    @cache
    def shared(n: int) -> CommandWork:
        """One for all robots of this size, see `GoalWork.shared`."""
        return CommandWork.of_size(n)


@compiled_inside
def want_velocity(motion, grippers, limits, approach, dt, m, work):  # type: ignore[no-untyped-def]
    """Fill `work.wanted`: the goal's own velocity plus the closing of the distance, braked in time.

    The joints from m on follow `grippers` ``(n - m,)``. approach `Approach`; `work.before`: the goal of the
    tick before.
    """
    goal, goal_velocity, q, _ = motion
    lower, upper, velocity, acceleration = limits
    for i in range(q.shape[0]):
        if i >= m:
            goal[i] = min(max(grippers[i - m], lower[i]), upper[i])
        raw = min(max((goal[i] - work.before[i]) / dt, -velocity[i]), velocity[i])
        goal_velocity[i] += min(1.0, dt / approach.average_s) * (raw - goal_velocity[i])
        # What the goal's own velocity does not do in this tick.
        distance = goal[i] - goal_velocity[i] * dt - q[i]
        speed = min(
            abs(distance) / approach.settling_time_s,
            braking_velocity(abs(distance), approach.braking_share * acceleration[i], dt),
        )
        work.wanted[i] = goal_velocity[i] + (speed if distance > 0.0 else -speed)


@compiled_inside
def fill_metric(hessian, work):  # type: ignore[no-untyped-def]
    """Fill `work.hessian` ``(n, n)`` from that of the tasks ``(m, m)``: what a velocity does to them."""
    m, n = hessian.shape[0], work.hessian.shape[0]
    for i in range(n):
        for j in range(n):
            work.hessian[i, j] = hessian[i, j] if i < m and j < m else 0.0
        work.hessian[i, i] += METRIC_DAMPING


@compiled_inside
def part_trunk(trunk, contact, work):  # type: ignore[no-untyped-def]
    """By `contact`, 0 .. 1, let the trunk's joints (`trunk`) go as they want whatever holds an arm."""
    m = trunk.shape[0]
    if contact == 0.0:
        return
    # One share for all: so the metric stays positive definite.
    for i in range(m):
        for j in range(m):
            if trunk[i] != trunk[j]:
                work.hessian[i, j] *= 1.0 - contact


@compiled_inside
def bound_velocity(motion, limits, dt, outside, work):  # type: ignore[no-untyped-def]
    """Fill `work.low`, `work.high` with what the limits allow, `work.velocity` with the wanted one clipped.

    `outside` ``(n,)`` tells which joints that changes. Returns (`velocity_box`'s forced exceptions, the row
    after the last joint that is changed).
    """
    forced = velocity_box(motion.q, motion.v, limits, dt, work.low, work.high)
    until = 0
    for i in range(motion.q.shape[0]):
        wanted = work.wanted[i]
        outside[i] = wanted < work.low[i] or wanted > work.high[i]
        work.velocity[i] = min(max(wanted, work.low[i]), work.high[i])
        if outside[i]:
            until = i + 1
    return forced, until


@compiled_inside
def weigh_velocity(hessian, work):  # type: ignore[no-untyped-def]
    """Let the other joints make up for one that cannot have what it wants; see `fill_metric`."""
    n = work.hessian.shape[0]
    fill_metric(hessian, work)
    for i in range(n):
        value = 0.0
        for j in range(n):
            value -= work.hessian[i, j] * work.wanted[j]
        work.gradient[i] = value
    return solve_box_qp(work.hessian, work.gradient, work.low, work.high, work.velocity, work.qp)


@compiled_inside
def move_command(motion, limits, dt, work):  # type: ignore[no-untyped-def]
    """Bring the command on by `work.velocity` for `dt`; SOLVED, or NOT_FINITE and nothing is moved."""
    q, v = motion.q, motion.v
    for i in range(q.shape[0]):
        if not np.isfinite(q[i] + work.velocity[i] * dt):
            return NOT_FINITE
    for i in range(q.shape[0]):
        position = min(max(q[i] + work.velocity[i] * dt, limits.lower[i]), limits.upper[i])
        v[i] = (position - q[i]) / dt
        q[i] = position
    return SOLVED
