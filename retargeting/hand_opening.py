"""How far a trainer's hand is open, for robots that can only open and close."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.hand_points import BASE, TIP

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Distance of thumb tip and index tip: touching, and wide open, as a share of both fingers' lengths.
_CLOSED_M, _OPEN_SHARE = 0.015, 0.45
# Distance from base to tip as a share of the finger's length: in a fist, and all but straight.
_CURLED_SHARE, _STRAIGHT_SHARE = 0.5, 0.85


def hand_opening(points: Array, known: BoolArray, finger_m: Array) -> float | None:
    """0 closed .. 1 open, from points ``(5, 4, 3)`` of known fingers ``(5,)``; None without any.

    A hand closes by a pinch of thumb and index or by a fist, whichever has it more closed.
    """
    if not known.any():
        return None
    opening = 1.0
    if known[0] and known[1]:
        apart = float(np.linalg.norm(points[1, TIP] - points[0, TIP]))
        widest = _OPEN_SHARE * float(finger_m[0] + finger_m[1])
        opening = (apart - _CLOSED_M) / (widest - _CLOSED_M)
    fingers = [f for f in range(1, len(known)) if known[f]]
    if fingers:
        # One straight finger is no fist.
        stretch = max(
            float(np.linalg.norm(points[f, TIP] - points[f, BASE])) / float(finger_m[f]) for f in fingers
        )
        opening = min(opening, (stretch - _CURLED_SHARE) / (_STRAIGHT_SHARE - _CURLED_SHARE))
    return min(1.0, max(0.0, opening))
