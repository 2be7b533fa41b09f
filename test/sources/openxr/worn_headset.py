"""A scripted headset that is worn, and waiting for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from openxr_script import ScriptedRuntime

from capture_nodes.sources.openxr.live import OpenXrSource
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from retargeting.motion_frame import MotionFrame

LAYER = "XR_APILAYER_LUNARG_core_validation"
_PATIENCE_S = 20.0


class Headset:
    """The scripted runtime as the active one of this process, for one test."""

    def __init__(self, runtime: ScriptedRuntime, validation: Path) -> None:
        self.runtime, self.validation = runtime, validation
        self.script, self.happened = runtime.script, runtime.happened
        self.writing, self.hold = runtime.writing, runtime.hold
        self.bad_calls_expected = False

    @contextmanager
    def worn(self, **settings: float) -> Iterator[OpenXrSource]:
        """The opened source; its stamps are the steady clock's."""
        with OpenXrSource(OpenXrParameters(**settings), SteadyStamps()) as source:
            yield source

    def validation_errors(self) -> list[str]:
        if not self.validation.exists():
            return ["core validation wrote nothing"]
        lines = self.validation.read_text(encoding="utf-8", errors="replace").splitlines()
        return [line for line in lines if "VALID_ERROR" in line or "VALID_WARNING" in line]


class SteadyStamps:
    """Stands in for the stamp clock: a moment of the steady clock is its own stamp."""

    def stamp(self, due_s: float) -> int:
        return round(due_s * 1e9)


def wait_for(
    source: OpenXrSource, wanted: Callable[[MotionFrame], bool], what: str = "the frame"
) -> MotionFrame:
    """The first frame that is wanted."""
    end_s = time.monotonic() + _PATIENCE_S
    last = None
    while time.monotonic() < end_s:
        frame = source.wait_frame(0.1)
        if frame is not None:
            if wanted(frame):
                return frame
            last = frame
    raise AssertionError(f"{what} did not come; last {last}; {source.diagnostics()}")


def any_frame(source: OpenXrSource) -> MotionFrame:
    return wait_for(source, lambda frame: True, "a frame")


def wait_for_none(source: OpenXrSource) -> list[MotionFrame]:
    """All frames up to a silence of ten periods."""
    end_s, frames = time.monotonic() + _PATIENCE_S, []
    while time.monotonic() < end_s:
        frame = source.wait_frame(0.15)
        if frame is None:
            return frames
        frames.append(frame)
    raise AssertionError("frames go on")
