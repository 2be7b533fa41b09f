from __future__ import annotations

import time

import numpy as np
import pytest

from capture_nodes.stamp_clock import StampClock, read_together

PERIOD_S = 0.005
PERIOD_NS = 5_000_000


def test_stamps_are_even_under_jitter_and_follow_a_drifting_clock() -> None:
    generator = np.random.default_rng(1)
    stamps = StampClock(time.time_ns)
    rate = 1.0 + 200e-6
    values, errors = [], []
    for k in range(20_000):
        due_ros = 10**18 + k * PERIOD_NS * rate
        late_s = float(generator.uniform(0.0, 0.003))
        values.append(stamps.stamp_at(round(due_ros + late_s * 1e9), k * PERIOD_S + late_s, k * PERIOD_S))
        errors.append(values[-1] - due_ros)
    steps = np.diff(np.array(values, dtype=np.int64))
    assert steps.min() >= PERIOD_NS - 2 and steps.max() <= PERIOD_NS + StampClock.SLEW_NS + 2
    assert np.abs(errors).max() < 1_000_000


def test_a_skipped_tick_leaves_its_gap() -> None:
    stamps = StampClock(time.time_ns)
    due_s = [0.0, 0.005, 0.015, 0.020]
    values = [stamps.stamp_at(10**18 + round(due * 1e9), due, due) for due in due_s]
    assert np.diff(values).tolist() == pytest.approx([5_000_000, 10_000_000, 5_000_000], abs=2)


@pytest.mark.parametrize("jump_ns", [3_600_000_000_000, -1_000_000_000, 50_000_000, -50_000_000])
def test_stamps_increase_when_the_clock_is_set(jump_ns: int) -> None:
    stamps = StampClock(time.time_ns)
    values = []
    for k in range(1_000):
        now = 10**18 + k * PERIOD_NS + (jump_ns if k >= 100 else 0)
        values.append(stamps.stamp_at(now, k * PERIOD_S, k * PERIOD_S))
    steps = np.diff(np.array(values, dtype=np.int64))
    assert (steps > 0).all()
    error = values[-1] - (10**18 + 999 * PERIOD_NS + jump_ns)
    assert abs(error) < 20_000_000


def test_clocks_are_read_together_although_the_thread_is_interrupted() -> None:
    """The first time, 30 ms pass between the two readings: that pair would put the stamp 30 ms ahead."""
    steady = iter([1.0, 1.03, 1.03, 1.03001])
    ros = iter([10**18 + 30_000_000, 10**18 + 30_000_000])
    assert read_together(lambda: next(ros), lambda: next(steady)) == (10**18 + 30_000_000, 1.030005)


def test_the_stamp_is_the_ros_time_of_the_due_moment() -> None:
    due_s = time.monotonic() - 0.004
    stamp_ns = StampClock(time.time_ns).stamp(due_s)
    assert abs(stamp_ns - time.time_ns() + (time.monotonic() - due_s) * 1e9) < 1_000_000
