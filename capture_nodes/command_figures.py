"""What the commands of the last second were like: times, latencies, limits, margins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np

from retargeting.applied_command import AppliedCommand


class CommandFigures:
    """Takes every tick in (one thread), and tells them once in a while (another thread).

    Keys of `take`: p50 and p99 (ms) of `solve` (the retargeter alone), `tick` (with taking inputs and
    publishing), `motion_to_command` (from a motion frame's stamp to that of the first command that follows
    it), `newest_motion_age` (of the newest frame, in every command), `shown_motion_age` (of the motion that
    the targets show), `input_delay` (of that, what smoothing takes); `clipped_share` (ticks in which a limit
    shaped the motion), `clipped_joints` (which, with their share of the ticks), and with self-collision
    `collision_limited_share`, `clearance_m` and `clearance_links` (the least, and where), `led_m` (the
    farthest that a wrist's target was led out of the body).
    """

    def __init__(self) -> None:
        self._window = _Window()
        self._last_cause_ns = 0

    def add_tick(self, tick_s: float) -> None:
        self._window.times["tick"].append(tick_s)

    def add(self, command: AppliedCommand, solve_s: float) -> None:
        """One command; `solve_s` is what the retargeter took for it."""
        window = self._window
        window.commands += 1
        window.times["solve"].append(solve_s)
        window.clipped.update(command.clipped)
        window.clipped_commands += bool(command.clipped)
        window.collision_limited += command.collision_limited
        window.led_m = max([window.led_m, *command.led_m.values()])
        if command.clearance is not None and command.clearance.distance_m < window.clearance_m:
            window.clearance_m, window.links = command.clearance.distance_m, command.clearance.links
        if command.motion_age_s is not None:
            window.times["shown_motion_age"].append(command.motion_age_s)
            window.times["input_delay"].append(command.smoothing_delay_s)
        cause_ns = command.cause_stamp_ns
        if cause_ns is None:
            return
        age_s = (command.stamp_ns - cause_ns) * 1e-9
        window.times["newest_motion_age"].append(age_s)
        if cause_ns != self._last_cause_ns:
            # Later commands wait for the next frame, not for us.
            self._last_cause_ns = cause_ns
            window.times["motion_to_command"].append(age_s)

    def take(self) -> dict[str, object]:
        """The figures since the last call; those of which there is nothing are left out."""
        window, self._window = self._window, _Window()
        figures: dict[str, object] = {}
        for name, samples in window.times.items():
            figures |= _percentiles_ms(name, samples)
        if window.commands == 0:
            return figures
        figures["clipped_share"] = f"{window.clipped_commands / window.commands:.3f}"
        figures["clipped_joints"] = _shares(window.clipped, window.commands)
        if np.isfinite(window.clearance_m):
            figures["clearance_m"] = f"{window.clearance_m:.4f}"
            figures["clearance_links"] = " ".join(window.links or ())
            figures["led_m"] = f"{window.led_m:.4f}"
            figures["collision_limited_share"] = f"{window.collision_limited / window.commands:.3f}"
        return figures


class _Window:
    def __init__(self) -> None:
        self.times: dict[str, list[float]] = {
            "solve": [],
            "tick": [],
            "motion_to_command": [],
            "newest_motion_age": [],
            "shown_motion_age": [],
            "input_delay": [],
        }
        self.commands = self.clipped_commands = self.collision_limited = 0
        self.clipped: Counter[str] = Counter()
        self.clearance_m = np.inf
        self.led_m = 0.0
        self.links: tuple[str, str] | None = None


def _percentiles_ms(name: str, samples_s: Sequence[float]) -> dict[str, object]:
    if not samples_s:
        return {}
    median, high = np.percentile(samples_s, [50, 99]) * 1e3
    return {f"{name}_p50_ms": f"{median:.3f}", f"{name}_p99_ms": f"{high:.3f}"}


def _shares(counts: Mapping[str, int], commands: int) -> str:
    """``elbow 0.250 wrist 0.010``, the most frequent first."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return " ".join(f"{name} {count / commands:.3f}" for name, count in ordered)
