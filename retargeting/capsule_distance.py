"""Distances between capsules that ride on the bodies of a tree, and how the joints change them.

The distance of two capsules is that of their segments less both radii, negative where they overlap.
Its gradient is that of the closest points held fixed to their bodies, along the line between them
(the envelope theorem: the points' own motion on the segments changes the distance to second order).
"""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled, compiled_inside

# Segments closer than this have no direction between them.
SMALLEST_GAP_M = 1e-9


@compiled
def place_capsules(positions, rotations, bodies, starts, ends, placed_starts, placed_ends):  # type: ignore[no-untyped-def]
    """Fill the segments' ends ``(c, 3)`` in the root from those in the bodies."""
    for k in range(bodies.shape[0]):
        place_capsule(positions, rotations, bodies, starts, ends, placed_starts, placed_ends, k)


@compiled_inside
def place_capsule(positions, rotations, bodies, starts, ends, placed_starts, placed_ends, k):  # type: ignore[no-untyped-def]
    """Row k of `place_capsules`."""
    b = bodies[k]
    for r in range(3):
        start = end = positions[b, r]
        for c in range(3):
            start += rotations[b, r, c] * starts[k, c]
            end += rotations[b, r, c] * ends[k, c]
        placed_starts[k, r] = start
        placed_ends[k, r] = end


@compiled
def closest_points(a0, a1, b0, b1, on_a, on_b):  # type: ignore[no-untyped-def]
    """Fill `on_a`, `on_b` ``(3,)``, the closest points of the segments a0 a1 and b0 b1; their distance.

    The squared distance is a convex quadratic in the two parameters: its minimum in the unit square
    is the inner one, or on an edge, where the other parameter is a clipped projection.
    """
    aa = ab = bb = ar = br = 0.0
    for i in range(3):
        u, w, r = a1[i] - a0[i], b1[i] - b0[i], b0[i] - a0[i]
        aa += u * u
        ab += u * w
        bb += w * w
        ar += u * r
        br += w * r
    s = t = 0.0
    if aa > 1e-18 and bb > 1e-18:
        determinant = aa * bb - ab * ab
        # Nearly parallel: any point will do, the projections below correct it.
        if determinant > 1e-12 * aa * bb:
            s = min(1.0, max(0.0, (ar * bb - br * ab) / determinant))
        t = (s * ab - br) / bb
        if t < 0.0 or t > 1.0:
            t = min(1.0, max(0.0, t))
            s = min(1.0, max(0.0, (ar + t * ab) / aa))
    elif aa > 1e-18:
        s = min(1.0, max(0.0, ar / aa))
    elif bb > 1e-18:
        t = min(1.0, max(0.0, -br / bb))
    squared = 0.0
    for i in range(3):
        on_a[i] = a0[i] + s * (a1[i] - a0[i])
        on_b[i] = b0[i] + t * (b1[i] - b0[i])
        squared += (on_b[i] - on_a[i]) ** 2
    return np.sqrt(squared)


@compiled_inside
def distance_along(normal, a0, a1, b0, b1):  # type: ignore[no-untyped-def]
    """How far apart the segments are along the unit vector `normal` (a to b): at most their distance."""
    far_a0 = far_a1 = near_b0 = near_b1 = 0.0
    for i in range(3):
        far_a0 += normal[i] * a0[i]
        far_a1 += normal[i] * a1[i]
        near_b0 += normal[i] * b0[i]
        near_b1 += normal[i] * b1[i]
    return min(near_b0, near_b1) - max(far_a0, far_a1)


@compiled_inside
def _add_chain(  # type: ignore[no-untyped-def]
    tree, positions, rotations,
    body, common, point, normal, sign, gradient,
):  # fmt: skip
    """gradient += sign * d(normal . point)/dq over the joints from `common` (excluded) to `body`."""
    while body != common:
        c = tree.coordinates[body]
        if c >= 0:
            x, y, z = tree.axes[body, 0], tree.axes[body, 1], tree.axes[body, 2]
            ax = rotations[body, 0, 0] * x + rotations[body, 0, 1] * y + rotations[body, 0, 2] * z
            ay = rotations[body, 1, 0] * x + rotations[body, 1, 1] * y + rotations[body, 1, 2] * z
            az = rotations[body, 2, 0] * x + rotations[body, 2, 1] * y + rotations[body, 2, 2] * z
            if tree.prismatic[body]:
                value = normal[0] * ax + normal[1] * ay + normal[2] * az
            else:
                dx = point[0] - positions[body, 0]
                dy = point[1] - positions[body, 1]
                dz = point[2] - positions[body, 2]
                value = (
                    normal[0] * (ay * dz - az * dy)
                    + normal[1] * (az * dx - ax * dz)
                    + normal[2] * (ax * dy - ay * dx)
                )
            gradient[c] += sign * tree.multipliers[body] * value
        body = tree.parents[body]


@compiled
def distance_gradient(  # type: ignore[no-untyped-def]
    tree, positions, rotations,
    body_a, body_b, common, on_a, on_b, gradient,
):  # fmt: skip
    """Fill `gradient` ``(n,)`` with the change of the distance between `on_a` and `on_b` by each joint.

    common: the last body that carries both. All zero where the points coincide.
    """
    gradient[:] = 0.0
    x, y, z = on_b[0] - on_a[0], on_b[1] - on_a[1], on_b[2] - on_a[2]
    length = np.sqrt(x * x + y * y + z * z)
    if length < SMALLEST_GAP_M:
        return
    normal = (x / length, y / length, z / length)
    _add_chain(tree, positions, rotations, body_a, common, on_a, normal, -1.0, gradient)
    _add_chain(tree, positions, rotations, body_b, common, on_b, normal, 1.0, gradient)


@compiled
def pair_distances(placed_starts, placed_ends, radii, pairs, distances):  # type: ignore[no-untyped-def]
    """Fill `distances` ``(p,)`` (m) of the pairs ``(p, 2)`` of placed capsules."""
    on_a, on_b = np.empty(3), np.empty(3)
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        gap = closest_points(placed_starts[a], placed_ends[a], placed_starts[b], placed_ends[b], on_a, on_b)
        distances[p] = gap - radii[a] - radii[b]
