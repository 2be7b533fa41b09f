"""Peers that solve a chain of quadratic problems: pink (on pinocchio) and mink (on MuJoCo).

Each takes `steps` steps per tick, with our tasks, weights and damping. `own` limits are the peer's
classes as its documentation uses them, for a tick split into equal steps; `box` is our box on the
whole tick, put in as a limit class of the peer.
"""

from __future__ import annotations

from typing import Any, Literal

import mink
import mujoco
import numpy as np
import pink
import pink.limits
import pink.tasks
import pinocchio as pin
from numpy.typing import NDArray

from benchmarks.retargeting.pin_robot import PinRobot, posture_weights, task_weights, wanted_posture
from benchmarks.retargeting.reduced_robot import ReducedRobot, site_link
from benchmarks.retargeting.solvers import PublishedBox
from retargeting.body_points import SIDES
from retargeting.solver import POSE_SITES, SolverParameters, SolverTargets

Array = NDArray[np.float64]
Limits = Literal["own", "box"]


def _direction_rows(shoulder: Array, elbow: Array, wanted: Array) -> tuple[Array, Array]:
    """Error ``(3,)`` of the unit vector from shoulder to elbow, its derivative ``(3, 3)`` by that line."""
    line = elbow - shoulder
    length = max(float(np.linalg.norm(line)), 1e-9)
    unit = line / length
    return unit - wanted, (np.eye(3) - np.outer(unit, unit)) / length


class _PinkElbow(pink.tasks.Task):  # type: ignore[misc]
    def __init__(self, side: str, cost: float) -> None:
        super().__init__(cost=cost)
        self.shoulder, self.elbow = site_link(f"{side}_shoulder"), site_link(f"{side}_elbow")
        self.direction = np.zeros(3)

    def _rows(self, configuration: pink.Configuration) -> tuple[Array, Array]:
        return _direction_rows(
            configuration.get_transform_frame_to_world(self.shoulder).translation,
            configuration.get_transform_frame_to_world(self.elbow).translation,
            self.direction,
        )

    def compute_error(self, configuration: pink.Configuration) -> Array:
        return self._rows(configuration)[0]

    def compute_jacobian(self, configuration: pink.Configuration) -> Array:
        model, data = configuration.model, configuration.data
        linear = [
            pin.getFrameJacobian(model, data, model.getFrameId(name), pin.LOCAL_WORLD_ALIGNED)[:3]
            for name in (self.shoulder, self.elbow)
        ]
        jacobian: Array = self._rows(configuration)[1] @ (linear[1] - linear[0])
        return jacobian

    def __repr__(self) -> str:
        return f"_PinkElbow({self.elbow})"


class _PinkBox(pink.limits.Limit):  # type: ignore[misc]
    def __init__(self, m: int) -> None:
        self._rows = np.vstack([np.eye(m), -np.eye(m)])
        self.low, self.high = np.zeros(m), np.zeros(m)

    def compute_qp_inequalities(self, configuration: pink.Configuration, dt: float) -> tuple[Array, Array]:
        return self._rows, np.concatenate([self.high - configuration.q, configuration.q - self.low])


def _asked_tasks(posture: Any, frames: dict[int, Any], elbows: dict[int, Any], prepared: Any) -> list[Any]:
    """The tasks of this tick with their targets: (frames by site, elbow directions, posture)."""
    targets, directions, wanted = prepared
    posture.set_target(wanted)
    tasks = [posture, *frames.values()]
    for k, target in targets.items():
        frames[k].transform_target_to_world = target
    for k, elbow in elbows.items():
        if directions[k].any():
            elbow.direction = directions[k]
            tasks.append(elbow)
    return tasks


class Pink:
    """pin-pink with one of qpsolvers' backends."""

    def __init__(
        self, robot: ReducedRobot, parameters: SolverParameters, steps: int, backend: str, limits: Limits
    ) -> None:
        self.name = f"pink {backend} {limits}"
        self.failures = 0
        self._robot = robot
        self._backend, self._steps, self._damping = backend, steps, parameters.damping
        self._pin = PinRobot(robot)
        model, order = self._pin.model, self._pin.order
        model.velocityLimit[order] = robot.velocity
        acceleration = np.empty(len(order))
        acceleration[order] = robot.acceleration
        self._box = PublishedBox(robot)
        self._box_limit = _PinkBox(len(order))
        self._acceleration = pink.limits.AccelerationLimit(model, acceleration)
        self._limits = (
            [self._box_limit]
            if limits == "box"
            else [pink.limits.ConfigurationLimit(model), pink.limits.VelocityLimit(model), self._acceleration]
        )
        self._frame_tasks = {}
        for site, (position, orientation) in task_weights(robot, parameters).items():
            if site in robot.sites and (position or orientation):
                self._frame_tasks[POSE_SITES.index(site)] = pink.tasks.FrameTask(
                    site_link(site), position, orientation
                )
        self._elbows = {k: _PinkElbow(side, parameters.elbow_weight_m) for k, side in self._pin.elbow_sides}
        costs = np.empty(len(order))
        costs[order] = posture_weights(robot, parameters)
        self._posture = pink.tasks.PostureTask(costs)
        self._posture.set_target(self._pin.to_pin(robot.neutral))
        self._configuration = pink.Configuration(model, self._pin.data, self._pin.to_pin(robot.neutral))

    def start(self, q: Array) -> None:
        self._box.start(q)
        self._configuration.update(self._pin.to_pin(q))
        self._acceleration.set_last_integration(np.zeros(len(q)), 1.0)

    def prepare(self, targets: SolverTargets) -> Any:
        frames = {k: pin.SE3(targets.rotations[k], targets.positions[k]) for k in self._frame_tasks}
        return frames, targets.elbow_directions, self._pin.to_pin(wanted_posture(self._robot, targets))

    def solve(self, prepared: Any, dt: float) -> Array:
        tasks = _asked_tasks(self._posture, self._frame_tasks, self._elbows, prepared)
        order, step_s = self._pin.order, dt / self._steps
        low, high = self._box.bounds(dt)
        self._box_limit.low[order], self._box_limit.high[order] = low, high
        for _ in range(self._steps):
            try:
                velocity = pink.solve_ik(
                    self._configuration, tasks, step_s, self._backend, self._damping, self._limits,
                    safety_break=False,
                )  # fmt: skip
            except pink.exceptions.NoSolutionFound:
                self.failures += 1
                self._acceleration.set_last_integration(np.zeros(len(order)), step_s)
                break
            self._configuration.integrate_inplace(velocity, step_s)
            self._acceleration.set_last_integration(velocity, step_s)
        q: Array = self._configuration.q[order]
        return self._box.publish(q, dt)


class _MinkElbow(mink.Task):  # type: ignore[misc]
    def __init__(self, model: mujoco.MjModel, side: str, cost: float) -> None:
        super().__init__(cost=np.full(3, cost))
        self._ids = [model.body(site_link(f"{side}_{part}")).id for part in ("shoulder", "elbow")]
        self.direction = np.zeros(3)

    def _rows(self, configuration: mink.Configuration) -> tuple[Array, Array]:
        places = configuration.data.xpos
        return _direction_rows(places[self._ids[0]], places[self._ids[1]], self.direction)

    def compute_error(self, configuration: mink.Configuration) -> Array:
        return self._rows(configuration)[0]

    def compute_jacobian(self, configuration: mink.Configuration) -> Array:
        model, data = configuration.model, configuration.data
        linear = []
        for body in self._ids:
            rows = np.empty((3, model.nv))
            mujoco.mj_jacBody(model, data, rows, None, body)
            linear.append(rows)
        jacobian: Array = self._rows(configuration)[1] @ (linear[1] - linear[0])
        return jacobian


class _MinkBox(mink.Limit):  # type: ignore[misc]
    def __init__(self, m: int) -> None:
        self._rows = np.vstack([np.eye(m), -np.eye(m)])
        self.low, self.high = np.zeros(m), np.zeros(m)

    def compute_qp_inequalities(self, configuration: mink.Configuration, dt: float) -> mink.Constraint:
        q = configuration.data.qpos
        return mink.Constraint(G=self._rows, h=np.concatenate([self.high - q, q - self.low]))


class Mink:
    """mink on an MJCF that MuJoCo makes of the same URDF. It has no acceleration limit of its own."""

    def __init__(
        self, robot: ReducedRobot, parameters: SolverParameters, steps: int, backend: str, limits: Limits
    ) -> None:
        self.name = f"mink {backend} {limits}"
        self.failures = 0
        self._robot = robot
        self._backend, self._steps, self._damping = backend, steps, parameters.damping
        self._model = mujoco.MjModel.from_xml_string(robot.urdf_text())
        self._order = np.array([self._model.joint(name).qposadr[0] for name in robot.names])
        self._box = PublishedBox(robot)
        self._box_limit = _MinkBox(len(self._order))
        velocities = dict(zip(robot.names, robot.velocity.tolist(), strict=True))
        self._limits = (
            [self._box_limit]
            if limits == "box"
            else [mink.ConfigurationLimit(self._model), mink.VelocityLimit(self._model, velocities)]
        )
        self._frame_tasks = {}
        for site, (position, orientation) in task_weights(robot, parameters).items():
            if site in robot.sites and (position or orientation):
                self._frame_tasks[POSE_SITES.index(site)] = mink.FrameTask(
                    site_link(site), "body", position, orientation
                )
        self._elbows = {
            k: _MinkElbow(self._model, side, parameters.elbow_weight_m)
            for k, side in enumerate(SIDES)
            if f"{side}_shoulder" in robot.sites and f"{side}_elbow" in robot.sites
        }
        self._posture = mink.PostureTask(self._model, self._reordered(posture_weights(robot, parameters)))
        self._posture.set_target(self._reordered(robot.neutral))
        self._configuration = mink.Configuration(self._model, self._reordered(robot.neutral))

    def _reordered(self, values: Array) -> Array:
        ordered = np.empty(len(values))
        ordered[self._order] = values
        return ordered

    def start(self, q: Array) -> None:
        self._box.start(q)
        self._configuration.update(self._reordered(q))

    def prepare(self, targets: SolverTargets) -> Any:
        frames = {
            k: mink.SE3.from_rotation_and_translation(
                mink.SO3.from_matrix(targets.rotations[k]), targets.positions[k]
            )
            for k in self._frame_tasks
        }
        return frames, targets.elbow_directions, self._reordered(wanted_posture(self._robot, targets))

    def solve(self, prepared: Any, dt: float) -> Array:
        tasks = _asked_tasks(self._posture, self._frame_tasks, self._elbows, prepared)
        step_s = dt / self._steps
        low, high = self._box.bounds(dt)
        self._box_limit.low[self._order], self._box_limit.high[self._order] = low, high
        for _ in range(self._steps):
            try:
                velocity = mink.solve_ik(
                    self._configuration, tasks, step_s, self._backend, self._damping, limits=self._limits
                )
            except mink.NoSolutionFound:
                self.failures += 1
                break
            self._configuration.integrate_inplace(velocity, step_s)
        q: Array = self._configuration.data.qpos[self._order].copy()
        return self._box.publish(q, dt)
