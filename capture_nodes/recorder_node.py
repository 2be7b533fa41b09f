"""Records every configured topic into one MCAP file per episode; see `capture_nodes.recording`."""

from __future__ import annotations

import hashlib
import json
import platform
import sys
import threading
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue
from rcl_interfaces.msg import SetParametersResult
from rclpy.node import Node
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_srvs.srv import Trigger

from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, run_node
from capture_nodes.recording.episode_record import VERDICTS, EpisodeFields
from capture_nodes.recording.mcap_file import Attachment
from capture_nodes.recording.recorder import Recorder, purge_trash
from capture_nodes.recording.recorder_configuration import (
    CAMERA_TOPICS,
    COMMAND_TOPICS,
    MOTION_TOPICS,
    TopicRule,
    load_recorder_configuration,
)
from capture_nodes.recording.recovery import recover_all
from capture_nodes.recording.tf_stream import TfStream
from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.thread_priority import TAKING
from capture_nodes.topic_watch import TopicWatch, tf_channel
from capture_nodes.topics import latched_qos, stream_qos
from retargeting.robot_model import load_robot

GRAPH_PERIOD_S = 0.2
GRAPH_PERIOD_RECORDING_S = 1.0
STATUS_PERIOD_S = 0.5
FINISH_TIMEOUT_S = 20.0
# It is sent only while the base is driven: no rate is expected.
BASE_TYPE = "geometry_msgs/msg/Twist"


@dataclass(frozen=True)
class RecorderParameters:
    """ROS parameters of the node; ``simulated``: yes, no or auto (a simulated_robot publishes the joints).

    The rates (Hz) that the station gives its commands, motion frames and cameras; 0: as `recorder.yaml` has
    it, or for cameras the `robot.yaml`. `verdict` (success, failure or empty) and `reason` are set while an
    episode is recorded; `~/stop` writes them into it and clears them.
    """

    root: str = "episodes_data"
    robot: str = "kestrel"
    config: str = ""
    skill: str = "unnamed"
    operator: str = ""
    source: str = ""
    scenario: str = ""
    instruction: str = ""
    simulated: str = "auto"
    report_path: str = ""
    command_rate_hz: float = 0.0
    motion_rate_hz: float = 0.0
    camera_rate_hz: float = 0.0
    verdict: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        problems = []
        if self.simulated not in ("auto", "yes", "no"):
            problems.append(f"parameter simulated: {self.simulated!r} is given; auto, yes or no is expected")
        for name in ("command_rate_hz", "motion_rate_hz", "camera_rate_hz"):
            rate_hz = getattr(self, name)
            if rate_hz != 0.0 and not 0.001 <= rate_hz <= 10000.0:
                problems.append(
                    f"parameter {name}: {rate_hz} is given; 0.001 to 10000, or 0 for what the configuration "
                    "says, is expected"
                )
        if self.verdict not in VERDICTS:
            problems.append(_verdict_problem(self.verdict))
        if problems:
            raise CaptureError("\n".join(problems))


class RecorderNode(CaptureNode):
    """Services `~/start`, `~/stop`, `~/discard`; state on `~/state`, the episode at hand on `~/episode`."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._settings = parameters = self.declare_from(RecorderParameters)
        self.add_on_set_parameters_callback(_check_parameters)
        self._configuration = load_recorder_configuration(
            Path(parameters.config) if parameters.config else config_file("recorder.yaml")
        )
        self._root = Path(parameters.root).expanduser().absolute()
        robot_file = robot_description_file(parameters.robot)
        model = load_robot(robot_file)
        for topics, rate_hz in (
            (COMMAND_TOPICS, parameters.command_rate_hz),
            (MOTION_TOPICS, parameters.motion_rate_hz),
            (CAMERA_TOPICS, parameters.camera_rate_hz or model.description.camera_rate_hz),
        ):
            if rate_hz:
                self._configuration = self._configuration.with_rate(topics, rate_hz)
        if (base := model.description.base) is not None:
            self._configuration = self._configuration.with_topic(TopicRule(base.topic, BASE_TYPE))
        urdf_text = model.urdf.text.encode("utf-8")
        self._robot = model.name
        self._urdf_sha256 = hashlib.sha256(urdf_text).hexdigest()
        self._recorder = Recorder(
            self._root,
            self._configuration,
            (
                Attachment("robot.urdf", "application/xml", urdf_text),
                Attachment("robot.yaml", "application/yaml", robot_file.read_bytes()),
            ),
            TfStream(model),
            tf_channel("/tf", stream_qos(100)),
            tf_channel("/tf_static", latched_qos()),
        )
        # Its subscriptions are drained by the taking thread; no executor may ever wait on this node.
        self._taking_node = Node(
            "recorder_taking",
            namespace=self.get_namespace(),
            use_global_arguments=False,
            enable_rosout=False,
            start_parameter_services=False,
        )
        self._topics = TopicWatch(self._taking_node, self._recorder, self._configuration)
        self._fields()  # an unusable skill is refused here, not at the first episode
        self._ending = threading.Event()
        self._taking_problem: Exception | None = None
        self._taking_thread = self.start_thread("taking", self._take, TAKING)
        self._recovery_thread = threading.Thread(target=self._recover, name="recovery", daemon=True)
        self._recovery_thread.start()

        self._episode_publisher = self.counting_publisher(DiagnosticStatus, "~/episode", latched_qos())
        self.create_service(Trigger, "~/start", self._on_start)
        self.create_service(Trigger, "~/stop", self._on_stop)
        self.create_service(Trigger, "~/discard", self._on_discard)
        self._last_received: dict[str, int] = {}
        self._last_status_ns = self.get_clock().now().nanoseconds
        self._graph_age_s = 0.0
        self._topics.look()
        self.create_timer(GRAPH_PERIOD_S, self._on_graph_timer)
        self.create_timer(STATUS_PERIOD_S, self._on_status_timer)
        self._publish_episode()
        self.publish_state("ready", {"root": self._root})

    def _on_graph_timer(self) -> None:
        self._graph_age_s += GRAPH_PERIOD_S
        recording = self._recorder.status().state == "recording"
        if self._graph_age_s >= (GRAPH_PERIOD_RECORDING_S if recording else GRAPH_PERIOD_S) - 1e-6:
            self._graph_age_s = 0.0
            self._topics.look()
        if self._taking_problem is not None:
            raise CaptureError(f"taking messages failed: {self._taking_problem!r}") from self._taking_problem

    # Threads ------------------------------------------------------------------------------------------------

    def _take(self) -> None:
        recorder, readers = self._recorder, self._topics.readers
        while not self._ending.wait(self._configuration.poll_s):
            with recorder.taking():
                if self._taking_problem is None:
                    try:
                        readers.drain(recorder.take)
                    except Exception as error:
                        # Reported, and the node ended, by the main thread at its next look. Meanwhile the
                        # rounds go on: they complete the episode at hand.
                        self._taking_problem = error
                recorder.pass_done()

    def _recover(self) -> None:
        log = self.get_logger()
        if self._root.is_dir():
            recover_all(self._root, log.info, self._ending.is_set)
            for path in purge_trash(self._root, self._configuration.trash_keep_h):
                log.info(f"removed {path}: discarded more than {self._configuration.trash_keep_h:g} h ago")

    # Services -----------------------------------------------------------------------------------------------

    def _fields(self) -> EpisodeFields:
        """A snapshot of the parameters, which may be set between episodes."""
        now: dict[str, Any] = {name: str(self.get_parameter(name).value) for name in _EPISODE_PARAMETERS}
        asked = self._settings.simulated
        simulated = self._topics.simulated if asked == "auto" else asked == "yes"
        return EpisodeFields(
            robot=self._robot, simulated=simulated, urdf_sha256=self._urdf_sha256, versions=_versions(), **now
        )

    def _on_start(self, _request: Any, response: Any) -> Any:
        waiting = self._topics.not_joined(time.monotonic())
        if waiting:
            # Of no concern to anybody but who asked.
            response.message = f"still joining {', '.join(waiting)}; ask again in a moment"
            return response
        try:
            response.message = self._recorder.start(self._fields())
            # What was set before belongs to no episode.
            self._take_verdict()
            response.success = True
        except CaptureError as error:
            response.success, response.message = False, str(error)
            self.get_logger().warning(f"episode not started: {error}")
        self._publish_episode()
        return response

    def _take_verdict(self) -> tuple[str, str]:
        """Verdict and reason as they were set, which then are empty for the next episode."""
        verdict, reason = (str(self.get_parameter(name).value) for name in ("verdict", "reason"))
        if verdict or reason:
            self.set_parameters([Parameter("verdict", value=""), Parameter("reason", value="")])
        return verdict, reason

    async def _on_stop(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=False)

    async def _on_discard(self, _request: Any, response: Any) -> Any:
        return await self._end_episode(response, discard=True)

    async def _end_episode(self, response: Any, discard: bool) -> Any:
        """Answers when the file has its name; meanwhile the node goes on serving."""
        try:
            result = self._recorder.stop(discard, *self._take_verdict())
            self._publish_episode()
            done: Future[None] = Future(executor=self.executor)
            executor = self.executor

            def wake(_: object) -> None:
                done.set_result(None)
                if executor is not None:
                    executor.wake()

            result.add_done_callback(wake)
            await done
            response.message = str(result.result())
            response.success = True
        except CaptureError as error:
            response.success, response.message = False, str(error)
            self.get_logger().error(f"episode not completed: {error}")
        self._publish_episode(last=response.message if response.success else "")
        return response

    # State --------------------------------------------------------------------------------------------------

    def _on_status_timer(self) -> None:
        if self._recorder.status().state != "idle":
            self._publish_episode()

    def _publish_episode(self, last: str = "") -> None:
        status = self._recorder.status()
        now_ns = self.get_clock().now().nanoseconds
        received = self._recorder.received()
        seconds = max(1e-3, (now_ns - self._last_status_ns) / 1e9)
        rates = {
            topic: round((count - self._last_received.get(topic, 0)) / seconds, 1)
            for topic, count in received.items()
        }
        self._last_received, self._last_status_ns = received, now_ns
        values: dict[str, object] = {
            "id": status.id,
            "path": status.path or last,
            "duration_s": f"{status.duration_s:.3f}",
            "messages": status.messages,
            "lost": status.lost,
            "bytes": status.bytes,
            "backlog_bytes": status.backlog_bytes,
            "rates": json.dumps(rates),
            "problem": status.problem,
        }
        self._episode_publisher.publish(
            DiagnosticStatus(
                level=DiagnosticStatus.ERROR if status.problem else DiagnosticStatus.OK,
                name=self.get_fully_qualified_name(),
                message=status.state,
                values=[KeyValue(key=key, value=str(value)) for key, value in values.items()],
            )
        )

    # End ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Finish the episode at hand, wait (bounded) for the publishers' final counts, end the threads."""
        for outcome in self._recorder.finish_all(FINISH_TIMEOUT_S, *self._take_verdict()):
            self.get_logger().info(f"the episode at hand: {outcome}")
        self._wait_for_final_counts()
        self._ending.set()
        self._taking_thread.join()
        self._recorder.close()
        self._recovery_thread.join(timeout=5.0)
        self._topics.readers.destroy()
        self._taking_node.destroy_node()

    def _wait_for_final_counts(self) -> None:
        pause = threading.Event()
        for _ in range(max(1, round(self._configuration.shutdown_wait_s / 0.05))):
            alive = self._topics.publishers_alive(except_node=self.get_name())
            if not self._recorder.waiting_for_final(alive):
                break
            pause.wait(0.05)

    def finish(self) -> None:
        """As every node; the report of the run is the last line on stdout."""
        super().finish()
        report = self._recorder.report()
        text = json.dumps(report)
        if self._settings.report_path:
            path = Path(self._settings.report_path)
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text + "\n", encoding="utf-8")
            except OSError as error:
                print(f"recorder: error: report_path:={path}: {error.strerror}", file=sys.stderr)
                self.exit_code = 1
        print(text, flush=True)


_EPISODE_PARAMETERS = ("skill", "operator", "source", "scenario", "instruction")


def _verdict_problem(verdict: object) -> str:
    return f"parameter verdict: {verdict!r} is given; success, failure or nothing is expected"


def _check_parameters(parameters: list[Parameter]) -> SetParametersResult:
    """Refuse what no episode can carry, so that who sets it hears of it and not who stops the episode."""
    for parameter in parameters:
        if parameter.name == "verdict" and parameter.value not in VERDICTS:
            return SetParametersResult(successful=False, reason=_verdict_problem(parameter.value))
    return SetParametersResult(successful=True)


def _versions() -> dict[str, str]:
    versions = {"python": platform.python_version()}
    for package in ("teleop_capture", "rclpy", "mcap"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            # A checkout that is run in place has no version of its own.
            versions[package] = "unknown"
    return versions


def main() -> None:
    run_node(RecorderNode)


if __name__ == "__main__":
    main()
