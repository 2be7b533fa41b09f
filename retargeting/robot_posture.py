"""Where a robot's wrists, head and elbows are, for the joints the solver moves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import pose_from_matrix
from retargeting.tasks import TaskLayout

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RobotPosture:
    """In the root: poses ``(3, 7)`` in the order of `retargeting.solver.POSE_SITES`, directions ``(2, 3)``
    from shoulder to elbow per side, zero where the robot has no such sites."""

    poses: Array
    directions: Array


def robot_posture(layout: TaskLayout, q: Array) -> RobotPosture:
    """The posture at q ``(m,)``."""
    q = np.ascontiguousarray(q)
    positions, rotations = layout.site_poses(q)
    matrices = np.tile(np.eye(4), (len(positions), 1, 1))
    matrices[:, :3, :3], matrices[:, :3, 3] = rotations, positions
    bodies, turns = layout.tree.body_poses(q)
    tasks = layout.arrays
    ends = [
        bodies[rows] + np.einsum("kij,kj->ki", turns[rows], points)
        for rows, points in (
            (tasks.from_bodies, tasks.from_positions),
            (tasks.to_bodies, tasks.to_positions),
        )
    ]
    directions = ends[1] - ends[0]
    lengths = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = np.where(lengths > 1e-6, directions / np.maximum(lengths, 1e-6), 0.0)
    return RobotPosture(pose_from_matrix(matrices), directions)


def posture_at_rest(
    layout: TaskLayout, q: Array, v: Array, acceleration: Array, lower: Array, upper: Array
) -> RobotPosture:
    """Where joints at q ``(m,)`` moving at v ``(m,)`` come to rest, braking at `acceleration` ``(m,)``."""
    return robot_posture(layout, np.clip(q + v * np.abs(v) / (2.0 * acceleration), lower, upper))
