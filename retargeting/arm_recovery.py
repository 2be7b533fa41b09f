"""Out of the wrong branch: a rival of the goal, sought where a wrist stays away from a target at rest.

The goal is followed from tick to tick, so a motion that is too violent to follow can leave an arm where
Gauss-Newton finds no way on: an elbow or a shoulder turned the other way. While the trainer moves nothing
is done about it: going over to another branch costs more than it brings as long as the target goes
elsewhere meanwhile. Phases:

- *watching*: a wrist of the goal is away from its target, and the targets have been still for a while.
- *searching*: two searches without limits of speed, a few steps each per tick. One goes on from the goal
  and says where it will come to by itself: a goal that is only late comes home and ends the search. The
  other, the rival, starts from the arm's seeds in closed form (`arm_seed`), then from mirrored, neutral
  and spread postures in turn. Of those that have all wrists at their targets the one nearest to the neutral
  posture, elbows as asked for, is taken; none: all stays.
- *passing*: the joints of those arms and of the waist lead the goal to the rival in a straight line, at a
  share of their speed; everything else is solved for as ever. The rival goes on following
  the targets meanwhile. With self-collision the way is *checked* first: one that breaks a margin is not
  taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_seed import MOST_CANDIDATES, arm_seeds, robot_arms
from retargeting.body_points import SIDES
from retargeting.bounds import check_bounds
from retargeting.box_qp import SOLVED
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays, forward
from retargeting.packed import pack
from retargeting.robot_model import RobotModel
from retargeting.solver_parameters import SolverParameters
from retargeting.tasks import (
    SolverTargets,
    TaskArrays,
    TaskLayout,
    place_site,
    quadratic_model,
    rotation_error,
)

Array = NDArray[np.float64]
# The distances of what must stay apart at joints ``(m,)``, less what they must be.
Room = Callable[[Array], Array]

_SEEDS, _SPREAD = 3, 3
_KINDS = 5 + _SPREAD
_SAMPLES = 200
# The goal speeds up and brakes on its way with this share of the acceleration limits. Where no joint is
# farther off than that, its own search finds the rest of the way.
_ACCELERATION_SHARE, _ARRIVED_RAD = 0.9, 0.2


class Phase(Enum):
    WATCHING = "watching"
    SEARCHING = "searching"
    CHECKING = "checking"
    PASSING = "passing"


@dataclass(frozen=True)
class RecoveryParameters:
    """When an arm is suspected to be in the wrong branch, and how it is led out.

    A wrist is away where its pose costs as much as a distance of `away_m`, looked at every `watch_ticks` once
    no wrist's target has moved faster than `still_m_s` for `still_s`. Each rival has `search_ticks` to
    settle, and arrives if no wrist is off by more than `arrived_m`. A passing takes `speed_share` of the
    velocity limits. After it, or after all rivals have failed, nothing is sought for `rest_s`. With
    self-collision a way is checked in `way_points` places.
    """

    away_m: float = 0.01
    arrived_m: float = 0.01
    still_m_s: float = 0.05
    still_s: float = 0.25
    watch_ticks: int = 3
    search_ticks: int = 6
    rival_steps: int = 2
    speed_share: float = 0.5
    rest_s: float = 0.5
    way_points: int = 12

    def __post_init__(self) -> None:
        bounds = {
            "away_m": (0.001, 1.0),
            "arrived_m": (0.001, 1.0),
            "still_m_s": (0.0, 10.0),
            "still_s": (0.0, 60.0),
            "watch_ticks": (1, 1000),
            "search_ticks": (1, 1000),
            "rival_steps": (1, 1000),
            "speed_share": (0.01, 1.0),
            "rest_s": (0.0, 60.0),
            "way_points": (1, 1000),
        }
        check_bounds(self, bounds, "recovery parameter")


class SearchArrays(NamedTuple):
    """What the searches beside the goal read, and where they work; `reach` ``(m,)``: anywhere."""

    tree: TreeArrays
    tasks: TaskArrays
    limits: JointLimits
    near: GoalRows
    reach: Array
    damping: float
    residual_damping: float
    work: GoalWork


@compiled
def _settle(packed, q, steps, targets):  # type: ignore[no-untyped-def]
    """`steps` steps of the goal's search on q ``(m,)``, in place, without a limit of speed; its status."""
    a = packed.content
    status, _ = search_goal(
        q,
        q,
        a.reach,
        steps,
        a.damping,
        a.residual_damping,
        a.tree,
        a.tasks,
        targets,
        a.limits,
        a.near,
        a.work,
    )
    return status


@compiled
def _wrist_costs(packed, q, targets, costs):  # type: ignore[no-untyped-def]
    """Fill `costs` ``(2,)`` (m²) with what the wrists' poses cost at q ``(m,)``."""
    tree, tasks, model = packed.content.tree, packed.content.tasks, packed.content.work.model
    positions, rotations = model.positions, model.rotations
    forward(tree, q, positions, rotations)
    for k in range(2):
        costs[k] = 0.0
        place_site(tasks, k, positions, rotations, model.point, model.current)
        if tasks.position_weights[k] > 0.0:
            squared = 0.0
            for r in range(3):
                squared += (model.point[r] - targets.positions[k, r]) ** 2
            costs[k] += 0.5 * tasks.position_weights[k] ** 2 * squared
        if tasks.orientation_weights[k] > 0.0:
            rotation_error(targets.rotations[k], model.current, model.residual)
            squared = model.residual[0] ** 2 + model.residual[1] ** 2 + model.residual[2] ** 2
            costs[k] += 0.5 * tasks.orientation_weights[k] ** 2 * squared


@compiled
def _whole_cost(packed, q, targets):  # type: ignore[no-untyped-def]
    """What the goal's search brings down, posture and elbows included, at q ``(m,)`` (m²)."""
    a = packed.content
    return quadratic_model(q, a.tree, a.tasks, targets, a.work.model)


@compiled
def _seed(packed, arm, k, targets, q, elbow_weight, seeds, scores, candidates, excess, missed):  # type: ignore[no-untyped-def]
    """`arm_seeds` of the arm of wrist k for its targets, the carrier as at q ``(m,)``."""
    a = packed.content
    positions, rotations = a.work.model.positions, a.work.model.rotations
    forward(a.tree, q, positions, rotations)
    return arm_seeds(
        arm, targets.positions[k], targets.rotations[k], targets.elbow_directions[k],
        positions[arm.carrier], rotations[arm.carrier], q, a.limits.lower, a.limits.upper,
        a.tasks.posture, a.tasks.posture_weights, elbow_weight, seeds, scores, candidates, excess, missed,
    )  # fmt: skip


class ArmRecovery:
    """Watches one robot's goal and leads it out of a wrong branch. `recoveries`: how often it did.

    led, lead ``(m,)``: which joints of the goal are led in this tick, and by how much.
    reasons: per side why its arm has no seeds in closed form (empty where it has).
    """

    def __init__(
        self,
        model: RobotModel,
        layout: TaskLayout,
        solver: SolverParameters,
        parameters: RecoveryParameters | None = None,
    ) -> None:
        self.parameters = parameters or RecoveryParameters()
        m = model.body_count
        self._name = model.name
        self._lower, self._upper = model.lower[:m], model.upper[:m]
        self._neutral = model.neutral[:m]
        self._velocity = self.parameters.speed_share * model.velocity[:m]
        self._acceleration = _ACCELERATION_SHARE * model.acceleration[:m]
        self._elbow_weight_m = float(solver.elbow_weight_m)
        self._chains = {
            side: np.array(
                [model.joint_names.index(name) for name in model.description.chains[f"{side}_arm"]]
            )
            for side in SIDES
            if model.description.chains[f"{side}_arm"] and f"{side}_wrist" in model.description.sites
        }
        waist = [model.joint_names.index(name) for name in model.description.chains["waist"]]
        self._waist = np.array(waist, dtype=np.int64)
        arms = robot_arms(model, layout)
        self._arms = {side: arm for side, (arm, _) in arms.items() if arm is not None}
        self.reasons = {side: reason for side, (_, reason) in arms.items()}
        self._spread = _spread_postures(self._lower, self._upper, self._neutral, _SPREAD)
        self._packed = pack(
            SearchArrays(
                layout.tree.arrays,
                layout.arrays,
                model.limits,
                GoalRows.none(m),
                np.full(m, 2.0 * np.pi),
                float(solver.damping),
                float(solver.residual_damping),
                GoalWork.of_size(m, len(layout.tree.names), 0),
            )
        )
        self._costs = np.empty(2)
        self._seeds = {side: np.empty((_SEEDS, len(arm.coordinates))) for side, arm in self._arms.items()}
        self._work = {
            side: (np.empty(_SEEDS), np.empty((MOST_CANDIDATES, n)), np.empty((MOST_CANDIDATES, n)),
                   np.empty(MOST_CANDIDATES))
            for side, n in ((side, len(arm.coordinates)) for side, arm in self._arms.items())
        }  # fmt: skip
        self._rival, self._shadow = np.empty(m), np.empty(m)
        self._asked, self._best = np.zeros((2, 3)), np.empty(m)
        self._passing = np.zeros(m, dtype=np.bool_)
        self.led, self.lead = np.zeros(m, dtype=np.bool_), np.zeros(m)
        self.recoveries = 0
        # Compiles (or loads) what would else stop the tick in which the first search begins.
        somewhere = SolverTargets(np.zeros((3, 3)), np.tile(np.eye(3), (3, 1, 1)), np.zeros((2, 3)))
        self._settle(self._neutral.copy(), 1, somewhere)
        self._cost_of(self._neutral, somewhere)
        _whole_cost(self._packed, self._neutral, somewhere)
        for side in self._arms:
            self._seed(side, somewhere, self._neutral)
        self.reset()

    def reset(self) -> None:
        """Forget what was suspected or sought."""
        self.phase = Phase.WATCHING
        self._ticks = self._number = 0
        self._resting_s = self._still_s = 0.0
        self._best_cost = np.inf
        self._arrives, self._speed = False, 0.0
        self._wrong: tuple[str, ...] = ()
        self.led[:] = False
        self.lead[:] = 0.0

    def fill_lead(self, goal: Array, dt: float) -> None:
        """Before the goal's own steps: fill `led` and `lead` for this tick; goal ``(m,)``."""
        if self.phase is not Phase.PASSING:
            return
        way = np.where(self._passing, self._rival - goal, 0.0)
        size = np.abs(way)
        self._arrives = bool(size.max() <= _ARRIVED_RAD)
        # As a command can follow it: speeding up, and braking in time.
        ticks = size / (self._velocity * dt)
        slowest = int(np.argmax(ticks))
        limit = float(self._acceleration[slowest] / self._velocity[slowest])
        left = float(ticks[slowest]) * dt
        room = 2.0 * left / (dt + np.sqrt(dt * dt + 2.0 * left / limit))
        self._speed = min(1.0, self._speed + limit * dt, room)
        share = min(1.0, self._speed / max(float(ticks[slowest]), 1e-9))
        self.led[:] = self._passing
        self.lead[:] = share * way

    def watch(self, goal: Array, targets: SolverTargets, room: Room | None, dt: float) -> None:
        """After the goal's own steps: suspect, seek, decide. `room`: with self-collision."""
        parameters = self.parameters
        self._ticks += 1
        moved_m = float(np.abs(targets.positions[:2] - self._asked).max())
        self._asked[:] = targets.positions[:2]
        self._still_s = self._still_s + dt if moved_m <= parameters.still_m_s * dt else 0.0
        if self.phase is Phase.PASSING:
            if self.led.any() and self._arrives:
                self._rest()
            else:
                self._settle(self._rival, 1, targets)
        elif self.phase is Phase.WATCHING:
            self._resting_s = max(0.0, self._resting_s - dt)
            still = self._still_s >= parameters.still_s and self._resting_s == 0.0
            if still and self._ticks % parameters.watch_ticks == 0:
                self._begin(goal, targets, room is not None)
        elif self._still_s == 0.0:
            self.reset()
        elif self.phase is Phase.SEARCHING:
            self._settle(self._shadow, 1, targets)
            self._settle(self._rival, parameters.rival_steps, targets)
            if self._ticks >= parameters.search_ticks:
                self._decide(goal, targets, room is not None)
        elif room is not None:
            self._settle(self._rival, 1, targets)
            self._check(goal, targets, room)

    def _rest(self) -> None:
        self.reset()
        self._resting_s = self.parameters.rest_s

    def _settle(self, q: Array, steps: int, targets: SolverTargets) -> None:
        status = _settle(self._packed, q, steps, targets)
        if status != SOLVED:
            raise RetargetingError(f"{self._name}: a quadratic problem of the recovery failed ({status})")

    def _cost_of(self, q: Array, targets: SolverTargets) -> Array:
        _wrist_costs(self._packed, q, targets, self._costs)
        return self._costs

    def _away(self, costs: Array, away_m: float) -> tuple[str, ...]:
        limit = 0.5 * away_m**2
        return tuple(side for k, side in enumerate(SIDES) if side in self._chains and costs[k] > limit)

    def _begin(self, goal: Array, targets: SolverTargets, checked: bool) -> None:
        """Start the next rival, and where the goal will come to; after the last take the best.

        checked: whether the way there has to be checked first.
        """
        self._wrong = self._away(self._cost_of(goal, targets), self.parameters.away_m)
        if not self._wrong:
            self._number, self._best_cost = 0, np.inf
            self.phase = Phase.WATCHING
            return
        if self._number == _KINDS:
            if not np.isfinite(self._best_cost):
                self._rest()
                return
            self._rival[:] = self._best
            self.phase, self._ticks = Phase.CHECKING, 0
            if not checked:
                self._pass()
            return
        self.phase, self._ticks = Phase.SEARCHING, 0
        self._shadow[:] = goal
        rival = self._rival
        rival[:] = goal
        # Seeds where the waist is, seeds with a straight waist, then other branches and what needs no seeds.
        kind = self._number
        self._number += 1
        if kind in (1, 4):
            rival[self._waist] = self._neutral[self._waist]
        rank = {0: 0, 1: 0, 2: 1, 3: 2}.get(kind)
        for side in self._wrong:
            chain = self._chains[side]
            found = self._seed(side, targets, rival) if rank is not None and side in self._arms else 0
            if rank is not None and rank < found:
                rival[chain] = self._seeds[side][rank]
            elif kind in (0, 1, 4):
                rival[chain] = self._neutral[chain]
            elif kind == 2:
                rival[chain] = np.clip(
                    self._lower[chain] + self._upper[chain] - goal[chain],
                    self._lower[chain],
                    self._upper[chain],
                )
            else:
                rival[chain] = self._spread[(kind - 3) % _SPREAD][chain]

    def _seed(self, side: str, targets: SolverTargets, rival: Array) -> int:
        """Fill the seeds of one arm, its carrier as at `rival` ``(m,)``; returns how many there are."""
        k = SIDES.index(side)
        weight = self._elbow_weight_m if targets.elbow_directions[k].any() else 0.0
        found: int = _seed(
            self._packed, self._arms[side], k, targets, rival, weight, self._seeds[side], *self._work[side]
        )
        return found

    def _decide(self, goal: Array, targets: SolverTargets, checked: bool) -> None:
        if not self._away(self._cost_of(self._shadow, targets), self.parameters.away_m):
            # Only late: it comes home by itself.
            self._rest()
            return
        if not self._away(self._cost_of(self._rival, targets), self.parameters.arrived_m):
            # Of those that arrive the one nearest to the neutral posture, elbows as they are asked for.
            cost = float(_whole_cost(self._packed, self._rival, targets))
            if cost < self._best_cost:
                self._best_cost = cost
                self._best[:] = self._rival
        self._begin(goal, targets, checked)

    def _pass(self) -> None:
        self.phase = Phase.PASSING
        self.recoveries += 1
        self._arrives, self._speed = False, 0.0
        self._passing[:] = False
        self._passing[self._waist] = True
        for side in self._wrong:
            self._passing[self._chains[side]] = True

    def _check(self, goal: Array, targets: SolverTargets, room: Room) -> None:
        """One more place of the way there, the far end first; a way that comes too near is dropped."""
        number = self._ticks - 1
        share = 1.0 - number / self.parameters.way_points
        if bool((room(goal + share * (self._rival - goal)) < np.minimum(room(goal), 0.0)).any()):
            self._rest()
        elif number + 1 >= self.parameters.way_points:
            self._pass()


def _spread_postures(lower: Array, upper: Array, neutral: Array, count: int) -> list[Array]:
    """Postures inside the limits, each as far as can be from the neutral one and the ones before (seeded)."""
    low, high = np.maximum(lower, neutral - np.pi), np.minimum(upper, neutral + np.pi)
    pool = np.random.default_rng(0).uniform(low, high, (_SAMPLES, len(lower)))
    scale = np.maximum(high - low, 1e-9)
    chosen = [neutral]
    for _ in range(count):
        nearest = np.min([np.linalg.norm((pool - one) / scale, axis=1) for one in chosen], axis=0)
        chosen.append(pool[int(np.argmax(nearest))])
    return chosen[1:]
