"""Where an elbow naturally is when only shoulder and wrist are known."""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled

# The elbow hangs below the line from shoulder to wrist, a little outward and back: the plane of least
# effort of the shoulder (Kang et al., ICRA 2005).
_DOWN, _OUT, _BACK = 1.0, 0.35, 0.3


@compiled
def natural_elbow_direction(out, wrist, upper_arm_m, forearm_m, direction):  # type: ignore[no-untyped-def]
    """Fill `direction` ``(3,)`` with the unit vector from shoulder to elbow; False where none is natural.

    wrist ``(3,)``: relative to the shoulder, x forward, y left, z up; out: 1 for a left arm, -1 for a right
    one. By the triangle of the two lengths (m); where the wrist is at the shoulder or right behind where the
    elbow would hang, no plane is preferred.
    """
    distance = np.sqrt(wrist[0] ** 2 + wrist[1] ** 2 + wrist[2] ** 2)
    if distance < 0.02:
        return False
    x, y, z = wrist[0] / distance, wrist[1] / distance, wrist[2] / distance
    hanging = -_BACK * x + out * _OUT * y - _DOWN * z
    bx, by, bz = -_BACK - hanging * x, out * _OUT - hanging * y, -_DOWN - hanging * z
    length = np.sqrt(bx * bx + by * by + bz * bz)
    if length < 0.05:
        return False
    cosine = (upper_arm_m**2 + distance**2 - forearm_m**2) / (2.0 * upper_arm_m * distance)
    cosine = min(max(cosine, -1.0), 1.0)
    beside = np.sqrt(1.0 - cosine * cosine) / length
    direction[0] = cosine * x + beside * bx
    direction[1] = cosine * y + beside * by
    direction[2] = cosine * z + beside * bz
    return True
