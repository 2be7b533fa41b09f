"""What episodes are told by ROS parameters of the recorder, which may be set from one to the next."""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from capture_nodes.clock_state import clock_state
from capture_nodes.errors import CaptureError
from capture_nodes.instructions import read_instructions
from capture_nodes.recorder_parameters import verdict_problem
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import Attachment
from capture_nodes.resources import user_path
from capture_nodes.robot_fields import robot_fields
from capture_nodes.software_versions import software_versions
from retargeting.robot_model import RobotModel

_FIELDS = ("skill", "operator", "source", "scenario", "assignment", "robot_serial")
# What they say is done once, at the start of the node.
FIXED = (
    "root",
    "robot",
    "config",
    "simulated",
    "report_path",
    "command_rate_hz",
    "motion_rate_hz",
    "camera_rate_hz",
)
_MEDIA_TYPES = {".yaml": "application/yaml", ".yml": "application/yaml", ".json": "application/json"}


class EpisodeParameters:
    """Reads the parameters of `node`, which has declared `RecorderParameters`."""

    def __init__(self, node: Node, model: RobotModel) -> None:
        self._node = node
        self._robot = EpisodeFields(
            skill="unnamed",
            versions=software_versions("teleop_capture", "rclpy", "mcap"),
            **robot_fields(model, node.get_namespace().rstrip("/")),
        )
        self._fixed = {name: node.get_parameter(name).value for name in FIXED}
        node.add_on_set_parameters_callback(self._check)

    def fields(self, simulated: bool) -> EpisodeFields:
        """A snapshot. Raises `CaptureError` where a value cannot be used."""
        texts: dict[str, Any] = {name: self._text(name) for name in _FIELDS}
        clock = {"source": "system (ROS time)", **dataclasses.asdict(clock_state())}
        return dataclasses.replace(
            self._robot,
            simulated=simulated,
            instruction=read_instructions(self._text("instruction")),
            calibrations={path.name: _sum_and_date(path) for path in self._calibrations()},
            clock=clock,
            **texts,
        )

    def attachments(self) -> tuple[Attachment, ...]:
        """The named files as they are now. Raises `CaptureError` where one cannot be read."""
        files = tuple(
            Attachment(path.name, _MEDIA_TYPES.get(path.suffix, "application/octet-stream"), _read(path))
            for path in (*self._files("attachments"), *self._calibrations())
        )
        station = self._text("station")
        if not station:
            return files
        return (*files, Attachment("station.json", "application/json", station.encode("utf-8")))

    def take_verdict(self) -> tuple[str, str]:
        """Verdict and reason as they were set, which then are empty for the next episode."""
        verdict, reason = self._text("verdict"), self._text("reason")
        if verdict or reason:
            self._node.set_parameters([Parameter("verdict", value=""), Parameter("reason", value="")])
        return verdict, reason

    def _check(self, parameters: list[Parameter]) -> SetParametersResult:
        """Refuse what no episode can carry: who sets it hears of it, and not who stops the episode."""
        try:
            for parameter in parameters:
                if problem := set_problem(parameter.name, parameter.value, self._fixed):
                    return SetParametersResult(successful=False, reason=problem)
        except Exception as error:
            # From a callback it would end the node, and with it the episode.
            return SetParametersResult(successful=False, reason=f"cannot be checked: {error!r}")
        return SetParametersResult(successful=True)

    def moment(self) -> str:
        return self._text("moment")

    def _calibrations(self) -> list[Path]:
        # An operator's is made by the first session.
        try:
            return [path for path in self._files("calibrations") if path.exists()]
        except OSError as error:
            raise CaptureError(f"parameter calibrations: {error.filename}: {error.strerror}") from error

    def _files(self, name: str) -> list[Path]:
        try:
            return [user_path(text) for text in self._text(name).split(os.pathsep) if text]
        except CaptureError as error:
            raise CaptureError(f"parameter {name}: {error}") from error

    def _text(self, name: str) -> str:
        return str(self._node.get_parameter(name).value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureError(f"attachment {path} cannot be read: {error.strerror}") from error


def _sum_and_date(path: Path) -> dict[str, str]:
    data = _read(path)
    try:
        changed = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    except OSError as error:
        raise CaptureError(f"calibration {path} cannot be read: {error.strerror}") from error
    return {"sha256": hashlib.sha256(data).hexdigest(), "date": changed.isoformat(timespec="seconds")}


def set_problem(name: str, value: object, fixed: Mapping[str, object]) -> str:
    """Why a parameter cannot be set to ``value``, "" where it can; ``fixed``: those that stay as they are."""
    if name in fixed and value != fixed[name]:
        return (
            f"parameter {name}: {value!r} is given; it stays {fixed[name]!r} as long as the recorder runs: "
            "start it again with the other"
        )
    try:
        if name == "verdict":
            return verdict_problem(value)
        if name == "instruction":
            read_instructions(str(value))
        elif name == "skill":
            EpisodeFields(robot="any", skill=str(value))
        elif isinstance(value, str):
            value.encode("utf-8")
    except CaptureError as error:
        return str(error)
    except UnicodeEncodeError:
        return f"parameter {name}: {value!r} is given; Unicode text is expected"
    return ""
