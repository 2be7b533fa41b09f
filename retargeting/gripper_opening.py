"""Goals of the hands' joints. This is where a robot with fingers gets another answer than a gripper."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.robot_model import RobotModel
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]


class HandGoals(Protocol):
    """What the retargeter asks about hands."""

    def observe(self, motion: TrackedMotion, following: frozenset[str]) -> None:
        """Take a filtered frame in; the hands of sides not in `following` keep their goals."""

    def positions(self, openings: Array) -> Array:
        """Goals ``(h,)`` of the joints after `RobotModel.body_count`.

        openings ``(2,)``: 0 closed .. 1 open. Called in every tick, with the openings between frames.
        """


class GripperOpening:
    """Every joint of a hand between its closed and its open position, by the hand's opening."""

    def __init__(self, model: RobotModel) -> None:
        joints = [
            (side, ends)
            for side, gripper in model.description.grippers.items()
            for ends in gripper.joints.values()
        ]
        self._open = np.array([ends.open for _, ends in joints])
        self._closed = np.array([ends.closed for _, ends in joints])
        self._sides = np.array([SIDES.index(side) for side, _ in joints], dtype=np.int64)

    def observe(self, motion: TrackedMotion, following: frozenset[str]) -> None:
        """The openings between frames are all that matters."""

    def positions(self, openings: Array) -> Array:
        result: Array = self._closed + openings[self._sides] * (self._open - self._closed)
        return result
