"""What the retargeter asks about the joints of hands and grippers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retargeting.trainer_view import TrainerView

Array = NDArray[np.float64]


class HandGoals(Protocol):
    """Goals of every joint that belongs to a hand (`hand_retargeter` is what the retargeter uses)."""

    def observe(self, view: TrainerView, following: Collection[str]) -> None:
        """Take a filtered frame in; the hands of sides not in `following` keep their goals."""

    def positions(self, openings: Array) -> Array:
        """Goals ``(h,)`` of the joints after `RobotModel.body_count`, good until the next call.

        openings ``(2,)``: 0 closed .. 1 open. Called in every tick, with the openings between frames.
        """
