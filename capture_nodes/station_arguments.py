"""The arguments of a station: shipped defaults, a file of `config:=`, words; each checked by itself."""

from __future__ import annotations

import dataclasses
import difflib
import math
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import OPENXR_SETTINGS, RATE_BOUNDS_HZ
from capture_nodes.resources import config_file, user_path
from capture_nodes.sources.bag import SPEED_BOUNDS
from capture_nodes.sources.openxr.parameters import BOUNDS as OPENXR_BOUNDS
from retargeting.deadman import DEADMAN_BUTTONS, DeadmanMode
from retargeting.errors import InvalidConfiguration
from retargeting.retargeter_parameters import EngageMode
from retargeting.yaml_file import read_yaml

DEFAULT_DOMAIN_ID = 73
# Above this the ports of DDS meet those that Linux hands out by itself.
LARGEST_DOMAIN_ID = 101
# As `deadman`: squeeze where hands hold something, hands where they are empty, off where a motion is played.
AS_THE_SOURCE_HAS_IT = "auto"
ParameterValue = bool | int | float | str


class StationError(CaptureError):
    """A station that cannot be started as asked, with all its problems."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class StationArguments:
    """The arguments of a station, as documented in `config/station.yaml`."""

    robot: str
    source: str
    motion: str
    scale: float
    up_axis: str
    loop: bool
    speed: float
    address: str
    peers: str
    skeleton: str
    headset_rate_hz: float
    openxr_pinch_closed_m: float
    openxr_pinch_open_m: float
    openxr_pinch_press: float
    openxr_pinch_let_go: float
    openxr_fist_open_m: float
    openxr_fist_closed_m: float
    openxr_answer_s: float
    openxr_retry_first_s: float
    openxr_retry_longest_s: float
    episodes: int
    root: str
    skill: str
    operator: str
    scenario: str
    instruction: str
    assignment: str
    robot_serial: str
    recorder_config: str
    scene: str
    seed: int
    cameras: bool
    camera_width: int
    camera_height: int
    camera_rate_hz: float
    command_rate_hz: float
    stale_s: float
    engage_mode: str
    self_collision: bool
    branch_recovery: bool
    deadman: str
    deadman_button: str
    mapping: str
    trainer_folder: str
    command_timeout_s: float
    domain_id: int
    ready_timeout_s: float
    episode_timeout_s: float
    stop_timeout_s: float
    pictures: bool


# Arguments that are paths where they are not empty.
_PATHS = ("motion", "skeleton", "root", "recorder_config", "scene", "mapping", "trainer_folder")
# Smallest and largest value of every number; the unit is in the name.
_BOUNDS: dict[str, tuple[float, float]] = {
    "scale": (0.0, 1000.0),
    "speed": (0.0, SPEED_BOUNDS[1]),
    "headset_rate_hz": RATE_BOUNDS_HZ,
    **{f"openxr_{name}": OPENXR_BOUNDS[name] for name in OPENXR_SETTINGS},
    "episodes": (0, 100_000),
    "seed": (-1, 2**31 - 1),
    "camera_width": (16, 4096),
    "camera_height": (16, 4096),
    "camera_rate_hz": (1.0, 240.0),
    "command_rate_hz": (20.0, 1000.0),
    "stale_s": (0.02, 2.0),
    "command_timeout_s": (0.01, 10.0),
    "domain_id": (-1, LARGEST_DOMAIN_ID),
    "ready_timeout_s": (1.0, 3600.0),
    "episode_timeout_s": (1.0, 86_400.0),
    "stop_timeout_s": (0.1, 600.0),
}
# All values of every text that has only some.
_CHOICES: dict[str, tuple[str, ...]] = {
    "engage_mode": tuple(mode.value for mode in EngageMode),
    "deadman": (AS_THE_SOURCE_HAS_IT, *(mode.value for mode in DeadmanMode)),
    "deadman_button": DEADMAN_BUTTONS,
}
# What else an argument may be called.
_OTHER_WORDS = {"file": "motion"}
# Of these 0 is possible too: as the robot.yaml says.
_AS_THE_ROBOT_SAYS = ("camera_width", "camera_height", "camera_rate_hz", "command_timeout_s")


def argument_names() -> tuple[str, ...]:
    """All arguments of a station, `config` included, as the launch files declare them."""
    return ("config", *(field.name for field in dataclasses.fields(StationArguments)))


def argument_defaults() -> dict[str, str]:
    """The defaults of `config/station.yaml` as argument text."""
    problems: list[str] = []
    values = _read_yaml(config_file("station.yaml"), problems)
    if problems:
        raise StationError(problems)
    return {"config": "", **{name: _as_text(values[name]) for name in argument_names() if name in values}}


def split_arguments(words: Sequence[str]) -> dict[str, str]:
    """`["robot:=kestrel", …]` to a mapping; raises `StationError` with every word of another form."""
    arguments: dict[str, str] = {}
    problems = []
    for word in words:
        name, separator, value = word.partition(":=")
        if not separator:
            hint = word.lstrip("-").partition("=")
            example = f"{hint[0]}:={hint[2] or '…'}" if hint[0] in argument_names() else "robot:=kestrel"
            problems.append(f"argument {word!r}: name:=value is expected, as in {example}")
        elif name in arguments:
            problems.append(f"argument {name}: given twice, {arguments[name]!r} and {value!r}")
        else:
            arguments[name] = value
    if problems:
        raise StationError(problems)
    return arguments


def read_arguments(arguments: Mapping[str, str] | Sequence[str], problems: list[str]) -> StationArguments:
    """Shipped defaults, the file of `config:=`, the arguments (a mapping, or words), each checked by itself.

    A wrong value is added to the problems and replaced by its default. Raises `StationError` with all of them
    where nothing else can be checked then.
    """
    given = _renamed(arguments if isinstance(arguments, Mapping) else split_arguments(arguments), problems)
    defaults = _read_yaml(config_file("station.yaml"), problems)
    settings = _typed(_merged_values(given, defaults, problems), defaults, problems)
    if settings is None:
        raise StationError(problems)
    _check_homes(settings)
    return settings


def _read_yaml(path: Path, problems: list[str]) -> dict[str, object]:
    try:
        content = read_yaml(path)[1]
    except InvalidConfiguration as error:
        problems += [f"config:={problem}" for problem in error.problems]
        return {}
    if content is None:
        return {}
    if not isinstance(content, dict):
        problems.append(f"config:={path}: keys and values are expected; found a {type(content).__name__}")
        return {}
    return {str(key): value for key, value in content.items()}


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _unknown(name: str, where: str) -> str:
    known = argument_names()
    near = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {near[0]}?" if near else f"; known: {', '.join(known)}"
    return f"{where} {name!r} is unknown{hint}"


def _renamed(given: Mapping[str, str], problems: list[str]) -> dict[str, str]:
    renamed = {}
    for name, text in given.items():
        word = _OTHER_WORDS.get(name, name)
        if word != name and word in given:
            problems.append(f"{name}:={text} and {word}:={given[word]}: they are the same; give one of them")
            continue
        renamed[word] = text
    return renamed


def _merged_values(
    given: Mapping[str, str], defaults: Mapping[str, object], problems: list[str]
) -> dict[str, object]:
    """Shipped defaults, then the file of `config:=`, then the arguments."""
    values = dict(defaults)
    if given.get("config"):
        try:
            path = user_path(given["config"])
        except CaptureError as error:
            raise StationError([*problems, f"config:={error}"]) from error
        for key, value in _read_yaml(path, problems).items():
            if key in argument_names() and key != "config":
                values[key] = value
            else:
                problems.append(_unknown(key, f"config:={path}: key"))
    for name, text in given.items():
        if name not in argument_names():
            problems.append(_unknown(name, "argument"))
        elif name != "config":
            values[name] = text
    return values


def _typed(
    values: Mapping[str, object], defaults: Mapping[str, object], problems: list[str]
) -> StationArguments | None:
    """All values as their types and within bounds; a wrong one is a problem and replaced by its default.

    The rest can then still be checked. None where the shipped defaults themselves are unusable.
    """
    typed: dict[str, ParameterValue] = {}
    types = typing.get_type_hints(StationArguments)
    for name, kind in types.items():
        if name not in values:
            problems.append(f"config/station.yaml: key {name!r} is missing; install the package again")
            continue
        value = _convert(name, values[name], kind, problems)
        if value is None:
            value = _convert(name, defaults.get(name), kind, [])
        if value is not None:
            typed[name] = value
    if len(typed) < len(types):
        return None
    return StationArguments(**typed)  # type: ignore[arg-type]


def _convert(name: str, value: object, kind: type, problems: list[str]) -> ParameterValue | None:
    text = _as_text(value).strip() if value is not None else ""
    if kind is str:
        choices = _CHOICES.get(name)
        # A bare off is false to YAML.
        text = "off" if choices and "off" in choices and text == "false" else text
        if choices is None or text in choices:
            return text
        near = difflib.get_close_matches(text, choices, n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        problems.append(f"{name}:={text}: one of {', '.join(choices)} is expected{hint}")
        return None
    if kind is bool:
        if text.lower() in ("true", "false"):
            return text.lower() == "true"
        problems.append(f"{name}:={text}: true or false is expected")
        return None
    low, high = _BOUNDS[name]
    noun = "a whole number" if kind is int else "a number"
    if name in _AS_THE_ROBOT_SAYS:
        noun = f"0 (as in robot.yaml) or {noun}"
    try:
        number: int | float = int(text) if kind is int else float(text)
    except ValueError:
        problems.append(f"{name}:={text}: {noun} {low:g} .. {high:g} is expected")
        return None
    if number == 0 and name in _AS_THE_ROBOT_SAYS:
        return number
    if not math.isfinite(number) or not low <= number <= high:
        problems.append(f"{name}:={text}: {noun} {low:g} .. {high:g} is expected")
        return None
    return number


def chosen_domain(settings: StationArguments, environment: Mapping[str, str], problems: list[str]) -> int:
    """The domain asked for, else the environment's, else `DEFAULT_DOMAIN_ID`."""
    if settings.domain_id >= 0:
        return settings.domain_id
    text = environment.get("ROS_DOMAIN_ID", "")
    if not text:
        return DEFAULT_DOMAIN_ID
    if not text.isdecimal() or int(text) > LARGEST_DOMAIN_ID:
        problems.append(
            f"the environment's ROS_DOMAIN_ID={text}: a whole number 0 .. {LARGEST_DOMAIN_ID} is expected"
        )
        return DEFAULT_DOMAIN_ID
    return int(text)


def _check_homes(settings: StationArguments) -> None:
    """Raises `StationError` where a path is below the home of nobody: nothing else can be checked then."""
    problems = []
    for name in _PATHS:
        try:
            user_path(getattr(settings, name))
        except CaptureError as error:
            problems.append(f"{name}:={error}")
    if problems:
        raise StationError(problems)
