"""Where an elbow naturally is when only shoulder and wrist are known."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# The elbow hangs below the line from shoulder to wrist, a little outward and back: the plane of least
# effort of the shoulder (Kang et al., ICRA 2005).
_DOWN, _OUT, _BACK = 1.0, 0.35, 0.3


def natural_elbow_direction(side: str, wrist: Array, upper_arm_m: float, forearm_m: float) -> Array | None:
    """Unit vector ``(3,)`` from shoulder to elbow, for a wrist ``(3,)`` relative to the shoulder.

    x forward, y left, z up. The triangle of the two lengths (m), by the law of cosines; None where the
    wrist is at the shoulder or right behind where the elbow would hang, so that no plane is preferred.
    """
    distance = float(np.linalg.norm(wrist))
    if distance < 0.02:
        return None
    along = wrist / distance
    hanging = np.array([-_BACK, _OUT if side == "left" else -_OUT, -_DOWN])
    beside = hanging - (hanging @ along) * along
    length = float(np.linalg.norm(beside))
    if length < 0.05:
        return None
    cosine = (upper_arm_m**2 + distance**2 - forearm_m**2) / (2.0 * upper_arm_m * distance)
    cosine = min(max(cosine, -1.0), 1.0)
    direction: Array = cosine * along + np.sqrt(1.0 - cosine * cosine) * beside / length
    return direction
