"""How strongly the trainer's hands rumble for what stops the robot's arms, and when to say so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from retargeting.applied_command import ArmStop
from retargeting.body_points import SIDES
from retargeting.bounds import check_bounds


@dataclass(frozen=True)
class RumbleParameters:
    """Intensity grows from 0 to 1 in `rise_s` at the fastest and fades in `fall_s`; under `least` it is none.

    A device forgets a rumble after a moment: it is said again every `repeat_s`, and in between where it has
    changed by `step`, no more often than every `shortest_s`.
    """

    rise_s: float = 0.05
    fall_s: float = 0.15
    repeat_s: float = 0.2
    shortest_s: float = 0.02
    step: float = 0.05
    least: float = 0.05

    def __post_init__(self) -> None:
        bounds = {
            "rise_s": (1e-3, 5.0),
            "fall_s": (1e-3, 5.0),
            "repeat_s": (1e-2, 5.0),
            "shortest_s": (0.0, 1.0),
            "step": (0.0, 1.0),
            "least": (0.0, 0.5),
        }
        check_bounds(self, bounds, "rumble")


class Rumble:
    """`intensity` per side is 0 .. 1: where it is going is how hard the trainer pushes (`ArmStop.push`)."""

    def __init__(self, parameters: RumbleParameters | None = None) -> None:
        self.parameters = parameters or RumbleParameters()
        self.intensity = dict.fromkeys(SIDES, 0.0)
        self._said = dict.fromkeys(SIDES, 0.0)
        self._said_s = 0.0
        self._now_s: float | None = None

    def feel(self, stops: Mapping[str, Sequence[ArmStop]], now_s: float) -> dict[str, float] | None:
        """Take what stops the arms at `now_s` (steady clock); the intensity per side if it is to be said now.

        While nothing is felt nothing is said; the end of what was felt is said once, as 0.
        """
        p = self.parameters
        dt = 0.0 if self._now_s is None else max(0.0, now_s - self._now_s)
        self._now_s = now_s
        for side in SIDES:
            wanted = max((min(1.0, max(0.0, stop.push)) for stop in stops.get(side, ())), default=0.0)
            now = self.intensity[side]
            self.intensity[side] = min(max(wanted, now - dt / p.fall_s), now + dt / p.rise_s)
        felt = {side: value if value >= p.least else 0.0 for side, value in self.intensity.items()}
        if not self._is_due(felt, now_s):
            return None
        self._said, self._said_s = felt, now_s
        return dict(felt)

    def end(self) -> dict[str, float] | None:
        """Stop at once; what is to be said for it, None where nothing was felt."""
        felt = any(self._said.values())
        self.intensity, self._said = dict.fromkeys(SIDES, 0.0), dict.fromkeys(SIDES, 0.0)
        return dict(self._said) if felt else None

    def _is_due(self, felt: Mapping[str, float], now_s: float) -> bool:
        p, since_s = self.parameters, now_s - self._said_s
        if not any(felt.values()) or not any(self._said.values()):
            return any(felt.values()) != any(self._said.values())
        changed = max(abs(felt[side] - self._said[side]) for side in SIDES)
        return since_s >= p.repeat_s or (changed >= p.step and since_s >= p.shortest_s)
