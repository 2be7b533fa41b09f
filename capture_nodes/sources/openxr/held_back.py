"""After the trainer was away, what is still pressed counts only once it was let go."""

from __future__ import annotations

from retargeting.motion_frame import Axis, Controls

_SQUEEZES = (Axis.LEFT_SQUEEZE, Axis.RIGHT_SQUEEZE)
_LET_GO = 0.1


class HeldBack:
    """Squeezes and buttons of which each is 0 from `hold_back` until it has been seen let go."""

    def __init__(self) -> None:
        self._squeezes: set[int] = set()
        self._buttons: set[int] = set()

    def hold_back(self) -> None:
        controls = Controls()
        self._squeezes = {int(axis) for axis in _SQUEEZES}
        self._buttons = set(range(len(controls.buttons)))

    def filter(self, controls: Controls) -> Controls:
        if not self._squeezes and not self._buttons:
            return controls
        axes, buttons = list(controls.axes), list(controls.buttons)
        self._squeezes = {axis for axis in self._squeezes if axes[axis] > _LET_GO}
        self._buttons = {button for button in self._buttons if buttons[button]}
        for axis in self._squeezes:
            axes[axis] = 0.0
        for button in self._buttons:
            buttons[button] = 0
        return Controls(tuple(axes), tuple(buttons))
