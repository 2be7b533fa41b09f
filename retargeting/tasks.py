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
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled, compiled_inside
from retargeting.kinematics import KinematicTree, TreeArrays, forward
from retargeting.packed import pack

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_NO_WAIST: Array = np.zeros(0)


class TaskArrays(NamedTuple):
    """Which points of a tree are asked for, and how much each matters; see `TaskLayout`.

    site_bodies ``(k,)`` rows of the tree, site_positions ``(k, 3)``, site_rotations ``(k, 3, 3)`` in the
    body, position_weights, orientation_weights ``(k,)``; from_bodies, to_bodies ``(d,)`` with
    from_positions, to_positions ``(d, 3)``, direction_weights ``(d,)``; posture_weights, posture ``(n,)``.
    Weights of 0 switch a task off. trunk ``(n,)``: joints that arms share.
    """

    site_bodies: IntArray
    site_positions: Array
    site_rotations: Array
    position_weights: Array
    orientation_weights: Array
    from_bodies: IntArray
    from_positions: Array
    to_bodies: IntArray
    to_positions: Array
    direction_weights: Array
    posture_weights: Array
    posture: Array
    trunk: NDArray[np.bool_]


class SolverTargets(NamedTuple):
    """Where the solver is asked to bring the robot, in its root link.

    positions ``(k, 3)``, rotations ``(k, 3, 3)`` of the sites, in the order of
    `retargeting.robot_tasks.POSE_SITES`; elbow_directions ``(d, 3)`` unit vectors shoulder to elbow (left,
    right), all zero where not known; waist ``(w,)``: where the first joints should rather be than in the
    neutral posture (none where it is empty).
    """

    positions: Array
    rotations: Array
    elbow_directions: Array
    waist: Array = _NO_WAIST


class QuadraticModel(NamedTuple):
    """The model at a configuration, hessian ``(n, n)`` and gradient ``(n,)``, and what is needed on the way.

    positions ``(b, 3)``, rotations ``(b, 3, 3)`` of the bodies; linear, angular, projected ``(3, n)``;
    support ``(n,)``; point, other, residual ``(3,)``; current ``(3, 3)``.
    """

    hessian: Array
    gradient: Array
    positions: Array
    rotations: Array
    linear: Array
    angular: Array
    projected: Array
    support: IntArray
    point: Array
    other: Array
    residual: Array
    current: Array

    @staticmethod
    def of_size(n: int, bodies: int) -> QuadraticModel:
        return QuadraticModel(
            np.empty((n, n)),
            np.empty(n),
            np.empty((bodies, 3)),
            np.empty((bodies, 3, 3)),
            np.zeros((3, n)),
            np.zeros((3, n)),
            np.zeros((3, n)),
            np.empty(n, dtype=np.int64),
            np.empty(3),
            np.empty(3),
            np.empty(3),
            np.empty((3, 3)),
        )


@dataclass(frozen=True)
class TaskLayout:
    """A tree and what is asked of its points."""

    tree: KinematicTree
    arrays: TaskArrays

    def site_poses(self, q: Array) -> tuple[Array, Array]:
        """Positions ``(k, 3)`` and rotations ``(k, 3, 3)`` of the sites in the root for q ``(n,)``."""
        places = np.empty((len(self.arrays.site_bodies), 3))
        turns = np.empty((len(self.arrays.site_bodies), 3, 3))
        _find_sites(self._packed, q, places, turns)
        return places, turns

    @cached_property
    def _packed(self) -> Any:
        return pack(_LayoutArrays(self.tree.arrays, self.arrays))


@compiled
def rotation_error(target, current, error):  # type: ignore[no-untyped-def]
    """Fill `error` ``(3,)`` with the rotation vector of ``target current^T`` (root axes, rad)."""
    t, c = target, current
    m00 = t[0, 0] * c[0, 0] + t[0, 1] * c[0, 1] + t[0, 2] * c[0, 2]
    m11 = t[1, 0] * c[1, 0] + t[1, 1] * c[1, 1] + t[1, 2] * c[1, 2]
    m22 = t[2, 0] * c[2, 0] + t[2, 1] * c[2, 1] + t[2, 2] * c[2, 2]
    m01 = t[0, 0] * c[1, 0] + t[0, 1] * c[1, 1] + t[0, 2] * c[1, 2]
    m10 = t[1, 0] * c[0, 0] + t[1, 1] * c[0, 1] + t[1, 2] * c[0, 2]
    m02 = t[0, 0] * c[2, 0] + t[0, 1] * c[2, 1] + t[0, 2] * c[2, 2]
    m20 = t[2, 0] * c[0, 0] + t[2, 1] * c[0, 1] + t[2, 2] * c[0, 2]
    m12 = t[1, 0] * c[2, 0] + t[1, 1] * c[2, 1] + t[1, 2] * c[2, 2]
    m21 = t[2, 0] * c[1, 0] + t[2, 1] * c[1, 1] + t[2, 2] * c[1, 2]
    x, y, z = m21 - m12, m02 - m20, m10 - m01
    sine = 0.5 * np.sqrt(x * x + y * y + z * z)
    cosine = 0.5 * (m00 + m11 + m22 - 1.0)
    angle = np.arctan2(sine, cosine)
    if sine > 1e-6:
        factor = 0.5 * angle / sine
        error[0], error[1], error[2] = factor * x, factor * y, factor * z
    elif cosine > 0.0:
        error[0], error[1], error[2] = 0.5 * x, 0.5 * y, 0.5 * z
    else:
        # Half a turn: the axis is the column of (R + 1)/2 that is longest.
        xy, yz, zx = 0.5 * (m01 + m10), 0.5 * (m12 + m21), 0.5 * (m20 + m02)
        if m00 >= m11 and m00 >= m22:
            x, y, z, longest = m00 + 1.0, xy, zx, m00
        elif m11 >= m22:
            x, y, z, longest = xy, m11 + 1.0, yz, m11
        else:
            x, y, z, longest = zx, yz, m22 + 1.0, m22
        factor = 0.5 * angle / np.sqrt(max(1e-12, 0.5 * (longest + 1.0)))
        error[0], error[1], error[2] = factor * x, factor * y, factor * z


@compiled_inside
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


@compiled_inside
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
            # Several joints may follow one coordinate.
            listed = False
            for k in range(count):
                listed = listed or support[k] == c
            if not listed:
                support[count] = c
                count += 1
        body = tree.parents[body]
    return count


@compiled_inside
def place_site(tasks, k, positions, rotations, point, current):  # type: ignore[no-untyped-def]
    """Fill `point` ``(3,)`` and `current` ``(3, 3)`` with the pose of site k, the bodies being placed."""
    body = tasks.site_bodies[k]
    for r in range(3):
        value = positions[body, r]
        for c in range(3):
            value += rotations[body, r, c] * tasks.site_positions[k, c]
        point[r] = value
        for c in range(3):
            value = 0.0
            for m in range(3):
                value += rotations[body, r, m] * tasks.site_rotations[k, m, c]
            current[r, c] = value


@compiled
def place_sites(tasks, positions, rotations, places, turns):  # type: ignore[no-untyped-def]
    """Fill `places` ``(k, 3)`` and `turns` ``(k, 3, 3)`` with the poses of all sites, see `place_site`."""
    for k in range(places.shape[0]):
        place_site(tasks, k, positions, rotations, places[k], turns[k])


class _LayoutArrays(NamedTuple):
    tree: TreeArrays
    tasks: TaskArrays


@compiled
def _find_sites(packed, q, places, turns):  # type: ignore[no-untyped-def]
    """See `TaskLayout.site_poses`."""
    tree, tasks = packed.content
    bodies = tree.parents.shape[0]
    positions, rotations = np.empty((bodies, 3)), np.empty((bodies, 3, 3))
    forward(tree, q, positions, rotations)
    place_sites(tasks, positions, rotations, places, turns)


@compiled
def quadratic_model(q, tree, tasks, targets, model):  # type: ignore[no-untyped-def]
    """Gauss-Newton model of the cost at q ``(n,)``, into a `QuadraticModel`; returns the cost.

    tree `TreeArrays`, tasks `TaskArrays`, targets `SolverTargets`.
    """
    n = q.shape[0]
    hessian, gradient, positions, rotations, linear, angular, projected = model[:7]
    support, point, other, residual, current = model[7:]
    forward(tree, q, positions, rotations)
    cost = 0.0
    for i in range(n):
        for j in range(n):
            hessian[i, j] = 0.0
        weight = tasks.posture_weights[i] * tasks.posture_weights[i]
        hessian[i, i] = weight
        gradient[i] = weight * (q[i] - tasks.posture[i])
        cost += 0.5 * weight * (q[i] - tasks.posture[i]) ** 2
    for k in range(tasks.site_bodies.shape[0]):
        if tasks.position_weights[k] == 0.0 and tasks.orientation_weights[k] == 0.0:
            continue
        body = tasks.site_bodies[k]
        place_site(tasks, k, positions, rotations, point, current)
        for r in range(3):
            residual[r] = point[r] - targets.positions[k, r]
        linear[:] = 0.0
        angular[:] = 0.0
        supported = point_jacobian(tree, positions, rotations, body, point, 1.0, linear, angular, support)
        weight = tasks.position_weights[k]
        if weight > 0.0:
            add_rows(linear, residual, weight, 3, hessian, gradient, support, supported)
            cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
        weight = tasks.orientation_weights[k]
        if weight > 0.0:
            rotation_error(targets.rotations[k], current, residual)
            for r in range(3):
                residual[r] = -residual[r]
            add_rows(angular, residual, weight, 3, hessian, gradient, support, supported)
            cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
    for d in range(tasks.from_bodies.shape[0]):
        weight = tasks.direction_weights[d]
        known = targets.elbow_directions[d]
        if weight == 0.0 or (known[0] == 0.0 and known[1] == 0.0 and known[2] == 0.0):
            continue
        for r in range(3):
            a = positions[tasks.from_bodies[d], r]
            b = positions[tasks.to_bodies[d], r]
            for c in range(3):
                a += rotations[tasks.from_bodies[d], r, c] * tasks.from_positions[d, c]
                b += rotations[tasks.to_bodies[d], r, c] * tasks.to_positions[d, c]
            other[r] = a
            point[r] = b
        length = np.sqrt((point[0] - other[0]) ** 2 + (point[1] - other[1]) ** 2 + (point[2] - other[2]) ** 2)
        if length < 1e-6:
            continue
        linear[:] = 0.0
        angular[:] = 0.0
        point_jacobian(
            tree, positions, rotations, tasks.from_bodies[d], other, -1.0, linear, angular, support
        )
        supported = point_jacobian(
            tree, positions, rotations,
            tasks.to_bodies[d], point, 1.0, linear, angular, support,
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
            ux - targets.elbow_directions[d, 0],
            uy - targets.elbow_directions[d, 1],
            uz - targets.elbow_directions[d, 2],
        )
        add_rows(projected, residual, weight, 3, hessian, gradient, support, supported)
        cost += 0.5 * weight * weight * (residual[0] ** 2 + residual[1] ** 2 + residual[2] ** 2)
    return cost
