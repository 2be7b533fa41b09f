"""From a trainer's finger points to the joints of a robot's hand: damped Gauss-Newton in a box.

Every goal is about the vector from one point of the hand to another. Residuals, in metres, each times
its weight; scales: the robot's finger over the trainer's (tips), their mean (between tips):

- tip: base to tip, less the trainer's times the finger's scale;
- direction: unit vectors base to middle and distal to tip, less the trainer's (weight in m);
- between: thumb tip to finger tip, less the trainer's times the scale; only where they are near;
- pinch: distance of thumb tip and finger tip, less what leaves the gap between the trainer's
  between the pads; it takes over from the other goals of both fingers as the trainer's tips meet;
- clearance: what the two pads overlap; one-sided, always on;
- posture: joints less the open hand's; tiny, for what nothing else decides.

All weights change smoothly with the trainer's points, so the minimum that is followed moves smoothly too.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS
from retargeting.box_qp import SOLVED, BoxQpWork, solve_box_qp
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.hand_model import RobotHand
from retargeting.hand_points import BASE, DISTAL, MIDDLE, TIP
from retargeting.kinematics import TreeArrays, forward
from retargeting.packed import pack
from retargeting.pose_blend import smoothstep
from retargeting.tasks import add_rows, point_jacobian

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

_VECTOR, _DIRECTION, _DISTANCE, _CLEARANCE = range(4)


@dataclass(frozen=True)
class HandParameters:
    """Weights (metres are the common unit), when tips pinch, and how the minimum is sought.

    The trainer's tips touch at a distance of `pinch_m` (tracking puts a tip inside the finger); from
    `pinch_far_m` on, that they pinch begins to count, from `between_far_m` on, where they are to each other.
    """

    tip_weight: float = 1.0
    direction_weight_m: float = 0.02
    thumb_direction_share: float = 1.0
    between_weight: float = 0.7
    pinch_weight: float = 30.0
    posture_weight_m_rad: float = 0.004
    pinch_m: float = 0.015
    pinch_far_m: float = 0.040
    between_far_m: float = 0.12
    steps: int = 6
    first_steps: int = 60
    largest_step_rad: float = 0.3
    rival_frames: int = 18
    rival_share: float = 0.5
    rival_lead_m: float = 0.003
    damping: float = 1e-6
    largest_damping: float = 0.1

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value) or value < 0.0:
                raise RetargetingError(f"hand parameter {name}: {value!r} must be finite and not negative")
        for name in ("steps", "first_steps", "rival_frames"):
            if not 1 <= getattr(self, name) <= 1000:
                raise RetargetingError(f"hand parameter {name}: {getattr(self, name)} is outside 1 .. 1000")
        for name in ("posture_weight_m_rad", "largest_step_rad", "damping"):
            if getattr(self, name) <= 0.0:
                raise RetargetingError(f"hand parameter {name}: {getattr(self, name)} must be above 0")
        if not self.pinch_m < self.pinch_far_m <= self.between_far_m:
            raise RetargetingError(
                f"hand parameters pinch_m {self.pinch_m:g} < pinch_far_m {self.pinch_far_m:g} <= "
                f"between_far_m {self.between_far_m:g} is expected"
            )


class _Numbers(NamedTuple):
    """`HandParameters` as compiled code takes them."""

    tip_weight: float
    direction_weight_m: float
    thumb_direction_share: float
    between_weight: float
    pinch_weight: float
    pinch_m: float
    pinch_far_m: float
    between_far_m: float
    steps: int
    first_steps: int
    largest_step_rad: float
    rival_frames: int
    rival_share: float
    rival_lead_m: float
    damping: float
    largest_damping: float

    @staticmethod
    def of(p: HandParameters) -> _Numbers:
        # A number may be written as an integer; compiled code is made for one type of each.
        return _Numbers(
            float(p.tip_weight), float(p.direction_weight_m), float(p.thumb_direction_share),
            float(p.between_weight), float(p.pinch_weight), float(p.pinch_m), float(p.pinch_far_m),
            float(p.between_far_m), int(p.steps), int(p.first_steps), float(p.largest_step_rad),
            int(p.rival_frames), float(p.rival_share), float(p.rival_lead_m), float(p.damping),
            float(p.largest_damping),
        )  # fmt: skip


class FingerArrays(NamedTuple):
    """Of a `RobotHand`: finger_indices, reach_m, pad_radii ``(k,)``, wrist_rotation ``(3, 3)``, moves
    ``(k, n)``, lower, upper ``(n,)``."""

    finger_indices: NDArray[np.int64]
    reach_m: Array
    pad_radii: Array
    wrist_rotation: Array
    moves: BoolArray
    lower: Array
    upper: Array


@compiled
def _smooth_fall(value, start, end):  # type: ignore[no-untyped-def]
    """1 up to `start`, 0 from `end` on, smooth between."""
    return 1.0 - smoothstep((value - start) / (end - start))


@compiled
def _fill_goals(points, known, finger_m, fingers, parameters, weights, targets):  # type: ignore[no-untyped-def]
    """Fill `weights` ``(g,)`` and `targets` ``(g, 3)`` in the order of `HandSolver`'s goals.

    points ``(5, 4, 3)``, known ``(5,)`` and finger_m ``(5,)`` are the trainer's; fingers `FingerArrays`;
    parameters `_Numbers`.
    """
    finger_indices, reach_m, pad_radii, wrist_rotation = fingers[:4]
    tip_weight, direction_weight, thumb_direction_share, between_weight = parameters[:4]
    pinch_weight, pinch_m, pinch_far_m, between_far_m = parameters[4:8]
    count = finger_indices.shape[0]
    thumb = 0 if finger_indices[0] == 0 else -1
    weights[:] = 0.0
    targets[:] = 0.0
    scale, fingers = 0.0, 0
    for k in range(count):
        f = finger_indices[k]
        if known[f]:
            scale += reach_m[k] / finger_m[f]
            fingers += 1
    if fingers == 0:
        return
    scale /= fingers
    loose = 1.0  # How little the thumb pinches.
    for k in range(count):
        f = finger_indices[k]
        if k == thumb or thumb < 0 or not known[f] or not known[0]:
            continue
        squared = 0.0
        for r in range(3):
            squared += (points[f, 3, r] - points[0, 3, r]) ** 2
        distance = np.sqrt(squared)
        pinch = _smooth_fall(distance, pinch_m, pinch_far_m)
        loose = min(loose, 1.0 - 0.9 * pinch)
        g = 3 * count + 3 * k
        contact = pad_radii[k] + pad_radii[thumb]
        # Tips that nearly touch point anywhere: the pads' own distance is all that is asked of the length.
        length = max(distance, pinch_m)
        weights[g] = between_weight * _smooth_fall(distance, pinch_far_m, between_far_m)
        for r in range(3):
            apart = (points[f, 3, r] - points[0, 3, r]) / length
            targets[g, r] = apart * (scale * distance * (1.0 - pinch) + contact * pinch)
        # Squared: it would outweigh everything else as soon as it begins.
        weights[g + 1] = pinch_weight * pinch * pinch
        targets[g + 1, 0] = contact + max(0.0, distance - pinch_m)
        weights[g + 2] = pinch_weight
        targets[g + 2, 0] = contact
        weights[3 * k] = 1.0 - 0.9 * pinch
    for k in range(count):
        f = finger_indices[k]
        if not known[f]:
            continue
        share = loose if k == thumb else (weights[3 * k] if thumb >= 0 and known[0] else 1.0)
        weights[3 * k] = tip_weight * share
        directed = direction_weight * (thumb_direction_share if k == thumb else 1.0)
        ratio = reach_m[k] / finger_m[f]
        for r in range(3):
            targets[3 * k, r] = ratio * (points[f, 3, r] - points[f, 0, r])
        for d in range(2):
            squared = 0.0
            for r in range(3):
                squared += (points[f, 1 + 2 * d, r] - points[f, 2 * d, r]) ** 2
            if squared < 1e-10:
                continue
            weights[3 * k + 1 + d] = directed
            for r in range(3):
                targets[3 * k + 1 + d, r] = (points[f, 1 + 2 * d, r] - points[f, 2 * d, r]) / np.sqrt(squared)
    x = np.empty(3)
    for g in range(weights.shape[0]):
        if g >= 3 * count and (g - 3 * count) % 3 != 0:
            continue
        for r in range(3):
            x[r] = targets[g, r]
        for r in range(3):
            targets[g, r] = (
                wrist_rotation[r, 0] * x[0] + wrist_rotation[r, 1] * x[1] + wrist_rotation[r, 2] * x[2]
            )


class HandGoalArrays(NamedTuple):
    """`g` vectors between two points of the hand and what they should be; see `HandSolver`.

    kinds ``(g,)``; bodies ``(g, 2)`` rows of the tree, positions ``(g, 2, 3)`` in the body; weights
    ``(g,)``, targets ``(g, 3)``; posture ``(n,)``.
    """

    kinds: NDArray[np.int64]
    bodies: NDArray[np.int64]
    positions: Array
    weights: Array
    targets: Array
    posture_weight: float
    posture: Array


class HandWork(NamedTuple):
    """Room for what is computed on the way."""

    positions: Array
    rotations: Array
    linear: Array
    angular: Array
    points: Array
    residual: Array
    support: NDArray[np.int64]
    hessians: Array
    gradients: Array
    damped: Array
    step: Array
    low: Array
    high: Array
    trial: Array
    lowest: Array
    highest: Array
    qp: BoxQpWork

    @staticmethod
    def of_size(n: int, bodies: int) -> HandWork:
        return HandWork(
            np.empty((bodies, 3)),
            np.empty((bodies, 3, 3)),
            np.empty((3, n)),
            np.zeros((3, n)),
            np.empty((2, 3)),
            np.empty(3),
            np.empty(n, dtype=np.int64),
            np.empty((2, n, n)),
            np.empty((2, n)),
            np.empty((n, n)),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            np.empty(n),
            BoxQpWork.of_size(n),
        )


@compiled
def _goal_model(q, tree, goals, work, hessian, gradient):  # type: ignore[no-untyped-def]
    """Gauss-Newton model at q: fill `hessian` ``(n, n)`` and `gradient` ``(n,)``; returns the cost.

    The cost is half the sum of squares.
    """
    n = q.shape[0]
    positions, rotations, linear, angular, points, residual, support = work[:7]
    weights, targets, posture = goals.weights, goals.targets, goals.posture
    forward(tree, q, positions, rotations)
    squared = goals.posture_weight * goals.posture_weight
    cost = 0.0
    for i in range(n):
        for j in range(n):
            hessian[i, j] = 0.0
        hessian[i, i] = squared
        gradient[i] = squared * (q[i] - posture[i])
        cost += 0.5 * squared * (q[i] - posture[i]) ** 2
    for g in range(weights.shape[0]):
        weight = weights[g]
        if weight == 0.0:
            continue
        for e in range(2):
            body = goals.bodies[g, e]
            for r in range(3):
                value = positions[body, r]
                for c in range(3):
                    value += rotations[body, r, c] * goals.positions[g, e, c]
                points[e, r] = value
        dx, dy, dz = (
            points[1, 0] - points[0, 0],
            points[1, 1] - points[0, 1],
            points[1, 2] - points[0, 2],
        )
        length = np.sqrt(dx * dx + dy * dy + dz * dz)
        kind = goals.kinds[g]
        if kind != _VECTOR and length < 1e-6:
            continue
        if kind == _CLEARANCE and length >= targets[g, 0]:
            continue
        rows = 3
        if kind == _VECTOR:
            residual[0], residual[1], residual[2] = (
                dx - targets[g, 0],
                dy - targets[g, 1],
                dz - targets[g, 2],
            )
        elif kind == _DIRECTION:
            residual[0], residual[1], residual[2] = (
                dx / length - targets[g, 0],
                dy / length - targets[g, 1],
                dz / length - targets[g, 2],
            )
        else:
            rows = 1
            residual[0] = length - targets[g, 0]
        linear[:] = 0.0
        for e in range(2):
            point_jacobian(
                tree, positions, rotations,
                goals.bodies[g, e], points[e], 2.0 * e - 1.0, linear, angular, support,
            )  # fmt: skip
        count = 0
        for i in range(n):
            x, y, z = linear[0, i], linear[1, i], linear[2, i]
            if x == 0.0 and y == 0.0 and z == 0.0:
                continue
            support[count] = i
            count += 1
            if kind == _VECTOR:
                continue
            along = (dx * x + dy * y + dz * z) / length
            if kind == _DIRECTION:
                linear[0, i] = (x - along * dx / length) / length
                linear[1, i] = (y - along * dy / length) / length
                linear[2, i] = (z - along * dz / length) / length
            else:
                linear[0, i] = along
        squared = weight * weight
        for r in range(rows):
            cost += 0.5 * squared * residual[r] * residual[r]
        add_rows(linear, residual, weight, rows, hessian, gradient, support, count)
    return cost


@compiled
def _descend(  # type: ignore[no-untyped-def]
    q, lower, upper, reach, steps, largest_step, damping, largest_damping, tree, goals, outcome, work
):
    """Damped steps of `q` ``(n,)``, in place, inside its limits and `reach` ``(n,)`` of its start.

    A step that does not lower the cost is not taken; the damping follows the ratio of the cost's fall to
    the predicted one (Nielsen, IMM-REP-1999-05). `outcome` ``(3,)`` is filled with the cost, the status
    of the last quadratic problem and the damping, which it brings from the frame before.
    """
    n = q.shape[0]
    damped, step, low, high, trial, lowest, highest, qp = work[9:]
    hessian, new_hessian = work.hessians[0], work.hessians[1]
    gradient, new_gradient = work.gradients[0], work.gradients[1]
    for i in range(n):
        lowest[i], highest[i] = max(lower[i], q[i] - reach[i]), min(upper[i], q[i] + reach[i])
    cost = _goal_model(q, tree, goals, work, hessian, gradient)
    # Residuals that stay large bend the cost in a way that Gauss-Newton does not see: how much has to be
    # added (by how well the last steps were predicted) holds for the next frame too.
    extra, growth = max(damping, outcome[2]), 2.0
    outcome[1] = SOLVED
    for _ in range(steps):
        largest = 0.0
        for i in range(n):
            for j in range(n):
                damped[i, j] = hessian[i, j]
            damped[i, i] += extra
            low[i] = max(lowest[i] - q[i], -largest_step)
            high[i] = min(highest[i] - q[i], largest_step)
            step[i] = 0.0
        status = solve_box_qp(damped, gradient, low, high, step, qp)
        if status != SOLVED:
            outcome[1] = status
            break
        predicted = 0.0
        for i in range(n):
            trial[i] = min(max(q[i] + step[i], lowest[i]), highest[i])
            largest = max(largest, abs(step[i]))
            predicted -= step[i] * gradient[i]
            for j in range(n):
                predicted -= 0.5 * step[i] * hessian[i, j] * step[j]
        if largest < 1e-6 or predicted <= 0.0:
            break
        new_cost = _goal_model(trial, tree, goals, work, new_hessian, new_gradient)
        gain = (cost - new_cost) / predicted
        if gain > 0.0:
            cost = new_cost
            q[:] = trial
            hessian, new_hessian = new_hessian, hessian
            gradient, new_gradient = new_gradient, gradient
            extra = max(damping, extra * max(1.0 / 3.0, 1.0 - (2.0 * gain - 1.0) ** 3))
            growth = 2.0
        else:
            extra *= growth
            growth *= 2.0
    outcome[2] = min(extra, largest_damping)
    outcome[0] = cost


class SearchState(NamedTuple):
    """What passes from frame to frame, and room.

    q, rival ``(n,)``; outcome, rival_outcome ``(3,)``: see `_descend`; starts ``(s, n)``: where rivals begin;
    counts ``(4,)``: 1 before the first solution, rivals so far, frames of this one, recoveries; free, near
    ``(n,)``: how far a joint may be sought and moved; trials ``(1 + s, n)``.
    """

    q: Array
    rival: Array
    outcome: Array
    rival_outcome: Array
    starts: Array
    counts: NDArray[np.int64]
    free: Array
    near: Array
    trials: Array


_FIRST, _RIVALS, _RIVAL_FRAMES, _RECOVERIES = range(4)
_ANYWHERE = 4.0 * np.pi


class HandSolverArrays(NamedTuple):
    """All that a frame reads and writes."""

    tree: TreeArrays
    fingers: FingerArrays
    parameters: _Numbers
    goals: HandGoalArrays
    state: SearchState
    work: HandWork


@compiled
def _search(q, reach, steps, outcome, hand):  # type: ignore[no-untyped-def]
    """`_descend` of q ``(n,)`` within `reach` ``(n,)``; whether that could be solved."""
    n, fingers = hand.parameters, hand.fingers
    _descend(
        q, fingers.lower, fingers.upper, reach, steps, n.largest_step_rad, n.damping, n.largest_damping,
        hand.tree, hand.goals, outcome, hand.work,
    )  # fmt: skip
    return outcome[1] == SOLVED and np.isfinite(q).all()


@compiled
def _solve(packed, points, known, finger_m, reach):  # type: ignore[no-untyped-def]
    """One frame, see `HandSolver.solve`, on packed `HandSolverArrays`; (whether it was solved, the cost)."""
    hand = packed.content
    fingers, parameters, state = hand.fingers, hand.parameters, hand.state
    q, rival, starts, counts, free, near = (
        state.q, state.rival, state.starts, state.counts, state.free, state.near
    )  # fmt: skip
    _fill_goals(points, known, finger_m, fingers, parameters, hand.goals.weights, hand.goals.targets)
    for i in range(q.shape[0]):
        free[i] = 0.0
        for k in range(fingers.finger_indices.shape[0]):
            if known[fingers.finger_indices[k]] and fingers.moves[k, i]:
                free[i] = _ANYWHERE
        near[i] = min(reach[i], free[i])
    if counts[_FIRST]:
        counts[_FIRST] = 0
        best, lowest = 0, np.inf
        for s in range(state.trials.shape[0]):
            trial = state.trials[s]
            for i in range(q.shape[0]):
                trial[i] = starts[s - 1, i] if s > 0 and free[i] > 0.0 else q[i]
            state.outcome[2] = 0.0
            if not _search(trial, free, parameters.first_steps, state.outcome, hand):
                return False, np.inf
            if state.outcome[0] < lowest:
                best, lowest = s, state.outcome[0]
        q[:] = state.trials[best]
        return True, lowest
    if not _search(q, near, parameters.steps, state.outcome, hand):
        return False, np.inf
    cost = state.outcome[0]
    if counts[_RIVAL_FRAMES] == 0:
        start = starts[counts[_RIVALS] % starts.shape[0]]
        for i in range(q.shape[0]):
            rival[i] = start[i] if free[i] > 0.0 else q[i]
        state.rival_outcome[2] = 0.0
        counts[_RIVALS] += 1
    if not _search(rival, free, parameters.steps, state.rival_outcome, hand):
        return False, np.inf
    counts[_RIVAL_FRAMES] += 1
    if counts[_RIVAL_FRAMES] == parameters.rival_frames:
        counts[_RIVAL_FRAMES] = 0
        rival_cost = state.rival_outcome[0]
        if rival_cost < parameters.rival_share * cost - parameters.rival_lead_m**2:
            q[:] = rival
            cost = rival_cost
            counts[_RECOVERIES] += 1
    return True, cost


class HandSolver:
    """Holds the joints of one hand that suit the trainer's best, followed from frame to frame.

    A rival is sought beside them, from the open, closed and half closed hand in turn. Where it is much
    better, the hand was stuck (a thumb behind a finger) and the rival is taken: `recoveries` counts that.

    Goals, in order: per finger of the robot tip, base-to-middle and distal-to-tip direction; then per
    finger between, pinch and clearance (the thumb's own stay off).
    """

    def __init__(self, hand: RobotHand, parameters: HandParameters | None = None) -> None:
        self.hand = hand
        self.parameters = parameters or HandParameters()
        count, n = len(hand.fingers), len(hand.joint_names)
        thumb = hand.fingers.index("thumb") if "thumb" in hand.fingers else 0
        kinds, ends = [], []
        for k in range(count):
            kinds += [_VECTOR, _DIRECTION, _DIRECTION]
            ends += [((k, BASE), (k, TIP)), ((k, BASE), (k, MIDDLE)), ((k, DISTAL), (k, TIP))]
        for k in range(count):
            kinds += [_VECTOR, _DISTANCE, _CLEARANCE]
            ends += [((thumb, TIP), (k, TIP))] * 3
        starts = np.array([hand.open, hand.closed, 0.5 * (hand.open + hand.closed)])
        self._state = SearchState(
            hand.open.copy(), hand.open.copy(), np.zeros(3), np.zeros(3), starts, np.zeros(4, dtype=np.int64),
            np.zeros(n), np.zeros(n), np.zeros((1 + len(starts), n)),
        )  # fmt: skip
        self._goals = HandGoalArrays(
            np.array(kinds, dtype=np.int64),
            np.array([[hand.bodies[end] for end in pair] for pair in ends], dtype=np.int64),
            np.array([[hand.positions[end] for end in pair] for pair in ends]),
            np.zeros(len(kinds)),
            np.zeros((len(kinds), 3)),
            float(self.parameters.posture_weight_m_rad),
            hand.open,
        )
        self._work = HandWork.of_size(n, len(hand.tree.names))
        arrays = HandSolverArrays(
            hand.tree.arrays,
            FingerArrays(
                hand.finger_indices,
                hand.reach_m,
                hand.pad_radii,
                np.ascontiguousarray(hand.wrist_rotation),
                hand.moves,
                hand.lower,
                hand.upper,
            ),
            _Numbers.of(self.parameters),
            self._goals,
            self._state,
            self._work,
        )
        self._packed = pack(arrays)
        self._anywhere = np.full(n, _ANYWHERE)
        # Compiles (or loads) what would else stop the hand when the trainer's fingers first appear.
        self.solve(
            np.zeros((len(FINGERS), 4, 3)), np.zeros(len(FINGERS), dtype=np.bool_), np.ones(len(FINGERS))
        )
        self.start_from(hand.open)

    @property
    def q(self) -> Array:
        """The joints ``(n,)`` that suit the trainer's best (rad or m)."""
        return self._state.q

    @property
    def recoveries(self) -> int:
        return int(self._state.counts[_RECOVERIES])

    def start_from(self, positions: Array) -> None:
        """Let the search begin at `positions` ``(n,)``; the next solution is sought from afar as well."""
        np.clip(positions, self.hand.lower, self.hand.upper, out=self.q)
        self._state.counts[_FIRST] = 1
        self._state.counts[_RIVAL_FRAMES] = 0

    def solve(self, points: Array, known: BoolArray, finger_m: Array, reach: Array | None = None) -> float:
        """Move `q` towards what suits the trainer's points ``(5, 4, 3)``; returns the cost there (m²).

        known ``(5,)``: fingers that count; finger_m ``(5,)``: their lengths. No joint moves by more than
        `reach` ``(n,)`` (None: by any amount), except at first and by a recovery; joints that move no
        known finger stay. Raises `RetargetingError` if the quadratic problem fails.
        """
        anywhere = self._anywhere if reach is None else reach
        solved, cost = _solve(self._packed, points, known, finger_m, anywhere)
        if not solved:
            statuses = int(self._state.outcome[1]), int(self._state.rival_outcome[1])
            raise RetargetingError(
                f"the {self.hand.side} hand's quadratic problem failed (status {statuses})"
            )
        return float(cost)
