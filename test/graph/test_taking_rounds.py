"""A round of the taking thread ends, however fast messages come, and has all that was there when it began."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.recent_messages import Taken
from capture_nodes.recording.stream import Stream
from capture_nodes.subscriptions import DEPTH_ON_CHANGE, SubscriptionSet

HISTORY_S = 2.0


class _Node:
    """Makes subscriptions of nothing; `depths` as they were asked for."""

    def __init__(self) -> None:
        self.depths: dict[str, int] = {}

    def create_subscription(self, _: type, topic: str, __: Any, qos: Any, **___: Any) -> Any:
        self.depths[topic] = qos.depth
        return SimpleNamespace(handle=SimpleNamespace(topic=topic))

    def destroy_subscription(self, _: Any) -> None:
        pass


class _Source:
    """Has ``waiting`` messages, and one more for each that is taken where it is ``endless``."""

    def __init__(self, waiting: int, endless: bool) -> None:
        self.waiting, self._endless, self._number = waiting, endless, 0

    def take(self) -> Taken | None:
        if not self.waiting:
            return None
        self._number += 1
        self.waiting -= not self._endless
        return b"message", 1, 2, self._number, bytes(16)

    def close(self) -> None:
        pass


@pytest.mark.parametrize(("rate_hz", "depth"), [(None, DEPTH_ON_CHANGE), (30.0, DEPTH_ON_CHANGE), (500.0, 1000)])
def test_a_round_ends_though_messages_never_do(rate_hz: float | None, depth: int) -> None:
    node: Any = _Node()
    sources = {"/flood": _Source(1, endless=True), "/joints": _Source(depth, endless=False)}
    readers = SubscriptionSet(node, HISTORY_S, lambda handle, kind, shared: sources[handle.topic])
    streams = [Stream(ChannelDescription(topic, "std_msgs/msg/String", "string data")) for topic in sources]
    for stream in streams:
        readers.add(stream, object, rate_hz, latched=False)
    assert node.depths == dict.fromkeys(sources, depth)
    taken: dict[str, list[int]] = {topic: [] for topic in sources}

    def take(stream: Stream, messages: list[Taken]) -> None:
        taken[stream.topic] += [number for _, _, _, number, _ in messages if number is not None]

    for rounds in (1, 2):
        readers.drain(take)
        # No reader has more than that.
        assert taken["/flood"] == list(range(1, rounds * depth + 1))
        assert taken["/joints"] == list(range(1, depth + 1)) and sources["/joints"].waiting == 0
    readers.destroy()
