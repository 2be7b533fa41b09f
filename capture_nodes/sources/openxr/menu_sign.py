"""The menu sign where a device has no menu button: as on a headset's page, so that hands learn one thing."""

from __future__ import annotations

from collections.abc import Mapping

from capture_nodes.sources.hand_gestures import GestureParameters, HandGestures, HeldFor
from retargeting.body_points import SIDES
from retargeting.frames import Array
from retargeting.motion_frame import Button, Controls


class MenuSign:
    """The secondary button held for a while, or of a bare hand the thumb on the little finger, is menu."""

    def __init__(self) -> None:
        parameters = GestureParameters()
        self._gestures = HandGestures(parameters)
        self._held = {side: HeldFor(parameters.menu_s) for side in SIDES}

    def observe(self, controls: Controls, poses: Mapping[str, Array], now_s: float) -> Controls:
        """`poses` ``(7,)`` by body point, at `now_s` of the steady clock."""
        buttons = list(controls.buttons)
        for side in SIDES:
            word = side.upper()
            # A hand around a controller has its fingers near each other.
            fingers = {} if f"{side}_grip" in poses else poses
            gesture = self._gestures.observe(side, fingers, now_s)
            held = self._held[side].observe(bool(buttons[Button[f"{word}_SECONDARY"]]), now_s)
            if gesture.menu or held:
                buttons[Button[f"{word}_MENU"]] = 1
        return Controls(controls.axes, tuple(buttons))
