"""The next velocity that keeps every pair of capsules its margin apart, now and until it has stopped.

Each published state carries a way to stop that keeps all margins: joint i slows down evenly over its
stop time ``T_i``, at ``|v_i| / T_i <= a_i``. Joints that move a pair which comes near share one stop
time, so they stop along a straight line ``q + s v``, ``0 <= s <= T / 2``, in joint space; that line is
the same whatever the lengths of the ticks are, so a stop begun is a stop that can be finished.
A velocity is taken only if its own stop is proved: then no margin, position limit or acceleration
limit ever gives way to another.

The proof, for a velocity v of this tick:

- a pair is far if its distance exceeds the margin by more than both capsules can move until they
  stand (levers times joint motion);
- for the others, the line is sampled. Between two samples a capsule's point strays from its chord by
  at most ``C ds^2 / 8``, where ``C = sum_ij |v_i v_j| r_j`` bounds its second derivative; and along any
  fixed direction two convex bodies are never farther apart than their distance, so the distance
  in between is at least the smaller of the two ends' along one end's normal, less that;
- a joint that must stop earlier, to keep its own limit, leaves the line: after the same share of the
  stop it has moved ``v (t - t^2 / 2 T_i)``, up to ``|v| h / 2`` for ticks of at most h, and ``s`` to
  that is concave, so it strays from its chord by at most a quarter of the change of slope times ds.

The velocity itself is the nearest to the wanted one under linear rows (`retargeting.row_qp`): where its
stop comes too near, the pair's distance at the worst point of the line becomes a row, and again. At
the last, part of it or the stop carried along is taken. Where the box cannot meet all rows, they are
relaxed to what that stop does, which is inside the box: then the problem is feasible.
"""

from __future__ import annotations

import numpy as np

from retargeting.box_qp import SOLVED
from retargeting.capsule_distance import closest_points, distance_along, distance_gradient, place_capsules
from retargeting.compiled import compiled
from retargeting.kinematics import forward
from retargeting.row_qp import solve_row_qp

# Stops use this share of the acceleration limits, so that rows can be met within them.
STOP_SHARE = 0.6
# Rows brake as if the stop went on for this share of its time at full speed; 0.5 is what it takes.
EARLY = 0.8
# Rows that one tick may hold; more pairs than these are met by stopping.
MOST_ROWS = 32
# Pairs this close above their margin get a row before their stop fails.
ROW_GAP_M = 0.02
# The same for the goal, whose steps are longer.
GOAL_ROW_GAP_M = 0.06
# Distances up to this are reported.
REPORTED_M = 0.05
# The line is cut into at most so many pieces, and no smaller where a piece strays by less than this.
_MOST_PIECES, _STRAY_M = 16, 1e-4
# Rows ask for this much more than the proof, so that the next proof does not fail by rounding.
_SPARE_M = 2e-5
# Velocities that are tried: so many by rows, then so many shares of the way to the stop, the last 0.
_PROOFS, _SHARES = 4, 5


@compiled
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


@compiled
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


@compiled
def _seen_from(positions, rotations, body, point, seen):  # type: ignore[no-untyped-def]
    """Fill `seen` ``(3,)`` with the point in the axes of `body`."""
    x, y, z = point[0] - positions[body, 0], point[1] - positions[body, 1], point[2] - positions[body, 2]
    for c in range(3):
        seen[c] = rotations[body, 0, c] * x + rotations[body, 1, c] * y + rotations[body, 2, c] * z


@compiled
def _room(q, v, lower, upper):  # type: ignore[no-untyped-def]
    """How far a joint may go on in the direction of its velocity."""
    return max(0.0, upper - q if v > 0.0 else q - lower)


@compiled
def _rate(share, shared_stop, own_stop):  # type: ignore[no-untyped-def]
    """Speed of a joint that stops earlier against those of the shared stop, after a share of it."""
    time = share * shared_stop
    return 0.0 if time >= own_stop or share >= 1.0 else (1.0 - time / own_stop) / (1.0 - share)


@compiled
def prove_stop(  # type: ignore[no-untyped-def]
    tree, hull, limits, kept, q, v, dt, longest_tick, stop_times, bounds,
    rows, gaps, owners, steep_rows, steep_gaps, steep_leads, steep_owners, work,
):  # fmt: skip
    """Whether the stop from q at v keeps every pair its distance `kept` ``(p,)``.

    Fills stop_times ``(n,)``; bounds ``(p,)``: each pair's distance is at least that until the stop;
    rows, gaps, owners: gradients of near pairs at q, and their room; steep_*: the same at the worst
    point of the line for the pairs that fail, and how long v leads there. Returns (failures, number of
    rows, number of steep rows, smallest distance if it is under `REPORTED_M`, its pair or -1).
    """
    (bodies, starts, ends, radii, pairs, common, levers, turns, spheres) = hull
    lower, upper, _, acceleration = limits
    (positions, rotations, a0, a1, seen_start, seen, now, near, failed, normals_start, normals, gap_start,
     gap_now, lowest, strays, reach, shares, sway, line, pace, at, gradient, unused) = work  # fmt: skip
    n = q.shape[0]
    longest = 0.0
    for i in range(n):
        stop_times[i] = abs(v[i]) / (STOP_SHARE * acceleration[i])
        longest = max(longest, stop_times[i])
        shares[i] = 0
    for i in range(n):
        reach[i] = min(0.5 * abs(v[i]) * longest, _room(q[i], v[i], lower[i], upper[i]))
    forward(tree, q, positions, rotations)
    place_capsules(positions, rotations, bodies, starts, ends, a0, a1)
    for c in range(bodies.shape[0]):
        total = 0.0
        for i in range(n):
            total += levers[c, i] * reach[i]
        sway[c] = total
    on_a, on_b, normal, point = np.empty(3), np.empty(3), np.empty(3), np.empty(3)
    count = steep = failures = nears = 0
    smallest, closest = REPORTED_M, -1
    shared_stop = 0.0
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        bounds[p] = np.inf
        moved = sway[a] + sway[b]
        limit = kept[p] + max(moved, REPORTED_M) + spheres[a] + spheres[b]
        total = 0.0
        for r in range(3):
            total += (0.5 * (a0[a, r] + a1[a, r] - a0[b, r] - a1[b, r])) ** 2
        if total > limit * limit:
            continue
        gap = closest_points(a0[a], a1[a], a0[b], a1[b], on_a, on_b)
        distance = gap - radii[a] - radii[b]
        if distance < smallest:
            smallest, closest = distance, p
        room = distance - kept[p]
        if room < moved:
            # Only joints beyond the common body change the distance.
            moved = 0.0
            for c in (a, b):
                moved += _own_motion(tree, levers, turns, c, bodies[c], common[p], v, reach)[1]
        if room < max(ROW_GAP_M, 0.5 * moved):
            distance_gradient(
                tree, positions, rotations,
                bodies[a], bodies[b], common[p], on_a, on_b, gradient,
            )  # fmt: skip
            count = _keep_row(gradient, room, 0.0, p, rows, gaps, unused, owners, count)
            if room < 0.0:
                steep = _keep_row(
                    gradient, room, dt, p, steep_rows, steep_gaps, steep_leads, steep_owners, steep
                )
        bounds[p] = distance - moved
        if room >= moved:
            continue
        bounds[p] = distance
        near[nears] = p
        gap_start[nears] = distance
        for r in range(3):
            point[r] = positions[common[p], r] + (on_b[r] - on_a[r]) / max(gap, 1e-12)
        _seen_from(positions, rotations, common[p], point, normals_start[nears])
        _seen_from(positions, rotations, common[p], a0[a], seen_start[nears, 0])
        _seen_from(positions, rotations, common[p], a1[a], seen_start[nears, 1])
        _seen_from(positions, rotations, common[p], a0[b], seen_start[nears, 2])
        _seen_from(positions, rotations, common[p], a1[b], seen_start[nears, 3])
        nears += 1
        for end in range(2):
            body = bodies[a] if end == 0 else bodies[b]
            while body != common[p]:
                c = tree.coordinates[body]
                if c >= 0:
                    shares[c] = 1
                    shared_stop = max(shared_stop, stop_times[c])
                body = tree.parents[body]
    if nears == 0:
        return failures, count, steep, smallest, closest
    # As long as usual, unless a joint's own limit is nearer; as short as the accelerations allow.
    ends_by = shared_stop
    for i in range(n):
        if shares[i] > 0 and v[i] != 0.0:
            ends_by = min(ends_by, 2.0 * _room(q[i], v[i], lower[i], upper[i]) / abs(v[i]))
    shared_stop = max(STOP_SHARE * shared_stop, ends_by)
    limited = False
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
    half = 0.5 * shared_stop
    for m in range(nears):
        p = near[m]
        strays[m] = 0.0
        for c in (pairs[p, 0], pairs[p, 1]):
            strays[m] += _own_motion(tree, levers, turns, c, bodies[c], common[p], line, reach)[0]
    if half == 0.0:
        for m in range(nears):
            failures += gap_start[m] < kept[near[m]]
        return failures, count, steep, smallest, closest
    # What slowing all joints that share the stop by as much shortens it, by joint: those near its pace.
    total = 0.0
    for i in range(n):
        pace[i] = 0.0
        if shares[i] > 0:
            pace[i] = (abs(v[i]) / (acceleration[i] * shared_stop)) ** 8
            total += pace[i]
    for i in range(n):
        sign = 1.0 if v[i] > 0.0 else -1.0
        pace[i] *= sign / max(total * STOP_SHARE * acceleration[i] * shared_stop, 1e-12)
    # Ever smaller pieces for the pairs that need them.
    pieces = 1
    while nears > 0:
        for m in range(nears):
            gap_now[m] = lowest[m] = gap_start[m]
            failed[m] = 1 if gap_start[m] < kept[near[m]] else 0
            normals[m] = normals_start[m]
            seen[m] = seen_start[m]
        for k in range(1, pieces + 1):
            s = half * k / pieces
            # Shares of the shared stop's time that are over before and after this piece of the line.
            since, until = 1.0 - np.sqrt(1.0 - (k - 1) / pieces), 1.0 - np.sqrt(1.0 - k / pieces)
            for i in range(n):
                moved = s * line[i]
                if shares[i] == 2:
                    own = stop_times[i]
                    time = min(until * shared_stop, own)
                    moved = line[i] * time * (1.0 - 0.5 * time / own)
                    slowing = _rate(since, shared_stop, own) - _rate(until, shared_stop, own)
                    reach[i] = abs(line[i]) * (0.25 * slowing * half / pieces + 0.5 * longest_tick)
                at[i] = min(max(q[i] + moved, lower[i]), upper[i])
            forward(tree, at, positions, rotations)
            place_capsules(positions, rotations, bodies, starts, ends, a0, a1)
            for m in range(nears):
                p = near[m]
                a, b, trunk = pairs[p, 0], pairs[p, 1], common[p]
                gap = closest_points(a0[a], a1[a], a0[b], a1[b], on_a, on_b)
                thick = radii[a] + radii[b]
                distance = gap - thick
                # Seen from the body that carries both: what it does itself bends no line.
                for r in range(3):
                    point[r] = positions[trunk, r] + (on_b[r] - on_a[r]) / max(gap, 1e-12)
                _seen_from(positions, rotations, trunk, point, normal)
                old = seen[m]
                _seen_from(positions, rotations, trunk, a0[a], now[0])
                _seen_from(positions, rotations, trunk, a1[a], now[1])
                _seen_from(positions, rotations, trunk, a0[b], now[2])
                _seen_from(positions, rotations, trunk, a1[b], now[3])
                forth = min(gap_now[m], distance_along(normals[m], now[0], now[1], now[2], now[3]) - thick)
                back = min(distance, distance_along(normal, old[0], old[1], old[2], old[3]) - thick)
                stray = strays[m] * (half / pieces) ** 2 / 8.0
                bound = max(forth, back) - stray
                if limited:
                    for c in (a, b):
                        bound -= _own_motion(tree, levers, turns, c, bodies[c], trunk, line, reach)[1]
                gap_now[m] = distance
                normals[m] = normal
                seen[m] = now
                if bound >= lowest[m]:
                    continue
                lowest[m] = bound
                if bound >= kept[p]:
                    continue
                if distance >= kept[p] and 2 * pieces <= _MOST_PIECES and (stray > _STRAY_M or limited):
                    continue
                failed[m] = 1
                distance_gradient(
                    tree, positions, rotations,
                    bodies[a], bodies[b], trunk, on_a, on_b, gradient,
                )  # fmt: skip
                closing = 0.0
                for i in range(n):
                    closing += gradient[i] * v[i]
                for i in range(n):
                    gradient[i] += min(closing, 0.0) * s / (dt + s) * pace[i]
                place = -1
                for e in range(steep):
                    if steep_owners[e] == p:
                        place = e
                if place >= 0:
                    steep_rows[place] = gradient
                    steep_gaps[place], steep_leads[place] = bound - kept[p], dt + s
                else:
                    steep = _keep_row(
                        gradient, bound - kept[p], dt + s, p,
                        steep_rows, steep_gaps, steep_leads, steep_owners, steep,
                    )  # fmt: skip
        left = 0
        for m in range(nears):
            p = near[m]
            bounds[p] = lowest[m]
            if lowest[m] >= kept[p]:
                continue
            if failed[m] or 2 * pieces > _MOST_PIECES:
                failures += 1
                continue
            near[left], gap_start[left], strays[left] = p, gap_start[m], strays[m]
            normals_start[left] = normals_start[m]
            seen_start[left] = seen_start[m]
            left += 1
        nears = left
        pieces *= 2
    return failures, count, steep, smallest, closest


@compiled
def safe_velocity(  # type: ignore[no-untyped-def]
    tree, hull, limits, kept, q, v, wanted, low, high, hessian, weighed, dt, longest_tick,
    stop_times, bounds, rows, gaps, owners, counts, chosen, work, qp_work,
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
    (stop, trial_stop_times, at, steep_rows, steep_gaps, steep_leads, steep_owners, row_set, row_values,
     gradient, row_work) = qp_work  # fmt: skip
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
            rows, gaps, owners, steep_rows, steep_gaps, steep_leads, steep_owners, work,
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
                reached += steep_rows[e, i] * chosen[i]
            if held < row_set.shape[0]:
                row_set[held] = steep_rows[e]
                row_values[held] = reached + (_SPARE_M - steep_gaps[e]) / steep_leads[e]
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
            rows, gaps, owners, steep_rows, steep_gaps, steep_leads, steep_owners, work,
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


@compiled
def raise_kept(kept, bounds, full):  # type: ignore[no-untyped-def]
    """What came apart stays apart: raise `kept` ``(p,)`` to the proved `bounds`, at most to `full`."""
    missing = 0
    for p in range(kept.shape[0]):
        if kept[p] < full:
            kept[p] = min(full, max(kept[p], bounds[p]))
            if kept[p] < full:
                missing += 1
    return missing


@compiled
def goal_rows(tree, hull, limits, q, margin, size, rows, gaps, owners, work):  # type: ignore[no-untyped-def]
    """Fill rows, gaps with the gradients of the pairs at q that have less than `GOAL_ROW_GAP_M` of room.

    Only the first `size` joints count. Returns how many there are.
    """
    (bodies, starts, ends, radii, pairs, common, _, _, spheres) = hull
    positions, rotations, a0, a1 = work[0], work[1], work[2], work[3]
    gradient, unused = work[-2], work[-1]
    forward(tree, q, positions, rotations)
    place_capsules(positions, rotations, bodies, starts, ends, a0, a1)
    on_a, on_b = np.empty(3), np.empty(3)
    count = 0
    for p in range(pairs.shape[0]):
        a, b = pairs[p, 0], pairs[p, 1]
        limit = margin + GOAL_ROW_GAP_M + spheres[a] + spheres[b]
        total = 0.0
        for r in range(3):
            total += (0.5 * (a0[a, r] + a1[a, r] - a0[b, r] - a1[b, r])) ** 2
        if total > limit * limit:
            continue
        gap = closest_points(a0[a], a1[a], a0[b], a1[b], on_a, on_b)
        room = gap - radii[a] - radii[b] - margin
        if room >= GOAL_ROW_GAP_M:
            continue
        # Where segments lie along each other the closest point jumps from end to end: each end has a row.
        for end in range(5 if room < ROW_GAP_M else 1):
            if end == 1:
                gap = closest_points(a0[a], a0[a], a0[b], a1[b], on_a, on_b)
            elif end == 2:
                gap = closest_points(a1[a], a1[a], a0[b], a1[b], on_a, on_b)
            elif end == 3:
                gap = closest_points(a0[a], a1[a], a0[b], a0[b], on_a, on_b)
            elif end == 4:
                gap = closest_points(a0[a], a1[a], a1[b], a1[b], on_a, on_b)
            room = gap - radii[a] - radii[b] - margin
            if room >= GOAL_ROW_GAP_M:
                continue
            distance_gradient(
                tree, positions, rotations,
                bodies[a], bodies[b], common[p], on_a, on_b, gradient,
            )  # fmt: skip
            useful = 0.0
            for i in range(size):
                useful += abs(gradient[i])
            if useful > 0.0:
                count = _keep_row(gradient[:size], room, 0.0, p, rows, gaps, unused, owners, count)
    return count
