"""The last moments of every topic, so that an episode begins before its button."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import NamedTuple, TypeAlias

from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.stream import Stream
from capture_nodes.recording.stream_statistics import Arrival, PublisherCounts

# As the middleware gives it: data, source and received time (ns), the publisher's number, its gid.
Taken: TypeAlias = tuple[Buffer, int, int, "int | None", bytes]


class TakenMessage(NamedTuple):
    """A message as the middleware gave it; `crossed_ns` is the time that decides what it belongs to.

    `arrival`: what it was when it came (`PublisherCounts.arrived`).
    """

    stream: Stream
    counts: PublisherCounts
    data: Buffer
    source_ns: int
    received_ns: int
    crossed_ns: int
    arrival: Arrival
    gid: bytes

    @property
    def number(self) -> int:
        """The publisher's own, 0 where the middleware gives none."""
        return self.arrival[0] or 0


class RecentMessages:
    """Messages of the last ``span_ns``, at most ``limit_bytes`` of them. Used by the taking thread.

    Nothing was taken before ``since_ns``. What becomes too old leaves (`forget`): a latched message is then
    its publisher's newest from before (`Stream.latest`).
    """

    def __init__(self, span_ns: int, limit_bytes: int, since_ns: int) -> None:
        self._span_ns, self._limit_bytes = span_ns, limit_bytes
        self._messages: deque[TakenMessage] = deque()
        self._bytes = 0
        # Everything received since then is here.
        self.complete_since_ns = since_ns

    @property
    def span_s(self) -> float:
        return self._span_ns * 1e-9

    def add(self, message: TakenMessage, size: int) -> None:
        """``size``: of its data."""
        self._messages.append(message)
        self._bytes += size

    def extend(self, messages: list[TakenMessage], size: int) -> None:
        self._messages.extend(messages)
        self._bytes += size

    def forget(self, now_ns: int) -> None:
        """Let go of what is too old, or too much."""
        messages, oldest_ns = self._messages, now_ns - self._span_ns
        while messages and (messages[0].crossed_ns < oldest_ns or self._bytes > self._limit_bytes):
            message = messages.popleft()
            self._bytes -= len(message.data)
            self.complete_since_ns = max(self.complete_since_ns, message.crossed_ns + 1)
            if message.stream.latched:
                message.stream.latest[message.gid] = (bytes(message.data), message.source_ns, message.number)

    def clock_moved(self, by_ns: int) -> None:
        """The clock that borders are told by was set."""
        moved = (message._replace(crossed_ns=message.crossed_ns + by_ns) for message in self._messages)
        self._messages = deque(moved)
        self.complete_since_ns += by_ns

    def __iter__(self) -> Iterator[TakenMessage]:
        return iter(self._messages)
