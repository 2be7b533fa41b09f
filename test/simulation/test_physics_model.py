from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import mujoco
import numpy as np
import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.physics_model import PhysicsModel, build_physics
from capture_nodes.simulation.scene import SceneDescription, layout_scene
from retargeting.robot_model import RobotModel, load_robot


def build(robot: RobotModel, scene: SceneDescription) -> PhysicsModel:
    return build_physics(robot, layout_scene(robot, scene))


def test_links_stand_where_the_robot_model_says(robot: RobotModel, scene: SceneDescription) -> None:
    physics = build(robot, scene)
    data = mujoco.MjData(physics.mj_model)
    generator = np.random.default_rng(0)
    for _ in range(5):
        fraction = generator.uniform(0.2, 0.8, len(robot.joint_names))
        q = robot.neutral_positions() | dict(
            zip(robot.joint_names, robot.lower + fraction * (robot.upper - robot.lower), strict=True)
        )
        physics.set_joint_positions(data, q)
        mujoco.mj_kinematics(physics.mj_model, data)
        for link, pose in robot.link_poses(q).items():
            body = data.body(link)
            np.testing.assert_allclose(body.xpos, pose[:3], atol=1e-9)
            assert abs(float(body.xquat[[1, 2, 3, 0]] @ pose[3:])) == pytest.approx(1.0, abs=1e-9)


def test_mass_is_that_of_the_urdf(robot: RobotModel, scene: SceneDescription) -> None:
    physics = build(robot, scene)
    for name, link in robot.urdf.links.items():
        if link.inertial is not None and link.inertial.mass_kg > 0.0:
            assert physics.mj_model.body(name).mass[0] == pytest.approx(link.inertial.mass_kg)


def test_efforts_are_limited_as_in_the_urdf(robot: RobotModel, scene: SceneDescription) -> None:
    physics = build(robot, scene)
    for joint in physics.joints:
        assert physics.mj_model.jnt_actfrcrange[physics.mj_model.joint(joint.name).id] == pytest.approx(
            [-joint.effort, joint.effort]
        )
        assert joint.effort == robot.urdf.joints[joint.name].effort


def test_neutral_posture_touches_nothing(robot: RobotModel, scene: SceneDescription) -> None:
    physics = build(robot, scene)
    data = mujoco.MjData(physics.mj_model)
    physics.set_joint_positions(data, robot.neutral_positions())
    mujoco.mj_forward(physics.mj_model, data)
    links = set(robot.urdf.links)
    for contact in data.contact:
        names = {physics.mj_model.body(physics.mj_model.geom_bodyid[g]).name for g in contact.geom}
        assert not names & links, f"{names} touch in the neutral posture"


@pytest.mark.parametrize("self_contact", [False, True])
def test_a_robot_touches_itself_only_where_it_is_told_to(
    kestrel: RobotModel, scene: SceneDescription, self_contact: bool
) -> None:
    simulation = dataclasses.replace(kestrel.description.simulation, self_contact=self_contact)
    description = dataclasses.replace(kestrel.description, simulation=simulation)
    physics = build(dataclasses.replace(kestrel, description=description), scene)
    data = mujoco.MjData(physics.mj_model)
    # The left forearm through the pelvis, the left fingers into each other.
    inside = {"left_shoulder_pitch": -0.3, "left_shoulder_yaw": -1.4, "left_elbow_pitch": -1.1}
    closed = {"left_finger_inner": -0.002}
    physics.set_joint_positions(data, kestrel.neutral_positions() | inside | closed)
    mujoco.mj_forward(physics.mj_model, data)
    pairs = {
        frozenset(physics.mj_model.body(physics.mj_model.geom_bodyid[g]).name for g in contact.geom)
        for contact in data.contact
    }
    own = {pair for pair in pairs if pair <= set(kestrel.urdf.links)}
    fingers = {pair for pair in own if all("finger" in name or "pad" in name for name in pair)}
    others = own - fingers
    assert fingers
    assert bool(others) == self_contact, pairs


def test_object_poses_round_trip(kestrel: RobotModel, scene: SceneDescription) -> None:
    physics = build(kestrel, scene)
    data = mujoco.MjData(physics.mj_model)
    pose = np.array([0.1, -0.2, 0.3, 0.5, -0.5, 0.5, 0.5])
    physics.set_object_pose(data, "cube", pose)
    np.testing.assert_array_equal(physics.object_pose(data, "cube"), pose)


def test_what_the_physics_refuse_names_the_robot(
    tmp_path: Path, kestrel: RobotModel, scene: SceneDescription
) -> None:
    """A link called like MuJoCo's own body: the URDF is fine, its simulation is not possible."""
    folder = tmp_path / "kestrel"
    shutil.copytree(kestrel.description.file.parent, folder)
    for name in ("kestrel.urdf", "robot.yaml"):
        text = (folder / name).read_text()
        (folder / name).write_text(text.replace('"pelvis"', '"world"').replace(" pelvis", " world"))
    robot = load_robot(folder / "robot.yaml")
    with pytest.raises(CaptureError, match=r"robot\.yaml: .*kestrel\.urdf cannot be simulated: .*world"):
        build(robot, scene)


def test_unbalanced_inertias_are_simulated(kestrel: RobotModel, scene: SceneDescription) -> None:
    """A principal moment above the sum of the others, as some files of real robots have it."""
    link = kestrel.urdf.links["left_hand"]
    assert link.inertial is not None
    inertial = dataclasses.replace(link.inertial, inertia_kg_m2=np.full((3, 3), 1e-3))
    links = kestrel.urdf.links | {"left_hand": dataclasses.replace(link, inertial=inertial)}
    robot = dataclasses.replace(kestrel, urdf=dataclasses.replace(kestrel.urdf, links=links))
    assert (build(robot, scene).mj_model.body("left_hand").inertia > 0.0).all()


def test_a_joint_that_cannot_move_is_simulated(kestrel: RobotModel, scene: SceneDescription) -> None:
    """Files that state no range mean 0 .. 0."""
    joint = dataclasses.replace(kestrel.urdf.joints["head_yaw"], lower=0.0, upper=0.0)
    urdf = dataclasses.replace(kestrel.urdf, joints=kestrel.urdf.joints | {"head_yaw": joint})
    model = build(dataclasses.replace(kestrel, urdf=urdf), scene).mj_model
    assert model.joint("head_yaw").limited[0]
    np.testing.assert_allclose(model.joint("head_yaw").range, 0.0, atol=1e-5)


def test_kestrel_inertias_are_physical(kestrel: RobotModel) -> None:
    for name, link in kestrel.urdf.links.items():
        assert link.inertial is not None and link.inertial.mass_kg > 0.0, name
        moments = np.sort(np.linalg.eigvalsh(link.inertial.inertia_kg_m2))
        assert moments[0] > 0.0 and moments[0] + moments[1] >= moments[2] * (1 - 1e-6), name


def test_kestrel_is_symmetric(kestrel: RobotModel) -> None:
    for name, joint in kestrel.urdf.joints.items():
        if not name.startswith("left_"):
            continue
        other = kestrel.urdf.joints[name.replace("left_", "right_")]
        np.testing.assert_allclose(joint.pose[:3] * [1, -1, 1], other.pose[:3])
        assert (joint.velocity, joint.effort) == (other.velocity, other.effort)
        if "shoulder_roll" in name:
            assert (joint.lower, joint.upper) == (-other.upper, -other.lower)
