"""The station's clock may be set while it is recorded by: how much, is told by the steady clock."""

from __future__ import annotations

import time
from dataclasses import dataclass

# A clock that is steered runs a little fast or slow; less than this between two looks is no jump.
LEAST_NS = 10_000_000
# Two clocks are read together if no more than this passes meanwhile.
_TOGETHER_NS = 1_000_000
_TRIES = 3


@dataclass(frozen=True)
class ClockMove:
    """The clock was set: `time_ns` is what it showed then (since 1970), `by_ns` how much more than before."""

    time_ns: int
    by_ns: int

    def as_json(self) -> dict[str, int]:
        return {"time_ns": self.time_ns, "by_ns": self.by_ns}


class ClockWatch:
    """Looked at by one thread at a time, as often as wanted."""

    def __init__(self) -> None:
        self._ahead_ns = _ahead_ns()

    def moved_ns(self) -> int:
        """By how much the clock was set since the last look; 0 where it was not."""
        ahead, before = _ahead_ns(), self._ahead_ns
        if ahead is None:
            return 0
        self._ahead_ns = ahead
        moved = 0 if before is None else ahead - before
        return moved if abs(moved) >= LEAST_NS else 0


def _ahead_ns() -> int | None:
    """How far the clock is ahead of the steady one; None where they cannot be read together just now."""
    for _ in range(_TRIES):
        before_ns = time.monotonic_ns()
        now_ns = time.time_ns()
        if time.monotonic_ns() - before_ns <= _TOGETHER_NS:
            return now_ns - before_ns
    return None
