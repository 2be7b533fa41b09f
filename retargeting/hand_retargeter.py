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

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS, SIDES
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.hand_model import RobotHand, build_robot_hand
from retargeting.hand_opening import hand_opening
from retargeting.hand_points import NO_FINGERS, finger_points
from retargeting.hand_size import HandSize, HandSizeEstimator
from retargeting.hand_solver import HandParameters, HandSolver
from retargeting.robot_model import RobotModel
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]

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


@compiled
def _step_goal(before, wanted, farthest, goal):  # type: ignore[no-untyped-def]
    """Fill `goal` ``(j,)``: from `before` to `wanted`, no joint by more than `farthest`; if all arrive."""
    arrived = True
    for i in range(goal.shape[0]):
        step = wanted[i] - before[i]
        arrived = arrived and abs(step) <= farthest[i]
        goal[i] = before[i] + min(max(step, -farthest[i]), farthest[i])
    return arrived


class _Side:
    """One hand or gripper: its solver (None for a gripper) and what is remembered of the trainer's."""

    def __init__(
        self, model: RobotModel, side: str, parameters: HandParameters | None, size: HandSize | None
    ) -> None:
        ends = model.description.grippers[side].joints
        rows = [model.joint_names.index(name) for name in ends]
        self.rows = np.array(rows, dtype=np.int64) - model.body_count
        self.closed = np.array([end.closed for end in ends.values()])
        self.open = np.array([end.open for end in ends.values()])
        self.range = self.open - self.closed
        self.velocity = model.velocity[rows]
        hand = robot_hand(model, side)
        self.solver = None if hand is None else HandSolver(hand, parameters)
        self.estimator = HandSizeEstimator(size=size)
        self.points = np.zeros((len(FINGERS), 4, 3))
        self.known = np.zeros(len(FINGERS), dtype=np.bool_)
        # Whether any finger is known.
        self.followed = False
        self.goal = self.last_goal = self.open.copy()
        self.stamp_ns: int | None = None
        # The goal is where the trigger wants it, not still on its way there.
        self.at_trigger = False

    def start_from(self, positions: Array) -> None:
        self.goal = self.last_goal = positions.copy()
        self.known[:], self.followed = False, False
        self.stamp_ns = None
        self.at_trigger = False
        if self.solver is not None:
            self.solver.start_from(positions)

    def between(self, opening: float) -> Array:
        """The joints of a hand that is open by `opening` (0..1)."""
        result: Array = self.closed + opening * self.range
        return result

    def follow(self, motion: TrackedMotion, side: str) -> None:
        """Bring `goal` nearer to where a newer frame wants it, as fast as the joints may."""
        period_s = _USUAL_PERIOD_S
        if self.stamp_ns is not None:
            period_s = (motion.stamp_ns - self.stamp_ns) * 1e-9
            if period_s <= 0.0:
                return
        self.stamp_ns = motion.stamp_ns
        farthest = self.velocity * min(max(period_s, _SHORTEST_PERIOD_S), _LONGEST_PERIOD_S)
        wanted, by_trigger = self._wanted(motion, side, farthest)
        self.last_goal, self.goal = self.goal, np.empty(len(self.rows))
        self.at_trigger = _step_goal(self.last_goal, wanted, farthest, self.goal) and by_trigger

    def _wanted(self, motion: TrackedMotion, side: str, reach: Array) -> tuple[Array, bool]:
        """Where the joints should be, however far that is, and whether the trigger says so."""
        points, tracked = finger_points(motion, side)
        if tracked is not NO_FINGERS[1]:
            tracked = self.estimator.observe(points, tracked)
        if not tracked.any():
            if self.followed:
                controlled = f"{side}_grip" in motion.poses or f"{side}_aim" in motion.poses
                if not controlled:
                    return self.goal, False
                # Fingers that come back begin anew: the search, and which of them are known.
                self.known[:], self.followed = False, False
                if self.solver is not None:
                    self.solver.start_from(self.goal)
            return self.between(motion.controls.hand_opening(side)), True
        self.points[tracked] = points[tracked]
        self.known |= tracked
        self.followed = True
        if self.solver is not None:
            self.solver.solve(self.points, self.known, self.estimator.finger_m, reach)
            return self.solver.q, False
        return self.between(hand_opening(self.points, self.known, self.estimator.finger_m)), False


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
        self._sides = {
            side: _Side(model, side, parameters, known.get(side))
            for side in SIDES
            if side in model.description.grippers
        }

    @property
    def sizes(self) -> dict[str, HandSize]:
        """What is measured of the trainer's hands, by side."""
        return {side: entry.estimator.size for side, entry in self._sides.items()}

    def start_from(self, positions: Array) -> None:
        """Let all goals start from the measured `positions` ``(g,)`` of `joint_names` (rad or m)."""
        positions = np.asarray(positions, dtype=np.float64)
        if positions.shape != (len(self.joint_names),) or not np.isfinite(positions).all():
            raise RetargetingError(
                f"{len(self.joint_names)} finite positions are expected, one for each of the hands' joints, "
                f"not {positions.tolist()}"
            )
        for side in self._sides.values():
            side.start_from(positions[side.rows])

    def goal_positions(self, motion: TrackedMotion, side: str) -> Array:
        """Where the joints of `side` should be ``(joints of grippers.side,)`` (rad or m).

        Frames count in the order of their stamps; one that is not newer changes nothing. Raises
        `RetargetingError` for a side without a gripper.
        """
        entry = self._sides.get(side)
        if entry is None:
            raise RetargetingError(f"no gripper or hand is described for {side!r}")
        entry.follow(motion, side)
        goal: Array = entry.goal.copy()
        return goal

    def observe(self, motion: TrackedMotion, following: frozenset[str]) -> None:
        """Take a frame in; the hands of sides that are not in `following` keep their goals."""
        for side, entry in self._sides.items():
            if side in following:
                entry.follow(motion, side)
            else:
                entry.last_goal = entry.goal

    def positions(self, openings: Array, share: float = 1.0) -> Array:
        """The goals ``(g,)`` of `joint_names`, `share` (0..1) of the way from the last frame to the newest.

        Where the trigger decides, by the `openings` ``(2,)`` between frames: 0 closed .. 1 open, left and
        right.
        """
        result = np.empty(len(self.joint_names))
        for side, entry in self._sides.items():
            if entry.at_trigger:
                result[entry.rows] = entry.between(float(openings[SIDES.index(side)]))
            else:
                result[entry.rows] = entry.last_goal + share * (entry.goal - entry.last_goal)
        return result
