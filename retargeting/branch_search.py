"""What is computed beside the goal when another branch is sought: searches, distances, seeds, walks.

All of it is free of limits of speed and leaves the goal alone; `arm_recovery` decides what to do about it.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_seed import MOST_CANDIDATES, ArmGeometry, arm_seeds
from retargeting.body_points import SIDES
from retargeting.box_qp import SOLVED
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.frames import pose_from_matrix
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays, forward
from retargeting.packed import pack
from retargeting.pose_blend import blend_directions, blend_poses, split_poses
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import robot_posture
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

MOST_SEEDS = 3


class SearchArrays(NamedTuple):
    """What the searches read, and where they work."""

    tree: TreeArrays
    tasks: TaskArrays
    limits: JointLimits
    near: GoalRows
    damping: float
    residual_damping: float
    work: GoalWork


@compiled
def _settle(packed, q, origin, reach, steps, targets):  # type: ignore[no-untyped-def]
    """`steps` steps of the goal's search on q ``(m,)``, in place, up to `reach` from `origin`; its status."""
    a = packed.content
    status, _ = search_goal(
        q, origin, reach, steps, a.damping, a.residual_damping, a.tree, a.tasks, targets, a.limits, a.near,
        a.work,
    )  # fmt: skip
    return status


@compiled
def _wrist_distances(packed, q, targets, distances):  # type: ignore[no-untyped-def]
    """Fill `distances` ``(2,)`` (m) with how far the wrists are at q ``(m,)``, orientation as its weight."""
    tree, tasks, model = packed.content.tree, packed.content.tasks, packed.content.work.model
    positions, rotations = model.positions, model.rotations
    forward(tree, q, positions, rotations)
    for k in range(2):
        squared = 0.0
        place_site(tasks, k, positions, rotations, model.point, model.current)
        if tasks.position_weights[k] > 0.0:
            for r in range(3):
                away = tasks.position_weights[k] * (model.point[r] - targets.positions[k, r])
                squared += away * away
        if tasks.orientation_weights[k] > 0.0:
            rotation_error(targets.rotations[k], model.current, model.residual)
            for r in range(3):
                squared += (tasks.orientation_weights[k] * model.residual[r]) ** 2
        distances[k] = np.sqrt(squared)


@compiled
def _whole_cost(packed, q, targets):  # type: ignore[no-untyped-def]
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


class _SeedWork:
    """Room for the seeds ``(k, n)`` of one arm."""

    def __init__(self, arm: ArmGeometry) -> None:
        n = len(arm.coordinates)
        self.arm, self.seeds = arm, np.empty((MOST_SEEDS, n))
        self.others = (
            np.empty(MOST_SEEDS),
            np.empty((MOST_CANDIDATES, n)),
            np.empty((MOST_CANDIDATES, n)),
            np.empty(MOST_CANDIDATES),
        )


class BranchSearch:
    """Searches of one robot; `arms`: those with seeds in closed form, by side."""

    def __init__(
        self, model: RobotModel, layout: TaskLayout, solver: SolverParameters, arms: dict[str, ArmGeometry]
    ) -> None:
        m = model.body_count
        self._name = model.name
        self._elbow_weight_m = float(solver.elbow_weight_m)
        self._anywhere = np.full(m, 2.0 * np.pi)
        self._distances = np.empty(2)
        self._packed = pack(
            SearchArrays(
                layout.tree.arrays,
                layout.arrays,
                model.limits,
                GoalRows.none(m),
                float(solver.damping),
                float(solver.residual_damping),
                GoalWork.of_size(m, len(layout.tree.names), 0),
            )
        )
        self._seeds = {side: _SeedWork(arm) for side, arm in arms.items()}
        neutral = model.neutral[:m].copy()
        home = robot_posture(layout, neutral)
        self._home, self._home_directions = home.poses, home.directions
        self._there, self._there_directions = home.poses.copy(), home.directions.copy()
        self._poses = home.poses.copy()
        k, d = len(home.poses), len(home.directions)
        self._between = SolverTargets(np.empty((k, 3)), np.empty((k, 3, 3)), np.empty((d, 3)))
        # Compiles (or loads) what would else stop the tick in which the first search begins.
        targets = self.between(0.0)
        self.settle(neutral, 1, targets)
        self.distances(neutral, targets)
        self.cost(neutral, targets)
        for side in self._seeds:
            self.seeds(side, targets, neutral)

    def settle(self, q: Array, steps: int, targets: SolverTargets) -> None:
        """`steps` steps of the goal's search on q ``(m,)``, in place, by any amount."""
        self.settle_near(q, q, self._anywhere, steps, targets)

    def settle_near(self, q: Array, origin: Array, reach: Array, steps: int, targets: SolverTargets) -> None:
        """The same, no joint farther than `reach` ``(m,)`` from `origin` ``(m,)``."""
        status = _settle(self._packed, q, origin, reach, steps, targets)
        if status != SOLVED:
            raise RetargetingError(f"{self._name}: a quadratic problem of the recovery failed ({status})")

    def distances(self, q: Array, targets: SolverTargets) -> Array:
        """How far each wrist is from its target at q ``(m,)``, ``(2,)`` (m), orientation counted by its
        weight; 0 where the robot has none."""
        _wrist_distances(self._packed, q, targets, self._distances)
        distances: Array = self._distances.copy()
        return distances

    def cost(self, q: Array, targets: SolverTargets) -> float:
        """What the goal's search brings down, posture and elbows included, at q ``(m,)`` (m²)."""
        return float(_whole_cost(self._packed, q, targets))

    def seeds(self, side: str, targets: SolverTargets, q: Array) -> Array:
        """Seeds ``(k, n)`` of one arm, the best first, its carrier as at q ``(m,)``; maybe none."""
        work = self._seeds.get(side)
        if work is None:
            return np.empty((0, 0))
        k = SIDES.index(side)
        weight = self._elbow_weight_m if targets.elbow_directions[k].any() else 0.0
        found = _seed(self._packed, work.arm, k, targets, q, weight, work.seeds, *work.others)
        return work.seeds[:found]

    def set_out(self, targets: SolverTargets) -> None:
        """Where the walks between the neutral posture and `targets` end."""
        matrices = np.tile(np.eye(4), (len(targets.positions), 1, 1))
        matrices[:, :3, :3], matrices[:, :3, 3] = targets.rotations, targets.positions
        self._there, self._there_directions = pose_from_matrix(matrices), targets.elbow_directions.copy()

    def between(self, share: float) -> SolverTargets:
        """Targets on the way from the neutral posture (0) to where `set_out` said (1); one array for all."""
        between = self._between
        blend_poses(self._home, self._there, share, self._poses)
        split_poses(self._poses, between.positions, between.rotations)
        blend_directions(self._home_directions, self._there_directions, share, between.elbow_directions)
        return between
