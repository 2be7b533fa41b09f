"""Parameters that have to lie within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping


def out_of_bounds(parameters: object, bounds: Mapping[str, tuple[float, float]], what: str) -> list[str]:
    """A line for every attribute of ``parameters`` that is not finite or outside its bounds (included)."""
    return [
        f"{what} {name}: {getattr(parameters, name)!r} is outside {low} .. {high}"
        for name, (low, high) in bounds.items()
        if not (math.isfinite(getattr(parameters, name)) and low <= getattr(parameters, name) <= high)
    ]
