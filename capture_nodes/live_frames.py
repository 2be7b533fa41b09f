"""Driving a live source: its frames are passed on as they come, and what became of them is told."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum

from capture_nodes.sources.source import LiveSource, SourceError
from retargeting.body_points import SIDES
from retargeting.motion_frame import MotionFrame

# How long the frame thread waits before it looks whether it shall stop.
_WAIT_S = 0.05
# Without a frame for this long the trainer is lost; the retargeter holds by then.
LOST_S = 0.1


class LiveState(Enum):
    WAITING = "waiting"
    TRACKING = "tracking"
    LOST = "lost"


class LiveFrames:
    """`run` is the frame thread: it opens nothing, and ends after `stop`.

    Every frame goes to `publish`, every change of state to `tell`.
    """

    def __init__(
        self,
        source: LiveSource,
        publish: Callable[[MotionFrame], None],
        tell: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._source, self._publish, self._tell, self._now_s = source, publish, tell, now_s
        self._stopped = threading.Event()
        self._last_s = -math.inf
        self.state = LiveState.WAITING
        self.frames = 0
        self.losses = 0

    def run(self) -> None:
        self._tell(self.state.value)
        while not self._stopped.is_set():
            frame = self._source.wait_frame(_WAIT_S)
            if frame is not None:
                self._publish(frame)
                self.frames += 1
                self._last_s = self._now_s()
                self._become(LiveState.TRACKING)
            elif self.state is LiveState.TRACKING and self._now_s() - self._last_s > LOST_S:
                self.losses += 1
                self._become(LiveState.LOST)

    def _become(self, state: LiveState) -> None:
        if state is not self.state:
            self.state = state
            self._tell(state.value)

    def play(self) -> str:
        raise SourceError("a live trainer moves when they want to: nothing is played")

    def halt(self) -> None:
        """Nothing that is live can be halted; its arms stop with the deadman."""

    def rumble(self, hand: int, intensity: float) -> None:
        """Feedback of `hand` 0 (left) or 1 (right); any thread. What no device could do is left out."""
        if 0 <= hand < len(SIDES) and math.isfinite(intensity):
            self._source.rumble(SIDES[hand], min(1.0, max(0.0, intensity)))

    def diagnostics(self) -> Mapping[str, object]:
        return {
            "state": self.state.value,
            "frames": self.frames,
            "losses": self.losses,
            **self._source.diagnostics(),
        }

    def stop(self) -> None:
        self._stopped.set()
