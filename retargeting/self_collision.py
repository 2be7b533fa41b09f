"""Keeps one robot's capsules apart: the state that goes with each published command, and work space."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.collision_braking import (
    FINE_GOAL_ROW_GAP_M,
    FINE_ROW_GAP_M,
    GOAL_ROW_GAP_M,
    MOST_ROWS,
    ROW_GAP_M,
    GoalRowsRoom,
    Hull,
    Margins,
    MarginState,
    ProofWork,
    VelocityWork,
    joint_bits,
)
from retargeting.collision_cache import collision_model
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

# The margin is kept with this to spare, so that another program's rounding does not see it broken.
_GUARD_M = 1e-6


class Clearance(NamedTuple):
    """The smallest distance between two capsules that are kept apart, and their links.

    Of links with a margin of their own it is as much above the robot's margin as they are above theirs.
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
        spheres = 0.5 * np.linalg.norm(c.ends - c.starts, axis=1) + c.radii
        movers = joint_bits(c.movers)
        full_m, bodies = c.margins + _GUARD_M, len(tree.names)
        self._links = c.link_pairs()
        self.margins = Margins(
            tree.arrays,
            Hull(
                c.bodies,
                c.starts,
                c.ends,
                c.radii,
                c.pairs,
                c.common,
                c.levers,
                c.turns,
                spheres,
                movers,
                full_m,
                full_m + c.goal_spares,
                c.margin_m - c.margins,
                np.where(c.fine, FINE_ROW_GAP_M, ROW_GAP_M),
                np.where(c.fine, FINE_GOAL_ROW_GAP_M, GOAL_ROW_GAP_M),
            ),
            model.limits,
            MarginState.of_size(n, pairs),
            GoalRowsRoom(
                np.empty((MOST_ROWS, model.body_count)),
                np.empty(MOST_ROWS),
                np.empty(MOST_ROWS, dtype=np.int64),
            ),
            ProofWork.of_size(n, bodies, capsules, pairs, movers.shape[1]),
            VelocityWork.of_size(n),
        )
        self.start(model.neutral)

    @property
    def clearance(self) -> Clearance:
        """At the last command."""
        state = self.margins.state
        pair = int(state.found[1])
        return Clearance(float(state.smallest[0]), None if pair < 0 else self._links[pair])

    @property
    def how(self) -> int:
        """How the last velocity was found, see `safe_velocity`."""
        return int(self.margins.state.found[0])

    @property
    def unsolved(self) -> int:
        """Quadratic problems that failed: the stop was taken instead."""
        return int(self.margins.state.found[2])

    def start(self, q: Array) -> tuple[tuple[str, str], ...]:
        """Take q ``(n,)``, at rest, as published; the pairs of links that are too near there.

        Those keep the distance they have, and the margin from when they have it.
        """
        distances = self.collision.distances(q)
        state = self.margins.state
        state.kept[:] = np.minimum(self.margins.hull.full_m, distances)
        state.missing[0] = np.count_nonzero(distances < self.margins.hull.full_m)
        state.stop_times[:] = 0.0
        state.counts[0] = 0
        state.smallest[0], state.found[1] = np.inf, -1
        return tuple(self._links[p] for p in np.flatnonzero(distances < self.collision.margins))
