"""A tick of the solver against one that is written with pinocchio's kinematics and daqp: the same commands.

Without self-collision. What the two share is the robot's description and `SolverParameters`; whatever the
documentation says of a tick (docs/retargeting.md, `retargeting.solver`) is computed here from scratch.
"""

from __future__ import annotations

import daqp
import numpy as np
import pinocchio
import pytest

from retargeting.body_points import SIDES
from retargeting.command_step import METRIC_DAMPING
from retargeting.frames import (
    pose_compose,
    pose_from_matrix,
    quaternion_from_rotation_vector,
    rotation_matrix_from_quaternion,
)
from retargeting.goal_search import ARRIVED_RAD, MOST_DAMPING
from retargeting.robot_model import RobotModel
from retargeting.solver import POSE_SITES, Solver, SolverParameters, SolverTargets

SAID = SolverParameters()


def box_minimum(hessian, gradient, low, high):
    """The minimum of ``x'Hx/2 + g'x`` in the box; what may not move at all is left out."""
    x, free = low.copy(), high > low
    if free.any():
        found, _, flag, _ = daqp.solve(
            hessian[np.ix_(free, free)],
            gradient[free] + hessian[np.ix_(free, ~free)] @ x[~free],
            np.zeros((0, int(free.sum()))),
            high[free],
            low[free],
            np.zeros(int(free.sum()), dtype=np.int32),
            primal_tol=1e-13,
            dual_tol=1e-13,
            eps_prox=0.0,
        )
        assert flag == 1
        x[free] = np.clip(found, low[free], high[free])
    return x


class Oracle:
    """The same promises by other means. q, v, goal, goal_velocity ``(n,)`` as `Solver` has them."""

    def __init__(self, model: RobotModel) -> None:
        self.model, self.m = model, model.body_count
        self.robot = pinocchio.buildModelFromXML(model.urdf.text)
        self.data = self.robot.createData()
        self.joints = [self.robot.joints[self.robot.getJointId(name)] for name in model.joint_names[: self.m]]
        self.columns = [joint.idx_v for joint in self.joints]
        waist = model.description.chains["waist"]
        self.posture_weights = np.array(
            [
                SAID.waist_posture_weight_m_rad if name in waist else SAID.posture_weight_m_rad
                for name in model.joint_names[: self.m]
            ]
        )
        self.q = model.neutral.copy()
        self.goal, self.v, self.goal_velocity = self.q.copy(), 0.0 * self.q, 0.0 * self.q

    def place(self, q):
        """Every joint where it is for q ``(m,)``."""
        full = pinocchio.neutral(self.robot)
        values = dict(self.model.locked_positions) | dict(
            zip(self.model.joint_names[: self.m], q, strict=True)
        )
        for name, value in values.items():
            if self.robot.existJointName(name):
                joint = self.robot.joints[self.robot.getJointId(name)]
                turning = (np.cos(value), np.sin(value)) if joint.nq == 2 else (value,)
                full[joint.idx_q : joint.idx_q + joint.nq] = turning
        pinocchio.computeJointJacobians(self.robot, self.data, full)
        pinocchio.updateFramePlacements(self.robot, self.data)

    def site(self, name):
        """Position ``(3,)``, rotation ``(3, 3)`` and the Jacobian ``(6, m)`` of a site, in root axes."""
        site = self.model.description.sites[name]
        frame = self.robot.getFrameId(site.link, pinocchio.FrameType.BODY)
        link = pose_from_matrix(self.data.oMf[frame].homogeneous)
        pose = pose_compose(link, site.pose)
        jacobian = pinocchio.getFrameJacobian(
            self.robot, self.data, frame, pinocchio.ReferenceFrame.LOCAL_WORLD_ALIGNED
        )[:, self.columns]
        linear = jacobian[:3] - pinocchio.skew(pose[:3] - link[:3]) @ jacobian[3:]
        return pose[:3], rotation_matrix_from_quaternion(pose[3:]), np.vstack([linear, jacobian[3:]])

    def residuals(self, q, targets):
        """All weighted residuals ``(r,)`` at q ``(m,)`` and their Jacobian ``(r, m)``."""
        self.place(q)
        sites = self.model.description.sites
        rows = [self.posture_weights * (q - self.model.neutral[: self.m])]
        jacobians = [np.diag(self.posture_weights)]
        for k, name in enumerate(POSE_SITES):
            if name not in sites or (name == "head" and not self.model.description.chains["head"]):
                continue
            position, rotation, jacobian = self.site(name)
            weight = SAID.head_orientation_weight_m_rad
            if name != "head":
                weight = SAID.orientation_weight_m_rad
                rows.append(SAID.position_weight * (position - targets.positions[k]))
                jacobians.append(SAID.position_weight * jacobian[:3])
            rows.append(-weight * pinocchio.log3(targets.rotations[k] @ rotation.T))
            jacobians.append(weight * jacobian[3:])
        for d, side in enumerate(SIDES):
            known = targets.elbow_directions[d]
            if not known.any() or not {f"{side}_shoulder", f"{side}_elbow"} <= set(sites):
                continue
            (start, _, at_start), (end, _, at_end) = self.site(f"{side}_shoulder"), self.site(f"{side}_elbow")
            length = np.linalg.norm(end - start)
            unit = (end - start) / length
            rows.append(SAID.elbow_weight_m * (unit - known))
            jacobians.append(
                SAID.elbow_weight_m * (np.eye(3) - np.outer(unit, unit)) @ (at_end - at_start)[:3] / length
            )
        return np.concatenate(rows), np.vstack(jacobians)

    def search(self, targets, dt):
        m, limits = self.m, self.model.limits
        goal = self.goal[:m]
        lowest = np.maximum(limits.lower[:m], goal - limits.velocity[:m] * dt)
        highest = np.minimum(limits.upper[:m], goal + limits.velocity[:m] * dt)
        for _ in range(SAID.goal_steps):
            rows, jacobian = self.residuals(goal, targets)
            damping = SAID.damping + min(SAID.residual_damping * 0.5 * rows @ rows, MOST_DAMPING)
            step = box_minimum(
                jacobian.T @ jacobian + damping * np.eye(m),
                jacobian.T @ rows,
                np.minimum(0.0, lowest - goal),
                np.maximum(0.0, highest - goal),
            )
            goal = np.clip(goal + step, limits.lower[:m], limits.upper[:m])
            if np.abs(step).max() < ARRIVED_RAD:
                break
        return goal

    def follow(self, targets, grippers, dt):
        """The next command ``(n,)``."""
        m, limits = self.m, self.model.limits
        before = self.goal.copy()
        self.goal = np.concatenate(
            [self.search(targets, dt), np.clip(grippers, limits.lower[m:], limits.upper[m:])]
        )
        raw = np.clip((self.goal - before) / dt, -limits.velocity, limits.velocity)
        self.goal_velocity += min(1.0, dt / SAID.goal_average_s) * (raw - self.goal_velocity)
        distance = self.goal - self.goal_velocity * dt - self.q
        closing = np.minimum(
            np.abs(distance) / SAID.settling_time_s,
            stopping_speed(np.abs(distance), SAID.braking_share * limits.acceleration, dt),
        )
        wanted = self.goal_velocity + np.sign(distance) * closing
        ceiling = np.minimum(limits.velocity, stopping_speed(limits.upper - self.q, limits.acceleration, dt))
        floor = -np.minimum(limits.velocity, stopping_speed(self.q - limits.lower, limits.acceleration, dt))
        low = np.maximum(floor, self.v - limits.acceleration * dt)
        high = np.maximum(low, np.minimum(ceiling, self.v + limits.acceleration * dt))
        velocity = np.clip(wanted, low, high)
        if (velocity != wanted)[:m].any():
            _, jacobian = self.residuals(self.q[:m], targets)
            metric = METRIC_DAMPING * np.eye(len(self.q))
            metric[:m, :m] += jacobian.T @ jacobian
            velocity = box_minimum(metric, -metric @ wanted, low, high)
        position = np.clip(self.q + velocity * dt, limits.lower, limits.upper)
        self.q, self.v = position, (position - self.q) / dt
        return self.q


def stopping_speed(distance, acceleration, dt):
    """The root of ``v dt + v²/(2 a) = distance``, 0 where there is none."""
    return np.maximum(
        0.0, acceleration * (np.sqrt(dt**2 + 2.0 * np.maximum(0.0, distance) / acceleration) - dt)
    )


@pytest.mark.parametrize("seed", range(3))
def test_pinocchio_and_daqp_give_the_same_commands(model: RobotModel, seed: int) -> None:
    rng = np.random.default_rng(seed)
    solver, oracle = Solver(model, SAID), Oracle(model)
    positions, rotations = solver.layout.site_poses(model.neutral[: model.body_count].copy())
    grippers = model.neutral[model.body_count :].copy()
    slowed = 0
    for k in range(500):
        if k in (0, 80):
            # A jump, in reach or not: limits shape what follows; at the end all is still.
            asked = positions + rng.normal(size=positions.shape) * (0.4 if k == 0 else 0.1)
            turns = rotations @ rotation_matrix_from_quaternion(
                quaternion_from_rotation_vector(rng.normal(size=3) * 0.4)
            )
            elbows = rng.normal(size=(2, 3))
            elbows /= np.linalg.norm(elbows, axis=1)[:, None]
            elbows *= rng.random() < 0.7
            grippers = rng.uniform(model.lower, model.upper)[model.body_count :]
        if k < 160:
            asked = asked + rng.normal(size=3) * 1e-4
        dt = 0.005 * rng.choice([1.0, 1.0, 1.0, 0.4])
        targets = SolverTargets(asked.copy(), turns, elbows)
        command = solver.follow(targets, grippers, dt)
        np.testing.assert_allclose(command.positions, oracle.follow(targets, grippers, dt), atol=1e-9)
        slowed += bool(command.clipped)
    assert 20 < slowed < 480, "both kinds of ticks must be among them"
