"""Trainer source `bag`: the trainer of a recorded episode, every frame as it was.

Nothing is interpolated: a frame is given again with its poses, its triggers, squeezes, sticks and buttons,
and its distance in time from the first one, to the nanosecond (at `speed` 1). A point that was not
tracked is absent again; where the recording has a gap, so has the replay.

The robot that was recorded does not matter. What the recording holds of a deadman is published as it was, but
nobody holds it now: a station plays with `deadman:=off`, and the arms follow from the first frame to the
last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from capture_nodes.recording.trainer_recording import UnusableRecording, read_trainer_recording
from capture_nodes.sources.source import SourceError
from retargeting.motion_frame import MotionFrame

SPEED_BOUNDS = (0.05, 20.0)
STEP_BY_STEP = 0.0
# Of the episode's record, when it is opened.
_TOLD = ("skill", "robot", "source", "id")


@dataclass(frozen=True)
class BagParameters:
    """What to play and how fast; raises `SourceError` with every problem.

    `speed`: times as fast as it was recorded; 0: a frame only when asked for (`~/step`).
    """

    motion: Path
    speed: float = 1.0
    loop: bool = False

    def __post_init__(self) -> None:
        problems = []
        if not str(self.motion) or str(self.motion) == ".":
            problems.append("source:=bag needs file:=<an episode, ….mcap>")
        low, high = SPEED_BOUNDS
        if self.speed != STEP_BY_STEP and not low <= self.speed <= high:
            problems.append(
                f"speed:={self.speed:g}: {low:g}..{high:g} times as fast, or 0 (step by step), is expected"
            )
        if self.loop and self.speed == STEP_BY_STEP:
            problems.append("loop:=true with speed:=0: what is played step by step ends with its last step")
        if problems:
            raise SourceError(*problems)


class BagSource:
    """A recorded trainer. `offsets_ns` ``(n,)``: when each frame is due after the first, at the speed asked
    for; `skill`: what was demonstrated, "" where the file does not say.

    Step by step they are those of the recording. Raises `SourceError` where the file cannot be played.
    """

    def __init__(self, parameters: BagParameters) -> None:
        try:
            recording = read_trainer_recording(parameters.motion)
        except UnusableRecording as error:
            raise SourceError(f"file:={error}") from error
        self._frames: Sequence[MotionFrame] = recording.frames
        self._loop = parameters.loop
        self.skill = recording.episode.get("skill", "")
        self.speed = parameters.speed
        start_ns = recording.frames[0].stamp_ns
        # As a fraction, so that what comes out does not depend on how long the recording is.
        slower = 1 / Fraction(str(parameters.speed or 1.0))
        offsets = [(frame.stamp_ns - start_ns) * slower for frame in recording.frames]
        self.offsets_ns: NDArray[np.int64] = np.array([round(offset) for offset in offsets], dtype=np.int64)
        self._report = _report(parameters, recording.episode, recording.rejected, self)

    @property
    def count(self) -> int:
        """Number of frames."""
        return len(self._frames)

    @property
    def rate_hz(self) -> float:
        """Frames a second as they come out, gaps counted in; 0 for a single frame."""
        return (self.count - 1) / self.duration_s if self.duration_s > 0.0 else 0.0

    @property
    def duration_s(self) -> float:
        return float(self.offsets_ns[-1]) * 1e-9

    @property
    def loop(self) -> bool:
        return self._loop

    @property
    def report(self) -> Mapping[str, str]:
        return self._report

    def frame(self, index: int, stamp_ns: int) -> MotionFrame:
        """A frame by its place in the recording, stamped anew."""
        return replace(self._frames[index], stamp_ns=stamp_ns)

    def frame_at(self, elapsed_s: float, stamp_ns: int) -> MotionFrame:
        """The newest frame at `elapsed_s`, stamped `stamp_ns`: the first before, the last after all."""
        elapsed_ns = round(elapsed_s * 1e9)
        if self._loop and elapsed_ns > 0 and self.duration_s > 0.0:
            elapsed_ns %= int(self.offsets_ns[-1])
        index = int(np.searchsorted(self.offsets_ns, elapsed_ns, side="right")) - 1
        return self.frame(max(0, index), stamp_ns)

    def __enter__(self) -> BagSource:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open: the motion is in memory."""


def _report(
    parameters: BagParameters, episode: Mapping[str, str], rejected: int, source: BagSource
) -> Mapping[str, str]:
    speed = "step by step" if parameters.speed == STEP_BY_STEP else f"{parameters.speed:g} times as fast"
    report = {
        "motion": f"{parameters.motion.name}: {source.count} frames, {source.duration_s:.2f} s, {speed}",
        "recorded": ", ".join(f"{key} {episode.get(key) or 'unknown'}" for key in _TOLD),
    }
    if rejected:
        report["rejected"] = f"{rejected} recorded messages hold no usable frame and are left out"
    return report
