"""The newest motion frame, handed from the thread that receives to the one that publishes."""

from __future__ import annotations

import threading

from retargeting.motion_frame import MotionFrame


class NewestFrame:
    """A place for one frame; one that was not taken in time is replaced and counted."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: MotionFrame | None = None
        self.replaced = 0

    def put(self, frame: MotionFrame) -> None:
        with self._condition:
            self.replaced += self._frame is not None
            self._frame = frame
            self._condition.notify()

    def take(self, timeout_s: float) -> MotionFrame | None:
        """The frame that was put since the last one taken; None where none came in `timeout_s`."""
        with self._condition:
            if self._frame is None:
                self._condition.wait(timeout_s)
            frame, self._frame = self._frame, None
            return frame
