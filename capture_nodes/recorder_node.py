"""Records every configured topic into one MCAP file per episode; see `capture_nodes.recording`."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future as ConcurrentFuture
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from capture_nodes.episode_parameters import EpisodeParameters
from capture_nodes.episode_publisher import EpisodePublisher
from capture_nodes.errors import CaptureError, error_text
from capture_nodes.node_runtime import CaptureNode, key_values, run_node
from capture_nodes.recorder_parameters import RecorderParameters
from capture_nodes.recording.background import work_in_background
from capture_nodes.recording.disk_watch import DiskWatch
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.episode_words import write_recovered_sidecar
from capture_nodes.recording.mcap_file import Attachment
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recordings_folder import purge_trash
from capture_nodes.recording.recovery import recover_all
from capture_nodes.recording.settled_episodes import settle_all
from capture_nodes.recording.stream_diagnostics import LiveBounds, StreamDiagnostics
from capture_nodes.recording.tf_stream import TfStream
from capture_nodes.resources import robot_description_file, user_path
from capture_nodes.thread_priority import TAKING
from capture_nodes.topic_watch import TopicWatch, tf_channel
from capture_nodes.topics import latched_qos, stream_qos
from retargeting.robot_model import load_robot

T = TypeVar("T")

GRAPH_PERIOD_S = 0.2
GRAPH_PERIOD_RECORDING_S = 1.0
STATUS_PERIOD_S = 0.5
FOLD_PERIOD_S = 1.0
FINISH_TIMEOUT_S = 20.0
PURGE_PERIOD_S = 3600.0


class RecorderNode(CaptureNode):
    """Services `~/start`, `~/stop`, `~/discard`, `~/mark_success`, `~/mark_failure`, `~/mark_moment`.

    State on `~/state`, the episode at hand on `~/episode`.
    """

    def __init__(self) -> None:
        super().__init__("recorder")
        self._settings = parameters = self.declare_from(RecorderParameters)
        self._root = user_path(parameters.root).absolute()
        robot_file = robot_description_file(parameters.robot)
        model = load_robot(robot_file)
        self._configuration = parameters.configuration(model.description)
        urdf_text = model.urdf.text.encode("utf-8")
        self._said = EpisodeParameters(self, model)
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
        self._started_ns = time.time_ns()
        self._recovery_thread = threading.Thread(target=self._recover, name="recovery", daemon=True)
        self._recovery_thread.start()
        threading.Thread(target=self._fold, name="fold", daemon=True).start()

        self._disk = DiskWatch(self._root, self._configuration.warn_free_bytes)
        self._streams = StreamDiagnostics(LiveBounds(free_bytes=self._configuration.warn_free_bytes))
        self._episode = EpisodePublisher(self, self._recorder, self._disk)
        for name, answer in {
            "start": self._on_start,
            "stop": self._on_stop,
            "discard": self._on_discard,
            "mark_success": self._on_mark_success,
            "mark_failure": self._on_mark_failure,
            "mark_moment": self._on_mark_moment,
        }.items():
            # An answer that is waited for must not keep the others waiting.
            self.create_service(Trigger, f"~/{name}", answer, callback_group=ReentrantCallbackGroup())
        self._graph_age_s = 0.0
        self._topics.look()
        self.create_timer(GRAPH_PERIOD_S, self._on_graph_timer)
        self.create_timer(STATUS_PERIOD_S, self._on_status_timer)
        self._episode.publish()
        self.publish_state("ready", {"root": self._root, "taking": self._topics.taken_by})

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
        whole = True
        # Who is behind takes on at once.
        while not self._ending.wait(self._configuration.poll_s if whole else 0.0):
            if self._taking_problem is None:
                try:
                    whole = readers.drain(recorder.take_all)
                except Exception as error:
                    # Reported, and the node ended, by the main thread at its next look. Meanwhile the
                    # rounds go on: they complete the episode at hand.
                    self._taking_problem, whole = error, True
            with recorder.taking():
                recorder.pass_done(whole)

    def _fold(self) -> None:
        """Figures of the episodes at hand, once a second; the pictures of the cameras come first."""
        work_in_background()
        while not self._ending.wait(FOLD_PERIOD_S):
            self._recorder.fold()

    def _recover(self) -> None:
        """What an earlier run left, then the trash, again every hour."""
        log = self.get_logger()
        for work in (self._recover_files, self._settle):
            try:
                work()
            except Exception as error:
                log.warning(f"what an earlier run left in {self._root} is not looked through: {error!r}")
        while not self._ending.is_set():
            try:
                for path in purge_trash(self._root, self._configuration.trash_keep_h):
                    log.info(f"removed {path}: discarded over {self._configuration.trash_keep_h:g} h ago")
            except Exception as error:
                log.warning(f"the trash of {self._root} is not emptied: {error!r}")
            self._ending.wait(PURGE_PERIOD_S)

    def _recover_files(self) -> None:
        log = self.get_logger()
        for recovery in recover_all(self._root, log.info, self._ending.is_set):
            try:
                write_recovered_sidecar(recovery.path)
            except CaptureError as error:
                log.warning(str(error))

    def _settle(self) -> None:
        settle_all(self._root, self.get_logger().info, self._started_ns, self._ending.is_set)

    # Services -----------------------------------------------------------------------------------------------

    def _fields(self) -> EpisodeFields:
        asked = self._settings.simulated
        fields = self._said.fields(self._topics.simulated if asked == "auto" else asked == "yes")
        return replace(fields, versions={**fields.versions, "taking": self._topics.taken_by})

    def _on_start(self, _request: Any, response: Any) -> Any:
        waiting = self._topics.not_joined(time.monotonic())
        if waiting:
            # Of no concern to anybody but who asked.
            response.message = f"still joining {', '.join(waiting)}; ask again in a moment"
            return response
        try:
            response.message = self._recorder.start(self._fields(), self._said.attachments())
            # What was set before belongs to no episode.
            self._said.take_verdict()
            response.success = True
        except Exception as error:
            response.success, response.message = False, error_text(error)
            self.get_logger().warning(f"episode not started: {response.message}")
        # After the answer: it waits for the taking thread, which is at the pre-roll.
        if self.executor is not None:
            self.executor.create_task(self._episode.publish)
        return response

    async def _on_stop(self, _request: Any, response: Any) -> Any:
        return await self._answer(response, lambda: self._recorder.stop(False, *self._said.take_verdict()))

    async def _on_discard(self, _request: Any, response: Any) -> Any:
        return await self._answer(response, lambda: self._recorder.discard_last(self._said.take_verdict()[1]))

    async def _done(self, result: ConcurrentFuture[T]) -> T:
        """Its outcome; meanwhile the node goes on serving."""
        done: Future[None] = Future(executor=self.executor)
        executor = self.executor

        def wake(_: object) -> None:
            done.set_result(None)
            if executor is not None:
                executor.wake()

        result.add_done_callback(wake)
        await done
        return result.result()

    async def _answer(self, response: Any, end: Callable[[], ConcurrentFuture[Path]]) -> Any:
        """Answers when the file has its name."""
        try:
            result = end()
            self._episode.publish()
            path = await self._done(result)
            response.message = str(path)
            response.success = True
        except Exception as error:
            response.success, response.message = False, error_text(error)
            self.get_logger().error(f"episode not completed: {response.message}")
        self._episode.publish(last=response.message if response.success else "")
        return response

    async def _on_mark_success(self, _request: Any, response: Any) -> Any:
        return await self._mark("success", response)

    async def _on_mark_failure(self, _request: Any, response: Any) -> Any:
        return await self._mark("failure", response)

    async def _mark(self, verdict: str, response: Any) -> Any:
        """The trainer's word on the episode at hand or, between two, on the last one, once it is kept."""
        try:
            response.message = await self._done(self._recorder.say(verdict, self._said.take_verdict()[1]))
            response.success = True
        except Exception as error:
            response.success, response.message = False, error_text(error)
        return response

    def _on_mark_moment(self, _request: Any, response: Any) -> Any:
        try:
            episode_id, time_ns = self._recorder.mark_moment(self._said.moment())
            response.success, response.message = True, f"{episode_id} {time_ns}"
        except Exception as error:
            response.success, response.message = False, error_text(error)
        return response

    def statuses(self) -> list[DiagnosticStatus]:
        """The recorder as a whole, then every stream, once a second."""
        counts, load = self._recorder.live()
        disk = self._disk.state()
        # A disk that is low is told by `free_bytes`.
        unreachable = disk.problem if disk.word == "unreachable" else ""
        problems = [problem for problem in (load.problem, unreachable) if problem]
        load = replace(load, free_bytes=disk.free_bytes, problem="; ".join(problems))
        looked = self._streams.look(
            counts, self._recorder.streams.expectations, load, now_ns=time.time_ns(), now_s=time.monotonic()
        )
        name = self.get_fully_qualified_name()
        return [
            DiagnosticStatus(
                level=bytes([status.level]),
                name=f"{name}: {status.name}",
                message=status.message,
                values=key_values(status.values),
            )
            for status in looked
        ]

    # State --------------------------------------------------------------------------------------------------

    def _on_status_timer(self) -> None:
        while self._recorder.notes:
            self.get_logger().warning(self._recorder.notes.popleft())
        if self._recorder.status().state != "idle" or self._episode.disk_changed():
            self._episode.publish()

    # End ----------------------------------------------------------------------------------------------------

    def stop(self) -> None:
        """Finish the episode at hand, wait (bounded) for the publishers' final counts, end the threads."""
        for outcome in self._recorder.finish_all(FINISH_TIMEOUT_S, *self._said.take_verdict()):
            self.get_logger().info(f"the episode at hand: {outcome}")
        self._wait_for_final_counts()
        self._disk.stop()
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


def main() -> None:
    run_node(RecorderNode)


if __name__ == "__main__":
    main()
