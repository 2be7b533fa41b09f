"""The next velocity that keeps every pair of capsules its margin apart, now and until it has stopped.

Each published state carries a way to stop that keeps all margins: joint i slows down evenly over its
stop time ``T_i``, at ``|v_i| / T_i <= a_i``. Joints that move a pair which comes near share one stop
time, so they stop along a straight line ``q + s v``, ``0 <= s <= T / 2``, in joint space; that line is
the same whatever the lengths of the ticks are, so a stop begun is a stop that can be finished.
A velocity is taken only if its own stop is proved: then no margin, position limit or acceleration
limit ever gives way to another.

The proof, for a velocity v of this tick:

- a pair is far if its distance exceeds the margin by more than both capsules can move until they
  stand (levers times joint motion), however the joints stop;
- for the others, all joints that move one stop along the line. Along a fixed direction two convex bodies
  are never farther apart than their distance, and along the normal at the line's start they are as far
  apart as the ends of their segments, whose first and second derivatives are known there. The third is at
  most ``sum_ijk |v_i v_j v_k| r_k``. Where curving apart is left out, the bound is concave in s, so it is
  least at one end of the line. For pairs seen by themselves the same with their own joints only, and
  ``C = sum_ij |v_i v_j| r_j`` for the second derivative;
- where that does not do, the line is sampled. Between two samples a capsule's point strays from its chord
  by at most ``C ds^2 / 8``, so the distance in between is at least the smaller of the two ends' along one
  end's normal, less that;
- a joint that must stop earlier, to keep its own limit, leaves the line: after the same share of the
  stop it has moved ``v (t - t^2 / 2 T_i)``, up to ``|v| h / 2`` for ticks of at most h, and ``s`` to
  that is concave, so it strays from its chord by at most a quarter of the change of slope times ds.

The velocity itself is the nearest to the wanted one under linear rows (`retargeting.row_qp`): where its
stop comes too near, the pair's distance at the worst point of the line becomes a row, and again. At
the last, part of it or the stop carried along is taken. Where the box cannot meet all rows, they are
relaxed to what that stop does, which is inside the box: then the problem is feasible.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED
from retargeting.capsule_distance import (
    closest_points,
    distance_along,
    distance_gradient,
    place_capsule,
    place_capsules,
)
from retargeting.compiled import compiled_inside
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays, forward, place_body
from retargeting.row_qp import INFEASIBLE, RowQpWork, solve_row_qp

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

# Stops use this share of the acceleration limits, so that rows can be met within them.
STOP_SHARE = 0.6
# Rows brake as if the stop went on for this share of its time at full speed; 0.5 is what it takes.
EARLY = 0.8
# Rows that one tick may hold; more pairs than these are met by stopping.
MOST_ROWS = 32
# Pairs this close above their margin get a row before their stop fails.
ROW_GAP_M, FINE_ROW_GAP_M = 0.02, 0.006
# The same for the goal, whose steps are longer. Of finer capsules many are near, and the nearest count.
GOAL_ROW_GAP_M, FINE_GOAL_ROW_GAP_M = 0.04, 0.012
# Segments whose directions agree by this (cosine squared) lie along each other.
_ALONG = 0.5
# Joints in one word of `Hull.movers`.
_BITS = 62
# Distances up to this are reported.
REPORTED_M = 0.05
# The line is cut into at most so many pieces, and no smaller where a piece strays by less than this.
_MOST_PIECES, _STRAY_M = 16, 1e-4
# Rows ask for this much more than the proof, so that the next proof does not fail by rounding.
_SPARE_M = 2e-5
# Velocities that are tried: so many by rows, then so many shares of the way to the stop, the last 0.
_PROOFS, _SHARES = 4, 5


class Hull(NamedTuple):
    """Capsules and pairs as in `CollisionModel`; spheres ``(c,)``: radii of the balls around them.

    movers ``(p, words)``: a bit for each joint that moves one of a pair against the other; full_m, goal_m
    ``(p,)`` (m): what a pair keeps, and what the goal keeps of it; short_m ``(p,)``: by how much full_m is
    less than the robot's margin; look_m, goal_look_m ``(p,)``: pairs with less room than that get a row.
    """

    bodies: IntArray
    starts: Array
    ends: Array
    radii: Array
    pairs: IntArray
    common: IntArray
    levers: Array
    turns: Array
    spheres: Array
    movers: IntArray
    full_m: Array
    goal_m: Array
    short_m: Array
    look_m: Array
    goal_look_m: Array


def joint_bits(flags: NDArray[np.bool_]) -> IntArray:
    """``(k, n)`` flags of joints as bits ``(k, words)``, see `Hull.movers`."""
    words = np.zeros((len(flags), flags.shape[1] // _BITS + 1), dtype=np.int64)
    for i in range(flags.shape[1]):
        words[:, i // _BITS] |= flags[:, i].astype(np.int64) << (i % _BITS)
    return words


class LineSamples(NamedTuple):
    """What is placed at the samples of the line, `k` of them, where a pair asked for it (`placed`).

    positions ``(k, b, 3)``, rotations ``(k, b, 3, 3)``, starts, ends ``(k, c, 3)``. Of one pair: looked
    ``(k,)``, apart ``(k,)``, normals, on_a, on_b ``(k, 3)``, seen ``(k, 4, 3)``; intervals ``(k, 2)``.
    needed_bodies ``(b,)``, needed_capsules ``(c,)``: of the pairs that are sampled at all.
    """

    placed: NDArray[np.int8]
    positions: Array
    rotations: Array
    starts: Array
    ends: Array
    looked: NDArray[np.int8]
    apart: Array
    normals: Array
    on_a: Array
    on_b: Array
    seen: Array
    intervals: IntArray
    needed_bodies: NDArray[np.int8]
    needed_capsules: NDArray[np.int8]

    @staticmethod
    def of_size(bodies: int, capsules: int) -> LineSamples:
        k = _MOST_PIECES + 1
        return LineSamples(
            np.zeros(k, dtype=np.int8),
            np.empty((k, bodies, 3)),
            np.empty((k, bodies, 3, 3)),
            np.empty((k, capsules, 3)),
            np.empty((k, capsules, 3)),
            np.zeros(k, dtype=np.int8),
            np.empty(k),
            np.empty((k, 3)),
            np.empty((k, 3)),
            np.empty((k, 3)),
            np.empty((k, 4, 3)),
            np.empty((k, 2), dtype=np.int64),
            np.zeros(bodies, dtype=np.int8),
            np.zeros(capsules, dtype=np.int8),
        )


class ProofWork(NamedTuple):
    """Room for a proof: poses of bodies and capsules at its start, near pairs ``(p,)``, joints ``(n,)``.

    spins, drifts ``(b, 3)``: angular velocity, and velocity at the root's origin; spin_changes,
    drift_changes: how they change along the line; start_leads, end_leads ``(c, 3)``: how far a capsule's
    ends get at these velocities, start_curves, end_curves by their change; bends ``(c,)``: bound of the rest.
    lined ``(p,)``: pairs proved on the line at once; shared, early ``(words,)``: joints on the line,
    and those of them that stop before its end, as in `Hull.movers`.
    """

    positions: Array
    rotations: Array
    starts: Array
    ends: Array
    spins: Array
    drifts: Array
    spin_changes: Array
    drift_changes: Array
    start_leads: Array
    end_leads: Array
    start_curves: Array
    end_curves: Array
    bends: Array
    lined: IntArray
    shared: IntArray
    early: IntArray
    sway: Array
    near: IntArray
    gaps: Array
    strays: Array
    normals: Array
    seen: Array
    reach: Array
    shares: IntArray
    line: Array
    pace: Array
    at: Array
    gradient: Array
    unused: Array
    samples: LineSamples

    @staticmethod
    def of_size(n: int, bodies: int, capsules: int, pairs: int, words: int) -> ProofWork:
        return ProofWork(
            np.empty((bodies, 3)),
            np.empty((bodies, 3, 3)),
            np.empty((capsules, 3)),
            np.empty((capsules, 3)),
            np.empty((bodies, 3)),
            np.empty((bodies, 3)),
            np.empty((bodies, 3)),
            np.empty((bodies, 3)),
            np.empty((capsules, 3)),
            np.empty((capsules, 3)),
            np.empty((capsules, 3)),
            np.empty((capsules, 3)),
            np.empty(capsules),
            np.empty(pairs, dtype=np.int64),
            np.empty(words, dtype=np.int64),
            np.empty(words, dtype=np.int64),
            np.empty(capsules),
            np.empty(pairs, dtype=np.int64),
            np.empty(pairs),
            np.empty(pairs),
            np.empty((pairs, 3)),
            np.empty((pairs, 4, 3)),
            np.empty(n),
            np.empty(n, dtype=np.int64),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            np.empty(MOST_ROWS),
            LineSamples.of_size(bodies, capsules),
        )


class SteepRows(NamedTuple):
    """Rows ``(r, n)`` that a failed proof asks for: room (m), how long v leads there (s), pair of each."""

    rows: Array
    gaps: Array
    leads: Array
    owners: IntArray


class VelocityWork(NamedTuple):
    """Room for the search of a velocity: joints ``(n,)`` and rows."""

    stop: Array
    stop_times: Array
    at: Array
    steep: SteepRows
    row_set: Array
    row_values: Array
    gradient: Array
    qp: RowQpWork

    @staticmethod
    def of_size(n: int) -> VelocityWork:
        return VelocityWork(
            np.empty(n),
            np.empty(n),
            np.empty(n),
            SteepRows(
                np.empty((MOST_ROWS, n)),
                np.empty(MOST_ROWS),
                np.empty(MOST_ROWS),
                np.empty(MOST_ROWS, dtype=np.int64),
            ),
            np.empty((4 * MOST_ROWS, n)),
            np.empty(4 * MOST_ROWS),
            np.empty(n),
            RowQpWork.of_size(n, 4 * MOST_ROWS),
        )


@compiled_inside
def _keep_row(gradient, gap, lead, pair, rows, gaps, leads, owners, count):  # type: ignore[no-untyped-def]
    """Add a row, or replace the one with most room where there is no place left; the new count."""
    place = count
    if count >= rows.shape[0]:
        place = 0
        for k in range(1, count):
            if gaps[k] > gaps[place]:
                place = k
        if gaps[place] <= gap:
            return count
    else:
        count += 1
    rows[place] = gradient
    gaps[place], leads[place], owners[place] = gap, lead, pair
    return count


@compiled_inside
def _has_place(gap, gaps, count):  # type: ignore[no-untyped-def]
    """Whether `_keep_row` would keep a row of this gap; the gradient need not be known for that."""
    if count < gaps.shape[0]:
        return True
    largest = gap
    for k in range(count):
        largest = max(largest, gaps[k])
    return largest > gap


@compiled_inside
def _own_motion(  # type: ignore[no-untyped-def]
    tree, levers, turns, capsule, body, common, line, reach
):
    """How a capsule moves against the body `common`: (bound of the second derivative along `line`, sway).

    `sway`: the farthest its points go while the joints move by `reach`.
    """
    turn = speed = sway = 0.0
    while body != common:
        c = tree.coordinates[body]
        if c >= 0:
            turn += turns[capsule, c] * abs(line[c])
            speed += levers[capsule, c] * abs(line[c])
            sway += levers[capsule, c] * reach[c]
        body = tree.parents[body]
    return turn * speed, sway


@compiled_inside
def _seen_from(positions, rotations, body, point, seen):  # type: ignore[no-untyped-def]
    """Fill `seen` ``(3,)`` with the point in the axes of `body`."""
    x, y, z = point[0] - positions[body, 0], point[1] - positions[body, 1], point[2] - positions[body, 2]
    for c in range(3):
        seen[c] = rotations[body, 0, c] * x + rotations[body, 1, c] * y + rotations[body, 2, c] * z


@compiled_inside
def _room(q, v, lower, upper):  # type: ignore[no-untyped-def]
    """How far a joint may go on in the direction of its velocity."""
    return max(0.0, upper - q if v > 0.0 else q - lower)


@compiled_inside
def _rate(share, shared_stop, own_stop):  # type: ignore[no-untyped-def]
    """Speed of a joint that stops earlier against those of the shared stop, after a share of it."""
    time = share * shared_stop
    return 0.0 if time >= own_stop or share >= 1.0 else (1.0 - time / own_stop) / (1.0 - share)


@compiled_inside
def _ends_by(tree, positions, rotations, body, common, line, normal, start, end, half, largest):  # type: ignore[no-untyped-def]
    """How far along `normal` a segment's ends are after `half` of the line at their present speeds.

    The largest of both, or the smallest; speeds are those against the body `common`.
    """
    wx = wy = wz = vx = vy = vz = 0.0
    while body != common:
        c = tree.coordinates[body]
        if c >= 0:
            rate = tree.multipliers[body] * line[c]
            if rate != 0.0:
                x, y, z = tree.axes[body, 0], tree.axes[body, 1], tree.axes[body, 2]
                ax = rotations[body, 0, 0] * x + rotations[body, 0, 1] * y + rotations[body, 0, 2] * z
                ay = rotations[body, 1, 0] * x + rotations[body, 1, 1] * y + rotations[body, 1, 2] * z
                az = rotations[body, 2, 0] * x + rotations[body, 2, 1] * y + rotations[body, 2, 2] * z
                if tree.prismatic[body]:
                    vx, vy, vz = vx + rate * ax, vy + rate * ay, vz + rate * az
                else:
                    px, py, pz = positions[body, 0], positions[body, 1], positions[body, 2]
                    wx, wy, wz = wx + rate * ax, wy + rate * ay, wz + rate * az
                    vx += rate * (az * py - ay * pz)
                    vy += rate * (ax * pz - az * px)
                    vz += rate * (ay * px - ax * py)
        body = tree.parents[body]
    # normal . (w x p) = (normal x w) . p
    tx = normal[0] + half * (normal[1] * wz - normal[2] * wy)
    ty = normal[1] + half * (normal[2] * wx - normal[0] * wz)
    tz = normal[2] + half * (normal[0] * wy - normal[1] * wx)
    shift = half * (normal[0] * vx + normal[1] * vy + normal[2] * vz)
    first = tx * start[0] + ty * start[1] + tz * start[2] + shift
    second = tx * end[0] + ty * end[1] + tz * end[2] + shift
    return max(first, second) if largest else min(first, second)


@compiled_inside
def _place_sample(tree, hull, limits, q, k, half, shared_stop, stop_times, work):  # type: ignore[no-untyped-def]
    """Place the needed bodies and capsules where the k-th sample of the line is."""
    samples = work.samples
    s, until = half * k / _MOST_PIECES, 1.0 - np.sqrt(1.0 - k / _MOST_PIECES)
    for i in range(q.shape[0]):
        moved = s * work.line[i]
        if work.shares[i] == 2:
            own = stop_times[i]
            time = min(until * shared_stop, own)
            moved = work.line[i] * time * (1.0 - 0.5 * time / own)
        work.at[i] = min(max(q[i] + moved, limits.lower[i]), limits.upper[i])
    positions, rotations = samples.positions[k], samples.rotations[k]
    for body in range(samples.needed_bodies.shape[0]):
        if samples.needed_bodies[body]:
            place_body(tree, body, work.at, positions, rotations)
    starts, ends = samples.starts[k], samples.ends[k]
    for c in range(samples.needed_capsules.shape[0]):
        if samples.needed_capsules[c]:
            place_capsule(positions, rotations, hull.bodies, hull.starts, hull.ends, starts, ends, c)
    samples.placed[k] = 1


@compiled_inside
def _look(hull, p, k, samples):  # type: ignore[no-untyped-def]
    """Distance, normal and ends of pair p at the k-th sample, the last two seen from what carries both."""
    a, b, trunk = hull.pairs[p, 0], hull.pairs[p, 1], hull.common[p]
    starts, ends, on_a, on_b = samples.starts[k], samples.ends[k], samples.on_a[k], samples.on_b[k]
    positions, rotations, seen = samples.positions[k], samples.rotations[k], samples.seen[k]
    gap = closest_points(starts[a], ends[a], starts[b], ends[b], on_a, on_b)
    samples.apart[k] = gap - hull.radii[a] - hull.radii[b]
    normal = samples.normals[k]
    for r in range(3):
        value = 0.0
        for c in range(3):
            value += rotations[trunk, c, r] * (on_b[c] - on_a[c])
        normal[r] = value / max(gap, 1e-12)
    _seen_from(positions, rotations, trunk, starts[a], seen[0])
    _seen_from(positions, rotations, trunk, ends[a], seen[1])
    _seen_from(positions, rotations, trunk, starts[b], seen[2])
    _seen_from(positions, rotations, trunk, ends[b], seen[3])
    samples.looked[k] = 1


@compiled_inside
def _strayed(tree, hull, p, first, last, half, shared_stop, stop_times, longest_tick, work):  # type: ignore[no-untyped-def]
    """How far joints that stop earlier, to keep their own limits, lead pair p off its chord."""
    since, until = 1.0 - np.sqrt(1.0 - first / _MOST_PIECES), 1.0 - np.sqrt(1.0 - last / _MOST_PIECES)
    piece = half * (last - first) / _MOST_PIECES
    for i in range(work.line.shape[0]):
        work.reach[i] = 0.0
        if work.shares[i] == 2:
            own = stop_times[i]
            slowing = _rate(since, shared_stop, own) - _rate(until, shared_stop, own)
            work.reach[i] = abs(work.line[i]) * (0.25 * slowing * piece + 0.5 * longest_tick)
    total = 0.0
    for c in (hull.pairs[p, 0], hull.pairs[p, 1]):
        total += _own_motion(
            tree, hull.levers, hull.turns, c, hull.bodies[c], hull.common[p], work.line, work.reach
        )[1]
    return total


@compiled_inside
def _prove_ends(tree, hull, p, m, half, work):  # type: ignore[no-untyped-def]
    """A bound of pair p's distance until the stop, from its ends' speeds at the start of the line."""
    a, b, trunk = hull.pairs[p, 0], hull.pairs[p, 1], hull.common[p]
    normal = work.samples.seen[0, 0]
    for r in range(3):
        value = 0.0
        for c in range(3):
            value += work.rotations[trunk, r, c] * work.normals[m, c]
        normal[r] = value
    ahead = _ends_by(
        tree, work.positions, work.rotations, hull.bodies[b], trunk, work.line, normal,
        work.starts[b], work.ends[b], half, False,
    )  # fmt: skip
    behind = _ends_by(
        tree, work.positions, work.rotations, hull.bodies[a], trunk, work.line, normal,
        work.starts[a], work.ends[a], half, True,
    )  # fmt: skip
    bound = ahead - behind - hull.radii[a] - hull.radii[b] - 0.5 * work.strays[m] * half * half
    return min(work.gaps[m], bound)


@compiled_inside
def _surely_over(hull, p, limit, work):  # type: ignore[no-untyped-def]
    """Whether the balls around both capsules of pair p are farther apart than `limit`."""
    a, b = hull.pairs[p, 0], hull.pairs[p, 1]
    limit += hull.spheres[a] + hull.spheres[b]
    total = 0.0
    for r in range(3):
        twice = work.starts[a, r] + work.ends[a, r] - work.starts[b, r] - work.ends[b, r]
        total += 0.25 * twice * twice
    return total > limit * limit


@compiled_inside
def _add_cross(a0, a1, a2, b0, b1, b2, factor, out):  # type: ignore[no-untyped-def]
    out[0] += factor * (a1 * b2 - a2 * b1)
    out[1] += factor * (a2 * b0 - a0 * b2)
    out[2] += factor * (a0 * b1 - a1 * b0)


@compiled_inside
def _lead(tree, hull, v, half, work):  # type: ignore[no-untyped-def]
    """Fill spins, drifts, their changes, leads, curves and bends for the line of length `half` at v ``(n,)``.

    A body's point x moves at drift + spin x x. Along the line a joint's axis is carried by its parent.
    """
    for body in range(tree.parents.shape[0]):
        parent, c = tree.parents[body], tree.coordinates[body]
        spin, drift = work.spins[body], work.drifts[body]
        spin_change, drift_change = work.spin_changes[body], work.drift_changes[body]
        for r in range(3):
            spin[r] = drift[r] = spin_change[r] = drift_change[r] = 0.0
            if parent >= 0:
                spin[r], drift[r] = work.spins[parent, r], work.drifts[parent, r]
                spin_change[r] = work.spin_changes[parent, r]
                drift_change[r] = work.drift_changes[parent, r]
        rate = tree.multipliers[body] * v[c] if c >= 0 else 0.0
        if rate == 0.0:
            continue
        rotation, axis = work.rotations[body], tree.axes[body]
        x = rate * (rotation[0, 0] * axis[0] + rotation[0, 1] * axis[1] + rotation[0, 2] * axis[2])
        y = rate * (rotation[1, 0] * axis[0] + rotation[1, 1] * axis[1] + rotation[1, 2] * axis[2])
        z = rate * (rotation[2, 0] * axis[0] + rotation[2, 1] * axis[1] + rotation[2, 2] * axis[2])
        w0, w1, w2 = spin[0], spin[1], spin[2]
        # How the axis, times its rate, turns with the parent.
        dx, dy, dz = w1 * z - w2 * y, w2 * x - w0 * z, w0 * y - w1 * x
        if tree.prismatic[body]:
            drift[0] += x
            drift[1] += y
            drift[2] += z
            # The joint carries what is beyond it along, and its direction turns.
            drift_change[0] += dx
            drift_change[1] += dy
            drift_change[2] += dz
            continue
        px, py, pz = work.positions[body, 0], work.positions[body, 1], work.positions[body, 2]
        gx = drift[0] + w1 * pz - w2 * py
        gy = drift[1] + w2 * px - w0 * pz
        gz = drift[2] + w0 * py - w1 * px
        spin[0] += x
        spin[1] += y
        spin[2] += z
        spin_change[0] += dx
        spin_change[1] += dy
        spin_change[2] += dz
        _add_cross(px, py, pz, x, y, z, 1.0, drift)
        _add_cross(gx, gy, gz, x, y, z, 1.0, drift_change)
        _add_cross(px, py, pz, dx, dy, dz, 1.0, drift_change)
    for k in range(hull.bodies.shape[0]):
        body = hull.bodies[k]
        for end in range(2):
            point = work.starts[k] if end == 0 else work.ends[k]
            lead = work.start_leads[k] if end == 0 else work.end_leads[k]
            curve = work.start_curves[k] if end == 0 else work.end_curves[k]
            spin, change = work.spins[body], work.spin_changes[body]
            for r in range(3):
                lead[r], curve[r] = work.drifts[body, r], work.drift_changes[body, r]
            _add_cross(spin[0], spin[1], spin[2], point[0], point[1], point[2], 1.0, lead)
            _add_cross(change[0], change[1], change[2], point[0], point[1], point[2], 1.0, curve)
            _add_cross(spin[0], spin[1], spin[2], lead[0], lead[1], lead[2], 1.0, curve)
            for r in range(3):
                lead[r] *= half
                curve[r] *= 0.5 * half * half
        turn = speed = 0.0
        for i in range(v.shape[0]):
            turn += hull.turns[k, i] * abs(v[i])
            speed += hull.levers[k, i] * abs(v[i])
        work.bends[k] = half * half * half * turn * turn * speed / 6.0


@compiled_inside
def _led(hull, p, gap, on_a, on_b, work):  # type: ignore[no-untyped-def]
    """How far apart pair p is along its normal after the line at present speeds: without and with curving.

    With it a bound of the distance anywhere on the line: only curving nearer counts, which is concave in s.
    """
    a, b = hull.pairs[p, 0], hull.pairs[p, 1]
    ahead = nearer = np.inf
    behind = farther = -np.inf
    for end in range(2):
        point_a = work.starts[a] if end == 0 else work.ends[a]
        lead_a = work.start_leads[a] if end == 0 else work.end_leads[a]
        curve_a = work.start_curves[a] if end == 0 else work.end_curves[a]
        point_b = work.starts[b] if end == 0 else work.ends[b]
        lead_b = work.start_leads[b] if end == 0 else work.end_leads[b]
        curve_b = work.start_curves[b] if end == 0 else work.end_curves[b]
        along_a = along_b = curved_a = curved_b = 0.0
        for r in range(3):
            normal = (on_b[r] - on_a[r]) / max(gap, 1e-12)
            along_a += normal * (point_a[r] + lead_a[r])
            along_b += normal * (point_b[r] + lead_b[r])
            curved_a += normal * curve_a[r]
            curved_b += normal * curve_b[r]
        ahead, behind = min(ahead, along_b), max(behind, along_a)
        nearer = min(nearer, along_b + min(curved_b, 0.0))
        farther = max(farther, along_a + max(curved_a, 0.0))
    thick = hull.radii[a] + hull.radii[b]
    return ahead - behind - thick, nearer - farther - thick - work.bends[a] - work.bends[b]


@compiled_inside
def _enter(hull, p, m, work):  # type: ignore[no-untyped-def]
    """Make pair p the m-th that is looked at along the line: what is known of it at its start."""
    a, b, trunk = hull.pairs[p, 0], hull.pairs[p, 1], hull.common[p]
    a0, a1, b0, b1 = work.starts[a], work.ends[a], work.starts[b], work.ends[b]
    on_a, on_b, normal = work.samples.on_a[0], work.samples.on_b[0], work.normals[m]
    gap = closest_points(a0, a1, b0, b1, on_a, on_b)
    work.near[m], work.gaps[m] = p, gap - hull.radii[a] - hull.radii[b]
    for r in range(3):
        value = 0.0
        for c in range(3):
            value += work.rotations[trunk, c, r] * (on_b[c] - on_a[c])
        normal[r] = value / max(gap, 1e-12)
    _seen_from(work.positions, work.rotations, trunk, a0, work.seen[m, 0])
    _seen_from(work.positions, work.rotations, trunk, a1, work.seen[m, 1])
    _seen_from(work.positions, work.rotations, trunk, b0, work.seen[m, 2])
    _seen_from(work.positions, work.rotations, trunk, b1, work.seen[m, 3])


@compiled_inside
def _stops_early(hull, p, work):  # type: ignore[no-untyped-def]
    """Whether a joint that moves pair p leaves the line to keep its own limit."""
    common = 0
    for word in range(hull.movers.shape[1]):
        common |= hull.movers[p, word] & work.early[word]
    return common != 0


@compiled_inside
def prove_stop(  # type: ignore[no-untyped-def]
    tree, hull, limits, kept, q, v, dt, longest_tick, stop_times, bounds, rows, gaps, owners, steep_rows, work
):  # fmt: skip
    """Whether the stop from q at v keeps every pair its distance `kept` ``(p,)``.

    Fills stop_times ``(n,)``; bounds ``(p,)``: each pair's distance is at least that until the stop;
    rows, gaps, owners: gradients of near pairs at q, and their room; steep_rows (`SteepRows`): the same at
    the worst point of the line for the pairs that fail. Returns (failures, number of rows, number of steep
    rows, smallest distance (as if every pair kept the robot's margin) if it is under `REPORTED_M`, its pair
    or -1).
    """
    lower, upper, _, acceleration = limits
    bodies, pairs, common, levers, turns = hull.bodies, hull.pairs, hull.common, hull.levers, hull.turns
    a0, a1, near, reach, shares, line = work.starts, work.ends, work.near, work.reach, work.shares, work.line
    samples, gradient = work.samples, work.gradient
    n = q.shape[0]
    longest = 0.0
    for i in range(n):
        stop_times[i] = abs(v[i]) / (STOP_SHARE * acceleration[i])
        longest = max(longest, stop_times[i])
        shares[i] = 0
    for i in range(n):
        reach[i] = min(0.5 * abs(v[i]) * longest, _room(q[i], v[i], lower[i], upper[i]))
    forward(tree, q, work.positions, work.rotations)
    place_capsules(work.positions, work.rotations, bodies, hull.starts, hull.ends, a0, a1)
    for c in range(bodies.shape[0]):
        total = 0.0
        for i in range(n):
            total += levers[c, i] * reach[i]
        work.sway[c] = total
    on_a, on_b = samples.on_a[0], samples.on_b[0]
    _lead(tree, hull, v, 0.5 * longest, work)
    words = hull.movers.shape[1]
    work.shared[:] = 0
    count = steep = failures = nears = lines = 0
    smallest, closest = REPORTED_M, -1
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        bounds[p] = np.inf
        moved = work.sway[a] + work.sway[b]
        if _surely_over(hull, p, kept[p] + max(moved, REPORTED_M), work):
            continue
        gap = closest_points(a0[a], a1[a], a0[b], a1[b], on_a, on_b)
        distance = gap - hull.radii[a] - hull.radii[b]
        if distance + hull.short_m[p] < smallest:
            smallest, closest = distance + hull.short_m[p], p
        room = distance - kept[p]
        led, least = _led(hull, p, gap, on_a, on_b, work)
        if room < max(hull.look_m[p], 2.0 * (distance - led)) and _has_place(room, gaps, count):
            distance_gradient(
                tree, work.positions, work.rotations, bodies[a], bodies[b], common[p], on_a, on_b, gradient
            )
            count = _keep_row(gradient, room, 0.0, p, rows, gaps, work.unused, owners, count)
            if room < 0.0:
                steep = _keep_row(
                    gradient, room, dt, p,
                    steep_rows.rows, steep_rows.gaps, steep_rows.leads, steep_rows.owners, steep,
                )  # fmt: skip
        bounds[p] = distance - moved
        if room >= moved:
            continue
        for word in range(words):
            work.shared[word] |= hull.movers[p, word]
        bounds[p] = min(distance, least)
        if bounds[p] >= kept[p]:
            work.lined[lines] = p
            lines += 1
            continue
        _enter(hull, p, nears, work)
        nears += 1
    shared_stop = 0.0
    for i in range(n):
        if (work.shared[i // _BITS] >> (i % _BITS)) & 1:
            shares[i] = 1
            shared_stop = max(shared_stop, stop_times[i])
    if shared_stop == 0.0:
        for m in range(nears):
            failures += work.gaps[m] < kept[near[m]]
        return failures, count, steep, smallest, closest
    # As long as usual, unless a joint's own limit is nearer; as short as the accelerations allow.
    ends_by = shared_stop
    for i in range(n):
        if shares[i] > 0 and v[i] != 0.0:
            ends_by = min(ends_by, 2.0 * _room(q[i], v[i], lower[i], upper[i]) / abs(v[i]))
    shared_stop = max(STOP_SHARE * shared_stop, ends_by)
    limited = False
    work.early[:] = 0
    for i in range(n):
        line[i], reach[i] = v[i], 0.0
        if shares[i] == 0 or v[i] == 0.0:
            continue
        room = _room(q[i], v[i], lower[i], upper[i])
        if 0.5 * abs(v[i]) * shared_stop <= room:
            stop_times[i] = shared_stop
        else:
            # Stops earlier, to keep its limit.
            stop_times[i] = max(2.0 * room / abs(v[i]), abs(v[i]) / acceleration[i])
            shares[i], limited = 2, True
            work.early[i // _BITS] |= np.int64(1) << (i % _BITS)
    half = 0.5 * shared_stop
    if limited:
        # What was proved on the line has left it.
        for k in range(lines):
            p = work.lined[k]
            if _stops_early(hull, p, work):
                _enter(hull, p, nears, work)
                nears += 1
    left = 0
    for m in range(nears):
        p = near[m]
        work.strays[m] = 0.0
        for c in (pairs[p, 0], pairs[p, 1]):
            work.strays[m] += _own_motion(tree, levers, turns, c, bodies[c], common[p], line, reach)[0]
        if work.gaps[m] >= kept[p] and not (limited and _stops_early(hull, p, work)):
            bound = _prove_ends(tree, hull, p, m, half, work)
            if bound >= kept[p]:
                bounds[p] = bound
                continue
        near[left], work.gaps[left], work.strays[left] = p, work.gaps[m], work.strays[m]
        if left < m:
            # A row that is assigned to itself is copied into fresh memory first.
            work.normals[left] = work.normals[m]
            work.seen[left] = work.seen[m]
        left += 1
    nears = left
    if nears == 0:
        return failures, count, steep, smallest, closest
    # What slowing all joints that share the stop by as much shortens it, by joint: those near its pace.
    total = 0.0
    for i in range(n):
        work.pace[i] = 0.0
        if shares[i] > 0:
            work.pace[i] = (abs(v[i]) / (acceleration[i] * shared_stop)) ** 8
            total += work.pace[i]
    for i in range(n):
        sign = 1.0 if v[i] > 0.0 else -1.0
        work.pace[i] *= sign / max(total * STOP_SHARE * acceleration[i] * shared_stop, 1e-12)
    samples.placed[:] = 0
    samples.needed_bodies[:] = 0
    samples.needed_capsules[:] = 0
    for m in range(nears):
        for c in (pairs[near[m], 0], pairs[near[m], 1]):
            samples.needed_capsules[c] = 1
            body = bodies[c]
            while body >= 0 and samples.needed_bodies[body] == 0:
                samples.needed_bodies[body] = 1
                body = tree.parents[body]
    for m in range(nears):
        p = near[m]
        thick = hull.radii[pairs[p, 0]] + hull.radii[pairs[p, 1]]
        samples.looked[:] = 0
        samples.looked[0], samples.apart[0] = 1, work.gaps[m]
        samples.normals[0] = work.normals[m]
        samples.seen[0] = work.seen[m]
        lowest = work.gaps[m]
        inside = failed = work.gaps[m] < kept[p]
        bent = limited and _stops_early(hull, p, work)
        # Ever smaller pieces where they are needed, from the start of the line to its end.
        samples.intervals[0, 0], samples.intervals[0, 1] = 0, _MOST_PIECES
        waiting = 1
        while waiting > 0:
            waiting -= 1
            first, last = samples.intervals[waiting, 0], samples.intervals[waiting, 1]
            if not samples.placed[last]:
                _place_sample(tree, hull, limits, q, last, half, shared_stop, stop_times, work)
            if not samples.looked[last]:
                _look(hull, p, last, samples)
            # Seen from the body that carries both: what it does itself bends no line.
            old, now = samples.seen[first], samples.seen[last]
            forth = distance_along(samples.normals[first], now[0], now[1], now[2], now[3]) - thick
            back = distance_along(samples.normals[last], old[0], old[1], old[2], old[3]) - thick
            stray = work.strays[m] * (half * (last - first) / _MOST_PIECES) ** 2 / 8.0
            bound = max(min(samples.apart[first], forth), min(samples.apart[last], back)) - stray
            if bent:
                bound -= _strayed(
                    tree, hull, p, first, last, half, shared_stop, stop_times, longest_tick, work
                )
            if bound >= kept[p]:
                lowest = min(lowest, bound)
                continue
            finer = not inside and samples.apart[last] >= kept[p] and (stray > _STRAY_M or bent)
            if finer and last - first > 1:
                middle = (first + last) // 2
                samples.intervals[waiting, 0], samples.intervals[waiting, 1] = middle, last
                samples.intervals[waiting + 1, 0], samples.intervals[waiting + 1, 1] = first, middle
                waiting += 2
                continue
            failed = True
            if bound >= lowest:
                continue
            lowest = bound
            distance_gradient(
                tree, samples.positions[last], samples.rotations[last], bodies[pairs[p, 0]],
                bodies[pairs[p, 1]], common[p], samples.on_a[last], samples.on_b[last], gradient,
            )  # fmt: skip
            closing = 0.0
            for i in range(n):
                closing += gradient[i] * v[i]
            s = half * last / _MOST_PIECES
            for i in range(n):
                gradient[i] += min(closing, 0.0) * s / (dt + s) * work.pace[i]
            place = -1
            for e in range(steep):
                if steep_rows.owners[e] == p:
                    place = e
            if place >= 0:
                steep_rows.rows[place] = gradient
                steep_rows.gaps[place], steep_rows.leads[place] = bound - kept[p], dt + s
            else:
                steep = _keep_row(
                    gradient, bound - kept[p], dt + s, p,
                    steep_rows.rows, steep_rows.gaps, steep_rows.leads, steep_rows.owners, steep,
                )  # fmt: skip
        bounds[p] = lowest
        failures += failed
    return failures, count, steep, smallest, closest


@compiled_inside
def safe_velocity(  # type: ignore[no-untyped-def]
    tree, hull, limits, kept, q, v, wanted, low, high, hessian, weighed, dt, longest_tick,
    stop_times, bounds, rows, gaps, owners, counts, chosen, work, search,
):  # fmt: skip
    """Fill `chosen` ``(n,)``: the velocity of this tick nearest to `wanted` that keeps all margins.

    low, high ``(n,)``: the box of `retargeting.joint_limits.velocity_box`; hessian ``(n, n)``: the
    metric; weighed: whether it decides in the box too, where clipping does not. stop_times, rows, gaps,
    owners, counts[0]: of the published state q, v; replaced by those of the new one; longest_tick: no
    tick to come takes longer (s). Returns (status of the last QP, how the velocity was found, smallest
    distance, its pair or -1), where how is 0: no margin mattered, 1: rows shaped it, 2: part of the way
    to the stop, 3: the stop carried along.
    """
    lower, upper, _, acceleration = limits
    stop, trial_stop_times, at, steep_rows, row_set, row_values, gradient, row_work = search
    n = q.shape[0]
    for i in range(n):
        left = 0.0
        if stop_times[i] > dt:
            left = v[i] * (1.0 - dt / stop_times[i])
        stop[i] = min(max(left, low[i]), high[i])
        chosen[i] = min(max(wanted[i], low[i]), high[i])
    held = 0
    for k in range(counts[0]):
        slowest = 0.0
        for i in range(n):
            if rows[k, i] != 0.0:
                slowest = max(slowest, abs(chosen[i]) / (STOP_SHARE * acceleration[i]))
        row_set[held] = rows[k]
        row_values[held] = -max(0.0, gaps[k] - _SPARE_M) / (dt + EARLY * slowest)
        held += 1
    crossed = False
    for k in range(held):
        value = -row_values[k]
        for i in range(n):
            value += row_set[k, i] * chosen[i]
        crossed = crossed or value < 0.0
    status = SOLVED
    for i in range(n):
        value = 0.0
        for j in range(n):
            value -= hessian[i, j] * wanted[j]
        gradient[i] = value
    if crossed or weighed:
        at[:] = chosen
        status = solve_row_qp(hessian, gradient, low, high, row_set, row_values, held, chosen, row_work)
        if status != SOLVED:
            # The rows are only the likely ones: the proof finds those that must be.
            held = 0
            chosen[:] = at
            status = solve_row_qp(hessian, gradient, low, high, row_set, row_values, held, chosen, row_work)
    how = 1 if crossed else 0
    for attempt in range(_PROOFS):
        if status != SOLVED:
            break
        for i in range(n):
            at[i] = min(max(q[i] + chosen[i] * dt, lower[i]), upper[i])
        failures, count, steep, smallest, closest = prove_stop(
            tree, hull, limits, kept, at, chosen, dt, longest_tick, trial_stop_times, bounds,
            rows, gaps, owners, steep_rows, work,
        )  # fmt: skip
        if failures == 0:
            counts[0] = count
            stop_times[:] = trial_stop_times
            return status, how, smallest, closest
        if attempt == _PROOFS - 1:
            break
        how = 1
        for e in range(steep):
            reached = 0.0
            for i in range(n):
                reached += steep_rows.rows[e, i] * chosen[i]
            if held < row_set.shape[0]:
                row_set[held] = steep_rows.rows[e]
                row_values[held] = reached + (_SPARE_M - steep_rows.gaps[e]) / steep_rows.leads[e]
                held += 1
        at[:] = chosen
        status = solve_row_qp(hessian, gradient, low, high, row_set, row_values, held, chosen, row_work)
        if status != SOLVED:
            chosen[:] = at
    for attempt in range(_SHARES):
        share = 0.5 if attempt < _SHARES - 1 else 0.0
        for i in range(n):
            chosen[i] = stop[i] + share * (chosen[i] - stop[i])
            chosen[i] = min(max(chosen[i], low[i]), high[i])
            at[i] = min(max(q[i] + chosen[i] * dt, lower[i]), upper[i])
        failures, count, steep, smallest, closest = prove_stop(
            tree, hull, limits, kept, at, chosen, dt, longest_tick, trial_stop_times, bounds,
            rows, gaps, owners, steep_rows, work,
        )  # fmt: skip
        if failures == 0:
            break
    counts[0] = count
    if failures == 0:
        stop_times[:] = trial_stop_times
        return status, 2, smallest, closest
    # Proved when it was first taken: the way to the stop goes on.
    for i in range(n):
        stop_times[i] = max(0.0, stop_times[i] - dt)
    for p in range(bounds.shape[0]):
        bounds[p] = kept[p]
    return status, 3, smallest, closest


@compiled_inside
def raise_kept(kept, bounds, full):  # type: ignore[no-untyped-def]
    """What came apart stays apart: raise `kept` ``(p,)`` to the proved `bounds`, at most to `full`."""
    missing = 0
    for p in range(kept.shape[0]):
        if kept[p] < full[p]:
            kept[p] = min(full[p], max(kept[p], bounds[p]))
            if kept[p] < full[p]:
                missing += 1
    return missing


@compiled_inside
def _place_all(tree, hull, q, work):  # type: ignore[no-untyped-def]
    forward(tree, q, work.positions, work.rotations)
    place_capsules(
        work.positions, work.rotations, hull.bodies, hull.starts, hull.ends, work.starts, work.ends
    )


@compiled_inside
def goal_room(tree, hull, q, work):  # type: ignore[no-untyped-def]
    """The smallest room (m) of a pair at q ``(n,)``; 0 where all are farther apart than the goal keeps."""
    _place_all(tree, hull, q, work)
    on_a, on_b = work.samples.on_a[0], work.samples.on_b[0]
    least = 0.0
    for p in range(hull.pairs.shape[0]):
        if _surely_over(hull, p, hull.goal_m[p], work):
            continue
        a, b = hull.pairs[p, 0], hull.pairs[p, 1]
        gap = closest_points(work.starts[a], work.ends[a], work.starts[b], work.ends[b], on_a, on_b)
        least = min(least, gap - hull.radii[a] - hull.radii[b] - hull.goal_m[p])
    return least


@compiled_inside
def _lie_along(a0, a1, b0, b1):  # type: ignore[no-untyped-def]
    aa = ab = bb = 0.0
    for r in range(3):
        u, w = a1[r] - a0[r], b1[r] - b0[r]
        aa, ab, bb = aa + u * u, ab + u * w, bb + w * w
    return ab * ab > _ALONG * aa * bb


@compiled_inside
def goal_rows(tree, hull, q, size, rows, gaps, owners, work):  # type: ignore[no-untyped-def]
    """Fill rows, gaps with the gradients of the pairs at q that have less room than `Hull.goal_look_m`.

    Only the first `size` joints count. Returns how many there are.
    """
    _place_all(tree, hull, q, work)
    on_a, on_b, gradient = work.samples.on_a[0], work.samples.on_b[0], work.gradient
    count = 0
    for p in range(hull.pairs.shape[0]):
        margin, look = hull.goal_m[p], hull.goal_look_m[p]
        if _surely_over(hull, p, margin + look, work):
            continue
        a, b = hull.pairs[p, 0], hull.pairs[p, 1]
        a0, a1, b0, b1 = work.starts[a], work.ends[a], work.starts[b], work.ends[b]
        gap = closest_points(a0, a1, b0, b1, on_a, on_b)
        room = gap - hull.radii[a] - hull.radii[b] - margin
        if room >= look:
            continue
        # Where segments lie along each other the closest point jumps from end to end: each end has a row.
        for end in range(5 if room < ROW_GAP_M and _lie_along(a0, a1, b0, b1) else 1):
            if end == 1:
                gap = closest_points(a0, a0, b0, b1, on_a, on_b)
            elif end == 2:
                gap = closest_points(a1, a1, b0, b1, on_a, on_b)
            elif end == 3:
                gap = closest_points(a0, a1, b0, b0, on_a, on_b)
            elif end == 4:
                gap = closest_points(a0, a1, b1, b1, on_a, on_b)
            room = gap - hull.radii[a] - hull.radii[b] - margin
            if room >= look or not _has_place(room, gaps, count):
                continue
            distance_gradient(
                tree, work.positions, work.rotations, hull.bodies[a], hull.bodies[b], hull.common[p],
                on_a, on_b, gradient,
            )  # fmt: skip
            useful = 0.0
            for i in range(size):
                useful += abs(gradient[i])
            if useful > 0.0:
                count = _keep_row(gradient[:size], room, 0.0, p, rows, gaps, work.unused, owners, count)
    return count


class MarginState(NamedTuple):
    """Margins of one robot from tick to tick. kept, bounds ``(p,)``; stop_times ``(n,)``; rows, gaps, owners,
    counts[0]: of the published state, see `prove_stop`; missing[0]: pairs that do not have their margin yet.

    longest_tick[0] (s); smallest[0] (m), found[:4]: what `safe_velocity` returned: smallest distance, and
    how, its pair, QP failures so far.
    """

    kept: Array
    bounds: Array
    stop_times: Array
    rows: Array
    gaps: Array
    owners: IntArray
    counts: IntArray
    missing: IntArray
    longest_tick: Array
    smallest: Array
    found: IntArray

    @staticmethod
    def of_size(n: int, pairs: int) -> MarginState:
        return MarginState(
            np.empty(pairs),
            np.empty(pairs),
            np.zeros(n),
            np.empty((MOST_ROWS, n)),
            np.empty(MOST_ROWS),
            np.empty(MOST_ROWS, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros(1, dtype=np.int64),
            np.zeros(1),
            np.full(1, np.inf),
            np.zeros(3, dtype=np.int64),
        )


class GoalRowsRoom(NamedTuple):
    """Room for the rows of the goal's search ``(r, m)``, their gaps and pairs ``(r,)``."""

    rows: Array
    gaps: Array
    owners: IntArray


class Margins(NamedTuple):
    """All that keeps one robot's capsules apart."""

    tree: TreeArrays
    hull: Hull
    limits: JointLimits
    state: MarginState
    goal: GoalRowsRoom
    proof: ProofWork
    search: VelocityWork


@compiled_inside
def keep_margins(margins, q, v, wanted, low, high, hessian, weighed, dt, chosen):  # type: ignore[no-untyped-def]
    """`safe_velocity` from the published state of `margins`; what is chosen will be published."""
    state = margins.state
    state.longest_tick[0] = max(state.longest_tick[0], dt)
    status, how, smallest, closest = safe_velocity(
        margins.tree, margins.hull, margins.limits, state.kept, q, v, wanted, low, high, hessian, weighed, dt,
        state.longest_tick[0], state.stop_times, state.bounds, state.rows, state.gaps, state.owners,
        state.counts, chosen, margins.proof, margins.search,
    )  # fmt: skip
    if state.missing[0]:
        state.missing[0] = raise_kept(state.kept, state.bounds, margins.hull.full_m)
    state.smallest[0] = smallest
    state.found[0], state.found[1] = how, closest
    # The stop was taken instead.
    state.found[2] += status != SOLVED and status != INFEASIBLE
