"""A grip or button that was held through an interruption counts only after it was let go.

Otherwise a socket that comes back, or a headset that is put on again, would press the deadman by itself.
"""

from __future__ import annotations

from collections.abc import Iterable

from retargeting.body_points import SIDES
from retargeting.motion_frame import Axis, Button, Controls

# A squeeze below this is let go.
_LET_GO = 0.4
_SQUEEZES = {side: Axis[f"{side.upper()}_SQUEEZE"] for side in SIDES}
_BUTTONS = {side: {b for b in Button if b.name.startswith(side.upper())} for side in SIDES}


class HeldControls:
    """Per squeeze and button: blocked by `interrupt` until it is seen let go."""

    def __init__(self) -> None:
        self._axes: set[int] = set()
        self._buttons: set[int] = set()

    def interrupt(self, sides: Iterable[str] = SIDES) -> None:
        """From now on nothing that is held there counts."""
        for side in sides:
            self._axes.add(_SQUEEZES[side])
            self._buttons |= _BUTTONS[side]

    def observe(self, controls: Controls) -> Controls:
        """The controls without what is still held from before; triggers and sticks pass as they are."""
        self._axes = {axis for axis in self._axes if controls.axes[axis] > _LET_GO}
        self._buttons = {button for button in self._buttons if controls.buttons[button]}
        if not self._axes and not self._buttons:
            return controls
        axes = tuple(0.0 if k in self._axes else value for k, value in enumerate(controls.axes))
        buttons = tuple(0 if k in self._buttons else value for k, value in enumerate(controls.buttons))
        return Controls(axes, buttons)
