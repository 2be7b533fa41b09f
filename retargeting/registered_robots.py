"""The robots that are described: their joints, their hands, and whether they can be used here."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retargeting.body_points import SIDES
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.robot_description import CHAINS, load_robot_description
from retargeting.robot_model import load_robot
from retargeting.yaml_file import read_yaml

USABLE = "usable"


@dataclass(frozen=True)
class RegisteredRobot:
    """`chains`: number of driven joints per chain; `hands`: a word per arm; `state`: `USABLE` or why not."""

    name: str
    file: Path
    package: str
    chains: dict[str, int]
    hands: dict[str, str]
    state: str

    @property
    def usable(self) -> bool:
        return self.state == USABLE


def registered_robots(folder: Path, *, thorough: bool = False) -> tuple[RegisteredRobot, ...]:
    """Every `<folder>/<robot>/robot.yaml`, by name.

    `thorough` reads each URDF too (tens of milliseconds to seconds each), otherwise only whether it is there.
    Never raises on a bad file: its problem is its state.
    """
    return tuple(_robot(file, thorough) for file in sorted(folder.glob("*/robot.yaml")))


def _robot(file: Path, thorough: bool) -> RegisteredRobot:
    state = USABLE
    try:
        if thorough:
            load_robot(file)
        else:
            load_robot_description(file)
    except InvalidConfiguration as error:
        first = error.problems[0]
        state = first.message if first.key.startswith("urdf.") else f"{first.key}: {first.message}"
        if len(error.problems) > 1:
            state += f" (and {len(error.problems) - 1} more)"
    except RetargetingError as error:
        state = str(error)
    content = _content(file)
    chains, urdf = _mapping(content.get("chains")), _mapping(content.get("urdf"))
    counts = {chain: _length(chains.get(chain)) for chain in CHAINS}
    return RegisteredRobot(
        name=str(content.get("name", file.parent.name)),
        file=file,
        package=str(urdf.get("package") or ""),
        chains=counts,
        hands={side: _hand(content, side) for side in SIDES if counts[f"{side}_arm"]},
        state=state,
    )


def _content(file: Path) -> dict[str, Any]:
    """What can be read of a file that may be unusable; its problem is told elsewhere."""
    try:
        return _mapping(read_yaml(file)[1])
    except InvalidConfiguration:
        return {}


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _hand(content: dict[str, Any], side: str) -> str:
    joints = len(_mapping(_mapping(_mapping(content.get("grippers")).get(side)).get("joints")))
    fingers = len(_mapping(_mapping(content.get("hands")).get(side)))
    if fingers:
        return f"{fingers} fingers, {joints} joints"
    if not joints:
        return "no hand"
    return "gripper" if joints <= 2 else f"hand of {joints} joints"
