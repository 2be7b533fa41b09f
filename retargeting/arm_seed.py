"""Joints of an arm for a pose of its wrist, in closed form: shoulder, elbow, wrist, every branch.

For arms of 6 or 7 turning joints: two or three axes that meet in the shoulder S, one elbow, two or three
axes that meet in the wrist W. As a product of turns about the axes at zero (root side first)::

    pose = T(S) R_shoulder T(-S) . turn about the elbow's axis . T(W) R_wrist T(-W) . pose at zero

- W follows from the wanted pose, for it is fixed in the hand;
- elbow angle t from ``|W - S|^2 = |u|^2 + |v|^2 - 2 u . R(t) v`` (u, v: from the elbow's axis to S and W),
  which is ``A cos t + B sin t = C``: two angles, however the axis is offset;
- three shoulder axes: any turn that takes W at t to the wanted W, and about that line (the swivel) what
  brings the elbow nearest to where it is wanted; split into the three axes in two ways. Two axes: two ways;
- what is left of the orientation is split into the wrist's axes, in two ways for three axes, and as near
  as they come for two.

So up to eight candidates. An arm whose axes only nearly meet (most shoulders and wrists of real robots are
offset by centimetres) is taken as if they met: its candidates are off by about the offset, and a few
Gauss-Newton steps finish.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.compiled import compiled
from retargeting.frames import quaternion_from_rotation_matrix
from retargeting.kinematics import KinematicTree
from retargeting.quaternions import product, rotate_by
from retargeting.robot_model import RobotModel
from retargeting.tasks import TaskLayout

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

MOST_CANDIDATES = 8

# Axes meet where they pass within this share of the arm's length (shoulder to elbow to wrist) of their point.
# A candidate is then off by some 0.3 rad at most, from where a few Gauss-Newton steps arrive: at 0.25, the
# most of any registered robot (talos), three of them reach 96 % of random poses.
MEETING_SHARE = 0.3
_PARALLEL_SINE = 0.1
# Elbows are tried this far beside where they are wanted too; seeds nearer than this are one.
_SWIVEL_RAD, _ALIKE_RAD = 0.7, 0.5
# What a joint that is cut off at its limit costs, about (m/rad).
_UPPER_LEVER_M, _WRIST_LEVER_M = 0.3, 0.15
# A little for the way there, which is as long as that of the joint that turns farthest (m/rad).
_WAY_M_RAD = 0.01


class ArmGeometry(NamedTuple):
    """An arm with all joints at zero, in the frame of the body that carries it.

    coordinates ``(n,)``: its joints in q, shoulder first; axes ``(n, 3)`` unit vectors; shoulder, elbow,
    wrist ``(3,)``: S, a point of the elbow's axis, W; elbow_offset ``(3,)``: from S to what the wanted
    elbow direction points at; hand_offset ``(3,)``: from the wrist site to W, in the site; hand_rotation
    ``(4,)`` of the site (xyzw); carrier: row of the carrying body in the tree; offset_m: how far axes miss S
    or W.
    """

    coordinates: IntArray
    shoulder_axes: int
    axes: Array
    shoulder: Array
    elbow: Array
    wrist: Array
    elbow_offset: Array
    hand_offset: Array
    hand_rotation: Array
    carrier: int
    offset_m: float


def _meeting_point(points: Array, axes: Array) -> tuple[Array, float] | None:
    """Where two or three successive axes meet, and how far (m) they miss it; None where two are parallel.

    The distance of neighbours and the shift along the middle one stay as they are when the joints turn.
    """
    feet = []
    apart = 0.0
    for k in range(len(axes) - 1):
        across = np.cross(axes[k], axes[k + 1])
        squared = float(across @ across)
        if squared < _PARALLEL_SINE**2:
            return None
        between = points[k + 1] - points[k]
        first = points[k] + float(np.cross(between, axes[k + 1]) @ across) / squared * axes[k]
        second = points[k + 1] + float(np.cross(between, axes[k]) @ across) / squared * axes[k + 1]
        apart = max(apart, float(np.linalg.norm(second - first)))
        feet.append((first, second))
    if len(axes) == 2:
        return 0.5 * (feet[0][0] + feet[0][1]), 0.5 * apart
    on_middle, also = feet[0][1], feet[1][0]
    shift = float(np.linalg.norm(also - on_middle))
    return 0.5 * (on_middle + also), max(apart, 0.5 * shift)


def arm_geometry(
    tree: KinematicTree,
    coordinates: IntArray,
    wrist: tuple[int, Array, Array],
    elbow: tuple[int, Array] | None,
) -> tuple[ArmGeometry | None, str]:
    """The geometry of the arm with the joints `coordinates` (shoulder first), or None and why it has none.

    wrist: body row, position ``(3,)`` and rotation ``(3, 3)`` in it; elbow: body row and position of what
    the elbow direction points at (None: the elbow's axis).
    """
    arrays = tree.arrays
    n = len(coordinates)
    if n not in (6, 7):
        return None, f"{n} joints; 6 or 7 are expected"
    rows = []
    for coordinate in coordinates:
        found = np.flatnonzero(arrays.coordinates == coordinate)
        if len(found) != 1 or arrays.multipliers[found[0]] != 1.0 or arrays.biases[found[0]] != 0.0:
            return None, "a joint of the arm is mimicked"
        rows.append(int(found[0]))
    if arrays.prismatic[rows].any():
        return None, "a joint of the arm slides"
    if wrist[0] != rows[-1] or any(arrays.parents[rows[k + 1]] != rows[k] for k in range(n - 1)):
        return None, "the joints of the arm do not follow one another to the wrist"
    carrier = int(arrays.parents[rows[0]])
    positions, rotations = tree.body_poses(np.zeros(int(arrays.coordinates.max()) + 1))
    base = rotations[carrier].T
    points = (positions[rows] - positions[carrier]) @ base.T
    turns = np.einsum("ij,kjl->kil", base, rotations[rows])
    axes = np.einsum("kij,kj->ki", turns, arrays.axes[rows])

    best: tuple[float, int, Array, Array, float] | None = None
    for count in (3,) if n == 7 else (2, 3):
        shoulder = _meeting_point(points[:count], axes[:count])
        end = _meeting_point(points[count + 1 :], axes[count + 1 :])
        if shoulder is None or end is None:
            continue
        along = axes[count]
        length = 0.0
        for point in (shoulder[0], end[0]):
            away = point - points[count]
            length += float(np.linalg.norm(away - (away @ along) * along))
        missed = max(shoulder[1], end[1])
        if length > 0.02 and (best is None or missed / length < best[0]):
            best = (missed / length, count, shoulder[0], end[0], missed)
    if best is None:
        return None, "axes of the shoulder or the wrist are parallel"
    share, count, shoulder_point, wrist_point, missed = best
    if share > MEETING_SHARE:
        return None, (
            f"axes pass {missed:.3f} m beside the shoulder or the wrist, {share:.2f} of the arm's length; "
            f"at most {MEETING_SHARE:g} is expected"
        )
    along = axes[count]
    for point in (shoulder_point, wrist_point):
        away = point - points[count]
        if float(np.linalg.norm(away - (away @ along) * along)) < 0.02:
            return None, "the elbow does not change how far the wrist is from the shoulder"
    elbow_point = points[count]
    if elbow is not None and elbow[0] in rows[: count + 1]:
        k = rows.index(elbow[0])
        elbow_point = points[k] + turns[k] @ elbow[1]
    elbow_offset = elbow_point - shoulder_point
    site = points[-1] + turns[-1] @ wrist[1]
    hand = turns[-1] @ wrist[2]
    return (
        ArmGeometry(
            coordinates=np.asarray(coordinates, dtype=np.int64),
            shoulder_axes=count,
            axes=np.ascontiguousarray(axes),
            shoulder=shoulder_point,
            elbow=points[count].copy(),
            wrist=wrist_point,
            elbow_offset=elbow_offset,
            hand_offset=hand.T @ (wrist_point - site),
            hand_rotation=quaternion_from_rotation_matrix(hand),
            carrier=carrier,
            offset_m=missed,
        ),
        "",
    )


def robot_arms(model: RobotModel, layout: TaskLayout) -> dict[str, tuple[ArmGeometry | None, str]]:
    """Per side with an arm and a wrist: its geometry in `layout.tree`, or None and why it has none."""
    arms = {}
    for k, side in enumerate(SIDES):
        chain = model.description.chains[f"{side}_arm"]
        if not chain or f"{side}_wrist" not in model.description.sites:
            continue
        tasks = layout.arrays
        coordinates = np.array([model.joint_names.index(name) for name in chain], dtype=np.int64)
        wrist = (int(tasks.site_bodies[k]), tasks.site_positions[k], tasks.site_rotations[k])
        elbow = (int(tasks.to_bodies[k]), tasks.to_positions[k]) if tasks.to_bodies[k] > 0 else None
        arms[side] = arm_geometry(layout.tree, coordinates, wrist, elbow)
    return arms


# ---- turns as tuples (x, y, z, w): numba keeps them in registers


@compiled
def _dot(a, b):  # type: ignore[no-untyped-def]
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


@compiled
def _cross(a, b):  # type: ignore[no-untyped-def]
    return a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]


@compiled
def _minus(a, b):  # type: ignore[no-untyped-def]
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


@compiled
def _vector(a):  # type: ignore[no-untyped-def]
    return a[0], a[1], a[2]


@compiled
def _about(axis, angle):  # type: ignore[no-untyped-def]
    s = np.sin(0.5 * angle)
    return s * axis[0], s * axis[1], s * axis[2], np.cos(0.5 * angle)


@compiled
def _back(q):  # type: ignore[no-untyped-def]
    return -q[0], -q[1], -q[2], q[3]


@compiled
def _turned(q, v):  # type: ignore[no-untyped-def]
    return rotate_by(q, v[0], v[1], v[2])


@compiled
def _from_to(v, w):  # type: ignore[no-untyped-def]
    """The shortest turn that takes the direction of v to that of w."""
    size = np.sqrt(_dot(v, v) * _dot(w, w))
    if size < 1e-12:
        return 0.0, 0.0, 0.0, 1.0
    cosine = _dot(v, w) / size
    if cosine < -1.0 + 1e-12:
        # Opposite: half a turn about anything square to v.
        other = (1.0, 0.0, 0.0) if abs(v[0]) < 0.7 * np.sqrt(_dot(v, v)) else (0.0, 1.0, 0.0)
        axis = _cross(v, other)
        length = np.sqrt(_dot(axis, axis))
        return axis[0] / length, axis[1] / length, axis[2] / length, 0.0
    axis = _cross(v, w)
    x, y, z, real = axis[0] / size, axis[1] / size, axis[2] / size, 1.0 + cosine
    length = np.sqrt(x * x + y * y + z * z + real * real)
    return x / length, y / length, z / length, real / length


@compiled
def _angle_about(axis, v, w):  # type: ignore[no-untyped-def]
    """The turn about the unit `axis` that brings v nearest to w (rad); 0 where every turn does."""
    x = _dot(v, w) - _dot(axis, v) * _dot(axis, w)
    y = _dot(axis, _cross(v, w))
    if x * x + y * y < 1e-24:
        return 0.0
    return np.arctan2(y, x)


@compiled
def _twist(q, axis):  # type: ignore[no-untyped-def]
    """The angle of the turn about `axis` that is nearest to q (rad)."""
    return 2.0 * np.arctan2(_dot(q, axis), q[3])


@compiled
def _level(axis, turning, v, height):  # type: ignore[no-untyped-def]
    """The two angles (middle, half difference) at which v, turned about `turning`, has ``axis . v = height``.

    The nearest one, with no difference, where none does.
    """
    constant = _dot(axis, turning) * _dot(turning, v)
    a = _dot(axis, v) - constant
    b = _dot(axis, _cross(turning, v))
    r = np.sqrt(a * a + b * b)
    if r < 1e-12:
        return 0.0, 0.0
    return np.arctan2(b, a), np.arccos(min(1.0, max(-1.0, (height - constant) / r)))


@compiled
def _within(angle, near, lower, upper):  # type: ignore[no-untyped-def]
    """`angle` plus whole turns, next to `near` (in the limits), else at the nearer limit; how far outside."""
    turn = 2.0 * np.pi
    angle += turn * np.round((near - angle) / turn)
    if angle < lower:
        if angle + turn <= upper:
            return angle + turn, 0.0
        below, above = lower - angle, angle + turn - upper
    elif angle > upper:
        if angle - turn >= lower:
            return angle - turn, 0.0
        below, above = lower - (angle - turn), angle - upper
    else:
        return angle, 0.0
    return (lower, below) if below <= above else (upper, above)


@compiled
def arm_candidates(  # type: ignore[no-untyped-def]
    arm, position, rotation, direction, swivel, near, lower, upper, candidates, excess, missed
):
    """Fill `candidates` ``(8, n)`` (rad), `excess` ``(8, n)``: how far each joint was moved to its limit,
    and `missed` ``(8,)``: how far W is from where it is wanted, were it not for limits (m).

    position ``(3,)``, rotation ``(4,)``: the wanted wrist site in the arm's carrier; direction ``(3,)``:
    where the elbow should be, from the shoulder (any length; only its part beside the arm counts); swivel
    (rad): turned on from there; near, lower, upper ``(n,)``: the arm's joints now (whole turns are chosen
    next to them), and their limits. Returns how many there are.
    """
    n = arm.axes.shape[0]
    s = arm.shoulder_axes
    shoulder, elbow, wrist = _vector(arm.shoulder), _vector(arm.elbow), _vector(arm.wrist)
    wanted_turn = (rotation[0], rotation[1], rotation[2], rotation[3])
    hand = _turned(wanted_turn, _vector(arm.hand_offset))
    goal = (
        position[0] + hand[0] - shoulder[0],
        position[1] + hand[1] - shoulder[1],
        position[2] + hand[2] - shoulder[2],
    )
    zero = arm.hand_rotation
    turn = product(wanted_turn, _back((zero[0], zero[1], zero[2], zero[3])))
    bend = _vector(arm.axes[s])
    u, v = _minus(shoulder, elbow), _minus(wrist, elbow)
    distance = np.sqrt(_dot(goal, goal))
    middle, half = _level(u, bend, v, 0.5 * (_dot(u, u) + _dot(v, v) - distance * distance))
    along = (0.0, 0.0, 1.0)
    if distance > 1e-9:
        along = (goal[0] / distance, goal[1] / distance, goal[2] / distance)
    first, second, third = _vector(arm.axes[0]), _vector(arm.axes[1]), _vector(arm.axes[2])
    b0, b1, b2 = _vector(arm.axes[s + 1]), _vector(arm.axes[s + 2]), _vector(arm.axes[n - 1])
    count = 0
    for e in range(2):
        angle = middle + half if e == 0 else middle - half
        bent = _about(bend, angle)
        reached = _turned(bent, v)
        reached = (reached[0] - u[0], reached[1] - u[1], reached[2] - u[2])
        raised = (0.0, 0.0, 0.0, 1.0)
        if s == 3:
            raised = _from_to(reached, goal)
            beside = _angle_about(along, _turned(raised, _vector(arm.elbow_offset)), _vector(direction))
            raised = product(_about(along, beside + swivel), raised)
            pivot = _turned(raised, third)
            middle1, half1 = _level(first, second, third, _dot(first, pivot))
        else:
            pivot = goal
            middle1, half1 = _level(first, second, reached, _dot(first, goal))
        for k in range(2):
            q1 = middle1 + half1 if k == 0 else middle1 - half1
            lifted = _about(second, q1)
            q0 = _angle_about(first, _turned(lifted, third if s == 3 else reached), pivot)
            upper_arm = product(_about(first, q0), lifted)
            q2 = 0.0
            if s == 3:
                q2 = _twist(product(_back(upper_arm), raised), third)
                upper_arm = product(upper_arm, _about(third, q2))
            gap = _minus(_turned(upper_arm, reached), goal)
            gap_m = np.sqrt(_dot(gap, gap))
            rest = product(_back(product(upper_arm, bent)), turn)
            three = n - s - 1 == 3
            middle4, half4 = 0.0, 0.0
            if three:
                middle4, half4 = _level(b0, b1, b2, _dot(b0, _turned(rest, b2)))
            for w in range(2 if three else 1):
                row = candidates[count]
                row[0], row[1] = q0, q1
                if s == 3:
                    row[2] = q2
                row[s] = angle
                if three:
                    q5 = middle4 + half4 if w == 0 else middle4 - half4
                    flexed = _about(b1, q5)
                    q4 = _angle_about(b0, _turned(flexed, b2), _turned(rest, b2))
                    row[s + 1], row[s + 2] = q4, q5
                    row[n - 1] = _twist(product(_back(product(_about(b0, q4), flexed)), rest), b2)
                else:
                    q4 = _angle_about(b0, b1, _turned(rest, b1))
                    row[s + 1] = q4
                    row[s + 2] = _twist(product(_back(_about(b0, q4)), rest), b1)
                for i in range(n):
                    row[i], excess[count, i] = _within(row[i], near[i], lower[i], upper[i])
                missed[count] = gap_m
                count += 1
    return count


@compiled
def _from_columns(x, y, z):  # type: ignore[no-untyped-def]
    """The turn (x, y, z, w) whose matrix has these columns."""
    trace = x[0] + y[1] + z[2]
    if trace > 0.0:
        a, b, c, d = y[2] - z[1], z[0] - x[2], x[1] - y[0], 1.0 + trace
    elif x[0] >= y[1] and x[0] >= z[2]:
        a, b, c, d = 1.0 + x[0] - y[1] - z[2], y[0] + x[1], z[0] + x[2], y[2] - z[1]
    elif y[1] >= z[2]:
        a, b, c, d = y[0] + x[1], 1.0 - x[0] + y[1] - z[2], z[1] + y[2], z[0] - x[2]
    else:
        a, b, c, d = z[0] + x[2], z[1] + y[2], 1.0 - x[0] - y[1] + z[2], x[1] - y[0]
    length = np.sqrt(a * a + b * b + c * c + d * d)
    return a / length, b / length, c / length, d / length


@compiled
def arm_seeds(  # type: ignore[no-untyped-def]
    arm, position, rotation, direction, base_position, base_rotation, q, lower, upper, posture, weights,
    elbow_weight, seeds, scores, candidates, excess, missed,
):  # fmt: skip
    """Fill `seeds` ``(k, n)`` with the best candidates that differ from one another, the best first.

    position ``(3,)``, rotation ``(3, 3)``, direction ``(3,)``: wanted wrist site and elbow in the root; base:
    the carrier's pose there; q, lower, upper, posture, weights ``(m,)`` of all joints: where they are, their
    limits, what they like and how much (m/rad). `scores` ``(k,)`` (m²): about the cost of each. candidates,
    excess ``(8, n)`` and missed ``(8,)`` are work space. Returns how many there are.
    """
    n, most = arm.axes.shape[0], seeds.shape[0]
    columns = np.empty((3, 3))
    where, aside = np.empty(3), np.empty(3)
    for r in range(3):
        where[r], aside[r] = 0.0, 0.0
        for k in range(3):
            where[r] += base_rotation[k, r] * (position[k] - base_position[k])
            aside[r] += base_rotation[k, r] * direction[k]
        for c in range(3):
            columns[c, r] = 0.0
            for k in range(3):
                columns[c, r] += base_rotation[k, r] * rotation[k, c]
    turn = _from_columns(_vector(columns[0]), _vector(columns[1]), _vector(columns[2]))
    near, low, high = np.empty(n), np.empty(n), np.empty(n)
    for i in range(n):
        near[i] = q[arm.coordinates[i]]
        low[i], high[i] = lower[arm.coordinates[i]], upper[arm.coordinates[i]]
    found = 0
    for step in range(3):
        swivel = 0.0 if step == 0 else (_SWIVEL_RAD if step == 1 else -_SWIVEL_RAD)
        if step > 0 and arm.shoulder_axes == 2:
            break
        count = arm_candidates(arm, where, turn, aside, swivel, near, low, high, candidates, excess, missed)
        for c in range(count):
            score = missed[c] ** 2 + 2.0 * elbow_weight**2 * (1.0 - np.cos(swivel))
            farthest = 0.0
            for i in range(n):
                j = arm.coordinates[i]
                lever = _UPPER_LEVER_M if i <= arm.shoulder_axes else _WRIST_LEVER_M
                score += (lever * excess[c, i]) ** 2 + (weights[j] * (candidates[c, i] - posture[j])) ** 2
                farthest = max(farthest, abs(candidates[c, i] - near[i]))
            score += (_WAY_M_RAD * farthest) ** 2
            score *= 0.5
            # Where it goes among the ones that are kept; of two that are alike the better stays.
            at, alike = found, -1
            for k in range(found):
                apart = 0.0
                for i in range(n):
                    apart = max(apart, abs(candidates[c, i] - seeds[k, i]))
                if apart < _ALIKE_RAD and alike < 0:
                    alike = k
            if alike >= 0:
                if score >= scores[alike]:
                    continue
                for k in range(alike, found - 1):
                    scores[k] = scores[k + 1]
                    seeds[k] = seeds[k + 1]
                found -= 1
                at = found
            while at > 0 and score < scores[at - 1]:
                at -= 1
            if at >= most:
                continue
            found = min(found + 1, most)
            for k in range(found - 1, at, -1):
                scores[k] = scores[k - 1]
                seeds[k] = seeds[k - 1]
            scores[at] = score
            seeds[at] = candidates[c]
    return found
