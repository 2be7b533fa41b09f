"""Driving a played source: a frame at every tick of a constant rate, from the first to the last one held."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.schedule import Schedule
from capture_nodes.scripted_task import ScriptedTask
from capture_nodes.sources.playback import Playback, PlaybackState
from capture_nodes.sources.source import TrainerSource
from capture_nodes.stamp_clock import StampClock
from retargeting.motion_frame import MotionFrame


class PlayedFrames:
    """`run` is the frame thread, which ends after `stop`; every change of state goes to `tell`.

    With a `task` the motion is planned when it starts, to where the object was seen (`see`).
    """

    def __init__(
        self,
        source: TrainerSource,
        rate_hz: float,
        stamps: StampClock,
        publish: Callable[[MotionFrame], None],
        tell: Callable[[str], None],
        task: ScriptedTask | None = None,
    ) -> None:
        self._playback = Playback(source)
        self._schedule = Schedule(1.0 / rate_hz)
        self._stamps, self._publish, self._tell = stamps, publish, tell
        self._task = task
        self._object_position: NDArray[np.float64] | None = None
        self._told: PlaybackState | None = None
        self._untracked_frames = 0

    def run(self) -> None:
        for due_s in self._schedule:
            frame = self._playback.frame(due_s, self._stamps.stamp(due_s))
            if frame is None:
                self._untracked_frames += 1
            else:
                self._publish(frame)
            state = self._playback.state
            if state is not self._told:
                self._told = state
                self._tell(state.value)

    def see(self, position: NDArray[np.float64]) -> bool:
        """Where the task's object is, ``(3,)`` in m; it stays where it was last seen. True at the first."""
        first = self._object_position is None
        self._object_position = position
        return first

    def play(self) -> str:
        """Start the motion; says how long it takes. Raises what `Playback.play` and the planning raise."""
        planned = None
        if self._task is not None:
            if self._object_position is None:
                name = self._task.object_name
                raise CaptureError(f"the object {name!r} has not been seen yet: is the robot running?")
            planned = self._task.plan(self._object_position)
        self._playback.play(time.monotonic(), planned)
        return f"{self._playback.source.duration_s:.2f} s"

    def halt(self) -> None:
        self._playback.halt()

    def rumble(self, hand: int, intensity: float) -> None:
        """Nobody is there to feel it."""

    def diagnostics(self) -> Mapping[str, object]:
        return {
            "state": self._playback.state.value,
            "missed_ticks": self._schedule.missed,
            "untracked_frames": self._untracked_frames,
        }

    def stop(self) -> None:
        self._schedule.stop()
