"""Node `headset`: publishes the trainer's motion from any source, played or live."""

from __future__ import annotations

import contextlib
import importlib.util
import threading
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped
from sensor_msgs.msg import Joy, JoyFeedback, JoyFeedbackArray, MultiDOFJointState

from capture_nodes import topics
from capture_nodes.headset_parameters import HeadsetParameters
from capture_nodes.live_frames import LiveFrames, LiveState
from capture_nodes.menu_episodes import MenuEpisodes
from capture_nodes.motion_messages import MotionWriter, transform_messages
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain, run_node
from capture_nodes.played_frames import PlayedFrames
from capture_nodes.repetition_services import RepetitionServices
from capture_nodes.replayed_frames import ReplayedFrames
from capture_nodes.resources import robot_description_file
from capture_nodes.scripted_task import ScriptedTask
from capture_nodes.sources.bag import BagSource
from capture_nodes.sources.person import Person
from capture_nodes.sources.registry import LIVE_SOURCES, live_source, open_source
from capture_nodes.sources.source import LiveSource, TrainerDisplay, TrainerSource
from capture_nodes.sources.station_view import task_view
from capture_nodes.stamp_clock import StampClock
from capture_nodes.thread_priority import MOTION, prefer_thread
from capture_nodes.trainer_view import TrainerView
from retargeting.motion_frame import MotionFrame
from retargeting.robot_model import load_robot

_LOOK_PERIOD_S = 0.1
_VIEWED_POINTS = ("head", "left_wrist", "right_wrist")


class HeadsetNode(CaptureNode):
    """Publishes from a thread of its own, so that planning or a slow service never delays a frame."""

    def __init__(self) -> None:
        super().__init__("headset")
        self._settings = self.declare_from(HeadsetParameters)
        said = self._settings
        # ROS time, which is the system's where use_sim_time is refused; asked for at every frame.
        self._stamps = StampClock(time.time_ns)
        self._opened = contextlib.ExitStack()
        self._frames = self._live() if said.source in LIVE_SOURCES else self._played()
        qos = topics.stream_qos(said.rate_hz)
        self._motion = self.counting_publisher(MultiDOFJointState, topics.MOTION, qos)
        self._buttons = self.counting_publisher(Joy, topics.BUTTONS, qos)
        self._viewed = {
            point: self.counting_publisher(PoseStamped, f"{topics.TRAINER_NAMESPACE}/{point}", qos)
            for point in _VIEWED_POINTS
        }
        self._write = MotionWriter()
        self._transforms = self._transform_broadcaster()
        self.create_subscription(JoyFeedbackArray, topics.FEEDBACK, self._on_feedback, 10)
        RepetitionServices(self, self._frames)
        self._thread = self.start_thread("frames", self._frames.run, MOTION)
        for thread in threading.enumerate():
            # That in which a source asks its device has the frames' deadline too.
            if thread.name == said.source and thread.native_id is not None:
                prefer_thread(MOTION, thread.native_id)

    def _live(self) -> LiveFrames:
        source = live_source(self._settings.source, self._settings.source_options, self._stamps)
        self._open(source)
        said = self._settings
        if not said.robot:
            return LiveFrames(source, self._publish, self._tell)
        model = load_robot(robot_description_file(said.robot))
        display = source if isinstance(source, TrainerDisplay) else None
        if display is not None:
            display.show(task_view(model.name, said.skill, said.instruction))
            view = TrainerView(self, display, model.name, list(model.description.cameras))
            self._opened.callback(view.stop)
        session = said.start == "service"
        menu = MenuEpisodes(self, model.name, source, display, session=session)
        return LiveFrames(source, self._publish, self._tell, repeats=session, on_menu=menu.press)

    def _played(self) -> PlayedFrames | ReplayedFrames:
        said = self._settings
        if not said.follows_object:
            source = open_source(said.source, said.source_options)
            self._open(source)
            frames = self._frames_of(source)
            if said.start == "auto":
                frames.play()
            return frames
        model = load_robot(robot_description_file(said.robot))
        task = ScriptedTask(model, Person.of_stature(said.stature_m), said.task_parameters)
        frames = PlayedFrames(task.standing, said.rate_hz, self._stamps, self._publish, self._tell, task)
        topic = f"/{model.name}/object/{task.object_name}/pose"
        objects = self.create_subscription(
            PoseStamped, topic, lambda _message: None, topics.newest_qos(), callback_group=DrainedGroup()
        )
        self.create_timer(_LOOK_PERIOD_S, lambda: self._look(objects, frames))
        self.get_logger().info(f"task: bring {topic} to {[round(v, 3) for v in task.goal_m]}")
        return frames

    def _frames_of(self, source: TrainerSource) -> PlayedFrames | ReplayedFrames:
        rest = (self._settings.rate_hz, self._stamps, self._publish, self._tell)
        # A recording has times of its own.
        return ReplayedFrames(source, *rest) if isinstance(source, BagSource) else PlayedFrames(source, *rest)

    def _open(self, source: TrainerSource | LiveSource) -> None:
        self._opened.enter_context(source)
        for key, text in source.report.items():
            self.get_logger().info(f"{key}: {text}")

    def _transform_broadcaster(self) -> Any:
        if importlib.util.find_spec("tf2_ros") is None:
            self.get_logger().info("tf2_ros is not installed: no TF frames of the trainer")
            return None
        from tf2_ros import TransformBroadcaster

        return TransformBroadcaster(self)

    # ---- executor thread

    def _look(self, objects: Any, frames: PlayedFrames) -> None:
        """See where the object is now."""
        message = drain(objects, PoseStamped)
        if message is None:
            return
        position = message.pose.position
        first = frames.see(np.array([position.x, position.y, position.z]))
        if first and self._settings.start == "auto":
            frames.play()

    def _on_feedback(self, message: JoyFeedbackArray) -> None:
        for feedback in message.array:
            if feedback.type == JoyFeedback.TYPE_RUMBLE:
                self._frames.rumble(feedback.id, feedback.intensity)

    # ---- frame thread

    def _tell(self, state: str) -> None:
        values: dict[str, object] = {"source": self._settings.source}
        if device := self._frames.diagnostics().get("device"):
            values["reason"] = device
            self.get_logger().info(f"{state}: {device}")
        lost = state == LiveState.LOST.value
        self.publish_state(state, values, DiagnosticStatus.WARN if lost else DiagnosticStatus.OK)

    def _publish(self, frame: MotionFrame) -> None:
        write = self._write
        self._motion.publish(write.motion(frame))
        self._buttons.publish(write.buttons(frame))
        for point, publisher in self._viewed.items():
            if point in frame.poses:
                publisher.publish(write.point(frame, point))
        if self._transforms is not None:
            self._transforms.sendTransform(transform_messages(frame))

    # ---- health

    def diagnostics(self) -> Mapping[str, object]:
        return self._frames.diagnostics()

    def stop(self) -> None:
        self._frames.stop()
        self._thread.join(timeout=1.0)
        self._opened.close()
        # A device's software that does not answer keeps the thread that asked it.
        self.leaves_threads = any(thread.daemon for thread in threading.enumerate())


def main() -> None:
    run_node(HeadsetNode)


if __name__ == "__main__":
    main()
