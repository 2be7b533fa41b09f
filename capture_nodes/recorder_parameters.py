"""What may be said to the recorder node, and what that makes of its configuration."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import VERDICTS
from capture_nodes.recording.recorder_configuration import (
    CAMERA_TOPICS,
    COMMAND_TOPICS,
    MOTION_TOPICS,
    RecorderConfiguration,
    TopicRule,
    load_recorder_configuration,
)
from capture_nodes.resources import config_file
from retargeting.robot_description import RobotDescription

# It is sent only while the base is driven: no rate is expected.
_BASE_TYPE = "geometry_msgs/msg/Twist"


@dataclass(frozen=True)
class RecorderParameters:
    """ROS parameters of the node; ``simulated``: yes, no or auto (a simulated_robot publishes the joints).

    The rates (Hz) that the station gives its commands, motion frames and cameras; 0: as `recorder.yaml` has
    it, or for cameras the `robot.yaml`. `verdict` (success, failure or empty) and `reason` are set while an
    episode is recorded; `~/stop` writes them into it and clears them. `moment` names what `~/mark_moment`
    marks. `instruction` is a text or a JSON object of texts by language. `attachments` and `calibrations` are
    files, separated by colons, that go into every episode as they are when it starts; of the latter, which
    need not be there yet, dates and sums go into its record. `station`: the station's arguments as JSON,
    attached too.
    """

    root: str = "episodes_data"
    robot: str = "kestrel"
    config: str = ""
    skill: str = "unnamed"
    operator: str = ""
    source: str = ""
    scenario: str = ""
    instruction: str = ""
    assignment: str = ""
    robot_serial: str = ""
    attachments: str = ""
    calibrations: str = ""
    station: str = ""
    simulated: str = "auto"
    report_path: str = ""
    command_rate_hz: float = 0.0
    motion_rate_hz: float = 0.0
    camera_rate_hz: float = 0.0
    verdict: str = ""
    reason: str = ""
    moment: str = ""

    def __post_init__(self) -> None:
        problems = []
        if self.simulated not in ("auto", "yes", "no"):
            problems.append(f"parameter simulated: {self.simulated!r} is given; auto, yes or no is expected")
        for name in ("command_rate_hz", "motion_rate_hz", "camera_rate_hz"):
            rate_hz = getattr(self, name)
            if rate_hz != 0.0 and not 0.001 <= rate_hz <= 10000.0:
                problems.append(
                    f"parameter {name}: {rate_hz} is given; 0.001 to 10000, or 0 for what the configuration "
                    "says, is expected"
                )
        if problem := verdict_problem(self.verdict):
            problems.append(problem)
        if problems:
            raise CaptureError("\n".join(problems))

    def configuration(self, robot: RobotDescription) -> RecorderConfiguration:
        """The configured file with the rates of the station and what the robot has.

        Raises `InvalidRecorderConfiguration` with every problem of the file.
        """
        file = Path(self.config) if self.config else config_file("recorder.yaml")
        configuration = load_recorder_configuration(file)
        for topics, rate_hz in (
            (COMMAND_TOPICS, self.command_rate_hz),
            (MOTION_TOPICS, self.motion_rate_hz),
            (CAMERA_TOPICS, self.camera_rate_hz or robot.camera_rate_hz),
        ):
            if rate_hz:
                configuration = configuration.with_rate(topics, rate_hz)
        if robot.base is not None:
            configuration = configuration.with_topic(TopicRule(robot.base.topic, _BASE_TYPE))
        return configuration


def verdict_problem(verdict: object) -> str:
    """Why `verdict` is none, or "" where it is one."""
    if verdict in VERDICTS:
        return ""
    return f"parameter verdict: {verdict!r} is given; success, failure or nothing is expected"
