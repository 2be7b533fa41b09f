"""Whether a station can be started as asked: robot, source, scene, folder, recording, combinations.

Each check adds what is wrong, in the words of the arguments, to a list of problems.
"""

from __future__ import annotations

import difflib
import os
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import OPENXR_SETTINGS
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.recorder_configuration import load_recorder_configuration
from capture_nodes.resources import robot_description_file, user_path
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.scripted_task import ScriptedTask
from capture_nodes.simulation.scene import layout_scene, load_scene
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.person import Person
from capture_nodes.sources.registry import (
    EMPTY_HANDED_SOURCES,
    LIVE_SOURCES,
    PLAYED_SOURCES,
    check_source,
    known_sources,
)
from capture_nodes.station_arguments import StationArguments
from capture_nodes.station_parameters import (
    deadman_mode,
    headset_settings,
    retargeting_parameters,
    scene_of,
    skill_of,
)
from retargeting.deadman import DeadmanMode
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_model import RobotModel, load_robot
from retargeting.trainer_store import TrainerStore

# Motion is late only when more than one frame is missing.
_STALE_PERIODS = 2.0


def check_robot(settings: StationArguments, problems: list[str]) -> RobotModel | None:
    try:
        return load_robot(robot_description_file(settings.robot))
    except InvalidConfiguration as error:
        problems.extend(str(problem) for problem in error.problems)
    except (CaptureError, RetargetingError) as error:
        problems.extend(str(error).splitlines())
    return None


def check_trainer_source(settings: StationArguments, problems: list[str]) -> None:
    """Open a played source once: a malformed motion file is told here, with its line."""
    known = known_sources()
    near = difflib.get_close_matches(settings.source, known, n=1)
    if settings.source not in known:
        hint = f" Did you mean {near[0]}?" if near else ""
        problems.append(f"source:={settings.source}: unknown source.{hint} Known sources: {', '.join(known)}")
        return
    try:
        check_source(settings.source, headset_settings(settings).source_options)
    except CaptureError as error:
        problems.extend(str(error).splitlines())


def check_retargeting(settings: StationArguments, problems: list[str]) -> None:
    if deadman_mode(settings) != DeadmanMode.OFF.value and settings.source in PLAYED_SOURCES:
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
        parameters = RetargetingParameters(robot=settings.robot, **retargeting_parameters(settings))  # type: ignore[arg-type]
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


def check_scene(settings: StationArguments, robot: RobotModel | None, problems: list[str]) -> None:
    """The scene, and whether the robot can have it in front of it, work in it and see it."""
    try:
        scene = load_scene(scene_of(settings))
        if robot is not None and settings.source == "script":
            headset = headset_settings(settings)
            ScriptedTask(robot, Person.of_stature(headset.stature_m), headset.task_parameters)
        elif robot is not None:
            layout_scene(robot, scene)
    except (CaptureError, RetargetingError) as error:
        problems.extend(str(error).splitlines())
    if robot is not None and settings.cameras and not robot.description.cameras:
        problems.append(
            f"cameras:=true: {robot.description.file} names no camera (sensors.cameras); say cameras:=false"
        )


def check_root(settings: StationArguments, problems: list[str]) -> Path:
    """The folder of the episodes, made where it is missing and tried by writing into it."""
    root = user_path(settings.root).absolute()
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


def check_combinations(settings: StationArguments, problems: list[str]) -> None:
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


def check_recording(settings: StationArguments, problems: list[str]) -> None:
    try:
        EpisodeFields(robot="robot", skill=skill_of(settings))
    except CaptureError as error:
        problems.append(f"skill:={settings.skill}: {error}")
    if not settings.recorder_config:
        return
    path = user_path(settings.recorder_config)
    if not path.is_file():
        problems.append(f"recorder_config:={settings.recorder_config}: there is no such file")
        return
    try:
        load_recorder_configuration(path)
    except CaptureError as error:
        problems.extend(f"recorder_config:={line}" for line in str(error).splitlines())
