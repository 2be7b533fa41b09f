"""What may be said about an OpenXR headset, checked in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass

from capture_nodes.sources.source import SourceError

# Smallest and largest value of each.
BOUNDS: dict[str, tuple[float, float]] = {
    "rate_hz": (10.0, 250.0),
    "stature_m": (0.5, 2.5),
    "pinch_closed_m": (0.002, 0.1),
    "pinch_open_m": (0.002, 0.2),
    "pinch_press": (0.01, 1.0),
    "pinch_let_go": (0.0, 1.0),
    "fist_open_m": (0.01, 0.3),
    "fist_closed_m": (0.0, 0.3),
    "answer_s": (0.05, 10.0),
    "retry_first_s": (0.01, 60.0),
    "retry_longest_s": (0.01, 600.0),
}


@dataclass(frozen=True)
class OpenXrParameters:
    """rate_hz: how often the runtime is asked, whatever its display does. stature_m: used only where the
    runtime knows no floor: it lies this person's eye height under the headset's start.

    Bare hands: a pinch closes at `pinch_closed_m` between thumb and index tip and opens at `pinch_open_m`;
    where the runtime itself tells pinches (0..1) it closes at `pinch_press` and opens at `pinch_let_go`. A
    fist is none with the finger tips `fist_open_m` from the palm, and whole at `fist_closed_m`.

    A runtime that has not answered a call for `answer_s` has lost the trainer. One that went away is tried
    again after `retry_first_s`, then ever less often up to `retry_longest_s`.
    """

    rate_hz: float = 90.0
    stature_m: float = 1.75
    pinch_closed_m: float = 0.015
    pinch_open_m: float = 0.035
    pinch_press: float = 0.8
    pinch_let_go: float = 0.5
    fist_open_m: float = 0.09
    fist_closed_m: float = 0.04
    answer_s: float = 0.25
    retry_first_s: float = 0.25
    retry_longest_s: float = 4.0

    def __post_init__(self) -> None:
        problems = []
        for name, (low, high) in BOUNDS.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                problems.append(f"openxr_{name}:={value!r}: {low:g} .. {high:g} is expected")
        for low_name, high_name in (
            ("pinch_closed_m", "pinch_open_m"),
            ("pinch_let_go", "pinch_press"),
            ("fist_closed_m", "fist_open_m"),
        ):
            if not getattr(self, low_name) < getattr(self, high_name):
                problems.append(
                    f"openxr_{low_name}:={getattr(self, low_name):g}: less than openxr_{high_name} "
                    f"({getattr(self, high_name):g}) is expected"
                )
        if self.retry_first_s > self.retry_longest_s:
            problems.append(
                f"openxr_retry_first_s:={self.retry_first_s:g}: openxr_retry_longest_s "
                f"({self.retry_longest_s:g}) or less is expected"
            )
        if problems:
            raise SourceError(*problems)
