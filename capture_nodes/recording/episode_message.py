"""A message on its way into an episode's file."""

from __future__ import annotations

from typing import NamedTuple

from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.stream_statistics import EpisodeCounts


class EpisodeMessage(NamedTuple):
    """What `EpisodeParts.write` takes, and the file. `counts`: of its publisher in this episode."""

    file: EpisodeParts
    channel: ChannelDescription
    log_ns: int
    publish_ns: int
    sequence: int
    data: Buffer
    counts: EpisodeCounts
