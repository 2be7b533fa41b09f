"""One recorded topic, as the recorder knows it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from capture_nodes.recording.camera_encoding import TOPIC_SUFFIXES, Encoding
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.stream_statistics import PublisherCounts

Role = Literal["", "joint_states", "retargeting_state", "diagnostics", "transforms"]

# Given up last when too much waits for the disk.
HIGHEST_PRIORITY = 3

# A message of a latched topic: data, source time (ns), sequence number.
Latched = tuple[bytes, int, int]


@dataclass
class Stream:
    """One recorded topic. `role` marks the few whose content the recorder itself reads.

    `expected_hz`: the rate it should have, None where it has no fixed one. `priority`: 0 is given up first,
    `HIGHEST_PRIORITY` last. `latest`: per publisher of a latched topic its newest message that is older than
    the pre-roll. `alive`: the publishers on the network, gid (hex) to node.
    """

    channel: ChannelDescription
    latched: bool = False
    role: Role = ""
    expected_hz: float | None = None
    priority: int = HIGHEST_PRIORITY
    encoding: Encoding = "raw"
    publishers: dict[bytes, PublisherCounts] = field(default_factory=dict)
    latest: dict[bytes, Latched] = field(default_factory=dict)
    alive: Mapping[str, str] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        return self.channel.topic

    @property
    def written_topic(self) -> str:
        """Under which an episode has it: a camera that is encoded has a topic for each form."""
        return self.topic + TOPIC_SUFFIXES[self.encoding]

    def heard_before(self, recent: Iterable[tuple[bytes, Latched]]) -> dict[bytes, Latched]:
        """What every publisher had latched: `latest`, and ``recent`` ones in the order they came.

        What a publisher that is gone had latched is repeated only as long as nobody replaced it.
        """
        everybody = {**self.latest, **dict(recent)}
        alive = {gid: entry for gid, entry in everybody.items() if gid.hex() in self.alive}
        return alive or everybody
