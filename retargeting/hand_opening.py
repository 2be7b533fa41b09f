"""How far a trainer's hand is open, for robots that can only open and close."""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled
from retargeting.hand_points import BASE, TIP

# Distance of thumb tip and index tip: touching, and wide open, as a share of both fingers' lengths.
_CLOSED_M, _OPEN_SHARE = 0.015, 0.45
# Distance from base to tip as a share of the finger's length: in a fist, and all but straight.
_CURLED_SHARE, _STRAIGHT_SHARE = 0.5, 0.85


@compiled
def _between(a, b):  # type: ignore[no-untyped-def]
    return np.sqrt((a[0] - b[0]) ** 2 + (a[1] - b[1]) ** 2 + (a[2] - b[2]) ** 2)


@compiled
def hand_opening(points, known, finger_m):  # type: ignore[no-untyped-def]
    """0 closed .. 1 open, from points ``(5, 4, 3)`` of known fingers ``(5,)``; 1 without any.

    finger_m ``(5,)``: their lengths. A hand closes by a pinch of thumb and index or by a fist, whichever has
    it more closed.
    """
    opening = 1.0
    if known[0] and known[1]:
        widest = _OPEN_SHARE * (finger_m[0] + finger_m[1])
        opening = (_between(points[1, TIP], points[0, TIP]) - _CLOSED_M) / (widest - _CLOSED_M)
    # One straight finger is no fist.
    stretch = -1.0
    for f in range(1, known.shape[0]):
        if known[f]:
            stretch = max(stretch, _between(points[f, TIP], points[f, BASE]) / finger_m[f])
    if stretch >= 0.0:
        opening = min(opening, (stretch - _CURLED_SHARE) / (_STRAIGHT_SHARE - _CURLED_SHARE))
    return min(1.0, max(0.0, opening))
