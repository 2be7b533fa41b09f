"""From motion frames to the joints of the robot's hands and grippers.

What decides, for each side:

1. the trainer's tracked fingers: a hand follows them (`retargeting.hand_solver`), a gripper their opening;
2. the trigger, where no finger is tracked and a controller is, or no finger ever was: the joints go
   between the closed and the open posture of `robot.yaml`;
3. neither, after fingers were tracked: everything holds. So does a single finger that is lost.

The goal of a joint never moves faster than the joint's velocity limit allows between two frames, whatever
changes: the fingers, what is tracked of them, or what decides.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS, SIDES
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.hand_model import RobotHand, build_robot_hand
from retargeting.hand_opening import hand_opening
from retargeting.hand_size import HandSize, HandSizeArrays, HandSizeEstimator, measure_fingers
from retargeting.hand_solver import HandParameters, HandSolver
from retargeting.packed import bind, pack
from retargeting.robot_model import RobotModel
from retargeting.tracked_motion import TrackedMotion
from retargeting.trainer_view import TrainerView, view_of

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Frames that come closer or farther than this count as if they came so.
_SHORTEST_PERIOD_S, _LONGEST_PERIOD_S = 0.001, 0.040
_USUAL_PERIOD_S = 1.0 / 90.0


def robot_hand(model: RobotModel, side: str) -> RobotHand | None:
    """The hand of `side`, None where `robot.yaml` describes none. Raises as `build_robot_hand` does."""
    description = model.description
    if side not in description.hands:
        return None
    return build_robot_hand(
        model.urdf,
        side,
        description.grippers[side],
        description.hands[side],
        description.sites[f"{side}_wrist"],
        model.neutral_positions(),
    )


class HandArrays(NamedTuple):
    """One hand or gripper of `j` joints (rad or m) and what is remembered of the trainer's.

    side: its row of `SIDES`; closed, range, velocity ``(j,)``: range is what opens it; size: see
    `HandSizeArrays`; points ``(5, 4, 3)`` of the fingers known ``(5,)``; credible ``(5,)``: those of this
    frame; wanted, farthest ``(j,)``: where the joints should be and how far they may go; last_goal, goal
    ``(j,)``: of the frame before and the newest; stamp_ns ``(1,)``: of that, -1 for none; followed ``(1,)``:
    whether any finger is known; at_trigger ``(1,)``: the goal is where the trigger wants it, not still on
    its way there.
    """

    side: int
    closed: Array
    range: Array
    velocity: Array
    size: HandSizeArrays
    points: Array
    known: BoolArray
    credible: BoolArray
    wanted: Array
    farthest: Array
    last_goal: Array
    goal: Array
    stamp_ns: NDArray[np.int64]
    followed: BoolArray
    at_trigger: BoolArray


# What is left to do after `_follow`: nothing, to let the search begin anew at the last goal, to find what
# suits the fingers.
_DONE, _BEGIN_ANEW, _FIND = range(3)


@compiled
def _open(hand, opening):  # type: ignore[no-untyped-def]
    """Want the joints of a hand that is open by `opening` (0..1)."""
    for i in range(hand.goal.shape[0]):
        hand.wanted[i] = hand.closed[i] + opening * hand.range[i]


@compiled
def _step_goal(hand, by_trigger):  # type: ignore[no-untyped-def]
    """Bring the goal nearer to what is wanted, no joint by more than `farthest`."""
    arrived = True
    for i in range(hand.goal.shape[0]):
        before, farthest = hand.goal[i], hand.farthest[i]
        step = hand.wanted[i] - before
        arrived = arrived and abs(step) <= farthest
        hand.last_goal[i] = before
        hand.goal[i] = before + min(max(step, -farthest), farthest)
    hand.at_trigger[0] = arrived and by_trigger


@compiled
def _follow(packed, view):  # type: ignore[no-untyped-def]
    """Take a trainer's newest frame in (packed `TrainerArrays`); which of the words above is left to do."""
    hand, trainer = packed.content, view.content
    s, stamp_ns = hand.side, trainer.stamp_ns[0]
    period_s = _USUAL_PERIOD_S
    if hand.stamp_ns[0] >= 0:
        period_s = (stamp_ns - hand.stamp_ns[0]) * 1e-9
        if period_s <= 0.0:
            return _DONE
    hand.stamp_ns[0] = stamp_ns
    for i in range(hand.goal.shape[0]):
        hand.farthest[i] = hand.velocity[i] * min(max(period_s, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
    points = trainer.fingers[s]
    measure_fingers(hand.size, points, trainer.fingers_tracked[s], hand.credible)
    if hand.credible.any():
        for f in range(points.shape[0]):
            if hand.credible[f]:
                hand.points[f] = points[f]
                hand.known[f] = True
        hand.followed[0] = True
        return _FIND
    if hand.followed[0] and not trainer.controlled[s]:
        hand.wanted[:] = hand.goal
        _step_goal(hand, False)
        return _DONE
    left = _BEGIN_ANEW if hand.followed[0] else _DONE
    # Fingers that come back begin anew: which of them are known, and the search.
    hand.known[:] = False
    hand.followed[0] = False
    _open(hand, trainer.openings[s])
    _step_goal(hand, True)
    return left


@compiled
def _open_as_fingers(packed):  # type: ignore[no-untyped-def]
    """Bring a gripper nearer to being as open as the trainer's hand is."""
    hand = packed.content
    _open(hand, hand_opening(hand.points, hand.known, hand.size.finger_m))
    _step_goal(hand, False)


@compiled
def _do_as_fingers(packed, wanted):  # type: ignore[no-untyped-def]
    """Bring a hand's joints nearer to `wanted` ``(j,)``."""
    hand = packed.content
    hand.wanted[:] = wanted
    _step_goal(hand, False)


@compiled
def _between_frames(packed, openings, goals, share):  # type: ignore[no-untyped-def]
    """Fill `goals` ``(j,)``, see `HandRetargeter.positions`."""
    hand = packed.content
    opening = openings[hand.side]
    for i in range(goals.shape[0]):
        if hand.at_trigger[0]:
            goals[i] = hand.closed[i] + opening * hand.range[i]
        else:
            goals[i] = hand.last_goal[i] + share * (hand.goal[i] - hand.last_goal[i])


class _Hand:
    """One hand or gripper: its solver (None for a gripper) and what is remembered of the trainer's."""

    def __init__(
        self, model: RobotModel, side: str, parameters: HandParameters | None, size: HandSize | None
    ) -> None:
        ends = model.description.grippers[side].joints
        first = model.joint_names.index(next(iter(ends)))
        # The joints of a gripper are next to each other, see `RobotModel`.
        self.rows = slice(first - model.body_count, first - model.body_count + len(ends))
        closed = np.array([end.closed for end in ends.values()])
        opened = np.array([end.open for end in ends.values()])
        hand = robot_hand(model, side)
        self.solver = None if hand is None else HandSolver(hand, parameters)
        self.estimator = HandSizeEstimator(size=size)
        fingers, count = len(FINGERS), len(ends)
        self.arrays = HandArrays(
            SIDES.index(side),
            closed,
            opened - closed,
            model.velocity[first : first + count].copy(),
            self.estimator.arrays,
            np.zeros((fingers, 4, 3)),
            np.zeros(fingers, dtype=np.bool_),
            np.zeros(fingers, dtype=np.bool_),
            opened.copy(),
            np.zeros(count),
            opened.copy(),
            opened.copy(),
            np.full(1, -1, dtype=np.int64),
            np.zeros(1, dtype=np.bool_),
            np.zeros(1, dtype=np.bool_),
        )
        self.packed = pack(self.arrays)
        self._open_as_fingers = bind(_open_as_fingers, (self.packed,))
        self._do_as_solver = None
        if self.solver is not None:
            self._do_as_solver = bind(_do_as_fingers, (self.packed, self.solver.q))
        self._view: TrainerView | None = None

    def start_from(self, positions: Array) -> None:
        arrays = self.arrays
        arrays.goal[:] = arrays.last_goal[:] = positions
        arrays.known[:], arrays.followed[0], arrays.at_trigger[0] = False, False, False
        arrays.stamp_ns[0] = -1
        if self.solver is not None:
            self.solver.start_from(positions)

    def stay(self) -> None:
        self.arrays.last_goal[:] = self.arrays.goal

    def follow(self, view: TrainerView) -> None:
        """Bring the goal nearer to where a newer frame wants it, as fast as the joints may."""
        arrays, solver = self.arrays, self.solver
        if view is not self._view:
            self._follow, self._view = bind(_follow, (self.packed, view.packed)), view
        left = self._follow()
        if left == _DONE:
            return
        if solver is None or self._do_as_solver is None:
            if left == _FIND:
                self._open_as_fingers()
        elif left == _FIND:
            solver.solve(arrays.points, arrays.known, arrays.size.finger_m, arrays.farthest)
            self._do_as_solver()
        else:
            solver.start_from(arrays.last_goal)


class HandRetargeter:
    """The goals of all joints that `robot.yaml` lists under `grippers`, in the order of the model."""

    def __init__(
        self,
        model: RobotModel,
        parameters: HandParameters | None = None,
        sizes: Mapping[str, HandSize] | None = None,
    ) -> None:
        """`sizes`: the trainer's hands by side where they are known already."""
        self.joint_names = model.joint_names[model.body_count :]
        known = sizes or {}
        self._hands = {
            side: _Hand(model, side, parameters, known.get(side))
            for side in SIDES
            if side in model.description.grippers
        }
        self._positions = np.empty(len(self.joint_names))
        self._openings: Array | None = None

    @property
    def sizes(self) -> dict[str, HandSize]:
        """What is measured of the trainer's hands, by side."""
        return {side: hand.estimator.size for side, hand in self._hands.items()}

    def start_from(self, positions: Array) -> None:
        """Let all goals start from the measured `positions` ``(g,)`` of `joint_names` (rad or m)."""
        positions = np.asarray(positions, dtype=np.float64)
        if positions.shape != (len(self.joint_names),) or not np.isfinite(positions).all():
            raise RetargetingError(
                f"{len(self.joint_names)} finite positions are expected, one for each of the hands' joints, "
                f"not {positions.tolist()}"
            )
        for hand in self._hands.values():
            hand.start_from(positions[hand.rows])

    def goal_positions(self, motion: TrackedMotion, side: str) -> Array:
        """Where the joints of `side` should be ``(joints of grippers.side,)`` (rad or m).

        Frames count in the order of their stamps; one that is not newer changes nothing. Raises
        `RetargetingError` for a side without a gripper.
        """
        hand = self._hands.get(side)
        if hand is None:
            raise RetargetingError(f"no gripper or hand is described for {side!r}")
        hand.follow(view_of(motion))
        goal: Array = hand.arrays.goal.copy()
        return goal

    def observe(self, view: TrainerView, following: Collection[str]) -> None:
        """Take a frame in; the hands of sides that are not in `following` keep their goals."""
        for side, hand in self._hands.items():
            if side in following:
                hand.follow(view)
            else:
                hand.stay()

    def positions(self, openings: Array, share: float = 1.0) -> Array:
        """The goals ``(g,)`` of `joint_names`, `share` (0..1) of the way from the last frame to the newest.

        Where the trigger decides, by the `openings` ``(2,)`` between frames: 0 closed .. 1 open, left and
        right. The array is filled anew by the next call.
        """
        if openings is not self._openings:
            self._fills = [
                bind(_between_frames, (hand.packed, openings, self._positions[hand.rows]), (1.0,))
                for hand in self._hands.values()
            ]
            self._openings = openings
        for fill in self._fills:
            fill(share)
        return self._positions
