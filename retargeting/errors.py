"""The errors of this package, each carrying the data a caller needs to name the way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


class RetargetingError(Exception):
    """Base of every error raised by `retargeting`."""


@dataclass(frozen=True)
class Problem:
    """One thing wrong in a configuration file.

    `key` is the path inside the file (`sensors.cameras.head.link`, or an XML element with its
    line); `message` names the value, its bounds and the valid choices.
    """

    file: Path
    key: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}: {self.key}: {self.message}"


class InvalidConfiguration(RetargetingError):
    """A URDF, `robot.yaml` or parameter set that cannot be used, with all its problems."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        count = len(self.problems)
        heading = "1 problem" if count == 1 else f"{count} problems"
        super().__init__("\n".join([f"{heading} found:", *(f"  {p}" for p in self.problems)]))


class InvalidMotion(RetargetingError):
    """A motion frame that cannot be used (unknown point, wrong shape, non-finite value)."""
