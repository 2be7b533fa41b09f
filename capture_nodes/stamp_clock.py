"""Stamps of things that happen on a schedule, in ROS time."""

from __future__ import annotations

import time
from collections.abc import Callable

# Two clocks read farther apart than this were not read together.
_TOGETHER_S = 50e-6
_TRIES = 5


def read_together(
    ros_now_ns: Callable[[], int], steady_s: Callable[[], float] = time.monotonic
) -> tuple[int, float]:
    """ROS time (ns) and steady time (s) of one moment, also where the thread is interrupted in between.

    The closest pair of at most `_TRIES`.
    """
    best = (float("inf"), 0, 0.0)
    for _ in range(_TRIES):
        before_s = steady_s()
        now_ns = ros_now_ns()
        after_s = steady_s()
        best = min(best, (after_s - before_s, now_ns, 0.5 * (before_s + after_s)))
        if best[0] <= _TOGETHER_S:
            break
    return best[1], best[2]


class StampClock:
    """Strictly increasing stamps (ns), as evenly spaced as the schedule, that stay near the ROS clock.

    A stamp is the ROS time at which its tick was due, not when a busy machine got round to it: the stamp
    before plus the time between the two on the schedule, corrected by at most `SLEW_NS` where the clocks
    drift apart. Is the ROS clock set forward, stamps jump with it; is it set back, they go on at half pace
    until it is reached.

    clock_ns: what the ROS clock said when the tick of the last stamp was due.
    """

    DEAD_BAND_NS = 300_000
    SLEW_NS = 5_000
    JUMP_NS = 20_000_000

    def __init__(self, ros_now_ns: Callable[[], int]) -> None:
        self._ros_now_ns = ros_now_ns
        self._last: tuple[int, float] | None = None
        self.clock_ns = 0

    def stamp(self, due_s: float) -> int:
        """The stamp of the tick that was due at `due_s` of the steady clock, later than at the last call."""
        return self.stamp_at(*read_together(self._ros_now_ns), due_s)

    def stamp_at(self, ros_now_ns: int, steady_now_s: float, due_s: float) -> int:
        """`stamp` by two clocks that were read at the same moment."""
        due_ns = self.clock_ns = ros_now_ns - round((steady_now_s - due_s) * 1e9)
        if self._last is not None:
            last_ns, last_due_s = self._last
            step_ns = max(1_000, round((due_s - last_due_s) * 1e9))
            even_ns = last_ns + step_ns
            error_ns = due_ns - even_ns
            if error_ns < -self.JUMP_NS:
                due_ns = even_ns - step_ns // 2
            elif error_ns <= self.JUMP_NS:
                slew_ns = min(self.SLEW_NS, step_ns // 2)
                slewed = abs(error_ns) > self.DEAD_BAND_NS
                due_ns = even_ns + (slew_ns if error_ns > 0 else -slew_ns) * slewed
        self._last = due_ns, due_s
        return due_ns
