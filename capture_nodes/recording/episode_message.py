"""Messages on their way into an episode's file."""

from __future__ import annotations

from typing import NamedTuple

from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.mcap_writer import Buffer, SmallMessage
from capture_nodes.recording.stream import HIGHEST_PRIORITY
from capture_nodes.recording.stream_statistics import EpisodeCounts


class EpisodeMessage(NamedTuple):
    """What `EpisodeParts.write` takes, and the file. `counts`: of its publisher in this episode.

    `priority`: its stream's; what is lower gives way to it (`WriterThread`).
    """

    file: EpisodeParts
    channel: ChannelDescription
    log_ns: int
    publish_ns: int
    sequence: int
    data: Buffer
    counts: EpisodeCounts
    priority: int = HIGHEST_PRIORITY


class EpisodeMessages(NamedTuple):
    """Several of one topic and publisher, in their order: log time, publish time, number, data.

    All are small (`mcap_writer.LARGE_BYTES`) and of times that the format has room for. `size`: of the data.
    """

    file: EpisodeParts
    channel: ChannelDescription
    messages: list[SmallMessage]
    counts: EpisodeCounts
    size: int
    priority: int = HIGHEST_PRIORITY
