"""Exact minimum of a strictly convex quadratic in a box under a few linear rows, by a dual active-set method.

minimise  0.5 x' H x + g' x   subject to  low <= x <= high,  rows x >= bounds.

The box's own minimum is where it starts: optimal, but perhaps beyond a row. Each pass takes the most
violated constraint and walks along the direction that the constraints in force leave to it, until it
is met or a multiplier of one in force reaches 0, which is then let go (Goldfarb & Idnani, Mathematical
Programming 27, 1983). The dual objective rises in every pass, so no set of constraints occurs twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import (
    NOT_POSITIVE_DEFINITE,
    SOLVED,
    TOO_MANY_PASSES,
    BoxQpWork,
    cholesky_solve,
    list_free,
    solve_box_qp,
)
from retargeting.compiled import compiled_inside

Array = NDArray[np.float64]

INFEASIBLE = 3

# A constraint counts as violated beyond this, in units of x.
_VIOLATION = 1e-11
# Constraints this close to dependent on those in force are: the share of their length that is left.
_DEPENDENT = 1e-13


class RowQpWork(NamedTuple):
    """Room for problems of up to `n` variables and `r` rows.

    sizes, forces, relief ``(r,)``, in_force, is_in_force ``(r,)``, images ``(r, n)``, system ``(r, r)``,
    move, normal ``(n,)``.
    """

    box: BoxQpWork
    sizes: Array
    forces: Array
    relief: Array
    in_force: NDArray[np.int64]
    is_in_force: NDArray[np.int64]
    images: Array
    system: Array
    move: Array
    normal: Array

    @staticmethod
    def of_size(n: int, r: int) -> RowQpWork:
        whole = np.dtype(np.int64)
        return RowQpWork(
            BoxQpWork.of_size(n),
            np.empty(r),
            np.empty(r),
            np.empty(r),
            np.empty(r, dtype=whole),
            np.empty(r, dtype=whole),
            np.empty((r, n)),
            np.empty((r, r)),
            np.empty(n),
            np.empty(n),
        )


@compiled_inside
def _forward_solve(factor, vector, size):  # type: ignore[no-untyped-def]
    for i in range(size):
        value = vector[i]
        for k in range(i):
            value -= factor[i, k] * vector[k]
        vector[i] = value / factor[i, i]


@compiled_inside
def _backward_solve(factor, vector, size):  # type: ignore[no-untyped-def]
    for i in range(size - 1, -1, -1):
        value = vector[i]
        for k in range(i + 1, size):
            value -= factor[k, i] * vector[k]
        vector[i] = value / factor[i, i]


@compiled_inside
def solve_row_qp(hessian, gradient, low, high, rows, bounds, count, x, work):  # type: ignore[no-untyped-def]
    """Bring `x` (a start for the box) to the minimum, in place.

    hessian ``(n, n)`` symmetric positive definite; gradient, low, high, x ``(n,)``; the first `count`
    of rows ``(r, n)`` and bounds ``(r,)`` apply; work a `RowQpWork`. Returns SOLVED, INFEASIBLE, or
    what `solve_box_qp` does.
    """
    status = solve_box_qp(hessian, gradient, low, high, x, work.box)
    if status != SOLVED or count == 0:
        return status
    n = x.shape[0]
    factor, direction, free, active = work.box
    _, sizes, forces, relief, in_force, is_in_force, images, system, move, normal = work
    for k in range(count):
        squared = 0.0
        for i in range(n):
            squared += rows[k, i] * rows[k, i]
        sizes[k] = np.sqrt(squared)
    beyond = False
    for k in range(count):
        value = bounds[k]
        for i in range(n):
            value -= rows[k, i] * x[i]
        if value > _VIOLATION * (sizes[k] + abs(bounds[k])):
            beyond = True
            break
    if not beyond:
        return SOLVED

    for i in range(n):
        active[i] = -1 if x[i] <= low[i] else (1 if x[i] >= high[i] else 0)
    for k in range(count):
        is_in_force[k], forces[k] = 0, 0.0
    held = 0
    for _ in range(20 * (n + count) + 50):
        # The most violated constraint: 0 .. count-1 a row, count + i a bound of x[i].
        worst, chosen = 0.0, -1
        for k in range(count):
            if is_in_force[k] or sizes[k] == 0.0:
                continue
            value = bounds[k]
            for i in range(n):
                value -= rows[k, i] * x[i]
            excess = value / sizes[k] - _VIOLATION * (1.0 + abs(bounds[k]) / sizes[k])
            if excess > worst:
                worst, chosen = excess, k
        for i in range(n):
            if active[i] == 0:
                excess = max(low[i] - x[i], x[i] - high[i]) - _VIOLATION
                if excess > worst:
                    worst, chosen = excess, count + i
        if chosen < 0:
            for i in range(n):
                x[i] = min(max(x[i], low[i]), high[i])
            return SOLVED
        force = 0.0
        if chosen < count:
            level = bounds[chosen]
            for i in range(n):
                normal[i] = rows[chosen, i]
        else:
            normal[:] = 0.0
            j = chosen - count
            if x[j] < low[j]:
                normal[j], level = 1.0, low[j]
            else:
                normal[j], level = -1.0, -high[j]
        met = False
        for _inner in range(2 * (n + count) + 10):
            size = list_free(active, free, n)
            for a in range(size):
                direction[a] = normal[free[a]]
                for b in range(a + 1):
                    factor[a, b] = hessian[free[a], free[b]]
            # Leaves the factor behind; the solution is not needed.
            for a in range(size):
                move[a] = 0.0
            if not cholesky_solve(factor, move, size):
                return NOT_POSITIVE_DEFINITE
            length = 0.0
            _forward_solve(factor, direction, size)
            for a in range(size):
                length += direction[a] * direction[a]
            for s in range(held):
                k = in_force[s]
                for a in range(size):
                    images[s, a] = rows[k, free[a]]
                _forward_solve(factor, images[s], size)
            for s in range(held):
                value = 0.0
                for a in range(size):
                    value += images[s, a] * direction[a]
                relief[s] = value
                for t in range(s + 1):
                    value = 0.0
                    for a in range(size):
                        value += images[s, a] * images[t, a]
                    system[s, t] = value
            if held > 0 and not cholesky_solve(system, relief, held):
                return INFEASIBLE
            left = 0.0
            for a in range(size):
                value = direction[a]
                for s in range(held):
                    value -= relief[s] * images[s, a]
                direction[a] = value
                left += value * value
            dependent = left <= _DEPENDENT * max(length, 1e-300)
            _backward_solve(factor, direction, size)
            move[:] = 0.0
            if not dependent:
                for a in range(size):
                    move[free[a]] = direction[a]
            gap = level
            rise = 0.0
            for i in range(n):
                gap -= normal[i] * x[i]
                rise += normal[i] * move[i]
            step = np.inf
            if not dependent and rise > 0.0:
                step = gap / rise
            released, kind = -1, 0
            for s in range(held):
                if relief[s] > 0.0:
                    reach = forces[in_force[s]] / relief[s]
                    if reach < step:
                        step, released, kind = reach, s, 1
            for i in range(n):
                if active[i] == 0 or low[i] == high[i]:
                    continue
                slope, change = gradient[i] - force * normal[i], -normal[i]
                for j in range(n):
                    slope += hessian[i, j] * x[j]
                    change += hessian[i, j] * move[j]
                for s in range(held):
                    k = in_force[s]
                    slope -= forces[k] * rows[k, i]
                    change += relief[s] * rows[k, i]
                push, fall = (slope, -change) if active[i] < 0 else (-slope, change)
                if fall > 0.0:
                    reach = max(0.0, push) / fall
                    if reach < step:
                        step, released, kind = reach, i, 2
            if step == np.inf:
                return INFEASIBLE
            step = max(step, 0.0)
            for i in range(n):
                x[i] += step * move[i]
            force += step
            for s in range(held):
                forces[in_force[s]] = max(0.0, forces[in_force[s]] - step * relief[s])
            if kind == 1:
                k = in_force[released]
                is_in_force[k] = 0
                forces[k] = 0.0
                held -= 1
                for s in range(released, held):
                    in_force[s] = in_force[s + 1]
            elif kind == 2:
                active[released] = 0
            else:
                met = True
                if chosen < count:
                    in_force[held] = chosen
                    is_in_force[chosen] = 1
                    forces[chosen] = force
                    held += 1
                else:
                    j = chosen - count
                    active[j] = -1 if normal[j] > 0.0 else 1
                    x[j] = low[j] if active[j] < 0 else high[j]
                break
        if not met:
            return TOO_MANY_PASSES
    return TOO_MANY_PASSES
