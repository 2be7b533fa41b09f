"""The trainer's sticks to the robot's mobile base: `geometry_msgs/Twist` where its robot.yaml names one."""

from __future__ import annotations

from geometry_msgs.msg import Twist

from capture_nodes import topics
from capture_nodes.cdr_template import twist_template
from capture_nodes.node_runtime import CaptureNode
from retargeting.base_drive import BaseDrive
from retargeting.motion_frame import Controls
from retargeting.robot_description import MobileBase


class BaseOutput:
    """Says a velocity at every tick while the base moves, zeros for a moment after, then nothing."""

    def __init__(self, node: CaptureNode, base: MobileBase, rate_hz: float) -> None:
        self._drive = BaseDrive(base, 1.0 / rate_hz)
        self._publisher = node.counting_publisher(
            Twist, base.topic, topics.stream_qos(rate_hz, history_s=1.0)
        )
        self._template = twist_template()

    @property
    def is_moving(self) -> bool:
        return bool(self._drive.velocity.any())

    @property
    def stopping_s(self) -> float:
        """The longest that a stop takes."""
        return self._drive.stopping_s

    def step(self, controls: Controls, led: bool, now_s: float) -> None:
        """In every tick; see `retargeting.base_drive.BaseDrive.step`."""
        velocity = self._drive.step(controls, led, now_s)
        if velocity is None:
            return
        self._template.set("linear", [velocity[0], velocity[1], 0.0])
        self._template.set("angular", [0.0, 0.0, velocity[2]])
        self._publisher.publish(bytes(self._template))
