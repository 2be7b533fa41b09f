"""Exact minimum of a strictly convex quadratic inside a box, by a primal active-set method.

minimise  0.5 x' H x + g' x   subject to  low <= x <= high.

Each pass solves on the variables that are off their bounds (Cholesky), walks to the first bound in
the way, or frees the variable whose multiplier has the wrong sign (Nocedal & Wright, Numerical
Optimization, 16.5). The objective falls in every pass, so no set of active bounds occurs twice.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled

Array = NDArray[np.float64]

SOLVED = 0
NOT_POSITIVE_DEFINITE = 1
TOO_MANY_PASSES = 2


class BoxQpWork(NamedTuple):
    """Room for problems of up to `n` variables: factor ``(n, n)``, direction, free, active ``(n,)``.

    `active` is left as it is at the minimum: -1 at low, 1 at high, 0 free.
    """

    factor: Array
    direction: Array
    free: NDArray[np.int64]
    active: NDArray[np.int64]

    @staticmethod
    def of_size(n: int) -> BoxQpWork:
        whole = np.dtype(np.int64)
        return BoxQpWork(np.empty((n, n)), np.empty(n), np.empty(n, dtype=whole), np.empty(n, dtype=whole))


@compiled
def list_free(active, free, n):  # type: ignore[no-untyped-def]
    """Fill `free` with the variables of the first `n` that are off their bounds; how many there are."""
    size = 0
    for i in range(n):
        if active[i] == 0:
            free[size] = i
            size += 1
    return size


@compiled
def cholesky_solve(matrix, vector, size):  # type: ignore[no-untyped-def]
    """Solve the leading ``size`` system in place (solution into `vector`); False if it is not SPD."""
    for i in range(size):
        for j in range(i + 1):
            value = matrix[i, j]
            for k in range(j):
                value -= matrix[i, k] * matrix[j, k]
            if i == j:
                if not value > 0.0:
                    return False
                matrix[i, i] = np.sqrt(value)
            else:
                matrix[i, j] = value / matrix[j, j]
    for i in range(size):
        value = vector[i]
        for k in range(i):
            value -= matrix[i, k] * vector[k]
        vector[i] = value / matrix[i, i]
    for i in range(size - 1, -1, -1):
        value = vector[i]
        for k in range(i + 1, size):
            value -= matrix[k, i] * vector[k]
        vector[i] = value / matrix[i, i]
    return True


@compiled
def solve_box_qp(hessian, gradient, low, high, x, work):  # type: ignore[no-untyped-def]
    """Improve `x` (the start, clipped into the box) to the minimum, in place.

    hessian ``(n, n)`` symmetric positive definite; gradient, low, high, x ``(n,)``; work a
    `BoxQpWork`. Returns SOLVED, NOT_POSITIVE_DEFINITE or TOO_MANY_PASSES (then x is feasible, but not
    the minimum).
    """
    n = x.shape[0]
    factor, direction, free, active = work
    for i in range(n):
        active[i] = 0
        if x[i] <= low[i]:
            x[i] = low[i]
            active[i] = -1
        elif x[i] >= high[i]:
            x[i] = high[i]
            active[i] = 1
    scale = 0.0
    for i in range(n):
        scale = max(scale, abs(gradient[i]), hessian[i, i] * (high[i] - low[i]))
    tolerance = 1e-13 * max(scale, 1e-300)
    for _ in range(20 * n + 20):
        size = list_free(active, free, n)
        for a in range(size):
            i = free[a]
            value = gradient[i]
            for j in range(n):
                value += hessian[i, j] * x[j]
            direction[a] = -value
            for b in range(a + 1):
                factor[a, b] = hessian[i, free[b]]
        if not cholesky_solve(factor, direction, size):
            return NOT_POSITIVE_DEFINITE
        step, blocking = 1.0, -1
        for a in range(size):
            i = free[a]
            if direction[a] > 0.0:
                room = high[i] - x[i]
                if direction[a] * step > room:
                    step, blocking = room / direction[a], a
            elif direction[a] < 0.0:
                room = low[i] - x[i]
                if direction[a] * step < room:
                    step, blocking = room / direction[a], a
        for a in range(size):
            x[free[a]] += step * direction[a]
        if blocking >= 0:
            i = free[blocking]
            active[i] = 1 if direction[blocking] > 0.0 else -1
            x[i] = high[i] if active[i] == 1 else low[i]
            continue
        worst, release = tolerance, -1
        for i in range(n):
            if active[i] == 0 or low[i] == high[i]:
                continue
            value = gradient[i]
            for j in range(n):
                value += hessian[i, j] * x[j]
            push = value if active[i] == 1 else -value
            if push > worst:
                worst, release = push, i
        if release < 0:
            return SOLVED
        active[release] = 0
    return TOO_MANY_PASSES
