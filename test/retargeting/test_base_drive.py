"""The mobile base: inside its caps under any input, to a stop whenever it is not led, then silent."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.base_drive import BaseDrive, BaseDriveParameters
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, Controls
from retargeting.robot_description import MobileBase

TICK_S = 0.005
BASE = MobileBase(linear_m_s=0.7, lateral_m_s=0.3, angular_rad_s=0.9, acceleration_m_s2=0.6)
ZEROS_S = BaseDriveParameters().zeros_s
STICK = st.one_of(st.sampled_from([-1.0, 0.0, 1.0]), st.floats(-1.0, 1.0))


def sticks(x: float = 0.0, y: float = 0.0, right: float = 0.0) -> Controls:
    axes = [0.0] * len(Axis)
    axes[Axis.LEFT_STICK_X], axes[Axis.LEFT_STICK_Y], axes[Axis.RIGHT_STICK_X] = x, y, right
    return Controls(tuple(axes))


class Driven:
    """Steps a drive and checks every velocity against the one before."""

    def __init__(self) -> None:
        self.drive = BaseDrive(BASE, TICK_S)
        self.now_s = 50.0
        self.said: list[np.ndarray | None] = []
        self._before = np.zeros(3)

    def step(self, controls: Controls, led: bool, dt: float = TICK_S) -> np.ndarray | None:
        self.now_s += dt
        said = self.drive.step(controls, led, self.now_s)
        velocity = self.drive.velocity
        if said is None:
            assert not velocity.any() and not self._before.any()
        else:
            np.testing.assert_array_equal(said, velocity)
        step, h = velocity - self._before, min(dt, TICK_S)
        assert math.hypot(step[0], step[1]) <= BASE.acceleration_m_s2 * h + 1e-12
        assert abs(step[2]) <= BASE.acceleration_rad_s2 * h + 1e-12
        assert math.hypot(velocity[0] / BASE.linear_m_s, velocity[1] / BASE.lateral_m_s) <= 1.0 + 1e-9
        assert abs(velocity[2]) <= BASE.angular_rad_s + 1e-12
        self._before = velocity.copy()
        self.said.append(said)
        return said

    def run(self, duration_s: float, controls: Controls, led: bool = True) -> np.ndarray:
        for _ in range(round(duration_s / TICK_S)):
            self.step(controls, led)
        return self.drive.velocity.copy()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(
            STICK, STICK, STICK, st.booleans(), st.sampled_from([TICK_S, 0.001, 0.08]), st.integers(1, 80)
        ),
        min_size=1,
        max_size=10,
    )
)
def test_no_input_breaks_a_cap_and_every_stop_is_a_stop(inputs):
    driven = Driven()
    for x, y, right, led, dt, ticks in inputs:
        for _ in range(ticks):
            driven.step(sticks(x, y, right), led, dt)
    moving = driven.drive.velocity.any()
    speed = np.abs(driven.drive.velocity)
    for _ in range(math.ceil(driven.drive.stopping_s / TICK_S) + 1):
        driven.step(sticks(1.0, 1.0, 1.0), led=False)
        # Straight to zero: nothing speeds up or turns round on the way.
        assert (np.abs(driven.drive.velocity) <= speed + 1e-12).all()
        speed = np.abs(driven.drive.velocity)
    assert not speed.any()
    silent = [driven.step(sticks(1.0, 1.0, 1.0), led=False) for _ in range(round(ZEROS_S / TICK_S) + 2)]
    assert silent[-1] is None
    if moving:
        after = [said for said in driven.said if said is None or not said.any()]
        assert sum(said is not None for said in after) >= round(ZEROS_S / TICK_S)


@pytest.mark.parametrize(
    ("controls", "velocity"),
    [
        (sticks(y=1.0), [0.7, 0.0, 0.0]),
        (sticks(y=-1.0), [-0.7, 0.0, 0.0]),
        (sticks(x=1.0), [0.0, -0.3, 0.0]),
        (sticks(right=1.0), [0.0, 0.0, -0.9]),
        (sticks(right=-1.0), [0.0, 0.0, 0.9]),
        (sticks(x=-1.0, y=1.0), [0.7 * math.sqrt(0.5), 0.3 * math.sqrt(0.5), 0.0]),
        (sticks(x=0.08, y=-0.08, right=0.11), [0.0, 0.0, 0.0]),
        (sticks(y=0.56), [0.35, 0.0, 0.0]),
    ],
)
def test_sticks_to_velocity(controls: Controls, velocity: list[float]):
    driven = Driven()
    driven.run(0.1, sticks())
    np.testing.assert_allclose(driven.run(3.0, controls), velocity, atol=1e-9)


def test_nothing_is_said_before_a_stick_moves():
    driven = Driven()
    driven.run(2.0, sticks(x=0.05))
    assert set(driven.said) == {None}


def test_a_stick_that_was_pushed_before_the_trainer_leads_moves_nothing():
    driven = Driven()
    driven.run(0.5, sticks(y=1.0), led=False)
    assert not driven.run(1.0, sticks(y=1.0)).any()
    driven.run(0.1, sticks())
    assert driven.run(2.0, sticks(y=1.0))[0] == pytest.approx(0.7)
    # A hold in between, with the stick still pushed.
    driven.run(2.0, sticks(y=1.0), led=False)
    assert not driven.run(1.0, sticks(y=1.0)).any()


def test_a_stop_takes_no_longer_than_said():
    driven = Driven()
    driven.run(0.1, sticks())
    driven.run(3.0, sticks(y=1.0, right=1.0))
    assert driven.run(driven.drive.stopping_s - 0.05, sticks(), led=False).any()
    assert not driven.run(0.06, sticks(), led=False).any()


@pytest.mark.parametrize("values", [{"deadband": 1.0}, {"zeros_s": float("nan"), "deadband": -0.1}])
def test_bad_parameters_are_all_named(values: dict[str, float]):
    with pytest.raises(RetargetingError) as caught:
        BaseDriveParameters(**values)
    assert all(f"base drive {name}: " in str(caught.value) for name in values)


def test_controls_that_are_too_old_keep_only_the_triggers():
    held = Controls(tuple(0.1 * k + 0.1 for k in range(8)), (1,) * 8).let_go()
    assert held.axes == (0.1, 0.2, 0, 0, 0, 0, 0, 0) and held.buttons == (0,) * 8
