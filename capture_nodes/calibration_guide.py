"""How a trainer is led through a calibration besides the terminal: shown in the headset, spoken, felt.

A source that is a display (`TrainerDisplay`) gets step, countdown and outcome; its page speaks them. Hands
that can feel get a tick at each step.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from capture_nodes.sources.source import LiveSource, TrainerDisplay
from capture_nodes.sources.station_view import calibration_outcome_view, calibration_view
from retargeting.body_points import SIDES
from retargeting.calibration import INSTRUCTIONS, STEPS, Calibration, CalibrationStep

_SHOW_PERIOD_S = 0.1
_TICK_S, _TICK_INTENSITY = 0.15, 0.6
# No frame for this long: there is nobody to be measured.
_AWAY_S = 1.0
# For the trainer to see and hear what came of it.
_OUTCOME_S = 8.0
_AWAY = "no motion comes: put the headset on, open the page and press Start"


class CalibrationGuide:
    """`look` with every frame or wait in vain; `tell_outcome` at the end. `wear` names the source first."""

    def __init__(self) -> None:
        self._source: LiveSource | None = None
        self._display: TrainerDisplay | None = None
        self._step: CalibrationStep | None = None
        self._shown_s = self._ticked_s = self._came_s = -float("inf")
        self._ticking = False

    def wear(self, source: LiveSource) -> None:
        self._source = source
        self._display = source if isinstance(source, TrainerDisplay) else None

    def look(self, calibration: Calibration, came: bool) -> None:
        """`came`: whether there was a frame."""
        now_s = time.monotonic()
        if came:
            self._came_s = now_s
        changed = calibration.step is not self._step
        if changed:
            # The first step is not felt: nothing was held yet.
            if self._step is not None:
                self._tick(now_s)
            self._step = calibration.step
        if self._ticking and now_s - self._ticked_s > _TICK_S:
            self._rumble(0.0)
        if self._display is None or (now_s - self._shown_s < _SHOW_PERIOD_S and not changed):
            return
        self._shown_s = now_s
        step = calibration.step
        if step is None:
            return
        self._display.show(
            calibration_view(
                STEPS.index(step) + 1,
                len(STEPS),
                step.value,
                INSTRUCTIONS[step],
                _AWAY if now_s - self._came_s > _AWAY_S else calibration.hint,
                calibration.held,
                (1.0 - calibration.held) * calibration.parameters.hold_s,
            )
        )

    def tell_outcome(self, kept: bool, lines: Sequence[str]) -> None:
        """Shows it, and gives the trainer the time to see it."""
        if self._source is None:
            return
        self._tick(time.monotonic())
        if self._display is not None:
            view: Mapping[str, object] = calibration_outcome_view(kept, lines)
            self._display.show(view)
        ends_s = time.monotonic() + (_OUTCOME_S if self._display is not None else _TICK_S)
        while time.monotonic() < ends_s and (
            self._ticking or (self._display is not None and self._display.watched)
        ):
            self._source.wait_frame(0.05)
            if self._ticking and time.monotonic() - self._ticked_s > _TICK_S:
                self._rumble(0.0)
        self._rumble(0.0)

    def _tick(self, now_s: float) -> None:
        self._ticked_s = now_s
        self._rumble(_TICK_INTENSITY)

    def _rumble(self, intensity: float) -> None:
        self._ticking = intensity > 0.0
        if self._source is not None:
            for side in SIDES:
                self._source.rumble(side, intensity)
