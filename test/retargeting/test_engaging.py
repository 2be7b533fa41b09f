"""Joining trainer and robot: clutch and soft approach, deadman, re-centring, and no step in any of it."""

from __future__ import annotations

import numpy as np
import pytest
from driven_robot import READY, TICK_S, Loop, engaged, person, without
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.applied_command import ArmStop, StopKind
from retargeting.arm_stops import ArmStops
from retargeting.arm_target import ArmState
from retargeting.deadman import DeadmanParameters
from retargeting.errors import RetargetingError
from retargeting.frames import quaternion_from_rotation_vector, quaternion_multiply
from retargeting.mapping_settings import MappingSettings
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame
from retargeting.retargeter import Retargeter, RetargeterParameters, State
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import robot_posture
from retargeting.robot_tasks import robot_tasks
from retargeting.solver_parameters import SolverParameters
from retargeting.trainer_size import TrainerSize

RELATIVE = RetargeterParameters(engage_mode="relative")
SQUEEZE = RetargeterParameters(deadman=DeadmanParameters(mode="squeeze"))
ASIDE = {side: np.array([0.25, 0.08, -0.38]) for side in ("left", "right")}


def squeezing(*sides: str):
    """An edit of frames: these sides' squeezes are pulled."""

    def edit(frame: MotionFrame) -> MotionFrame:
        axes = list(frame.controls.axes)
        for side in sides:
            axes[Axis[f"{side.upper()}_SQUEEZE"]] = 1.0
        return MotionFrame(frame.stamp_ns, frame.poses, Controls(axes=tuple(axes)))

    return edit


def test_a_relative_clutch_starts_where_the_robot_is_and_repeats_the_motion(model: RobotModel):
    loop = Loop(model, RELATIVE).run(0.5, ASIDE)
    loop.retargeter.engage(loop.now_s)
    start = model.site_pose("left_wrist", loop.measured)
    loop.run(1.0, ASIDE)
    assert loop.retargeter.state is State.TRACKING
    np.testing.assert_allclose(loop.commands[-1].targets["left_wrist"][:3], start[:3], atol=2e-3)
    moved = {side: ASIDE[side] + [0.05, 0.02, 0.06] for side in ASIDE}
    loop.run(1.0, lambda t: {s: ASIDE[s] + min(1.0, (t - 11.5) / 0.6) * (moved[s] - ASIDE[s]) for s in ASIDE})
    step = loop.commands[-1].targets["left_wrist"][:3] - start[:3]
    expected = loop.retargeter.mapping.scale["left"] * np.array([0.05, 0.02, 0.06])
    np.testing.assert_allclose(step, expected, atol=2e-3)


def test_a_head_that_comes_back_turned_is_followed_softly(kestrel: RobotModel):
    loop = engaged(kestrel)
    loop.run(0.5, READY, edit=lambda frame: without(frame, "head"))
    assert loop.retargeter.state is State.TRACKING
    turn = quaternion_from_rotation_vector([0.0, 0.0, 1.2])

    def look_aside(frame: MotionFrame) -> MotionFrame:
        head = np.r_[frame.poses["head"][:3], turn]
        return MotionFrame(frame.stamp_ns, {**frame.poses, "head": head}, frame.controls)

    before = len(loop.commands)
    loop.run(0.1, READY, edit=look_aside)
    assert (
        loop.retargeter.state is State.ENGAGING
        and "head or trunk jumped by 1.20 rad" in loop.retargeter.reason
    )
    loop.run(1.5, READY, edit=look_aside)
    heads = np.array([command.targets["head"][3:] for command in loop.commands[before:]])
    turns = 2.0 * np.arccos(np.minimum(1.0, np.abs(np.sum(heads[1:] * heads[:-1], axis=1))))
    assert turns.max() < 1.6 * 1.0 * TICK_S and abs(heads[-1] @ turn) > 0.9999


@pytest.mark.parametrize("mode", ["relative", "absolute"])
def test_controllers_and_a_head_engage_in_a_tick_that_was_due_before(kestrel: RobotModel, mode: str):
    """Nothing tells the trunk, so the waist has no way to go; a tick is for the time it was due at."""

    def bare(frame: MotionFrame) -> MotionFrame:
        points = ("head", "left_wrist", "right_wrist")
        poses = {point: frame.poses[point] for point in points}
        return MotionFrame(frame.stamp_ns, poses, frame.controls)

    loop = Loop(kestrel, RetargeterParameters(engage_mode=mode)).run(0.5, READY, edit=bare)
    loop.retargeter.engage(loop.now_s)
    command = loop.retargeter.tick(round(1e9 * loop.now_s), loop.now_s - 0.002)
    assert command is not None and loop.retargeter.state is State.ENGAGING
    assert loop.run(1.5, READY, edit=bare).retargeter.state is State.TRACKING


def test_a_press_that_cannot_engage_says_why(kestrel: RobotModel):
    loop = Loop(kestrel, SQUEEZE)
    for k in range(100):
        loop.retargeter.observe_motion(squeezing("left")(person(READY, 1 + k * 11_000_000)), k * 0.011)
        if k == 40:
            loop.retargeter.observe_motion(person(READY, 5 + k * 11_000_000), k * 0.011)
    assert loop.retargeter.state is State.IDLE
    assert loop.retargeter.reason == "left deadman was pressed, but: no joint_states from the robot yet"


def test_a_relative_clutch_turns_the_hand_as_the_trainer_turns_theirs(kestrel: RobotModel):
    loop = Loop(kestrel, RELATIVE).run(0.5, ASIDE, hand_roll_rad=0.4)
    loop.retargeter.engage(loop.now_s)
    start = kestrel.site_pose("left_wrist", loop.measured)[3:]
    loop.run(1.0, ASIDE, hand_roll_rad=0.4)
    first = loop.commands[-1].targets["left_wrist"][3:]
    assert abs(first @ start) == pytest.approx(1.0, abs=1e-4)
    loop.run(0.5, ASIDE, hand_roll_rad=0.7)
    last = loop.commands[-1].targets["left_wrist"][3:]
    assert 2 * np.arccos(min(1.0, abs(last @ first))) == pytest.approx(0.3, abs=0.01)


def test_recentring_drops_the_offset_softly(kestrel: RobotModel):
    loop = Loop(kestrel, RELATIVE).run(0.5, ASIDE)
    loop.retargeter.engage(loop.now_s)
    loop.run(1.0, ASIDE)
    before = loop.commands[-1].targets["left_wrist"][:3]
    loop.retargeter.recentre()
    loop.run(0.05, ASIDE)
    assert loop.retargeter.state is State.ENGAGING and "re-centred" in loop.retargeter.reason
    assert np.linalg.norm(loop.commands[-1].targets["left_wrist"][:3] - before) < 0.01
    loop.run(2.0, ASIDE)
    wanted = loop.retargeter.mapping.targets(person(ASIDE, 1)).wrists["left"]
    np.testing.assert_allclose(loop.commands[-1].targets["left_wrist"], wanted, atol=1e-3)


def test_a_squeeze_engages_its_arm_and_letting_go_holds_it(kestrel: RobotModel):
    loop = Loop(kestrel, SQUEEZE).run(0.5, READY)
    with pytest.raises(RetargetingError, match="no deadman is held"):
        loop.retargeter.engage(loop.now_s)
    loop.run(1.0, READY, edit=squeezing("left"))
    arms = loop.retargeter.arms
    assert (arms["left"].state, arms["right"].state) == (ArmState.FOLLOWING, ArmState.RELEASED)
    loop.run(1.0, READY, edit=squeezing("left", "right"))
    assert (arms["left"].state, arms["right"].state) == (ArmState.FOLLOWING, ArmState.FOLLOWING)
    loop.run(0.3, READY, edit=squeezing("right"))
    assert (arms["left"].state, arms["right"].state) == (ArmState.RELEASED, ArmState.FOLLOWING)
    assert loop.retargeter.state is State.TRACKING and "left arm holds" in loop.retargeter.reason
    loop.run(0.5, READY)
    assert loop.retargeter.state is State.HOLDING and "no deadman" in loop.retargeter.reason
    loop.run(1.0, READY, edit=squeezing("right"))
    assert loop.retargeter.state is State.TRACKING


def test_after_a_fault_a_squeeze_that_is_still_held_moves_nothing(kestrel: RobotModel):
    both = squeezing("left", "right")
    loop = Loop(kestrel, SQUEEZE).run(0.5, READY).run(1.5, READY, edit=both)
    assert loop.retargeter.state is State.TRACKING
    loop.retargeter.set_emergency_stop(True)
    loop.run(0.2, READY, edit=both)
    loop.retargeter.set_emergency_stop(False)
    loop.run(0.5, READY, edit=both)
    assert loop.retargeter.state is State.HOLDING
    loop.run(0.1, READY).run(1.5, READY, edit=both)
    assert loop.retargeter.state is State.TRACKING


def test_hands_in_view_engage_and_hold(kestrel: RobotModel):
    loop = Loop(kestrel, RetargeterParameters(deadman=DeadmanParameters(mode="hands"))).run(1.5, READY)
    assert loop.retargeter.state is State.TRACKING
    loop.run(0.5, READY, edit=lambda frame: without(frame, "right_wrist"))
    assert loop.retargeter.arms["right"].holds and not loop.retargeter.arms["left"].holds
    loop.run(1.5, READY)
    assert not loop.retargeter.arms["right"].holds


def test_letting_go_counts_without_a_frame_and_a_press_does_not(kestrel: RobotModel):
    both = squeezing("left", "right")
    loop = Loop(kestrel, SQUEEZE).run(0.5, READY).run(1.5, READY, edit=both)
    held = both(person(READY, 0)).controls
    loop.retargeter.observe_controls(held)
    loop.run(0.02)
    assert loop.retargeter.state is State.TRACKING
    loop.retargeter.observe_controls(Controls())
    loop.run(0.02)
    assert loop.retargeter.state is State.HOLDING and "no deadman is held" in loop.retargeter.reason
    # A frame of before that is still under way, and a press without one, move nothing.
    loop.run(0.1, READY, edit=both)
    loop.retargeter.observe_controls(held)
    loop.run(0.1)
    assert loop.retargeter.state is State.HOLDING
    loop.run(0.1, READY).run(1.5, READY, edit=both)
    assert loop.retargeter.state is State.TRACKING


def test_hands_that_are_always_in_view_come_back_when_somebody_asks(kestrel: RobotModel):
    """Those of a suit: after a fault they move nothing by themselves, and engaging is the new press."""
    loop = Loop(kestrel, RetargeterParameters(deadman=DeadmanParameters(mode="hands"))).run(1.5, READY)
    loop.retargeter.set_emergency_stop(True)
    loop.run(0.5, READY)
    with pytest.raises(RetargetingError, match="the emergency stop is set"):
        loop.retargeter.engage(loop.now_s)
    loop.retargeter.set_emergency_stop(False)
    loop.run(1.0, READY)
    assert loop.retargeter.state is State.HOLDING and not loop.retargeter.is_led
    loop.run(0.3, READY, edit=lambda frame: without(frame, "right_wrist"))
    loop.retargeter.engage(loop.now_s)
    loop.run(1.0, READY, edit=lambda frame: without(frame, "right_wrist"))
    assert loop.retargeter.state is State.TRACKING
    assert loop.retargeter.arms["right"].holds and not loop.retargeter.arms["left"].holds


@pytest.mark.parametrize("hand_speed", [0.0, 0.8, 1.5])
def test_a_glitch_of_0_4_m_moves_the_wrist_by_less_than_2_mm(model: RobotModel, hand_speed: float):
    """The same motion with and without one frame whose left wrist is 0.4 m away.

    The fastest takes more acceleration than the arms have; there only what they are asked for is compared.
    """

    def swing(t: float):
        return {side: READY[side] + [0.0, 0.15 * np.sin(hand_speed / 0.15 * t), 0.0] for side in READY}

    runs = []
    for glitch in (False, True):
        loop = engaged(model)
        loop.run(0.5, swing)
        frames = iter(range(1000))

        def edit(frame: MotionFrame, frames=frames, glitch=glitch) -> MotionFrame:
            if glitch and next(frames) == 8:
                poses = dict(frame.poses)
                poses["left_wrist"] = poses["left_wrist"] + [0.0, 0.0, 0.4, 0.0, 0.0, 0.0, 0.0]
                return MotionFrame(frame.stamp_ns, poses, frame.controls)
            return frame

        loop.run(0.5, swing, edit=edit)
        assert loop.retargeter.state is State.TRACKING
        wrists = [loop.wrist(command, "left_wrist")[:3] for command in loop.commands[-100:]]
        targets = [command.targets["left_wrist"][:3] for command in loop.commands[-100:]]
        runs.append(np.array([targets, wrists]))
    moved = np.linalg.norm(runs[0] - runs[1], axis=2).max(axis=1)
    assert moved[0] < 0.002
    if hand_speed < 1.0:
        assert moved[1] < 0.002


def test_motion_of_3_2_m_s_is_no_fault_of_the_tracker(kestrel: RobotModel):
    """0.4 m to and fro at 3.2 m/s, reversed in an instant: the trainer is followed without a new approach."""
    loop = engaged(kestrel)

    def strike(t: float):
        phase = (t % 0.25) / 0.125
        away = 0.4 * (phase if phase < 1.0 else 2.0 - phase)
        return {side: np.array([0.12 + away, 0.0, -0.25]) for side in READY}

    slowly = lambda t: {s: READY[s] + min(1.0, (t - 12.5) / 1.0) * (strike(0.0)[s] - READY[s]) for s in READY}  # noqa: E731
    loop.run(1.0, slowly)
    for _ in range(200):
        loop.run(TICK_S, strike)
        assert loop.retargeter.state is State.TRACKING
    assert loop.retargeter.trainer.input.filter.jumps == 0


EVENTS = st.sampled_from(
    [
        *("engage", "engage", "release", "stop", "reset", "recentre", "relative", "absolute", "wrench"),
        *("squeeze", "drop_left", "drop_right", "drop_both", "drop_head", "freeze", "jump", "still"),
    ]
)


@settings(max_examples=12, deadline=None, derandomize=True)
@given(
    events=st.lists(st.tuples(EVENTS, st.integers(1, 40)), min_size=10, max_size=25),
    seed=st.integers(0, 2**31),
    deadman=st.sampled_from(["off", "off", "squeeze", "hands", "button"]),
)
def test_no_sequence_of_events_breaks_a_limit(kestrel: RobotModel, events, seed: int, deadman: str):
    """Every command is checked by the loop; nothing raises, nothing is forced."""
    rng = np.random.default_rng(seed)
    loop = Loop(kestrel, RetargeterParameters(deadman=DeadmanParameters(mode=deadman))).run(0.5, READY)
    reach = {side: READY[side].copy() for side in READY}
    squeezed = True
    for event, ticks in events:
        dropped: tuple[str, ...] = ()
        try:
            if event == "engage":
                loop.retargeter.engage(loop.now_s)
        except RetargetingError:
            pass
        if event == "release":
            loop.retargeter.release()
        elif event in ("stop", "reset"):
            loop.retargeter.set_emergency_stop(event == "stop")
        elif event == "recentre":
            loop.retargeter.recentre()
        elif event in ("relative", "absolute"):
            loop.retargeter.set_engage_mode(EngageMode(event))
        elif event == "wrench":
            loop.retargeter.observe_wrench("left_wrist", float(rng.choice([10.0, 500.0, np.nan])))
        elif event == "squeeze":
            squeezed = not squeezed
        elif event == "drop_head":
            dropped = ("head", "pelvis")
        elif event.startswith("drop_"):
            side = event.removeprefix("drop_")
            dropped = tuple(f"{s}_wrist" for s in ("left", "right") if side in (s, "both"))
        elif event == "jump":
            reach = {side: rng.uniform([-0.2, -0.5, -0.5], [0.5, 0.5, 0.4]) for side in reach}
        speed = rng.uniform(0.0, 8.0)

        def edit(frame: MotionFrame, dropped=dropped, squeezed=squeezed) -> MotionFrame:
            axes, buttons = list(frame.controls.axes), [0] * len(Button)
            axes[2] = axes[3] = float(squeezed)
            buttons[0] = buttons[1] = int(squeezed)
            poses = {name: pose for name, pose in frame.poses.items() if name not in dropped}
            return MotionFrame(frame.stamp_ns, poses, Controls(tuple(axes), tuple(buttons)))

        swing = lambda t, reach=reach, speed=speed: {  # noqa: E731
            side: reach[side] + 0.1 * np.sin(speed * t) for side in reach
        }
        if event == "freeze":
            loop.run(ticks * TICK_S, None)
        else:
            heading = rng.uniform(-3.0, 3.0) if event == "still" else 0.0
            loop.run(ticks * TICK_S, swing, edit=edit, heading_rad=heading)
    assert loop.retargeter.forced_exceptions == 0


@settings(max_examples=8, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_random_frames_and_ticks_give_finite_commands_inside_the_limits(kestrel: RobotModel, seed: int):
    """Poses from anywhere, points coming and going, ticks and frames at any time."""
    rng = np.random.default_rng(seed)
    loop = Loop(kestrel)
    lengths = dict.fromkeys(("left", "right"), 0.3)
    loop.retargeter = Retargeter(kestrel, size=TrainerSize(lengths, lengths))
    loop.run(0.2, READY)
    for _ in range(250):
        frame = person(READY, int(loop.now_s * 1e9) + int(rng.integers(-20_000_000, 20_000_000)))
        poses = {}
        for name, pose in frame.poses.items():
            turn = rng.normal(size=4)
            wild = np.r_[rng.uniform(-1, 1, 3) * 10.0 ** rng.integers(-2, 2), turn / np.linalg.norm(turn)]
            if rng.random() < 0.9:
                poses[name] = wild if rng.random() < 0.3 else pose
        loop.retargeter.observe_motion(MotionFrame(frame.stamp_ns, poses), loop.now_s)
        loop.retargeter.observe_joints(loop.measured, loop.now_s)
        if rng.random() < 0.2:
            try:
                loop.retargeter.engage(loop.now_s)
            except RetargetingError as error:
                assert "cannot engage" in str(error)
        loop.tick()
        loop.now_s += float(rng.choice([TICK_S, TICK_S, 0.001, 0.02]))
    assert all(np.isfinite(c.positions).all() and np.isfinite(c.velocities).all() for c in loop.commands)
    assert loop.commands and loop.retargeter.forced_exceptions == 0


def test_what_stops_an_arm_is_said_per_side(kestrel: RobotModel):
    # A robot whose left arm is shorter than it is taken for.
    gains = MappingSettings(position_gain={"left": 1.7, "right": 1.0})
    near = {"left": READY["left"] / 1.7, "right": READY["right"]}
    loop = Loop(kestrel, RetargeterParameters(mapping=gains)).run(0.5, near)
    loop.retargeter.engage(loop.now_s)
    loop.run(2.0, near)
    assert loop.commands[-1].stops == {}
    far = {"left": np.array([0.56, 0.0, 0.0]), "right": READY["right"]}
    loop.run(2.0, lambda t: {s: near[s] + min(1.0, (t - 12.5) / 1.0) * (far[s] - near[s]) for s in near})
    stops = loop.commands[-1].stops
    assert set(stops) == {"left"} and "reach" in [stop.kind.value for stop in stops["left"]]


def test_a_joint_at_its_end_is_named_where_the_hand_misses(model: RobotModel):
    stops = ArmStops(model, measure_robot(model))
    layout = robot_tasks(model, SolverParameters())
    goal = model.neutral.copy()
    joint = model.description.chains["left_arm"][3]
    k = model.joint_names.index(joint)
    goal[k] = model.upper[k]
    posture = robot_posture(layout, goal[: model.body_count])
    positions, rotations = layout.site_poses(goal[: model.body_count])
    assert stops.of(goal, positions, rotations, posture.poses) == {}
    aside, turned = posture.poses.copy(), posture.poses.copy()
    aside[:2, 2] += 0.03
    turn = quaternion_from_rotation_vector([0.0, 0.25, 0.0])
    turned[:2, 3:] = quaternion_multiply(turn, turned[:2, 3:])
    for wanted in (aside, turned):
        assert stops.of(goal, positions, rotations, wanted) == {"left": (ArmStop(StopKind.LIMIT, joint),)}


def test_the_age_of_the_shown_motion_is_that_of_the_track(kestrel: RobotModel):
    """On a steady motion the targets are where the trainer was `motion_age_s` ago."""
    loop = engaged(kestrel)
    speed = 0.3
    loop.run(0.3, lambda t: {s: READY[s] + [0.0, speed * (t - 12.5), 0.0] for s in READY})
    command = loop.commands[-1]
    scale = loop.retargeter.mapping.scale["left"]
    wrist = loop.retargeter.mapping.targets(person({s: READY[s] for s in READY}, 1)).wrists["left"]
    now_s = command.stamp_ns * 1e-9
    shown_s = (command.targets["left_wrist"][1] - wrist[1]) / (scale * speed) + 12.5
    assert now_s - shown_s == pytest.approx(command.motion_age_s, abs=0.002)
    assert 0.005 < command.motion_age_s < 0.025
    assert 0 <= command.stamp_ns - command.cause_stamp_ns <= 16_000_000
