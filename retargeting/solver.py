"""From targets to the next joint command: two box-constrained problems per tick.

1. *Goal*: a few damped Gauss-Newton steps of the inverse kinematics inside the position limits, from
   the last goal. It says where the joints should be, however far that is.
2. *Command*: among the velocities that the position (with braking distance), velocity and
   acceleration limits allow from the previously published command, the one whose motion of wrists,
   head and elbows is nearest to that of the wanted velocity. The wanted velocity follows the goal's
   own and closes the remaining distance no faster than it can be braked.

Both are exact box QPs; nothing is clipped afterwards.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from retargeting.arm_recovery import ArmRecovery, RecoveryParameters
from retargeting.body_points import SIDES
from retargeting.box_qp import SOLVED, solve_box_qp
from retargeting.collision_braking import MOST_ROWS
from retargeting.errors import RetargetingError
from retargeting.frames import pose_compose, rotation_matrix_from_quaternion
from retargeting.joint_limits import braking_velocity, velocity_box
from retargeting.kinematics import build_tree
from retargeting.robot_model import RobotModel
from retargeting.row_qp import solve_row_qp
from retargeting.self_collision import Clearance, SelfCollision
from retargeting.tasks import TaskLayout, quadratic_model

Array = NDArray[np.float64]

POSE_SITES = ("left_wrist", "right_wrist", "head")

# Weight (squared) of bringing the goal out of a margin, against 1 for the wrists' positions.
_PUSH_OUT = 100.0
# In contact, where the rows turn from tick to tick, the goal's steps are damped more.
_CONTACT_M, _CONTACT_DAMPING = 0.002, 0.03
# What a joint's own velocity counts (m²/rad²) beside what it does to the tasks, where not all can be had. With
# much less, joints that can do more stand in for those that cannot, overshoot their own goals and swing back.
_JOINT_SHARE = 0.1
# How often a goal's step that led nearer than this to what it must not is halved.
_SHORTENINGS, _GOAL_STRAY_M = 3, 2e-4


@dataclass(frozen=True)
class SolverParameters:
    """Weights of the tasks (metres are the common unit) and the shape of the motion towards the goal."""

    position_weight: float = 1.0
    orientation_weight_m_rad: float = 0.15
    head_orientation_weight_m_rad: float = 0.05
    elbow_weight_m: float = 0.02
    posture_weight_m_rad: float = 0.006
    waist_posture_weight_m_rad: float = 0.03
    goal_steps: int = 3
    damping: float = 1e-3
    residual_damping: float = 30.0
    settling_time_s: float = 0.04
    braking_share: float = 0.7
    self_collision: bool = False
    branch_recovery: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value) or value < 0.0:
                raise RetargetingError(f"solver parameter {name}: {value!r} must be finite and not negative")
        if not 1 <= self.goal_steps <= 100:
            raise RetargetingError(f"solver parameter goal_steps: {self.goal_steps} is outside 1 .. 100")
        if not 0.0 < self.braking_share <= 1.0 or self.settling_time_s <= 0.0:
            raise RetargetingError(
                "solver parameters braking_share and settling_time_s must be above 0, share <= 1"
            )


@dataclass(frozen=True)
class SolverTargets:
    """Where the solver is asked to bring the robot, in its root link.

    positions ``(3, 3)``, rotations ``(3, 3, 3)`` in the order of `POSE_SITES`; elbow_directions
    ``(2, 3)`` unit vectors shoulder to elbow (left, right), all zero where not known.
    """

    positions: Array
    rotations: Array
    elbow_directions: Array


@dataclass(frozen=True)
class Step:
    """One tick's result: positions, velocities ``(n,)`` and which joints' limits shaped it.

    clearance: the smallest distance between the robot's own links (None without self-collision);
    collision_limited: whether a margin shaped the velocity.
    """

    positions: Array
    velocities: Array
    clipped: tuple[str, ...]
    forced_exceptions: int
    clearance: Clearance | None = None
    collision_limited: bool = False


def build_layout(model: RobotModel, parameters: SolverParameters) -> TaskLayout:
    """Tasks of a robot: wrists, head and elbows over its chains' joints."""
    description = model.description
    names = model.joint_names[: model.body_count]
    sites = [name for name in description.sites]
    tree, body_of = build_tree(
        model.urdf, names, model.locked_positions, keep=[description.sites[name].link for name in sites]
    )

    def place(site: str) -> tuple[int, Array, Array]:
        link_body, link_pose = body_of[description.sites[site].link]
        pose = pose_compose(link_pose, description.sites[site].pose)
        return tree.index(link_body), pose[:3], rotation_matrix_from_quaternion(pose[3:])

    root = (0, np.zeros(3), np.eye(3))
    places = [place(site) if site in sites else root for site in POSE_SITES]
    has_head = bool(description.chains["head"]) and "head" in sites
    position_weights = [parameters.position_weight * (site in sites) for site in POSE_SITES[:2]]
    orientation_weights = [parameters.orientation_weight_m_rad * (site in sites) for site in POSE_SITES[:2]]
    pairs = [
        (place(f"{side}_shoulder"), place(f"{side}_elbow"))
        if f"{side}_shoulder" in sites and f"{side}_elbow" in sites
        else (root, root)
        for side in SIDES
    ]
    waist = set(description.chains["waist"])
    return TaskLayout(
        tree=tree,
        site_bodies=np.array([p[0] for p in places], dtype=np.int64),
        site_positions=np.array([p[1] for p in places]),
        site_rotations=np.array([p[2] for p in places]),
        position_weights=np.array([*position_weights, 0.0]),
        orientation_weights=np.array(
            [*orientation_weights, parameters.head_orientation_weight_m_rad if has_head else 0.0]
        ),
        from_bodies=np.array([a[0] for a, _ in pairs], dtype=np.int64),
        from_positions=np.array([a[1] for a, _ in pairs]),
        to_bodies=np.array([b[0] for _, b in pairs], dtype=np.int64),
        to_positions=np.array([b[1] for _, b in pairs]),
        posture_weights=np.array(
            [
                parameters.waist_posture_weight_m_rad if name in waist else parameters.posture_weight_m_rad
                for name in names
            ]
        ),
    )


@numba.njit(cache=True)
def _goal_step(  # type: ignore[no-untyped-def]
    q, origin, reach, hessian, gradient, damping, lower, upper, dq, low, high, factor, direction, free
):
    """One damped Gauss-Newton step of q inside the limits, within `reach` ``(n,)`` of `origin` ``(n,)``."""
    n = q.shape[0]
    for i in range(n):
        hessian[i, i] += damping
        low[i] = min(0.0, max(lower[i], origin[i] - reach[i]) - q[i])
        high[i] = max(0.0, min(upper[i], origin[i] + reach[i]) - q[i])
        dq[i] = 0.0
    status = solve_box_qp(hessian, gradient, low, high, dq, factor, direction, free)
    for i in range(n):
        q[i] = min(max(q[i] + dq[i], lower[i]), upper[i])
    return status


@numba.njit(cache=True)
def _goal_step_apart(  # type: ignore[no-untyped-def]
    q, origin, reach, hessian, gradient, damping, lower, upper, dq, low, high, factor, direction, free,
    rows, gaps, count, bounds,
):  # fmt: skip
    """`_goal_step` that leads no pair of capsules nearer than it may be; rows, gaps: at `origin`."""
    n = q.shape[0]
    for k in range(count):
        moved = 0.0
        for i in range(n):
            moved += rows[k, i] * (q[i] - origin[i])
        bounds[k] = min(0.0, -max(gaps[k], 0.0) - moved) - 1e-12
        room = gaps[k] + moved
        if room < 0.0:
            # Too near already: no nearer, and out.
            for i in range(n):
                gradient[i] += _PUSH_OUT * room * rows[k, i]
                for j in range(n):
                    hessian[i, j] += _PUSH_OUT * rows[k, i] * rows[k, j]
    for i in range(n):
        hessian[i, i] += damping
        low[i] = min(0.0, max(lower[i], origin[i] - reach[i]) - q[i])
        high[i] = max(0.0, min(upper[i], origin[i] + reach[i]) - q[i])
        dq[i] = 0.0
    status = solve_row_qp(hessian, gradient, low, high, rows, bounds, count, dq, factor, direction, free)
    for i in range(n):
        q[i] = min(max(q[i] + dq[i], lower[i]), upper[i])
    return status


@numba.njit(cache=True)
def wanted_velocity(goal, goal_velocity, q, acceleration, share, settling_time, dt, wanted):  # type: ignore[no-untyped-def]
    """Fill `wanted` ``(n,)``: the goal's own velocity plus the closing of the distance, braked in time."""
    for i in range(q.shape[0]):
        distance = goal[i] - q[i]
        speed = min(
            abs(distance) / settling_time, braking_velocity(abs(distance), share * acceleration[i], dt)
        )
        wanted[i] = goal_velocity[i] + (speed if distance > 0.0 else -speed)


class Solver:
    """Holds the goal and the previously published command of one robot."""

    def __init__(self, model: RobotModel, parameters: SolverParameters | None = None) -> None:
        self.model = model
        self.parameters = parameters or SolverParameters()
        self.layout = build_layout(model, self.parameters)
        n, m = len(model.joint_names), model.body_count
        bodies = len(self.layout.tree.names)
        self._positions, self._rotations = np.empty((bodies, 3)), np.empty((bodies, 3, 3))
        self._hessian, self._gradient = np.empty((m, m)), np.empty(m)
        self._factor, self._direction, self._free = np.empty((n, n)), np.empty(n), np.empty(n, dtype=np.int64)
        self._low, self._high, self._step = np.empty(n), np.empty(n), np.empty(n)
        self._full_hessian, self._full_gradient = np.zeros((n, n)), np.empty(n)
        self._wanted = np.empty(n)
        self._no_reach = np.full(m, 2.0 * np.pi)
        self._self_collision = SelfCollision(model) if self.parameters.self_collision else None
        self._goal_bounds = np.empty(MOST_ROWS)
        self._recovery = (
            ArmRecovery(model, self.layout, self.parameters.elbow_weight_m, RecoveryParameters())
            if self.parameters.branch_recovery
            else None
        )
        self._reach = np.empty(m)
        self.goal = model.neutral.copy()
        self._goal_velocity = np.zeros(n)
        self.start_from(model.neutral)

    def start_from(self, positions: Array) -> int:
        """Make `positions` ``(n,)`` the previous command, at rest; returns how many lay outside the limits.

        Those are brought to the limit: a command never breaks it.
        """
        inside = np.clip(positions, self.model.lower, self.model.upper)
        self.q = inside.copy()
        self.v = np.zeros_like(inside)
        self.reset_goal(inside)
        if self._self_collision is not None:
            self._self_collision.start(inside)
        return int(np.count_nonzero(inside != positions))

    def reset_goal(self, positions: Array) -> None:
        """Let the search for the goal continue from `positions` ``(n,)``, at rest."""
        self.goal = np.clip(positions, self.model.lower, self.model.upper)
        self._goal_velocity = np.zeros_like(self.goal)
        if self._recovery is not None:
            self._recovery.reset()

    @property
    def recoveries(self) -> int:
        """How often an arm was led out of a wrong branch."""
        return 0 if self._recovery is None else self._recovery.recoveries

    def _settle(self, q: Array, targets: SolverTargets, steps: int) -> float:
        """`steps` steps of q ``(m,)`` inside the position limits, in place; the cost before the last."""
        m = self.model.body_count
        cost = 0.0
        for _ in range(steps):
            cost = self._model_at(q, targets)
            status = _goal_step(
                q,
                q,
                self._no_reach,
                self._hessian,
                self._gradient,
                self.parameters.damping + self.parameters.residual_damping * cost,
                self.model.lower[:m],
                self.model.upper[:m],
                self._step[:m],
                self._low[:m],
                self._high[:m],
                self._factor,
                self._direction,
                self._free,
            )
            if status != SOLVED:
                raise RetargetingError(
                    f"{self.model.name}: the goal's quadratic problem failed (status {status})"
                )
        return cost

    def _model_at(self, q: Array, targets: SolverTargets) -> float:
        layout = self.layout
        tree = layout.tree
        known = np.any(targets.elbow_directions != 0.0, axis=1) & (layout.to_bodies > 0)
        cost: float = quadratic_model(
            q,
            tree.arrays,
            layout.site_bodies,
            layout.site_positions,
            layout.site_rotations,
            layout.position_weights,
            layout.orientation_weights,
            layout.from_bodies,
            layout.from_positions,
            layout.to_bodies,
            layout.to_positions,
            layout.posture_weights,
            targets.positions,
            targets.rotations,
            targets.elbow_directions,
            np.where(known, self.parameters.elbow_weight_m, 0.0),
            self.model.neutral[: self.model.body_count],
            self._positions,
            self._rotations,
            self._hessian,
            self._gradient,
        )
        return cost

    def improve_goal(self, targets: SolverTargets, steps: int, reach: Array | None = None) -> float:
        """`steps` Gauss-Newton steps of the goal inside the position limits; the cost before the last.

        No joint moves by more than `reach` ``(m,)`` (rad), and with self-collision no capsules come too
        near; None: by any amount, anywhere.
        """
        m = self.model.body_count
        apart = self._self_collision if reach is not None else None
        rows, gaps, count = (
            (self._full_hessian, self._goal_bounds, 0) if apart is None else apart.goal_rows(self.goal)
        )
        goal = self.goal[:m]
        origin = goal.copy()
        reach = self._no_reach if reach is None else reach
        cost = 0.0
        touching = count > 0 and float(gaps[:count].min()) < _CONTACT_M
        for _ in range(steps):
            cost = self._model_at(goal, targets)
            problem = (
                goal,
                origin,
                reach,
                self._hessian,
                self._gradient,
                self.parameters.damping + self.parameters.residual_damping * cost,
                self.model.lower[:m],
                self.model.upper[:m],
                self._step[:m],
                self._low[:m],
                self._high[:m],
                self._factor,
                self._direction,
                self._free,
            )
            if touching:
                status = _goal_step_apart(
                    *problem[:5], _CONTACT_DAMPING, *problem[6:], rows, gaps, count, self._goal_bounds
                )
            elif count:
                status = _goal_step_apart(*problem, rows, gaps, count, self._goal_bounds)
            else:
                status = _goal_step(*problem)
            if status != SOLVED:
                raise RetargetingError(
                    f"{self.model.name}: the goal's quadratic problem failed (status {status})"
                )
        if apart is not None and count:
            # Rows are straight, arms turn: a step that led too near after all is shortened.
            nearest = min(0.0, float(gaps[:count].min()))
            for _ in range(_SHORTENINGS):
                _, gaps, count = apart.goal_rows(self.goal)
                if not count or gaps[:count].min() >= nearest - _GOAL_STRAY_M:
                    break
                goal += 0.5 * (origin - goal)
        return cost

    def follow(self, targets: SolverTargets, gripper_positions: Array, dt: float) -> Step:
        """One tick towards the targets; `gripper_positions` are what the gripper joints should reach."""
        m = self.model.body_count
        before = self.goal.copy()
        np.multiply(self.model.velocity[:m], dt, out=self._reach)
        recovery = self._recovery
        if recovery is not None:
            recovery.lead(self.goal[:m], self._reach, dt)
        self.improve_goal(targets, self.parameters.goal_steps, self._reach)
        if recovery is not None:
            recovery.watch(
                self.goal[:m],
                (targets.positions, targets.rotations, targets.elbow_directions),
                lambda q, steps: self._settle(q, targets, steps),
                None,
                dt,
            )
        self.goal[m:] = np.clip(gripper_positions, self.model.lower[m:], self.model.upper[m:])
        raw = np.clip((self.goal - before) / dt, -self.model.velocity, self.model.velocity)
        # Frames come slower than ticks: a short average keeps their beat out of the velocity.
        self._goal_velocity += min(1.0, dt / 0.01) * (raw - self._goal_velocity)
        self._goal_velocity[m:] = 0.0
        wanted_velocity(
            self.goal,
            self._goal_velocity,
            self.q,
            self.model.acceleration,
            self.parameters.braking_share,
            self.parameters.settling_time_s,
            dt,
            self._wanted,
        )
        self._model_at(self.q[:m], targets)
        return self._advance(dt)

    def brake(self, dt: float) -> Step:
        """One tick towards standing still, as fast as the limits allow."""
        self._wanted[:] = 0.0
        self._hessian[:] = 0.0
        self.reset_goal(self.q)
        return self._advance(dt)

    def _advance(self, dt: float) -> Step:
        """The allowed velocity nearest to the wanted one, measured by what it does to the tasks."""
        model, m, n = self.model, self.model.body_count, len(self.q)
        low, high = self._low, self._high
        forced = velocity_box(
            self.q, self.v, model.lower, model.upper, model.velocity, model.acceleration, dt, low, high
        )
        outside = (self._wanted < low) | (self._wanted > high)
        velocity = self._step
        velocity[:] = np.clip(self._wanted, low, high)
        apart = self._self_collision
        if apart is not None:
            hessian = self._full_hessian
            hessian[:] = 0.0
            hessian[:m, :m] = self._hessian
            hessian[np.arange(n), np.arange(n)] += _JOINT_SHARE
            apart.velocity(
                self.q,
                self.v,
                self._wanted,
                low,
                high,
                hessian,
                bool(outside[:m].any() and self._hessian.any()),
                dt,
                velocity,
            )
        elif outside[:m].any() and self._hessian.any():
            hessian = self._full_hessian
            hessian[:] = 0.0
            hessian[:m, :m] = self._hessian
            hessian[np.arange(n), np.arange(n)] += _JOINT_SHARE
            self._full_gradient[:] = -hessian @ self._wanted
            status = solve_box_qp(
                hessian, self._full_gradient, low, high, velocity, self._factor, self._direction, self._free
            )
            if status != SOLVED:
                raise RetargetingError(
                    f"{model.name}: the command's quadratic problem failed (status {status})"
                )
        position = np.clip(self.q + velocity * dt, model.lower, model.upper)
        if not np.isfinite(position).all():
            raise RetargetingError(f"{model.name}: the command is not finite")
        self.v = (position - self.q) / dt
        self.q = position
        clipped = tuple(name for name, out in zip(model.joint_names, outside, strict=True) if out)
        if apart is None:
            return Step(position.copy(), self.v.copy(), clipped, forced)
        return Step(
            position.copy(), self.v.copy(), clipped, forced, apart.clearance, collision_limited=apart.how > 0
        )
