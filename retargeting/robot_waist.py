"""A robot's waist: how it leans and turns as the trainer's trunk does, and where its shoulders are then."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.box_qp import SOLVED
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import TreeArrays, build_tree, forward
from retargeting.packed import pack
from retargeting.quaternions import rotation_matrix
from retargeting.robot_model import RobotModel
from retargeting.tasks import SolverTargets, TaskArrays

Array = NDArray[np.float64]

# From the neutral posture, of which a little is kept so that joints that do not turn the chest stay.
_STEPS, _POSTURE_WEIGHT, _DAMPING = 6, 0.01, 1e-6
_TURNING = ("revolute", "continuous")


class _WaistArrays(NamedTuple):
    """chest: its row in the tree, rotation ``(3, 3)``: its neutral one, shoulders ``(2, 3)``: in it,
    zero for a side without."""

    tree: TreeArrays
    tasks: TaskArrays
    targets: SolverTargets
    limits: JointLimits
    anywhere: Array
    near: GoalRows
    work: GoalWork
    chest: int
    rotation: Array
    shoulders: Array
    turn: Array


@compiled
def follow_trunk(packed, turn, posture, shoulders):  # type: ignore[no-untyped-def]
    """Fill posture ``(w,)`` and shoulders ``(2, 3)``; the status of the search. See `RobotWaist.follow`.

    packed: a `RobotWaist`'s.
    """
    waist = packed.content
    tasks, work, wanted = waist.tasks, waist.work, waist.targets.rotations[0]
    rotation_matrix(turn, waist.turn)
    for r in range(3):
        for c in range(3):
            wanted[r, c] = 0.0
            for k in range(3):
                wanted[r, c] += waist.turn[r, k] * waist.rotation[k, c]
    posture[:] = tasks.posture
    status, _ = search_goal(
        posture, tasks.posture, waist.anywhere, _STEPS, _DAMPING, 0.0, waist.tree, tasks,
        waist.targets, waist.limits, waist.near, work,
    )  # fmt: skip
    positions, rotations, chest = work.model.positions, work.model.rotations, waist.chest
    forward(waist.tree, posture, positions, rotations)
    for s in range(shoulders.shape[0]):
        for r in range(3):
            shoulders[s, r] = positions[chest, r]
            for k in range(3):
                shoulders[s, r] += rotations[chest, r, k] * waist.shoulders[s, k]
    return status


class RobotWaist:
    """The waist's joints ``(w,)`` in the order of `robot.yaml`, the chest that they carry and its shoulders.

    shoulders: ``(3,)`` per side in the root, in the neutral posture. `packed` is what compiled code takes.
    """

    def __init__(self, model: RobotModel, shoulders: dict[str, Array]) -> None:
        names = model.description.chains["waist"]
        count = len(names)
        chest = model.urdf.joints[names[-1]].child
        held = {name: value for name, value in model.neutral_positions().items() if name not in names}
        tree, body_of = build_tree(model.urdf, names, held, keep=[chest])
        row = tree.index(body_of[chest][0])
        self._model = model
        self._sides = [side for side in SIDES if side in shoulders]
        # The chains begin with the waist's, see `RobotModel`.
        self.neutral = model.neutral[:count].copy()
        positions, rotations = tree.body_poses(self.neutral)
        tasks = TaskArrays(
            site_bodies=np.array([row]),
            site_positions=np.zeros((1, 3)),
            site_rotations=np.eye(3)[None],
            position_weights=np.zeros(1),
            orientation_weights=np.ones(1),
            from_bodies=np.zeros(0, dtype=np.int64),
            from_positions=np.zeros((0, 3)),
            to_bodies=np.zeros(0, dtype=np.int64),
            to_positions=np.zeros((0, 3)),
            direction_weights=np.zeros(0),
            posture_weights=np.full(count, _POSTURE_WEIGHT),
            posture=self.neutral,
            trunk=np.zeros(count, dtype=np.bool_),
        )
        rows = np.zeros((len(SIDES), 3))
        for side in self._sides:
            rows[SIDES.index(side)] = rotations[row].T @ (shoulders[side] - positions[row])
        limits = JointLimits(*(array[:count] for array in model.limits))
        self.packed: Any = pack(
            _WaistArrays(
                tree.arrays,
                tasks,
                SolverTargets(np.zeros((1, 3)), np.empty((1, 3, 3)), np.zeros((0, 3))),
                limits,
                np.full(count, 4.0 * np.pi),
                GoalRows.none(count),
                GoalWork.shared(count, len(tree.names), 0),
                row,
                rotations[row].copy(),
                rows,
                np.empty((3, 3)),
            )
        )

    def follow(self, turn: Array) -> tuple[Array, dict[str, Array]]:
        """The joints ``(w,)`` that bring the chest nearest to `turn` ``(4,)`` from its neutral orientation.

        Inside the position limits; `turn` in the axes of the root. With them the shoulders ``(3,)`` per side
        in the root. Raises `RetargetingError` where `turn` is not finite.
        """
        posture, shoulders = np.empty(len(self.neutral)), np.empty((len(SIDES), 3))
        self.fill(turn, posture, shoulders)
        return posture, {side: shoulders[SIDES.index(side)] for side in self._sides}

    def fill(self, turn: Array, posture: Array, shoulders: Array) -> None:
        """The same into posture ``(w,)`` and shoulders ``(2, 3)`` in the order of `SIDES`."""
        self.check(follow_trunk(self.packed, turn, posture, shoulders), turn)

    def check(self, status: int, turn: Array) -> None:
        """Raise the `RetargetingError` of a search that failed for `turn` ``(4,)``."""
        if status != SOLVED:
            raise RetargetingError(f"{self._model.name}: the waist cannot be turned by {turn.tolist()}")


def robot_waist(model: RobotModel, shoulders: dict[str, Array]) -> RobotWaist | None:
    """The waist of a robot; None where it has none that turns."""
    names = model.description.chains["waist"]
    if not any(model.urdf.joints[name].kind in _TURNING for name in names):
        return None
    return RobotWaist(model, shoulders)
