"""The transform tree of the episodes: `/tf` thinned from the measured joints, `/tf_static` at every head."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from capture_nodes.recording.cdr import CdrReader, JointStateReader, read_child_frames, read_status
from capture_nodes.recording.episode import Episode
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.stream_statistics import PublisherCounts, StreamStatistics
from capture_nodes.recording.tf_stream import TfStream
from capture_nodes.recording.writer_thread import WriterThread

# The recorder's own streams have no publisher on the network.
OWN_GID = "recorder"
# A stamp may be this far ahead of the clock: those of a schedule are, by as much as two clocks drift apart.
STAMP_LEAD_NS = 5_000_000


class EpisodeTransforms:
    """Called by the taking thread; the messages are made and written on the writer thread.

    ``rate_hz`` of `/tf`; ``head_ns``: it begins that long before an episode.
    """

    def __init__(
        self,
        tf: TfStream,
        channel: ChannelDescription,
        static_channel: ChannelDescription,
        statistics: StreamStatistics,
        writer: WriterThread,
        rate_hz: float,
        head_ns: int,
        pre_roll_ns: int,
    ) -> None:
        self._tf, self._channel, self._static_channel = tf, channel, static_channel
        self._statistics, self._writer = statistics, writer
        self._publisher = statistics.publisher("/tf", OWN_GID)
        self._static_publisher = statistics.publisher("/tf_static", OWN_GID)
        self._publisher.node = self._static_publisher.node = "recorder"
        self._joint_states = JointStateReader()
        self._next_ns = 0
        self._period_ns = round(1e9 / rate_hz)
        self.head_ns = head_ns
        # One more than the head needs, so that it reaches back all the way.
        recent = 2 + round((head_ns + pre_roll_ns) / self._period_ns)
        self._recent: deque[tuple[str, bytes, int, int]] = deque(maxlen=recent)

    def begin(self, episode: Episode) -> None:
        """Write the head of an episode that has just been opened."""
        head_ns = episode.start_ns - self.head_ns
        self._writer.call("/tf_static", lambda: self._write_static(episode, head_ns))
        for topic, data, source_ns, received_ns in self._recent:
            if received_ns >= head_ns:
                self._put(episode, topic, data, source_ns, received_ns)

    def joint_state(
        self, topic: str, data: bytes, source_ns: int, received_ns: int, episodes: Iterable[Episode]
    ) -> None:
        """Measured joints have been taken; ``episodes``: all that are not closing."""
        for episode in episodes:
            # Samples from beyond the end until one is stamped after everything in the episode, so that its
            # last stamp lies between two.
            if received_ns > episode.end_ns and not episode.tf_tail_done:
                episode.tf_tail_done = CdrReader(data).stamp_ns() > episode.end_ns + STAMP_LEAD_NS
                self._put(episode, topic, data, source_ns, received_ns)
        # Due a little early: a publisher's jitter must not make every n-th sample wait for the next one.
        if source_ns < self._next_ns - self._period_ns // 8:
            return
        self._next_ns = max(self._next_ns + self._period_ns, source_ns)
        self._recent.append((topic, data, source_ns, received_ns))
        for episode in episodes:
            if episode.start_ns <= received_ns <= episode.end_ns:
                self._put(episode, topic, data, source_ns, received_ns)

    def clock_moved(self, by_ns: int) -> None:
        """The clock was set: the next sample is due as long from now as before."""
        self._next_ns += by_ns

    def tail_missing(self, episode: Episode) -> bool:
        """Whether a sample from beyond the end is still to come."""
        return bool(self._recent) and not episode.tf_tail_done

    def leave_out(self, topic: str, data: bytes) -> None:
        """Somebody else publishes these frames."""
        self._writer.call(topic, lambda: self._tf.leave_out(read_child_frames(data)))

    def join_trainer(self, topic: str, data: bytes) -> None:
        """The retargeter says where the trainer stands."""
        if b"transform_trainer_to_base" in data:
            text = read_status(data).values.get("transform_trainer_to_base", "")
            if text:
                self._writer.call(topic, lambda: self._tf.set_trainer_transform(text))

    def _put(self, episode: Episode, topic: str, data: bytes, source_ns: int, received_ns: int) -> None:
        """``topic``: that of the joint states ``data``."""
        self._writer.call(topic, lambda: self._write(episode, data, source_ns, received_ns))

    def _write(self, episode: Episode, data: bytes, source_ns: int, received_ns: int) -> None:
        message = self._tf.message(self._joint_states.read(data))
        self._write_own(episode, self._channel, self._publisher, message, source_ns, received_ns)

    def _write_static(self, episode: Episode, head_ns: int) -> None:
        message = self._tf.static_message(head_ns)
        self._write_own(episode, self._static_channel, self._static_publisher, message, head_ns, head_ns)

    def _write_own(
        self,
        episode: Episode,
        channel: ChannelDescription,
        publisher: PublisherCounts,
        message: bytes,
        source_ns: int,
        received_ns: int,
    ) -> None:
        if not message:
            # Others publish all of it.
            return
        publisher.saw((publisher.last or 0) + 1, len(message))
        # Numbered by episode: what is written into another one at the same time is not missing in this.
        sequence = self._statistics.episode(publisher, episode.id).received + 1
        window = self._statistics.into(episode.id, publisher, (sequence, sequence - 1, False))
        window.after = sequence + 1
        if episode.file.write(channel, received_ns, source_ns, sequence, message, window):
            window.wrote(received_ns, source_ns, message)
