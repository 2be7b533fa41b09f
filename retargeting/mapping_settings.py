"""How a trainer's hands are taken over by the robot's: gains, and how each tracked point sits on the hand.

Read from a YAML file such as `config/mapping.yaml`, where every key is documented.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.errors import InvalidConfiguration, Problem
from retargeting.frames import IDENTITY_POSE, pose_from_xyz_rpy
from retargeting.yaml_file import read_yaml

Array = NDArray[np.float64]

# The points that can tell where a hand is, the first that is tracked counts.
HAND_SOURCES = ("wrist", "grip")
# The middle of a fist that holds a controller is this far ahead of the wrist.
_WRIST_IN_GRIP = np.array([-0.09, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
_LEAST_GAIN, _GREATEST_POSITION_GAIN, _GREATEST_ORIENTATION_GAIN = 0.1, 3.0, 1.5
_LARGEST_OFFSET_M = 0.3


def _both(value: Any) -> dict[str, Any]:
    return dict.fromkeys(SIDES, value)


@dataclass(frozen=True)
class MappingSettings:
    """position_gain times the ratio of the arms' reach is an arm's scale; orientation_gain multiplies the
    hand's rotation from straight ahead, palm down; wrist_in_point: per source of `HAND_SOURCES` and side
    the pose ``(7,)`` of the hand's wrist in the tracked point; waist_gain multiplies what the trainer's trunk
    is turned from upright and straight ahead."""

    position_gain: Mapping[str, float] = field(default_factory=lambda: _both(1.0))
    orientation_gain: Mapping[str, float] = field(default_factory=lambda: _both(1.0))
    wrist_in_point: Mapping[str, Mapping[str, Array]] = field(
        default_factory=lambda: {"wrist": _both(IDENTITY_POSE), "grip": _both(_WRIST_IN_GRIP)}
    )
    waist_gain: float = 1.0


class _MappingFile:
    """Collects every problem of one file."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(self.file, key, message))

    def mapping(self, key: str, value: Any, known: tuple[str, ...]) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.problem(key or "file", f"a mapping of keys to values is expected, not {value!r}")
            return {}
        for name in value:
            if name not in known:
                place = f"{key}.{name}" if key else str(name)
                self.problem(place, f"unknown key; known: {', '.join(known)}")
        return value

    def number(self, key: str, value: Any, low: float, high: float, hint: str = "") -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.problem(key, f"a finite number is expected, not {value!r}")
        elif not low <= value <= high:
            self.problem(key, f"{value} is outside {low:g} .. {high:g}{hint}")
        else:
            return float(value)
        return low

    def gains(self, key: str, value: Any, high: float) -> dict[str, float]:
        given = self.mapping(key, value, SIDES)
        return {
            side: self.number(f"{key}.{side}", given[side], _LEAST_GAIN, high) if side in given else 1.0
            for side in SIDES
        }

    def vector(self, key: str, value: Any, limit: float, hint: str) -> list[float]:
        if value is None:
            return [0.0, 0.0, 0.0]
        if not isinstance(value, list) or len(value) != 3:
            self.problem(key, f"a list of 3 numbers is expected, not {value!r}")
            return [0.0, 0.0, 0.0]
        return [self.number(key, entry, -limit, limit, hint) for entry in value]

    def pose(self, key: str, value: Any) -> Array:
        given = self.mapping(key, value, ("xyz_m", "rpy_rad"))
        xyz = self.vector(
            f"{key}.xyz_m",
            given.get("xyz_m"),
            _LARGEST_OFFSET_M,
            " (metres; a wrist is near every tracked point)",
        )
        rpy = self.vector(
            f"{key}.rpy_rad", given.get("rpy_rad"), 2.0 * math.pi, " (is it in degrees? radians are expected)"
        )
        return pose_from_xyz_rpy(xyz, rpy)


def load_mapping_settings(file: Path) -> MappingSettings:
    """Read a mapping file; what it leaves out keeps its default. Raises `InvalidConfiguration`."""
    reader = _MappingFile(file)
    known = ("position_gain", "orientation_gain", "waist_gain", "wrist_in_point")
    top = reader.mapping("", read_yaml(file)[1], known)
    points = reader.mapping("wrist_in_point", top.get("wrist_in_point"), HAND_SOURCES)
    default = MappingSettings()
    poses = {}
    for source in HAND_SOURCES:
        key = f"wrist_in_point.{source}"
        given = reader.mapping(key, points.get(source), SIDES)
        poses[source] = {
            side: reader.pose(f"{key}.{side}", given[side])
            if side in given
            else default.wrist_in_point[source][side]
            for side in SIDES
        }
    settings = MappingSettings(
        reader.gains("position_gain", top.get("position_gain"), _GREATEST_POSITION_GAIN),
        reader.gains("orientation_gain", top.get("orientation_gain"), _GREATEST_ORIENTATION_GAIN),
        poses,
        reader.number("waist_gain", top.get("waist_gain", default.waist_gain), 0.0, 1.0),
    )
    if reader.problems:
        raise InvalidConfiguration(reader.problems)
    return settings
