"""Axes of body points from where the points are, for headsets that guess a body from head and hands.

Their own joint axes differ from runtime to runtime and are nowhere measured; positions are what they agree
on. The axes are those of `retargeting.body_points`:

- chest, pelvis: y along the line of shoulders, hips; z up the trunk as nearly as y allows;
- shoulder, elbow: the chest's axes turned the shortest way until x runs along the upper arm, the forearm;
- hip, knee: z against the thigh, the shank; x as nearly ahead (the pelvis) as that allows;
- ankle: z up, x ahead.

A wrist's axes are not to be had from positions: it only tells where the forearm ends.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from retargeting.body_points import SIDES
from retargeting.frames import Array, quaternion_from_rotation_matrix

_UP: Array = np.array([0.0, 0.0, 1.0])
# Shorter than this (m) two points have no direction.
_SHORTEST_M = 1e-3


def body_axes_from_positions(positions: Mapping[str, Array]) -> dict[str, Array]:
    """Poses ``(7,)`` of those body points whose axes their neighbours tell; positions ``(3,)`` in m."""
    axes: dict[str, Array | None] = {}
    trunk = _direction(positions, "pelvis", "chest")
    up = _UP if trunk is None else trunk
    for point, part in (("chest", "shoulder"), ("pelvis", "hip")):
        left = _direction(positions, f"right_{part}", f"left_{part}")
        axes[point] = None if left is None else _frame(y=left, z=up)
    if axes["pelvis"] is None:
        axes["pelvis"] = axes["chest"]
    for side in SIDES:
        for point, end in (("shoulder", "elbow"), ("elbow", "wrist")):
            bone = _direction(positions, f"{side}_{point}", f"{side}_{end}")
            chest = axes["chest"]
            axes[f"{side}_{point}"] = None if bone is None or chest is None else _turned(chest, bone)
        pelvis = axes["pelvis"]
        if pelvis is None:
            continue
        for point, end in (("hip", "knee"), ("knee", "ankle")):
            bone = _direction(positions, f"{side}_{point}", f"{side}_{end}")
            axes[f"{side}_{point}"] = None if bone is None else _frame(y=pelvis[:, 1], z=-bone, keep_z=True)
        axes[f"{side}_ankle"] = _frame(y=pelvis[:, 1], z=_UP, keep_z=True)
    return {
        point: np.concatenate([positions[point], quaternion_from_rotation_matrix(matrix)])
        for point, matrix in axes.items()
        if matrix is not None and point in positions
    }


def _direction(positions: Mapping[str, Array], start: str, end: str) -> Array | None:
    if start not in positions or end not in positions:
        return None
    way = positions[end] - positions[start]
    length = float(np.linalg.norm(way))
    return None if length < _SHORTEST_M else way / length


def _frame(y: Array, z: Array, keep_z: bool = False) -> Array | None:
    """Columns x, y, z: of two given directions one is kept and the other made square to it."""
    x = np.cross(y, z)
    length = float(np.linalg.norm(x))
    if length < 1e-3:
        return None
    x = x / length
    return np.stack([x, np.cross(z, x), z] if keep_z else [x, y, np.cross(x, y)], axis=-1)


def _turned(axes: Array, bone: Array) -> Array | None:
    """The axes turned the shortest way until x is `bone`; None where that is the opposite of x."""
    x = axes[:, 0]
    cosine = float(x @ bone)
    if cosine < -0.999:
        return None
    v = np.cross(x, bone)
    skew = np.array([[0.0, -v[2], v[1]], [v[2], 0.0, -v[0]], [-v[1], v[0], 0.0]])
    result: Array = (np.eye(3) + skew + skew @ skew / (1.0 + cosine)) @ axes
    return result
