"""An applied command as serialized messages, by topic: the joints, their cause, the targets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from capture_nodes.cdr_template import joint_command_template, pose_template, time_reference_template
from retargeting.applied_command import AppliedCommand
from retargeting.body_points import SIDES
from retargeting.robot_model import RobotModel

JOINT_COMMANDS = "joint_commands"
COMMAND_CAUSE = "command_cause"
_MOTION = "/trainer/motion"


class CommandMessages:
    """Of the commands of `model`. `types`: message type by topic, relative to the robot's namespace."""

    def __init__(self, model: RobotModel) -> None:
        chains = model.description.chains
        sites = [f"{side}_wrist" for side in SIDES if chains[f"{side}_arm"]]
        if chains["head"]:
            sites.append("head")
        root = f"{model.name}/{model.urdf.root}"
        self._targets = {site: (f"target/{site}", pose_template(root)) for site in sites}
        self._commands = joint_command_template(model.joint_names)
        self._causes = time_reference_template(_MOTION)
        self.types: Mapping[str, str] = {
            JOINT_COMMANDS: "sensor_msgs/msg/JointState",
            COMMAND_CAUSE: "sensor_msgs/msg/TimeReference",
            **{topic: "geometry_msgs/msg/PoseStamped" for topic, _ in self._targets.values()},
        }

    def of(self, command: AppliedCommand) -> Iterator[tuple[str, bytes]]:
        """Topic and CDR of each message of one command, all stamped with its tick."""
        self._commands.set_stamp(command.stamp_ns)
        self._commands.set("position", command.positions)
        self._commands.set("velocity", command.velocities)
        yield JOINT_COMMANDS, bytes(self._commands)
        if command.cause_stamp_ns is not None:
            self._causes.set_stamp(command.stamp_ns)
            self._causes.set_time("time_ref", command.cause_stamp_ns)
            yield COMMAND_CAUSE, bytes(self._causes)
        for site, pose in command.targets.items():
            topic, target = self._targets[site]
            target.set_stamp(command.stamp_ns)
            target.set("pose", pose)
            yield topic, bytes(target)
