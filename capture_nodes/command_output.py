"""An applied command on the network: joints, their cause, the targets, what the robot's controllers take."""

from __future__ import annotations

from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import JointState, TimeReference

from capture_nodes import topics
from capture_nodes.command_messages import CommandMessages
from capture_nodes.controller_commands import ControllerCommands
from capture_nodes.node_runtime import CaptureNode
from retargeting.applied_command import AppliedCommand
from retargeting.robot_model import RobotModel

_TYPES = {
    "sensor_msgs/msg/JointState": JointState,
    "sensor_msgs/msg/TimeReference": TimeReference,
    "geometry_msgs/msg/PoseStamped": PoseStamped,
}


class CommandOutput:
    """Publishes the commands of `model` in the namespace of `node`, `rate_hz` times a second."""

    def __init__(self, node: CaptureNode, model: RobotModel, rate_hz: float) -> None:
        qos = topics.stream_qos(rate_hz)
        self._messages = CommandMessages(model)
        self._publishers = {
            topic: node.counting_publisher(_TYPES[kind], topic, qos)
            for topic, kind in self._messages.types.items()
        }
        self._controllers = ControllerCommands(
            model, lambda kind, topic: node.counting_publisher(kind, topic, qos)
        )

    def publish(self, command: AppliedCommand) -> None:
        for topic, data in self._messages.of(command):
            self._publishers[topic].publish(data)
            if topic == topics.JOINT_COMMANDS:
                self._controllers.publish(command.positions)
