"""From a source's motion frames to what they ask of the robot: filtered, measured, placed, mapped."""

from __future__ import annotations

from retargeting.body_points import SIDES
from retargeting.frames import Array
from retargeting.input_filter import FilteredMotion, InputFilter
from retargeting.mapping_settings import HAND_SOURCES
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_body import RobotBody
from retargeting.robot_model import RobotModel
from retargeting.trainer_place import TrainerPlace, TrainerPlacer
from retargeting.trainer_size import TrainerSize, TrainerSizeEstimator
from retargeting.trainer_to_robot import Targets, TrainerToRobot


class TrainerReader:
    """Reads one trainer for one robot.

    motion: the newest frame, filtered; targets: what it asks for, None until the trainer is measured;
    mapping: likewise. `size` as given is not measured again.
    """

    def __init__(
        self,
        model: RobotModel,
        body: RobotBody,
        parameters: RetargeterParameters,
        size: TrainerSize | None = None,
    ) -> None:
        self._model, self._body, self._settings = model, body, parameters.mapping
        self.filter = InputFilter(parameters.input_filter)
        self.mapping: TrainerToRobot | None = None
        self.motion: FilteredMotion | None = None
        self.targets: Targets | None = None
        self._place: TrainerPlace | None = None
        self._placer = TrainerPlacer()
        self._estimator = TrainerSizeEstimator(parameters.size_frames, size=size, frozen=size is not None)
        self._seen_ns = dict.fromkeys(SIDES, 0)
        if size is not None:
            self._use(size)

    def observe(self, frame: MotionFrame) -> float | None:
        """Take a frame in; the time (s) since the one before (0: the first), None where it is no newer.

        Raises `RetargetingError` where the trainer's size makes no sense.
        """
        gap_s = 0.0
        if self.motion is not None:
            gap_s = (frame.stamp_ns - self.motion.stamp_ns) * 1e-9
            if gap_s <= 0.0:
                return None
        motion = self.motion = self.filter.filter(frame)
        if not self._estimator.frozen:
            size = self._estimator.observe(motion)
            if size is not None and (self.mapping is None or size is not self.mapping.size):
                self._use(size)
        if self.mapping is not None:
            self._place = self._placer.place(motion, self.mapping.size)
            self.targets = self.mapping.targets(motion, self._place)
            for side in self.targets.wrists:
                self._seen_ns[side] = motion.stamp_ns
        return gap_s

    def _use(self, size: TrainerSize) -> None:
        self.mapping = TrainerToRobot(self._model, size, self._body, self._settings)

    def freeze_size(self) -> None:
        """What the trainer measures now counts from here on: a scale that changes would move the arms."""
        self._estimator.freeze()

    @property
    def size_is_final(self) -> bool:
        return self._estimator.frozen

    def recentre(self) -> None:
        """Take where the trainer's head faces in the next frame as straight ahead."""
        self._placer.recentre()

    def unseen_s(self, side: str) -> float:
        """For how long frames have come without this wrist."""
        return 0.0 if self.motion is None else (self.motion.stamp_ns - self._seen_ns[side]) * 1e-9

    def smoothing_delay_s(self, sides: list[str]) -> float:
        """By how much smoothing delays the places of these sides' hands at their present speed."""
        delays_s = {} if self.motion is None else self.motion.delays_s
        points = [f"{side}_{source}" for side in sides for source in HAND_SOURCES]
        return max((delays_s[point][0] for point in points if point in delays_s), default=0.0)

    def transform_trainer_to_robot(self) -> Array | None:
        """Pose ``(7,)`` of `trainer` in the robot's root by the newest frame; None where it does not tell."""
        if self.mapping is None or self.motion is None or self._place is None or not self._place.shoulders:
            return None
        return self.mapping.transform_trainer_to_robot(self.motion, self._place)
