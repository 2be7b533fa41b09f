"""What a station's arguments mean for its nodes: which parameters they are given."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import OPENXR_SETTINGS, HeadsetParameters
from capture_nodes.resources import config_file, scene_file, user_path
from capture_nodes.retargeting_parameters import TRAINER_FOLDER, RetargetingParameters
from capture_nodes.sources.bag import STEP_BY_STEP, BagParameters, BagSource
from capture_nodes.sources.registry import (
    EMPTY_HANDED_SOURCES,
    PLAYED_SOURCES,
)
from capture_nodes.station_arguments import AS_THE_SOURCE_HAS_IT, ParameterValue, StationArguments
from retargeting.deadman import DeadmanMode
from retargeting.trainer_store import TrainerStore


def headset_parameters(settings: StationArguments) -> dict[str, ParameterValue]:
    """What only the headset node is given."""
    up_axis = settings.up_axis
    return {
        "source": settings.source,
        "motion": absolute_path(settings.motion),
        "scale": settings.scale,
        # A bare y is true to ROS; with its sign it stays a text.
        "up_axis": f"+{up_axis}" if up_axis in ("x", "y", "z") else up_axis,
        "loop": settings.loop,
        "speed": settings.speed,
        "address": settings.address,
        "skill": skill_of(settings),
        "instruction": settings.instruction,
        "peers": settings.peers,
        "skeleton": absolute_path(settings.skeleton),
        "rate_hz": settings.headset_rate_hz,
        **{f"openxr_{name}": getattr(settings, f"openxr_{name}") for name in OPENXR_SETTINGS},
        "scene": str(scene_of(settings).absolute()),
        "seed": settings.seed,
        "start": "service" if settings.episodes > 0 else "auto",
    }


def retargeting_parameters(settings: StationArguments) -> dict[str, ParameterValue]:
    """What only the retargeting node is given."""
    folder = settings.trainer_folder
    keeps_sizes = bool(folder) or settings.source not in PLAYED_SOURCES
    return {
        "rate_hz": settings.command_rate_hz,
        "stale_s": settings.stale_s,
        # A trainer with a deadman engages by pressing it.
        "auto_engage": settings.episodes == 0 and deadman_mode(settings) == DeadmanMode.OFF.value,
        "engage_mode": settings.engage_mode,
        "self_collision": settings.self_collision,
        "branch_recovery": settings.branch_recovery,
        "deadman": deadman_mode(settings),
        "deadman_button": settings.deadman_button,
        "mapping": absolute_path(settings.mapping),
        "operator": settings.operator if keeps_sizes else "",
        "trainer_folder": absolute_path(folder or TRAINER_FOLDER),
    }


def deadman_mode(settings: StationArguments) -> str:
    """The deadman asked for; else the one that fits the source."""
    if settings.deadman != AS_THE_SOURCE_HAS_IT:
        return settings.deadman
    if settings.source in PLAYED_SOURCES:
        return DeadmanMode.OFF.value
    mode = DeadmanMode.HANDS if settings.source in EMPTY_HANDED_SOURCES else DeadmanMode.SQUEEZE
    return mode.value


def operator_file(settings: StationArguments) -> str:
    """Where the operator's sizes are kept, "" where none are."""
    parameters = RetargetingParameters(robot=settings.robot, **retargeting_parameters(settings))  # type: ignore[arg-type]
    if not parameters.operator:
        return ""
    return str(TrainerStore(parameters.trainer_path).file(parameters.operator))


def absolute_path(path: str) -> str:
    """With `~` written out; "" stays empty."""
    return str(user_path(path).absolute()) if path else ""


def skill_of(settings: StationArguments) -> str:
    """The skill asked for; else the recording's, or what the source shows."""
    if not settings.skill and (recorded := recorded_source(settings)) is not None and recorded.skill:
        return recorded.skill
    return settings.skill or ("pick_and_place" if settings.source == "script" else "free_motion")


def motion_rate_hz(settings: StationArguments) -> float:
    """Of the motion frames, as they are expected in the episodes."""
    recorded = recorded_source(settings)
    if recorded is None or settings.speed == STEP_BY_STEP:
        return settings.headset_rate_hz
    return round(recorded.rate_hz or settings.headset_rate_hz, 3)


def recorded_source(settings: StationArguments) -> BagSource | None:
    """The recording that is played, None where there is none, or none that can be."""
    if settings.source != "bag":
        return None
    try:
        source = _open_recording(absolute_path(settings.motion), settings.speed, settings.loop)
    except CaptureError:
        # `check_trainer_source` tells.
        return None
    return source


@functools.lru_cache(maxsize=1)
def _open_recording(motion: str, speed: float, loop: bool) -> BagSource:
    return BagSource(BagParameters(Path(motion), speed, loop))


def scene_of(settings: StationArguments) -> Path:
    """The scene asked for; else one to grasp in, or room for a motion that was not made for our table."""
    if settings.scene:
        return scene_file(settings.scene)
    return config_file("scene.yaml" if settings.source == "script" else "scene_clear.yaml")


def headset_settings(settings: StationArguments) -> HeadsetParameters:
    """What the headset node will be given. A loop that cannot be is told in the words of the station."""
    parameters: dict[str, Any] = {**headset_parameters(settings), "robot": settings.robot, "loop": False}
    return HeadsetParameters(**parameters)
