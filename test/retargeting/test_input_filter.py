"""The input filter: glitches out, real motion in, jitter down, nothing late, whatever the tracker sends."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import RetargetingError
from retargeting.frames import (
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from retargeting.input_filter import InputFilter, InputFilterParameters
from retargeting.motion_frame import MotionFrame

RATES_HZ = (72.0, 90.0, 120.0)
UNTURNED = np.array([0.0, 0.0, 0.0, 1.0])
START_NS = 1_700_000_000_000_000_000
POINT = "left_wrist"


def stamps(count: int, rate_hz: float, jitter_s: float = 0.0, seed: int = 0) -> np.ndarray:
    """Stamps in s since `START_NS`, uneven by up to `jitter_s`."""
    noise = np.random.default_rng(seed).uniform(-jitter_s, jitter_s, count)
    return np.arange(count) / rate_hz + noise


def filtered(times_s: np.ndarray, positions: np.ndarray, rotations: np.ndarray | None = None):
    """The filter after all the frames, and its poses ``(n, 7)``."""
    kept = InputFilter()
    out = []
    for k, (t, position) in enumerate(zip(times_s, positions, strict=True)):
        turn = UNTURNED if rotations is None else rotations[k]
        frame = MotionFrame(START_NS + round(t * 1e9), {POINT: np.r_[position, turn]})
        out.append(kept.filter(frame).poses[POINT])
    return kept, np.array(out)


def along_x(x: np.ndarray) -> np.ndarray:
    return np.stack([x, np.zeros_like(x), np.ones_like(x)], axis=-1)


def turned(angles_rad: np.ndarray) -> np.ndarray:
    return quaternion_from_rotation_vector(angles_rad[:, None] * np.array([0.0, 0.6, 0.8]))


def angles(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    turn = rotation_vector_from_quaternion(quaternion_multiply(a, quaternion_inverse(b)))
    return np.linalg.norm(turn, axis=-1)


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("size_m", [0.12, 0.4, 3.0])
@pytest.mark.parametrize("speed_m_s", [0.0, 0.3, 1.5])
def test_a_glitch_of_one_frame_does_not_get_through(rate_hz: float, size_m: float, speed_m_s: float) -> None:
    t = stamps(200, rate_hz, 0.001)
    truth = along_x(speed_m_s * t)
    glitched = truth.copy()
    glitched[100] += [0.0, size_m, 0.0]
    _, clean = filtered(t, truth)
    kept, out = filtered(t, glitched)
    assert np.linalg.norm(out[:, :3] - clean[:, :3], axis=1).max() < 0.002
    assert (kept.doubted_samples, kept.jumps) == (1, 0)


def test_a_glitch_of_the_rotation_does_not_get_through() -> None:
    t = stamps(200, 90.0)
    rotations = turned(0.5 * t)
    glitched = rotations.copy()
    glitched[100] = quaternion_multiply(quaternion_from_rotation_vector([2.0, 0.0, 0.0]), glitched[100])
    glitched[120] *= -1.0  # the same rotation, written the other way
    _, clean = filtered(t, along_x(0.0 * t), rotations)
    kept, out = filtered(t, along_x(0.0 * t), glitched)
    assert angles(out[:, 3:], clean[:, 3:]).max() < 0.01
    assert kept.doubted_samples == 1


@pytest.mark.parametrize("rate_hz", RATES_HZ)
@pytest.mark.parametrize("frames_between", [4, 9, 30])
def test_motion_of_3_2_m_s_with_reversals_is_followed(rate_hz: float, frames_between: int) -> None:
    """Reversals in an instant, harder than any arm's: late by at most a frame, never lost, never a jump."""
    t = stamps(400, rate_hz, 0.0008, seed=3)
    span_s = frames_between / rate_hz
    phase = (t / span_s) % 2.0
    x = 3.2 * span_s * np.where(phase < 1.0, phase, 2.0 - phase)
    kept, out = filtered(t, along_x(x))
    assert kept.jumps == 0
    # Where it is by at most one frame ago, but for what smoothing takes.
    behind = np.minimum(np.abs(out[:, 0] - x), np.abs(out[:, 0] - np.r_[x[0], x[:-1]]))
    assert np.percentile(behind, 95) < 0.012 and behind.max() < 1.2 * 3.2 / rate_hz
    assert kept.doubted_samples <= 1.2 * len(t) / frames_between


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_a_steady_motion_of_3_2_m_s_is_never_doubted(rate_hz: float) -> None:
    t = stamps(300, rate_hz, 0.001, seed=5)
    kept, out = filtered(t, along_x(3.2 * t - 4.0))
    assert kept.doubted_samples <= 1, "only the first moving sample may be"
    assert np.abs(out[20:, 0] - (3.2 * t - 4.0)[20:]).max() < 0.0045


@settings(max_examples=30, deadline=None, derandomize=True)
@given(speed=st.floats(0.02, 3.0), rate_hz=st.sampled_from(RATES_HZ), turning=st.floats(0.05, 15.0))
def test_a_steady_motion_is_lagged_by_no_more_than_said(speed: float, rate_hz: float, turning: float) -> None:
    """The law of `one_euro`: the lag in m is at most 1 / (2 pi coefficient), and the delay is reported."""
    t = stamps(300, rate_hz)
    rotations = turned(turning * t)
    kept = InputFilter()
    for k in range(len(t)):
        pose = np.r_[along_x(speed * t)[k], rotations[k]]
        motion = kept.filter(MotionFrame(START_NS + round(t[k] * 1e9), {POINT: pose}))
    limits, delays_s = kept.parameters, motion.delays_s[POINT]
    lag_m = speed * t[-1] - motion.poses[POINT][0]
    lag_rad = angles(motion.poses[POINT][3:], rotations[-1])
    assert 0.0 <= lag_m <= 1.001 / (2 * np.pi * limits.cutoff_hz_per_m_s)
    assert lag_rad <= 1.001 / (2 * np.pi * limits.cutoff_hz_per_rad_s)
    assert delays_s == pytest.approx((lag_m / speed, lag_rad / turning), rel=0.01)
    if speed > 0.2 and turning > 1.5:
        assert max(delays_s) < 1.0 / rate_hz, "smoothing a motion takes less than a frame"


@pytest.mark.parametrize("rate_hz", RATES_HZ)
def test_jitter_at_rest_is_halved(rate_hz: float) -> None:
    rng = np.random.default_rng(1)
    t = stamps(2000, rate_hz, 0.001)
    positions = along_x(0.0 * t) + rng.normal(0.0, 0.0005, (len(t), 3))
    shaking = quaternion_from_rotation_vector(rng.normal(0.0, np.radians(0.3), (len(t), 3)))
    kept, out = filtered(t, positions, shaking)
    assert kept.doubted_samples == 0
    assert out[100:, :3].std(axis=0).max() < 0.55 * 0.0005
    before, after = angles(shaking, UNTURNED)[100:], angles(out[100:, 3:], UNTURNED)
    assert np.sqrt((after**2).mean()) < 0.6 * np.sqrt((before**2).mean())


def test_tracking_that_jumps_for_good_is_followed_one_frame_later() -> None:
    t = stamps(100, 90.0)
    x = np.where(np.arange(100) >= 50, 0.6, 0.0)
    kept, out = filtered(t, along_x(x))
    assert kept.jumps == 1
    assert abs(out[50, 0]) < 1e-6 and out[51, 0] == pytest.approx(0.6)


def test_a_point_that_jumps_about_is_not_tracked() -> None:
    kept = InputFilter()
    rng = np.random.default_rng(0)
    seen = []
    for k in range(60):
        place = np.array([0.0, 0.0, 1.0]) if k < 20 else rng.uniform(-3.0, 3.0, 3)
        motion = kept.filter(MotionFrame(START_NS + round(k / 90.0 * 1e9), {POINT: np.r_[place, UNTURNED]}))
        seen.append(POINT in motion.poses)
        if k >= 20 and POINT in motion.poses:
            assert np.linalg.norm(motion.poses[POINT][:3] - [0.0, 0.0, 1.0]) < 0.01
    assert all(seen[:28]) and not any(seen[35:])


def test_a_point_that_comes_back_starts_anew() -> None:
    kept = InputFilter()
    for k in range(30):
        kept.filter(MotionFrame(START_NS + k * 11_111_111, {POINT: np.r_[0.0, 0.0, 1.0, UNTURNED]}))
    later = START_NS + 30 * 11_111_111 + 400_000_000
    motion = kept.filter(MotionFrame(later, {POINT: np.r_[1.0, 0.0, 1.0, UNTURNED]}))
    assert motion.poses[POINT][0] == 1.0 and motion.doubted == ()


def test_a_point_that_is_lost_for_a_few_frames_goes_on() -> None:
    t = stamps(100, 90.0)
    kept = InputFilter()
    for k in range(100):
        points = {} if k in (50, 51, 52) else {POINT: np.r_[along_x(0.8 * t)[k], UNTURNED]}
        motion = kept.filter(MotionFrame(START_NS + round(t[k] * 1e9), points))
        assert set(motion.poses) == set(points)
        if points:
            assert abs(motion.poses[POINT][0] - 0.8 * t[k]) < 0.01
    assert kept.doubted_samples == 0


@settings(max_examples=40, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_whatever_is_tracked_comes_out_finite_and_normalized(seed: int) -> None:
    rng = np.random.default_rng(seed)
    kept = InputFilter()
    stamp_ns = START_NS
    for _ in range(120):
        stamp_ns += int(rng.choice([-5_000_000, 0, 1, 11_000_000, 30_000_000, 10**9, 10**13]))
        poses = {}
        for point in ("left_wrist", "right_wrist", "head", "left_index_tip"):
            if rng.random() < 0.8:
                turn = rng.normal(size=4)
                poses[point] = np.r_[
                    rng.uniform(-99, 99, 3) * rng.choice([1e-3, 1.0]), turn / np.linalg.norm(turn)
                ]
        motion = kept.filter(MotionFrame(stamp_ns, poses))
        assert set(motion.poses) <= set(poses)
        for pose in motion.poses.values():
            assert np.isfinite(pose).all() and np.abs(pose[:3]).max() < 200.0
            assert np.linalg.norm(pose[3:]) == pytest.approx(1.0, abs=1e-6)


def test_every_wrong_parameter_is_told() -> None:
    with pytest.raises(RetargetingError, match=r"(?s)minimum_cutoff_hz: nan .*forget_s: 9\.0 is outside"):
        InputFilterParameters(minimum_cutoff_hz=float("nan"), forget_s=9.0)
