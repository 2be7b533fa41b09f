"""Real time for the simulation: ticks on the steady clock."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

# Behind by more than this, lost time is given up instead of being caught up with.
LARGEST_LAG_S = 0.25
_WINDOW_S = 5.0
_YIELD_S = 0.0001


class TickPacer:
    """Ticks at multiples of `period_s` since the first, on the steady clock.

    A late tick is followed by the next ones without waiting until the schedule is met again, so
    simulated time keeps up with real time. Beyond `LARGEST_LAG_S` the schedule is moved and the
    time counted in `skipped_s`. `clock` and `sleep` are replaceable for tests.
    """

    def __init__(
        self,
        period_s: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.period_s = period_s
        self.ticks = 0
        self.late_ticks = 0
        self.skipped_s = 0.0
        self._clock, self._sleep = clock, sleep
        self._next_s: float | None = None
        self._times: deque[float] = deque(maxlen=max(2, round(_WINDOW_S / period_s)))

    def wait(self) -> float:
        """Sleep until the next tick is due; returns the steady time it was due at."""
        now = self._clock()
        if self._next_s is None:
            self._next_s = now
        due = self._next_s
        if now < due:
            self._sleep(due - now)
        elif self.ticks:
            if now - due > LARGEST_LAG_S:
                self.skipped_s += now - due
                due = now
            # A thread of real-time priority that never sleeps would leave nothing to the others.
            self._sleep(_YIELD_S)
        if now - due > self.period_s:
            self.late_ticks += 1
        self._next_s = due + self.period_s
        self.ticks += 1
        self._times.append(self._clock())
        return due

    @property
    def real_time_factor(self) -> float:
        """Simulated over real time in the last five seconds, 1 until two ticks are known."""
        if len(self._times) < 2:
            return 1.0
        real = self._times[-1] - self._times[0]
        return 1.0 if real <= 0.0 else (len(self._times) - 1) * self.period_s / real
