"""From targets to the next joint command: two box-constrained problems per tick.

1. *Goal* (`goal_search`): a few damped Gauss-Newton steps of the inverse kinematics inside the position
   limits, from the last goal. It says where the joints should be, however far that is.
2. *Command* (`command_step`): among the velocities that the position (with braking distance), velocity
   and acceleration limits allow from the previously published command, the one whose motion of wrists,
   head and elbows is nearest to that of the wanted velocity. The wanted velocity follows the goal's
   own and closes the remaining distance no faster than it can be braked.

Both are exact box QPs; nothing is clipped afterwards. A tick is one call of compiled code.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_recovery import ArmRecovery
from retargeting.box_qp import SOLVED
from retargeting.collision_braking import MOST_ROWS
from retargeting.command_step import (
    CommandWork,
    Motion,
    bound_velocity,
    fill_metric,
    move_command,
    want_velocity,
    weigh_velocity,
)
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays
from retargeting.packed import pack
from retargeting.robot_model import RobotModel
from retargeting.robot_tasks import POSE_SITES as POSE_SITES
from retargeting.robot_tasks import robot_tasks
from retargeting.self_collision import Clearance, SelfCollision
from retargeting.solver_parameters import SolverParameters as SolverParameters
from retargeting.tasks import SolverTargets as SolverTargets
from retargeting.tasks import TaskArrays, quadratic_model

Array = NDArray[np.float64]

# In contact, where the rows turn from tick to tick, the goal's steps are damped more.
_CONTACT_M, _CONTACT_DAMPING = 0.002, 0.03
# How often a goal's step that led nearer than this to what it must not is halved.
_SHORTENINGS, _GOAL_STRAY_M = 3, 2e-4


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


class SolverArrays(NamedTuple):
    """All that a tick reads and writes. origin, reach ``(m,)``, outside ``(n,)``; led, lead ``(m,)``: see
    `ArmRecovery`; goal_steps to settling_time: see `SolverParameters`."""

    motion: Motion
    tree: TreeArrays
    tasks: TaskArrays
    limits: JointLimits
    near: GoalRows
    goal_steps: int
    damping: float
    residual_damping: float
    braking_share: float
    settling_time_s: float
    origin: Array
    reach: Array
    led: NDArray[np.bool_]
    lead: Array
    outside: NDArray[np.bool_]
    goal_work: GoalWork
    work: CommandWork


@compiled
def _begin(motion, limits, led, lead, dt, origin, reach, work):  # type: ignore[no-untyped-def]
    """Before the goal's search: keep where it was, move the joints that are led, and say from where
    (`origin`) the search may move each joint how far (`reach`)."""
    work.before[:] = motion.goal
    for i in range(reach.shape[0]):
        reach[i] = limits.velocity[i] * dt
        if led[i]:
            motion.goal[i] += lead[i]
            reach[i] = 0.0
        origin[i] = motion.goal[i]


@compiled
def _follow(packed, targets, grippers, dt):  # type: ignore[no-untyped-def]
    """One tick without self-collision, on packed `SolverArrays`; (status, forced exceptions)."""
    arrays = packed.content
    motion, tree, tasks, limits, work = arrays.motion, arrays.tree, arrays.tasks, arrays.limits, arrays.work
    m = arrays.reach.shape[0]
    _begin(motion, limits, arrays.led, arrays.lead, dt, arrays.origin, arrays.reach, work)
    status, _ = search_goal(
        motion.goal[:m], arrays.origin, arrays.reach, arrays.goal_steps, arrays.damping,
        arrays.residual_damping, tree, tasks, targets, limits, arrays.near, arrays.goal_work,
    )  # fmt: skip
    if status != SOLVED:
        return status, 0
    want_velocity(motion, grippers, limits, arrays.braking_share, arrays.settling_time_s, dt, m, work)
    quadratic_model(motion.q[:m], tree, tasks, targets, arrays.goal_work.model)
    forced = bound_velocity(motion, limits, dt, arrays.outside, work)
    status = weigh_velocity(arrays.goal_work.model.hessian, arrays.outside, work)
    if status == SOLVED:
        status = move_command(motion, limits, dt, work)
    return status, forced


class Solver:
    """Holds the goal and the previously published command of one robot."""

    def __init__(self, model: RobotModel, parameters: SolverParameters | None = None) -> None:
        self.model = model
        self.parameters = said = parameters or SolverParameters()
        self.layout = robot_tasks(model, said)
        n, m = len(model.joint_names), model.body_count
        self._limits = JointLimits(model.lower, model.upper, model.velocity, model.acceleration)
        self._self_collision = SelfCollision(model) if said.self_collision else None
        self._goal_work = GoalWork.of_size(
            m, len(self.layout.tree.names), MOST_ROWS if said.self_collision else 0
        )
        self._work = CommandWork.of_size(n)
        self._reach, self._no_reach = np.empty(m), np.full(m, 2.0 * np.pi)
        self._origin, self._led, self._lead = np.empty(m), np.zeros(m, dtype=np.bool_), np.zeros(m)
        self._outside = np.zeros(n, dtype=np.bool_)
        self._nothing_near = GoalRows.none(m)
        self._recovery = ArmRecovery(model, self.layout, said) if said.branch_recovery else None
        if self._recovery is not None:
            self._led, self._lead = self._recovery.led, self._recovery.lead
        self._motion = Motion(model.neutral.copy(), np.zeros(n), model.neutral.copy(), np.zeros(n))
        self._packed = pack(
            SolverArrays(
                self._motion,
                self.layout.tree.arrays,
                self.layout.arrays,
                self._limits,
                self._nothing_near,
                int(said.goal_steps),
                float(said.damping),
                float(said.residual_damping),
                float(said.braking_share),
                float(said.settling_time_s),
                self._origin,
                self._reach,
                self._led,
                self._lead,
                self._outside,
                self._goal_work,
                self._work,
            )
        )
        self.start_from(model.neutral)

    @property
    def goal(self) -> Array:
        """Where the joints should be ``(n,)``."""
        return self._motion.goal

    @property
    def q(self) -> Array:
        """The previously published command ``(n,)``."""
        return self._motion.q

    @property
    def v(self) -> Array:
        """Its velocity ``(n,)``."""
        return self._motion.v

    def start_from(self, positions: Array) -> int:
        """Make `positions` ``(n,)`` the previous command, at rest; returns how many lay outside the limits.

        Those are brought to the limit: a command never breaks it.
        """
        inside = np.clip(positions, self.model.lower, self.model.upper)
        self.q[:], self.v[:] = inside, 0.0
        self.reset_goal(inside)
        if self._self_collision is not None:
            self._self_collision.start(inside)
        return int(np.count_nonzero(inside != positions))

    def reset_goal(self, positions: Array) -> None:
        """Let the search for the goal continue from `positions` ``(n,)``, at rest."""
        np.clip(positions, self.model.lower, self.model.upper, out=self.goal)
        self._motion.goal_velocity[:] = 0.0
        if self._recovery is not None:
            self._recovery.reset()

    @property
    def recoveries(self) -> int:
        """How often an arm was led out of a wrong branch."""
        return 0 if self._recovery is None else self._recovery.recoveries

    def cost(self, q: Array, targets: SolverTargets) -> float:
        """What the goal's search brings down, at q ``(m,)`` (m²); its gradient is then in `cost_gradient`."""
        arrays = self.layout.arrays
        return float(quadratic_model(q, self.layout.tree.arrays, arrays, targets, self._goal_work.model))

    @property
    def cost_gradient(self) -> Array:
        """Gradient ``(m,)`` of the cost where it was computed last."""
        return self._goal_work.model.gradient

    def improve_goal(self, targets: SolverTargets, steps: int) -> float:
        """`steps` Gauss-Newton steps of the goal inside the position limits; the cost before the last.

        By any amount, and whatever is in the way: for setting up and tests.
        """
        goal = self.goal[: self.model.body_count]
        return self._search(goal, goal.copy(), self._no_reach, steps, targets, self._nothing_near)

    def _search(
        self, goal: Array, origin: Array, reach: Array, steps: int, targets: SolverTargets, near: GoalRows
    ) -> float:
        damping = self.parameters.damping
        if near.used > 0 and float(near.gaps[: near.used].min()) < _CONTACT_M:
            damping = _CONTACT_DAMPING
        tree, tasks = self.layout.tree.arrays, self.layout.arrays
        status, cost = search_goal(
            goal, origin, reach, steps, damping, float(self.parameters.residual_damping), tree, tasks,
            targets, self._limits, near, self._goal_work,
        )  # fmt: skip
        self._check(status)
        return float(cost)

    def _check(self, status: int) -> None:
        if status != SOLVED:
            raise RetargetingError(f"{self.model.name}: a quadratic problem of the solver failed ({status})")

    def follow(self, targets: SolverTargets, gripper_positions: Array, dt: float) -> Step:
        """One tick towards the targets; `gripper_positions` are what the gripper joints should reach.

        Raises `RetargetingError` where that cannot be computed (targets that are not finite); then the
        command stays as it was.
        """
        recovery, goal = self._recovery, self.goal[: self.model.body_count]
        if recovery is not None:
            recovery.fill_lead(goal, dt)
        apart = self._self_collision
        if apart is not None:
            step = self._follow_apart(apart, targets, gripper_positions, dt)
        else:
            status, forced = _follow(self._packed, targets, gripper_positions, dt)
            self._check(status)
            step = self._step(forced)
        if recovery is not None:
            recovery.watch(goal, targets, None if apart is None else self._room, dt)
        return step

    def _room(self, q: Array) -> Array:
        """What the robot's own distances exceed the margin by at q ``(m,)``, grippers as they are."""
        apart = self._self_collision
        if apart is None:
            return np.empty(0)
        full = np.concatenate([q, self.goal[self.model.body_count :]])
        return apart.collision.distances(full) - apart.collision.margin_m

    def _follow_apart(
        self, apart: SelfCollision, targets: SolverTargets, gripper_positions: Array, dt: float
    ) -> Step:
        m, work = self.model.body_count, self._work
        goal, origin = self.goal[:m], self._origin
        _begin(self._motion, self._limits, self._led, self._lead, dt, origin, self._reach, work)
        near = apart.goal_rows(self.goal)
        self._search(goal, origin, self._reach, self.parameters.goal_steps, targets, near)
        if near.used:
            # Rows are straight, arms turn: a step that led too near after all is shortened.
            nearest = min(0.0, float(near.gaps[: near.used].min()))
            for _ in range(_SHORTENINGS):
                near = apart.goal_rows(self.goal)
                if not near.used or near.gaps[: near.used].min() >= nearest - _GOAL_STRAY_M:
                    break
                goal += 0.5 * (origin - goal)
        said = self.parameters
        share, settling_time = float(said.braking_share), float(said.settling_time_s)
        want_velocity(self._motion, gripper_positions, self._limits, share, settling_time, dt, m, work)
        self.cost(self.q[:m], targets)
        return self._advance_apart(apart, dt, weighed=True)

    def brake(self, dt: float) -> Step:
        """One tick towards standing still, as fast as the limits allow."""
        self._work.wanted[:] = 0.0
        self.reset_goal(self.q)
        if self._self_collision is not None:
            self._goal_work.model.hessian[:] = 0.0
            return self._advance_apart(self._self_collision, dt, weighed=False)
        forced = bound_velocity(self._motion, self._limits, dt, self._outside, self._work)
        self._check(move_command(self._motion, self._limits, dt, self._work))
        return self._step(forced)

    def _advance_apart(self, apart: SelfCollision, dt: float, *, weighed: bool) -> Step:
        """The allowed velocity nearest to the wanted one that keeps all margins."""
        work, m = self._work, self.model.body_count
        forced = bound_velocity(self._motion, self._limits, dt, self._outside, work)
        fill_metric(self._goal_work.model.hessian, work)
        weighed = weighed and bool(self._outside[:m].any())
        apart.velocity(
            self.q, self.v, work.wanted, work.low, work.high, work.hessian, weighed, dt, work.velocity
        )
        self._check(move_command(self._motion, self._limits, dt, work))
        return self._step(forced, apart.clearance, apart.how > 0)

    def _step(self, forced: int, clearance: Clearance | None = None, collision_limited: bool = False) -> Step:
        clipped = tuple(self.model.joint_names[i] for i in np.flatnonzero(self._outside))
        return Step(self.q.copy(), self.v.copy(), clipped, forced, clearance, collision_limited)
