"""What the record of an episode says of its robot."""

from __future__ import annotations

import hashlib
from typing import Any

from capture_nodes.command_messages import JOINT_COMMANDS
from retargeting.robot_model import RobotModel


def robot_fields(model: RobotModel, namespace: str) -> dict[str, Any]:
    """Fields of `EpisodeFields` by name; `namespace` of the robot's topics, without a slash at its end."""
    return {
        "robot": model.name,
        "urdf_sha256": hashlib.sha256(model.urdf.text.encode("utf-8")).hexdigest(),
        "end_effectors": {
            **{site: "gripper" for site in model.description.grippers},
            **{site: "hand" for site in model.description.hands},
        },
        "action_space": {
            "topic": f"{namespace}/{JOINT_COMMANDS}",
            "values": "joint positions and velocities",
            "reference": "absolute",
            "frame": "joint",
            "unit": "rad, rad/s; m, m/s of prismatic joints",
        },
        "control_mode": model.description.command_interface.kind,
    }
