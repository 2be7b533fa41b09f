"""The deadman: which arms the trainer lets move, from squeezes, a button or hands in view.

Per side the deadman is open or held. It closes by pressing (squeeze over `press`, button down) or, with
`hands`, when the wrist has been in view for `in_view_s`; it opens on letting go (squeeze under `let_go`)
or when the wrist is out of view for `out_of_view_s`. Only *closing* starts an arm: after a fault
`require_press` makes what is still held count for nothing until it is let go and pressed again (hands:
until they go out of view and come back, or until somebody asks for them: those of a suit are always in view).
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, Button, Controls
from retargeting.tracked_motion import TrackedMotion


class DeadmanMode(Enum):
    OFF = "off"
    SQUEEZE = "squeeze"
    BUTTON = "button"
    HANDS = "hands"


DEADMAN_BUTTONS = ("primary", "secondary", "stick", "menu")


@dataclass(frozen=True)
class DeadmanParameters:
    """`button` is that of each side's controller, for the mode `button`."""

    mode: str = "off"
    button: str = "primary"
    press: float = 0.6
    let_go: float = 0.4
    in_view_s: float = 0.3
    out_of_view_s: float = 0.1

    def __post_init__(self) -> None:
        problems = []
        modes = [mode.value for mode in DeadmanMode]
        if self.mode not in modes:
            problems.append(f"deadman mode {self.mode!r}: one of {', '.join(modes)} is expected")
        if self.button not in DEADMAN_BUTTONS:
            problems.append(
                f"deadman button {self.button!r}: one of {', '.join(DEADMAN_BUTTONS)} is expected"
            )
        if not 0.0 < self.let_go < self.press <= 1.0:
            problems.append(f"deadman: 0 < let_go < press <= 1 is expected, not {self.let_go}, {self.press}")
        for name in ("in_view_s", "out_of_view_s"):
            value = getattr(self, name)
            if not (math.isfinite(value) and 0.0 <= value <= 5.0):
                problems.append(f"deadman {name}: {value!r} is outside 0 .. 5")
        if problems:
            raise RetargetingError("\n".join(problems))


@dataclass(frozen=True)
class DeadmanChange:
    """The sides that closed and those that opened since the frame before."""

    pressed: tuple[str, ...]
    let_go: tuple[str, ...]


_NO_CHANGE = DeadmanChange((), ())


class Deadman:
    """The deadman of both hands. In the mode `off` it is always held, and nothing ever changes."""

    def __init__(self, parameters: DeadmanParameters | None = None) -> None:
        self.parameters = parameters or DeadmanParameters()
        self.mode = DeadmanMode(self.parameters.mode)
        self.held = dict.fromkeys(SIDES, self.mode is DeadmanMode.OFF)
        self._blocked = dict.fromkeys(SIDES, False)
        self._since_s: dict[str, float | None] = dict.fromkeys(SIDES, None)

    def observe(self, motion: TrackedMotion, in_view: Collection[str], now_s: float) -> DeadmanChange:
        """Take a frame in, with the sides whose wrist is tracked; now_s of the steady clock."""
        if self.mode is DeadmanMode.OFF:
            return _NO_CHANGE
        pressed: list[str] = []
        let_go: list[str] = []
        for side in SIDES:
            active = self._active(side, motion.controls, side in in_view)
            self._blocked[side] = self._blocked[side] and active
            held = not self._blocked[side] and self._settled(side, active, now_s)
            if held != self.held[side]:
                (pressed if held else let_go).append(side)
            self.held[side] = held
        return DeadmanChange(tuple(pressed), tuple(let_go))

    def require_press(self) -> None:
        """Open both; what is still held counts only after it was let go."""
        if self.mode is DeadmanMode.OFF:
            return
        for side in SIDES:
            self._blocked[side], self.held[side] = True, False
            self._since_s[side] = None

    def hear(self, controls: Controls) -> tuple[str, ...]:
        """The sides that open by controls without a frame; what closes one comes with a frame."""
        if self.mode not in (DeadmanMode.SQUEEZE, DeadmanMode.BUTTON):
            return ()
        let_go = tuple(s for s in SIDES if self.held[s] and not self._active(s, controls, True))
        for side in let_go:
            # A frame may be under way that still has it held.
            self._blocked[side], self.held[side] = True, False
        return let_go

    def ask(self, in_view: Collection[str]) -> None:
        """An engage that was asked for: of hands, which have nothing to press, a new press where in view."""
        if self.mode is not DeadmanMode.HANDS:
            return
        for side in in_view:
            if self._blocked[side]:
                self._blocked[side], self.held[side] = False, True
                self._since_s[side] = None

    def _active(self, side: str, controls: Controls, in_view: bool) -> bool:
        """Whether the side is pressed in this frame; a squeeze that is pressed stays so down to `let_go`."""
        limits = self.parameters
        if self.mode is DeadmanMode.SQUEEZE:
            squeeze = controls.axes[Axis[f"{side.upper()}_SQUEEZE"]]
            return squeeze > (limits.let_go if self.held[side] or self._blocked[side] else limits.press)
        if self.mode is DeadmanMode.BUTTON:
            return bool(controls.buttons[Button[f"{side.upper()}_{limits.button.upper()}"]])
        return in_view

    def _settled(self, side: str, active: bool, now_s: float) -> bool:
        """`active`, where hands are watched only once it has lasted."""
        if self.mode is not DeadmanMode.HANDS:
            return active
        if active == self.held[side]:
            self._since_s[side] = None
            return active
        since_s = self._since_s[side]
        if since_s is None:
            since_s = self._since_s[side] = now_s
        needed_s = self.parameters.in_view_s if active else self.parameters.out_of_view_s
        return active if now_s - since_s >= needed_s else self.held[side]
