"""Forward kinematics and Jacobians against pinocchio and finite differences."""

from __future__ import annotations

import numpy as np
import pinocchio
import pytest

from retargeting.frames import pose_from_matrix, quaternion_inverse, quaternion_multiply
from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets

RANDOM_POSTURES = 25


@pytest.fixture(scope="module")
def oracle(model: RobotModel):
    # Only the kinematics: geometry files are not needed.
    return pinocchio.buildModelFromXML(model.urdf.text)


def test_every_link_is_where_pinocchio_puts_it(model: RobotModel, oracle):
    rng = np.random.default_rng(1)
    data = oracle.createData()
    for _ in range(RANDOM_POSTURES):
        positions = {
            name: float(rng.uniform(max(j.lower, -3.0), min(j.upper, 3.0)))
            for name, j in model.urdf.joints.items()
            if name in model.movable_joint_names
        }
        q = pinocchio.neutral(oracle)
        for name, joint in model.urdf.joints.items():
            if joint.kind == "fixed" or not oracle.existJointName(name):
                continue
            leader, factor, offset = joint, 1.0, 0.0
            while leader.mimic is not None:
                offset += factor * leader.mimic.offset
                factor *= leader.mimic.multiplier
                leader = model.urdf.joints[leader.mimic.joint]
            entry = oracle.joints[oracle.getJointId(name)]
            value = factor * positions[leader.name] + offset
            if entry.nq == 2:
                q[entry.idx_q : entry.idx_q + 2] = np.cos(value), np.sin(value)
            else:
                q[entry.idx_q] = value
        pinocchio.framesForwardKinematics(oracle, data, q)
        poses = model.link_poses(positions)
        for link, pose in poses.items():
            frame = oracle.getFrameId(link, pinocchio.FrameType.BODY)
            expected = pose_from_matrix(data.oMf[frame].homogeneous)
            np.testing.assert_allclose(pose[:3], expected[:3], atol=1e-9, err_msg=link)
            turn = quaternion_multiply(pose[3:], quaternion_inverse(expected[3:]))
            np.testing.assert_allclose(np.abs(turn[3]), 1.0, atol=1e-9, err_msg=link)


def test_the_solvers_tree_agrees_with_the_whole_robot(model: RobotModel):
    solver = Solver(model)
    rng = np.random.default_rng(2)
    m = model.body_count
    for _ in range(RANDOM_POSTURES):
        q = rng.uniform(np.maximum(model.lower, -3.0), np.minimum(model.upper, 3.0))
        positions = dict(zip(model.joint_names, q, strict=True))
        where, _ = solver.layout.site_poses(q[:m].copy())
        for k, site in enumerate(("left_wrist", "right_wrist")):
            np.testing.assert_allclose(where[k], model.site_pose(site, positions)[:3], atol=1e-12)


def check_gradient(solver: Solver):
    """Central differences of the cost, at zero orientation error, where Gauss-Newton is exact."""
    model, m = solver.model, solver.model.body_count
    rng = np.random.default_rng(3)
    for _ in range(10):
        q = rng.uniform(np.maximum(model.lower, -2.0), np.minimum(model.upper, 2.0))[:m]
        where, rotations = solver.layout.site_poses(q)
        directions = rng.normal(size=(2, 3))
        directions /= np.linalg.norm(directions, axis=1)[:, None]
        # At the target's orientation the approximation is exact, so every part is tested.
        targets = SolverTargets(where + rng.normal(size=(3, 3)) * 0.3, rotations, directions)
        solver.cost(q, targets)
        gradient = solver.cost_gradient.copy()
        step = 1e-6
        for i in range(m):
            shifted = [q.copy(), q.copy()]
            shifted[0][i] -= step
            shifted[1][i] += step
            costs = [solver.cost(s, targets) for s in shifted]
            np.testing.assert_allclose(gradient[i], (costs[1] - costs[0]) / (2 * step), atol=1e-7)


def test_the_gradient_is_that_of_the_cost(model: RobotModel):
    check_gradient(Solver(model, SolverParameters(posture_weight_m_rad=0.1, elbow_weight_m=0.5)))


def test_the_gradient_counts_once_what_moves_several_joints(kestrel: RobotModel):
    """An arm in which a joint follows another one, as in a parallelogram."""
    solver = Solver(kestrel, SolverParameters(posture_weight_m_rad=0.1, elbow_weight_m=0.5))
    tree = solver.layout.tree.arrays
    leader, follower = (kestrel.joint_names.index(f"left_{name}") for name in ("shoulder_yaw", "wrist_yaw"))
    row = int(np.flatnonzero(tree.coordinates == follower)[0])
    tree.coordinates[row], tree.multipliers[row], tree.biases[row] = leader, -0.5, 0.2
    check_gradient(solver)


def test_goals_reach_targets_that_are_reachable(model: RobotModel):
    """Targets made by forward kinematics are found again to a fraction of a millimetre."""
    parameters = SolverParameters(
        posture_weight_m_rad=1e-5, waist_posture_weight_m_rad=1e-5, elbow_weight_m=0.0
    )
    solver = Solver(model, parameters)
    m = model.body_count
    rng = np.random.default_rng(4)
    for _ in range(15):
        q = np.clip(model.neutral + rng.normal(size=len(model.neutral)) * 0.3, model.lower, model.upper)
        where, rotations = solver.layout.site_poses(q[:m].copy())
        targets = SolverTargets(where, rotations, np.zeros((2, 3)))
        solver.reset_goal(model.neutral)
        solver.improve_goal(targets, 100)
        reached, _ = solver.layout.site_poses(solver.goal[:m].copy())
        assert np.abs(reached[:2] - where[:2]).max() < 5e-4
