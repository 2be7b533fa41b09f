"""The robot's waist does what the trainer's trunk does, as far as it can, and takes the shoulders along."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from driven_robot import READY, Loop, without
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from retargeting.frames import (
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
)
from retargeting.mapping_settings import MappingSettings
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel
from retargeting.robot_waist import robot_waist

UNTURNED = np.array([0.0, 0.0, 0.0, 1.0])
HIP = np.array([0.0, 0.0, 1.0])


def leaning(turn: np.ndarray):
    """An edit of frames: the trunk with all on it turned about the hip by `turn` ``(4,)``, chest tracked."""

    def edit(frame: MotionFrame) -> MotionFrame:
        poses = dict(frame.poses)
        poses["chest"] = np.r_[0.0, 0.0, 1.25, UNTURNED]
        for name, pose in poses.items():
            if name != "pelvis":
                poses[name] = np.r_[HIP + rotate(turn, pose[:3] - HIP), quaternion_multiply(turn, pose[3:])]
        return MotionFrame(frame.stamp_ns, poses, frame.controls)

    return edit


def waist_of(model: RobotModel, positions: dict[str, float]) -> np.ndarray:
    return np.array([positions[name] for name in model.description.chains["waist"]])


def test_upright_is_the_neutral_posture(model: RobotModel):
    body = measure_robot(model)
    posture, shoulders = body.waist.follow(UNTURNED)
    np.testing.assert_allclose(posture, waist_of(model, model.neutral_positions()), atol=1e-9)
    for side, shoulder in shoulders.items():
        np.testing.assert_allclose(shoulder, body.shoulders[side], atol=1e-9)


@hypothesis_settings(max_examples=100, derandomize=True, database=None)
@given(turn=st.tuples(*[st.floats(-2.5, 2.5)] * 3))
def test_no_turn_of_the_trunk_leads_out_of_the_limits(kestrel: RobotModel, turn):
    waist = measure_robot(kestrel).waist
    posture, shoulders = waist.follow(quaternion_from_rotation_vector(np.array(turn)))
    count = len(posture)
    assert (posture >= kestrel.lower[:count]).all() and (posture <= kestrel.upper[:count]).all()
    positions = kestrel.neutral_positions() | dict(zip(kestrel.joint_names, posture.tolist(), strict=False))
    for side, shoulder in shoulders.items():
        expected = kestrel.site_pose(f"{side}_shoulder", positions)[:3]
        np.testing.assert_allclose(shoulder, expected, atol=1e-9)


def test_a_turn_that_the_waist_can_do_is_done(model: RobotModel):
    """Yaw, then as much pitch as a waist has: the chest ends where the trunk is."""
    waist = measure_robot(model).waist
    _, neutral = waist.follow(UNTURNED)
    wanted = quaternion_from_rotation_vector(np.array([0.0, 0.0, 0.3]))
    _, turned = waist.follow(wanted)
    across = neutral["left"] - neutral["right"]
    # To 1 %: a little of the neutral posture is kept.
    np.testing.assert_allclose(turned["left"] - turned["right"], rotate(wanted, across), atol=4e-3)


def test_the_waist_follows_a_lean_softly_and_the_hands_stay_with_the_shoulders(kestrel: RobotModel):
    turn = quaternion_from_rotation_vector(np.array([0.0, 0.35, 0.0]))
    loop = Loop(kestrel).run(0.5, READY, edit=leaning(turn))
    loop.retargeter.engage(loop.now_s)
    # Every command's limits are checked in the loop.
    loop.run(2.5, READY, edit=leaning(turn))
    command = loop.commands[-1]
    positions = loop.measured
    # The waist's posture weighs little against the wrists: it gives way by a degree.
    assert abs(positions["waist_pitch"] - 0.35) < 0.02
    scale = loop.retargeter.mapping.scale
    for side, reach in READY.items():
        shoulder = kestrel.site_pose(f"{side}_shoulder", positions)[:3]
        offset = command.targets[f"{side}_wrist"][:3] - shoulder
        np.testing.assert_allclose(offset, scale[side] * rotate(turn, reach), atol=8e-3)
    error = quaternion_multiply(
        command.targets["left_wrist"][3:],
        quaternion_inverse(kestrel.site_pose("left_wrist", positions)[3:]),
    )
    assert np.linalg.norm(rotation_vector_from_quaternion(error)) < 0.02


def test_a_trunk_that_is_lost_makes_no_step(kestrel: RobotModel):
    turn = quaternion_from_rotation_vector(np.array([0.0, 0.35, 0.0]))
    lean = leaning(turn)
    loop = Loop(kestrel).run(0.5, READY, edit=lean)
    loop.retargeter.engage(loop.now_s)
    loop.run(2.0, READY, edit=lean)
    before = loop.measured["waist_pitch"]
    loop.run(0.5, READY, edit=lambda frame: without(lean(frame), "chest"))
    loop.run(2.0, READY, edit=lean)
    assert abs(loop.measured["waist_pitch"] - before) < 0.01


def test_without_a_gain_the_waist_stays(kestrel: RobotModel):
    parameters = RetargeterParameters(mapping=MappingSettings(waist_gain=0.0))
    turn = quaternion_from_rotation_vector(np.array([0.0, 0.35, 0.0]))
    loop = Loop(kestrel, parameters).run(0.5, READY, edit=leaning(turn))
    loop.retargeter.engage(loop.now_s)
    loop.run(2.0, READY, edit=leaning(turn))
    assert abs(loop.measured["waist_pitch"]) < 0.1


def test_a_robot_without_a_waist_has_none(model: RobotModel):
    chains = model.description.chains | {"waist": ()}
    lifted = replace(model, description=replace(model.description, chains=chains))
    assert robot_waist(lifted, {}) is None
