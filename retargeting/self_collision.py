"""Keeps one robot's capsules apart: the state that goes with each published command, and work space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED
from retargeting.collision_braking import MOST_ROWS, goal_rows, raise_kept, safe_velocity
from retargeting.collision_pairs import collision_model
from retargeting.goal_search import GoalRows
from retargeting.joint_limits import JointLimits
from retargeting.robot_model import RobotModel
from retargeting.row_qp import INFEASIBLE, RowQpWork

Array = NDArray[np.float64]

# The margin is kept with this to spare, so that another program's rounding does not see it broken.
_GUARD_M = 1e-6
# The goal keeps this much more, so that a command at rest on its goal rests on no row.
_GOAL_SPARE_M = 0.003


class Clearance(NamedTuple):
    """The smallest distance between two capsules that are kept apart, and their links.

    `distance_m` is `retargeting.collision_braking.REPORTED_M` and `links` None where all are farther.
    """

    distance_m: float
    links: tuple[str, str] | None


class SelfCollision:
    """The margins of a robot, seen from its previously published command."""

    def __init__(self, model: RobotModel) -> None:
        self.collision = collision_model(model)
        c, tree = self.collision, self.collision.tree
        n, capsules, pairs = len(model.joint_names), len(c.capsules), len(c.pairs)
        self._tree = tree.arrays
        spheres = 0.5 * np.linalg.norm(c.ends - c.starts, axis=1) + c.radii
        self._hull = (c.bodies, c.starts, c.ends, c.radii, c.pairs, c.common, c.levers, c.turns, spheres)
        self._limits = JointLimits(model.lower, model.upper, model.velocity, model.acceleration)
        bodies = len(tree.names)
        self._work = (
            np.empty((bodies, 3)), np.empty((bodies, 3, 3)),
            np.empty((capsules, 3)), np.empty((capsules, 3)),
            np.empty((pairs, 4, 3)), np.empty((pairs, 4, 3)), np.empty((4, 3)),
            np.empty(pairs, dtype=np.int64), np.empty(pairs, dtype=np.int64),
            np.empty((pairs, 3)), np.empty((pairs, 3)),
            np.empty(pairs), np.empty(pairs), np.empty(pairs), np.empty(pairs),
            np.empty(n), np.empty(n, dtype=np.int64), np.empty(capsules),
            np.empty(n), np.empty(n), np.empty(n), np.empty(n), np.empty(MOST_ROWS),
        )  # fmt: skip
        self._qp_work = (
            np.empty(n), np.empty(n), np.empty(n),
            np.empty((MOST_ROWS, n)), np.empty(MOST_ROWS), np.empty(MOST_ROWS),
            np.empty(MOST_ROWS, dtype=np.int64),
            np.empty((4 * MOST_ROWS, n)), np.empty(4 * MOST_ROWS),
            np.empty(n), RowQpWork.of_size(n, 4 * MOST_ROWS),
        )  # fmt: skip
        self._full_m = c.margin_m + _GUARD_M
        self._kept = np.full(pairs, self._full_m)
        self._bounds = np.empty(pairs)
        self._stop_times = np.zeros(n)
        self._rows, self._gaps = np.empty((MOST_ROWS, n)), np.empty(MOST_ROWS)
        self._owners, self._count = np.empty(MOST_ROWS, dtype=np.int64), np.zeros(1, dtype=np.int64)
        self._goal_rows = np.empty((MOST_ROWS, model.body_count))
        self._goal_gaps, self._goal_owners = np.empty(MOST_ROWS), np.empty(MOST_ROWS, dtype=np.int64)
        self._links = c.link_pairs()
        self._missing = 0
        self._longest_tick = 0.0
        self.clearance = Clearance(np.inf, None)
        self.how = 0
        # Quadratic problems that failed: the stop was taken instead.
        self.unsolved = 0

    def start(self, q: Array) -> tuple[tuple[str, str], ...]:
        """Take q ``(n,)``, at rest, as published; the pairs of links that are too near there.

        Those keep the distance they have, and the margin from when they have it.
        """
        distances = self.collision.distances(q)
        self._kept = np.minimum(self._full_m, distances)
        self._missing = int(np.count_nonzero(distances < self._full_m))
        self._stop_times[:] = 0.0
        self._count[0] = 0
        return tuple(self._links[p] for p in np.flatnonzero(distances < self.collision.margin_m))

    def velocity(
        self, q: Array, v: Array, wanted: Array, low: Array, high: Array, hessian: Array, weighed: bool,
        dt: float, chosen: Array,
    ) -> None:  # fmt: skip
        """Fill `chosen` ``(n,)``, see `retargeting.collision_braking.safe_velocity`; it will be published."""
        self._longest_tick = max(self._longest_tick, dt)
        status, self.how, smallest, closest = safe_velocity(
            self._tree, self._hull, self._limits, self._kept, q, v, wanted, low, high, hessian, weighed, dt,
            self._longest_tick, self._stop_times, self._bounds, self._rows, self._gaps, self._owners,
            self._count, chosen, self._work, self._qp_work,
        )  # fmt: skip
        self.unsolved += status not in (SOLVED, INFEASIBLE)
        if self._missing:
            self._missing = raise_kept(self._kept, self._bounds, self._full_m)
        self.clearance = Clearance(smallest, None if closest < 0 else self._links[closest])

    def goal_rows(self, goal: Array) -> GoalRows:
        """The pairs that are near at `goal` ``(n,)``; overwritten by the next call."""
        count = goal_rows(
            self._tree, self._hull, self._limits, goal, self._full_m + _GOAL_SPARE_M,
            self._goal_rows.shape[1], self._goal_rows, self._goal_gaps, self._goal_owners, self._work,
        )  # fmt: skip
        return GoalRows(self._goal_rows, self._goal_gaps, int(count))
