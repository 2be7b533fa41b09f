from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.scene import SceneDescription
from capture_nodes.simulation.simulated_robot import TICK_RATE_HZ, SimulatedRobot
from capture_nodes.simulation.tactile import taxel_area_m2
from retargeting.frames import quaternion_inverse, rotate
from retargeting.robot_model import RobotModel

GRAVITY = 9.81


def subtree_mass_kg(robot: RobotModel, link: str) -> float:
    inertial = robot.urdf.links[link].inertial
    own = 0.0 if inertial is None else inertial.mass_kg
    return own + sum(subtree_mass_kg(robot, j.child) for j in robot.urdf.joints.values() if j.parent == link)


def commanded(subject: SimulatedRobot, values: np.ndarray) -> np.ndarray:
    return values[[subject.joint_names.index(name) for name in subject.robot.joint_names]]


def test_rests_in_the_neutral_posture(robot: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(robot, scene)
    for k in range(100):
        sample = subject.tick(k / TICK_RATE_HZ)
    assert subject.state == "ready"
    assert sample.time_s == pytest.approx(0.5)
    neutral = [robot.neutral_position(name) for name in subject.joint_names]
    np.testing.assert_allclose(sample.positions, neutral, atol=1e-3)
    assert np.abs(sample.velocities).max() < 1e-3
    for name, pose in sample.object_poses.items():
        np.testing.assert_allclose(pose, subject.start_poses[name], atol=1e-4)


def test_wrench_at_rest_is_the_weight_of_the_hand(robot: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(robot, scene)
    for k in range(100):
        sample = subject.tick(k / TICK_RATE_HZ)
    links = robot.link_poses(robot.neutral_positions())
    for name, sensor in robot.description.wrenches.items():
        weight = subtree_mass_kg(robot, sensor.link) * GRAVITY
        expected = rotate(quaternion_inverse(links[sensor.link][3:]), [0.0, 0.0, -weight])
        np.testing.assert_allclose(sample.wrenches[name][:3], expected, atol=0.02 * weight)


def test_efforts_at_rest_carry_the_arm(kestrel: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(kestrel, scene)
    for k in range(100):
        sample = subject.tick(k / TICK_RATE_HZ)
    effort = dict(zip(subject.joint_names, sample.efforts, strict=True))
    # The bent forearms pull down in front: a few N m, within the drive's limit.
    assert -20.0 < effort["left_elbow_pitch"] < -1.0
    assert effort["left_elbow_pitch"] == pytest.approx(effort["right_elbow_pitch"], rel=1e-3)


def test_follows_commands_closely(robot: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(robot, scene)
    body = np.arange(len(robot.joint_names)) < robot.body_count
    # Back and up, where nothing is in the way.
    signs = np.array(
        [0.15 if "shoulder_pitch" in name else -0.3 * ("elbow" in name) for name in robot.joint_names]
    )
    errors = []
    for k in range(300):
        t = k / TICK_RATE_HZ
        wave, rate = 0.5 - 0.5 * np.cos(4.0 * t), 2.0 * np.sin(4.0 * t)
        q = robot.neutral + signs * wave * body
        assert subject.offer_command(robot.joint_names, q, signs * rate * body, t) == ""
        errors.append(commanded(subject, subject.tick(t).positions) - subject.follower.position)
    assert np.abs(errors).max() < 0.01


def test_stops_by_itself_and_on_the_emergency_stop(kestrel: RobotModel, scene: SceneDescription) -> None:
    for emergency in (False, True):
        subject = SimulatedRobot(kestrel, scene, command_timeout_s=0.05)
        elbow = kestrel.joint_names.index("left_elbow_pitch")
        q, k = kestrel.neutral.copy(), 0
        for k in range(60):
            moving = np.zeros(len(q))
            moving[elbow] = min(1.5, 0.1 * k)
            q = q + moving / TICK_RATE_HZ
            assert subject.offer_command(kestrel.joint_names, q, moving, k / TICK_RATE_HZ) == ""
            subject.tick(k / TICK_RATE_HZ)
        if emergency:
            subject.set_emergency_stop(True)
        for step in range(k + 1, k + 61):
            sample = subject.tick(step / TICK_RATE_HZ)
        assert subject.state == ("emergency_stop" if emergency else "holding")
        assert np.abs(commanded(subject, sample.velocities)).max() < 0.01
        refusal = subject.offer_command(kestrel.joint_names, q, None, (k + 61) / TICK_RATE_HZ)
        assert ("emergency stop" in refusal) is emergency


def test_is_reproducible(kestrel: RobotModel, scene: SceneDescription) -> None:
    def run(seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        subject = SimulatedRobot(kestrel, scene, seed=seed)
        subject.reset_scene()
        for k in range(40):
            sample = subject.tick(k / TICK_RATE_HZ)
        return sample.positions, sample.object_poses

    first, again, other = run(1), run(1), run(2)
    assert np.array_equal(first[0], again[0]) and np.array_equal(first[1]["cube"], again[1]["cube"])
    assert not np.allclose(first[1]["cube"][:2], other[1]["cube"][:2])


def test_reset_puts_the_objects_back(kestrel: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(kestrel, scene)
    subject.physics.set_object_pose(subject.data, "cube", np.array([1.0, 0.0, 0.5, 0, 0, 0, 1.0]))
    subject.tick(0.0)
    subject.reset_scene()
    sample = subject.tick(0.005)
    np.testing.assert_allclose(sample.object_poses["cube"], subject.start_poses["cube"], atol=1e-3)
    assert subject.reset_scene(timeout_s=0.01) is False


def test_free_fall_keeps_energy_in_order(kestrel: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(kestrel, scene)
    start = subject.start_poses["cube"].copy()
    start[2] += 0.05
    subject.physics.set_object_pose(subject.data, "cube", start)
    heights = [subject.tick(k / TICK_RATE_HZ).object_poses["cube"][2] for k in range(100)]
    fall = np.array(heights[:15])
    times = (np.arange(15) + 1) / TICK_RATE_HZ
    np.testing.assert_allclose(fall, start[2] - 0.5 * GRAVITY * times**2, atol=5e-4)
    # It never comes up to where it fell from, and rests on the table.
    assert max(heights[25:]) < start[2] - 0.03
    assert heights[-1] == pytest.approx(subject.start_poses["cube"][2], abs=5e-4)


def test_closed_gripper_presses_both_pads_alike(kestrel: RobotModel, scene: SceneDescription) -> None:
    subject = SimulatedRobot(kestrel, scene)
    for k in range(160):
        q = dict(zip(kestrel.joint_names, kestrel.neutral, strict=True))
        q["right_finger_inner"] = max(0.0, 0.05 - 0.05 * k / 80)
        assert subject.offer_command(list(q), list(q.values()), None, k / TICK_RATE_HZ) == ""
        subject.tick(k / TICK_RATE_HZ)
    images = subject.tactile()
    totals = {
        name: float(image.sum()) * taxel_area_m2(kestrel.description.tactile[name])
        for name, image in images.items()
    }
    assert totals["left_inner"] == totals["left_outer"] == 0.0
    assert totals["right_inner"] == pytest.approx(totals["right_outer"], rel=0.02)
    contacts = subject.pads.contacts(subject.data)
    for name, total in totals.items():
        assert total == pytest.approx(contacts[name][1].sum(), rel=1e-5, abs=1e-9)


def test_a_timeout_without_meaning_is_refused(kestrel: RobotModel, scene: SceneDescription) -> None:
    with pytest.raises(CaptureError, match="command_timeout_s: -1"):
        SimulatedRobot(kestrel, scene, command_timeout_s=-1.0)
