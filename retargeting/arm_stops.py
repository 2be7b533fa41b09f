"""What keeps a wrist from its target: a joint at its end, or an arm that is too short."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.applied_command import ArmStop, StopKind
from retargeting.body_points import SIDES
from retargeting.robot_body import RobotBody
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

# Nearer than this the hand is where it is wanted.
_MISSED_M, _MISSED_RAD = 0.02, 0.17
# A joint this near to its limit (share of its range) is at it.
_AT_LIMIT_SHARE = 2e-3


class ArmStops:
    """Judges where the goal of the inverse kinematics ended: it has no speed limit that could explain a miss
    for longer than a moment."""

    def __init__(self, model: RobotModel, body: RobotBody) -> None:
        self._body = body
        self._names = model.joint_names
        room = _AT_LIMIT_SHARE * (model.upper - model.lower)
        self._low, self._high = model.lower + room, model.upper - room
        chains = model.description.chains
        self._joints = {
            side: np.array([self._names.index(name) for name in chains[f"{side}_arm"]], dtype=np.int64)
            for side in body.shoulders
        }

    def of(
        self, goal: Array, positions: Array, rotations: Array, targets: Array
    ) -> dict[str, tuple[ArmStop, ...]]:
        """Per side what stops it; empty for a side whose wrist is where it is wanted.

        goal ``(n,)``; positions ``(3, 3)``, rotations ``(3, 3, 3)`` of the sites there and targets
        ``(3, 7)``, in the order of `retargeting.solver.POSE_SITES`.
        """
        stops = {}
        for side, joints in self._joints.items():
            k = SIDES.index(side)
            wanted = targets[k]
            missed_m = positions[k] - wanted[:3]
            if missed_m @ missed_m <= _MISSED_M**2 and _turn(rotations[k], wanted[3:]) <= _MISSED_RAD:
                continue
            found = [
                ArmStop(StopKind.LIMIT, self._names[i])
                for i in joints.tolist()
                if not self._low[i] < goal[i] < self._high[i]
            ]
            away = wanted[:3] - self._body.shoulders[side]
            if away @ away > self._body.reach_m[side] ** 2:
                found.append(ArmStop(StopKind.REACH))
            if found:
                stops[side] = tuple(found)
        return stops


def _turn(rotation: Array, wanted: Array) -> float:
    """Angle (rad) between a matrix ``(3, 3)`` and a quaternion ``(4,)``, by the trace of their difference."""
    x, y, z, w = wanted.tolist()
    m = rotation
    trace = (
        m[0, 0] * (1 - 2 * (y * y + z * z)) + m[1, 1] * (1 - 2 * (x * x + z * z))
        + m[2, 2] * (1 - 2 * (x * x + y * y))
        + (m[0, 1] + m[1, 0]) * 2 * x * y + (m[0, 2] + m[2, 0]) * 2 * x * z + (m[1, 2] + m[2, 1]) * 2 * y * z
        + (m[1, 0] - m[0, 1]) * 2 * z * w + (m[0, 2] - m[2, 0]) * 2 * y * w + (m[2, 1] - m[1, 2]) * 2 * x * w
    )  # fmt: skip
    return float(np.arccos(min(1.0, max(-1.0, 0.5 * (trace - 1.0)))))
