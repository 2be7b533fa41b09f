"""The benchmark's motions are what their names say."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.retargeting.motions import FRAME_RATE_HZ, STANDING_S, SYNTHETIC, Motion
from capture_nodes.sources.person import Person
from retargeting.body_points import SIDES

PERSON = Person()


@pytest.fixture(scope="module")
def motions() -> dict[str, Motion]:
    return {name: make(PERSON) for name, make in SYNTHETIC.items()}


def wrists(motion: Motion, side: str) -> np.ndarray:
    """Positions ``(n, 3)``, NaN where not tracked."""
    nowhere = np.full(7, np.nan)
    return np.array([frame.poses.get(f"{side}_wrist", nowhere)[:3] for frame in motion.frames])


def test_every_motion_starts_standing_and_comes_at_the_headsets_rate(motions: dict[str, Motion]):
    for name, motion in motions.items():
        assert motion.name == name
        gaps_s = np.diff([frame.stamp_ns for frame in motion.frames]) * 1e-9
        np.testing.assert_allclose(gaps_s, 1.0 / FRAME_RATE_HZ, atol=2e-9)
        standing = round(STANDING_S * FRAME_RATE_HZ) - 1
        base = motion if motion.clean is None else motion.clean
        for side in SIDES:
            still = wrists(base, side)[:standing]
            assert np.abs(still - still[0]).max() == 0.0, name


def test_the_same_call_gives_the_same_motion(motions: dict[str, Motion]):
    for name in ("jittery_headset", "late_ticks"):
        again = SYNTHETIC[name](PERSON)
        assert again.tick_share == motions[name].tick_share
        np.testing.assert_array_equal(wrists(again, "left"), wrists(motions[name], "left"))


def test_a_headset_jitters_by_half_a_millimetre(motions: dict[str, Motion]):
    jittery = motions["jittery_headset"]
    assert jittery.clean is not None
    offset = wrists(jittery, "left") - wrists(jittery.clean, "left")
    assert offset.std() == pytest.approx(0.0005, rel=0.05)


def test_a_glitch_is_one_frame_of_three_to_five_decimetres(motions: dict[str, Motion]):
    motion = motions["glitch"]
    assert motion.clean is not None
    distance = np.linalg.norm(wrists(motion, "right") - wrists(motion.clean, "right"), axis=1)
    struck = np.flatnonzero(distance > 0.0)
    assert (np.diff(struck) > 10).all(), "single frames"
    np.testing.assert_allclose(distance[struck], [0.3, 0.4, 0.5] * 2)
    np.testing.assert_array_equal(wrists(motion, "left"), wrists(motion.clean, "left"))


def test_a_fast_reach_is_as_fast_as_people_reach(motions: dict[str, Motion]):
    speed = np.linalg.norm(np.diff(wrists(motions["fast_reach"], "left"), axis=0), axis=1) * FRAME_RATE_HZ
    assert 3.0 < speed.max() < 3.3


def test_full_extension_goes_fifteen_percent_beyond_the_robots_reach(motions: dict[str, Motion]):
    reach = np.linalg.norm(wrists(motions["full_extension"], "left") - PERSON.shoulder("left"), axis=1)
    assert reach.max() / PERSON.reach_m == pytest.approx(1.15 / 0.97, rel=0.01)


def test_out_of_bounds_is_behind_above_across_and_far(motions: dict[str, Motion]):
    offset = (wrists(motions["out_of_bounds"], "left") - PERSON.shoulder("left")) / PERSON.reach_m
    assert offset[:, 0].min() < -0.5 and offset[:, 2].max() > 1.1
    assert offset[:, 1].min() < -1.0 and np.linalg.norm(offset, axis=1).max() > 1.5


def test_a_raised_elbow_keeps_the_arms_lengths_and_the_wrist(motions: dict[str, Motion]):
    frames = motions["elbow_raised"].frames
    elbow, shoulder = (
        np.array([frame.poses[f"left_{part}"][:3] for frame in frames]) for part in ("elbow", "shoulder")
    )
    wrist = wrists(motions["elbow_raised"], "left")
    np.testing.assert_allclose(np.linalg.norm(elbow - shoulder, axis=1), PERSON.upper_arm_m, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(elbow - wrist, axis=1), PERSON.forearm_m, atol=1e-9)
    assert np.ptp(elbow[:, 2]) > 0.1
    assert np.ptp(wrist[-200:], axis=0).max() < 1e-9


def test_a_lost_wrist_is_absent_not_still(motions: dict[str, Motion]):
    lost = np.isnan(wrists(motions["tracking_loss"], "right")[:, 0])
    assert lost.sum() == sum(round(length_s * FRAME_RATE_HZ) for length_s in (0.05, 0.25, 0.8))
    assert not np.isnan(wrists(motions["tracking_loss"], "left")).any()
