"""From targets to the next joint command: two box-constrained problems per tick.

1. *Goal* (`goal_search`): a few damped Gauss-Newton steps of the inverse kinematics inside the position
   limits, from the last goal. It says where the joints should be, however far that is. With self-collision
   it keeps links apart, and targets are led out of the body before (`target_clearance`).
2. *Command* (`command_step`): among the velocities that the position (with braking distance), velocity
   and acceleration limits allow from the previously published command, the one whose motion of wrists,
   head and elbows is nearest to that of the wanted velocity. The wanted velocity follows the goal's
   own and closes the remaining distance no faster than it can be braked.

Both are exact box QPs; nothing is clipped afterwards. A tick is one call of compiled code, or
two with self-collision.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_recovery import ArmRecovery
from retargeting.box_qp import SOLVED
from retargeting.collision_braking import MOST_ROWS, Margins, goal_room, goal_rows, keep_margins
from retargeting.command_step import (
    Approach,
    CommandWork,
    Motion,
    bound_velocity,
    fill_metric,
    move_command,
    part_trunk,
    want_velocity,
    weigh_velocity,
)
from retargeting.compiled import compiled, compiled_inside
from retargeting.errors import RetargetingError
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays
from retargeting.packed import bind, pack
from retargeting.robot_model import RobotModel
from retargeting.robot_tasks import POSE_SITES as POSE_SITES
from retargeting.robot_tasks import robot_tasks
from retargeting.self_collision import Clearance, SelfCollision
from retargeting.solver_parameters import SolverParameters as SolverParameters
from retargeting.target_clearance import TargetLead, lead_targets
from retargeting.tasks import SolverTargets as SolverTargets
from retargeting.tasks import TaskArrays, quadratic_model

Array = NDArray[np.float64]

# What is left of a contact (`ApartArrays.contact`) after a tick without.
_FADING = 0.9
# How often a goal's step that led nearer than this to what it must not is halved.
_SHORTENINGS, _GOAL_STRAY_M = 3, 2e-4
# By how much (rad, m) a joint at its limit may be measured beyond it.
SENSED = 1e-3


class Step(NamedTuple):
    """One tick's result: positions, velocities ``(n,)`` and which joints' limits shaped it.

    clearance: the smallest distance between the robot's own links (None without self-collision);
    collision_limited: whether a margin shaped the velocity; leads ``(2, 6)``: what the wrists' targets were
    led by, see `retargeting.target_clearance` (None where they were not).
    """

    positions: Array
    velocities: Array
    clipped: tuple[str, ...]
    forced_exceptions: int
    clearance: Clearance | None = None
    collision_limited: bool = False
    leads: Array | None = None


class SolverArrays(NamedTuple):
    """All that a tick reads and writes. origin, reach ``(m,)``, outside ``(n,)``; led, lead ``(m,)``: see
    `ArmRecovery`; goal_steps, damping, residual_damping: see `SolverParameters`."""

    motion: Motion
    tree: TreeArrays
    tasks: TaskArrays
    limits: JointLimits
    near: GoalRows
    goal_steps: int
    damping: float
    residual_damping: float
    approach: Approach
    origin: Array
    reach: Array
    led: NDArray[np.bool_]
    lead: Array
    outside: NDArray[np.bool_]
    goal_work: GoalWork
    work: CommandWork


@compiled_inside
def _lean(tasks, targets):  # type: ignore[no-untyped-def]
    """Let the waist rather be where the targets have it."""
    for w in range(targets.waist.shape[0]):
        tasks.posture[w] = targets.waist[w]


@compiled_inside
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
    """One tick without self-collision, on packed `SolverArrays`.

    Returns (status, forced exceptions, the row after the last joint that could not have what it wants).
    """
    arrays = packed.content
    motion, tree, tasks, limits, work = arrays.motion, arrays.tree, arrays.tasks, arrays.limits, arrays.work
    m = arrays.reach.shape[0]
    _lean(tasks, targets)
    _begin(motion, limits, arrays.led, arrays.lead, dt, arrays.origin, arrays.reach, work)
    status, _ = search_goal(
        motion.goal[:m], arrays.origin, arrays.reach, arrays.goal_steps, arrays.damping,
        arrays.residual_damping, tree, tasks, targets, limits, arrays.near, arrays.goal_work,
    )  # fmt: skip
    if status != SOLVED:
        return status, 0, 0
    want_velocity(motion, grippers, limits, arrays.approach, dt, m, work)
    forced, until = bound_velocity(motion, limits, dt, arrays.outside, work)
    if arrays.outside[:m].any():
        quadratic_model(motion.q[:m], tree, tasks, targets, arrays.goal_work.model)
        status = weigh_velocity(arrays.goal_work.model.hessian, work)
    if status == SOLVED:
        status = move_command(motion, limits, dt, work)
    return status, forced, until


@compiled_inside
def _want_goal(arrays, dt):  # type: ignore[no-untyped-def]
    """Want to come to rest at a goal that stands still; where that is the command itself, to brake."""
    motion, m = arrays.motion, arrays.reach.shape[0]
    arrays.work.before[:] = motion.goal
    want_velocity(motion, motion.goal[m:], arrays.limits, arrays.approach, dt, m, arrays.work)


@compiled
def _brake(packed, dt):  # type: ignore[no-untyped-def]
    """One tick towards standing still; returns as `_follow`."""
    arrays = packed.content
    motion, limits, work = arrays.motion, arrays.limits, arrays.work
    _want_goal(arrays, dt)
    forced, until = bound_velocity(motion, limits, dt, arrays.outside, work)
    return move_command(motion, limits, dt, work), forced, until


class ApartArrays(NamedTuple):
    """The same with self-collision. contact ``(1,)``: 0 .. 1, how much links touch their margin."""

    solver: SolverArrays
    margins: Margins
    lead: TargetLead
    contact: Array


@compiled
def _seek_apart(packed, targets, grippers, dt):  # type: ignore[no-untyped-def]
    """A tick with self-collision up to the wanted velocity, on packed `ApartArrays`; then `_advance_apart`.

    Returns the status.
    """
    arrays, margins, lead, contact = packed.content
    motion, tree, tasks, limits, work = arrays.motion, arrays.tree, arrays.tasks, arrays.limits, arrays.work
    m = arrays.reach.shape[0]
    _lean(tasks, targets)
    _begin(motion, limits, arrays.led, arrays.lead, dt, arrays.origin, arrays.reach, work)
    used = goal_rows(
        margins.tree, margins.hull, motion.goal, m,
        margins.goal.rows, margins.goal.gaps, margins.goal.owners, margins.proof,
    )  # fmt: skip
    nearest = np.inf
    for k in range(used):
        nearest = min(nearest, margins.goal.gaps[k])
    # What is at its margin leaves it for a tick now and then.
    fading = _FADING * contact[0] if contact[0] > 1e-3 else 0.0
    contact[0] = max(fading, min(1.0, 2.0 - nearest / arrays.approach.contact_gap_m))
    if margins.state.found[0] > 0:
        contact[0] = 1.0
    damping = arrays.damping + arrays.approach.contact_damping * contact[0]
    goal, origin = motion.goal[:m], arrays.origin
    near = GoalRows(margins.goal.rows, margins.goal.gaps, used)
    led = lead_targets(
        goal, tree, tasks, targets, limits, near, arrays.damping, dt, arrays.goal_work.model, lead
    )
    status, _ = search_goal(
        goal, origin, arrays.reach, arrays.goal_steps, damping, arrays.residual_damping,
        tree, tasks, led, limits, near, arrays.goal_work,
    )  # fmt: skip
    if status != SOLVED:
        return status
    # Rows are straight, arms turn: a step that led too near after all is shortened.
    for _ in range(_SHORTENINGS):
        room = goal_room(margins.tree, margins.hull, motion.goal, margins.proof)
        if room >= min(0.0, nearest) - _GOAL_STRAY_M:
            break
        for i in range(m):
            goal[i] += 0.5 * (origin[i] - goal[i])
    want_velocity(motion, grippers, limits, arrays.approach, dt, m, work)
    quadratic_model(motion.q[:m], tree, tasks, targets, arrays.goal_work.model)
    return status


@compiled
def _advance_apart(packed, dt, weighed):  # type: ignore[no-untyped-def]
    """The allowed velocity nearest to the wanted one that keeps all margins; returns as `_follow`.

    A call of its own: inside both `_seek_apart` and `_rest_apart` it would be compiled twice more.
    """
    arrays, margins, _, contact = packed.content
    motion, limits, work = arrays.motion, arrays.limits, arrays.work
    forced, until = bound_velocity(motion, limits, dt, arrays.outside, work)
    fill_metric(arrays.goal_work.model.hessian, work)
    part_trunk(arrays.tasks.trunk, contact[0], work)
    limited = weighed and arrays.outside[: arrays.reach.shape[0]].any()
    keep_margins(
        margins, motion.q, motion.v, work.wanted, work.low, work.high, work.hessian, limited, dt,
        work.velocity,
    )  # fmt: skip
    return move_command(motion, limits, dt, work), forced, until


@compiled
def _rest_apart(packed, dt):  # type: ignore[no-untyped-def]
    """Want to come to rest at the goal, as `_brake` does; then `_advance_apart`."""
    arrays = packed.content.solver
    _want_goal(arrays, dt)
    arrays.goal_work.model.hessian[:] = 0.0


def _follow_apart(packed: Any, targets: SolverTargets, grippers: Array, dt: float) -> tuple[int, int, int]:
    """One tick with self-collision; returns as `_follow`."""
    status = int(_seek_apart(packed, targets, grippers, dt))
    return (status, 0, 0) if status != SOLVED else _advance_apart(packed, dt, True)


def _brake_apart(packed: Any, dt: float) -> tuple[int, int, int]:
    """The same towards standing still."""
    _rest_apart(packed, dt)
    found: tuple[int, int, int] = _advance_apart(packed, dt, False)
    return found


def _bind_follow_apart(
    packed: Any, targets: SolverTargets, grippers: Array
) -> Callable[[float], tuple[int, int, int]]:
    """`_follow_apart` of the same arrays in every tick."""
    seek = bind(_seek_apart, (packed, targets, grippers), (0.005,))
    advance = bind(_advance_apart, (packed,), (0.005, True))

    def follow(dt: float) -> tuple[int, int, int]:
        status = seek(dt)
        return (status, 0, 0) if status != SOLVED else advance(dt, True)

    return follow


class Solver:
    """Holds the goal and the previously published command of one robot."""

    def __init__(self, model: RobotModel, parameters: SolverParameters | None = None) -> None:
        self.model = model
        self.parameters = said = parameters or SolverParameters()
        self.layout = robot_tasks(model, said)
        n, m = len(model.joint_names), model.body_count
        self._limits = model.limits
        self._self_collision = SelfCollision(model) if said.self_collision else None
        self._goal_work = GoalWork.shared(
            m, len(self.layout.tree.names), MOST_ROWS if said.self_collision else 0
        )
        self._work = CommandWork.shared(n)
        self._approach = Approach(
            float(said.goal_average_s),
            float(said.settling_time_s),
            float(said.braking_share),
            float(said.contact_damping),
            float(said.contact_gap_m),
        )
        self._reach, self._no_reach = np.empty(m), np.full(m, 2.0 * np.pi)
        self._origin, self._led, self._lead = np.empty(m), np.zeros(m, dtype=np.bool_), np.zeros(m)
        self._outside = np.zeros(n, dtype=np.bool_)
        self._nothing_near = GoalRows.none(m)
        self._recovery = ArmRecovery(model, self.layout, said) if said.branch_recovery else None
        if self._recovery is not None:
            self._led, self._lead = self._recovery.led, self._recovery.lead
        self._motion = Motion(model.neutral.copy(), np.zeros(n), model.neutral.copy(), np.zeros(n))
        arrays = SolverArrays(
            self._motion,
            self.layout.tree.arrays,
            self.layout.arrays,
            self._limits,
            self._nothing_near,
            int(said.goal_steps),
            float(said.damping),
            float(said.residual_damping),
            self._approach,
            self._origin,
            self._reach,
            self._led,
            self._lead,
            self._outside,
            self._goal_work,
            self._work,
        )
        apart = self._self_collision
        self._aims = TargetLead.of_size(float(said.lead_time_s), m, len(POSE_SITES), MOST_ROWS)
        self._contact = np.zeros(1)
        self._packed = pack(
            arrays if apart is None else ApartArrays(arrays, apart.margins, self._aims, self._contact)
        )
        self._follow_given = _follow if apart is None else _follow_apart
        self._expected: tuple[SolverTargets | None, Array | None] = None, None
        self._body_goal, self._cost_gradient = self._motion.goal[:m], np.zeros(m)
        # Links that were nearer than their margin at the start: they come no nearer, and keep what they gain.
        self.starts_inside: tuple[tuple[str, str], ...] = ()
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

        Those are brought to the limit: a command never breaks it. Not counted is what a sensor makes of a
        joint that rests at its limit.
        """
        inside = np.clip(positions, self.model.lower, self.model.upper)
        self.q[:], self.v[:] = inside, 0.0
        self.reset_goal(inside)
        if self._self_collision is not None:
            self.starts_inside = self._self_collision.start(inside)
        return int(np.count_nonzero(np.abs(inside - positions) > SENSED))

    def reset_goal(self, positions: Array) -> None:
        """Let the search for the goal continue from `positions` ``(n,)``, at rest."""
        np.clip(positions, self.model.lower, self.model.upper, out=self.goal)
        self._motion.goal_velocity[:] = 0.0
        self._contact[:], self._aims.leads[:] = 0.0, 0.0
        if self._recovery is not None:
            self._recovery.reset()

    @property
    def recoveries(self) -> int:
        """How often an arm was led out of a wrong branch."""
        return 0 if self._recovery is None else self._recovery.recoveries

    def cost(self, q: Array, targets: SolverTargets) -> float:
        """What the goal's search brings down, at q ``(m,)`` (m²); its gradient is then in `cost_gradient`."""
        arrays = self.layout.arrays
        cost = float(quadratic_model(q, self.layout.tree.arrays, arrays, targets, self._goal_work.model))
        self._cost_gradient[:] = self._goal_work.model.gradient
        return cost

    @property
    def cost_gradient(self) -> Array:
        """Gradient ``(m,)`` of the cost where it was computed last."""
        return self._cost_gradient

    def improve_goal(self, targets: SolverTargets, steps: int) -> float:
        """`steps` Gauss-Newton steps of the goal inside the position limits; the cost before the last.

        By any amount, and whatever is in the way: for setting up and tests.
        """
        goal, limits, near = self.goal[: self.model.body_count], self._limits, self._nothing_near
        tree, tasks, damping = self.layout.tree.arrays, self.layout.arrays, self.parameters.damping
        status, cost = search_goal(
            goal, goal.copy(), self._no_reach, steps, damping, float(self.parameters.residual_damping), tree,
            tasks, targets, limits, near, self._goal_work,
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
        recovery = self._recovery
        if recovery is not None:
            recovery.fill_lead(self._body_goal, dt)
        if targets is self._expected[0] and gripper_positions is self._expected[1]:
            status, forced, until = self._follow_expected(dt)
        else:
            status, forced, until = self._follow_given(self._packed, targets, gripper_positions, dt)
        if status != SOLVED:
            self._check(status)
        step = self._step(forced, until)
        if recovery is not None:
            room = None if self._self_collision is None else self._room
            recovery.watch(self._body_goal, self.led(targets), room, dt)
        return step

    def led(self, targets: SolverTargets) -> SolverTargets:
        """What the last `follow`, with these targets, led them to; good until the next call."""
        if self._self_collision is None:
            return targets
        return targets._replace(positions=self._aims.positions, rotations=self._aims.rotations)

    def expect(self, targets: SolverTargets, gripper_positions: Array) -> None:
        """These very arrays come in the following ticks, filled anew each time: `follow` is faster then."""
        fixed = self._packed, targets, gripper_positions
        apart = self._self_collision is not None
        self._follow_expected = _bind_follow_apart(*fixed) if apart else bind(_follow, fixed, (0.005,))
        self._expected = targets, gripper_positions

    def _room(self, q: Array) -> Array:
        """What the robot's own distances exceed the margin by at q ``(m,)``, grippers as they are."""
        apart = self._self_collision
        if apart is None:
            return np.empty(0)
        full = np.concatenate([q, self.goal[self.model.body_count :]])
        return apart.collision.distances(full) - apart.collision.margins

    def brake(self, dt: float, towards: Array | None = None) -> Step:
        """One tick towards standing still, as fast as the limits allow, or to rest at `towards` ``(n,)``."""
        self.reset_goal(self.q if towards is None else towards)
        braking = _brake if self._self_collision is None else _brake_apart
        status, forced, until = braking(self._packed, dt)
        self._check(status)
        return self._step(forced, until)

    def _step(self, forced: int, until: int) -> Step:
        """`until`: no joint from this row on was clipped."""
        clipped: tuple[str, ...] = ()
        if until:
            names = zip(self.model.joint_names[:until], self._outside[:until].tolist(), strict=True)
            clipped = tuple(name for name, outside in names if outside)
        motion, apart = self._motion, self._self_collision
        if apart is None:
            return Step(motion.q.copy(), motion.v.copy(), clipped, forced)
        leads = self._aims.leads.copy() if self._aims.leads.any() else None
        return Step(motion.q.copy(), motion.v.copy(), clipped, forced, apart.clearance, apart.how > 0, leads)
