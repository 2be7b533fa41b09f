"""An applied command as messages: joints, their cause, the targets, and what the robot's controllers take."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState, TimeReference

from capture_nodes import topics
from capture_nodes.cdr_template import joint_command_template, pose_template, time_reference_template
from capture_nodes.controller_commands import ControllerCommands
from capture_nodes.node_runtime import CaptureNode
from retargeting.applied_command import AppliedCommand
from retargeting.body_points import SIDES
from retargeting.robot_model import RobotModel


class CommandOutput:
    """Publishes the commands of `model` in the namespace of `node`, `rate_hz` times a second."""

    def __init__(self, node: CaptureNode, model: RobotModel, rate_hz: float) -> None:
        qos = topics.stream_qos(rate_hz)
        self._commands = node.counting_publisher(JointState, topics.JOINT_COMMANDS, qos)
        self._causes = node.counting_publisher(TimeReference, topics.COMMAND_CAUSE, qos)
        chains = model.description.chains
        sites = [f"{side}_wrist" for side in SIDES if chains[f"{side}_arm"]]
        if chains["head"]:
            sites.append("head")
        root = f"{model.name}/{model.urdf.root}"
        self._targets = {
            site: (node.counting_publisher(PoseStamped, f"target/{site}", qos), pose_template(root))
            for site in sites
        }
        self._controllers = ControllerCommands(
            model, lambda kind, topic: node.counting_publisher(kind, topic, qos)
        )
        self._command_template = joint_command_template(model.joint_names)
        self._cause_template = time_reference_template(topics.MOTION)

    def publish(self, command: AppliedCommand) -> None:
        template = self._command_template
        template.set_stamp(command.stamp_ns)
        template.set("position", command.positions)
        template.set("velocity", command.velocities)
        self._commands.publish(bytes(template))
        self._controllers.publish(command.positions)
        if command.cause_stamp_ns is not None:
            self._cause_template.set_stamp(command.stamp_ns)
            self._cause_template.set_time("time_ref", command.cause_stamp_ns)
            self._causes.publish(bytes(self._cause_template))
        for site, pose in command.targets.items():
            publisher, target = self._targets[site]
            target.set_stamp(command.stamp_ns)
            target.set("pose", pose)
            publisher.publish(bytes(target))
