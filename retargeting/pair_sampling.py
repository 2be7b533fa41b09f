"""How near pairs of capsules come in sampled postures, and down a descent from there."""

from __future__ import annotations

import numpy as np

from retargeting.capsule_distance import closest_points, distance_gradient, place_capsules
from retargeting.compiled import compiled
from retargeting.kinematics import forward

# The descent from a sampled posture: first and smallest step (rad or m), and how often it looks.
_FIRST_STEP, _SMALLEST_STEP, _LOOKS = 0.3, 0.005, 40
# More than rounding makes of a bound.
_ROUNDING_M = 1e-9


@compiled
def _surely_over(a0, a1, b0, b1, limit):  # type: ignore[no-untyped-def]
    """Whether balls around the segments a0 a1 and b0 b1 are farther apart than `limit`."""
    between = first = second = 0.0
    for r in range(3):
        middle, u, w = a0[r] + a1[r] - b0[r] - b1[r], a1[r] - a0[r], b1[r] - b0[r]
        between, first, second = between + middle * middle, first + u * u, second + w * w
    # All twice as long.
    return np.sqrt(between) - np.sqrt(first) - np.sqrt(second) > 2.0 * limit


@compiled
def sample_distances(  # type: ignore[no-untyped-def]
    tree,
    bodies, starts, ends, radii, pairs, postures, margin, least, nearest, closer,
):  # fmt: skip
    """Over `postures` ``(k, n)``: each pair's least distance, in which, how often it is under the margin."""
    positions, rotations = np.empty((tree.parents.shape[0], 3)), np.empty((tree.parents.shape[0], 3, 3))
    placed_starts, placed_ends = np.empty(starts.shape), np.empty(ends.shape)
    on_a, on_b = np.empty(3), np.empty(3)
    least[:] = np.inf
    closer[:] = 0
    for k in range(postures.shape[0]):
        forward(tree, postures[k], positions, rotations)
        place_capsules(positions, rotations, bodies, starts, ends, placed_starts, placed_ends)
        for p in range(pairs.shape[0]):
            a, b = pairs[p, 0], pairs[p, 1]
            told = max(least[p], margin) + radii[a] + radii[b] + _ROUNDING_M
            a0, a1, b0, b1 = placed_starts[a], placed_ends[a], placed_starts[b], placed_ends[b]
            if _surely_over(a0, a1, b0, b1, told):
                continue
            distance = closest_points(a0, a1, b0, b1, on_a, on_b) - radii[a] - radii[b]
            if distance < least[p]:
                least[p], nearest[p] = distance, k
            if distance < margin:
                closer[p] += 1


@compiled
def descend_distances(  # type: ignore[no-untyped-def]
    tree, bodies, starts, ends, radii, pairs, common, postures, lower, upper, enough, least, nearest
):  # fmt: skip
    """Lower `least` ``(p,)`` by steepest descent from each pair's nearest posture, until it is `enough`."""
    positions, rotations = np.empty((tree.parents.shape[0], 3)), np.empty((tree.parents.shape[0], 3, 3))
    placed_starts, placed_ends = np.empty(starts.shape), np.empty(ends.shape)
    on_a, on_b = np.empty(3), np.empty(3)
    n = lower.shape[0]
    gradient, q = np.empty(n), np.empty(n)
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        here = postures[nearest[p]].copy()
        step = 0.0
        for look in range(_LOOKS):
            if least[p] <= enough:
                break
            if look > 0:
                if step < _SMALLEST_STEP:
                    break
                for i in range(n):
                    q[i] = min(max(here[i] - step * gradient[i], lower[i]), upper[i])
            else:
                q[:] = here
            forward(tree, q, positions, rotations)
            place_capsules(positions, rotations, bodies, starts, ends, placed_starts, placed_ends)
            gap = closest_points(
                placed_starts[a], placed_ends[a], placed_starts[b], placed_ends[b], on_a, on_b
            )
            distance = gap - radii[a] - radii[b]
            if look > 0 and distance >= least[p] - 1e-6:
                step *= 0.4
                continue
            here[:] = q
            least[p] = distance
            step = _FIRST_STEP if look == 0 else 1.5 * step
            distance_gradient(
                tree, positions, rotations, bodies[a], bodies[b], common[p], on_a, on_b, gradient
            )
            # Joints at a limit take no part; the one that helps most moves by `step`.
            largest = 0.0
            for i in range(n):
                if (gradient[i] > 0.0 and q[i] <= lower[i]) or (gradient[i] < 0.0 and q[i] >= upper[i]):
                    gradient[i] = 0.0
                largest = max(largest, abs(gradient[i]))
            if largest == 0.0:
                break
            for i in range(n):
                gradient[i] /= largest
