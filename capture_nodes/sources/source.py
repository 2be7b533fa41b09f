"""What every trainer input looks like to the headset node.

A source that plays something (BVH file, script, bag) is a `TrainerSource`: it is asked, at a rate of
ours, for the frame that belongs to a moment since its start. A live one (a headset, a suit) is a
`LiveSource`: it is waited for, and has frames when it has them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, TypeVar

from capture_nodes.errors import CaptureError
from retargeting.motion_frame import MotionFrame

Self = TypeVar("Self", bound="TrainerSource")
LiveSelf = TypeVar("LiveSelf", bound="LiveSource")


class SourceError(CaptureError):
    """A trainer input that cannot be used; every problem on a line of its own."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class TrainerSource(Protocol):
    """A motion that is played. Used as a context manager: leaving it gives the file back."""

    @property
    def duration_s(self) -> float:
        """Length of one pass."""

    @property
    def loop(self) -> bool:
        """Whether the motion starts again after `duration_s`."""

    @property
    def report(self) -> Mapping[str, str]:
        """What the source decided by itself on opening (units, axes, joints): key to plain words."""

    def frame_at(self, elapsed_s: float, stamp_ns: int) -> MotionFrame | None:
        """The trainer `elapsed_s` after the start, stamped `stamp_ns`; `None` while nothing is tracked.

        Never extrapolates: before the start it is the first frame, after the end the last one.
        """

    def __enter__(self: Self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class LiveSource(Protocol):
    """A device somebody wears: it has frames when it has them. Opened by entering, given back by leaving.

    Making one only checks what it was told (`SourceError`); entering raises `SourceError` where the device
    can never be used as asked (a port that is taken, a driver that is missing), not where it is not there
    yet.

    A point that is lost is absent from the frame; while nothing at all is tracked there is no frame. Ends the
    trainer's session, or drops the line, one last frame repeats the last poses and their stamp with
    `Controls()`, so that the deadman is open; then none comes until the trainer is back.
    """

    @property
    def report(self) -> Mapping[str, str]:
        """What the source decided by itself on opening (address, runtime, device): key to plain words."""

    def wait_frame(self, timeout_s: float) -> MotionFrame | None:
        """The newest frame not given yet, stamped in station time; None where none came in `timeout_s`.

        Called by one thread. Never gives a frame twice, never extrapolates, and raises nothing because a
        device went away: it gives None, and comes back by itself.
        """

    def rumble(self, side: str, intensity: float) -> None:
        """Rumble the hand of a side, intensity 0 .. 1, until told otherwise. Any thread; returns at once."""

    def diagnostics(self) -> Mapping[str, object]:
        """Rates, gaps, clock offset and its uncertainty, the device's state in words. Any thread."""

    def __enter__(self: LiveSelf) -> LiveSelf: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...
