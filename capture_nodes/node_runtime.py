"""What every node of the package does alike: parameters, counted publishers, state, start and end.

A node's `main` is ``run_node(MyNode)``. `MyNode` derives from `CaptureNode`, checks its parameters
in its constructor (raising `CaptureError` or `RetargetingError`) and calls `publish_state` when it
is ready.
"""

from __future__ import annotations

import dataclasses
import faulthandler
import gc
import signal
import sys
import time
import traceback
from array import array
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Thread
from types import FrameType
from typing import Any, TypeVar

import rclpy
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.callback_groups import CallbackGroup
from rclpy.duration import Duration
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.logging import get_logger
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions

from capture_nodes.certain_exit import exit_at_once, exit_within
from capture_nodes.errors import CaptureError
from capture_nodes.ros_environment import prepare_ros_environment
from capture_nodes.thread_priority import prefer_process, prefer_thread
from capture_nodes.topics import DIAGNOSTICS, latched_qos, stream_qos
from retargeting.errors import InvalidConfiguration, RetargetingError

Parameters = TypeVar("Parameters")

EXIT_BAD_CONFIGURATION = 2
_EXPECTED = {
    bool: "true or false",
    int: "a whole number",
    float: "a number",
    str: "a text",
    tuple: "a list such as [1.0, 2.0]",
}
_DIAGNOSTICS_PERIOD_S = 1.0
_ACKNOWLEDGE_TIMEOUT_S = 1.0
# To take the DDS participant down, which takes some tens of milliseconds.
_LEAVING_S = 2.0
# Between Python threads of a process with a deadline; the default 5 ms is a whole tick.
_SWITCH_INTERVAL_S = 0.0005


class CountingPublisher:
    """A publisher that knows how many messages it has sent: the truth that loss is measured against."""

    def __init__(self, node: Node, message_type: type, topic: str, qos: QoSProfile) -> None:
        self._publisher = node.create_publisher(message_type, topic, qos)
        self.topic = self._publisher.topic_name
        self.count = 0
        name, namespace = node.get_name(), node.get_namespace()
        # An endpoint knows its own gid only through the graph.
        self._find_gid = lambda: next(
            (
                bytes(info.endpoint_gid).hex()
                for info in node.get_publishers_info_by_topic(self.topic)
                if info.node_name == name and info.node_namespace == namespace
            ),
            "",
        )
        self._gid = ""

    @property
    def gid(self) -> str:
        """The publisher's 16-byte DDS identity in hex, empty until the graph knows it."""
        if not self._gid:
            self._gid = self._find_gid()
        return self._gid

    def publish(self, message: Any) -> None:
        """Send a message object or its serialized CDR bytes."""
        self._publisher.publish(message)
        self.count += 1

    @property
    def subscription_count(self) -> int:
        """How many subscriptions it is connected to."""
        return int(self._publisher.get_subscription_count())

    def wait_acknowledged(self, timeout_s: float) -> None:
        self._publisher.wait_for_all_acked(Duration(seconds=max(0.0, timeout_s)))


class DrainedGroup(CallbackGroup):
    """Callback group of subscriptions that the executor leaves alone.

    A thread of the node takes their messages itself (`drain`): an executor callback costs ten times
    as much.
    """

    def can_execute(self, entity: object) -> bool:
        return False

    def beginning_execution(self, entity: object) -> bool:
        return False

    def ending_execution(self, entity: object) -> None:
        pass


def drain(subscription: Any, message_type: type, *, raw: bool = False) -> Any:
    """The newest message (`raw`: its CDR bytes) waiting in a `DrainedGroup` subscription, else None."""
    newest = None
    while (taken := subscription.handle.take_message(message_type, raw)) is not None:
        newest = taken[0]
    return newest


class CaptureNode(Node):
    """A node with parameters from a frozen dataclass, counted publishers and a latched `~/state`."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        if self.get_parameter("use_sim_time").value:
            raise CaptureError(
                "use_sim_time:=true is refused: everything here is stamped in the station's clock"
            )
        self._counting: list[CountingPublisher] = []
        self._state_publisher = self.create_publisher(DiagnosticStatus, "~/state", latched_qos())
        self._diagnostics = self.create_publisher(DiagnosticArray, DIAGNOSTICS, stream_qos(100))
        self._diagnostics_timer = self.create_timer(
            _DIAGNOSTICS_PERIOD_S, lambda: self.report_counts(final=False)
        )
        self.stop_requested = False
        self.exit_code = 0
        self.has_deadline = False
        self.real_time_priority = False
        # Somebody else's code holds a thread of ours for good.
        self.leaves_threads = False

    def declare_from(self, parameters_type: type[Parameters]) -> Parameters:
        """Declare one ROS parameter per field of a frozen dataclass and return it filled.

        Raises `CaptureError` with every value of a wrong type; the dataclass's own `__post_init__`
        checks the values.
        """
        values: dict[str, Any] = {}
        problems = []
        for field in dataclasses.fields(parameters_type):  # type: ignore[arg-type]
            default = field.default
            overrides = self._parameter_overrides
            given = overrides[field.name].value if field.name in overrides else default
            if isinstance(default, float) and isinstance(given, int) and not isinstance(given, bool):
                given = float(given)
            if isinstance(default, str) and not isinstance(given, str):
                given = str(given)
            # rclpy gives a list of numbers as an array.
            if isinstance(default, tuple) and isinstance(given, list | tuple | array):
                given = tuple(given)
            if type(given) is not type(default):
                expected = _EXPECTED[type(default)]
                problems.append(f"parameter {field.name}: {given!r} is given, {expected} is expected")
                continue
            # The override is applied by us, so that an int is accepted where a float is meant.
            self.declare_parameter(
                field.name, list(given) if isinstance(given, tuple) else given, ignore_override=True
            )
            values[field.name] = given
        known = {field.name for field in dataclasses.fields(parameters_type)} | {  # type: ignore[arg-type]
            "use_sim_time",
            "start_type_description_service",
        }
        for name in self._parameter_overrides:
            if name not in known and not name.startswith("qos_overrides."):
                problems.append(f"unknown parameter {name!r}; known: {', '.join(sorted(known))}")
        if problems:
            raise CaptureError("\n".join(problems))
        return parameters_type(**values)

    def counting_publisher(self, message_type: type, topic: str, qos: QoSProfile) -> CountingPublisher:
        publisher = CountingPublisher(self, message_type, topic, qos)
        self._counting.append(publisher)
        return publisher

    def start_thread(self, name: str, run: Callable[[], None], priority: int | None = None) -> Thread:
        """Run ``run`` in a thread of its own, whose failure is the node's end.

        ``priority``, a level of `thread_priority`, is given to a thread that has a deadline to keep;
        `real_time_priority` then says whether it was allowed.
        """
        if priority is not None:
            self.has_deadline = True
            sys.setswitchinterval(_SWITCH_INTERVAL_S)

        def guarded() -> None:
            if priority is not None:
                self.real_time_priority = prefer_thread(priority)
            try:
                run()
            except Exception as error:
                self.fail(f"thread {name}", error)

        thread = Thread(target=guarded, name=name, daemon=True)
        thread.start()
        return thread

    def fail(self, what: str, error: Exception) -> None:
        """End the node with exit code 1: a line says what failed and where, log level debug has the rest."""
        self.exit_code = 1
        self.stop_requested = True
        _tell_failure(self.get_logger(), what, error)

    def publish_state(
        self, word: str, values: Mapping[str, object] | None = None, level: bytes = DiagnosticStatus.OK
    ) -> None:
        """Latch the node's state on `~/state`; the first call says that the node is ready."""
        self._state_publisher.publish(
            DiagnosticStatus(
                level=level,
                name=self.get_fully_qualified_name(),
                message=word,
                values=key_values(values or {}),
            )
        )

    def diagnostics(self) -> Mapping[str, object]:
        """Numbers of this node for `/diagnostics`, asked for once a second; override."""
        return {}

    def statuses(self) -> list[DiagnosticStatus]:
        """More than numbers for `/diagnostics`, with levels of their own; override."""
        return []

    def report_counts(self, *, final: bool) -> None:
        """Publish on `/diagnostics` how much was published per topic, and the node's own numbers."""
        name = self.get_fully_qualified_name()
        array = DiagnosticArray()
        array.header.stamp = self.get_clock().now().to_msg()
        counts = {p.topic: f"{p.count} {p.gid}" for p in self._counting}
        array.status = [
            DiagnosticStatus(
                level=DiagnosticStatus.OK,
                name=f"{name}: published",
                message="messages published since start, and the publisher's gid",
                hardware_id="final" if final else "running",
                values=key_values(counts),
            )
        ]
        try:
            numbers = self.diagnostics()
            if numbers:
                array.status.append(
                    DiagnosticStatus(level=DiagnosticStatus.OK, name=name, values=key_values(numbers))
                )
            array.status.extend(self.statuses())
        except Exception as error:
            # The counts are what loss is measured against: they go out whatever else fails.
            self.fail("the diagnostics", error)
        self._diagnostics.publish(array)

    def stop(self) -> None:
        """Called once when the node ends, before the final counts: end threads and files; override."""

    def finish(self) -> None:
        """Stop, report the final counts and wait until readers have everything."""
        try:
            self.stop()
        except Exception as error:
            self.fail("stopping", error)
        self.report_counts(final=True)
        deadline = time.monotonic() + _ACKNOWLEDGE_TIMEOUT_S
        for publisher in self._counting:
            publisher.wait_acknowledged(deadline - time.monotonic())
        self._diagnostics.wait_for_all_acked(Duration(seconds=max(0.05, deadline - time.monotonic())))


def key_values(values: Mapping[str, object]) -> list[KeyValue]:
    """Of any text: what UTF-8 has no bytes for, in a file's name or somebody's message, becomes `?`."""
    return [KeyValue(key=_utf8(key), value=_utf8(value)) for key, value in values.items()]


def _utf8(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode("utf-8")


def _tell_failure(logger: Any, what: str, error: Exception) -> None:
    place = traceback.extract_tb(error.__traceback__)[-1:]
    where = "".join(f" ({Path(frame.filename).name}, line {frame.lineno})" for frame in place)
    said = " ".join(str(error).split())
    logger.error(_utf8(f"{what} failed: {type(error).__name__}: {said}{where}"))
    logger.debug(_utf8("".join(traceback.format_exception(error))))


def _complain(name: str, error: Exception) -> None:
    lines = (
        [str(p) for p in error.problems]
        if isinstance(error, InvalidConfiguration)
        else str(error).splitlines()
    )
    for line in lines:
        print(f"{name}: error: {line}", file=sys.stderr)


def run_node(factory: Callable[[], CaptureNode]) -> None:
    """Run one node until SIGINT or SIGTERM and leave the process with its exit code.

    0 after a clean end, 2 where the configuration cannot be used (each problem on a line of
    stderr), 1 where the node gave up or something in it failed later. The final counts are published all
    the same, and no traceback is shown.
    """
    name = sys.argv[0].rsplit("/", 1)[-1].removesuffix(".py")
    stopping = False

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        nonlocal stopping
        stopping = True

    prepare_ros_environment()
    try:
        rclpy.init(args=sys.argv, signal_handler_options=SignalHandlerOptions.NO)
    except RuntimeError as error:  # the base of rclpy's errors about arguments and environment
        # Behind ", at" is a line of rcl's own source.
        reason = " ".join(str(error).split()).removeprefix("failed to initialize rcl: ").split(", at /")[0]
        _complain(
            name,
            CaptureError(
                f"ROS cannot start with these arguments: {reason} (usage: --ros-args -p name:=value)"
            ),
        )
        sys.exit(EXIT_BAD_CONFIGURATION)
    signal.signal(signal.SIGINT, on_signal)
    signal.signal(signal.SIGTERM, on_signal)
    signal.signal(signal.SIGHUP, on_signal)  # the terminal of a `ros2 launch` was closed
    # Tells where each thread is: what is asked of a node that does not end.
    faulthandler.register(signal.SIGQUIT)
    try:
        node = factory()
    except (CaptureError, RetargetingError) as error:
        _complain(name, error)
        rclpy.shutdown()
        sys.exit(EXIT_BAD_CONFIGURATION)
    except Exception as error:
        _tell_failure(get_logger(name), "the start", error)
        rclpy.shutdown()
        sys.exit(1)
    prefer_process(has_deadline=node.has_deadline)
    # What is there now stays: looking through it again for garbage would hold all threads up.
    gc.collect()
    gc.freeze()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        while not stopping and not node.stop_requested:
            executor.spin_once(timeout_sec=0.1)
    except ExternalShutdownException:
        pass
    except (CaptureError, RetargetingError) as error:
        _complain(name, error)
        node.exit_code = 1
    except Exception as error:
        node.fail("a callback", error)
    finally:
        try:
            node.finish()
        except Exception as error:
            node.fail("the end", error)
        exit_within(_LEAVING_S, node.exit_code)
        executor.shutdown()
        node.destroy_node()
        rclpy.try_shutdown()
    if node.leaves_threads:
        # What such a thread stands in must not be taken down around it.
        exit_at_once(node.exit_code)
    sys.exit(node.exit_code)
