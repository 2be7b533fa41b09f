"""What the retargeter asks about the joints of hands and grippers."""

from __future__ import annotations

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]


class HandGoals(Protocol):
    """Goals of every joint that belongs to a hand (`hand_retargeter` is what the retargeter uses)."""

    def observe(self, motion: TrackedMotion, following: frozenset[str]) -> None:
        """Take a filtered frame in; the hands of sides not in `following` keep their goals."""

    def positions(self, openings: Array) -> Array:
        """Goals ``(h,)`` of the joints after `RobotModel.body_count`.

        openings ``(2,)``: 0 closed .. 1 open. Called in every tick, with the openings between frames.
        """
