"""The one-euro filter for poses: a first-order low-pass whose cutoff rises with the speed.

Casiez, Roussel, Vogel, "1 € Filter", CHI 2012: ``cutoff = minimum + coefficient * |speed|`` with the
speed itself low-passed, and ``share = dt / (dt + 1 / (2 pi cutoff))`` of the way to each new sample.
At constant speed v the result lags ``v / (2 pi cutoff)`` behind, so never by more than
``1 / (2 pi coefficient)``, however fast the motion is. Rotations go their share along the shortest arc.
Other than there, a speed well above what jitter makes counts at once: a low-passed one would be near zero
just after the motion turned round.
"""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled

# From one sample to the next, jitter of 0.5 mm and 0.3° makes no more at 120 Hz.
JITTER_M_S, JITTER_RAD_S = 0.25, 2.5


@compiled
def low_pass_share(cutoff, dt):  # type: ignore[no-untyped-def]
    """How much of the way to a new sample a first-order low-pass of `cutoff` (Hz) goes in `dt` (s)."""
    return dt / (dt + 1.0 / (2.0 * np.pi * cutoff))


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
def smooth_pose(pose, velocity, before, sample, dt, minimum, coefficients, derivative_cutoff, turn):  # type: ignore[no-untyped-def]
    """Bring `pose` ``(7,)`` nearer to `sample` ``(7,)`` in place; the lags (s) at constant speed.

    velocity ``(6,)``: low-passed linear and angular velocity, updated by what moved in dt (s) since the
    sample `before` ``(7,)``; minimum (Hz), coefficients ``(2,)`` (Hz per m/s, Hz per rad/s); turn
    ``(3,)``: scratch. The lags are those of position and rotation.
    """
    turn_between(before[3:], sample[3:], turn)
    share = low_pass_share(derivative_cutoff, dt)
    linear, angular, linear_now, angular_now = 0.0, 0.0, 0.0, 0.0
    for i in range(3):
        moved, turned = (sample[i] - before[i]) / dt, turn[i] / dt
        velocity[i] += share * (moved - velocity[i])
        velocity[3 + i] += share * (turned - velocity[3 + i])
        linear += velocity[i] * velocity[i]
        angular += velocity[3 + i] * velocity[3 + i]
        linear_now += moved * moved
        angular_now += turned * turned
    linear = max(np.sqrt(linear), np.sqrt(linear_now) - JITTER_M_S)
    angular = max(np.sqrt(angular), np.sqrt(angular_now) - JITTER_RAD_S)
    linear_share = low_pass_share(minimum + coefficients[0] * linear, dt)
    angular_share = low_pass_share(minimum + coefficients[1] * angular, dt)
    for i in range(3):
        pose[i] += linear_share * (sample[i] - pose[i])
    turn_between(pose[3:], sample[3:], turn)
    turn_by(pose[3:], turn, angular_share)
    return (1.0 - linear_share) / linear_share * dt, (1.0 - angular_share) / angular_share * dt
