from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.simulation.pacing import LARGEST_LAG_S, TickPacer

PERIOD_S = 0.005
PERIOD_NS = 5_000_000


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s


def test_ticks_are_multiples_of_the_period() -> None:
    clock = Clock()
    pacer = TickPacer(PERIOD_S, clock, clock.sleep)
    due = []
    for _ in range(100):
        due.append(pacer.wait())
        clock.now_s += 0.002
    np.testing.assert_allclose(due, 100.0 + PERIOD_S * np.arange(100))
    assert pacer.real_time_factor == pytest.approx(1.0, abs=1e-6)
    assert pacer.late_ticks == 0


def test_short_delays_are_caught_up_with() -> None:
    clock = Clock()
    pacer = TickPacer(PERIOD_S, clock, clock.sleep)
    pacer.wait()
    clock.now_s += 0.031
    due = [pacer.wait() for _ in range(10)]
    np.testing.assert_allclose(np.diff(due), PERIOD_S)
    assert due[-1] == pytest.approx(clock.now_s)
    assert pacer.late_ticks == 5 and pacer.skipped_s == 0.0


def test_long_delays_are_given_up_and_counted() -> None:
    clock = Clock()
    pacer = TickPacer(PERIOD_S, clock, clock.sleep)
    pacer.wait()
    clock.now_s += LARGEST_LAG_S + 1.0
    # It yields for a moment even then.
    assert pacer.wait() == pytest.approx(clock.now_s, abs=2e-4)
    assert pacer.skipped_s == pytest.approx(LARGEST_LAG_S + 1.0 - PERIOD_S)


def test_a_slow_simulation_is_told_by_its_factor() -> None:
    clock = Clock()
    pacer = TickPacer(PERIOD_S, clock, clock.sleep)
    for _ in range(400):
        pacer.wait()
        clock.now_s += 0.01
    assert pacer.real_time_factor == pytest.approx(0.5, abs=0.01)
