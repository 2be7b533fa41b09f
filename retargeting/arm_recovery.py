"""Out of the wrong branch: a rival of the goal, sought where a wrist stays away from a target at rest.

The goal is followed from tick to tick, so a motion that is too violent to follow can leave an arm where
Gauss-Newton finds no way on: an elbow or a shoulder turned the other way. While the trainer moves nothing
is done about it: going over to another branch costs more than it brings as long as the target goes
elsewhere meanwhile. Phases:

- *watching*: a wrist of the goal is away from its target, and the targets have been still for a while.
- *searching*: beside the goal, a few steps per tick. A shadow goes on from the goal and says where it comes
  to by itself. A rival walks from the neutral posture to the targets, as a calm motion would have led
  there. Where that does not arrive, others start from the arm's seeds in closed form (`arm_seed`), then
  from mirrored, neutral and spread postures; of those that are far better, and lead back to the neutral
  posture when their targets do, the one with the least cost is taken. Then the way to it is *tried*, at
  the speeds it would have, and what it costs on the way is added up.
- *waiting*: until the target has been still for so long that staying has cost what the way costs. So,
  however soon the trainer moves on, no more is lost than twice what the better choice would have cost.
  A way that takes longer to pay waits for a long rest.
- *passing*: the joints of those arms, and of the waist where it must move, lead the goal to the rival in a
  straight line, at a moderate speed; everything else is solved for as ever. The rival goes on following
  the targets meanwhile. With self-collision the way is checked first: one that breaks a margin is not
  taken.

What was not worth it is not sought again before the targets have moved.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_seed import robot_arms
from retargeting.body_points import SIDES
from retargeting.bounds import check_bounds
from retargeting.branch_search import BranchSearch
from retargeting.robot_model import RobotModel
from retargeting.solver_parameters import SolverParameters
from retargeting.tasks import SolverTargets, TaskLayout

Array = NDArray[np.float64]
# The distances of what must stay apart at joints ``(m,)``, less what they must be.
Room = Callable[[Array], Array]

_SPREAD, _SAMPLES = 3, 200
# The goal speeds up and brakes on its way with these shares of the limits. Where no joint is
# farther off than that, its own search finds the rest of the way.
_VELOCITY_SHARE, _ACCELERATION_SHARE, _ARRIVED_RAD = 0.9, 0.9, 0.2
# A way is tried in steps of so long, so many per tick, up to so long, and so long after its end.
_TRIED_STEP_S, _TRIED_STEPS, _TRIED_S, _AFTERWARDS_S = 0.02, 4, 3.0, 0.4
# Of the time it took when it was tried a passing takes no more than so many times.
_OVERDUE = 2.0
# By whole turns a joint gets no nearer than that to a limit.
_FREE_RAD = 1.0
# One radian of a target's turn counts as so much of its motion.
_LEVER_M = 0.15


class Phase(Enum):
    WATCHING = "watching"
    SEARCHING = "searching"
    WAITING = "waiting"
    PASSING = "passing"


@dataclass(frozen=True)
class RecoveryParameters:
    """When an arm is suspected to be in the wrong branch, and how it is led out.

    Distances are a wrist's, with its orientation counted by the weight it has in the solver. It is away at
    `away_m`, looked at every `watch_ticks`, once no wrist's target has moved faster than `still_m_s` for
    `still_s`. A rival has `search_ticks` to settle, a walk takes `walk_ticks`, with `rival_steps` in each; it
    is better where the wrist is off by at most `arrived_m` or `better_share` of what it would be, and no
    other wrist is off by more than `arrived_m` beyond what it would be. A passing is no faster than
    `speed_rad_s`. One that pays within `soon_s` is begun then, one that pays later not before a rest of
    `long_rest_s`, one that pays after more than `longest_wait_s` never. With self-collision a way is checked
    in `way_points` places.
    """

    away_m: float = 0.02
    arrived_m: float = 0.01
    better_share: float = 0.3
    still_m_s: float = 0.05
    still_s: float = 0.5
    watch_ticks: int = 4
    search_ticks: int = 6
    walk_ticks: int = 24
    rival_steps: int = 2
    speed_rad_s: float = 3.0
    soon_s: float = 1.0
    long_rest_s: float = 3.0
    longest_wait_s: float = 4.0
    way_points: int = 12

    def __post_init__(self) -> None:
        bounds = {
            "away_m": (0.001, 1.0),
            "arrived_m": (0.001, 1.0),
            "better_share": (0.0, 0.9),
            "still_m_s": (0.0, 10.0),
            "still_s": (0.0, 60.0),
            "watch_ticks": (1, 1000),
            "search_ticks": (1, 1000),
            "walk_ticks": (1, 1000),
            "rival_steps": (1, 1000),
            "speed_rad_s": (0.01, 100.0),
            "soon_s": (0.0, 60.0),
            "long_rest_s": (0.0, 60.0),
            "longest_wait_s": (0.0, 60.0),
            "way_points": (1, 1000),
        }
        check_bounds(self, bounds, "recovery parameter")


class _Way:
    """From a goal to a rival: the joints that lead, speeding up and braking as a command can follow it."""

    def __init__(self, leading: NDArray[np.bool_], velocity: Array, acceleration: Array) -> None:
        self.leading, self.arrives = leading, False
        self._velocity, self._acceleration, self._speed = velocity, acceleration, 0.0

    def lead(self, goal: Array, rival: Array, dt: float) -> Array:
        """What the leading joints move by in this tick ``(m,)``, 0 for others; `arrives`: at its end."""
        way = np.where(self.leading, rival - goal, 0.0)
        size = np.abs(way)
        self.arrives = bool(size.max() <= _ARRIVED_RAD)
        ticks = size / (self._velocity * dt)
        slowest = int(np.argmax(ticks))
        limit = float(self._acceleration[slowest] / self._velocity[slowest])
        left = float(ticks[slowest]) * dt
        room = 2.0 * left / (dt + np.sqrt(dt * dt + 2.0 * left / limit))
        self._speed = min(1.0, self._speed + limit * dt, room)
        lead: Array = min(1.0, self._speed / max(float(ticks[slowest]), 1e-9)) * way
        return lead


@dataclass
class _Plan:
    """A rival ``(m,)``, which joints lead there, how long the target must have been still, and how long the
    way took when it was tried."""

    rival: Array
    leading: NDArray[np.bool_]
    wait_s: float
    lasts_s: float


class ArmRecovery:
    """Watches one robot's goal and leads it out of a wrong branch. `recoveries`: how often it did.

    led, lead ``(m,)``: which joints of the goal are led in this tick, and by how much. `searches`: how often
    a rival was sought. reasons: per side why its arm has no seeds in closed form (empty where it has).
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
        self._lower, self._upper = model.lower[:m], model.upper[:m]
        self._neutral, self._full_velocity = model.neutral[:m], model.velocity[:m]
        bounded = np.isfinite(self._lower) & np.isfinite(self._upper)
        self._middle = self._neutral.copy()
        self._middle[bounded] = 0.5 * (self._lower[bounded] + self._upper[bounded])
        self._velocity = np.minimum(self.parameters.speed_rad_s, _VELOCITY_SHARE * model.velocity[:m])
        self._acceleration = _ACCELERATION_SHARE * model.acceleration[:m]
        chains = model.description.chains
        self._chains = {
            side: np.array([model.joint_names.index(name) for name in chains[f"{side}_arm"]])
            for side in SIDES
            if chains[f"{side}_arm"] and f"{side}_wrist" in model.description.sites
        }
        self._waist = np.array([model.joint_names.index(name) for name in chains["waist"]], dtype=np.int64)
        arms = robot_arms(model, layout)
        self.reasons = {side: reason for side, (_, reason) in arms.items()}
        self._search = BranchSearch(
            model, layout, solver, {side: arm for side, (arm, _) in arms.items() if arm is not None}
        )
        self._spread = _spread_postures(self._lower, self._upper, self._neutral, _SPREAD)
        self._asked = np.zeros((2, 3))
        self._asked_turns = np.zeros((2, 3, 3))
        self._shadow = np.empty(m)
        self.led, self.lead = np.zeros(m, dtype=np.bool_), np.zeros(m)
        self.recoveries = self.searches = self._ticks = 0
        self._unseen_s = 0.0
        self.reset()

    def reset(self) -> None:
        """Forget what was suspected or sought."""
        self.phase = Phase.WATCHING
        self._still_s, self._passed_s, self._given_up = 0.0, 0.0, False
        self._seeking: Iterator[None] | None = None
        self._plan: _Plan | None = None
        self._way: _Way | None = None
        self.led[:] = False
        self.lead[:] = 0.0

    def fill_lead(self, goal: Array, dt: float) -> None:
        """Before the goal's own steps: fill `led` and `lead` for this tick; goal ``(m,)``."""
        if self._way is None or self._plan is None:
            return
        self.lead[:] = self._way.lead(goal, self._plan.rival, dt)
        self.led[:] = self._plan.leading

    def watch(self, goal: Array, targets: SolverTargets, room: Room | None, dt: float) -> None:
        """After the goal's own steps: suspect, seek, decide. `room`: with self-collision."""
        parameters = self.parameters
        self._ticks, self._unseen_s = self._ticks + 1, self._unseen_s + dt
        if self.phase is Phase.WATCHING and self._ticks % parameters.watch_ticks:
            return
        moved = float(np.abs(targets.positions[:2] - self._asked).max())
        turned = float(np.abs(targets.rotations[:2] - self._asked_turns).max())
        self._asked[:], self._asked_turns[:] = targets.positions[:2], targets.rotations[:2]
        if max(moved, _LEVER_M * turned) <= parameters.still_m_s * self._unseen_s:
            self._still_s += self._unseen_s
        elif self.phase is Phase.PASSING:
            self._still_s = 0.0
        elif self._still_s > 0.0 or self._given_up:
            self.reset()
        self._unseen_s = 0.0
        if self._still_s == 0.0 and self.phase is Phase.WATCHING:
            return
        if self.phase is Phase.PASSING:
            self._pass_on(goal, targets, dt)
        elif self.phase is Phase.SEARCHING:
            self._seek_on(goal, targets)
        elif self.phase is Phase.WAITING:
            self._wait(goal, targets, room)
        elif self._still_s >= parameters.still_s and not self._given_up and self._away(goal, targets).any():
            self.phase, self.searches = Phase.SEARCHING, self.searches + 1
            self._shadow[:] = goal
            self._seeking = self._seek(goal, targets, room)

    def _away(self, q: Array, targets: SolverTargets) -> NDArray[np.bool_]:
        away: NDArray[np.bool_] = self._search.distances(q, targets) > self.parameters.away_m
        return away

    def _give_up(self) -> None:
        still_s = self._still_s
        self.reset()
        self._still_s, self._given_up = still_s, True

    def _pass_on(self, goal: Array, targets: SolverTargets, dt: float) -> None:
        plan, way = self._plan, self._way
        if plan is None or way is None:
            self.reset()
            return
        self._passed_s += dt
        if way.arrives:
            still_s = self._still_s
            self.reset()
            # Where it did not help it is not tried again from there.
            self._still_s, self._given_up = still_s, bool(self._away(goal, targets).any())
        elif self._passed_s > _OVERDUE * plan.lasts_s:
            # Something, such as a margin, is in the way that was not when it was tried.
            self._give_up()
        else:
            self._settle_leading(plan.rival, goal, plan.leading, 1, targets)

    def _seek_on(self, goal: Array, targets: SolverTargets) -> None:
        self._search.settle(self._shadow, self.parameters.rival_steps, targets)
        if self._seeking is not None and next(self._seeking, self) is None:
            return
        if self._plan is None:
            self._give_up()
        else:
            self.phase = Phase.WAITING

    def _wait(self, goal: Array, targets: SolverTargets, room: Room | None) -> None:
        plan = self._plan
        if plan is None or not self._away(goal, targets).any():
            self._give_up()
            return
        self._settle_leading(plan.rival, goal, plan.leading, 1, targets)
        if self._still_s >= plan.wait_s:
            self.phase, self.recoveries = Phase.PASSING, self.recoveries + 1
            self._way = _Way(plan.leading, self._velocity, self._acceleration)

    # ---- the search, a step per tick

    def _seek(self, goal: Array, targets: SolverTargets, room: Room | None) -> Iterator[None]:
        """Sets `_plan` where a rival is worth it. `targets` are taken as they are at the beginning."""
        search, parameters = self._search, self.parameters
        targets = SolverTargets(*(array.copy() for array in targets))
        search.set_out(targets)
        rival = self._neutral.copy()
        yield from self._walk(rival, True)
        search.settle(rival, parameters.search_ticks, targets)
        best, least = None, np.inf
        if self._improved(rival, targets).any():
            best = rival
        for start in () if best is not None else self._starts(goal, targets):
            rival = start
            for _ in range(parameters.search_ticks):
                search.settle(rival, parameters.rival_steps, targets)
                yield
            cost = search.cost(rival, targets)
            if cost < least and self._improved(rival, targets).any():
                back = rival.copy()
                yield from self._walk(back, False)
                if (search.distances(back, search.between(0.0)) <= parameters.arrived_m).all():
                    best, least = rival, cost
        if best is None:
            return
        self._unwind(best, goal)
        leading = self._arms_of(self._improved(best, targets))
        # The arms alone, if they get there with the waist where it is: it is slow, and turns the other arm.
        alone = best.copy()
        for _ in range(parameters.search_ticks):
            self._settle_leading(alone, goal, leading, parameters.rival_steps, targets)
            yield
        improved = self._improved(alone, targets)
        if improved.any():
            best, leading = alone, self._arms_of(improved)
        else:
            leading[self._waist] = True
        if not leading.any():
            return
        yield from self._try(goal.copy(), best, leading, targets)
        if self._plan is not None and room is not None:
            yield from self._check(goal, best, room)

    def _arms_of(self, wrists: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """The joints ``(m,)`` of the arms of some wrists ``(2,)``."""
        joints = np.zeros(len(self._neutral), dtype=np.bool_)
        for k, side in enumerate(SIDES):
            if wrists[k]:
                joints[self._chains[side]] = True
        return joints

    def _settle_leading(
        self, rival: Array, goal: Array, leading: NDArray[np.bool_], steps: int, targets: SolverTargets
    ) -> None:
        """The rival ``(m,)`` goes on with the joints that lead, the others where the goal has them."""
        rival[~leading] = goal[~leading]
        self._search.settle_near(rival, rival, np.where(leading, 2.0 * np.pi, 0.0), steps, targets)

    def _unwind(self, rival: Array, goal: Array) -> None:
        """Joints of the rival ``(m,)`` that can turn all round, by whole turns next to the goal."""
        turn = 2.0 * np.pi
        nearer = rival + turn * np.round((goal - rival) / turn)
        inside = (nearer >= self._lower + _FREE_RAD) & (nearer <= self._upper - _FREE_RAD)
        rival[inside] = nearer[inside]

    def _walk(self, q: Array, there: bool) -> Iterator[None]:
        """q ``(m,)`` follows the targets from the neutral posture there, or back."""
        ticks = self.parameters.walk_ticks
        for k in range(1, ticks + 1):
            share = k / ticks if there else 1.0 - k / ticks
            self._search.settle(q, self.parameters.rival_steps, self._search.between(share))
            yield

    def _starts(self, goal: Array, targets: SolverTargets) -> Iterator[Array]:
        """Seeds where the waist is, with a straight waist, then other branches and what needs no seeds."""
        wrong = [side for k, side in enumerate(SIDES) if self._away(goal, targets)[k]]
        for rank, straight, other in (
            (0, False, self._neutral),
            (0, True, self._neutral),
            (1, False, self._middle - (goal - self._middle)),
            (2, False, self._spread[0]),
            (None, True, self._neutral),
            *((None, False, spread) for spread in self._spread),
        ):
            start = goal.copy()
            if straight:
                start[self._waist] = self._neutral[self._waist]
            for side in wrong:
                chain = self._chains[side]
                seeds = self._search.seeds(side, targets, start) if rank is not None else ()
                other_arm = np.clip(other[chain], self._lower[chain], self._upper[chain])
                start[chain] = seeds[rank] if rank is not None and rank < len(seeds) else other_arm
            yield start

    def _improved(self, rival: Array, targets: SolverTargets) -> NDArray[np.bool_]:
        """Which wrists ``(2,)`` are away and far better off at `rival`; none where another is worse off."""
        parameters = self.parameters
        now, then = self._search.distances(self._shadow, targets), self._search.distances(rival, targets)
        if (then > now + parameters.arrived_m).any():
            return np.zeros(2, dtype=np.bool_)
        enough = np.maximum(parameters.arrived_m, parameters.better_share * now)
        improved: NDArray[np.bool_] = (now > parameters.away_m) & (then <= enough)
        return improved

    def _try(
        self, q: Array, rival: Array, leading: NDArray[np.bool_], targets: SolverTargets
    ) -> Iterator[None]:
        """The way from q ``(m,)``, changed, as it would be passed; sets `_plan` where it leads there."""
        search, step_s = self._search, _TRIED_STEP_S
        way = _Way(leading, self._velocity, self._acceleration)
        costs: list[float] = []
        after_s = 0.0
        while len(costs) * step_s < _TRIED_S and after_s < _AFTERWARDS_S:
            for _ in range(_TRIED_STEPS):
                reach = self._full_velocity * step_s
                if way.arrives:
                    after_s += step_s
                else:
                    q += way.lead(q, rival, step_s)
                    reach = np.where(leading, 0.0, reach)
                search.settle_near(q, q.copy(), reach, 3, targets)
                costs.append(float(search.distances(q, targets).sum()))
            yield
        if not self._improved(q, targets).any():
            return
        staying = float(search.distances(self._shadow, targets).sum())
        gain = staying - float(search.distances(q, targets).sum())
        if gain > 0.0:
            pays_after_s = max(0.0, float(np.sum(np.array(costs) - staying)) * step_s / gain)
            soon = pays_after_s <= self.parameters.soon_s
            wait_s = pays_after_s if soon else max(pays_after_s, self.parameters.long_rest_s)
            if wait_s <= self.parameters.longest_wait_s:
                self._plan = _Plan(rival, leading, wait_s, len(costs) * step_s)

    def _check(self, goal: Array, rival: Array, room: Room) -> Iterator[None]:
        """One more place of the way there per tick, the far end first; one that comes too near drops it."""
        here = np.minimum(room(goal), 0.0)
        for number in range(self.parameters.way_points):
            share = 1.0 - number / self.parameters.way_points
            if bool((room(goal + share * (rival - goal)) < here).any()):
                self._plan = None
                return
            yield


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
