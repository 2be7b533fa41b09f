"""What bare hands say: a pinch that is held is the deadman, thumb on the little finger held is the menu.

Distances between finger tips, with hysteresis, so that nothing flickers at the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.frames import Array

# Pinch and menu.
_FINGERS = ("index", "little")


@dataclass(frozen=True)
class GestureParameters:
    """Tips nearer than `close_m` touch until they are farther than `open_m`; the menu takes `menu_s`."""

    close_m: float = 0.015
    open_m: float = 0.035
    menu_s: float = 0.6

    def __post_init__(self) -> None:
        if not 0.0 < self.close_m < self.open_m < 0.2:
            raise RetargetingError(
                f"gestures: 0 < close_m < open_m < 0.2 is expected, not {self.close_m}, {self.open_m}"
            )
        if not 0.0 <= self.menu_s <= 10.0:
            raise RetargetingError(f"gestures: menu_s {self.menu_s!r} is outside 0 .. 10")


@dataclass(frozen=True)
class HandGesture:
    """One hand: pinch (thumb and index finger) and menu (thumb and little finger, for a while)."""

    pinch: bool
    menu: bool


class HeldFor:
    """True from the moment on that something has lasted `needed_s`, until it ends."""

    def __init__(self, needed_s: float) -> None:
        self._needed_s = needed_s
        self._since_s = math.inf

    def observe(self, active: bool, now_s: float) -> bool:
        self._since_s = min(self._since_s, now_s) if active else math.inf
        return now_s - self._since_s >= self._needed_s


class Touch:
    """Whether two finger tips touch: from nearer than `close_m` until farther than `open_m`."""

    def __init__(self, close_m: float, open_m: float) -> None:
        self._close_m, self._open_m = close_m, open_m
        self.touching = False

    def observe(self, one: Array | None, other: Array | None) -> bool:
        """The tips' poses ``(7,)``; one that is not in view touches nothing."""
        if one is None or other is None:
            self.touching = False
        else:
            distance_m = float(np.linalg.norm(one[:3] - other[:3]))
            self.touching = distance_m < (self._open_m if self.touching else self._close_m)
        return self.touching


class HandGestures:
    """Both hands, frame by frame. A hand that is not in view does nothing."""

    def __init__(self, parameters: GestureParameters | None = None) -> None:
        said = parameters or GestureParameters()
        self._touches = {
            (side, finger): Touch(said.close_m, said.open_m)
            for side in SIDES
            for finger in ("index", "little")
        }
        self._menu = {side: HeldFor(said.menu_s) for side in SIDES}

    def observe(self, side: str, poses: Mapping[str, Array], now_s: float) -> HandGesture:
        """`poses` ``(7,)`` by body point; only the finger tips of `side` are looked at."""
        thumb = poses.get(f"{side}_thumb_tip")
        pinch, little = (
            self._touches[side, finger].observe(thumb, poses.get(f"{side}_{finger}_tip"))
            for finger in _FINGERS
        )
        return HandGesture(pinch, self._menu[side].observe(little and not pinch, now_s))
