"""Driving a recorded source: every frame at its own time, none left out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

from capture_nodes.sources.bag import BagSource
from capture_nodes.sources.playback import PlaybackState
from capture_nodes.sources.replay import Replay
from capture_nodes.stamp_clock import StampClock
from retargeting.motion_frame import MotionFrame

# In a gap of the recording: how soon a stop or a halt is heard.
_LONGEST_WAIT_S = 0.05


class ReplayedFrames:
    """`run` is the frame thread, which ends after `stop`; every change of state goes to `tell`.

    `rate_hz` is that of the frames held before the start and after the end.
    """

    def __init__(
        self,
        source: BagSource,
        rate_hz: float,
        stamps: StampClock,
        publish: Callable[[MotionFrame], None],
        tell: Callable[[str], None],
    ) -> None:
        self._replay = Replay(source, 1.0 / rate_hz)
        self._stamps, self._publish, self._tell = stamps, publish, tell
        self._told: PlaybackState | None = None
        self._stopped = threading.Event()
        self._late_frames = 0
        self._frames = 0

    def run(self) -> None:
        due_s = time.monotonic()
        while not self._stopped.is_set():
            self._publish(self._replay.take(due_s, self._stamps.stamp))
            self._frames += 1
            if (state := self._replay.state) is not self._told:
                self._told = state
                self._tell(state.value)
            due_s = self._wait(due_s)

    def _wait(self, last_s: float) -> float:
        """Until the next frame is due, whatever is asked for meanwhile; its time."""
        while True:
            due_s = self._replay.next_due(last_s)
            now_s = time.monotonic()
            if now_s - due_s > _LONGEST_WAIT_S:
                self._late_frames += 1
                if self._replay.state is not PlaybackState.PLAYING:
                    # What is held need not be made up for.
                    return now_s
            if due_s <= now_s or self._stopped.is_set():
                return due_s
            time.sleep(min(due_s - now_s, _LONGEST_WAIT_S))

    def play(self) -> str:
        """Start from the beginning; says how long it takes. Raises `SourceError` while it runs."""
        self._replay.play()
        source = self._replay.source
        return f"{source.count} steps" if self._replay.by_steps else f"{source.duration_s:.2f} s"

    def step(self) -> str:
        """As `Replay.step`."""
        return self._replay.step()

    def halt(self) -> None:
        self._replay.halt()

    def rumble(self, hand: int, intensity: float) -> None:
        """Nobody is there to feel it."""

    def diagnostics(self) -> Mapping[str, object]:
        return {
            "state": self._replay.state.value,
            "frames": self._frames,
            "late_frames": self._late_frames,
        }

    def stop(self) -> None:
        self._stopped.set()
