"""Position, velocity and acceleration limits folded into one box on the next velocity.

The rule that makes the box never empty: the velocity `v` of this tick must leave room to brake,

    v dt + v^2 / (2 a) <= d          (d: distance to the limit before the tick)

After a tick that keeps it, ``d' = d - v dt >= v^2 / (2 a)``. Braking fully in the next tick, of any
length ``h``, means ``v' = v - a h`` and needs ``v' h + v'^2 / (2 a) = v^2 / (2 a) - a h^2 / 2``,
which is at most ``d'``: the deceleration limit and the position limit never conflict, whatever the
tick lengths are.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled

Array = NDArray[np.float64]


class JointLimits(NamedTuple):
    """lower, upper, velocity, acceleration ``(n,)``: rad, rad/s, rad/s² (prismatic joints in m)."""

    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array


@compiled
def braking_velocity(distance, acceleration, dt):  # type: ignore[no-untyped-def]
    """The largest v >= 0 with ``v dt + v^2 / (2 acceleration) <= distance``; 0 for a distance <= 0."""
    if distance <= 0.0:
        return 0.0
    # The difference of nearly equal terms, written without cancellation.
    root = np.sqrt(dt * dt + 2.0 * distance / acceleration)
    return 2.0 * distance / (dt + root)


@compiled
def velocity_box(q, v, limits, dt, low, high):  # type: ignore[no-untyped-def]
    """Fill `low`, `high` ``(n,)`` with the bounds of the next velocity.

    q, v ``(n,)``: the previously published position and velocity; limits `JointLimits`; dt the tick in s.
    Order where they meet: position before velocity before acceleration. Returns the number of joints for
    which the acceleration limit had to give way (0 from every state this box produced).
    """
    lower, upper, velocity, acceleration = limits
    forced = 0
    for i in range(q.shape[0]):
        ceiling = min(velocity[i], braking_velocity(upper[i] - q[i], acceleration[i], dt))
        floor = -min(velocity[i], braking_velocity(q[i] - lower[i], acceleration[i], dt))
        slowest = v[i] - acceleration[i] * dt
        fastest = v[i] + acceleration[i] * dt
        low[i] = max(floor, slowest)
        high[i] = min(ceiling, fastest)
        if low[i] > high[i]:
            # Rounding may leave the two a hair apart; more than that is a forced exception.
            if low[i] - high[i] > 1e-9 * max(1.0, velocity[i]):
                forced += 1
            meeting = ceiling if slowest > ceiling else floor
            low[i] = meeting
            high[i] = meeting
    return forced
