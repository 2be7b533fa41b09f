"""A reduced robot in pinocchio: sites, their errors and Jacobians, independent of our kinematics."""

from __future__ import annotations

import numpy as np
import pinocchio as pin
from numpy.typing import NDArray

from benchmarks.retargeting.reduced_robot import ReducedRobot, site_link
from retargeting.body_points import SIDES
from retargeting.solver import POSE_SITES, SolverParameters, SolverTargets

Array = NDArray[np.float64]


class PinRobot:
    """Coordinates in the order of `ReducedRobot.names`; targets as the solver gets them."""

    def __init__(self, robot: ReducedRobot) -> None:
        self.robot = robot
        self.model = pin.buildModelFromXML(robot.urdf_text())
        self.data = self.model.createData()
        # pin orders joints by its own rule.
        self.order = np.array(
            [self.model.joints[self.model.getJointId(name)].idx_v for name in robot.names], dtype=np.int64
        )
        self.frames = {site: self.model.getFrameId(site_link(site)) for site in robot.sites}
        self.pose_sites = [(k, site) for k, site in enumerate(POSE_SITES) if site in robot.sites]
        self.elbow_sides = [
            (k, side)
            for k, side in enumerate(SIDES)
            if f"{side}_shoulder" in robot.sites and f"{side}_elbow" in robot.sites
        ]

    def to_pin(self, q: Array) -> Array:
        """Our order to pin's."""
        ordered = np.empty(len(q))
        ordered[self.order] = q
        return ordered

    def place(self, q: Array) -> None:
        """Work out all sites for q ``(m,)`` in our order."""
        pin.forwardKinematics(self.model, self.data, self.to_pin(q))
        pin.updateFramePlacements(self.model, self.data)

    def site(self, name: str) -> pin.SE3:
        return self.data.oMf[self.frames[name]]

    def jacobian(self, name: str) -> Array:
        """``(6, m)`` linear then angular in root axes, in our order; after `place_with_jacobians`."""
        own: Array = pin.getFrameJacobian(self.model, self.data, self.frames[name], pin.LOCAL_WORLD_ALIGNED)
        return own[:, self.order]

    def place_with_jacobians(self, q: Array) -> None:
        pin.computeJointJacobians(self.model, self.data, self.to_pin(q))
        pin.updateFramePlacements(self.model, self.data)

    def elbow_direction(self, side: str) -> Array:
        """Unit vector ``(3,)`` from shoulder to elbow."""
        line = self.site(f"{side}_elbow").translation - self.site(f"{side}_shoulder").translation
        direction: Array = line / max(float(np.linalg.norm(line)), 1e-9)
        return direction


class Residual:
    """All tasks of our solver as one residual vector with its Jacobian, through pinocchio.

    Only the wrists' pose with `pose_only`. `smoothness`: weight of the distance (rad) from `previous`.
    """

    def __init__(self, pin_robot: PinRobot, parameters: SolverParameters, *, pose_only: bool = False) -> None:
        self._pin = pin_robot
        self._weights = task_weights(pin_robot.robot, parameters)
        self._pose_only = pose_only
        self._smoothness = float(np.sqrt(parameters.damping))
        self._posture = posture_weights(pin_robot.robot, parameters)
        self._elbow = parameters.elbow_weight_m

    def evaluate(self, q: Array, targets: SolverTargets, previous: Array) -> tuple[Array, Array]:
        """Residual ``(k,)`` and Jacobian ``(k, m)`` at q ``(m,)``."""
        robot, m = self._pin, len(q)
        robot.place_with_jacobians(q)
        rows, jacobians = [], []
        for k, site in robot.pose_sites:
            position_weight, orientation_weight = self._weights[site]
            if self._pose_only and site == "head":
                continue
            place = robot.site(site)
            jacobian = robot.jacobian(site)
            if position_weight:
                rows.append(position_weight * (place.translation - targets.positions[k]))
                jacobians.append(position_weight * jacobian[:3])
            if orientation_weight:
                error = pin.log3(place.rotation @ targets.rotations[k].T)
                rows.append(orientation_weight * error)
                # The derivative of log3 from the left, in root axes.
                jacobians.append(orientation_weight * pin.Jlog3(pin.exp3(-error)) @ jacobian[3:])
        if not self._pose_only:
            for k, side in robot.elbow_sides:
                direction = targets.elbow_directions[k]
                if not direction.any():
                    continue
                shoulder, elbow = f"{side}_shoulder", f"{side}_elbow"
                line = robot.site(elbow).translation - robot.site(shoulder).translation
                length = float(np.linalg.norm(line))
                unit = line / length
                across = (np.eye(3) - np.outer(unit, unit)) / length
                rows.append(self._elbow * (unit - direction))
                jacobians.append(
                    self._elbow * across @ (robot.jacobian(elbow)[:3] - robot.jacobian(shoulder)[:3])
                )
            rows.append(self._posture * (q - robot.robot.neutral))
            jacobians.append(np.diag(self._posture))
        rows.append(self._smoothness * (q - previous))
        jacobians.append(self._smoothness * np.eye(m))
        return np.concatenate(rows), np.vstack(jacobians)


def task_weights(robot: ReducedRobot, parameters: SolverParameters) -> dict[str, tuple[float, float]]:
    """(position, orientation) weight per pose site, as `retargeting.robot_tasks.robot_tasks` takes them."""
    has_head = bool(robot.model.description.chains["head"])
    weights = {
        site: (parameters.position_weight, parameters.orientation_weight_m_rad) for site in POSE_SITES[:2]
    }
    weights["head"] = (0.0, parameters.head_orientation_weight_m_rad if has_head else 0.0)
    return weights


def posture_weights(robot: ReducedRobot, parameters: SolverParameters) -> Array:
    """``(m,)`` m/rad."""
    waist = robot.model.description.chains["waist"]
    return np.array(
        [
            parameters.waist_posture_weight_m_rad if name in waist else parameters.posture_weight_m_rad
            for name in robot.names
        ]
    )
