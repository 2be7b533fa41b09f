from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.simulation.command_follower import LARGEST_JUMP_RAD, CommandFollower, Reference

STEP_S, STEPS = 0.001, 5
TICK_S = STEP_S * STEPS
ACCELERATION = np.array([30.0, 30.0, 5.0])
VELOCITY = np.array([6.0, 6.0, 0.4])
NAMES = ("shoulder", "elbow", "finger")


def follower(timeout_s: float = 0.1) -> CommandFollower:
    return CommandFollower(
        NAMES,
        np.array([-2.0, -2.0, 0.0]),
        np.array([2.0, 2.0, 0.05]),
        VELOCITY,
        ACCELERATION,
        np.array([0.0, 0.5, 0.05]),
        np.array([False, False, True]),
        timeout_s,
    )


def run(subject: CommandFollower, first_tick: int, ticks: int) -> Reference:
    """Ticks without commands, joined."""
    parts = [subject.advance((first_tick + k) * TICK_S, STEP_S, STEPS) for k in range(ticks)]
    return Reference(
        np.vstack([p.positions for p in parts]),
        np.vstack([p.velocities for p in parts]),
        np.vstack([p.accelerations for p in parts]),
    )


def track(subject: CommandFollower, ticks: int, rate_rad_s: float) -> Reference:
    """Command a smooth start and then a constant velocity of the shoulder."""
    parts = []
    position = velocity = 0.0
    for k in range(ticks):
        velocity = min(rate_rad_s, velocity + 20.0 * TICK_S)
        position += velocity * TICK_S
        assert subject.offer(NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0], k * TICK_S) == ""
        parts.append(subject.advance(k * TICK_S, STEP_S, STEPS))
    fields = ("positions", "velocities", "accelerations")
    return Reference(*(np.vstack([getattr(p, field) for p in parts]) for field in fields))


def test_tracks_a_moving_command_smoothly() -> None:
    subject = follower()
    reference = track(subject, 150, 2.0)
    assert reference.velocities[-50:, 0] == pytest.approx(2.0, abs=0.01)
    jumps = np.abs(np.diff(reference.positions[:, 0], prepend=0.0))
    assert jumps.max() <= 2.0 * STEP_S * 1.1


def test_commands_that_stop_are_braked_within_the_acceleration_limit() -> None:
    subject = follower(timeout_s=0.05)
    track(subject, 100, 3.0)
    assert subject.state == "ready"
    reference = run(subject, 100, 60)
    assert subject.state == "holding"
    velocity = reference.velocities[:, 0]
    # The first step of the coast belongs to the interpolation that was still running.
    assert np.abs(np.diff(velocity)).max() <= 30.0 * STEP_S + 1e-6
    assert velocity[-1] == 0.0
    assert np.abs(np.diff(reference.positions[:, 0])).max() <= 3.0 * STEP_S * 1.05
    # v/a of braking plus the rest of the interpolation.
    assert np.nonzero(velocity)[0].max() * STEP_S <= 3.0 / 30.0 + 0.01


def test_emergency_stop_brakes_refuses_and_is_latched() -> None:
    subject = follower()
    track(subject, 100, 3.0)
    subject.set_emergency_stop(True)
    reference = run(subject, 100, 40)
    velocity = reference.velocities[:, 0]
    assert np.abs(np.diff(velocity)).max() <= 30.0 * STEP_S + 1e-6 and velocity[-1] == 0.0
    assert subject.state == "emergency_stop"
    assert "emergency stop" in subject.offer(NAMES, subject.position, None, 1.0)
    assert subject.refusals["emergency stop"] == 1
    subject.set_emergency_stop(False)
    assert subject.state == "holding"
    assert subject.offer(NAMES, subject.position, None, 1.0) == ""
    subject.advance(1.0, STEP_S, STEPS)
    assert subject.state == "ready"


@pytest.mark.parametrize(
    ("names", "positions", "velocities", "kind", "part"),
    [
        (("shoulder", "knee"), (0.0, 0.0), None, "unknown joint", "knee"),
        (("shoulder",), (float("nan"),), None, "not finite", "finite"),
        (("shoulder",), (0.0,), (float("inf"),), "not finite", "finite"),
        (("elbow",), (2.5,), None, "outside limits", "elbow: 2.5000 is outside -2.0000 .. 2.0000"),
        (("shoulder",), (1.5,), None, "jump", "shoulder"),
        (("shoulder", "elbow"), (0.0,), None, "malformed", "2 names, 1 positions"),
        (("shoulder",), (0.0,), (0.0, 1.0), "malformed", "2 velocities"),
    ],
)
def test_refuses_with_a_counted_reason(
    names: tuple[str, ...],
    positions: tuple[float, ...],
    velocities: tuple[float, ...] | None,
    kind: str,
    part: str,
) -> None:
    subject = follower()
    before = subject.position.copy()
    assert part in subject.offer(names, positions, velocities, 0.0)
    assert subject.refusals == {kind: 1} and subject.accepted == 0
    assert np.array_equal(run(subject, 0, 20).positions[-1], before)


def _swing(k: int) -> tuple[float, float]:
    """Position and velocity of a command that swings with up to 2.4 rad/s and 14 rad/s²."""
    t = k * TICK_S
    return 0.4 - 0.4 * np.cos(6.0 * t), 2.4 * np.sin(6.0 * t)


@pytest.mark.parametrize("seed", range(5))
def test_uneven_arrivals_leave_no_trace(seed: int) -> None:
    """Stamped commands that come up to 5 ms late, and in bunches, make the same motion as punctual ones."""
    generator = np.random.default_rng(seed)
    even, uneven = follower(), follower()
    clock_ns = 10**18
    delays_s = generator.uniform(0.0, 0.005, 400)
    delays_s[::10] = 0.0
    arrivals = [(k * TICK_S + delays_s[k], k) for k in range(400)]
    parts: dict[str, list[Reference]] = {"even": [], "uneven": []}
    for tick in range(400):
        now_s = tick * TICK_S
        position, velocity = _swing(tick)
        command = (NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0])
        assert even.offer(*command, now_s, clock_ns + tick * 5_000_000) == ""
        while arrivals and arrivals[0][0] <= now_s:
            _, k = arrivals.pop(0)
            position, velocity = _swing(k)
            late = (NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0])
            assert uneven.offer(*late, now_s, clock_ns + k * 5_000_000) == ""
        parts["even"].append(even.advance(now_s, STEP_S, STEPS))
        parts["uneven"].append(uneven.advance(now_s, STEP_S, STEPS))
    settled = slice(20, None)
    positions = {name: np.vstack([p.positions for p in of[settled]]) for name, of in parts.items()}
    np.testing.assert_allclose(positions["uneven"], positions["even"], atol=1e-4)
    accelerations = np.vstack([p.accelerations for p in parts["uneven"][settled]])
    assert np.abs(accelerations[:, 0]).max() <= 14.4 * 1.05


def test_the_reference_has_the_velocity_and_acceleration_of_the_commands_and_never_more() -> None:
    generator = np.random.default_rng(7)
    subject = follower()
    position, velocity = 0.0, 0.0
    parts = []
    for k in range(800):
        wanted = float(generator.uniform(-3.0, 3.0)) if k % 40 == 0 else velocity
        wanted = np.clip(wanted, (-1.8 - position) / 0.3, (1.8 - position) / 0.3)
        velocity += float(np.clip(wanted - velocity, -30.0 * TICK_S, 30.0 * TICK_S))
        position += velocity * TICK_S
        if abs(position) > 1.9:
            break
        assert subject.offer(NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0], k * TICK_S) == ""
        parts.append(subject.advance(k * TICK_S, STEP_S, STEPS))
    velocities = np.concatenate([p.velocities[:, 0] for p in parts])
    accelerations = np.concatenate([p.accelerations[:, 0] for p in parts])
    assert np.abs(velocities).max() <= 3.0 + 1e-9
    assert np.abs(accelerations).max() <= 30.0 * 1.001
    assert np.abs(np.diff(velocities)).max() <= 30.0 * STEP_S * 1.001


def test_a_sender_whose_clock_is_set_is_still_followed() -> None:
    subject = follower()
    reference = None
    for k in range(200):
        position, velocity = _swing(k)
        stamp_ns = 10**18 + k * 5_000_000 - (3_600_000_000_000 if k >= 100 else 0)
        command = (NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0])
        assert subject.offer(*command, k * TICK_S, stamp_ns) == ""
        reference = subject.advance(k * TICK_S, STEP_S, STEPS)
        assert np.abs(reference.velocities[:, 0]).max() <= 2.6
    assert subject.state == "ready" and reference is not None
    assert reference.positions[-1, 0] == pytest.approx(_swing(198)[0], abs=0.03)


def test_a_distant_command_is_caught_up_with_inside_the_limits() -> None:
    subject = follower()
    target = 0.9 * LARGEST_JUMP_RAD
    parts = []
    for k in range(400):
        assert subject.offer(NAMES, [target, 0.5, 0.0], None, k * TICK_S) == ""
        parts.append(subject.advance(k * TICK_S, STEP_S, STEPS))
    velocities = np.vstack([p.velocities for p in parts])
    positions = np.vstack([p.positions for p in parts])
    assert positions[-1] == pytest.approx([target, 0.5, 0.0], abs=1e-4)
    assert (np.abs(velocities) <= VELOCITY + 1e-6).all()
    per_tick = np.abs(velocities[STEPS:] - velocities[:-STEPS]) / TICK_S
    assert (per_tick.max(axis=0) <= 2.0 * ACCELERATION).all()
    assert positions[:, 0].max() <= target + 0.005


def test_random_commands_never_leave_the_limits() -> None:
    generator = np.random.default_rng(3)
    subject = follower()
    for k in range(600):
        if generator.random() < 0.8:
            offer = subject.position + generator.normal(0.0, [0.3, 0.3, 0.05])
            subject.offer(NAMES, offer, generator.normal(0.0, 8.0, 3), k * TICK_S)
        reference = subject.advance(k * TICK_S, STEP_S, STEPS)
        assert np.isfinite(reference.positions).all()
        assert (reference.positions >= [-2.0, -2.0, 0.0]).all()
        assert (reference.positions <= [2.0, 2.0, 0.05]).all()


def test_commands_that_are_all_late_are_followed_with_a_lag() -> None:
    """One arrival was read 30 ms too early: for a second or two every command seems that late."""
    subject = follower()
    worst = 0.0
    accelerations = []
    for k in range(400):
        position, velocity = _swing(k)
        now_s = k * TICK_S
        read_s = now_s - (0.030 if k == 60 else 0.0)
        command = (NAMES, [position, 0.5, 0.05], [velocity, 0.0, 0.0])
        assert subject.offer(*command, read_s, 10**18 + k * 5_000_000) == ""
        reference = subject.advance(now_s, STEP_S, STEPS)
        worst = max(worst, abs(reference.positions[-1, 0] - position))
        if k > 20:
            accelerations.append(np.abs(reference.accelerations[:, 0]).max())
    # 20 ms at 2.4 rad/s.
    assert worst < 0.05
    # Meanwhile as smooth as the commands.
    assert max(accelerations[100:250]) < 2.0 * 14.4
