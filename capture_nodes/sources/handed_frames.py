"""Motion frames handed from the thread that has them to the one that passes them on, and the word that the
trainer was lost."""

from __future__ import annotations

import threading

from retargeting.motion_frame import Controls, MotionFrame


class HandedFrames:
    """The newest frame, then, once after `lose`, the last one given again with nothing pressed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._frame: MotionFrame | None = None
        self._lost = False
        # The last that was given since a deadman was opened; of the taking thread.
        self._given: MotionFrame | None = None

    def put(self, frame: MotionFrame) -> None:
        with self._condition:
            # In what comes after a loss nothing is held that was held before it.
            self._frame, self._lost = frame, False
            self._condition.notify()

    def lose(self) -> None:
        with self._condition:
            self._lost = True
            self._condition.notify()

    def take(self, timeout_s: float) -> MotionFrame | None:
        """What was not given yet; None where nothing came in `timeout_s`."""
        with self._condition:
            if self._frame is None and not self._lost:
                self._condition.wait(timeout_s)
            frame, self._frame = self._frame, None
            lost = False
            if frame is None:
                lost, self._lost = self._lost, False
        if frame is not None:
            self._given = frame
        return self.open_deadman() if lost else frame

    def open_deadman(self) -> MotionFrame | None:
        """The last frame's poses, stamped as they were, with nothing pressed; None where it was said already.

        Of the taking thread.
        """
        last, self._given = self._given, None
        return None if last is None else MotionFrame(last.stamp_ns, last.poses, Controls())
