"""Targets between frames: even on a steady motion, on their way at once, never beyond what was seen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.target_track import TargetTrack
from retargeting.trainer_to_robot import Targets

TICK_S = 0.005
START = np.tile([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0], (3, 1))
DOWN = np.array([0.0, 0.0, -1.0])


def at(x: float) -> Targets:
    targets = Targets()
    targets.poses[:2, 0] = x
    targets.directions[0] = DOWN
    targets.known[:3] = True
    return targets


def follow(x, rate_hz: float, end_s: float = 2.0, delay_s=lambda: 0.0008, until_s: float = 10.0):
    """Ticks ``(n,)`` and the left wrist's x ``(n,)`` there, of frames x(t) that take `delay_s` to come.

    Also the stamps (s) of the newest frame and of the shown motion in every tick.
    """
    track = TargetTrack(START, np.ones(2), np.zeros(0))
    frames = [(k / rate_hz, k / rate_hz + delay_s()) for k in range(int(min(end_s, until_s) * rate_hz))]
    ticks, places, newest, shown = [], [], [], []
    last = 0.0
    for k in range(int(end_s / TICK_S)):
        now = k * TICK_S
        while frames and frames[0][1] <= now:
            last, _ = frames.pop(0)
            track.add(at(x(last)), 1 + round(last * 1e9), now)
        track.move_to(now)
        ticks.append(now)
        places.append(track.poses[0, 0])
        newest.append(last)
        shown.append(track.shown_ns * 1e-9)
    return np.array(ticks), np.array(places), np.array(newest), np.array(shown)


@pytest.mark.parametrize("rate_hz", [72.0, 90.0, 120.0])
def test_a_steady_motion_stays_even_though_ticks_and_frames_do_not_meet(rate_hz: float) -> None:
    ticks, places, _, shown = follow(lambda t: 1.5 * t, rate_hz)
    settled = ticks > 1.0
    steps = np.diff(places[settled])
    assert np.abs(steps - 1.5 * TICK_S).max() < 0.02 * 1.5 * TICK_S
    # A frame period behind, the way to the first tick and a margin.
    delay = (ticks - places / 1.5)[settled]
    assert delay.max() < 1.0 / rate_hz + 0.0031
    np.testing.assert_allclose(shown[settled] * 1.5, places[settled], atol=1e-5)


@pytest.mark.parametrize("rate_hz", [72.0, 90.0, 120.0])
def test_the_first_tick_that_knows_a_frame_is_already_on_its_way(rate_hz: float) -> None:
    """The cause of a command is the newest frame: it must show in that very tick, by a third of the way."""
    step_s = 1.0
    ticks, places, newest, _ = follow(lambda t: float(t >= step_s), rate_hz)
    first = int(np.flatnonzero(newest >= step_s)[0])
    assert places[first - 1] == 0.0 and places[first] > 0.25
    assert ticks[first] - newest[first] < 0.0008 + TICK_S + 1e-9
    assert places[first + 4] > 0.9 and places[-1] == pytest.approx(1.0)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), rate_hz=st.floats(60.0, 130.0))
def test_targets_never_leave_what_was_seen(seed: int, rate_hz: float) -> None:
    rng = np.random.default_rng(seed)
    seen = rng.uniform(-1.0, 1.0, 400)
    late = lambda: float(rng.uniform(0.0, 0.012))  # noqa: E731
    places = follow(lambda t: seen[round(t * rate_hz)], rate_hz, delay_s=late)[1]
    assert np.isfinite(places).all()
    assert places.min() >= min(0.0, seen.min()) - 1e-9 and places.max() <= max(0.0, seen.max()) + 1e-9


def test_when_frames_stop_the_targets_stand_still_where_the_last_was() -> None:
    ticks, places, newest, _ = follow(lambda t: 2.0 * t, 90.0, until_s=1.0)
    late = ticks > newest[-1] + 1.0 / 90.0 + 0.003
    np.testing.assert_allclose(places[late], 2.0 * newest[-1], atol=1e-9)


def test_an_elbow_that_comes_and_goes_has_a_direction_while_it_is_known() -> None:
    track = TargetTrack(START, np.ones(2), np.zeros(0))
    for k in range(8):
        now = k * 0.011
        targets = at(0.0)
        if k >= 4:
            targets.directions[:] = 0.0
        track.add(targets, 1 + round(now * 1e9), now)
        track.move_to(now + TICK_S)
        known = track.directions.any(axis=1).tolist()
        assert known == [k < 4, False]
    assert track.poses[0, 0] == 0.0


def test_openings_and_rotations_go_the_same_way() -> None:
    track = TargetTrack(START, np.ones(2), np.zeros(0))
    quarter = np.array([0.0, 0.0, np.sin(np.pi / 4), np.cos(np.pi / 4)])
    for k in range(20):
        targets = at(0.0)
        if k >= 10:
            targets.poses[0] = np.r_[0.0, 0.0, 0.0, -quarter]  # the longer way round, written
            targets.openings[0] = 0.0
        track.add(targets, 1 + k * 11_111_111, k / 90.0)
        track.move_to(k / 90.0 + 0.004)
        angle = 2.0 * np.arctan2(abs(track.poses[0, 5]), abs(track.poses[0, 6]))
        assert angle / (np.pi / 2) == pytest.approx(1.0 - track.openings[0], abs=1e-6)
    assert track.openings[0] < 1e-3
