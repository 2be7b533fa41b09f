"""Poses between poses, and the matrices the solver takes, compiled: they are needed in every tick."""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled
from retargeting.quaternions import multiply, rotation_matrix


@compiled
def smoothstep(share):  # type: ignore[no-untyped-def]
    """From 0 to 1 as `share` does, at rest at both ends; 0 before, 1 after."""
    share = min(1.0, max(0.0, share))
    return share * share * (3.0 - 2.0 * share)


@compiled
def blend_pose(start, end, share, pose):  # type: ignore[no-untyped-def]
    """Fill `pose` ``(7,)``: `share` (0..1) of the way from `start` to `end`, straight line, shortest arc."""
    for i in range(3):
        pose[i] = start[i] + share * (end[i] - start[i])
    dot = 0.0
    for i in range(3, 7):
        dot += start[i] * end[i]
    sign = 1.0 if dot >= 0.0 else -1.0
    angle = np.arccos(min(1.0, abs(dot)))
    if angle > 1e-6:
        a = np.sin((1.0 - share) * angle) / np.sin(angle)
        b = sign * np.sin(share * angle) / np.sin(angle)
    else:
        a, b = 1.0 - share, sign * share
    norm = 0.0
    for i in range(3, 7):
        pose[i] = a * start[i] + b * end[i]
        norm += pose[i] * pose[i]
    norm = np.sqrt(norm)
    for i in range(3, 7):
        pose[i] /= norm


@compiled
def blend_poses(start, end, share, poses):  # type: ignore[no-untyped-def]
    """`blend_pose` of every row ``(k, 7)``."""
    for k in range(start.shape[0]):
        blend_pose(start[k], end[k], share, poses[k])


@compiled
def blend_directions(start, end, share, directions):  # type: ignore[no-untyped-def]
    """Fill unit `directions` ``(k, 3)`` between rows of unit vectors, of which zeros are not known.

    Unknown where `end` is; `end` where only `start` is unknown or the two are opposite.
    """
    for k in range(start.shape[0]):
        before, after, length = 0.0, 0.0, 0.0
        for i in range(3):
            before += start[k, i] * start[k, i]
            after += end[k, i] * end[k, i]
            directions[k, i] = start[k, i] + share * (end[k, i] - start[k, i])
            length += directions[k, i] * directions[k, i]
        length = np.sqrt(length)
        for i in range(3):
            if before == 0.0 or after == 0.0 or length < 1e-3:
                directions[k, i] = end[k, i]
            else:
                directions[k, i] /= length


@compiled
def offset_pose(pose, shift, turn, out):  # type: ignore[no-untyped-def]
    """Fill `out` ``(7,)``: `pose` moved by `shift` ``(3,)`` in outer axes, turned by `turn` in its own."""
    for i in range(3):
        out[i] = pose[i] + shift[i]
    multiply(pose[3:], turn, out[3:])


@compiled
def split_poses(poses, positions, rotations):  # type: ignore[no-untyped-def]
    """Fill positions ``(k, 3)`` and rotation matrices ``(k, 3, 3)`` of `poses` ``(k, 7)``."""
    for k in range(poses.shape[0]):
        for i in range(3):
            positions[k, i] = poses[k, i]
        rotation_matrix(poses[k, 3:], rotations[k])
