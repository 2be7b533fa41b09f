"""What every trainer input looks like to the headset node.

A source is asked, again and again, for the motion frame that belongs to a moment. A source that
plays something (BVH, script, bag) answers for `elapsed_s` since its start; a live one (a headset,
a suit) answers with its newest frame and `None` while it tracks nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol, TypeVar

from capture_nodes.errors import CaptureError
from retargeting.motion_frame import MotionFrame

Self = TypeVar("Self", bound="TrainerSource")


class SourceError(CaptureError):
    """A trainer input that cannot be used; every problem on a line of its own."""

    def __init__(self, *problems: str) -> None:
        self.problems = problems
        super().__init__("\n".join(problems))


class TrainerSource(Protocol):
    """One trainer input. Used as a context manager: leaving it gives the device or file back."""

    @property
    def duration_s(self) -> float:
        """Length of one pass; `math.inf` of a live source."""

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
