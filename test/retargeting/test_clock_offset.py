"""Stamps of a sender on the steady clock: even, near the quickest arrivals, not fooled for long."""

from __future__ import annotations

import numpy as np
import pytest

from retargeting.clock_offset import ClockOffset

PERIOD_S = 0.005
SENDER_S = 1.7e9


def placed(delays_s: np.ndarray, stamp_errors_s: np.ndarray | float = 0.0) -> np.ndarray:
    """How far the placed times are from when the messages were sent."""
    offset = ClockOffset()
    sent = PERIOD_S * np.arange(len(delays_s))
    errors = np.broadcast_to(stamp_errors_s, sent.shape)
    return np.array(
        [offset.sent_s(SENDER_S + s + e, s + d) - s for s, d, e in zip(sent, delays_s, errors, strict=True)]
    )


@pytest.mark.parametrize("seed", range(3))
def test_jitter_of_the_arrivals_does_not_reach_the_placed_times(seed: int) -> None:
    delays = np.random.default_rng(seed).uniform(0.0, 0.005, 2000)
    error = placed(delays)[200:]
    assert (
        np.abs(np.diff(error)).max() <= 0.0051 * 2 * PERIOD_S + 1e-6
    )  # arrivals are up to two periods apart
    assert error.min() >= -1e-6 and error.max() < 0.002


def test_a_few_wrong_stamps_do_not_count_for_ever() -> None:
    """Stamps 20 ms ahead for a moment: the quickest arrivals there have ever been, and wrong."""
    wrong = np.where((np.arange(2000) >= 600) & (np.arange(2000) < 620), 0.02, 0.0)
    error = placed(np.full(2000, 0.001), wrong)
    truth = np.where(wrong > 0.0, 0.021, 0.001)
    assert np.abs(error - truth)[1500:].max() < 1e-4
    assert np.abs(error - 0.001)[640:].max() < 0.011


def test_a_clock_that_is_set_is_followed_at_once() -> None:
    step = np.where(np.arange(400) >= 200, -3600.0, 0.0)
    error = placed(np.full(400, 0.001), step)
    assert np.abs(error - 0.001).max() < 1e-6
