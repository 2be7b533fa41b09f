"""What episodes are told by ROS parameters of the recorder, which may be set from one to the next."""

from __future__ import annotations

import dataclasses
import hashlib
import os
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
from capture_nodes.robot_fields import robot_fields
from capture_nodes.software_versions import software_versions
from retargeting.robot_model import RobotModel

_FIELDS = ("skill", "operator", "source", "scenario", "assignment", "robot_serial")
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
        node.add_on_set_parameters_callback(_check)

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

    def moment(self) -> str:
        return self._text("moment")

    def _calibrations(self) -> list[Path]:
        # An operator's is made by the first session.
        return [path for path in self._files("calibrations") if path.exists()]

    def _files(self, name: str) -> list[Path]:
        return [Path(text).expanduser() for text in self._text(name).split(os.pathsep) if text]

    def _text(self, name: str) -> str:
        return str(self._node.get_parameter(name).value)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CaptureError(f"attachment {path} cannot be read: {error.strerror}") from error


def _sum_and_date(path: Path) -> dict[str, str]:
    data = _read(path)
    changed = datetime.fromtimestamp(path.stat().st_mtime, tz=timezone.utc)
    return {"sha256": hashlib.sha256(data).hexdigest(), "date": changed.isoformat(timespec="seconds")}


def _check(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse what no episode can carry, so that who sets it hears of it and not who stops the episode."""
    for parameter in parameters:
        if parameter.name == "verdict" and (problem := verdict_problem(parameter.value)):
            return SetParametersResult(successful=False, reason=problem)
        if parameter.name == "instruction":
            try:
                read_instructions(str(parameter.value))
            except CaptureError as error:
                return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)
