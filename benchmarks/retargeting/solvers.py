"""The solvers compared, behind one Protocol; ours and those that only need bounds. See `peers_qp` too."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from benchmarks.retargeting.reduced_robot import ReducedRobot
from retargeting.joint_limits import JointLimits, velocity_box
from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets

Array = NDArray[np.float64]


class BenchmarkSolver(Protocol):
    """One way from targets to the next command; coordinates ``(m,)`` in the order of `ReducedRobot.names`."""

    name: str
    failures: int

    def start(self, q: Array) -> None:
        """Begin at q, at rest."""

    def prepare(self, targets: SolverTargets) -> Any:
        """Targets in the solver's own types; not part of the measured time."""

    def solve(self, prepared: Any, dt: float) -> Array:
        """The next command, `dt` s after the last."""


class PublishedBox:
    """What our limits allow after the last published command: bounds ``(m,)`` on the next position."""

    def __init__(self, robot: ReducedRobot) -> None:
        self._limits = JointLimits(robot.lower, robot.upper, robot.velocity, robot.acceleration)
        self.q, self.v = robot.neutral.copy(), np.zeros(len(robot.names))
        self._low, self._high = np.empty(len(self.q)), np.empty(len(self.q))

    def start(self, q: Array) -> None:
        self.q, self.v = q.copy(), np.zeros(len(q))

    def bounds(self, dt: float) -> tuple[Array, Array]:
        velocity_box(self.q, self.v, self._limits, dt, self._low, self._high)
        return self.q + self._low * dt, self.q + self._high * dt

    def publish(self, q: Array, dt: float) -> Array:
        self.v = (q - self.q) / dt
        self.q = q.copy()
        return q


class Ours:
    """`retargeting.solver.Solver` as the node runs it: goal steps, then one step to the command."""

    def __init__(self, model: RobotModel, parameters: SolverParameters, name: str = "ours") -> None:
        self.name = name
        self.failures = 0
        self._model = model
        self._parameters = parameters
        self._solver = Solver(model, parameters)
        self._grippers = model.neutral[model.body_count :].copy()

    def start(self, q: Array) -> None:
        self._solver = Solver(self._model, self._parameters)
        self._solver.start_from(np.concatenate([q, self._grippers]))

    def prepare(self, targets: SolverTargets) -> SolverTargets:
        return targets

    def solve(self, prepared: SolverTargets, dt: float) -> Array:
        step = self._solver.follow(prepared, self._grippers, dt)
        return step.positions[: self._model.body_count]
