"""Commands as ros2_control's controllers take them, beside `joint_commands`.

`command_interface` of a `robot.yaml` names the controllers, each with its topic and its joints.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture_nodes.cdr_template import CdrTemplate, float64_multi_array_template, joint_trajectory_template
from capture_nodes.errors import CaptureError
from retargeting.robot_description import CommandInterface, Controller
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]
# What sends bytes: made from a message type and a topic.
MakePublisher = Callable[[type, str], Any]

_TYPES = {
    "joint_trajectory": ("trajectory_msgs", "JointTrajectory"),
    "float64_multi_array": ("std_msgs", "Float64MultiArray"),
}


class ControllerCommands:
    """Sends every applied command to the controllers of one robot.

    Raises `CaptureError` where the message type of the robot's interface is not installed.
    """

    def __init__(self, model: RobotModel, make_publisher: MakePublisher) -> None:
        interface = model.description.command_interface
        self._outputs = []
        for controller in interface.controllers.values():
            publisher = make_publisher(_message_type(interface.kind), controller.topic)
            columns = np.array([model.joint_names.index(name) for name in controller.joints], dtype=np.intp)
            self._outputs.append((publisher, _template(interface, controller), columns))

    def publish(self, positions: Array) -> None:
        """Send positions ``(n,)`` (rad, m) in the order of the model's `joint_names`."""
        for publisher, template, columns in self._outputs:
            template.set("position", positions[columns])
            publisher.publish(bytes(template))


def _template(interface: CommandInterface, controller: Controller) -> CdrTemplate:
    if interface.kind == "joint_trajectory":
        return joint_trajectory_template(controller.joints, interface.time_from_start_s)
    return float64_multi_array_template(len(controller.joints))


def _message_type(kind: str) -> type:
    package, name = _TYPES[kind]
    try:
        found: type = getattr(importlib.import_module(f"{package}.msg"), name)
    except ImportError as error:
        raise CaptureError(
            f"command_interface.kind {kind}: {package} is not installed ({error}); install it with: "
            f"pip install ros-{package.replace('_', '-')}, or with your ROS 2 packages"
        ) from error
    return found
