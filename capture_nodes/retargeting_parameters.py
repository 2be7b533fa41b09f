"""What may be said to the retargeting node, and what that makes of the retargeter."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from capture_nodes.resources import config_file, user_path
from retargeting.deadman import DeadmanParameters
from retargeting.mapping_settings import load_mapping_settings
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.solver import SolverParameters

TRAINER_FOLDER = "~/.local/share/teleop_capture/trainers"


@dataclass(frozen=True)
class RetargetingParameters:
    """robot: name or path of a robot.yaml; rate_hz of commands; stale_s: motion older than this holds;
    auto_engage: engage as soon as it is possible, once; engage_mode: absolute or relative, may be set while
    the node runs; deadman: off, squeeze, button or hands, with the button of each controller; mapping: a file
    as config/mapping.yaml ("": that); self_collision: keep the robot's links apart; branch_recovery: lead an
    arm out of a wrong branch; operator: whose size is kept in trainer_folder ("": measured every time).
    """

    robot: str = "kestrel"
    rate_hz: float = 200.0
    stale_s: float = 0.1
    auto_engage: bool = False
    engage_mode: str = "absolute"
    deadman: str = "off"
    deadman_button: str = "primary"
    mapping: str = ""
    self_collision: bool = True
    branch_recovery: bool = SolverParameters.branch_recovery
    operator: str = ""
    trainer_folder: str = TRAINER_FOLDER

    @property
    def trainer_path(self) -> Path:
        return user_path(self.trainer_folder)

    @property
    def solver_parameters(self) -> SolverParameters:
        return SolverParameters(self_collision=self.self_collision, branch_recovery=self.branch_recovery)

    def retargeter_parameters(self) -> RetargeterParameters:
        """Raises `RetargetingError` with every problem of the values, or of the mapping file."""
        # A bare off is false to ROS and to YAML.
        mode = "off" if self.deadman in ("False", "false") else self.deadman
        mapping = user_path(self.mapping) if self.mapping else config_file("mapping.yaml")
        return RetargeterParameters(
            rate_hz=self.rate_hz,
            stale_s=self.stale_s,
            engage_mode=self.engage_mode,
            deadman=DeadmanParameters(mode, self.deadman_button),
            mapping=load_mapping_settings(mapping),
        )
