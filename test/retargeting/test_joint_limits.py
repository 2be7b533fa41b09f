"""The laws of the velocity box: never empty, every limit kept, whatever is wanted and however ticks vary."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.joint_limits import JointLimits, braking_velocity, velocity_box

NOMINAL_S = 0.005


@given(distance=st.floats(1e-12, 10.0), acceleration=st.floats(0.1, 300.0), dt=st.floats(1e-4, 0.05))
@settings(max_examples=300, deadline=None, derandomize=True)
def test_braking_velocity_uses_exactly_the_distance(distance, acceleration, dt):
    v = braking_velocity(distance, acceleration, dt)
    assert v >= 0.0
    np.testing.assert_allclose(v * dt + v * v / (2.0 * acceleration), distance, rtol=1e-9)


def test_no_room_means_no_velocity():
    assert braking_velocity(0.0, 30.0, NOMINAL_S) == 0.0
    assert braking_velocity(-0.1, 30.0, NOMINAL_S) == 0.0


@given(seed=st.integers(0, 2**31))
@settings(max_examples=60, deadline=None, derandomize=True)
def test_from_any_start_inside_the_box_is_never_empty_and_every_limit_holds(seed):
    rng = np.random.default_rng(seed)
    n = 5
    lower = -rng.uniform(0.01, 3.0, n)
    upper = rng.uniform(0.01, 3.0, n)
    velocity = rng.uniform(0.1, 6.0, n)
    acceleration = rng.choice([0.5, 5.0, 30.0, 200.0], size=n)
    q = rng.uniform(lower, upper)
    v = np.zeros(n)
    low, high = np.empty(n), np.empty(n)
    for _ in range(400):
        # Ticks may come early; late ones are never longer than nominal.
        dt = NOMINAL_S * (1.0 if rng.random() < 0.7 else rng.uniform(0.1, 1.0))
        forced = velocity_box(q, v, JointLimits(lower, upper, velocity, acceleration), dt, low, high)
        assert forced == 0
        assert (low <= high).all()
        # The worst that can be wanted: always a corner of the box, often the same one for long.
        wanted = np.where(rng.random(n) < 0.5, low, high) if rng.random() < 0.3 else high
        step = wanted * dt
        assert (np.abs(wanted) <= velocity * (1 + 1e-12)).all()
        assert (np.abs(wanted - v) <= acceleration * dt * (1 + 1e-9) + 1e-12).all()
        q, v = q + step, wanted.copy()
        assert (q <= upper + 1e-12).all() and (q >= lower - 1e-12).all()


def test_outside_the_limits_the_way_leads_back_and_is_counted():
    q, v = np.array([1.2]), np.array([2.0])
    low, high = np.empty(1), np.empty(1)
    limits = JointLimits(np.array([-1.0]), np.array([1.0]), np.array([6.0]), np.array([30.0]))
    forced = velocity_box(q, v, limits, NOMINAL_S, low, high)
    assert forced == 1
    assert high[0] <= 0.0
