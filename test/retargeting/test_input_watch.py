"""What is heard of the robot: following, endless joints, joints in parts, out of bounds, elsewhere."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from driven_robot import READY, TICK_S, Loop, engaged, person
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.errors import RetargetingError
from retargeting.input_watch import InputWatch
from retargeting.retargeter import MOVING_STATES, State
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_model import RobotModel

ROLL, LIFT, ELBOW = "left_wrist_roll", "waist_yaw", "left_elbow_pitch"


def with_joint(model: RobotModel, name: str, kind: str, lower: float, upper: float) -> RobotModel:
    """`model` with a joint of another kind and range."""
    joint = replace(model.urdf.joints[name], kind=kind, lower=lower, upper=upper)
    k = model.joint_names.index(name)
    low, high = model.lower.copy(), model.upper.copy()
    low[k], high[k] = lower, upper
    urdf = replace(model.urdf, joints={**model.urdf.joints, name: joint})
    return replace(model, urdf=urdf, lower=low, upper=high)


def fault_after(model: RobotModel, measured: dict[str, float], q: np.ndarray) -> str | None:
    """What the watch says of a robot that stands there, commanded to `q`, for half a second."""
    watch = InputWatch(model, RetargeterParameters())
    for k in range(100):
        watch.saw_motion(k * 0.005)
        watch.observe_joints(measured, k * 0.005)
        fault = watch.fault(q, k * 0.005)
    return fault


def wrapped(angle: float) -> float:
    return (angle + math.pi) % (2.0 * math.pi) - math.pi


@settings(max_examples=50, deadline=None, derandomize=True)
@given(angle=st.floats(-30.0, 30.0), off=st.floats(-3.0, 3.0))
def test_endless_joints_are_compared_but_for_whole_turns(kestrel: RobotModel, angle: float, off: float):
    endless = with_joint(kestrel, ROLL, "continuous", -math.inf, math.inf)
    q = endless.neutral.copy()
    q[endless.joint_names.index(ROLL)] = angle
    fault = fault_after(endless, {**endless.neutral_positions(), ROLL: wrapped(angle + off)}, q)
    if abs(off) < 0.49:
        assert fault is None
    elif abs(off) > 0.51:
        assert fault is not None and ROLL in fault


def test_a_joint_with_ends_is_where_it_is_measured(kestrel: RobotModel):
    long = with_joint(kestrel, ROLL, "revolute", -4.0 * math.pi, 4.0 * math.pi)
    fault = fault_after(long, {**long.neutral_positions(), ROLL: 2.0 * math.pi}, long.neutral)
    assert fault is not None and f"{ROLL} is 6.28 rad away" in fault


class Encoder(dict[str, float]):
    """Measured joints of a robot whose `ROLL` is told within half a turn."""

    def __getitem__(self, name: str) -> float:
        value = super().__getitem__(name)
        return wrapped(value) if name == ROLL else value


def test_a_robot_with_a_wrapping_encoder_is_followed_and_engaged_again(kestrel: RobotModel):
    """Every command is checked by the loop; the hand rolls over the end of its encoder and back."""
    endless = with_joint(kestrel, ROLL, "continuous", -math.inf, math.inf)
    k = endless.joint_names.index(ROLL)
    neutral = endless.neutral.copy()
    neutral[k] = 3.14
    endless = replace(endless, neutral=neutral)
    loop = Loop(endless, RetargeterParameters(engage_mode="relative"))
    loop.measured = Encoder({**loop.measured, ROLL: 3.14})
    loop.run(0.5, READY)
    rest = np.array([loop.measured[name] for name in endless.joint_names])
    loop.previous = int((loop.now_s - TICK_S) * 1e9), rest, np.zeros(len(rest))
    loop.retargeter.engage(loop.now_s)
    for roll in (0.0, 0.4, -0.4, 0.4, 0.0, -0.4):
        loop.run(1.0, READY, hand_roll_rad=roll)
        assert loop.retargeter.state in MOVING_STATES, loop.retargeter.reason
    rolled = [command.positions[k] for command in loop.commands]
    assert min(rolled) < math.pi - 0.03 and math.pi + 0.03 < max(rolled)
    for roll in (0.4, -0.4):
        loop.run(1.5, READY, hand_roll_rad=roll)
        held = loop.commands[-1].positions[k]
        loop.retargeter.release()
        loop.run(0.5, READY, hand_roll_rad=roll)
        loop.retargeter.engage(loop.now_s)
        loop.run(1.5, READY, hand_roll_rad=roll)
        assert loop.retargeter.state is State.TRACKING, loop.retargeter.reason
        assert loop.commands[-1].positions[k] == pytest.approx(held, abs=0.05)


@settings(max_examples=20, deadline=None, derandomize=True)
@given(off=st.floats(0.0, 0.3))
def test_a_joint_that_slides_has_a_cap_in_metres(kestrel: RobotModel, off: float):
    lifted = with_joint(kestrel, LIFT, "prismatic", 0.0, 0.35)
    fault = fault_after(lifted, {**lifted.neutral_positions(), LIFT: off}, lifted.neutral)
    if off < 0.0499:
        assert fault is None
    elif off > 0.0501:
        assert fault == f"{LIFT} is {off:.2f} m away from its command, over the cap of 0.05 m"


def test_the_joint_is_named_that_is_farthest_by_its_cap(kestrel: RobotModel):
    lifted = with_joint(kestrel, LIFT, "prismatic", 0.0, 0.35)
    away = {LIFT: 0.2, ELBOW: lifted.neutral_position(ELBOW) - 0.6}
    fault = fault_after(lifted, {**lifted.neutral_positions(), **away}, lifted.neutral)
    assert fault is not None and LIFT in fault


def test_joints_that_come_in_parts_are_merged_and_each_has_an_age(kestrel: RobotModel):
    watch, everything = InputWatch(kestrel, RetargeterParameters()), kestrel.neutral_positions()
    left = {name: q for name, q in everything.items() if name.startswith("left_")}
    others = {name: q for name, q in everything.items() if name not in left}
    watch.saw_motion(0.0)
    watch.observe_joints({"wheel": 3.0}, 0.0)
    assert watch.refusal(0.0) == "no joint_states from the robot yet"
    watch.observe_joints(others, 0.0)
    assert watch.refusal(0.0) == "no joint_states of left_shoulder_pitch from the robot yet"
    watch.observe_joints(left, 0.01)
    assert watch.refusal(0.02) is None
    watch.saw_motion(0.12)
    watch.observe_joints(others, 0.12)
    assert watch.refusal(0.12) == "joint_states of left_shoulder_pitch are 0.11 s old"
    fault = watch.fault(kestrel.neutral, 0.12)
    assert fault == "joint_states are stale: the newest of left_shoulder_pitch are 110 ms old"
    watch.observe_joints(everything, 0.13)
    watch.observe_joints({**others, "left_elbow_pitch": everything["left_elbow_pitch"] - 0.1}, 0.14)
    assert watch.refusal(0.14) is None and watch.measured is not None
    np.testing.assert_allclose(np.abs(watch.measured - kestrel.neutral).sum(), 0.1, atol=1e-12)
    with pytest.raises(RetargetingError, match="non-finite"):
        watch.observe_joints({"left_elbow_pitch": math.nan}, 0.15)
    assert np.isfinite(watch.measured).all()


def first_engage(kestrel: RobotModel, **measured: float) -> Loop:
    loop = Loop(kestrel)
    loop.measured |= measured
    loop.run(0.5, READY)
    loop.retargeter.engage(loop.now_s)
    return loop


@pytest.mark.parametrize("beyond", [0.45, 0.05, -0.04])
def test_a_robot_outside_its_limits_is_not_engaged(kestrel: RobotModel, beyond: float):
    k = kestrel.joint_names.index(ELBOW)
    value = float(kestrel.upper[k] + beyond if beyond > 0.0 else kestrel.lower[k] + beyond)
    with pytest.raises(
        RetargetingError, match=rf"{ELBOW} is measured at .* outside its limits .* \.\. "
    ) as told:
        first_engage(kestrel, **{ELBOW: value})
    assert f"{value:.3f} rad, {abs(beyond):.3f} rad outside" in str(told.value)
    assert "degrees" not in str(told.value)


def test_joint_states_in_other_units_are_named(kestrel: RobotModel):
    with pytest.raises(RetargetingError, match="are joint_states in degrees"):
        first_engage(kestrel, **{ELBOW: math.degrees(kestrel.neutral_position(ELBOW))})
    with pytest.raises(RetargetingError, match=r"left_finger_inner .* are joint_states in millimetres"):
        first_engage(kestrel, left_finger_inner=30.0)


def test_a_robot_slightly_outside_begins_at_the_limit_and_is_told(kestrel: RobotModel):
    k = kestrel.joint_names.index(ELBOW)
    loop = first_engage(kestrel, **{ELBOW: float(kestrel.upper[k]) + 0.02})
    assert loop.retargeter.forced_exceptions == 1
    assert loop.retargeter.reason.startswith(f"{ELBOW} is measured at ")
    assert "0.020 rad outside its limits" in loop.retargeter.reason
    loop.run(TICK_S, READY)
    way = kestrel.upper[k] + 0.02 - loop.commands[0].positions[k]
    assert 0.02 <= way <= kestrel.velocity[k] * TICK_S


def moved_by_hand(loop: Loop, duration_s: float, **moved: float) -> None:
    """Run a robot that obeys nothing and stands there."""
    there = {**loop.measured, **moved}
    end_s = loop.now_s + duration_s
    while loop.now_s < end_s:
        loop.measured = dict(there)
        loop.run(TICK_S / 2, READY)
    loop.measured = there


def test_after_an_emergency_stop_commands_go_on_from_where_the_robot_was_moved(kestrel: RobotModel):
    """Every command is checked by the loop: there is no step, and none is needed."""
    loop = engaged(kestrel)
    k = kestrel.joint_names.index(ELBOW)
    loop.retargeter.set_emergency_stop(True)
    loop.run(0.5, READY)
    there = loop.measured[ELBOW] - 0.6
    moved_by_hand(loop, 1.5, **{ELBOW: there})
    assert loop.commands[-1].positions[k] == pytest.approx(there, abs=2e-3)
    before = len(loop.commands)
    loop.retargeter.set_emergency_stop(False)
    loop.run(0.5, READY)
    assert loop.measured[ELBOW] == pytest.approx(there, abs=5e-3), "a reset moves nothing"
    loop.retargeter.engage(loop.now_s)
    loop.run(0.01, READY)
    assert loop.measured[ELBOW] == pytest.approx(there, abs=5e-3)
    loop.run(2.0, READY)
    assert loop.retargeter.state is State.TRACKING
    assert all(abs(c.positions[k] - there) < 0.65 for c in loop.commands[before:])


def test_a_robot_that_stands_elsewhere_is_joined_before_an_arm_approaches(kestrel: RobotModel):
    loop = engaged(kestrel)
    k = kestrel.joint_names.index(ELBOW)
    loop.retargeter.release()
    loop.run(0.3, READY)
    held, there = loop.measured[ELBOW], loop.measured[ELBOW] - 0.6
    moved_by_hand(loop, 0.3, **{ELBOW: there})
    assert loop.commands[-1].positions[k] == pytest.approx(held, abs=1e-6), "a hold stands"
    loop.retargeter.engage(loop.now_s)
    before = len(loop.commands)
    moved_by_hand(loop, 0.5, **{ELBOW: there})
    assert loop.retargeter.reason == "the command comes to where the robot stands"
    speeds = [abs(c.velocities[k]) for c in loop.commands[before:]]
    assert 0.3 < max(speeds) <= loop.retargeter.parameters.approach_rad_s * 1.001
    while "the command comes" in loop.retargeter.reason:
        moved_by_hand(loop, TICK_S, **{ELBOW: there})
    assert loop.commands[-1].positions[k] == pytest.approx(there, abs=5e-3)
    loop.run(2.5, READY)
    assert loop.retargeter.state is State.TRACKING


def test_a_robot_that_gives_way_while_it_is_joined_is_held(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.retargeter.release()
    loop.run(0.3, READY)
    start = loop.measured[ELBOW]
    loop.measured[ELBOW] = start - 0.3
    loop.retargeter.observe_joints(loop.measured, loop.now_s)
    loop.retargeter.engage(loop.now_s)
    for _ in range(400):
        if loop.retargeter.state is not State.ENGAGING:
            break
        commanded = loop.commands[-1].positions[kestrel.joint_names.index(ELBOW)]
        moved_by_hand(loop, TICK_S, **{ELBOW: commanded - 0.3})
    assert loop.retargeter.state is State.HOLDING
    assert loop.retargeter.reason.startswith("the robot moved while its command came to it")
    assert loop.commands[-1].positions[kestrel.joint_names.index(ELBOW)] > start - 0.35


def test_joining_ends_when_the_trainer_lets_go_or_joints_are_stale(kestrel: RobotModel):
    for what in ("release", "stale"):
        loop = engaged(kestrel)
        loop.retargeter.release()
        loop.run(0.3, READY)
        there = loop.measured[ELBOW] - 0.6
        moved_by_hand(loop, 0.1, **{ELBOW: there})
        loop.retargeter.engage(loop.now_s)
        moved_by_hand(loop, 0.1, **{ELBOW: there})
        assert loop.retargeter.state is State.ENGAGING
        if what == "release":
            loop.retargeter.release()
        for _ in range(60):
            loop.retargeter.observe_motion(person(READY, int(loop.now_s * 1e9)), loop.now_s)
            loop.tick()
            loop.now_s += TICK_S
        assert loop.retargeter.state is State.HOLDING
        assert ("old" if what == "stale" else "released") in loop.retargeter.reason
        assert np.abs(loop.commands[-1].velocities).max() == 0.0
