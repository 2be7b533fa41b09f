"""Rotations, poses and the axis conventions of every trainer source.

Quaternions are ``xyzw`` with norm 1. A pose is a ``(7,)`` array ``[x y z qx qy qz qw]`` in metres;
``transform_a_to_b`` maps coordinates given in frame ``a`` to coordinates in frame ``b``, that is,
it is the pose of ``a`` expressed in ``b``. All functions broadcast over leading dimensions.

Three worlds meet here and nowhere else:

============  ======================  ==========================
world         axes                    unit
============  ======================  ==========================
trainer       x forward, y left, z up metre (REP-103)
OpenXR/WebXR  x right, y up, -z fwd   metre
BVH           x left, y up, z forward file's own (usually cm)
============  ======================  ==========================
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]

_YZX, _ZXY = np.array([1, 2, 0]), np.array([2, 0, 1])

IDENTITY_POSE: Array = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
IDENTITY_POSE.setflags(write=False)

# Columns are the source's axes in trainer coordinates.
ROTATION_OPENXR_TO_TRAINER: Array = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
ROTATION_BVH_TO_TRAINER: Array = np.array([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
ROTATION_OPENXR_TO_TRAINER.setflags(write=False)
ROTATION_BVH_TO_TRAINER.setflags(write=False)


def quaternion_normalized(quaternion: ArrayLike) -> Array:
    """Unit quaternion of the same direction; raises `ValueError` on a zero or non-finite one."""
    q = np.asarray(quaternion, dtype=np.float64)
    norm = np.linalg.norm(q, axis=-1, keepdims=True)
    if not np.all(np.isfinite(norm)) or np.any(norm < 1e-9):
        raise ValueError(f"quaternion {q.tolist()} (xyzw) has no direction: norm must be above 1e-9")
    result: Array = q / norm
    return result


def quaternion_multiply(a: ArrayLike, b: ArrayLike) -> Array:
    """Hamilton product ``a * b``: rotate by ``b`` first, then by ``a``. Shapes ``(..., 4)``."""
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    a_vector, a_scalar = a[..., :3], a[..., 3:]
    b_vector, b_scalar = b[..., :3], b[..., 3:]
    vector = a_scalar * b_vector + b_scalar * a_vector + _cross(a_vector, b_vector)
    scalar = a_scalar * b_scalar - (a_vector * b_vector).sum(axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1)


def quaternion_inverse(q: ArrayLike) -> Array:
    """Inverse of a unit quaternion (its conjugate)."""
    result: Array = np.asarray(q, dtype=np.float64) * np.array([-1.0, -1.0, -1.0, 1.0])
    return result


def rotate(q: ArrayLike, vector: ArrayLike) -> Array:
    """The vector(s) ``(..., 3)`` rotated by unit quaternion(s) ``(..., 4)``."""
    q = np.asarray(q, dtype=np.float64)
    v = np.asarray(vector, dtype=np.float64)
    axis, w = q[..., :3], q[..., 3:]
    t = 2.0 * _cross(axis, v)
    result: Array = v + w * t + _cross(axis, t)
    return result


def _cross(a: Array, b: Array) -> Array:
    """`numpy.cross` for ``(..., 3)`` only, at a fifth of its cost: it runs thousands of times a second."""
    result: Array = a.take(_YZX, -1) * b.take(_ZXY, -1) - a.take(_ZXY, -1) * b.take(_YZX, -1)
    return result


def quaternion_from_rotation_vector(vector: ArrayLike) -> Array:
    """Exponential map: rotation vector(s) ``(..., 3)`` in rad to unit quaternion(s)."""
    v = np.asarray(vector, dtype=np.float64)
    angle = np.linalg.norm(v, axis=-1, keepdims=True)
    half = 0.5 * angle
    # np.sinc(x) = sin(pi x)/(pi x): exact at zero.
    return np.concatenate([0.5 * np.sinc(half / np.pi) * v, np.cos(half)], axis=-1)


def rotation_vector_from_quaternion(q: ArrayLike) -> Array:
    """Logarithm: unit quaternion(s) to rotation vector(s), angle in [0, pi]."""
    q = np.asarray(q, dtype=np.float64)
    q = np.where(q[..., 3:] < 0.0, -q, q)
    norm = np.linalg.norm(q[..., :3], axis=-1, keepdims=True)
    angle = 2.0 * np.arctan2(norm, q[..., 3:])
    safe = np.where(norm < 1e-12, 1.0, norm)
    scale = np.where(norm < 1e-12, 2.0, angle / safe)
    result: Array = scale * q[..., :3]
    return result


def rotation_matrix_from_quaternion(q: ArrayLike) -> Array:
    """Rotation matrix ``(..., 3, 3)`` of unit quaternion(s)."""
    x, y, z, w = np.moveaxis(np.asarray(q, dtype=np.float64), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation_matrix(matrix: ArrayLike) -> Array:
    """Unit quaternion(s), w >= 0, of rotation matrices ``(..., 3, 3)``.

    Takes the best conditioned of the four equivalent forms (Shepperd, J. Guid. Control 1978).
    """
    m = np.asarray(matrix, dtype=np.float64)
    xx, yy, zz = m[..., 0, 0], m[..., 1, 1], m[..., 2, 2]
    a, b, c = m[..., 2, 1], m[..., 0, 2], m[..., 1, 0]
    d, e, f = m[..., 1, 2], m[..., 2, 0], m[..., 0, 1]
    forms = np.stack(
        [
            np.stack([1 + xx - yy - zz, f + c, b + e, a - d], axis=-1),
            np.stack([f + c, 1 - xx + yy - zz, d + a, b - e], axis=-1),
            np.stack([b + e, d + a, 1 - xx - yy + zz, c - f], axis=-1),
            np.stack([a - d, b - e, c - f, 1 + xx + yy + zz], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(np.stack([xx, yy, zz, xx + yy + zz], axis=-1), axis=-1)
    chosen = np.take_along_axis(forms, best[..., None, None], axis=-2)[..., 0, :]
    q = quaternion_normalized(chosen)
    result: Array = np.where(q[..., 3:] < 0.0, -q, q)
    return result


def quaternion_from_rpy(rpy: ArrayLike) -> Array:
    """URDF's fixed-axis roll, pitch, yaw (rad), ``R = Rz(yaw) Ry(pitch) Rx(roll)``."""
    r = np.asarray(rpy, dtype=np.float64)
    x = quaternion_from_rotation_vector(r[..., 0:1] * np.array([1.0, 0.0, 0.0]))
    y = quaternion_from_rotation_vector(r[..., 1:2] * np.array([0.0, 1.0, 0.0]))
    z = quaternion_from_rotation_vector(r[..., 2:3] * np.array([0.0, 0.0, 1.0]))
    return quaternion_multiply(z, quaternion_multiply(y, x))


def slerp(a: ArrayLike, b: ArrayLike, fraction: float) -> Array:
    """The rotation ``fraction`` of the shorter way from ``a`` to ``b`` (unit quaternions)."""
    step = rotation_vector_from_quaternion(quaternion_multiply(quaternion_inverse(a), b))
    return quaternion_multiply(a, quaternion_from_rotation_vector(fraction * step))


def pose_compose(a: ArrayLike, b: ArrayLike) -> Array:
    """``a * b`` of poses ``(..., 7)``: ``transform_b_to_c * transform_a_to_b`` is ``a`` to ``c``."""
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    position = a[..., :3] + rotate(a[..., 3:], b[..., :3])
    return np.concatenate([position, quaternion_multiply(a[..., 3:], b[..., 3:])], axis=-1)


def pose_inverse(pose: ArrayLike) -> Array:
    """The inverse transform of pose(s) ``(..., 7)``."""
    pose = np.asarray(pose, dtype=np.float64)
    q = quaternion_inverse(pose[..., 3:])
    return np.concatenate([-rotate(q, pose[..., :3]), q], axis=-1)


def pose_apply(pose: ArrayLike, point: ArrayLike) -> Array:
    """Point(s) ``(..., 3)`` carried by transform(s) ``(..., 7)``."""
    pose = np.asarray(pose, dtype=np.float64)
    result: Array = pose[..., :3] + rotate(pose[..., 3:], point)
    return result


def pose_interpolate(a: ArrayLike, b: ArrayLike, fraction: float) -> Array:
    """Straight line in position, shortest arc in rotation; ``fraction`` 0 gives ``a``, 1 ``b``."""
    a = np.asarray(a, dtype=np.float64)
    b = np.asarray(b, dtype=np.float64)
    position = a[..., :3] + fraction * (b[..., :3] - a[..., :3])
    return np.concatenate([position, slerp(a[..., 3:], b[..., 3:], fraction)], axis=-1)


def pose_from_xyz_rpy(xyz: ArrayLike, rpy: ArrayLike) -> Array:
    """Pose of a URDF `<origin>`: metres and fixed-axis roll, pitch, yaw in rad."""
    return np.concatenate([np.asarray(xyz, dtype=np.float64), quaternion_from_rpy(rpy)], axis=-1)


def matrix_from_pose(pose: ArrayLike) -> Array:
    """Homogeneous matrix ``(..., 4, 4)`` of pose(s)."""
    pose = np.asarray(pose, dtype=np.float64)
    matrix = np.zeros((*pose.shape[:-1], 4, 4))
    matrix[..., :3, :3] = rotation_matrix_from_quaternion(pose[..., 3:])
    matrix[..., :3, 3] = pose[..., :3]
    matrix[..., 3, 3] = 1.0
    return matrix


def pose_from_matrix(matrix: ArrayLike) -> Array:
    """Pose(s) of homogeneous matrices ``(..., 4, 4)``."""
    m = np.asarray(matrix, dtype=np.float64)
    return np.concatenate([m[..., :3, 3], quaternion_from_rotation_matrix(m[..., :3, :3])], axis=-1)


def yaw_of_direction(direction: ArrayLike) -> Any:
    """Heading (rad) of direction(s) ``(..., 3)`` about +z, 0 along +x."""
    d = np.asarray(direction, dtype=np.float64)
    return np.arctan2(d[..., 1], d[..., 0])


def pose_to_trainer(pose: ArrayLike, rotation_source_to_trainer: Array) -> Array:
    """A pose of a source world in trainer axes, both its place and its own axes converted.

    ``R' = C R C^T``: a point whose axes agree with the source world's axes ends up with axes that
    agree with the trainer's (an OpenXR hand, -z forward, +y up, becomes x forward, z up).
    """
    pose = np.asarray(pose, dtype=np.float64)
    turned: Array = pose.copy()
    back = rotation_source_to_trainer.T
    turned[..., :3] = pose[..., :3] @ back
    # C q C^-1 turns by the same angle about the axis C turns q's into.
    turned[..., 3:6] = pose[..., 3:6] @ back
    return turned


# The axes of a hand (x along it, z out of its back) in those of the grip of OpenXR and WebXR, both turned
# into trainer axes. A grip's +x goes through the palm (out of the left one, into the right one), its -z runs
# along the handle from the little finger to the thumb: so the hand's x is the grip's -y on both sides.
OPENXR_GRIP_AXES: dict[str, Array] = {
    side: quaternion_from_rotation_matrix(ROTATION_OPENXR_TO_TRAINER @ np.array(hand_in_grip).T)
    for side, hand_in_grip in (
        ("left", [[0.0, -1.0, 0.0], [0.0, 0.0, 1.0], [-1.0, 0.0, 0.0]]),
        ("right", [[0.0, -1.0, 0.0], [0.0, 0.0, -1.0], [1.0, 0.0, 0.0]]),
    )
}


def grip_to_trainer(pose: ArrayLike, side: str) -> Array:
    """OpenXR's or WebXR's grip pose(s) of a side as the point `<side>_grip`, with the axes of its hand."""
    turned = pose_to_trainer(pose, ROTATION_OPENXR_TO_TRAINER)
    turned[..., 3:] = quaternion_multiply(turned[..., 3:], OPENXR_GRIP_AXES[side])
    return turned
