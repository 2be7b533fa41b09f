"""Pick and place in pure simulation: held by contact and friction, nothing welded."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from capture_nodes.simulation.scene import SceneDescription
from capture_nodes.simulation.simulated_robot import TICK_RATE_HZ, SimulatedRobot
from capture_nodes.simulation.tactile import taxel_area_m2
from retargeting.frames import (
    quaternion_from_rpy,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
)
from retargeting.robot_model import RobotModel

GRASP_AHEAD_M = 0.12
HAND_PITCH_RAD = 0.7
LIFT_M = 0.10


def solve(robot: RobotModel, start: dict[str, float], target: np.ndarray) -> dict[str, float]:
    """Right arm joints that bring the wrist site to `target`, elbow out. Damped least squares."""
    arm = robot.description.chains["right_arm"]
    q = dict(start)
    elbow_out = np.array([-0.45 if "shoulder_roll" in name else 0.0 for name in arm])

    def error(positions: dict[str, float]) -> np.ndarray:
        pose = robot.site_pose("right_wrist", positions)
        turn = quaternion_multiply(quaternion_inverse(pose[3:]), target[3:])
        rotation = rotate(pose[3:], rotation_vector_from_quaternion(turn))
        return np.concatenate([target[:3] - pose[:3], 0.3 * rotation])

    for _ in range(80):
        e = error(q)
        jacobian = np.stack([(error({**q, name: q[name] + 1e-5}) - e) / 1e-5 for name in arm], axis=1)
        inverse = jacobian.T @ np.linalg.inv(jacobian @ jacobian.T + 1e-5 * np.eye(6))
        pull = elbow_out - np.array([q[name] if "shoulder_roll" in name else 0.0 for name in arm])
        step = -inverse @ e + (np.eye(len(arm)) - inverse @ jacobian) @ (0.05 * pull)
        for name, change in zip(arm, np.clip(step, -0.2, 0.2), strict=True):
            joint = robot.urdf.joints[name]
            q[name] = float(np.clip(q[name] + change, joint.lower, joint.upper))
    assert np.linalg.norm(error(q)) < 1e-3
    return q


@dataclass
class Record:
    cube: list[np.ndarray]
    force: list[np.ndarray]
    pads: list[tuple[float, float]]


def pick_and_place(
    robot: RobotModel, scene: SceneDescription, seed: int, miss_m: float = 0.0
) -> tuple[SimulatedRobot, Record]:
    """`miss_m`: how far beside the cube (along the fingers' motion) the hand comes down."""
    subject = SimulatedRobot(robot, scene, seed=seed)
    cube, goal = subject.start_poses["cube"][:3] + np.array([0.0, miss_m, 0.0]), subject.goal_pose[:3]
    direction = quaternion_from_rpy([0.0, HAND_PITCH_RAD, 0.0])
    back = rotate(direction, [GRASP_AHEAD_M, 0.0, 0.0])
    up = np.array([0.0, 0.0, LIFT_M])
    opened, closed = 0.05, 0.0
    put_down = goal + np.array([0.0, 0.0, 0.002])
    plan = [
        (cube + up, opened, 1.0),
        (cube, opened, 0.8),
        (cube, closed, 0.4),
        (cube + up, closed, 0.8),
        (cube + up, closed, 1.0),
        (goal + up, closed, 1.0),
        (put_down, closed, 0.8),
        (put_down, opened, 0.4),
        (goal + up, opened, 0.8),
    ]
    q = robot.neutral_positions()
    previous = robot.neutral
    record, tick = Record([], [], []), 0
    for place, finger, duration_s in plan:
        q = solve(robot, q, np.concatenate([place - back, direction]))
        q["right_finger_inner"] = finger
        target = np.array([q[name] for name in robot.joint_names])
        count = round(duration_s * TICK_RATE_HZ)
        for x in (np.arange(count) + 1) / count:
            blend, rate = x**3 * (10 - 15 * x + 6 * x * x), 30 * x * x * (1 - x) ** 2 / duration_s
            now = tick / TICK_RATE_HZ
            positions = previous + (target - previous) * blend
            assert subject.offer_command(robot.joint_names, positions, (target - previous) * rate, now) == ""
            sample = subject.tick(now)
            tick += 1
            if tick % 2 == 0:
                images = subject.tactile()
                area = taxel_area_m2(robot.description.tactile["right_inner"])
                record.pads.append(
                    (float(images["right_inner"].sum()) * area, float(images["right_outer"].sum()) * area)
                )
            record.cube.append(sample.object_poses["cube"])
            record.force.append(sample.wrenches["right_wrist"])
        previous = target
    return subject, record


@pytest.mark.parametrize(("seed", "miss_m"), [(-1, 0.0), (1, 0.0), (-1, 0.015), (2, -0.015)])
def test_picks_and_places_the_cube(
    kestrel: RobotModel, scene: SceneDescription, seed: int, miss_m: float
) -> None:
    subject, record = pick_and_place(kestrel, scene, seed, miss_m)
    heights = np.array([pose[2] for pose in record.cube]) - subject.start_poses["cube"][2]
    held = slice(round(3.1 * TICK_RATE_HZ), round(4.0 * TICK_RATE_HZ))
    assert heights[held].min() > LIFT_M - 0.01
    assert np.ptp(heights[held]) < 0.002
    end = record.cube[-1]
    assert np.linalg.norm(end[:2] - subject.goal_pose[:2]) < 0.01
    assert heights[-1] == pytest.approx(0.0, abs=0.002)


def test_wrench_and_pads_tell_of_the_cube(kestrel: RobotModel, scene: SceneDescription) -> None:
    _, record = pick_and_place(kestrel, scene, -1)
    before, held = round(1.8 * TICK_RATE_HZ) - 2, round(3.95 * TICK_RATE_HZ)
    # Hand (0.5 kg), two fingers and pads (0.07 kg each), and the cube (0.15 kg).
    assert np.linalg.norm(record.force[held][:3]) == pytest.approx((0.64 + 0.15) * 9.81, rel=0.01)
    inner, outer = record.pads[held // 2]
    assert inner == pytest.approx(outer, rel=0.05) and inner > 10.0
    assert record.pads[before // 2] == (0.0, 0.0) and record.pads[-1] == (0.0, 0.0)
