"""What keeps a wrist from its target: a joint at its end, an arm that is too short, a margin."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.applied_command import ArmStop, StopKind
from retargeting.body_points import SIDES
from retargeting.compiled import compiled
from retargeting.pose_blend import smoothstep
from retargeting.robot_body import RobotBody
from retargeting.robot_model import RobotModel
from retargeting.self_collision import Clearance

Array = NDArray[np.float64]

# Nearer than this the hand is where it is wanted; at the second it pushes with all its strength.
_MISSED_M, _FAR_M = 0.02, 0.12
_MISSED_RAD, _FAR_RAD = 0.17, 0.7
# A joint this near to its limit (share of its range) is at it.
_AT_LIMIT_SHARE = 2e-3
# Links touch their margin from this much above it on, wholly at the second: the goal stays a little off.
_NEAR_M, _TOUCHING_M = 0.012, 0.004
# A margin that slows an arm on its way is felt too, but lightly.
_PASSING_PUSH = 0.3


class ArmStops:
    """Judges where the goal of the inverse kinematics ended: it has no speed limit that could explain a miss
    for longer than a moment."""

    def __init__(self, model: RobotModel, body: RobotBody) -> None:
        self._body = body
        self._names = model.joint_names
        between = model.upper - model.lower
        # A joint that turns for ever is never at its end.
        room = np.where(np.isfinite(between), _AT_LIMIT_SHARE * between, 0.0)
        self._low, self._high = model.lower + room, model.upper - room
        self._margin_m = model.description.collision.margin_m
        chains = {side: model.description.chains[f"{side}_arm"] for side in body.shoulders}
        self._joints = {
            side: np.array([self._names.index(name) for name in chain], dtype=np.int64)
            for side, chain in chains.items()
        }
        # Per side by how much (m, rad) the wrist misses its target, and the push; room.
        self._missed = np.zeros((len(SIDES), 3))
        self._links = {side: _links_behind(model, chain[0]) for side, chain in chains.items()}

    def of(
        self,
        goal: Array,
        positions: Array,
        rotations: Array,
        targets: Array,
        clearance: Clearance | None = None,
        collision_limited: bool = False,
    ) -> dict[str, tuple[ArmStop, ...]]:
        """Per side what stops it; empty for a side whose wrist is where it is wanted.

        goal ``(n,)``; positions ``(3, 3)``, rotations ``(3, 3, 3)`` of the sites there and targets
        ``(3, 7)``, in the order of `retargeting.solver.POSE_SITES`; clearance, collision_limited: of the
        command, see `retargeting.solver.Step`.
        """
        stops = {}
        _find_misses(positions, rotations, targets, self._missed)
        missed = self._missed.tolist()
        for side, joints in self._joints.items():
            k = SIDES.index(side)
            wanted = targets[k]
            missed_m, missed_rad, push = missed[k]
            found = []
            if missed_m > _MISSED_M or missed_rad > _MISSED_RAD:
                found = [
                    ArmStop(StopKind.LIMIT, self._names[i], push)
                    for i in joints.tolist()
                    if not self._low[i] < goal[i] < self._high[i]
                ]
                away = wanted[:3] - self._body.shoulders[side]
                if away @ away > self._body.reach_m[side] ** 2:
                    found.append(ArmStop(StopKind.REACH, push=push))
            if clearance is not None:
                found += self._margin(side, push, clearance, collision_limited)
            if found:
                stops[side] = tuple(found)
        return stops

    def _margin(self, side: str, push: float, clearance: Clearance, limited: bool) -> list[ArmStop]:
        """The margin, where a link of this arm is at it and the arm is pushed or slowed there."""
        links = clearance.links
        if links is None or self._links[side].isdisjoint(links):
            return []
        above_m = clearance.distance_m - self._margin_m
        near = 1.0 - _smooth(_TOUCHING_M, _NEAR_M, above_m)
        push = near * max(push, _PASSING_PUSH if limited else 0.0)
        return [ArmStop(StopKind.MARGIN, f"{links[0]} and {links[1]}", push)] if push > 0.0 else []


def _links_behind(model: RobotModel, joint: str) -> frozenset[str]:
    """The links that a joint carries."""
    carried = {model.urdf.joints[joint].child}
    for other in model.urdf.joints_root_first():
        if other.parent in carried:
            carried.add(other.child)
    return frozenset(carried)


def _smooth(low: float, high: float, value: float) -> float:
    """0 up to `low`, 1 from `high` on, a smoothstep between."""
    return float(smoothstep((value - low) / (high - low)))


@compiled
def _turn(rotation, wanted):  # type: ignore[no-untyped-def]
    """Angle (rad) between a matrix ``(3, 3)`` and a quaternion ``(4,)``, by the trace of their difference."""
    x, y, z, w = wanted[0], wanted[1], wanted[2], wanted[3]
    m = rotation
    trace = (
        m[0, 0] * (1 - 2 * (y * y + z * z)) + m[1, 1] * (1 - 2 * (x * x + z * z))
        + m[2, 2] * (1 - 2 * (x * x + y * y))
        + (m[0, 1] + m[1, 0]) * 2 * x * y + (m[0, 2] + m[2, 0]) * 2 * x * z + (m[1, 2] + m[2, 1]) * 2 * y * z
        + (m[1, 0] - m[0, 1]) * 2 * z * w + (m[0, 2] - m[2, 0]) * 2 * y * w + (m[2, 1] - m[1, 2]) * 2 * x * w
    )  # fmt: skip
    return np.arccos(min(1.0, max(-1.0, 0.5 * (trace - 1.0))))


@compiled
def _miss(position, rotation, wanted):  # type: ignore[no-untyped-def]
    """By how much (m, rad) a site at `position` ``(3,)`` and `rotation` ``(3, 3)`` misses `wanted` ``(7,)``,
    and how hard the trainer pushes (0..1)."""
    x, y, z = position[0] - wanted[0], position[1] - wanted[1], position[2] - wanted[2]
    missed_m = np.sqrt(x * x + y * y + z * z)
    missed_rad = _turn(rotation, wanted[3:])
    push = smoothstep((missed_m - _MISSED_M) / (_FAR_M - _MISSED_M))
    return missed_m, missed_rad, max(push, smoothstep((missed_rad - _MISSED_RAD) / (_FAR_RAD - _MISSED_RAD)))


@compiled
def _find_misses(positions, rotations, targets, missed):  # type: ignore[no-untyped-def]
    """Fill `missed` ``(2, 3)`` with `_miss` of the first sites."""
    for k in range(missed.shape[0]):
        missed[k, 0], missed[k, 1], missed[k, 2] = _miss(positions[k], rotations[k], targets[k])
