"""A robot's waist: how it leans and turns as the trainer's trunk does, and where its shoulders are then."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.box_qp import SOLVED
from retargeting.errors import RetargetingError
from retargeting.frames import rotation_matrix_from_quaternion
from retargeting.goal_search import GoalRows, GoalWork, search_goal
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import build_tree
from retargeting.robot_model import RobotModel
from retargeting.tasks import SolverTargets, TaskArrays

Array = NDArray[np.float64]

# From the neutral posture, of which a little is kept so that joints that do not turn the chest stay.
_STEPS, _POSTURE_WEIGHT, _DAMPING = 6, 0.01, 1e-6
_TURNING = ("revolute", "continuous")


class RobotWaist:
    """The waist's joints ``(w,)`` in the order of `robot.yaml`, the chest that they carry and its shoulders.

    shoulders: ``(3,)`` per side in the root, in the neutral posture.
    """

    def __init__(self, model: RobotModel, shoulders: dict[str, Array]) -> None:
        names = model.description.chains["waist"]
        count = len(names)
        chest = model.urdf.joints[names[-1]].child
        held = model.neutral_positions()
        tree, body_of = build_tree(
            model.urdf, names, {name: held[name] for name in held if name not in names}, keep=[chest]
        )
        self._model, self._tree, self._row = model, tree, tree.index(body_of[chest][0])
        # The chains begin with the waist's, see `RobotModel`.
        self.neutral = model.neutral[:count].copy()
        self._limits = JointLimits(
            model.lower[:count], model.upper[:count], model.velocity[:count], model.acceleration[:count]
        )
        positions, rotations = tree.body_poses(self.neutral)
        self._neutral_rotation = rotations[self._row].copy()
        self._shoulders = {
            side: self._neutral_rotation.T @ (shoulder - positions[self._row])
            for side, shoulder in shoulders.items()
        }
        self._tasks = TaskArrays(
            site_bodies=np.array([self._row]),
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
        )
        self._targets = SolverTargets(np.zeros((1, 3)), np.empty((1, 3, 3)), np.zeros((0, 3)))
        self._anywhere = np.full(count, 4.0 * np.pi)
        self._near, self._work = GoalRows.none(count), GoalWork.of_size(count, len(tree.names), 0)

    def posture(self, turn: Array) -> Array:
        """The joints ``(w,)`` that bring the chest nearest to `turn` ``(4,)`` from its neutral orientation.

        Inside the position limits; `turn` in the axes of the root. Raises `RetargetingError` where it is
        not finite.
        """
        self._targets.rotations[0] = rotation_matrix_from_quaternion(turn) @ self._neutral_rotation
        q = self.neutral.copy()
        status, _ = search_goal(
            q, self.neutral, self._anywhere, _STEPS, _DAMPING, self._tree.arrays, self._tasks, self._targets,
            self._limits, self._near, self._work,
        )  # fmt: skip
        if status != SOLVED:
            raise RetargetingError(f"{self._model.name}: the waist cannot be turned by {turn.tolist()}")
        result: Array = q
        return result

    def shoulders(self, posture: Array) -> dict[str, Array]:
        """Where the shoulders are ``(3,)`` in the root with the waist at `posture` ``(w,)``."""
        positions, rotations = self._tree.body_poses(posture)
        place, turn = positions[self._row], rotations[self._row]
        found: dict[str, Array] = {s: place + turn @ shoulder for s, shoulder in self._shoulders.items()}
        return found


def robot_waist(model: RobotModel, shoulders: dict[str, Array]) -> RobotWaist | None:
    """The waist of a robot; None where it has none that turns."""
    names = model.description.chains["waist"]
    if not any(model.urdf.joints[name].kind in _TURNING for name in names):
        return None
    return RobotWaist(model, shoulders)
