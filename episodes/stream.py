"""One topic of an episode: times, sizes, stamps, frames and, where kept, the messages as they came."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from mcap.records import Schema
from numpy.typing import NDArray

from episodes import cdr
from episodes.stream_counts import StreamCounts

IntArray = NDArray[np.int64]

# Larger messages are images: their pixels stay in the file and are read one at a time.
PAYLOAD_LIMIT_BYTES = 32 * 1024


@dataclass(frozen=True)
class Stream:
    """One topic of a bag, messages in the order of the file.

    `stamp_ns` are the header stamps (None for a type without a header, or where a message is `malformed`:
    its bytes are not of its type), `frame_ids` the different
    header frames in order of appearance and `frame_index` ``(count,)`` says which one each message has.
    `payloads` holds the serialized messages where they were kept (see `read_bag`), else it is empty.
    """

    topic: str
    type: str
    schema: Schema
    channel_ids: frozenset[int]
    log_ns: IntArray
    publish_ns: IntArray
    sequence: IntArray
    size_bytes: int
    stamp_ns: IntArray | None
    frame_ids: tuple[str, ...]
    frame_index: IntArray
    malformed: bool
    counts: StreamCounts
    payloads: tuple[bytes, ...] = field(repr=False, default=())

    @property
    def count(self) -> int:
        return len(self.log_ns)

    @property
    def times_ns(self) -> IntArray:
        """Header stamps; publish times for a type without a header."""
        return self.publish_ns if self.stamp_ns is None else self.stamp_ns

    @property
    def rate_hz(self) -> float | None:
        """Messages per second between the first and the last; None below two messages."""
        times = self.times_ns
        if len(times) < 2 or times[-1] <= times[0]:
            return None
        return (len(times) - 1) / (float(times[-1] - times[0]) * 1e-9)


class StreamColumns:
    """The growing columns of one topic while a file is read."""

    def __init__(self, topic: str, schema: Schema, keep: bool) -> None:
        self.topic = topic
        self.schema = schema
        self.has_header = schema.encoding == "ros2msg" and cdr.begins_with_header(
            schema.data.decode("utf-8", "replace")
        )
        self.keep = keep
        self.malformed = False
        self.channel_ids: set[int] = set()
        self.log_ns: list[int] = []
        self.publish_ns: list[int] = []
        self.sequence: list[int] = []
        self.stamp_ns: list[int] = []
        self.frames: dict[str, int] = {}
        self.frame_index: list[int] = []
        self.size_bytes = 0
        self.payloads: list[bytes] = []

    def add(self, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        if self.has_header:
            # Images: only the header is looked at, their pixels are not copied.
            try:
                stamp, frame, _ = cdr.header(data)
            except cdr.MalformedMessage:
                self._has_no_header()
            else:
                self.stamp_ns.append(stamp)
                self.frame_index.append(self.frames.setdefault(frame, len(self.frames)))
        self.log_ns.append(log_ns)
        self.publish_ns.append(publish_ns)
        self.sequence.append(sequence)
        self.size_bytes += len(data)
        if self.keep:
            if len(data) <= PAYLOAD_LIMIT_BYTES:
                self.payloads.append(data)
            else:
                self.keep = False
                self.payloads.clear()

    def _has_no_header(self) -> None:
        """A message that is not of its type: none of the stream's stamps can be relied on."""
        self.has_header = False
        self.malformed = True
        self.stamp_ns.clear()
        self.frames.clear()
        self.frame_index.clear()

    def stream(self, counts: StreamCounts) -> Stream:
        return Stream(
            topic=self.topic,
            type=_long_type(self.schema.name),
            schema=self.schema,
            channel_ids=frozenset(self.channel_ids),
            log_ns=np.array(self.log_ns, dtype=np.int64),
            publish_ns=np.array(self.publish_ns, dtype=np.int64),
            sequence=np.array(self.sequence, dtype=np.int64),
            size_bytes=self.size_bytes,
            stamp_ns=np.array(self.stamp_ns, dtype=np.int64) if self.has_header else None,
            frame_ids=tuple(self.frames),
            frame_index=np.array(self.frame_index, dtype=np.int64),
            malformed=self.malformed,
            counts=counts,
            payloads=tuple(self.payloads) if self.keep else (),
        )


def _long_type(name: str) -> str:
    """``pkg/msg/Type`` of ``pkg/Type``, which some writers use."""
    package, _, rest = name.partition("/")
    return name if not rest or "/" in rest else f"{package}/msg/{rest}"
