"""Other nodes as a session sees them: their latched states, and services that are called and waited for."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from capture_nodes.errors import CaptureError
from capture_nodes.topics import latched_qos

_TICK_S = 0.05


class SessionFailed(CaptureError):
    """A repetition that did not come about; names who did not do what."""


class SessionRefused(SessionFailed):
    """A node answered, and said no."""


class Peer:
    """One node: `word`, `reason` and all `values` of its newest state ("": none yet); `changes`: how often it
    told it."""

    def __init__(self, node: Node, name: str) -> None:
        self.name = name
        self.word = self.reason = ""
        self.values: Mapping[str, str] = {}
        self.changes = 0
        node.create_subscription(DiagnosticStatus, f"{name}/state", self._on_state, latched_qos())

    def _on_state(self, message: Any) -> None:
        self.word = message.message
        self.values = {item.key: item.value for item in message.values}
        self.reason = self.values.get("reason", "")
        self.changes += 1

    @property
    def problem(self) -> str:
        return f"{self.name} is {self.word}: {self.reason or 'no reason given'}"


class PeerNodes:
    """Several nodes, and their `services` (Trigger, by key), for coroutines on the executor of `node`.

    A steady timer wakes what waits.
    """

    def __init__(
        self,
        node: Node,
        peers: Sequence[Peer],
        services: Mapping[str, str],
        ready_timeout_s: float,
        answer_timeout_s: float,
    ) -> None:
        self._node = node
        self._peers = tuple(peers)
        self._ready_timeout_s, self._answer_timeout_s = ready_timeout_s, answer_timeout_s
        self._waiting: list[tuple[Callable[[], bool], float, Future[bool]]] = []
        self._clients = {key: node.create_client(Trigger, name) for key, name in services.items()}
        node.create_timer(_TICK_S, self._wake)

    def _wake(self) -> None:
        now = time.monotonic()
        for item in list(self._waiting):
            condition, deadline, future = item
            if condition() or now > deadline:
                self._waiting.remove(item)
                future.set_result(condition())

    @property
    def silent(self) -> list[str]:
        """Who has not told any state yet."""
        return [peer.name for peer in self._peers if peer.changes == 0]

    async def until(
        self, condition: Callable[[], bool], timeout_s: float, what: str | Callable[[], str]
    ) -> None:
        """Wait for a condition; raises `SessionFailed` naming `what` was waited for."""
        future: Future[bool] = Future(executor=self._node.executor)
        self._waiting.append((condition, time.monotonic() + timeout_s, future))
        if not await future:
            text = what if isinstance(what, str) else what()
            raise SessionFailed(f"{text} within {timeout_s:g} s")

    async def pause(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        await self.until(lambda: time.monotonic() >= end, 2.0 * duration_s + 1.0, "the pause did not end")

    async def call(self, key: str) -> str:
        """Call a service and answer its message; raises `SessionFailed` where it refuses or is silent."""
        client = self._clients[key]
        name = client.srv_name
        await self.until(
            client.service_is_ready, self._ready_timeout_s, f"{name}: the service did not appear"
        )
        call = client.call_async(Trigger.Request())
        await self.until(call.done, self._answer_timeout_s, f"{name} did not answer")
        response = call.result()
        if not response.success:
            raise SessionRefused(f"{name} refused: {response.message}")
        return str(response.message)
