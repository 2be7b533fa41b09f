"""The recorder as a real process over real DDS; the test's process publishes and calls the services."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from mcap.reader import make_reader
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from rclpy.serialization import serialize_message
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger

from capture_nodes.topics import latched_qos

REPOSITORY = Path(__file__).resolve().parents[2]
TIMEOUT_S = 20.0


class Station:
    """A node of this process, the recorder's process, and waiting for things with a timeout."""

    def __init__(self, domain: int, arguments: list[str]) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=domain)
        self.node = rclpy.create_node("test_station", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.clients: dict[str, Any] = {}
        self.episode: DiagnosticStatus | None = None
        self.ready = False
        self.node.create_subscription(
            DiagnosticStatus, "/kestrel/recorder/state", self._on_state, latched_qos()
        )
        self.node.create_subscription(
            DiagnosticStatus, "/kestrel/recorder/episode", self._on_episode, latched_qos()
        )
        environment = {**os.environ, "ROS_DOMAIN_ID": str(domain), "PYTHONPATH": str(REPOSITORY)}
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        command = [sys.executable, "-m", "capture_nodes.recorder_node", "--ros-args", "-r", "__ns:=/kestrel"]
        for argument in arguments:
            command += ["-p", argument]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
        )

    def _on_state(self, status: DiagnosticStatus) -> None:
        self.ready = status.message == "ready"

    def _on_episode(self, status: DiagnosticStatus) -> None:
        self.episode = status

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            assert time.monotonic() < deadline_s, f"waited {timeout_s:g} s for {what}"
            assert self.process.poll() is None, f"the recorder ended: {self.process.communicate()}"
            self.executor.spin_once(timeout_sec=0.05)

    def call(self, service: str) -> Any:
        if service not in self.clients:
            self.clients[service] = self.node.create_client(Trigger, f"/kestrel/recorder/{service}")
        client = self.clients[service]
        self.wait(client.service_is_ready, service)
        future = client.call_async(Trigger.Request())
        self.wait(future.done, f"the answer of {service}")
        return future.result()

    def set(self, **values: str) -> str:
        """Set parameters of the recorder; the reason where it refuses, else ''."""
        client = self.clients.setdefault(
            "set_parameters", self.node.create_client(SetParameters, "/kestrel/recorder/set_parameters")
        )
        self.wait(client.service_is_ready, "set_parameters")
        kind = ParameterType.PARAMETER_STRING
        future = client.call_async(
            SetParameters.Request(
                parameters=[
                    Parameter(name=name, value=ParameterValue(type=kind, string_value=value))
                    for name, value in values.items()
                ]
            )
        )
        self.wait(future.done, "the answer of set_parameters")
        return "; ".join(r.reason for r in future.result().results if not r.successful)

    def start(self) -> str:
        """The episode that begins as soon as the recorder has joined every topic."""
        deadline_s = time.monotonic() + TIMEOUT_S
        while not (answer := self.call("start")).success:
            assert "still joining" in answer.message and time.monotonic() < deadline_s, answer.message
        return str(answer.message)

    def publisher(self, message_type: type, topic: str, qos: QoSProfile) -> Any:
        """A publisher that the recorder has already found."""
        publisher = self.node.create_publisher(message_type, topic, qos)
        self.wait(lambda: publisher.get_subscription_count() > 0, f"the recorder to subscribe {topic}")
        return publisher

    def gid(self, publisher: Any) -> str:
        (info,) = self.node.get_publishers_info_by_topic(publisher.topic_name)
        return bytes(info.endpoint_gid).hex()

    def end(self, number: int = signal.SIGINT) -> tuple[str, str]:
        self.process.send_signal(number)
        return self.process.communicate(timeout=TIMEOUT_S)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@contextmanager
def running(domain: int, root: Path, *arguments: str) -> Iterator[Station]:
    station = Station(domain, [f"root:={root}", "robot:=kestrel", "skill:=lift", *arguments])
    try:
        station.wait(lambda: station.ready, "the recorder to be ready")
        yield station
    finally:
        station.close()


def joint_state(i: int) -> bytes:
    message = JointState(
        name=["waist_yaw", "waist_pitch"],
        position=[0.001 * i, 0.0],
        velocity=[0.0, 0.0],
        effort=[0.0, float(i)],
    )
    now_ns = time.time_ns()
    message.header.stamp.sec, message.header.stamp.nanosec = divmod(now_ns, 1_000_000_000)
    return bytes(serialize_message(message))


def payloads_of(path: str) -> dict[str, list[bytes]]:
    result: dict[str, list[bytes]] = {}
    with open(path, "rb") as stream:
        for _, channel, message in make_reader(stream, validate_crcs=True).iter_messages():
            result.setdefault(channel.topic, []).append(message.data)
    return result


def metadata_of(path: str) -> dict[str, dict[str, str]]:
    with open(path, "rb") as stream:
        return {m.name: m.metadata for m in make_reader(stream).iter_metadata()}
