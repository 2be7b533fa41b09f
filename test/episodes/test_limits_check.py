"""The limit check finds exactly the violations that were put in, and none in a motion within limits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from episodes.attached_model import JointLimits, attached_model
from episodes.bag import read_bag
from episodes.errors import EpisodeError
from episodes.limits_check import check_limits, measure_limits
from episodes.samples import JointSamples

PERIOD_S = 0.005
LIMITS = JointLimits(
    ("a", "b"),
    np.array([-1.0, -np.inf]),
    np.array([1.0, np.inf]),
    np.array([6.0, 2.0]),
    np.array([30.0, 10.0]),
)


def walk(seed: int, count: int, jitter: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A random motion that keeps every limit at its very edge, by braking distance."""
    random = np.random.default_rng(seed)
    steps = PERIOD_S * (1.0 + jitter * random.uniform(-1.0, 1.0, count - 1))
    stamps = np.concatenate([[0], np.cumsum(np.round(steps * 1e9).astype(np.int64))])
    q = np.zeros((count, 2))
    v = np.zeros(2)
    for k in range(1, count):
        h = min((stamps[k] - stamps[k - 1]) * 1e-9, PERIOD_S)
        want = np.where(random.random(2) < 0.9, np.sign(v) + (v == 0.0), random.choice([-1.0, 1.0], 2))
        new = np.clip(v + want * LIMITS.acceleration * h, -LIMITS.velocity, LIMITS.velocity)
        # Keep enough way to stop, at steps that may be shorter than this one.
        room = np.where(new > 0, LIMITS.upper - q[k - 1], q[k - 1] - LIMITS.lower)
        need = new**2 / (2 * LIMITS.acceleration) + 3.0 * np.abs(new) * PERIOD_S
        brake = v - np.sign(v) * np.minimum(np.abs(v), LIMITS.acceleration * h)
        v = np.where(room > need, new, brake)
        q[k] = q[k - 1] + h * v
    return stamps.astype(np.int64), q


def samples(stamps: NDArray[np.int64], q: NDArray[np.float64]) -> JointSamples:
    return JointSamples(("a", "b"), stamps, q, np.zeros_like(q), np.zeros_like(q))


@given(st.integers(0, 10**6), st.integers(3, 300), st.sampled_from([0.0, 0.05, 0.5]))
def test_a_motion_within_limits_has_no_violation(seed: int, count: int, jitter: float) -> None:
    stamps, q = walk(seed, count, jitter)
    figures = measure_limits(samples(stamps, q), LIMITS, PERIOD_S)
    assert figures.violations == 0
    assert figures.acceleration.worst_ratio <= 1.0 + 1e-6


@given(
    st.integers(0, 10**6),
    st.sampled_from(["position", "velocity", "acceleration"]),
    st.floats(1e-3, 10.0),
    st.integers(0, 1),
)
def test_exceeding_one_limit_is_found(seed: int, kind: str, excess: float, joint: int) -> None:
    stamps, q = walk(seed, 60, 0.0)
    k = 30
    if kind == "position":
        joint = 0
        q[k:, joint] += (LIMITS.upper[joint] + excess) - q[k, joint]
    elif kind == "velocity":
        q[k:, joint] += q[k - 1, joint] + PERIOD_S * LIMITS.velocity[joint] * (1.0 + excess) - q[k, joint]
    else:
        v = (q[k - 1] - q[k - 2]) / PERIOD_S
        want = v[joint] + PERIOD_S * LIMITS.acceleration[joint] * (1.0 + excess)
        q[k:, joint] += q[k - 1, joint] + PERIOD_S * want - q[k, joint]
    figures = measure_limits(samples(stamps, q), LIMITS, PERIOD_S)
    assert getattr(figures, kind).count >= 1


def test_one_jump_is_one_velocity_and_two_acceleration_violations() -> None:
    q = np.zeros((20, 2))
    q[10:, 0] = 0.05  # 10 rad/s for one step
    stamps = (np.arange(20) * 5_000_000).astype(np.int64)
    figures = measure_limits(samples(stamps, q), LIMITS, PERIOD_S)
    assert (figures.position.count, figures.velocity.count, figures.acceleration.count) == (0, 1, 2)
    assert figures.velocity.worst_joint == "a"
    assert figures.velocity.worst_value == pytest.approx(10.0)
    assert figures.velocity.worst_time_ns == 50_000_000


def test_the_step_is_never_longer_than_nominal() -> None:
    q = np.zeros((4, 2))
    q[2:, 0] = 0.05
    # A second passed, but a command that comes late must not have gone further than one period allows.
    stamps = np.array([0, 5, 1005, 1010], dtype=np.int64) * 1_000_000
    figures = measure_limits(samples(stamps, q), LIMITS, PERIOD_S)
    assert figures.velocity.worst_value == pytest.approx(10.0)


def test_the_first_command_has_no_predecessor() -> None:
    q = np.full((3, 2), 0.9)
    stamps = (np.arange(3) * 5_000_000).astype(np.int64)
    assert measure_limits(samples(stamps, q), LIMITS, PERIOD_S).violations == 0
    assert measure_limits(samples(stamps[:1], q[:1]), LIMITS, PERIOD_S).violations == 0


def test_not_a_number_is_a_violation() -> None:
    q = np.zeros((5, 2))
    q[2, 1] = np.nan
    figures = measure_limits(samples((np.arange(5) * 5_000_000).astype(np.int64), q), LIMITS, PERIOD_S)
    assert figures.position.count == 1
    assert figures.velocity.count == 2
    assert figures.position.worst_joint == "b"


def test_stamps_that_do_not_increase_are_refused() -> None:
    with pytest.raises(EpisodeError, match="does not come after"):
        measure_limits(samples(np.array([0, 5, 5]), np.zeros((3, 2))), LIMITS, PERIOD_S)


def test_the_limits_are_those_of_the_attached_files(synthetic: Any, tmp_path: Path) -> None:
    yaml = synthetic.attachments["robot.yaml"].decode()
    yaml += (
        "limits:\n  velocity_rad_s: 4.0\n  acceleration_m_s2: 3.0\n"
        "  joints: {left_elbow_pitch: {velocity: 1.5, acceleration: 12.0, upper: 1.25, reason: test}}\n"
    )
    synthetic.attachments["robot.yaml"] = yaml.encode()
    limits = attached_model(read_bag(synthetic.write(tmp_path / "e.mcap"))).limits(
        ("right_elbow_pitch", "left_elbow_pitch", "left_finger")
    )
    assert limits.velocity.tolist() == [4.0, 1.5, 0.5]
    assert limits.acceleration.tolist() == [30.0, 12.0, 3.0]
    assert limits.lower.tolist() == [-2.0, -2.0, 0.0]
    assert limits.upper.tolist() == [2.0, 1.25, 0.04]


def test_a_bag_with_a_jump_fails_and_says_where(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    assert check_limits(read_bag(synthetic.write(tmp_path / "good.mcap"))).passed

    def jump(index: int, message: Any) -> Any:
        if index == 100:
            message.position[3] += 0.1
        return message

    synthetic.replace("/toy/joint_commands", jump)
    result = check_limits(read_bag(synthetic.write(tmp_path / "bad.mcap")))
    assert not result.passed
    assert result.figures["position"]["violations"] == 0
    assert result.figures["velocity"]["violations"] == 2
    assert result.figures["acceleration"]["violations"] == 3
    assert result.figures["velocity"]["worst_joint"] == messages["names"][3]
    assert "left_elbow_pitch at 0.4" in result.problems[0] or "left_elbow_pitch at 0.5" in result.problems[0]


def test_the_period_is_that_of_the_configuration_not_of_a_slow_machine(
    synthetic: Any, tmp_path: Path
) -> None:
    topic = "/toy/joint_commands"
    synthetic.topics[topic] = synthetic.topics[topic][::2]
    bag = read_bag(synthetic.write(tmp_path / "e.mcap"))
    assert check_limits(bag).figures["nominal_period_s"] == pytest.approx(0.005)
    assert check_limits(bag, {topic: 100.0}).figures["nominal_period_s"] == pytest.approx(0.01)


def test_commands_at_another_rate_are_judged_by_the_rate_in_the_file(synthetic: Any, tmp_path: Path) -> None:
    """Motion near its limits at 100 Hz breaks none of them, and at an assumed 200 Hz breaks many."""
    topic = "/toy/joint_commands"
    synthetic.topics[topic] = synthetic.topics[topic][::2]

    def swing(index: int, message: Any) -> Any:
        message.position[:] = 0.0
        message.position[0] = 0.5 * np.sin(7.0 * 0.01 * index)
        return message

    synthetic.replace(topic, swing)
    assert not check_limits(read_bag(synthetic.write(tmp_path / "unsaid.mcap"))).passed
    synthetic.counts[topic] = {"expected_hz": 100.0}
    result = check_limits(read_bag(synthetic.write(tmp_path / "said.mcap")))
    assert result.passed, result.problems
    assert result.figures["nominal_period_s"] == pytest.approx(0.01)


def test_the_urdf_may_be_attached_under_its_own_name(synthetic: Any, tmp_path: Path) -> None:
    synthetic.attachments["toy.urdf"] = synthetic.attachments.pop("robot.urdf")
    assert check_limits(read_bag(synthetic.write(tmp_path / "e.mcap"))).passed
