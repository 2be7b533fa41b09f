"""A round of the taking thread ends, however fast messages come, and has all that was there when it began."""

from __future__ import annotations

import time
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.mcap_writer import LARGE_BYTES
from capture_nodes.recording.recent_messages import Taken
from capture_nodes.recording.stream import Stream
from capture_nodes.subscriptions import (
    DEPTH_ON_CHANGE,
    MOST_IN_TURN,
    MOST_LARGE_IN_TURN,
    REORDERED_NS,
    SubscriptionSet,
)

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

    def __init__(self, waiting: int, endless: bool = False, size: int = 10, received_ns: int = 1) -> None:
        self.waiting, self._endless, self._number = waiting, endless, 0
        self._data, self.received_ns = bytes(size), received_ns

    def take(self) -> Taken | None:
        if not self.waiting:
            return None
        self._number += 1
        self.waiting -= not self._endless
        return self._data, 1, self.received_ns, self._number, bytes(16)

    def close(self) -> None:
        pass


class _Taking:
    """Readers of ``sources``; `counts` of what they gave."""

    def __init__(self, sources: dict[str, _Source], rate_hz: float | None = None) -> None:
        self.node: Any = _Node()
        self.sources = sources
        self.readers = SubscriptionSet(
            self.node, HISTORY_S, lambda handle, kind, shared: sources[handle.topic]
        )
        self.counts = dict.fromkeys(sources, 0)
        self.rate_hz = rate_hz
        for topic in sources:
            self.add(topic)

    def add(self, topic: str) -> None:
        stream = Stream(ChannelDescription(topic, "std_msgs/msg/String", "string data"))
        self.readers.add(stream, object, self.rate_hz, latched=False)

    def drain(self) -> bool:
        return self.readers.drain(self._take)

    def _take(self, stream: Stream, messages: list[Taken]) -> None:
        self.counts[stream.topic] += len(messages)
        assert [m[3] for m in messages] == list(
            range(self.counts[stream.topic] - len(messages) + 1, self.counts[stream.topic] + 1)
        )


@pytest.mark.parametrize(
    ("rate_hz", "depth"), [(None, DEPTH_ON_CHANGE), (30.0, DEPTH_ON_CHANGE), (5000.0, 10_000)]
)
@pytest.mark.parametrize("size", [10, LARGE_BYTES])
def test_a_round_ends_though_messages_never_do(rate_hz: float | None, depth: int, size: int) -> None:
    """It has all that a reader can have held."""
    taking = _Taking({"/flood": _Source(1, endless=True, size=size), "/joints": _Source(depth)}, rate_hz)
    assert taking.node.depths == dict.fromkeys(taking.sources, depth)
    for rounds in (1, 2):
        passes = 1
        while not taking.drain():
            passes += 1
            assert passes <= depth
        # No reader has more than that.
        assert rounds * depth <= taking.counts["/flood"] <= rounds * (depth + MOST_IN_TURN)
        assert taking.counts["/joints"] == depth


def test_a_round_need_not_take_what_came_after_it_began(monkeypatch: pytest.MonkeyPatch) -> None:
    now_ns = 1_000 * 1_000_000_000
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)
    frames = _Source(1, endless=True, size=LARGE_BYTES, received_ns=now_ns)
    taking = _Taking({"/camera": frames})
    assert not taking.drain()
    now_ns += 2 * REORDERED_NS
    frames.received_ns = now_ns
    assert taking.drain() and taking.counts["/camera"] == MOST_LARGE_IN_TURN + 1
    # Received later than now: the clock was set back, so this says nothing of what is left.
    frames.received_ns = now_ns + 3600 * 1_000_000_000
    assert not taking.drain()


def test_frames_that_pile_up_do_not_keep_joints_waiting() -> None:
    sources = {f"/camera{k}": _Source(1, endless=True, size=LARGE_BYTES) for k in range(9)}
    taking = _Taking({**sources, "/joints": _Source(0)}, rate_hz=500.0)
    for passes in range(1, 20):
        taking.sources["/joints"].waiting = 5
        assert not taking.drain()
        assert taking.counts["/joints"] == 5 * passes
        assert taking.counts["/camera0"] == MOST_LARGE_IN_TURN * passes


def test_a_reader_that_is_new_or_gone_meanwhile_keeps_no_round_from_its_end() -> None:
    taking = _Taking({"/flood": _Source(1, endless=True, size=LARGE_BYTES), "/a": _Source(3)})
    assert not taking.drain()
    taking.sources["/new"], taking.counts["/new"] = _Source(1, endless=True, size=LARGE_BYTES), 0
    taking.add("/new")
    passes = 1
    while not taking.drain():
        passes += 1
    assert taking.counts["/flood"] == DEPTH_ON_CHANGE and taking.counts["/new"] < DEPTH_ON_CHANGE
    assert not taking.drain()
    taking.readers.destroy()
    assert taking.drain()
