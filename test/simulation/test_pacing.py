from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.simulation.pacing import LARGEST_LAG_S, StampClock, TickPacer

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
    assert pacer.wait() == pytest.approx(clock.now_s)
    assert pacer.skipped_s == pytest.approx(LARGEST_LAG_S + 1.0 - PERIOD_S)


def test_a_slow_simulation_is_told_by_its_factor() -> None:
    clock = Clock()
    pacer = TickPacer(PERIOD_S, clock, clock.sleep)
    for _ in range(400):
        pacer.wait()
        clock.now_s += 0.01
    assert pacer.real_time_factor == pytest.approx(0.5, abs=0.01)


def test_stamps_are_even_under_jitter_and_follow_a_drifting_clock() -> None:
    generator = np.random.default_rng(1)
    stamps = StampClock(PERIOD_S)
    rate = 1.0 + 200e-6
    values, errors = [], []
    for k in range(20_000):
        due_ros = 10**18 + k * PERIOD_NS * rate
        late_s = float(generator.uniform(0.0, 0.003))
        values.append(stamps.stamp(round(due_ros + late_s * 1e9), late_s))
        errors.append(values[-1] - due_ros)
    steps = np.diff(np.array(values, dtype=np.int64))
    assert steps.min() >= PERIOD_NS and steps.max() <= PERIOD_NS + StampClock.SLEW_NS
    assert np.abs(errors).max() < 1_000_000


@pytest.mark.parametrize("jump_ns", [3_600_000_000_000, -1_000_000_000, 50_000_000, -50_000_000])
def test_stamps_increase_when_the_clock_is_set(jump_ns: int) -> None:
    stamps = StampClock(PERIOD_S)
    values = []
    for k in range(1_000):
        now = 10**18 + k * PERIOD_NS + (jump_ns if k >= 100 else 0)
        values.append(stamps.stamp(now, 0.0))
    steps = np.diff(np.array(values, dtype=np.int64))
    assert (steps > 0).all()
    error = values[-1] - (10**18 + 999 * PERIOD_NS + jump_ns)
    assert abs(error) < 20_000_000
