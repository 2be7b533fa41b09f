"""The benchmark's side of the station: states of the processes, services of the recorder."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.context import Context
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile
from std_srvs.srv import Trigger

from benchmarks.recorder.load_plan import ROBOT
from capture_nodes.errors import CaptureError
from capture_nodes.topics import latched_qos

TIMEOUT_S = 30.0
_SPIN_S = 0.002


class NoAnswer(CaptureError):
    """What was waited for did not come."""


class StationCalls:
    """A node in the domain of the run. ``alive`` raises where a process of the run has ended by itself."""

    def __init__(self, domain: int, nodes: list[str], alive: Callable[[], None]) -> None:
        self._alive = alive
        self._context = Context()
        rclpy.init(context=self._context, domain_id=domain)
        self._node = rclpy.create_node("benchmark", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self._node)
        self._words: dict[str, str] = {}
        for name in nodes:
            self._node.create_subscription(
                DiagnosticStatus,
                f"/{ROBOT}/{name}/state",
                lambda status, name=name: self._words.__setitem__(name, status.message),
                latched_qos(),
            )
        self._clients: dict[str, Any] = {}

    def subscribe(self, kind: type, topic: str, take: Callable[[Any], None], quality: QoSProfile) -> None:
        """Take messages while something is waited for."""
        self._node.create_subscription(kind, topic, take, quality)

    def wait(self, condition: Callable[[], Any], what: str, timeout_s: float = TIMEOUT_S) -> None:
        """Raises `NoAnswer` naming what did not come."""
        deadline_s = time.monotonic() + timeout_s
        while not condition():
            self._alive()
            if time.monotonic() > deadline_s:
                raise NoAnswer(f"waited {timeout_s:g} s for {what}")
            self._executor.spin_once(timeout_sec=_SPIN_S)

    def wait_for_word(self, name: str, word: str) -> None:
        self.wait(lambda: self._words.get(name) == word, f"{name} to be {word}")

    def sleep(self, seconds: float) -> None:
        """Let time pass; a process that ends meanwhile ends the run."""
        deadline_s = time.monotonic() + seconds
        while (left_s := deadline_s - time.monotonic()) > 0.0:
            self._alive()
            time.sleep(min(0.2, left_s))

    def ask(self, service: str) -> Any:
        """Call a service of the recorder without waiting: the future of its answer."""
        client = self._clients.get(service)
        if client is None:
            client = self._node.create_client(Trigger, f"/{ROBOT}/recorder/{service}")
            self._clients[service] = client
            self.wait(client.service_is_ready, f"the service {service}")
        return client.call_async(Trigger.Request())

    def answer(self, service: str) -> Any:
        future = self.ask(service)
        self.wait(future.done, f"the answer of {service}")
        return future.result()

    def until_accepted(self, service: str, since_s: float | None = None) -> tuple[float, str]:
        """Ask again until the recorder accepts; after how long (s), and what it said."""
        begun_s = time.monotonic() if since_s is None else since_s
        deadline_s = begun_s + TIMEOUT_S
        while not (answer := self.answer(service)).success:
            if time.monotonic() > deadline_s:
                raise CaptureError(f"{service} was refused for {TIMEOUT_S:g} s: {answer.message}")
        return time.monotonic() - begun_s, str(answer.message)

    def close(self) -> None:
        self._executor.shutdown()
        self._node.destroy_node()
        rclpy.try_shutdown(context=self._context)
