"""What episodes are told by ROS parameters of the recorder, which may be set from one to the next."""

from __future__ import annotations

import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter

from capture_nodes.recorder_parameters import verdict_problem
from capture_nodes.recording.episode_record import EpisodeFields

_FIELDS = ("skill", "operator", "source", "scenario", "instruction")


class EpisodeParameters:
    """Reads the parameters of `node`, which has declared `RecorderParameters`."""

    def __init__(self, node: Node, robot: str, urdf_sha256: str) -> None:
        self._node, self._robot, self._urdf_sha256 = node, robot, urdf_sha256
        node.add_on_set_parameters_callback(_check)

    def fields(self, simulated: bool) -> EpisodeFields:
        """A snapshot. Raises `CaptureError` where a value cannot be used."""
        now: dict[str, Any] = {name: self._text(name) for name in _FIELDS}
        return EpisodeFields(
            robot=self._robot, simulated=simulated, urdf_sha256=self._urdf_sha256, versions=_versions(), **now
        )

    def take_verdict(self) -> tuple[str, str]:
        """Verdict and reason as they were set, which then are empty for the next episode."""
        verdict, reason = self._text("verdict"), self._text("reason")
        if verdict or reason:
            self._node.set_parameters([Parameter("verdict", value=""), Parameter("reason", value="")])
        return verdict, reason

    def _text(self, name: str) -> str:
        return str(self._node.get_parameter(name).value)


def _check(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse what no episode can carry, so that who sets it hears of it and not who stops the episode."""
    for parameter in parameters:
        if parameter.name == "verdict" and (problem := verdict_problem(parameter.value)):
            return SetParametersResult(successful=False, reason=problem)
    return SetParametersResult(successful=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("teleop_capture", "rclpy", "mcap"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            # A checkout that is run in place has no version of its own.
            versions[package] = "unknown"
    return versions
