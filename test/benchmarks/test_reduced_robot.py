"""Every solver gets the robot's own kinematics: pinocchio, MuJoCo and CasADi agree with the robot model."""

from __future__ import annotations

from pathlib import Path

import mujoco
import numpy as np
import pytest

pytest.importorskip("pinocchio")

from benchmarks.retargeting.pin_robot import PinRobot, Residual
from benchmarks.retargeting.reduced_robot import ReducedRobot, reduce_robot, site_link
from retargeting.errors import InvalidConfiguration
from retargeting.frames import matrix_from_pose
from retargeting.robot_model import load_robot
from retargeting.solver import SolverParameters, SolverTargets

ROBOTS = Path(__file__).resolve().parents[2] / "robot_descriptions"


@pytest.fixture(scope="module", params=["kestrel", "g1"])
def robot(request: pytest.FixtureRequest) -> ReducedRobot:
    try:
        return reduce_robot(load_robot(ROBOTS / request.param / "robot.yaml"))
    except InvalidConfiguration as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise


def postures(robot: ReducedRobot, count: int) -> np.ndarray:
    return np.random.default_rng(3).uniform(robot.lower, robot.upper, (count, len(robot.names)))


def test_sites_are_where_the_robot_model_has_them(robot: ReducedRobot):
    pin_robot = PinRobot(robot)
    model = mujoco.MjModel.from_xml_string(robot.urdf_text())
    data = mujoco.MjData(model)
    for q in postures(robot, 20):
        pin_robot.place(q)
        for name, value in zip(robot.names, q, strict=True):
            data.qpos[model.joint(name).qposadr[0]] = value
        mujoco.mj_kinematics(model, data)
        for site in robot.sites:
            wanted = matrix_from_pose(robot.model.site_pose(site, dict(zip(robot.names, q, strict=True))))
            np.testing.assert_allclose(pin_robot.site(site).homogeneous, wanted, atol=1e-8)
            body = data.body(site_link(site))
            np.testing.assert_allclose(body.xpos, wanted[:3, 3], atol=1e-8)
            np.testing.assert_allclose(body.xmat.reshape(3, 3), wanted[:3, :3], atol=1e-8)


def test_the_limits_are_the_models(robot: ReducedRobot):
    m = robot.model.body_count
    np.testing.assert_array_equal(robot.velocity, robot.model.velocity[:m])
    pin_robot = PinRobot(robot)
    np.testing.assert_allclose(pin_robot.model.lowerPositionLimit[pin_robot.order], robot.model.lower[:m])
    np.testing.assert_allclose(pin_robot.model.upperPositionLimit[pin_robot.order], robot.model.upper[:m])


def targets_at(pin_robot: PinRobot, q: np.ndarray) -> SolverTargets:
    pin_robot.place(q)
    positions, rotations = np.zeros((3, 3)), np.tile(np.eye(3), (3, 1, 1))
    for k, site in pin_robot.pose_sites:
        positions[k], rotations[k] = pin_robot.site(site).translation, pin_robot.site(site).rotation
    directions = np.zeros((2, 3))
    for k, side in pin_robot.elbow_sides:
        directions[k] = pin_robot.elbow_direction(side)
    return SolverTargets(positions, rotations, directions)


def test_the_residuals_jacobian_is_its_derivative(robot: ReducedRobot):
    pin_robot = PinRobot(robot)
    wanted, q, previous = postures(robot, 3)
    targets = targets_at(pin_robot, wanted)
    residual = Residual(pin_robot, SolverParameters())
    _, jacobian = residual.evaluate(q, targets, previous)
    step = 1e-6
    for i in range(len(q)):
        ahead, behind = q.copy(), q.copy()
        ahead[i] += step
        behind[i] -= step
        rows = residual.evaluate(ahead, targets, previous)[0]
        rows = rows - residual.evaluate(behind, targets, previous)[0]
        np.testing.assert_allclose(jacobian[:, i], rows / (2 * step), atol=1e-6)


def test_at_the_target_only_posture_and_smoothness_are_left(robot: ReducedRobot):
    pin_robot = PinRobot(robot)
    q = postures(robot, 1)[0]
    rows, _ = Residual(pin_robot, SolverParameters(), pose_only=True).evaluate(q, targets_at(pin_robot, q), q)
    np.testing.assert_allclose(rows, 0.0, atol=1e-9)
