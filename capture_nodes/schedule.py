"""A fixed rate on the steady clock, without drift."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator


class Schedule:
    """Iterating yields once per period, at multiples of the period since the first, until `stop`.

    A consumer that is late by a period or more skips the times that have passed; they are counted in
    `missed`, never made up for.
    """

    def __init__(self, period_s: float) -> None:
        self.period_s = period_s
        self.missed = 0
        self._stopped = threading.Event()

    def __iter__(self) -> Iterator[float]:
        next_s = time.monotonic()
        while not self._stopped.is_set():
            yield next_s
            next_s += self.period_s
            wait_s = next_s - time.monotonic()
            if wait_s > 0.0:
                time.sleep(wait_s)
            elif -wait_s > self.period_s:
                skipped = int(-wait_s / self.period_s)
                self.missed += skipped
                next_s += skipped * self.period_s

    def stop(self) -> None:
        """End the iteration at its next turn; may be called from any thread."""
        self._stopped.set()
