"""Peers that take the whole problem as it is: scipy's bounded least squares, and IPOPT through CasADi.

Neither knows velocity or acceleration limits; both get our box as bounds of the variables, except
`ipopt free`, which is used as teleoperation code uses it: position limits alone, up to 50 iterations.
"""

from __future__ import annotations

from typing import Any

import casadi
import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from benchmarks.retargeting.pin_robot import PinRobot, Residual, posture_weights, task_weights, wanted_posture
from benchmarks.retargeting.reduced_robot import ReducedRobot, site_link
from benchmarks.retargeting.solvers import PublishedBox
from retargeting.body_points import SIDES
from retargeting.frames import rotation_matrix_from_quaternion
from retargeting.solver import POSE_SITES, SolverParameters, SolverTargets

Array = NDArray[np.float64]

# Trust-region methods stay strictly inside; bounds that meet are opened by this (rad).
_OPENING = 1e-9
# In metres squared our cost is so small that IPOPT's tolerance of 1e-6 would stop it early.
_COST_SCALE = 100.0


class LeastSquares:
    """scipy's trust-region reflective method with our box as bounds and pinocchio's Jacobians."""

    def __init__(self, robot: ReducedRobot, parameters: SolverParameters, steps: int) -> None:
        self.name = "least_squares box"
        self.failures = 0
        self._steps = steps
        self._box = PublishedBox(robot)
        self._residual = Residual(PinRobot(robot), parameters)

    def start(self, q: Array) -> None:
        self._box.start(q)

    def prepare(self, targets: SolverTargets) -> SolverTargets:
        return targets

    def solve(self, prepared: SolverTargets, dt: float) -> Array:
        low, high = self._box.bounds(dt)
        previous = self._box.q
        memory: dict[str, Any] = {}

        def residual(q: Array) -> Array:
            memory["rows"], memory["jacobian"] = self._residual.evaluate(q, prepared, previous)
            memory["q"] = q.copy()
            rows: Array = memory["rows"]
            return rows

        def jacobian(q: Array) -> Array:
            if not np.array_equal(q, memory["q"]):
                residual(q)
            rows: Array = memory["jacobian"]
            return rows

        inside = np.clip(previous, low, high)
        result = least_squares(
            residual, inside, jac=jacobian, bounds=(low - _OPENING, high + _OPENING),
            max_nfev=self._steps + 1,
        )  # fmt: skip
        return self._box.publish(np.clip(result.x, low, high), dt)


class Ipopt:
    """Pose errors, elbow directions, posture and smoothness as one cost, warm-started each tick."""

    def __init__(
        self, robot: ReducedRobot, parameters: SolverParameters, iterations: int, *, free: bool
    ) -> None:
        self.name = f"ipopt {'free' if free else 'box'} {iterations}"
        self.failures = 0
        self._robot, self._free, self._iterations = robot, free, iterations
        self._box = PublishedBox(robot)
        m = len(robot.names)
        q, parameter = casadi.SX.sym("q", m), casadi.SX.sym("p", 9 + 27 + 6 + 2 + m + m)
        positions = casadi.reshape(parameter[:9], 3, 3).T
        directions = casadi.reshape(parameter[36:42], 3, 2).T
        known, posture, previous = parameter[42:44], parameter[44 : 44 + m], parameter[44 + m :]
        places = _site_places(robot, q)
        cost = casadi.SX(0)
        for site, (position_weight, orientation_weight) in task_weights(robot, parameters).items():
            if site not in robot.sites:
                continue
            k = POSE_SITES.index(site)
            place, turn = places[site]
            cost += position_weight**2 * casadi.sumsqr(place - positions[k, :].T)
            wanted = casadi.reshape(parameter[9 + 9 * k : 18 + 9 * k], 3, 3).T
            # ‖R − R*‖² = 8 sin²(angle / 2), twice the squared angle when it is small; smooth everywhere.
            cost += orientation_weight**2 * 0.5 * casadi.sumsqr(turn - wanted)
        for k, side in enumerate(SIDES):
            if f"{side}_shoulder" in robot.sites and f"{side}_elbow" in robot.sites:
                line = places[f"{side}_elbow"][0] - places[f"{side}_shoulder"][0]
                unit = line / casadi.norm_2(line)
                weight = parameters.elbow_weight_m**2 * known[k]
                cost += weight * casadi.sumsqr(unit - directions[k, :].T)
        cost += casadi.sumsqr(posture_weights(robot, parameters) * (q - posture))
        cost += parameters.damping * casadi.sumsqr(q - previous)
        options = {
            "ipopt.print_level": 0,
            "ipopt.sb": "yes",
            "print_time": False,
            "ipopt.max_iter": iterations,
            "ipopt.tol": 1e-6,
        }
        if not free:
            # From a good start: the barrier is small from the beginning.
            options["ipopt.mu_init"] = 1e-7
        problem = {"x": q, "p": parameter, "f": _COST_SCALE * cost}
        self._solver = casadi.nlpsol("ik", "ipopt", problem, options)

    def start(self, q: Array) -> None:
        self._box.start(q)

    def prepare(self, targets: SolverTargets) -> Array:
        known = np.any(targets.elbow_directions != 0.0, axis=1).astype(np.float64)
        return np.concatenate(
            [
                targets.positions.ravel(), targets.rotations.ravel(), targets.elbow_directions.ravel(), known,
                wanted_posture(self._robot, targets),
            ]
        )  # fmt: skip

    def solve(self, prepared: Array, dt: float) -> Array:
        low, high = (self._robot.lower, self._robot.upper) if self._free else self._box.bounds(dt)
        previous = self._box.q
        result = self._solver(x0=previous, lbx=low, ubx=high, p=np.concatenate([prepared, previous]))
        status = self._solver.stats()["return_status"]
        if status not in ("Solve_Succeeded", "Solved_To_Acceptable_Level", "Maximum_Iterations_Exceeded"):
            self.failures += 1
        # IPOPT relaxes bounds by 1e-8.
        return self._box.publish(np.clip(np.asarray(result["x"]).ravel(), low, high), dt)


def _site_places(robot: ReducedRobot, q: casadi.SX) -> dict[str, tuple[casadi.SX, casadi.SX]]:
    """Position and rotation matrix of every site as expressions of q."""
    places = {robot.root: (casadi.SX.zeros(3), casadi.SX.eye(3))}
    for joint in robot.joints:
        position, turn = places[joint.parent]
        position = position + turn @ joint.pose[:3]
        turn = turn @ rotation_matrix_from_quaternion(joint.pose[3:])
        if joint.coordinate >= 0 and joint.prismatic:
            position = position + turn @ (q[joint.coordinate] * joint.axis)
        elif joint.coordinate >= 0:
            x, y, z = joint.axis
            cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
            angle = q[joint.coordinate]
            # Rodrigues' formula.
            spin = casadi.SX.eye(3) + casadi.sin(angle) * cross + (1 - casadi.cos(angle)) * (cross @ cross)
            turn = turn @ spin
        places[joint.child] = (position, turn)
    return {site: places[site_link(site)] for site in robot.sites}
