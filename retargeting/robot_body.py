"""A robot's body as the trainer's is measured: where its shoulders are, how far its arms reach."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.frames import pose_compose
from retargeting.kinematics import build_tree, forward
from retargeting.robot_model import RobotModel
from retargeting.urdf import Joint

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RobotBody:
    """A robot's shoulders in its neutral posture ``(3,)`` and the reach (m) of its arms, per side."""

    shoulders: dict[str, Array]
    reach_m: dict[str, float]


@compiled
def _longest_reach(  # type: ignore[no-untyped-def]
    tree,
    postures, row, offset, shoulder,
):  # fmt: skip
    """The farthest `offset` ``(3,)`` of body `row` gets from `shoulder` ``(3,)``, over the postures."""
    n = tree.parents.shape[0]
    positions, rotations = np.empty((n, 3)), np.empty((n, 3, 3))
    longest = 0.0
    for k in range(postures.shape[0]):
        forward(tree, postures[k], positions, rotations)
        squared = 0.0
        for i in range(3):
            away = positions[row, i] - shoulder[i]
            for j in range(3):
                away += rotations[row, i, j] * offset[j]
            squared += away * away
        longest = max(longest, squared)
    return np.sqrt(longest)


def measure_robot(model: RobotModel, samples: int = 4000) -> RobotBody:
    """Shoulders from the sites; reach: the longest distance to the wrist over random postures (seeded)."""
    shoulders, reach = {}, {}
    neutral = model.neutral_positions()
    sites = model.description.sites
    rng = np.random.default_rng(0)
    for side in SIDES:
        chain = model.description.chains[f"{side}_arm"]
        if not chain:
            continue
        if f"{side}_shoulder" not in sites:
            raise RetargetingError(
                f"{model.name}: the site {side}_shoulder is missing in {model.description.file}"
            )
        shoulders[side] = model.site_pose(f"{side}_shoulder", neutral)[:3].copy()
        wrist = sites[f"{side}_wrist"]
        tree, body_of = build_tree(model.urdf, chain, neutral, keep=[wrist.link])
        body, pose = body_of[wrist.link]
        ranges = np.array([_one_turn(model.urdf.joints[name]) for name in chain])
        reach[side] = float(
            _longest_reach(
                tree.arrays,
                rng.uniform(ranges[:, 0], ranges[:, 1], (samples, len(chain))),
                tree.index(body),
                pose_compose(pose, wrist.pose)[:3].copy(),
                shoulders[side],
            )
        )
    return RobotBody(shoulders, reach)


def _one_turn(joint: Joint) -> tuple[float, float]:
    """A joint's range (rad, m); of one that turns farther, the turn around 0 that is in it."""
    if joint.upper - joint.lower <= 2.0 * np.pi:
        return joint.lower, joint.upper
    return max(joint.lower, -np.pi), min(joint.upper, np.pi)
