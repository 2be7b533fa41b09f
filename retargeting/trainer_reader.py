"""What a trainer's newest frame asks of one robot, and for how long its wrists have not been seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import product

from retargeting.body_points import SIDES
from retargeting.frames import Array
from retargeting.input_filter import FilteredMotion
from retargeting.mapping_settings import MappingSettings
from retargeting.motion_frame import MotionFrame
from retargeting.robot_body import RobotBody
from retargeting.robot_model import RobotModel
from retargeting.trainer_input import TrainerInput
from retargeting.trainer_to_robot import Targets, TrainerToRobot

# By whether the left and the right one are.
_IN_VIEW = {
    seen: tuple(side for side, is_seen in zip(SIDES, seen, strict=True) if is_seen)
    for seen in product((False, True), repeat=len(SIDES))
}


class TrainerReader:
    """Reads one trainer for one robot.

    motion: the newest frame, filtered; targets: what it asks for (filled anew by the next frame), None until
    the trainer is measured; mapping: likewise; in_view: the sides whose wrist is in it.
    """

    def __init__(
        self, model: RobotModel, body: RobotBody, settings: MappingSettings, trainer: TrainerInput
    ) -> None:
        self._model, self.body, self._settings = model, body, settings
        self.input = trainer
        self.mapping: TrainerToRobot | None = None
        self.motion: FilteredMotion | None = None
        self.targets: Targets | None = None
        self.in_view: tuple[str, ...] = ()
        self._asked: Targets | None = None
        self._fill: Callable[[], None] | None = None
        self._seen_ns = dict.fromkeys(SIDES, 0)
        self._map()

    def observe(self, frame: MotionFrame) -> float | None:
        """Take a frame in; the time (s) since the one before (0: the first), None where it is no newer.

        Raises `RetargetingError` where the trainer's size makes no sense.
        """
        self.input.observe(frame)
        before, motion = self.motion, self.input.motion
        if motion is None or (before is not None and motion.stamp_ns <= before.stamp_ns):
            return None
        self.motion = motion
        self._map()
        if self._fill is not None and self._asked is not None:
            self._fill()
            self.targets = self._asked
            left, right, *_ = self._asked.known.tolist()
            self.in_view = _IN_VIEW[left, right]
            for side in self.in_view:
                self._seen_ns[side] = motion.stamp_ns
        return 0.0 if before is None else (motion.stamp_ns - before.stamp_ns) * 1e-9

    def _map(self) -> None:
        size = self.input.size
        if size is not None and (self.mapping is None or size is not self.mapping.size):
            self.mapping = TrainerToRobot(self._model, size, self.body, self._settings)
            self._asked = self.mapping.no_targets()
            self._fill = self.mapping.filling(self.input.view, self._asked)

    def unseen_s(self, side: str) -> float:
        """For how long frames have come without this wrist."""
        return 0.0 if self.motion is None else (self.motion.stamp_ns - self._seen_ns[side]) * 1e-9

    def smoothing_delay_s(self, sides: Iterable[str]) -> float:
        """By how much smoothing delays the places of these sides' hands at their present speed."""
        delays_s = self.input.smoothing_delay_s
        return max((delays_s[side] for side in sides), default=0.0)

    def transform_trainer_to_robot(self) -> Array | None:
        """Pose ``(7,)`` of `trainer` in the robot's root by the newest frame; None where it does not tell."""
        place = self.input.place
        if self.mapping is None or self.motion is None or place is None or not place.shoulders:
            return None
        return self.mapping.transform_trainer_to_robot(self.motion, place)
