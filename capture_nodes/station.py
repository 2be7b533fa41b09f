"""The plan of a station: which processes run, with which parameters; and the `station` command.

The plan is plain data made from arguments and `config/station.yaml`, checked whole before anything
starts. The `station` command (`capture_nodes.station_supervisor`) and the launch files carry it
out. Nothing here imports rclpy.
"""

from __future__ import annotations

import dataclasses
import difflib
import functools
import json
import math
import os
import sys
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capture_nodes.calibrate import calibrate
from capture_nodes.certain_exit import exit_within
from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import OPENXR_SETTINGS, RATE_BOUNDS_HZ, HeadsetParameters
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.recorder_configuration import load_recorder_configuration
from capture_nodes.resources import config_file, robot_description_file, scene_file, user_path
from capture_nodes.retargeting_parameters import TRAINER_FOLDER, RetargetingParameters
from capture_nodes.robot_list import list_robots
from capture_nodes.ros_environment import (
    picture_environment,
    prepare_ros_environment,
    station_environment,
)
from capture_nodes.scripted_task import ScriptedTask
from capture_nodes.simulation.scene import layout_scene, load_scene
from capture_nodes.sources.bag import SPEED_BOUNDS, STEP_BY_STEP, BagParameters, BagSource
from capture_nodes.sources.openxr.parameters import BOUNDS as OPENXR_BOUNDS
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.person import Person
from capture_nodes.sources.registry import (
    EMPTY_HANDED_SOURCES,
    LIVE_SOURCES,
    PLAYED_SOURCES,
    check_source,
    known_sources,
)
from capture_nodes.thread_priority import SERVING, prefer_thread
from retargeting.deadman import DEADMAN_BUTTONS, DeadmanMode
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_model import RobotModel, load_robot
from retargeting.trainer_store import TrainerStore
from retargeting.yaml_file import read_yaml

DEFAULT_DOMAIN_ID = 73
# The recorder completes the episode at hand and hears everyone's final counts before it ends.
_FINISHING_S = 25.0
# Over shared memory, which those that control the robot must not have (`config/fastdds.xml`).
_EXCHANGE_PICTURES = ("simulated_cameras", "recorder")
# To take this process's own DDS participant down.
_LEAVING_S = 3.0
# Above this the ports of DDS meet those that Linux hands out by itself.
LARGEST_DOMAIN_ID = 101

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_BAD_ARGUMENTS = 2
EXIT_PROCESS_DIED = 3
EXIT_INTERRUPTED = 130

# As `deadman`: squeeze where hands hold something, hands where they are empty, off where a motion is played.
AS_THE_SOURCE_HAS_IT = "auto"

ParameterValue = bool | int | float | str


class StationError(CaptureError):
    """A station that cannot be started as asked, with all its problems."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(self.problems))


@dataclass(frozen=True)
class ProcessPlan:
    """One process of a station.

    `executable` is its entry point (for launch), `module` what `python -m` runs; both are the same
    program. A `required` process that ends before the session does ends the station. `environment` is on top
    of the station's.
    """

    name: str
    executable: str
    module: str
    namespace: str
    node_name: str
    parameters: Mapping[str, ParameterValue]
    ready_timeout_s: float
    stop_timeout_s: float
    required: bool = True
    environment: Mapping[str, str] = dataclasses.field(default_factory=dict)

    @property
    def fully_qualified_name(self) -> str:
        return f"{self.namespace.rstrip('/')}/{self.node_name}"


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


@dataclass(frozen=True)
class StationPlan:
    """Everything needed to run one station; `processes` in the order in which they are stopped.

    `warnings` are what the robot's URDF had that was mended, to be shown before starting.
    """

    arguments: StationArguments
    robot: str
    robot_file: Path
    namespace: str
    domain_id: int
    root: Path
    report_path: Path
    processes: tuple[ProcessPlan, ...]
    environment: Mapping[str, str]
    warnings: tuple[str, ...] = ()

    @property
    def has_session(self) -> bool:
        return self.arguments.episodes > 0


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
# Motion is late only when more than one frame is missing.
_STALE_PERIODS = 2.0


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


def make_plan(
    arguments: Mapping[str, str] | Sequence[str] = (), environment: Mapping[str, str] | None = None
) -> StationPlan:
    """The plan for arguments (`{"robot": "kestrel"}` or `["robot:=kestrel"]`).

    Raises `StationError` with every problem: unknown names with the nearest match, values of the
    wrong type or out of bounds, files that are missing or malformed, a folder that cannot be
    written, arguments that do not go together.
    """
    environment = os.environ if environment is None else environment
    problems: list[str] = []
    given = _renamed(arguments if isinstance(arguments, Mapping) else split_arguments(arguments), problems)
    defaults = _read_yaml(config_file("station.yaml"), problems)
    settings = _typed(_merged_values(given, defaults, problems), defaults, problems)
    if settings is None:
        raise StationError(problems)
    _check_homes(settings)
    domain_id = _domain_id(settings, environment, problems)
    robot = _check_robot(settings, problems)
    _check_source(settings, problems)
    _check_retargeting(settings, problems)
    _check_scene(settings, robot, problems)
    root = _check_root(settings, problems)
    _check_combinations(settings, problems)
    _check_recording(settings, problems)
    if problems or robot is None:
        raise StationError(problems)
    robot_name, robot_file = robot.name, robot.description.file
    report_path = root / ".station" / f"report_domain_{domain_id}.json"
    return StationPlan(
        arguments=settings,
        robot=robot_name,
        robot_file=robot_file,
        namespace=f"/{robot_name}",
        domain_id=domain_id,
        root=root,
        report_path=report_path,
        processes=_processes(settings, robot_name, robot_file, root, report_path, environment),
        environment=station_environment(environment, domain_id),
        warnings=robot.urdf.warning_lines(),
    )


def _processes(
    settings: StationArguments,
    robot: str,
    robot_file: Path,
    root: Path,
    report_path: Path,
    environment: Mapping[str, str],
) -> tuple[ProcessPlan, ...]:
    namespace = f"/{robot}"
    # A known robot goes by name, so that the file is found again by each process; others by path.
    robot_argument = settings.robot if settings.robot == robot else str(robot_file)
    session = settings.episodes > 0
    scene = str(_scene(settings).absolute())

    def process(name: str, parameters: Mapping[str, ParameterValue], where: str = namespace) -> ProcessPlan:
        return ProcessPlan(
            name=name,
            executable=f"{name}_node",
            module=f"capture_nodes.{name}_node",
            namespace=where,
            node_name=name,
            parameters={"robot": robot_argument, **parameters},
            ready_timeout_s=settings.ready_timeout_s,
            stop_timeout_s=settings.stop_timeout_s + (_FINISHING_S if name == "recorder" else 0.0),
            environment=picture_environment(environment) if name in _EXCHANGE_PICTURES else {},
        )

    processes = [
        process("headset", _headset_parameters(settings), "/trainer"),
        process(
            "retargeting",
            _retargeting_parameters(settings),
        ),
        process(
            "simulated_robot",
            {"scene": scene, "seed": settings.seed, "command_timeout_s": settings.command_timeout_s},
        ),
    ]
    if settings.cameras:
        processes.append(
            process(
                "simulated_cameras",
                {
                    "scene": scene,
                    "width": settings.camera_width,
                    "height": settings.camera_height,
                    "rate_hz": settings.camera_rate_hz,
                },
            )
        )
    processes.append(
        process(
            "recorder",
            {
                "root": str(root),
                "config": _absolute(settings.recorder_config),
                "skill": _skill(settings),
                "operator": settings.operator,
                "source": settings.source,
                "scenario": settings.scenario,
                "instruction": settings.instruction,
                "assignment": settings.assignment,
                "robot_serial": settings.robot_serial,
                "station": json.dumps(dataclasses.asdict(settings)),
                "calibrations": _operator_file(settings),
                "report_path": str(report_path),
                "command_rate_hz": settings.command_rate_hz,
                "motion_rate_hz": _motion_rate_hz(settings),
                "camera_rate_hz": settings.camera_rate_hz,
            },
        )
    )
    if session:
        session_parameters: dict[str, ParameterValue] = {
            "episodes": settings.episodes,
            "cameras": settings.cameras,
            # Who has buttons or fingers that are seen can give the sign.
            "trainer_starts": settings.source in LIVE_SOURCES and settings.source not in EMPTY_HANDED_SOURCES,
            "timeout_s": settings.episode_timeout_s,
            "ready_timeout_s": settings.ready_timeout_s,
        }
        processes.insert(0, process("session", session_parameters))
    return tuple(processes)


def _headset_parameters(settings: StationArguments) -> dict[str, ParameterValue]:
    up_axis = settings.up_axis
    return {
        "source": settings.source,
        "motion": _absolute(settings.motion),
        "scale": settings.scale,
        # A bare y is true to ROS; with its sign it stays a text.
        "up_axis": f"+{up_axis}" if up_axis in ("x", "y", "z") else up_axis,
        "loop": settings.loop,
        "speed": settings.speed,
        "address": settings.address,
        "skill": _skill(settings),
        "instruction": settings.instruction,
        "peers": settings.peers,
        "skeleton": _absolute(settings.skeleton),
        "rate_hz": settings.headset_rate_hz,
        **{f"openxr_{name}": getattr(settings, f"openxr_{name}") for name in OPENXR_SETTINGS},
        "scene": str(_scene(settings).absolute()),
        "seed": settings.seed,
        "start": "service" if settings.episodes > 0 else "auto",
    }


def _retargeting_parameters(settings: StationArguments) -> dict[str, ParameterValue]:
    folder = settings.trainer_folder
    keeps_sizes = bool(folder) or settings.source not in PLAYED_SOURCES
    return {
        "rate_hz": settings.command_rate_hz,
        "stale_s": settings.stale_s,
        # A trainer with a deadman engages by pressing it.
        "auto_engage": settings.episodes == 0 and _deadman(settings) == DeadmanMode.OFF.value,
        "engage_mode": settings.engage_mode,
        "self_collision": settings.self_collision,
        "deadman": _deadman(settings),
        "deadman_button": settings.deadman_button,
        "mapping": _absolute(settings.mapping),
        "operator": settings.operator if keeps_sizes else "",
        "trainer_folder": _absolute(folder or TRAINER_FOLDER),
    }


def _deadman(settings: StationArguments) -> str:
    if settings.deadman != AS_THE_SOURCE_HAS_IT:
        return settings.deadman
    if settings.source in PLAYED_SOURCES:
        return DeadmanMode.OFF.value
    mode = DeadmanMode.HANDS if settings.source in EMPTY_HANDED_SOURCES else DeadmanMode.SQUEEZE
    return mode.value


def _operator_file(settings: StationArguments) -> str:
    """Where the operator's sizes are kept, "" where none are."""
    parameters = RetargetingParameters(robot=settings.robot, **_retargeting_parameters(settings))  # type: ignore[arg-type]
    if not parameters.operator:
        return ""
    return str(TrainerStore(parameters.trainer_path).file(parameters.operator))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute()) if path else ""


def _skill(settings: StationArguments) -> str:
    if not settings.skill and (recorded := _recorded(settings)) is not None and recorded.skill:
        return recorded.skill
    return settings.skill or ("pick_and_place" if settings.source == "script" else "free_motion")


def _motion_rate_hz(settings: StationArguments) -> float:
    """Of the motion frames, as they are expected in the episodes."""
    recorded = _recorded(settings)
    if recorded is None or settings.speed == STEP_BY_STEP:
        return settings.headset_rate_hz
    return round(recorded.rate_hz or settings.headset_rate_hz, 3)


def _recorded(settings: StationArguments) -> BagSource | None:
    """The recording that is played, None where there is none, or none that can be."""
    if settings.source != "bag":
        return None
    try:
        source = _open_recording(_absolute(settings.motion), settings.speed, settings.loop)
    except CaptureError:
        # `_check_source` tells.
        return None
    return source


@functools.lru_cache(maxsize=1)
def _open_recording(motion: str, speed: float, loop: bool) -> BagSource:
    return BagSource(BagParameters(Path(motion), speed, loop))


def _scene(settings: StationArguments) -> Path:
    """The scene asked for; else one to grasp in, or room for a motion that was not made for our table."""
    if settings.scene:
        return scene_file(settings.scene)
    return config_file("scene.yaml" if settings.source == "script" else "scene_clear.yaml")


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


def _domain_id(settings: StationArguments, environment: Mapping[str, str], problems: list[str]) -> int:
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


def _headset(settings: StationArguments) -> HeadsetParameters:
    """What the headset node will be given. A loop that cannot be is told in the words of the station."""
    parameters: dict[str, Any] = {**_headset_parameters(settings), "robot": settings.robot, "loop": False}
    return HeadsetParameters(**parameters)


def _check_robot(settings: StationArguments, problems: list[str]) -> RobotModel | None:
    try:
        return load_robot(robot_description_file(settings.robot))
    except InvalidConfiguration as error:
        problems.extend(str(problem) for problem in error.problems)
    except (CaptureError, RetargetingError) as error:
        problems.extend(str(error).splitlines())
    return None


def _check_source(settings: StationArguments, problems: list[str]) -> None:
    """Open a played source once: a malformed motion file is told here, with its line."""
    known = known_sources()
    near = difflib.get_close_matches(settings.source, known, n=1)
    if settings.source not in known:
        hint = f" Did you mean {near[0]}?" if near else ""
        problems.append(f"source:={settings.source}: unknown source.{hint} Known sources: {', '.join(known)}")
        return
    try:
        check_source(settings.source, _headset(settings).source_options)
    except CaptureError as error:
        problems.extend(str(error).splitlines())


def _check_retargeting(settings: StationArguments, problems: list[str]) -> None:
    if _deadman(settings) != DeadmanMode.OFF.value and settings.source in PLAYED_SOURCES:
        problems.append(
            f"deadman:={settings.deadman} with source:={settings.source}: a played motion holds no deadman, "
            "so no arm would ever move; leave deadman:= out, or give deadman:=off"
        )
    held = (DeadmanMode.SQUEEZE.value, DeadmanMode.BUTTON.value)
    if settings.deadman in held and settings.source in EMPTY_HANDED_SOURCES:
        problems.append(
            f"deadman:={settings.deadman} with source:={settings.source}: who wears a suit holds no "
            "controller, so no arm would ever move; give deadman:=hands or deadman:=off"
        )
    try:
        parameters = RetargetingParameters(robot=settings.robot, **_retargeting_parameters(settings))  # type: ignore[arg-type]
        parameters.retargeter_parameters()
    except InvalidConfiguration as error:
        problems.extend(f"mapping:={problem}" for problem in error.problems)
    except RetargetingError as error:
        problems.append(f"command_rate_hz, stale_s: {error}")
        return
    if not parameters.operator:
        return
    try:
        TrainerStore(parameters.trainer_path).file(parameters.operator)
    except RetargetingError as error:
        problems.append(f"operator:={settings.operator} with trainer_folder: {error}")
    if parameters.trainer_path.exists() and not parameters.trainer_path.is_dir():
        problems.append(f"trainer_folder:={settings.trainer_folder}: {parameters.trainer_path} is no folder")


def _check_scene(settings: StationArguments, robot: RobotModel | None, problems: list[str]) -> None:
    """The scene, and whether the robot can have it in front of it, work in it and see it."""
    try:
        scene = load_scene(_scene(settings))
        if robot is not None and settings.source == "script":
            headset = _headset(settings)
            ScriptedTask(robot, Person.of_stature(headset.stature_m), headset.task_parameters)
        elif robot is not None:
            layout_scene(robot, scene)
    except (CaptureError, RetargetingError) as error:
        problems.extend(str(error).splitlines())
    if robot is not None and settings.cameras and not robot.description.cameras:
        problems.append(
            f"cameras:=true: {robot.description.file} names no camera (sensors.cameras); say cameras:=false"
        )


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


def _check_root(settings: StationArguments, problems: list[str]) -> Path:
    """The folder of the episodes, made where it is missing and tried by writing into it."""
    root = Path(settings.root).expanduser().absolute()
    try:
        (root / ".station").mkdir(parents=True, exist_ok=True)
        probe = root / ".station" / f"probe_{os.getpid()}"
        probe.touch()
        probe.unlink()
    except OSError as error:
        problems.append(
            f"root:={settings.root}: the folder cannot be written ({error.strerror}: {error.filename}); "
            "give another folder with root:=…"
        )
    return root


def _check_combinations(settings: StationArguments, problems: list[str]) -> None:
    if settings.loop and settings.episodes > 0:
        problems.append(
            f"loop:=true with episodes:={settings.episodes}: a repetition ends with the motion, and a looped "
            "one never ends; leave loop:= out, or give episodes:=0"
        )
    if settings.loop and settings.source in LIVE_SOURCES:
        problems.append(
            f"loop:=true with source:={settings.source}: nothing is played that could start again"
        )
    elif settings.loop and settings.source == "script":
        problems.append(
            "loop:=true with source:=script: the scripted trainer acts once on what it sees; leave loop:= "
            "out, or give source:=bvh"
        )
    if settings.engage_mode == EngageMode.RELATIVE.value and settings.source == "script":
        problems.append(
            "engage_mode:=relative with source:=script: the scripted trainer reaches for what it sees, and a "
            "clutch would keep the hand beside it; leave engage_mode:= out, or give source:=bvh"
        )
    if settings.source != "openxr":
        problems.extend(
            f"openxr_{name}:={getattr(settings, f'openxr_{name}'):g} with source:={settings.source}: only "
            "source:=openxr has it"
            for name in OPENXR_SETTINGS
            if getattr(settings, f"openxr_{name}") != getattr(OpenXrParameters, name)
        )
    shortest_s = _STALE_PERIODS / settings.headset_rate_hz
    if settings.stale_s <= shortest_s:
        problems.append(
            f"stale_s:={settings.stale_s:g} with headset_rate_hz:={settings.headset_rate_hz:g}: more than "
            f"{_STALE_PERIODS:g} frames of the motion ({shortest_s:.3g} s) is expected, or one late frame "
            "holds the robot"
        )


def _check_recording(settings: StationArguments, problems: list[str]) -> None:
    try:
        EpisodeFields(robot="robot", skill=_skill(settings))
    except CaptureError as error:
        problems.append(f"skill:={settings.skill}: {error}")
    if not settings.recorder_config:
        return
    path = Path(settings.recorder_config).expanduser()
    if not path.is_file():
        problems.append(f"recorder_config:={settings.recorder_config}: there is no such file")
        return
    try:
        load_recorder_configuration(path)
    except CaptureError as error:
        problems.extend(f"recorder_config:={line}" for line in str(error).splitlines())


def _pairing(settings: StationArguments) -> str:
    """For the terminal only: it shows the pairing token, which no log file may hold."""
    from capture_nodes.sources.webxr import DEFAULT_ADDRESS, WebxrParameters, pairing_text

    return pairing_text(WebxrParameters(settings.address or DEFAULT_ADDRESS))


def usage() -> str:
    """Help text: the arguments as the defaults file documents them."""
    text = config_file("station.yaml").read_text(encoding="utf-8")
    indented = "".join(f"  {line}\n" if line else "\n" for line in text.splitlines())
    return (
        "usage: station [name:=value …]\n"
        "       station robots [--json] [--check]    which robots there are, and whether they can be used\n"
        "       station calibrate operator:=… source:=…    measure a trainer by poses\n\n"
        "Start a station on this machine: trainer, retargeting, robot, cameras, recorder, and a session\n"
        "that records the repetitions. Ctrl-C stops all in order; the episode at hand is completed.\n\n"
        "  station robot:=kestrel source:=script episodes:=3 root:=recordings\n"
        "  station robot:=g1 source:=bvh motion:=FILE.bvh episodes:=1\n"
        "  station robot:=g1 source:=bag file:=EPISODE.mcap episodes:=1\n\n"
        "exit code: 0 all went well; 1 the session failed, messages were lost or an episode failed its\n"
        "check of streams, limits, frames or grasp; 2 an argument or a file cannot be used; 3 a process\n"
        "died or never became ready; 130 interrupted\n\n"
        f"arguments and defaults (config/station.yaml):\n\n{indented}"
    )


def main() -> None:
    words = sys.argv[1:]
    if words[:1] == ["robots"]:
        sys.exit(list_robots(words[1:]))
    if words[:1] == ["calibrate"]:
        sys.exit(calibrate(words[1:]))
    if any(word in ("-h", "--help", "help") for word in words):
        print(usage())
        sys.exit(EXIT_OK)
    prepare_ros_environment()
    try:
        plan = make_plan(words)
    except StationError as error:
        for problem in error.problems:
            print(f"station: error: {problem}", file=sys.stderr)
        sys.exit(EXIT_BAD_ARGUMENTS)
    for warning in plan.warnings:
        print(f"station: warning: {warning}", file=sys.stderr)
    if plan.arguments.source == "webxr":
        print(_pairing(plan.arguments), flush=True)
    os.environ.update(plan.environment)
    try:
        from capture_nodes.station_supervisor import Supervisor
    except ImportError as error:
        print(
            f"station: error: ROS 2 cannot be used from {sys.executable}: {error}. Source a ROS 2 install "
            "(source /opt/ros/<distribution>/setup.bash), or run `make demo` once and use .venv/bin/station",
            file=sys.stderr,
        )
        sys.exit(EXIT_BAD_ARGUMENTS)
    # Who stops the robot when a process dies must not wait for anybody's pictures.
    prefer_thread(SERVING)
    sys.exit(Supervisor(plan, at_the_end=lambda code: exit_within(_LEAVING_S, code)).run())


if __name__ == "__main__":
    main()
