"""Forward kinematics of a tree of joints held in arrays, compiled with numba.

A `KinematicTree` has one row per body, each after its parent: the body's frame is its parent's,
moved by the constant offset, then turned about (or shifted along) the joint axis by
``multiplier * q[coordinate] + bias``. Rows with coordinate -1 do not move.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled, compiled_inside
from retargeting.frames import (
    pose_compose,
    quaternion_from_rotation_vector,
    rotation_matrix_from_quaternion,
)
from retargeting.urdf import Joint, Urdf

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


class TreeArrays(NamedTuple):
    """What compiled code reads of a tree of `n` bodies over `m` coordinates.

    parents ``(n,)``, -1 for the root; offset_positions ``(n, 3)`` and offset_rotations ``(n, 3, 3)``:
    body in parent at zero; axes ``(n, 3)`` in the body; prismatic ``(n,)``; coordinates ``(n,)`` index
    into q or -1; multipliers, biases ``(n,)``.
    """

    parents: IntArray
    offset_positions: Array
    offset_rotations: Array
    axes: Array
    prismatic: NDArray[np.bool_]
    coordinates: IntArray
    multipliers: Array
    biases: Array


@dataclass(frozen=True)
class KinematicTree:
    """Names of the bodies (links) ``(n,)`` and their arrays."""

    names: tuple[str, ...]
    arrays: TreeArrays

    def index(self, name: str) -> int:
        return self.names.index(name)

    def body_poses(self, q: Array) -> tuple[Array, Array]:
        """Positions ``(n, 3)`` and rotations ``(n, 3, 3)`` of all bodies in the root, for q ``(m,)``."""
        positions = np.empty((len(self.names), 3))
        rotations = np.empty((len(self.names), 3, 3))
        forward(
            self.arrays,
            q,
            positions,
            rotations,
        )
        return positions, rotations


@compiled
def forward(tree, q, positions, rotations):  # type: ignore[no-untyped-def]
    """Fill `positions` ``(n, 3)`` and `rotations` ``(n, 3, 3)`` (body in root) for q ``(m,)``."""
    for i in range(tree.parents.shape[0]):
        place_body(tree, i, q, positions, rotations)


@compiled_inside
def place_body(tree, i, q, positions, rotations):  # type: ignore[no-untyped-def]
    """Row i of `forward`; its parent's must be there."""
    parent = tree.parents[i]
    if parent < 0:
        for r in range(3):
            positions[i, r] = tree.offset_positions[i, r]
            for c in range(3):
                rotations[i, r, c] = tree.offset_rotations[i, r, c]
    else:
        for r in range(3):
            value = positions[parent, r]
            for k in range(3):
                value += rotations[parent, r, k] * tree.offset_positions[i, k]
            positions[i, r] = value
            for c in range(3):
                value = 0.0
                for k in range(3):
                    value += rotations[parent, r, k] * tree.offset_rotations[i, k, c]
                rotations[i, r, c] = value
    coordinate = tree.coordinates[i]
    if coordinate < 0:
        return
    x, y, z = tree.axes[i, 0], tree.axes[i, 1], tree.axes[i, 2]
    value = tree.multipliers[i] * q[coordinate] + tree.biases[i]
    if tree.prismatic[i]:
        for r in range(3):
            positions[i, r] += value * (
                rotations[i, r, 0] * x + rotations[i, r, 1] * y + rotations[i, r, 2] * z
            )
        return
    s, c1 = np.sin(value), np.cos(value)
    t = 1.0 - c1
    m00, m01, m02 = t * x * x + c1, t * x * y - s * z, t * x * z + s * y
    m10, m11, m12 = t * x * y + s * z, t * y * y + c1, t * y * z - s * x
    m20, m21, m22 = t * x * z - s * y, t * y * z + s * x, t * z * z + c1
    for r in range(3):
        a, b, c = rotations[i, r, 0], rotations[i, r, 1], rotations[i, r, 2]
        rotations[i, r, 0] = a * m00 + b * m10 + c * m20
        rotations[i, r, 1] = a * m01 + b * m11 + c * m21
        rotations[i, r, 2] = a * m02 + b * m12 + c * m22


def _mimic_chain(urdf: Urdf, joint: Joint) -> tuple[str, float, float]:
    """(leading joint, multiplier, bias) after following mimics to the joint that is not one."""
    multiplier, bias = 1.0, 0.0
    while joint.mimic is not None:
        bias += multiplier * joint.mimic.offset
        multiplier *= joint.mimic.multiplier
        joint = urdf.joints[joint.mimic.joint]
    return joint.name, multiplier, bias


def joint_offset(joint: Joint, position: float) -> Array:
    """Pose ``(7,)`` of the child in the parent with the joint at `position` (rad or m)."""
    if joint.kind == "fixed":
        return joint.pose
    motion = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    if joint.kind == "prismatic":
        motion[:3] = position * joint.axis
    else:
        motion[3:] = quaternion_from_rotation_vector(position * joint.axis)
    return pose_compose(joint.pose, motion)


def build_tree(
    urdf: Urdf,
    coordinate_names: Sequence[str],
    locked: Mapping[str, float],
    keep: Sequence[str] | None = None,
) -> tuple[KinematicTree, dict[str, tuple[str, Array]]]:
    """The arrays of `urdf` with the joints `coordinate_names` as coordinates, in that order.

    Other movable joints stay at `locked[name]` (0 where not given). With `keep` given (links of
    interest), only bodies that move and carry one of them remain, and everything fixed is merged
    into its carrier.

    Returns the tree and, for every link that is reached, ``(body, pose (7,) of the link in the body)``.
    """
    index = {name: i for i, name in enumerate(coordinate_names)}
    wanted: set[str] | None = None
    if keep is not None:
        carrier = {joint.child: joint for joint in urdf.joints.values()}
        wanted = {urdf.root}
        for link in keep:
            while link not in wanted:
                wanted.add(link)
                link = carrier[link].parent
    identity = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    rows: list[tuple[str, int, Array, Array, bool, int, float, float]] = [
        (urdf.root, -1, identity, np.array([1.0, 0.0, 0.0]), False, -1, 1.0, 0.0)
    ]
    body_of: dict[str, tuple[int, Array]] = {urdf.root: (0, identity)}
    for joint in urdf.joints_root_first():
        if wanted is not None and joint.child not in wanted:
            continue
        body, pose = body_of[joint.parent]
        leader, multiplier, bias = ("", 1.0, 0.0) if joint.kind == "fixed" else _mimic_chain(urdf, joint)
        if leader in index:
            offset = pose_compose(pose, joint.pose)
            rows.append(
                (
                    joint.child,
                    body,
                    offset,
                    joint.axis,
                    joint.kind == "prismatic",
                    index[leader],
                    multiplier,
                    bias,
                )
            )
            body_of[joint.child] = (len(rows) - 1, identity)
            continue
        offset = joint_offset(joint, multiplier * locked.get(leader, 0.0) + bias)
        if wanted is not None:
            body_of[joint.child] = (body, pose_compose(pose, offset))
        else:
            rows.append((joint.child, body, offset, joint.axis, False, -1, 1.0, 0.0))
            body_of[joint.child] = (len(rows) - 1, identity)
    offsets = np.array([row[2] for row in rows])
    arrays = TreeArrays(
        parents=np.array([row[1] for row in rows], dtype=np.int64),
        offset_positions=np.ascontiguousarray(offsets[:, :3]),
        offset_rotations=np.ascontiguousarray(rotation_matrix_from_quaternion(offsets[:, 3:])),
        axes=np.array([row[3] for row in rows], dtype=np.float64),
        prismatic=np.array([row[4] for row in rows], dtype=np.bool_),
        coordinates=np.array([row[5] for row in rows], dtype=np.int64),
        multipliers=np.array([row[6] for row in rows], dtype=np.float64),
        biases=np.array([row[7] for row in rows], dtype=np.float64),
    )
    tree = KinematicTree(tuple(row[0] for row in rows), arrays)
    return tree, {link: (rows[body][0], pose) for link, (body, pose) in body_of.items()}
