"""Unit quaternions xyzw in compiled code; `retargeting.frames` has them for arrays of any shape."""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled


@compiled
def product(a, b):  # type: ignore[no-untyped-def]
    """``a * b`` as a tuple: rotate by b first, then by a. Both arrays ``(4,)`` or tuples."""
    return (
        a[3] * b[0] + a[0] * b[3] + a[1] * b[2] - a[2] * b[1],
        a[3] * b[1] - a[0] * b[2] + a[1] * b[3] + a[2] * b[0],
        a[3] * b[2] + a[0] * b[1] - a[1] * b[0] + a[2] * b[3],
        a[3] * b[3] - a[0] * b[0] - a[1] * b[1] - a[2] * b[2],
    )


@compiled
def multiply(a, b, out):  # type: ignore[no-untyped-def]
    """Fill `out` ``(4,)`` with ``a * b``."""
    out[0], out[1], out[2], out[3] = product(a, b)


@compiled
def rotate_by(q, x, y, z):  # type: ignore[no-untyped-def]
    """The vector (x, y, z) rotated by q, an array ``(4,)`` or a tuple."""
    tx = 2.0 * (q[1] * z - q[2] * y)
    ty = 2.0 * (q[2] * x - q[0] * z)
    tz = 2.0 * (q[0] * y - q[1] * x)
    return (
        x + q[3] * tx + q[1] * tz - q[2] * ty,
        y + q[3] * ty + q[2] * tx - q[0] * tz,
        z + q[3] * tz + q[0] * ty - q[1] * tx,
    )


@compiled
def rotation_matrix(q, out):  # type: ignore[no-untyped-def]
    """Fill `out` ``(3, 3)`` with the matrix of q ``(4,)``."""
    x, y, z, w = q[0], q[1], q[2], q[3]
    out[0, 0] = 1 - 2 * (y * y + z * z)
    out[0, 1] = 2 * (x * y - z * w)
    out[0, 2] = 2 * (x * z + y * w)
    out[1, 0] = 2 * (x * y + z * w)
    out[1, 1] = 1 - 2 * (x * x + z * z)
    out[1, 2] = 2 * (y * z - x * w)
    out[2, 0] = 2 * (x * z - y * w)
    out[2, 1] = 2 * (y * z + x * w)
    out[2, 2] = 1 - 2 * (x * x + y * y)


@compiled
def turn_between(a, b, turn):  # type: ignore[no-untyped-def]
    """Fill `turn` ``(3,)`` with the rotation vector of ``b a^-1`` (unit quaternions ``(4,)``); its norm."""
    x = b[0] * a[3] - b[3] * a[0] - b[1] * a[2] + b[2] * a[1]
    y = b[1] * a[3] - b[3] * a[1] - b[2] * a[0] + b[0] * a[2]
    z = b[2] * a[3] - b[3] * a[2] - b[0] * a[1] + b[1] * a[0]
    w = b[0] * a[0] + b[1] * a[1] + b[2] * a[2] + b[3] * a[3]
    sign = 1.0 if w >= 0.0 else -1.0
    sine = np.sqrt(x * x + y * y + z * z)
    angle = 2.0 * np.arctan2(sine, abs(w))
    factor = sign * (angle / sine if sine > 1e-9 else 2.0)
    turn[0], turn[1], turn[2] = factor * x, factor * y, factor * z
    return angle


@compiled
def turn_by(q, turn, factor):  # type: ignore[no-untyped-def]
    """Turn `q` ``(4,)`` in place by `factor` times the rotation vector `turn` ``(3,)``, in outer axes."""
    vx, vy, vz = factor * turn[0], factor * turn[1], factor * turn[2]
    angle = np.sqrt(vx * vx + vy * vy + vz * vz)
    scale = np.sin(0.5 * angle) / angle if angle > 1e-9 else 0.5
    x, y, z, w = scale * vx, scale * vy, scale * vz, np.cos(0.5 * angle)
    a, b, c, d = q[0], q[1], q[2], q[3]
    q[0] = w * a + x * d + y * c - z * b
    q[1] = w * b - x * c + y * d + z * a
    q[2] = w * c + x * b - y * a + z * d
    q[3] = w * d - x * a - y * b - z * c
    norm = np.sqrt(q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3])
    for i in range(4):
        q[i] /= norm


@compiled
def angle_between(a, b):  # type: ignore[no-untyped-def]
    """Angle (rad, 0..pi) between the orientations a and b ``(4,)``."""
    x = b[0] * a[3] - b[3] * a[0] - b[1] * a[2] + b[2] * a[1]
    y = b[1] * a[3] - b[3] * a[1] - b[2] * a[0] + b[0] * a[2]
    z = b[2] * a[3] - b[3] * a[2] - b[0] * a[1] + b[1] * a[0]
    w = b[0] * a[0] + b[1] * a[1] + b[2] * a[2] + b[3] * a[3]
    return 2.0 * np.arctan2(np.sqrt(x * x + y * y + z * z), abs(w))


@compiled
def way_between(a, b):  # type: ignore[no-untyped-def]
    """Distance (m) and angle (rad) between the poses a and b ``(7,)``."""
    squared = (a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2
    return np.sqrt(squared), angle_between(a[3:], b[3:])
