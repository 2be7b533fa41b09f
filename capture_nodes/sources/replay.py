"""When each frame of a recording is given again: at its own time after the start, or one at every step."""

from __future__ import annotations

import threading
from collections.abc import Callable

from capture_nodes.sources.bag import STEP_BY_STEP, BagSource
from capture_nodes.sources.playback import PlaybackState
from capture_nodes.sources.source import SourceError
from retargeting.motion_frame import MotionFrame

StampOf = Callable[[float], int]


class Replay:
    """Plays a `BagSource`: held at its first frame, running, held at its last one. Any thread may use it.

    Held frames come every `period_s`. While it runs every frame is given once, none is left out, at
    ``start + offset`` of the steady clock and stamped ``start + offset`` too. Step by step the frame at
    hand is held until `step`.
    """

    def __init__(self, source: BagSource, period_s: float) -> None:
        self.source = source
        self._period_s = period_s
        self._state = PlaybackState.READY
        self._index = 0
        # Steady time (s) and stamp (ns) of the first frame, once it is given.
        self._start: tuple[float, int] | None = None
        self._last_stamp_ns = 0
        self._lock = threading.Lock()

    @property
    def state(self) -> PlaybackState:
        with self._lock:
            return self._state

    @property
    def by_steps(self) -> bool:
        return self.source.speed == STEP_BY_STEP

    def play(self) -> None:
        """Start from the beginning with the next frame. Raises `SourceError` while it runs: it ends first."""
        with self._lock:
            if self._state is PlaybackState.PLAYING:
                raise SourceError(
                    "already playing, and it is looped"
                    if self.source.loop
                    else f"already playing; frame {self._index + 1} of {self.source.count}"
                )
            self._state, self._index, self._start = PlaybackState.PLAYING, 0, None

    def halt(self) -> None:
        """End the motion: the trainer stands at its beginning at once. Only for arms that do not follow."""
        with self._lock:
            self._state, self._index, self._start = PlaybackState.READY, 0, None

    def step(self) -> str:
        """Go on by one frame; says where it is. Raises `SourceError` where there is no step to make."""
        with self._lock:
            if not self.by_steps:
                raise SourceError(f"speed:={self.source.speed:g} plays by itself; speed:=0 goes step by step")
            if self._state is PlaybackState.READY:
                self._state = PlaybackState.PLAYING
            if self._index + 1 >= self.source.count:
                self._state = PlaybackState.FINISHED
                raise SourceError(f"frame {self.source.count} is the last; ~/play begins anew")
            self._index += 1
            at_s = float(self.source.offsets_ns[self._index]) * 1e-9
            return f"frame {self._index + 1} of {self.source.count}, {at_s:.3f} s"

    def next_due(self, last_s: float) -> float:
        """When (steady clock) the frame after the one given at `last_s` is due."""
        with self._lock:
            if self._state is PlaybackState.PLAYING and not self.by_steps and self._start is not None:
                return self._start[0] + float(self.source.offsets_ns[self._index]) * 1e-9
            return last_s + self._period_s

    def take(self, due_s: float, stamp_of: StampOf) -> MotionFrame:
        """The frame due at `due_s`; `stamp_of` tells the stamp of a steady time."""
        with self._lock:
            if self._state is not PlaybackState.PLAYING or self.by_steps:
                return self._given(self._index, stamp_of(due_s))
            if self._start is None:
                self._start = due_s, max(stamp_of(due_s), self._last_stamp_ns + 1)
            index = self._index
            frame = self._given(index, self._start[1] + int(self.source.offsets_ns[index]))
            if index + 1 < self.source.count:
                self._index = index + 1
            elif self.source.loop:
                # Again with the next frame, which comes a period after the last.
                self._index, self._start = 0, None
            else:
                self._state = PlaybackState.FINISHED
            return frame

    def _given(self, index: int, stamp_ns: int) -> MotionFrame:
        # The clock of the held frames does not know how far the recording's stamps have come.
        self._last_stamp_ns = max(stamp_ns, self._last_stamp_ns + 1)
        return self.source.frame(index, self._last_stamp_ns)
