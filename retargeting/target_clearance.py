"""Targets led out of the robot's own body, before the goal's search gets them.

A hand that is asked into the trunk cannot get there; what it misses would pull at the waist, and through it
at the other arm, for as long as it is asked. So the part of the way that margins take from an arm is taken
from its target: where the arms alone would go (trunk as it is, position limits only) is compared with where
they would go under the goal's rows, both by one Gauss-Newton step, and the hand's target is led by the
difference. Where no row is in the way the target stays what it is, bit by bit;
what is out of reach for other reasons is left to the search.

The lead follows with a time constant and never changes faster than `LEAD_M_S` and `LEAD_RAD_S`: a led target
jumps no farther than its own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED
from retargeting.compiled import compiled, compiled_inside
from retargeting.frames import quaternion_from_rotation_vector, quaternion_multiply
from retargeting.row_qp import RowQpWork, solve_row_qp
from retargeting.tasks import SolverTargets, place_site, point_jacobian, quadratic_model

Array = NDArray[np.float64]

# How fast a lead may change: faster than arms are, so that it is no limit of the motion.
LEAD_M_S, LEAD_RAD_S = 3.0, 20.0
# A lead smaller than this (m, rad) that is not wanted any more is over.
_OVER = 1e-6
# Wrists are the first sites.
_WRISTS = 2


class TargetLead(NamedTuple):
    """The leads of both wrists and room to find them, for `m` joints, `k` sites and `r` rows.

    time_s: a lead follows what is wanted with this time constant.
    leads, wanted ``(2, 6)``: what is added to each wrist's position (m) and, as a rotation vector in root
    axes (rad), to its orientation; positions ``(k, 3)``, rotations ``(k, 3, 3)``: the led targets;
    unhindered, apart, low, high ``(m,)``, bounds ``(r,)``.
    """

    time_s: float
    leads: Array
    wanted: Array
    positions: Array
    rotations: Array
    unhindered: Array
    apart: Array
    low: Array
    high: Array
    bounds: Array
    qp: RowQpWork

    @staticmethod
    def of_size(time_s: float, m: int, k: int, r: int) -> TargetLead:
        return TargetLead(
            time_s,
            np.zeros((_WRISTS, 6)),
            np.zeros((_WRISTS, 6)),
            np.zeros((k, 3)),
            np.zeros((k, 3, 3)),
            np.empty(m),
            np.empty(m),
            np.empty(m),
            np.empty(m),
            np.empty(r),
            RowQpWork.of_size(m, r),
        )


def led_pose(pose: Array, lead: Array) -> Array:
    """A wrist's target ``(7,)`` led by its row ``(6,)`` of `TargetLead.leads`."""
    if not lead.any():
        return pose
    turned = quaternion_multiply(quaternion_from_rotation_vector(lead[3:]), pose[3:])
    return np.concatenate([pose[:3] + lead[:3], turned])


@compiled
def rotate_matrix(vector, matrix, out):  # type: ignore[no-untyped-def]
    """Fill `out` ``(3, 3)`` with `matrix` turned by the rotation vector `vector` ``(3,)`` in outer axes."""
    x, y, z = vector[0], vector[1], vector[2]
    angle = np.sqrt(x * x + y * y + z * z)
    # sin(a) / a and (1 - cos(a)) / a^2, written without cancellation.
    one, two = 1.0, 0.5
    if angle > 1e-8:
        one, two = np.sin(angle) / angle, 0.5 * (np.sin(0.5 * angle) / (0.5 * angle)) ** 2
    for c in range(3):
        a, b, d = matrix[0, c], matrix[1, c], matrix[2, c]
        u, v, w = y * d - z * b, z * a - x * d, x * b - y * a
        out[0, c] = a + one * u + two * (y * w - z * v)
        out[1, c] = b + one * v + two * (z * u - x * w)
        out[2, c] = d + one * w + two * (x * v - y * u)


@compiled_inside
def _want_leads(q, tree, tasks, targets, limits, near, damping, model, work):  # type: ignore[no-untyped-def]
    """Fill `work.wanted` with what rows take from the wrists' ways to their targets."""
    m = q.shape[0]
    quadratic_model(q, tree, tasks, targets, model)
    hessian, gradient = model.hessian, model.gradient
    for i in range(m):
        hessian[i, i] += damping
        work.low[i] = work.high[i] = work.unhindered[i] = 0.0
        if not tasks.trunk[i]:
            work.low[i] = min(0.0, limits.lower[i] - q[i])
            work.high[i] = max(0.0, limits.upper[i] - q[i])
    for k in range(near.used):
        work.bounds[k] = -max(near.gaps[k], 0.0)
    low, high, bounds, qp = work.low, work.high, work.bounds, work.qp
    status = solve_row_qp(hessian, gradient, low, high, near.rows, bounds, 0, work.unhindered, qp)
    if status != SOLVED:
        return
    work.apart[:] = work.unhindered
    status = solve_row_qp(hessian, gradient, low, high, near.rows, bounds, near.used, work.apart, qp)
    if status != SOLVED:
        return
    largest = 0.0
    for i in range(m):
        work.apart[i] -= work.unhindered[i]
        largest = max(largest, abs(work.apart[i]))
    if largest < _OVER:
        return
    for s in range(_WRISTS):
        if tasks.position_weights[s] == 0.0:
            continue
        place_site(tasks, s, model.positions, model.rotations, model.point, model.current)
        model.linear[:] = 0.0
        model.angular[:] = 0.0
        point_jacobian(
            tree, model.positions, model.rotations, tasks.site_bodies[s], model.point, 1.0,
            model.linear, model.angular, model.support,
        )  # fmt: skip
        for r in range(3):
            for i in range(m):
                work.wanted[s, r] += model.linear[r, i] * work.apart[i]
                if tasks.orientation_weights[s] > 0.0:
                    work.wanted[s, 3 + r] += model.angular[r, i] * work.apart[i]


@compiled_inside
def _follow_lead(lead, wanted, share, most):  # type: ignore[no-untyped-def]
    """Bring `lead` ``(3,)`` nearer to `wanted` ``(3,)`` by `share`, at most by `most`; its new length."""
    away = 0.0
    for r in range(3):
        away += (wanted[r] - lead[r]) ** 2
    away = share * np.sqrt(away)
    if away > most:
        share *= most / away
    length = size = 0.0
    for r in range(3):
        lead[r] += share * (wanted[r] - lead[r])
        length, size = length + lead[r] * lead[r], size + wanted[r] * wanted[r]
    if size == 0.0 and length < _OVER * _OVER:
        lead[:] = 0.0
        return 0.0
    return np.sqrt(length)


@compiled_inside
def lead_targets(q, tree, tasks, targets, limits, near, damping, dt, model, work):  # type: ignore[no-untyped-def]
    """The targets `SolverTargets` for the search of the goal from q ``(m,)``, led out of the body.

    tasks `TaskArrays`; near `GoalRows` as of q; model a `QuadraticModel` to work
    in; work `TargetLead`, of which `leads` passes from tick to tick.
    """
    work.wanted[:] = 0.0
    if near.used > 0:
        _want_leads(q, tree, tasks, targets, limits, near, damping, model, work)
    work.positions[:] = targets.positions
    work.rotations[:] = targets.rotations
    share = min(1.0, dt / work.time_s)
    for s in range(_WRISTS):
        lead = work.leads[s]
        shift = _follow_lead(lead[:3], work.wanted[s, :3], share, LEAD_M_S * dt)
        turn = _follow_lead(lead[3:], work.wanted[s, 3:], share, LEAD_RAD_S * dt)
        if shift > 0.0:
            for r in range(3):
                work.positions[s, r] += lead[r]
        if turn > 0.0:
            rotate_matrix(lead[3:], targets.rotations[s], work.rotations[s])
    return SolverTargets(work.positions, work.rotations, targets.elbow_directions, targets.waist)
