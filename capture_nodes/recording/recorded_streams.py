"""The topics that are recorded: what is expected of each, its name in a file, and what was refused."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from capture_nodes.errors import error_text
from capture_nodes.recording.camera_encoding import CameraFigures, Encoding
from capture_nodes.recording.fair_lock import FairLock
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.stream import HIGHEST_PRIORITY, Role, Stream
from capture_nodes.recording.stream_quality import StreamExpectation
from capture_nodes.recording.stream_statistics import StreamStatistics


class RecordedStreams:
    """``lock``: the recorder's, taken by all methods. ``tf_rate_hz``: of its own transforms, None without."""

    def __init__(self, statistics: StreamStatistics, lock: FairLock, tf_rate_hz: float | None) -> None:
        self._statistics, self._lock, self._tf_rate_hz = statistics, lock, tf_rate_hz
        self.by_topic: dict[str, Stream] = {}
        # What the publishers of a topic offer (channel metadata, empty if not known); the taking thread asks.
        self.offered: Callable[[Stream], Mapping[str, str]] = lambda _: {}
        self.expectations: dict[str, StreamExpectation] = {}
        # Topics that are not recorded, and why.
        self.refused: dict[str, str] = {}
        self._messages_refused: dict[str, tuple[int, str]] = {}

    def add(
        self,
        channel: ChannelDescription,
        latched: bool = False,
        role: Role = "",
        rate_hz: float | None = None,
        priority: int = HIGHEST_PRIORITY,
        encoding: Encoding = "raw",
        expected: StreamExpectation | None = None,
    ) -> Stream:
        """A topic to be recorded from now on; once added it stays. ``rate_hz`` is its expected rate.

        ``expected``: what else its quality is judged by.
        """
        with self._lock:
            stream = self.by_topic.get(channel.topic)
            if stream is None:
                # Several publish transforms, each at a rate of its own.
                expected_hz = None if role == "transforms" else rate_hz
                stream = Stream(channel, latched, role, expected_hz, priority, encoding)
                self.by_topic[channel.topic] = stream
                self._statistics.add_topic(channel.topic, channel.schema_text, expected_hz)
                self.expectations[channel.topic] = replace(
                    expected or StreamExpectation(), rate_hz=expected_hz
                )
            return stream

    def describe(self, stream: Stream, metadata: Mapping[str, str], nodes: Mapping[str, str]) -> None:
        """What the graph says of a topic: channel metadata for the next file, gid (hex) -> node name."""
        if nodes == stream.alive and metadata == stream.channel.metadata:
            # As at the last look; the lock of the taking thread is not waited for once for every topic.
            return
        with self._lock:
            self._set_metadata(stream, metadata)
            self._statistics.found(stream.topic, nodes)
            stream.alive = dict(nodes)
            if len(stream.latest) > 1:
                stream.latest = stream.heard_before(())

    def new_publisher(self, stream: Stream) -> None:
        """The first message of a publisher has come. Its channel is written with it, and never again."""
        if not stream.channel.metadata:
            self._set_metadata(stream, self.offered(stream))

    @staticmethod
    def _set_metadata(stream: Stream, metadata: Mapping[str, str]) -> None:
        channel = stream.channel
        stream.channel = ChannelDescription(
            channel.topic, channel.type_name, channel.schema_text, dict(metadata)
        )

    def all(self) -> list[Stream]:
        with self._lock:
            return list(self.by_topic.values())

    def is_latched(self, topic: str) -> bool:
        stream = self.by_topic.get(topic)
        return topic == "/tf_static" or (stream is not None and stream.latched)

    def written_names(self) -> dict[str, str]:
        """Topic as it is taken -> topic in the file."""
        return {topic: stream.written_topic for topic, stream in self.by_topic.items()}

    def expected_hz(self) -> dict[str, float | None]:
        """Expected rates by topic in the file, None for those without a fixed one; the own /tf included."""
        with self._lock:
            rates = {stream.written_topic: stream.expected_hz for stream in self.by_topic.values()}
            if self._tf_rate_hz is not None and "/tf" not in rates:
                joints = (s.expected_hz for s in self.by_topic.values() if s.role == "joint_states")
                # Made from measured joints, so never faster than they come.
                rates["/tf"] = min([self._tf_rate_hz, *(rate for rate in joints if rate is not None)])
            return rates

    def all_expectations(self) -> dict[str, StreamExpectation]:
        """By topic as it is taken, the recorder's own transforms with them."""
        tf = {} if self._tf_rate_hz is None else {"/tf": StreamExpectation(self.expected_hz()["/tf"])}
        return {**tf, **self.expectations}

    def episode_table(
        self,
        episode_id: str,
        cameras: tuple[CameraFigures, ...] = (),
        skew: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> dict[str, dict[str, Any]]:
        """`StreamStatistics.episode_table` with the expected rate of every row's topic.

        A camera's row stands under the topic that most of its frames were written to.
        """
        rates = self.expected_hz()
        forms = {figures.topic: figures.written_topics() for figures in cameras}
        table = {}
        for row in self._statistics.episode_table(episode_id, skew).values():
            taken_from = row["topic"]
            form = forms.get(taken_from, {})
            topic = max(form, key=lambda name: form[name]) if form else taken_from
            if not row["received"] and taken_from in self.by_topic:
                topic = self.by_topic[taken_from].written_topic
            row = {**row, "topic": topic, "expected_hz": rates.get(topic)}
            if topic != taken_from:
                row["taken_from"] = taken_from
            if len(form) > 1:
                # No topic has them all, so none has the rate.
                row.update(written_as=form, expected_hz=None)
            table[f"{topic} {row['gid']}"] = row
        return table

    def refuse_message(self, topic: str, error: Exception) -> None:
        """Count and tell a message that could not be read or written. Called by several threads."""
        text = error_text(error)
        with self._lock:
            count = self._messages_refused.get(topic, (0, ""))[0] + 1
            self._messages_refused[topic] = (count, text)

    def messages_refused(self) -> dict[str, int]:
        """How many messages could not be used so far, by topic."""
        with self._lock:
            return {topic: count for topic, (count, _) in self._messages_refused.items()}

    def refused_with_messages(self, before: Mapping[str, int] | None = None) -> dict[str, str]:
        """Why, by topic: topics that are not recorded, and those with messages that could not be used.

        ``before``: what `messages_refused` was when the counting began, None for the whole run.
        """
        with self._lock:
            messages = {
                topic: f"messages that could not be used: {more}, the last: {text}"
                for topic, (count, text) in self._messages_refused.items()
                if (more := count - (before or {}).get(topic, 0))
            }
            return {**messages, **self.refused}
