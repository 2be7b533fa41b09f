"""What a check says about an episode."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class CheckResult:
    """Verdict of one check.

    `problems` says in words what failed (empty when the check passed), `figures` holds every number
    (JSON types only, units in the keys), `notes` what a reader should know but is no failure. A check
    that cannot apply to this file (`skipped`) has the reason there and is neither passed nor failed.
    """

    name: str
    problems: tuple[str, ...] = ()
    figures: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    skipped: str = ""

    @property
    def passed(self) -> bool:
        return not self.problems

    @property
    def verdict(self) -> str:
        """``passed``, ``failed`` or ``skipped``."""
        if self.problems:
            return "failed"
        return "skipped" if self.skipped else "passed"

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "verdict": self.verdict,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "skipped": self.skipped,
            "figures": dict(self.figures),
        }


def listed(names: Sequence[str], at_most: int = 5) -> str:
    """``a, b, c and 4 more``."""
    shown = ", ".join(names[:at_most])
    return shown if len(names) <= at_most else f"{shown} and {len(names) - at_most} more"
