"""Read one episode file: what was recorded, when, and the streams as arrays.

An episode is an MCAP file (profile `ros2`, `cdr` messages, `ros2msg` schemas) with two metadata
records, `episode` (what, who, when) and `streams` (per topic counts, JSON), and the robot's
`robot.urdf` and `robot.yaml` attached. Any other MCAP file with ROS 2 messages can be read too; what
it does not hold is then empty.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from mcap.records import Attachment, Channel, Chunk, Header, Message, Metadata, Schema
from mcap_ros2.decoder import DecoderFactory
from numpy.typing import NDArray

from episodes import cdr
from episodes.errors import EpisodeError
from episodes.mcap_records import (
    FAILURES,
    Progress,
    check_file,
    chunk_records,
    failure_text,
    file_records,
    messages_at,
)
from episodes.message_types import (
    COMPRESSED_IMAGE,
    IMAGE,
    JOINT_STATE,
    POSE_STAMPED,
    TF_MESSAGE,
    TIME_REFERENCE,
    WRENCH_STAMPED,
)
from episodes.pixels import decompressed_pixels, raw_pixels
from episodes.samples import (
    CauseSamples,
    JointSamples,
    PoseSamples,
    TactileSamples,
    TransformSamples,
    WrenchSamples,
    cause_row,
    joint_state_row,
    pose_row,
    tactile_row,
    wrench_row,
)
from episodes.stream import Stream, StreamColumns
from episodes.stream_counts import StreamCounts, counts_by_topic, opening_rates

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


class Bag:
    """One episode file in memory, see `read_bag`."""

    def __init__(
        self,
        path: Path,
        *,
        size_bytes: int,
        profile: str,
        streams: Mapping[str, Stream],
        metadata: Mapping[str, Mapping[str, str]],
        attachments: Mapping[str, bytes],
        incomplete: str,
        silent: Mapping[str, StreamCounts] | None = None,
    ) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.profile = profile
        self.streams = MappingProxyType(dict(streams))
        # Topics the recorder had publishers of, and not one message.
        self.silent = MappingProxyType(dict(silent or {}))
        self.metadata = MappingProxyType(dict(metadata))
        self.attachments = MappingProxyType(dict(attachments))
        # Why reading stopped early; only ever non-empty when asked for with `allow_incomplete`.
        self.incomplete = incomplete
        self._decoders = DecoderFactory()

    @cached_property
    def episode(self) -> Mapping[str, Any]:
        """The `episode` metadata with nested values parsed from their JSON; empty in a foreign file.

        A cut-off file has only what was known when it was opened.
        """
        record = self.metadata.get("episode", self.metadata.get("episode_opening", {}))
        return {key: _parsed(value) for key, value in record.items()}

    @property
    def is_episode(self) -> bool:
        """Whether the recorder of this package wrote the file."""
        return "episode" in self.metadata or "episode_opening" in self.metadata

    @cached_property
    def robot(self) -> str:
        """The robot's name: from the metadata, else the namespace of `joint_commands` or `joint_states`."""
        name = self.episode.get("robot")
        topics = [t for t in self.streams if t.rsplit("/", 1)[-1] in ("joint_commands", "joint_states")]
        namespaces = {topic.rsplit("/", 1)[0].strip("/") for topic in topics}
        if isinstance(name, str) and (not namespaces or name in namespaces):
            return name
        if len(namespaces) == 1:
            return namespaces.pop()
        raise EpisodeError(
            self.path,
            f"cannot tell which robot this is: metadata says {name!r}, "
            f"topics have {sorted(namespaces) or 'none'}",
        )

    def topic(self, name: str) -> str:
        """Full name of one of the robot's topics, e.g. ``/kestrel/joint_commands``."""
        return f"/{self.robot}/{name}"

    def robot_topics(self, prefix: str, message_type: str) -> dict[str, str]:
        """Topics ``/<robot>/<prefix>/<name>`` of a type, by name."""
        start = self.topic(prefix) + "/"
        return {
            topic.removeprefix(start): topic
            for topic, stream in sorted(self.streams.items())
            if topic.startswith(start) and stream.type == message_type
        }

    @cached_property
    def start_ns(self) -> int:
        """Log time (when the recorder received it) of the first message of a stamped stream."""
        return self._extent()[0]

    @cached_property
    def end_ns(self) -> int:
        """Log time of the last message of a stamped stream."""
        return self._extent()[1]

    @cached_property
    def repetition_ns(self) -> tuple[int, int]:
        """From when the start was asked for to when the stop was; where nothing says that, all of it.

        An episode may begin before that and end after it, with whatever was going on then.
        """
        begin, end = self._asked_ns
        return max(begin or 0, self.start_ns), min(end or self.end_ns, self.end_ns)

    def in_repetition(self, times_ns: IntArray) -> NDArray[np.bool_]:
        """Which of the times ``(n,)`` lie in the repetition; all of them where nothing says when that was."""
        begin, end = self._asked_ns
        inside = np.ones(len(times_ns), dtype=np.bool_)
        if begin is not None:
            inside &= times_ns >= begin
        if end is not None:
            inside &= times_ns <= end
        return inside

    @cached_property
    def clock_moves_s(self) -> tuple[float, ...]:
        """By how much the station's clock was set while the episode was recorded, each time."""
        moves = self.episode.get("clock_moved")
        if not isinstance(moves, list):
            return ()
        found = (move.get("by_ns") for move in moves if isinstance(move, dict))
        return tuple(by_ns / 1e9 for by_ns in found if isinstance(by_ns, int))

    @cached_property
    def _asked_ns(self) -> tuple[int | None, int | None]:
        if self.clock_moves_s:
            # By which clock a stamp is cannot be told.
            return None, None
        begin, end = (str(self.episode.get(key, "")) for key in ("started_ns", "stopped_ns"))
        return int(begin) if begin.isdecimal() else None, int(end) if end.isdecimal() else None

    @property
    def length_s(self) -> float:
        return (self.end_ns - self.start_ns) * 1e-9

    def _extent(self) -> tuple[int, int]:
        # Latched messages (no header) may have been received long before the episode.
        filled = [s for s in self.streams.values() if s.count]
        streams = [s for s in filled if s.stamp_ns is not None] or filled
        if not streams:
            return 0, 0
        return min(int(s.log_ns.min()) for s in streams), max(int(s.log_ns.max()) for s in streams)

    def stream(self, topic: str, message_type: str | None = None) -> Stream:
        """The stream of a topic; raises `EpisodeError` naming the topics there are."""
        stream = self.streams.get(topic)
        if stream is None:
            kind = [t for t, s in self.streams.items() if message_type in (None, s.type)]
            raise EpisodeError(
                self.path, f"has no topic {topic!r}; it has {', '.join(sorted(kind)) or 'none of its type'}"
            )
        if message_type is not None and stream.type != message_type:
            raise EpisodeError(self.path, f"{topic} has type {stream.type}, {message_type} expected")
        return stream

    def attachment(self, name: str) -> bytes:
        """The bytes of an attached file; raises `EpisodeError` where it is missing."""
        try:
            return self.attachments[name]
        except KeyError:
            held = ", ".join(sorted(self.attachments)) or "none"
            raise EpisodeError(self.path, f"has no attachment {name!r} (attached: {held})") from None

    def joints(self, topic: str) -> JointSamples:
        """A JointState stream, joints in the order of its first message."""
        stream = self._kept(topic, JOINT_STATE)
        names: list[str] = []
        rows: list[tuple[Array, Array, Array]] = []
        order: list[int] = []
        previous: list[str] = []
        for data in stream.payloads:
            here, position, velocity, effort = self._fast(topic, joint_state_row, data)
            if not rows:
                names = previous = here
                order = list(range(len(names)))
            if here != previous:
                if sorted(here) != sorted(names):
                    raise EpisodeError(
                        self.path,
                        f"{topic} changes its joints from {names} to {here}: one publisher expected",
                    )
                previous, order = here, [here.index(name) for name in names]
            row = []
            for what, values in (("position", position), ("velocity", velocity), ("effort", effort)):
                if what == "position" and len(values) != len(here):
                    raise EpisodeError(
                        self.path, f"{topic} has {len(values)} positions for {len(here)} joints"
                    )
                row.append(values[order] if len(values) == len(here) else np.full(len(here), np.nan))
            rows.append((row[0], row[1], row[2]))
        shape = (len(rows), len(names))
        position, velocity, effort = (
            np.array([row[k] for row in rows], dtype=np.float64).reshape(shape) for k in range(3)
        )
        return JointSamples(tuple(names), self._stamps(stream), position, velocity, effort)

    def poses(self, topic: str) -> PoseSamples:
        stream = self._kept(topic, POSE_STAMPED)
        rows = [self._fast(topic, pose_row, data) for data in stream.payloads]
        return PoseSamples(
            self._frame(stream), self._stamps(stream), np.array(rows, dtype=np.float64).reshape(-1, 7)
        )

    def wrenches(self, topic: str) -> WrenchSamples:
        stream = self._kept(topic, WRENCH_STAMPED)
        rows = [self._fast(topic, wrench_row, data) for data in stream.payloads]
        return WrenchSamples(
            self._frame(stream), self._stamps(stream), np.array(rows, dtype=np.float64).reshape(-1, 6)
        )

    def tactile(self, topic: str) -> TactileSamples:
        """A 32FC1 Image stream as pressures."""
        stream = self._kept(topic, IMAGE)
        rows = [self._fast(topic, tactile_row, data) for data in stream.payloads]
        if len({row.shape for row in rows}) > 1:
            raise EpisodeError(self.path, f"{topic} changes its size: {sorted({row.shape for row in rows})}")
        pressure = np.stack(rows) if rows else np.empty((0, 0, 0))
        return TactileSamples(self._frame(stream), self._stamps(stream), pressure)

    def causes(self, topic: str) -> CauseSamples:
        stream = self._kept(topic, TIME_REFERENCE)
        rows = [self._fast(topic, cause_row, data) for data in stream.payloads]
        return CauseSamples(self._stamps(stream), np.array(rows, dtype=np.int64))

    def transforms(self, topic: str) -> list[TransformSamples]:
        """The transforms of a TF topic, one entry per pair of parent and child."""
        stream = self._kept(topic, TF_MESSAGE)
        stamps: dict[tuple[str, str], list[int]] = {}
        poses: dict[tuple[str, str], list[tuple[float, ...]]] = {}
        for data in stream.payloads:
            for stamp, parent, child, pose in self._fast(topic, cdr.transforms, data):
                stamps.setdefault((parent, child), []).append(stamp)
                poses.setdefault((parent, child), []).append(pose)
        return [
            TransformSamples(parent, child, np.array(stamps[parent, child], dtype=np.int64), np.array(rows))
            for (parent, child), rows in poses.items()
        ]

    def decode(self, topic: str, index: int) -> Any:
        """One kept message as `mcap_ros2` decodes it: complete, any type, slow."""
        stream = self._kept(topic, None)
        decoder = self._decoders.decoder_for("cdr", stream.schema)
        if decoder is None:
            raise EpisodeError(
                self.path, f"{topic}: schema encoding {stream.schema.encoding!r} is not ros2msg"
            )
        try:
            return decoder(stream.payloads[index])
        except FAILURES as error:
            raise EpisodeError(self.path, f"{topic}: message {index} cannot be decoded: {error}") from error

    def large_messages(self, topic: str, indices: Sequence[int]) -> dict[int, bytes]:
        """Serialized messages of any size by their index in the stream, read again from the file.

        Only the chunks that can hold one of them are opened.
        """
        stream = self.stream(topic)
        wanted = {int(index) for index in indices}
        # Several messages may have been received at one time: they are told apart by their order.
        at: dict[int, deque[int]] = {}
        for index in np.flatnonzero(np.isin(stream.log_ns, stream.log_ns[sorted(wanted)])):
            at.setdefault(int(stream.log_ns[index]), deque()).append(int(index))
        result: dict[int, bytes] = {}
        try:
            for channel, log_ns, data in messages_at(self.path, at):
                if channel in stream.channel_ids and at.get(log_ns):
                    found = at[log_ns].popleft()
                    if found in wanted:
                        result[found] = data
                if len(result) == len(wanted):
                    break
        except FAILURES as error:
            # A cut-off file: what lies before its end has been found.
            if not self.incomplete:
                raise EpisodeError(self.path, f"is damaged: {failure_text(error)}") from error
        return result

    def large_image(self, topic: str, index: int, data: bytes) -> NDArray[np.uint8]:
        """Pixels ``(height, width, 3)`` RGB of an Image or CompressedImage message (video: see `video`)."""
        stream = self.stream(topic)
        try:
            offset = cdr.header(data)[2]
            if stream.type == COMPRESSED_IMAGE:
                return decompressed_pixels(cdr.compressed_image(data, offset)[1])
            return raw_pixels(*cdr.image(data, offset))
        except (cdr.MalformedMessage, OSError) as error:
            raise EpisodeError(self.path, f"{topic}: image {index} cannot be decoded: {error}") from error

    def _kept(self, topic: str, message_type: str | None) -> Stream:
        stream = self.stream(topic, message_type)
        if len(stream.payloads) != stream.count:
            raise EpisodeError(
                self.path, f"{topic}: message contents were not kept while reading (too large)"
            )
        return stream

    def _stamps(self, stream: Stream) -> IntArray:
        if stream.stamp_ns is None:
            raise EpisodeError(self.path, f"{stream.topic} ({stream.type}) has no header stamps")
        return stream.stamp_ns

    def _frame(self, stream: Stream) -> str:
        if len(stream.frame_ids) > 1:
            raise EpisodeError(
                self.path, f"{stream.topic} changes its frame_id: {', '.join(stream.frame_ids)}; one expected"
            )
        return stream.frame_ids[0] if stream.frame_ids else ""

    def _fast(self, topic: str, decode: Callable[[bytes], Any], data: bytes) -> Any:
        try:
            return decode(data)
        except cdr.MalformedMessage as error:
            raise EpisodeError(self.path, f"{topic}: malformed message: {error}") from error


def _parsed(value: str) -> Any:
    if value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def read_bag(
    path: Path | str,
    *,
    payloads: bool = True,
    allow_incomplete: bool = False,
    progress: Progress | None = None,
) -> Bag:
    """Read an MCAP file in one pass.

    `payloads` keeps the serialized messages (up to `PAYLOAD_LIMIT_BYTES` of `episodes.stream` each) so
    that the typed streams can be had; without it only times, sizes and metadata are. `allow_incomplete`
    reads a file that is still being written or was cut off, as far as it is whole, and says in
    `Bag.incomplete` where it stopped. `progress` is called with the share of the file read, 0..1. Raises
    `EpisodeError`.
    """
    path = Path(path)
    size = check_file(path, allow_incomplete)
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    columns: dict[str, StreamColumns] = {}
    by_channel: dict[int, StreamColumns] = {}
    metadata: dict[str, dict[str, str]] = {}
    attachments: dict[str, bytes] = {}
    profile = ""
    incomplete = ""

    def add(channel_id: int, sequence: int, log_ns: int, publish_ns: int, data: bytes) -> None:
        column = by_channel.get(channel_id)
        if column is None:
            channel = channels.get(channel_id)
            if channel is None:
                raise ValueError(f"a message names channel {channel_id}, which is not defined before it")
            schema = schemas.get(channel.schema_id)
            if schema is None:
                schema = Schema(id=0, data=b"", encoding="", name="(no schema)")
            column = columns.setdefault(channel.topic, StreamColumns(channel.topic, schema, payloads))
            if column.schema.name != schema.name:
                raise ValueError(f"{channel.topic} has two types: {column.schema.name} and {schema.name}")
            if channel.message_encoding != "cdr":
                column.has_header = False
            by_channel[channel_id] = column
            column.channel_ids.add(channel_id)
        column.add(sequence, log_ns, publish_ns, data)

    def define(record: Schema | Channel) -> None:
        if isinstance(record, Schema):
            schemas[record.id] = record
        else:
            channels[record.id] = record

    try:
        for record in file_records(path, progress):
            if isinstance(record, Chunk):
                for inner in chunk_records(record):
                    if isinstance(inner, tuple):
                        add(*inner)
                    else:
                        define(inner)
            elif isinstance(record, Message):
                add(record.channel_id, record.sequence, record.log_time, record.publish_time, record.data)
            elif isinstance(record, (Schema, Channel)):
                define(record)
            elif isinstance(record, Metadata):
                metadata[record.name] = dict(record.metadata)
            elif isinstance(record, Attachment):
                attachments[record.name] = record.data
            elif isinstance(record, Header):
                profile = record.profile
    except FAILURES as error:
        if not allow_incomplete:
            raise EpisodeError(path, f"is damaged: {failure_text(error)}") from error
        whole = sum(len(column.log_ns) for column in columns.values())
        incomplete = f"stops after {whole} whole messages: {failure_text(error)}"
    except OSError as error:
        raise EpisodeError(path, f"cannot be read: {error.strerror}") from error

    # A channel without a message is a stream of count 0: the topic was there and silent.
    for channel in channels.values():
        schema = schemas.get(channel.schema_id)
        if channel.topic not in columns and schema is not None:
            columns[channel.topic] = StreamColumns(channel.topic, schema, payloads)
    said = opening_rates(metadata.get("episode_opening", {})) | counts_by_topic(
        path, metadata.get("streams", {})
    )
    return Bag(
        path,
        size_bytes=size,
        profile=profile,
        streams={topic: c.stream(said.get(topic, StreamCounts())) for topic, c in sorted(columns.items())},
        metadata=metadata,
        attachments=attachments,
        incomplete=incomplete,
        silent={
            topic: counts
            for topic, counts in sorted(said.items())
            if topic not in columns and counts.publishers and not (counts.written or counts.repeated)
        },
    )
