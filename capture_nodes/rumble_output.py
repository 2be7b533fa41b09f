"""What stops the robot's arms, to be felt in the trainer's hands: `/trainer/feedback`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sensor_msgs.msg import JoyFeedback, JoyFeedbackArray

from capture_nodes import topics
from capture_nodes.node_runtime import CaptureNode
from retargeting.applied_command import ArmStop
from retargeting.body_points import SIDES
from retargeting.rumble import Rumble

# Of one second, as often as the intensity may change.
_QUEUE_HZ = 50.0


class RumbleOutput:
    """One `TYPE_RUMBLE` per hand, id 0 left and 1 right, intensity 0 .. 1."""

    def __init__(self, node: CaptureNode) -> None:
        self._rumble = Rumble()
        qos = topics.stream_qos(_QUEUE_HZ)
        self._publisher = node.counting_publisher(JoyFeedbackArray, topics.FEEDBACK, qos)

    def feel(self, stops: Mapping[str, Sequence[ArmStop]], now_s: float) -> None:
        """In every tick, at `now_s` of the steady clock."""
        self._publish(self._rumble.feel(stops, now_s))

    def end(self) -> None:
        """Nothing rumbles on when the node has gone."""
        self._publish(self._rumble.end())

    def _publish(self, intensity: Mapping[str, float] | None) -> None:
        if intensity is None:
            return
        array = [
            JoyFeedback(type=JoyFeedback.TYPE_RUMBLE, id=k, intensity=intensity[side])
            for k, side in enumerate(SIDES)
        ]
        self._publisher.publish(JoyFeedbackArray(array=array))
