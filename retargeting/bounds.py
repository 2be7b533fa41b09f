"""Parameters that have to lie within bounds."""

from __future__ import annotations

import math
from collections.abc import Mapping

from retargeting.errors import RetargetingError


def out_of_bounds(parameters: object, bounds: Mapping[str, tuple[float, float]], what: str) -> list[str]:
    """A line for every attribute of ``parameters`` that is not finite or outside its bounds (included)."""
    return [
        f"{what} {name}: {getattr(parameters, name)!r} is outside {low} .. {high}"
        for name, (low, high) in bounds.items()
        if not (math.isfinite(getattr(parameters, name)) and low <= getattr(parameters, name) <= high)
    ]


def check_bounds(parameters: object, bounds: Mapping[str, tuple[float, float]], what: str) -> None:
    """Raise `RetargetingError` with a line for everything that is `out_of_bounds`."""
    if problems := out_of_bounds(parameters, bounds, what):
        raise RetargetingError("\n".join(problems))
