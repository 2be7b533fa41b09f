"""Node `headset`: publishes the trainer's motion from any source at a constant rate."""

from __future__ import annotations

import importlib.util
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Joy, JoyFeedbackArray, MultiDOFJointState
from std_srvs.srv import Trigger

from capture_nodes import motion_messages as messages
from capture_nodes import topics
from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import HeadsetParameters
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain, run_node
from capture_nodes.resources import robot_description_file
from capture_nodes.schedule import Schedule
from capture_nodes.scripted_task import ScriptedTask
from capture_nodes.sources.person import Person
from capture_nodes.sources.playback import Playback, PlaybackState
from capture_nodes.sources.registry import open_source
from capture_nodes.sources.source import TrainerSource
from capture_nodes.stamp_clock import StampClock
from capture_nodes.thread_priority import MOTION
from retargeting.errors import RetargetingError
from retargeting.motion_frame import MotionFrame
from retargeting.robot_model import load_robot

_LOOK_PERIOD_S = 0.1
_VIEWED_POINTS = ("head", "left_wrist", "right_wrist")


class HeadsetNode(CaptureNode):
    """Publishes from a thread of its own, so that planning or a slow service never delays a frame."""

    def __init__(self) -> None:
        super().__init__("headset")
        self._settings = self.declare_from(HeadsetParameters)
        self._task: ScriptedTask | None = None
        self._objects: Any = None
        self._object_position: np.ndarray[Any, np.dtype[np.float64]] | None = None
        self._playback = Playback(self._open())
        for key, text in self._playback.source.report.items():
            self.get_logger().info(f"{key}: {text}")
        rate = self._settings.rate_hz
        qos = topics.stream_qos(rate)
        self._motion = self.counting_publisher(MultiDOFJointState, topics.MOTION, qos)
        self._buttons = self.counting_publisher(Joy, topics.BUTTONS, qos)
        self._viewed = {
            point: self.counting_publisher(PoseStamped, f"{topics.TRAINER_NAMESPACE}/{point}", qos)
            for point in _VIEWED_POINTS
        }
        self._transforms = self._transform_broadcaster()
        self.create_subscription(JoyFeedbackArray, topics.FEEDBACK, self._on_feedback, 10)
        self.create_service(Trigger, "~/play", self._on_play)
        self.create_service(Trigger, "~/halt", self._on_halt)
        self._published_state: PlaybackState | None = None
        self._untracked_frames = 0
        if self._settings.start == "auto" and self._task is None:
            self._playback.play(time.monotonic())
        self._stamps = StampClock(lambda: self.get_clock().now().nanoseconds)
        self._schedule = Schedule(1.0 / rate)
        self._thread = self.start_thread("frames", self._run, MOTION)

    def _open(self) -> TrainerSource:
        said = self._settings
        if not said.follows_object:
            return open_source(said.source, said.source_options)
        model = load_robot(robot_description_file(said.robot))
        self._task = ScriptedTask(model, Person.of_stature(said.stature_m), said.task_parameters)
        topic = f"/{model.name}/object/{self._task.object_name}/pose"
        self._objects = self.create_subscription(
            PoseStamped, topic, lambda _message: None, topics.newest_qos(), callback_group=DrainedGroup()
        )
        self.create_timer(_LOOK_PERIOD_S, self._look)
        self.get_logger().info(f"task: bring {topic} to {[round(v, 3) for v in self._task.goal_m]}")
        return self._task.standing

    def _transform_broadcaster(self) -> Any:
        if importlib.util.find_spec("tf2_ros") is None:
            self.get_logger().info("tf2_ros is not installed: no TF frames of the trainer")
            return None
        from tf2_ros import TransformBroadcaster

        return TransformBroadcaster(self)

    # ---- executor thread

    def _on_play(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        try:
            self._play()
            response.success = True
            response.message = f"{self._playback.source.duration_s:.2f} s"
        except (CaptureError, RetargetingError) as error:
            response.success = False
            response.message = str(error)
        return response

    def _on_halt(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._playback.halt()
        response.success = True
        return response

    def _play(self) -> None:
        if self._task is None:
            self._playback.play(time.monotonic())
            return
        if self._object_position is None:
            name = self._task.object_name
            raise CaptureError(f"the object {name!r} has not been seen yet: is the robot running?")
        planned = self._task.plan(self._object_position)
        self._playback.play(time.monotonic(), planned)

    def _look(self) -> None:
        """See where the object is now; it stays where it was last seen."""
        message = drain(self._objects, PoseStamped)
        if message is None:
            return
        first = self._object_position is None
        position = message.pose.position
        self._object_position = np.array([position.x, position.y, position.z])
        if first and self._settings.start == "auto":
            self._play()

    def _on_feedback(self, message: JoyFeedbackArray) -> None:
        for feedback in message.array:
            self.get_logger().debug(f"no device to rumble {feedback.id} at {feedback.intensity:.2f}")

    # ---- frame thread

    def _run(self) -> None:
        for due_s in self._schedule:
            frame = self._playback.frame(due_s, self._stamps.stamp(due_s))
            if frame is None:
                self._untracked_frames += 1
            else:
                self._publish(frame)
            state = self._playback.state
            if state is not self._published_state:
                self._published_state = state
                self.publish_state(state.value, {"source": self._settings.source})

    def _publish(self, frame: MotionFrame) -> None:
        header = messages.motion_header(frame)
        self._motion.publish(messages.motion_message(frame, header))
        self._buttons.publish(messages.buttons_message(frame, header))
        for point, publisher in self._viewed.items():
            if point in frame.poses:
                publisher.publish(messages.point_message(frame, header, point))
        if self._transforms is not None:
            self._transforms.sendTransform(messages.transform_messages(frame, header))

    # ---- health

    def diagnostics(self) -> Mapping[str, object]:
        return {
            "state": self._playback.state.value,
            "missed_ticks": self._schedule.missed,
            "untracked_frames": self._untracked_frames,
        }

    def stop(self) -> None:
        self._schedule.stop()
        self._thread.join(timeout=1.0)
        self._playback.source.__exit__(None, None, None)


def main() -> None:
    run_node(HeadsetNode)


if __name__ == "__main__":
    main()
