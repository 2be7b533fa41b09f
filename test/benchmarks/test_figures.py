"""The benchmark's figures on signals whose figures are known."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("scipy")

from benchmarks.retargeting.figures import Errors, jerk_rms, lag_s, longest_freeze_s, percentiles, shake_power

TICK_S = 0.005
TIMES = np.arange(0.0, 6.0, TICK_S)


def path(delay_s: float) -> np.ndarray:
    t = TIMES - delay_s
    points = [0.1 * np.sin(3.0 * t), 0.2 * np.sin(7.1 * t), 0.05 * np.cos(5.3 * t)]
    return np.stack(points, axis=-1)[:, None, :]


@pytest.mark.parametrize("delay_s", [0.0, 0.004, 0.02, 0.1])
def test_a_delay_is_found_whatever_the_scale(delay_s: float):
    assert lag_s(path(0.0), 1.7 * path(delay_s), TICK_S) == pytest.approx(delay_s, abs=5.1e-4)


def test_what_stands_has_no_delay():
    assert np.isnan(lag_s(np.zeros((900, 2, 3)), np.zeros((900, 2, 3)), TICK_S))


def test_jerk_of_a_cubic_is_six_times_its_coefficient():
    steps = np.full(len(TIMES), TICK_S)
    assert jerk_rms(4.0 * TIMES[:, None] ** 3, steps) == pytest.approx(24.0, rel=1e-3)


def test_power_of_a_shake_is_half_its_squared_velocity_and_slow_motion_has_none():
    shake = 0.001 * np.sin(2.0 * np.pi * 12.0 * TIMES)[:, None]
    slow = 0.5 * np.sin(2.0 * np.pi * 0.4 * TIMES)[:, None]
    expected = 0.5 * (0.001 * 2.0 * np.pi * 12.0) ** 2
    assert shake_power(shake, TICK_S) == pytest.approx(expected, rel=0.03)
    assert shake_power(slow, TICK_S) < 0.01 * expected


def freezing(round_m_s: float, frozen: slice, out_m_s: float = 0.0) -> float:
    """A target on a circle about the shoulder (or moving away from it); the wrist stands in `frozen`."""
    angle = round_m_s / 0.5 * TIMES
    radius = 0.5 + out_m_s * TIMES
    target = np.stack([radius * np.cos(angle), radius * np.sin(angle), 0 * angle], axis=-1)[:, None, :]
    wrist = target + np.array([0.0, 0.0, 0.03])
    wrist[frozen] = wrist[frozen.start]
    nothing = np.zeros((len(TIMES), 1))
    distance = np.linalg.norm(wrist - target, axis=-1)
    errors = Errors(distance, nothing, nothing, wrist, np.zeros_like(wrist), target)
    return longest_freeze_s(errors, np.ones(len(TIMES), dtype=bool), np.full(len(TIMES), TICK_S))


def test_a_wrist_that_stands_while_its_target_goes_round_is_frozen_for_so_long():
    assert freezing(0.2, slice(200, 300)) == pytest.approx(0.495, abs=1e-9)
    assert freezing(0.2, slice(200, 201)) == 0.0


def test_at_the_end_of_the_arm_standing_is_no_freeze():
    assert freezing(0.0, slice(200, 300), out_m_s=0.1) == 0.0


def test_percentiles_leave_out_what_is_unknown():
    assert percentiles(np.array([1.0, np.nan, 3.0]))["median"] == 2.0
    assert np.isnan(percentiles(np.array([np.nan]))["p99"])
