"""One trainer, whatever robots follow: frames filtered, the trainer measured and placed."""

from __future__ import annotations

from retargeting.body_points import SIDES
from retargeting.input_filter import FilteredMotion, InputFilter, InputFilterParameters
from retargeting.mapping_settings import HAND_SOURCES
from retargeting.motion_frame import MotionFrame
from retargeting.trainer_place import TrainerPlace, TrainerPlacer
from retargeting.trainer_size import TrainerSize, TrainerSizeEstimator
from retargeting.trainer_view import TrainerView

_HAND_POINTS = {side: tuple(f"{side}_{source}" for source in HAND_SOURCES) for side in SIDES}


class TrainerInput:
    """Reads one trainer; several robots that follow the same one may share it, each frame is then read once.

    motion: the newest frame, filtered; size: None until the trainer is measured; place: likewise; view:
    motion and place as arrays; smoothing_delay_s: per side by how much smoothing delays the hand's place at
    its present speed. A `size` as given is not measured again.
    """

    def __init__(
        self,
        parameters: InputFilterParameters | None = None,
        size_frames: int = 30,
        size: TrainerSize | None = None,
    ) -> None:
        self.filter = InputFilter(parameters)
        self.motion: FilteredMotion | None = None
        self.size = size
        self.place: TrainerPlace | None = None
        self.view = TrainerView()
        self.smoothing_delay_s = dict.fromkeys(SIDES, 0.0)
        self._placer = TrainerPlacer()
        self._estimator = TrainerSizeEstimator(size_frames, size=size, frozen=size is not None)

    def observe(self, frame: MotionFrame) -> None:
        """Take a frame in; one that is no newer than the last changes nothing.

        Raises `RetargetingError` where the trainer's size makes no sense.
        """
        if self.motion is not None and frame.stamp_ns <= self.motion.stamp_ns:
            return
        motion = self.motion = self.filter.filter(frame)
        if not self._estimator.frozen:
            self.size = self._estimator.observe(motion)
        if self.size is not None:
            self.place = self._placer.place(motion, self.size)
        self.view.show(motion, self.place)
        for side, points in _HAND_POINTS.items():
            delays = [motion.delays_s[point][0] for point in points if point in motion.delays_s]
            self.smoothing_delay_s[side] = max(delays, default=0.0)

    def freeze_size(self) -> None:
        """What the trainer measures now counts from here on: a scale that changes would move the arms."""
        self._estimator.freeze()

    @property
    def size_is_final(self) -> bool:
        return self._estimator.frozen

    def recentre(self) -> None:
        """Take where the trainer's head faces in the next frame as straight ahead."""
        self._placer.recentre()
