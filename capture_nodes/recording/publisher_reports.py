"""What publishers say of themselves on /diagnostics: how much they have published, and who is not heard."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

from capture_nodes.recording.cdr import Status
from capture_nodes.recording.stream import Stream
from capture_nodes.recording.stream_statistics import StreamStatistics, parse_published_counts

# Publishers report every second; one that has not for this long may be gone.
_REPORTING_NS = 3_000_000_000


@dataclass(frozen=True)
class _Report:
    """What a publisher said of itself in its last two reports (0 before the first)."""

    count_before: int
    count: int
    received_ns: int


class PublisherReports:
    """Used by the taking thread and by control, under the recorder's lock."""

    def __init__(self, statistics: StreamStatistics) -> None:
        self._statistics = statistics
        self._said: dict[tuple[str, str], _Report] = {}

    def heard(self, status: Status, streams: Mapping[str, Stream], received_ns: int) -> None:
        """A node's `<name>: published` status arrived."""
        final = status.hardware_id == "final"
        for (topic, gid), count in parse_published_counts(status.values).items():
            if topic in streams:
                self._statistics.reported(topic, gid, count, final, received_ns)
            before = self._said.get((topic, gid), _Report(0, 0, 0))
            self._said[topic, gid] = _Report(before.count, count, received_ns)

    def clock_moved(self, by_ns: int) -> None:
        """The clock was set."""
        self._said = {
            publisher: replace(said, received_ns=said.received_ns + by_ns)
            for publisher, said in self._said.items()
        }

    def unheard(self, streams: Mapping[str, Stream]) -> list[str]:
        """Topics that somebody says to be publishing, but nothing has arrived: not connected yet."""
        since_ns = time.time_ns() - _REPORTING_NS
        heard = {(topic, gid.hex()) for topic, stream in streams.items() for gid in stream.publishers}
        return sorted(
            {
                topic
                for (topic, gid), said in self._said.items()
                if (topic, gid) not in heard
                and said.count > said.count_before
                and said.received_ns >= since_ns
            }
        )
