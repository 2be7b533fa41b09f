"""The laws of the state machine: whatever comes in, what goes out keeps the limits."""

from __future__ import annotations

import numpy as np
import pytest
from driven_robot import READY, TICK_S, Loop, engaged, person, without
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.arm_target import ArmState
from retargeting.errors import InvalidMotion, RetargetingError
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter, State
from retargeting.robot_model import RobotModel


def test_engage_approaches_softly_and_tracks(model: RobotModel):
    loop = engaged(model)
    assert loop.retargeter.state is State.TRACKING
    last = loop.commands[-1]
    for side in ("left", "right"):
        wrist = model.site_pose(f"{side}_wrist", dict(zip(last.joint_names, last.positions, strict=True)))
        assert np.linalg.norm(wrist[:3] - last.targets[f"{side}_wrist"][:3]) < 0.01
    assert loop.retargeter.forced_exceptions == 0


def test_the_first_command_is_where_the_robot_is(kestrel: RobotModel):
    loop = Loop(kestrel)
    loop.measured["left_elbow_pitch"] -= 0.3
    start = loop.measured["left_elbow_pitch"]
    loop.run(0.5, READY)
    loop.retargeter.engage(loop.now_s)
    loop.run(TICK_S, READY)
    first = dict(zip(loop.commands[0].joint_names, loop.commands[0].positions, strict=True))
    assert abs(first["left_elbow_pitch"] - start) <= 30.0 * TICK_S * TICK_S + 1e-12


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_wild_motion_and_uneven_ticks_never_break_a_limit(kestrel: RobotModel, seed: int):
    rng = np.random.default_rng(seed)
    loop = engaged(kestrel)
    goals = {side: READY[side] for side in READY}

    def jumpy(_now_s: float):
        if rng.random() < 0.05:
            goals.update({side: rng.uniform([-0.3, -0.6, -0.55], [0.56, 0.6, 0.5]) for side in goals})
        return goals

    loop.run(3.0, jumpy, tick_s=lambda: TICK_S * (1.0 if rng.random() < 0.8 else rng.uniform(0.3, 6.0)))
    assert loop.retargeter.forced_exceptions == 0


def test_stale_motion_brakes_to_a_hold_and_needs_a_new_engage(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.run(0.6, lambda t: {side: READY[side] + [0, 0.12 * np.sin(12 * t), 0] for side in READY})
    loop.run(0.6, None)
    assert loop.retargeter.state is State.HOLDING
    assert "stale" in loop.retargeter.reason
    assert np.abs(loop.commands[-1].velocities).max() == 0.0
    assert loop.commands[-1].cause_stamp_ns is None
    loop.run(0.5, READY)
    assert loop.retargeter.state is State.HOLDING, "tracking may resume only through a new engage"
    loop.retargeter.engage(loop.now_s)
    loop.run(1.5, READY)
    assert loop.retargeter.state is State.TRACKING


def test_a_lost_wrist_holds_its_arm_only_and_comes_back_softly(model: RobotModel):
    loop = engaged(model)
    swing = lambda t: {side: READY[side] + [0.0, 0.1 * np.sin(4 * t), 0.0] for side in READY}  # noqa: E731
    loop.run(0.6, swing)
    loop.run(0.6, swing, edit=lambda frame: without(frame, "left_wrist"))
    arms = loop.retargeter.arms
    assert loop.retargeter.state is State.TRACKING
    assert "left arm holds" in loop.retargeter.reason and "lost" in loop.retargeter.reason
    assert (arms["left"].state, arms["right"].state) == (ArmState.LOST, ArmState.FOLLOWING)
    # What holds stands; what does not goes on.
    recent = loop.commands[-60:]
    wrists = {
        side: np.array([loop.wrist(command, f"{side}_wrist")[:3] for command in recent])
        for side in ("left", "right")
    }
    assert np.ptp(wrists["left"], axis=0).max() < 0.01
    assert np.ptp(wrists["right"], axis=0).max() > 0.05
    before = len(loop.commands)
    loop.run(0.1, swing)
    assert loop.retargeter.state is State.ENGAGING
    assert "left wrist is tracked again" in loop.retargeter.reason
    assert arms["right"].state is ArmState.FOLLOWING
    loop.run(1.5, swing)
    assert loop.retargeter.state is State.TRACKING
    targets = np.array([command.targets["left_wrist"][:3] for command in loop.commands[before:]])
    assert np.linalg.norm(np.diff(targets, axis=0), axis=1).max() < 1.2 * TICK_S


def test_both_wrists_lost_for_long_need_a_new_engage(kestrel: RobotModel):
    loop = engaged(kestrel)
    hide = lambda frame: without(frame, "left_wrist", "right_wrist")  # noqa: E731
    loop.run(1.0, READY, edit=hide)
    assert loop.retargeter.state is State.TRACKING
    loop.run(2.0, READY, edit=hide)
    assert loop.retargeter.state is State.HOLDING
    assert "left and right wrist is lost" in loop.retargeter.reason


def test_the_emergency_stop_is_latched(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.retargeter.set_emergency_stop(True)
    loop.run(0.5, READY)
    assert np.abs(loop.commands[-1].velocities).max() == 0.0
    with pytest.raises(RetargetingError, match="emergency stop"):
        loop.retargeter.engage(loop.now_s)
    loop.retargeter.set_emergency_stop(False)
    assert loop.retargeter.state is State.HOLDING
    loop.retargeter.engage(loop.now_s)
    assert loop.run(1.5, READY).retargeter.state is State.TRACKING


def test_a_robot_that_does_not_follow_is_held(kestrel: RobotModel):
    loop = engaged(kestrel)
    stuck = dict(loop.measured)
    far = {side: np.array([0.1, 0.0, -0.5]) for side in READY}
    for _ in range(400):
        loop.measured = dict(stuck)
        loop.run(TICK_S, far)
    assert loop.retargeter.state is State.HOLDING
    assert "away from its command" in loop.retargeter.reason


def test_pushing_too_hard_is_held(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.retargeter.observe_wrench("left_wrist", 10_000.0)
    assert loop.retargeter.state is State.HOLDING


def test_walking_and_turning_moves_no_arm(kestrel: RobotModel):
    loop = engaged(kestrel)
    before = loop.commands[-1].targets["left_wrist"]
    loop.run(1.0, READY, heading_rad=1.1, at=(3.0, -2.0))
    np.testing.assert_allclose(loop.commands[-1].targets["left_wrist"], before, atol=1e-6)


def test_the_trigger_closes_the_gripper(kestrel: RobotModel):
    loop = engaged(kestrel)
    gripper = kestrel.joint_names.index("left_finger_inner")
    opened = loop.commands[-1].positions[gripper]
    loop.run(1.0, READY, trigger=1.0)
    ends = kestrel.description.grippers["left"].joints["left_finger_inner"]
    assert opened == pytest.approx(ends.open)
    assert loop.commands[-1].positions[gripper] == pytest.approx(ends.closed, abs=1e-6)


def test_engaging_without_input_says_what_is_missing(kestrel: RobotModel):
    retargeter = Retargeter(kestrel)
    with pytest.raises(RetargetingError, match="no joint_states"):
        retargeter.engage(0.0)
    retargeter.observe_joints(kestrel.neutral_positions(), 0.0)
    with pytest.raises(RetargetingError, match="/trainer/motion"):
        retargeter.engage(0.0)


def test_old_joint_states_refuse_to_engage_and_hold(kestrel: RobotModel):
    loop = Loop(kestrel).run(0.5, READY)
    with pytest.raises(RetargetingError, match=r"joint_states are 1\.0\d s old"):
        loop.retargeter.engage(loop.now_s + 1.0)
    loop = engaged(kestrel)
    for _ in range(60):  # motion goes on, joint states do not
        loop.retargeter.observe_motion(person(READY, int(loop.now_s * 1e9)), loop.now_s)
        loop.tick()
        loop.now_s += TICK_S
    assert loop.retargeter.state is State.HOLDING
    assert "joint_states are stale" in loop.retargeter.reason
    assert np.abs(loop.commands[-1].velocities).max() == 0.0


def test_a_trainer_who_jumps_is_approached_softly(model: RobotModel):
    """Another take begins, or a lost pelvis turns the whole frame: no arm goes there at full speed."""
    loop = engaged(model)
    far = {side: np.array([0.05, 0.0, -0.5]) for side in ("left", "right")}
    loop.run(0.02, far)
    assert loop.retargeter.state is State.ENGAGING
    assert "jumped by" in loop.retargeter.reason
    before = len(loop.commands)
    loop.run(4.0, far)
    assert loop.retargeter.state is State.TRACKING
    targets = np.array([command.targets["left_wrist"][:3] for command in loop.commands[before:]])
    speeds = np.linalg.norm(np.diff(targets, axis=0), axis=1) / TICK_S
    assert speeds.max() <= 1.6 * loop.retargeter.parameters.approach_m_s


def test_a_turned_hand_is_approached_softly(kestrel: RobotModel):
    loop = Loop(kestrel).run(0.5, READY, hand_roll_rad=2.5)
    loop.retargeter.engage(loop.now_s)
    loop.run(0.01, READY, hand_roll_rad=2.5)
    seconds = float(loop.retargeter.reason.split()[2])
    start = kestrel.site_pose("left_wrist", kestrel.neutral_positions())[3:]
    end = loop.retargeter.mapping.targets(person(READY, 1, hand_roll_rad=2.5)).wrists["left"][3:]
    angle = 2.0 * np.arccos(min(1.0, abs(float(start @ end))))
    assert seconds >= angle / loop.retargeter.parameters.approach_rad_s - 0.01


def test_a_force_that_is_no_number_holds(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.retargeter.observe_wrench("left_wrist", float("nan"))
    assert loop.retargeter.state is State.HOLDING


def test_a_solver_that_fails_brakes_and_holds(kestrel: RobotModel, monkeypatch: pytest.MonkeyPatch):
    loop = engaged(kestrel)
    loop.run(0.2, lambda t: {side: READY[side] + [0.0, 0.1 * np.sin(3 * t), 0.0] for side in READY})

    def fail(*_arguments):
        raise RetargetingError("the problem has no answer")

    monkeypatch.setattr(loop.retargeter.solver, "follow", fail)
    loop.run(0.5, READY)  # every command is checked against the limits
    assert loop.retargeter.state is State.HOLDING and loop.retargeter.reason == "the problem has no answer"
    assert np.abs(loop.commands[-1].velocities).max() == 0.0


def test_a_pose_in_other_units_is_refused():
    poses = {"head": np.array([0.0, 0.0, 1650.0, 0.0, 0.0, 0.0, 1.0])}
    with pytest.raises(InvalidMotion, match=r"head: position .* over 100 m away; metres are expected"):
        MotionFrame(1, poses)
