"""What the solver is asked to do, as arrays, and the quadratic model of it at a configuration.

The cost is half the weighted sum of squares of these residuals:

- pose task k: position error (m) of a site, times `position_weights[k]`; orientation error, the
  rotation vector (rad) from the site to its target in root axes, times `orientation_weights[k]`
  (m/rad: how many metres one radian is worth);
- direction task d: difference of unit vectors from one point to another (shoulder to elbow) and the
  wanted one, times `direction_weights[d]` (m);
- posture: ``q - posture`` (rad), times `posture_weights` (m/rad) per joint.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from retargeting.kinematics import KinematicTree, forward

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class TaskLayout:
    """Which points of the tree are asked for, and how much each matters.

    sites ``(k,)`` body rows, site_positions ``(k, 3)``, site_rotations ``(k, 3, 3)`` in the body;
    from_bodies, to_bodies ``(d,)`` with from_positions, to_positions ``(d, 3)``.
    """

    tree: KinematicTree
    site_bodies: IntArray
    site_positions: Array
    site_rotations: Array
    position_weights: Array
    orientation_weights: Array
    from_bodies: IntArray
    from_positions: Array
    to_bodies: IntArray
    to_positions: Array
    posture_weights: Array

    def site_poses(self, q: Array) -> tuple[Array, Array]:
        """Positions ``(k, 3)`` and rotations ``(k, 3, 3)`` of the sites in the root for q ``(n,)``."""
        positions, rotations = self.tree.body_poses(q)
        body_rotations = rotations[self.site_bodies]
        where = positions[self.site_bodies] + np.einsum("kij,kj->ki", body_rotations, self.site_positions)
        return where, body_rotations @ self.site_rotations


@numba.njit(cache=True)
def rotation_error(target, current, error):  # type: ignore[no-untyped-def]
    """Fill `error` ``(3,)`` with the rotation vector of ``target current^T`` (root axes, rad)."""
    m = np.empty((3, 3))
    for r in range(3):
        for c in range(3):
            value = 0.0
            for k in range(3):
                value += target[r, k] * current[c, k]
            m[r, c] = value
    x, y, z = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    sine = 0.5 * np.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (m[0, 0] + m[1, 1] + m[2, 2] - 1.0)
    angle = np.arctan2(sine, cosine)
    if sine > 1e-6:
        factor = 0.5 * angle / sine
        error[0], error[1], error[2] = factor * x, factor * y, factor * z
    elif cosine > 0.0:
        error[0], error[1], error[2] = 0.5 * x, 0.5 * y, 0.5 * z
    else:
        # Half a turn: the axis is the column of (R + 1)/2 that is longest.
        best = 0
        for i in range(1, 3):
            if m[i, i] > m[best, best]:
                best = i
        norm = np.sqrt(max(1e-12, 0.5 * (m[best, best] + 1.0)))
        for i in range(3):
            diagonal = 1.0 if i == best else 0.0
            error[i] = angle * 0.5 * (0.5 * (m[i, best] + m[best, i]) + diagonal) / norm


@numba.njit(cache=True)
def add_rows(jacobian, residual, weight, count, hessian, gradient, support, supported):  # type: ignore[no-untyped-def]
    """hessian += w² J'J, gradient += w² J'r over the coordinates in `support`."""
    squared = weight * weight
    for a in range(supported):
        i = support[a]
        total = 0.0
        for r in range(count):
            total += jacobian[r, i] * residual[r]
        gradient[i] += squared * total
        for b in range(a + 1):
            j = support[b]
            value = 0.0
            for r in range(count):
                value += jacobian[r, i] * jacobian[r, j]
            hessian[i, j] += squared * value
            if i != j:
                hessian[j, i] += squared * value


@numba.njit(cache=True)
def point_jacobian(  # type: ignore[no-untyped-def]
    tree,
    positions,
    rotations,
    body,
    point,
    sign,
    linear,
    angular,
    support,
):
    """Add ``sign`` times the Jacobian of a point of `body` to `linear`, `angular` ``(3, n)`` (root axes).

    Fills `support` with the coordinates that move the body and returns how many there are.
    """
    count = 0
    while body >= 0:
        c = tree.coordinates[body]
        if c >= 0:
            x, y, z = tree.axes[body, 0], tree.axes[body, 1], tree.axes[body, 2]
            factor = sign * tree.multipliers[body]
            ax = factor * (rotations[body, 0, 0] * x + rotations[body, 0, 1] * y + rotations[body, 0, 2] * z)
            ay = factor * (rotations[body, 1, 0] * x + rotations[body, 1, 1] * y + rotations[body, 1, 2] * z)
            az = factor * (rotations[body, 2, 0] * x + rotations[body, 2, 1] * y + rotations[body, 2, 2] * z)
            if tree.prismatic[body]:
                linear[0, c] += ax
                linear[1, c] += ay
                linear[2, c] += az
            else:
                dx = point[0] - positions[body, 0]
                dy = point[1] - positions[body, 1]
                dz = point[2] - positions[body, 2]
                linear[0, c] += ay * dz - az * dy
                linear[1, c] += az * dx - ax * dz
                linear[2, c] += ax * dy - ay * dx
                angular[0, c] += ax
                angular[1, c] += ay
                angular[2, c] += az
            support[count] = c
            count += 1
        body = tree.parents[body]
    return count


@numba.njit(cache=True)
def quadratic_model(  # type: ignore[no-untyped-def]
    q,
    tree,
    site_bodies,
    site_positions,
    site_rotations,
    position_weights,
    orientation_weights,
    from_bodies,
    from_positions,
    to_bodies,
    to_positions,
    posture_weights,
    target_positions,
    target_rotations,
    directions,
    direction_weights,
    posture,
    positions,
    rotations,
    hessian,
    gradient,
):
    """Gauss-Newton model of the cost at q: fill `hessian` ``(n, n)``, `gradient` ``(n,)``; returns the cost.

    positions, rotations are work space for the bodies. Weights of 0 switch a task off.
    """
    n = q.shape[0]
    forward(tree, q, positions, rotations)
    cost = 0.0
    for i in range(n):
        for j in range(n):
            hessian[i, j] = 0.0
        weight = posture_weights[i] * posture_weights[i]
        hessian[i, i] = weight
        gradient[i] = weight * (q[i] - posture[i])
        cost += 0.5 * weight * (q[i] - posture[i]) ** 2
    linear = np.zeros((3, n))
    angular = np.zeros((3, n))
    support = np.empty(n, dtype=np.int64)
    point = np.empty(3)
    other = np.empty(3)
    residual = np.empty(3)
    current = np.empty((3, 3))
    for k in range(site_bodies.shape[0]):
        if position_weights[k] == 0.0 and orientation_weights[k] == 0.0:
            continue
        body = site_bodies[k]
        for r in range(3):
            value = positions[body, r]
            for c in range(3):
                value += rotations[body, r, c] * site_positions[k, c]
            point[r] = value
            residual[r] = value - target_positions[k, r]
            for c in range(3):
                value = 0.0
                for m in range(3):
                    value += rotations[body, r, m] * site_rotations[k, m, c]
                current[r, c] = value
        linear[:] = 0.0
        angular[:] = 0.0
        supported = point_jacobian(tree, positions, rotations, body, point, 1.0, linear, angular, support)
        weight = position_weights[k]
        if weight > 0.0:
            add_rows(linear, residual, weight, 3, hessian, gradient, support, supported)
            cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
        weight = orientation_weights[k]
        if weight > 0.0:
            rotation_error(target_rotations[k], current, residual)
            for r in range(3):
                residual[r] = -residual[r]
            add_rows(angular, residual, weight, 3, hessian, gradient, support, supported)
            cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
    projected = np.zeros((3, n))
    for d in range(from_bodies.shape[0]):
        weight = direction_weights[d]
        if weight == 0.0:
            continue
        for r in range(3):
            a = positions[from_bodies[d], r]
            b = positions[to_bodies[d], r]
            for c in range(3):
                a += rotations[from_bodies[d], r, c] * from_positions[d, c]
                b += rotations[to_bodies[d], r, c] * to_positions[d, c]
            other[r] = a
            point[r] = b
        length = np.sqrt((point[0] - other[0]) ** 2 + (point[1] - other[1]) ** 2 + (point[2] - other[2]) ** 2)
        if length < 1e-6:
            continue
        linear[:] = 0.0
        angular[:] = 0.0
        point_jacobian(tree, positions, rotations, from_bodies[d], other, -1.0, linear, angular, support)
        supported = point_jacobian(
            tree, positions, rotations,
            to_bodies[d], point, 1.0, linear, angular, support,
        )  # fmt: skip
        ux, uy, uz = (
            (point[0] - other[0]) / length,
            (point[1] - other[1]) / length,
            (point[2] - other[2]) / length,
        )
        for a in range(supported):
            i = support[a]
            along = ux * linear[0, i] + uy * linear[1, i] + uz * linear[2, i]
            projected[0, i] = (linear[0, i] - along * ux) / length
            projected[1, i] = (linear[1, i] - along * uy) / length
            projected[2, i] = (linear[2, i] - along * uz) / length
        residual[0], residual[1], residual[2] = (
            ux - directions[d, 0],
            uy - directions[d, 1],
            uz - directions[d, 2],
        )
        add_rows(projected, residual, weight, 3, hessian, gradient, support, supported)
        cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
    return cost
