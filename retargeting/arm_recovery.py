"""Out of the wrong branch: a rival of the goal, sought beside it when a wrist stays away from its target.

The goal is followed from tick to tick, so a motion that is too violent to follow can leave an arm where
Gauss-Newton finds no way on: an elbow or a shoulder turned the other way. Three phases:

- *watching*: a wrist of the goal is away from its target for a while.
- *searching*: two searches without limits of speed, a few steps per tick each. One goes on from the goal and says where it
  will come to by itself: a goal that is only late comes home and ends the search. The other, the rival, starts from the arm's
  seeds in closed form (`arm_seed`), then from the neutral, the mirrored and some spread postures. A rival
  wins if its wrists cost much less than both the goal's and where the goal will come to. So a target out
  of reach moves no arm unless another branch comes much nearer, and two branches that are about as good never alternate.
- *passing*: the joints of those arms and of the waist lead the goal to the rival, in a straight line, as fast as
  their velocity limits allow; everything else is solved for as ever. The rival goes on following the
  targets meanwhile. With self-collision a way that breaks a margin is not taken.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

import numba
import numpy as np
from numpy.typing import NDArray

from retargeting.arm_seed import MOST_CANDIDATES, arm_seeds, robot_arms
from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.kinematics import forward
from retargeting.robot_model import RobotModel
from retargeting.tasks import TaskLayout, rotation_error

Array = NDArray[np.float64]
# Steps of the goal's own search on joints ``(m,)``, in place and without a limit of speed; returns the cost.
Settle = Callable[[Array, int], float]
# The distances of what must stay apart at joints ``(m,)``, less what they must be, one each; None: nothing must.
Room = Callable[[Array], Array]

_SEEDS, _SPREAD = 3, 3
_SAMPLES = 200


class Phase(Enum):
    WATCHING = "watching"
    SEARCHING = "searching"
    CHECKING = "checking"
    PASSING = "passing"


@dataclass(frozen=True)
class RecoveryParameters:
    """When an arm is suspected to be in the wrong branch, and when a rival wins.

    A wrist is away where its pose costs as much as a distance of `away_m`, seen every `watch_ticks`, `watches` times.
    Each rival has `search_ticks` to settle; it wins with less than `share` of the wrists' cost. After a
    passing nothing is sought for `rest_s`. With self-collision its way is checked in `way_points` places.
    """

    away_m: float = 0.01
    watch_ticks: int = 4
    watches: int = 3
    search_ticks: int = 10
    rival_steps: int = 2
    share: float = 0.3
    rest_s: float = 0.3
    way_points: int = 12

    def __post_init__(self) -> None:
        for name in ("watch_ticks", "watches", "search_ticks", "rival_steps", "way_points"):
            if not 1 <= getattr(self, name) <= 1000:
                raise RetargetingError(
                    f"recovery parameter {name}: {getattr(self, name)} is outside 1 .. 1000"
                )
        for name in ("away_m", "share", "rest_s"):
            if not (np.isfinite(getattr(self, name)) and getattr(self, name) >= 0.0):
                raise RetargetingError(
                    f"recovery parameter {name}: {getattr(self, name)!r} must be finite and not negative"
                )
        if self.share >= 1.0:
            raise RetargetingError(f"recovery parameter share: {self.share:g} must be below 1")


@numba.njit(cache=True)
def wrist_costs(  # type: ignore[no-untyped-def]
    q, tree, site_bodies, site_positions, site_rotations, position_weights, orientation_weights,
    targets, target_rotations, positions, rotations, costs,
):  # fmt: skip
    """Fill `costs` ``(2,)`` with what the wrists' poses cost at q ``(m,)``; positions, rotations: the bodies'."""
    forward(tree, q, positions, rotations)
    current, error = np.empty((3, 3)), np.empty(3)
    for k in range(2):
        costs[k] = 0.0
        body = site_bodies[k]
        if position_weights[k] > 0.0:
            squared = 0.0
            for r in range(3):
                away = positions[body, r] - targets[k, r]
                for c in range(3):
                    away += rotations[body, r, c] * site_positions[k, c]
                squared += away * away
            costs[k] += 0.5 * position_weights[k] ** 2 * squared
        if orientation_weights[k] > 0.0:
            for r in range(3):
                for c in range(3):
                    current[r, c] = 0.0
                    for i in range(3):
                        current[r, c] += rotations[body, r, i] * site_rotations[k, i, c]
            rotation_error(target_rotations[k], current, error)
            costs[k] += 0.5 * orientation_weights[k] ** 2 * (error[0] ** 2 + error[1] ** 2 + error[2] ** 2)


class ArmRecovery:
    """Watches one robot's goal and leads it out of a wrong branch. `recoveries`: how often it did.

    `reasons`: per side why its arm has no seeds in closed form (empty where it has).
    """

    def __init__(
        self, model: RobotModel, layout: TaskLayout, elbow_weight_m: float, parameters: RecoveryParameters
    ) -> None:
        self.parameters = parameters
        self._layout = layout
        m = model.body_count
        self._lower, self._upper = model.lower[:m], model.upper[:m]
        self._neutral, self._velocity = model.neutral[:m], model.velocity[:m]
        self._elbow_weight_m = elbow_weight_m
        self._chains = {
            side: np.array([model.joint_names.index(name) for name in model.description.chains[f"{side}_arm"]])
            for side in SIDES
            if model.description.chains[f"{side}_arm"] and f"{side}_wrist" in model.description.sites
        }
        waist = [model.joint_names.index(name) for name in model.description.chains["waist"]]
        self._waist = np.array(waist, dtype=np.int64)
        arms = robot_arms(model, layout)
        self._arms = {side: arm for side, (arm, _) in arms.items() if arm is not None}
        self.reasons = {side: reason for side, (_, reason) in arms.items()}
        self._spread = _spread_postures(self._lower, self._upper, self._neutral, _SPREAD)
        bodies = len(layout.tree.names)
        self._positions, self._rotations = np.empty((bodies, 3)), np.empty((bodies, 3, 3))
        self._costs, self._other_costs = np.empty(2), np.empty(2)
        self._seeds = {side: np.empty((_SEEDS, len(arm.coordinates))) for side, arm in self._arms.items()}
        self._work = (np.empty(_SEEDS), np.empty(MOST_CANDIDATES))
        self._rival, self._shadow = np.empty(m), np.empty(m)
        self._passing = np.zeros(m, dtype=np.bool_)
        self._shares = np.empty(m)
        self.recoveries = 0
        self.reset()

    def reset(self) -> None:
        """Forget what was suspected or sought."""
        self.phase = Phase.WATCHING
        self._ticks = self._seen = self._number = 0
        self._resting_s = 0.0
        self._wrong: tuple[str, ...] = ()

    def lead(self, goal: Array, reach: Array, dt: float) -> None:
        """Before the goal's own steps: move what passes of `goal` ``(m,)`` on, and keep it there in `reach` ``(m,)``.

        `reach` is how far the goal's steps may move each joint; both are changed in place.
        """
        if self.phase is not Phase.PASSING:
            return
        way = np.where(self._passing, self._rival - goal, 0.0)
        left = float((np.abs(way) / (self._velocity * dt)).max())
        if left <= 1.0:
            goal += way
            self.reset()
            self._resting_s = self.parameters.rest_s
        else:
            goal += way / left
        reach[self._passing] = 0.0

    def watch(
        self, goal: Array, targets: tuple[Array, Array, Array], settle: Settle, room: Room | None, dt: float
    ) -> None:
        """After the goal's own steps: suspect, seek, decide. targets: positions, rotations, elbow directions."""
        parameters = self.parameters
        self._ticks += 1
        if self.phase is Phase.PASSING:
            settle(self._rival, 1)
        elif self.phase is Phase.WATCHING:
            self._resting_s = max(0.0, self._resting_s - dt)
            if self._ticks % parameters.watch_ticks == 0 and self._resting_s == 0.0:
                self._wrong = self._away(self._cost_of(goal, targets, self._costs))
                self._seen = self._seen + 1 if self._wrong else 0
                if self._seen >= parameters.watches:
                    self._number = 0
                    self._begin(goal, targets)
        elif self.phase is Phase.SEARCHING:
            settle(self._shadow, 1)
            settle(self._rival, parameters.rival_steps)
            if self._ticks >= parameters.search_ticks:
                self._decide(goal, targets, room is not None)
        elif self.phase is Phase.CHECKING and room is not None:
            settle(self._rival, 1)
            self._check(goal, targets, room)

    def _cost_of(self, q: Array, targets: tuple[Array, Array, Array], costs: Array) -> Array:
        layout = self._layout
        wrist_costs(
            q, layout.tree.arrays, layout.site_bodies, layout.site_positions, layout.site_rotations,
            layout.position_weights, layout.orientation_weights, targets[0], targets[1],
            self._positions, self._rotations, costs,
        )  # fmt: skip
        return costs

    def _away(self, costs: Array) -> tuple[str, ...]:
        limit = 0.5 * self.parameters.away_m**2
        return tuple(side for k, side in enumerate(SIDES) if side in self._chains and costs[k] > limit)

    def _begin(self, goal: Array, targets: tuple[Array, Array, Array]) -> None:
        """Start the next rival, and where the goal will come to."""
        self._wrong = self._away(self._cost_of(goal, targets, self._costs))
        if not self._wrong:
            self.reset()
            return
        self.phase, self._ticks = Phase.SEARCHING, 0
        self._shadow[:] = goal
        rival = self._rival
        rival[:] = goal
        # Seeds where the waist is, seeds with a straight waist, then other branches and what needs no seeds.
        kind = self._number % (5 + _SPREAD)
        self._number += 1
        if kind in (1, 4):
            rival[self._waist] = self._neutral[self._waist]
        rank = {0: 0, 1: 0, 2: 1, 3: 2}.get(kind)
        if rank is not None:
            forward(self._layout.tree.arrays, rival, self._positions, self._rotations)
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

    def _seed(self, side: str, targets: tuple[Array, Array, Array], rival: Array) -> int:
        """Fill the seeds of one arm, its carrier as in `self._positions`; returns how many there are."""
        k, arm = SIDES.index(side), self._arms[side]
        direction = targets[2][k]
        n = len(arm.coordinates)
        scores, missed = self._work
        found: int = arm_seeds(
            arm, targets[0][k], targets[1][k], direction,
            self._positions[arm.carrier], self._rotations[arm.carrier],
            rival, self._lower, self._upper, self._neutral, self._layout.posture_weights,
            self._elbow_weight_m if direction.any() else 0.0, self._seeds[side], scores,
            np.empty((MOST_CANDIDATES, n)), np.empty((MOST_CANDIDATES, n)), missed,
        )  # fmt: skip
        return found

    def _decide(self, goal: Array, targets: tuple[Array, Array, Array], check: bool) -> None:
        ours = float(self._cost_of(goal, targets, self._costs).sum())
        shadow_costs = self._cost_of(self._shadow, targets, self._costs)
        if not self._away(shadow_costs):
            # Only late: it comes home by itself.
            self.reset()
            return
        stays = min(ours, float(shadow_costs.sum()))
        rival = float(self._cost_of(self._rival, targets, self._other_costs).sum())
        if rival < self.parameters.share * stays - 0.5 * self.parameters.away_m**2 * self.parameters.share:
            self._ticks = 0
            self.phase = Phase.CHECKING if check else Phase.PASSING
            if not check:
                self._pass()
        else:
            self._begin(goal, targets)

    def _pass(self) -> None:
        self.phase = Phase.PASSING
        self.recoveries += 1
        self._passing[:] = False
        self._passing[self._waist] = True
        for side in self._wrong:
            self._passing[self._chains[side]] = True

    def _check(self, goal: Array, targets: tuple[Array, Array, Array], room: Room) -> None:
        """One more place of the way there, the far end first; a way that comes too near is dropped."""
        number = self._ticks - 1
        share = 1.0 - number / self.parameters.way_points
        if bool((room(goal + share * (self._rival - goal)) < np.minimum(room(goal), 0.0)).any()):
            self._begin(goal, targets)
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
