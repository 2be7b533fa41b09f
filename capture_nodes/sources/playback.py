"""When a source's motion is played: held at its first frame, running, held at its last one."""

from __future__ import annotations

import math
import threading
from enum import Enum

from capture_nodes.sources.source import SourceError, TrainerSource
from retargeting.motion_frame import MotionFrame


class PlaybackState(Enum):
    READY = "ready"
    PLAYING = "playing"
    FINISHED = "finished"


class Playback:
    """Plays a source against a steady clock. May be used from several threads."""

    def __init__(self, source: TrainerSource) -> None:
        self._source = source
        self._state = PlaybackState.READY
        self._start_s = 0.0
        self._lock = threading.Lock()

    @property
    def state(self) -> PlaybackState:
        with self._lock:
            return self._state

    @property
    def source(self) -> TrainerSource:
        with self._lock:
            return self._source

    def play(self, now_s: float, source: TrainerSource | None = None) -> None:
        """Start from the beginning at `now_s`, with another source if given.

        Raises `SourceError` while a motion is under way: it ends first.
        """
        with self._lock:
            self._update(now_s)
            if self._state is PlaybackState.PLAYING:
                left_s = self._source.duration_s - (now_s - self._start_s)
                raise SourceError(
                    "already playing, and it is looped"
                    if self._source.loop or math.isinf(left_s)
                    else f"already playing; {left_s:.1f} s are left"
                )
            if source is not None:
                self._source = source
            self._state, self._start_s = PlaybackState.PLAYING, now_s

    def halt(self) -> None:
        """End the motion: the trainer stands at its beginning at once. Only for arms that do not follow."""
        with self._lock:
            self._state = PlaybackState.READY

    def frame(self, now_s: float, stamp_ns: int) -> MotionFrame | None:
        """The motion frame of this moment; the state is up to date afterwards."""
        with self._lock:
            self._update(now_s)
            elapsed_s = {
                PlaybackState.READY: 0.0,
                PlaybackState.PLAYING: max(0.0, now_s - self._start_s),
                PlaybackState.FINISHED: self._source.duration_s,
            }[self._state]
            return self._source.frame_at(elapsed_s, stamp_ns)

    def _update(self, now_s: float) -> None:
        over = now_s - self._start_s >= self._source.duration_s and not self._source.loop
        if self._state is PlaybackState.PLAYING and over:
            self._state = PlaybackState.FINISHED
