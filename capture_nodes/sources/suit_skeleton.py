"""`skeleton:=FILE`: what a user says of a suit's skeleton where it cannot be found by itself.

Keys, all optional: `joints` (body point: name of the joint), `hierarchy` (a BVH file, beside this one or by
its path, whose skeleton is that of a sender that sends none), `actor` (number or name), `up_axis`,
`scale_m_per_unit`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture_nodes.sources.bvh_file import BvhJoint, read_bvh
from capture_nodes.sources.bvh_motion import UP_AXES, is_up_axis
from capture_nodes.sources.source import SourceError
from retargeting.body_points import BODY_POINTS
from retargeting.errors import InvalidConfiguration
from retargeting.yaml_file import read_yaml

_KEYS = ("joints", "hierarchy", "actor", "up_axis", "scale_m_per_unit")
_LARGEST_FILE_BYTES = 1_000_000


@dataclass(frozen=True)
class SuitSkeleton:
    """`joints` by body point; `hierarchy` empty: the sender's own; `scale_m_per_unit` None: it is found."""

    joints: Mapping[str, str] = field(default_factory=dict)
    hierarchy: tuple[BvhJoint, ...] = ()
    actor: str = ""
    up_axis: str = "auto"
    scale_m_per_unit: float | None = None


def load_suit_skeleton(path: Path) -> SuitSkeleton:
    """Read and check a file. Raises `SourceError` with every problem."""
    try:
        if path.stat().st_size > _LARGEST_FILE_BYTES:
            raise SourceError(f"skeleton:={path}: larger than {_LARGEST_FILE_BYTES} bytes")
        content = read_yaml(path)[1]
    except (OSError, ValueError) as error:
        raise SourceError(f"skeleton:={path}: cannot be read: {error}") from error
    except InvalidConfiguration as error:
        raise SourceError(*(f"skeleton:={problem}" for problem in error.problems)) from error
    if content is None:
        content = {}
    if not isinstance(content, dict):
        raise SourceError(f"skeleton:={path}: keys and values are expected")
    problems = [
        f"skeleton:={path}: unknown key {key!r}; known: {', '.join(_KEYS)}"
        for key in content
        if key not in _KEYS
    ]
    skeleton = SuitSkeleton(
        joints=_joints(path, content.get("joints"), problems),
        hierarchy=_hierarchy(path, content.get("hierarchy"), problems),
        actor=str(content.get("actor", "")),
        up_axis=_up_axis(path, content.get("up_axis", "auto"), problems),
        scale_m_per_unit=_scale(path, content.get("scale_m_per_unit"), problems),
    )
    if problems:
        raise SourceError(*problems)
    return skeleton


def _joints(path: Path, value: Any, problems: list[str]) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        problems.append(f"skeleton:={path}: joints: body points and names of joints are expected")
        return {}
    for point in value:
        if point not in BODY_POINTS:
            problems.append(f"skeleton:={path}: joints: there is no body point {point!r}")
    return {str(point): str(name) for point, name in value.items()}


def _hierarchy(path: Path, value: Any, problems: list[str]) -> tuple[BvhJoint, ...]:
    if value is None:
        return ()
    try:
        return read_bvh(path.parent / str(value)).joints
    except SourceError as error:
        problems.append(f"skeleton:={path}: hierarchy: {error}")
        return ()


def _up_axis(path: Path, value: Any, problems: list[str]) -> str:
    # A bare y is true to YAML.
    text = "y" if value is True else str(value)
    if not is_up_axis(text):
        problems.append(f"skeleton:={path}: up_axis: {value!r}; one of {', '.join(UP_AXES)} is expected")
    return text


def _scale(path: Path, value: Any, problems: list[str]) -> float | None:
    if value is None:
        return None
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    number = float(value) if is_number else math.nan
    if not 1e-6 <= number <= 1e3:
        problems.append(f"skeleton:={path}: scale_m_per_unit: {value!r}; 1e-6..1000 is expected")
        return None
    return number
