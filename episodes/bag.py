"""Read one episode file: what was recorded, when, and the streams as arrays.

An episode is an MCAP file (profile `ros2`, `cdr` messages, `ros2msg` schemas) with two metadata
records, `episode` (what, who, when) and `streams` (per topic counts, JSON), and the robot's
`robot.urdf` and `robot.yaml` attached. Any other MCAP file with ROS 2 messages can be read too; what
it does not hold is then empty.
"""

from __future__ import annotations

import io
import json
import struct
from collections import deque
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, Channel, Chunk, DataEnd, Header, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, get_chunk_data_stream
from mcap_ros2.decoder import DecoderFactory
from numpy.typing import NDArray

from episodes import cdr
from episodes.errors import EpisodeError

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]
Progress = Callable[[float], None]

MAGIC = b"\x89MCAP0\r\n"
ACTIVE_SUFFIX = ".active"
# Larger messages are images: their pixels stay in the file and are read one at a time.
PAYLOAD_LIMIT_BYTES = 32 * 1024
_MESSAGE = struct.Struct("<HIQQ")
_RECORD = struct.Struct("<BQ")
_FAILURES = (McapError, CRCValidationError, struct.error, ValueError, EOFError, RuntimeError, MemoryError)

JOINT_STATE = "sensor_msgs/msg/JointState"
POSE_STAMPED = "geometry_msgs/msg/PoseStamped"
WRENCH_STAMPED = "geometry_msgs/msg/WrenchStamped"
TIME_REFERENCE = "sensor_msgs/msg/TimeReference"
TF_MESSAGE = "tf2_msgs/msg/TFMessage"
IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"


@dataclass(frozen=True)
class StreamCounts:
    """What the recorder says about a topic (its `streams` metadata), all publishers together.

    None where it says nothing. `repeated` are latched messages written again at the start of the
    file; with `tail_known` False a loss of the very last messages could not show yet. `not_joined` are
    the messages that a publisher (node, else gid) sent inside the episode before the recorder had found
    it. `expected_hz` is the rate the stream should have; None with `rate_known`: it has no fixed one.
    """

    published: int | None = None
    received: int | None = None
    written: int | None = None
    repeated: int = 0
    lost: int | None = None
    publishers: int = 0
    not_joined: Mapping[str, int] = field(default_factory=dict)
    tail_known: bool = True
    expected_hz: float | None = None
    rate_known: bool = False


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


@dataclass(frozen=True)
class JointSamples:
    """`position`, `velocity`, `effort` are ``(n, joints)``; the latter two NaN where not recorded."""

    names: tuple[str, ...]
    stamp_ns: IntArray
    position: Array
    velocity: Array
    effort: Array


@dataclass(frozen=True)
class PoseSamples:
    """`pose` is ``(n, 7)``, metres and xyzw, in `frame_id`."""

    frame_id: str
    stamp_ns: IntArray
    pose: Array


@dataclass(frozen=True)
class WrenchSamples:
    """`wrench` is ``(n, 6)``: force in N and torque in N m, in `frame_id`."""

    frame_id: str
    stamp_ns: IntArray
    wrench: Array


@dataclass(frozen=True)
class TactileSamples:
    """`pressure_pa` is ``(n, rows, columns)``."""

    frame_id: str
    stamp_ns: IntArray
    pressure_pa: Array


@dataclass(frozen=True)
class CauseSamples:
    """`stamp_ns` are the commands' ticks, `cause_ns` the stamps of the motion frames they follow."""

    stamp_ns: IntArray
    cause_ns: IntArray


@dataclass(frozen=True)
class TransformSamples:
    """All transforms of a TF topic between two frames, `pose` ``(n, 7)`` = `transform_child_to_parent`."""

    parent: str
    child: str
    stamp_ns: IntArray
    pose: Array


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
    ) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self.profile = profile
        self.streams = MappingProxyType(dict(streams))
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
            here, position, velocity, effort = self._fast(topic, _joint_state, data)
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
        rows = [self._fast(topic, _pose, data) for data in stream.payloads]
        return PoseSamples(
            self._frame(stream), self._stamps(stream), np.array(rows, dtype=np.float64).reshape(-1, 7)
        )

    def wrenches(self, topic: str) -> WrenchSamples:
        stream = self._kept(topic, WRENCH_STAMPED)
        rows = [self._fast(topic, _wrench, data) for data in stream.payloads]
        return WrenchSamples(
            self._frame(stream), self._stamps(stream), np.array(rows, dtype=np.float64).reshape(-1, 6)
        )

    def tactile(self, topic: str) -> TactileSamples:
        """A 32FC1 Image stream as pressures."""
        stream = self._kept(topic, IMAGE)
        rows = [self._fast(topic, _tactile, data) for data in stream.payloads]
        if len({row.shape for row in rows}) > 1:
            raise EpisodeError(self.path, f"{topic} changes its size: {sorted({row.shape for row in rows})}")
        pressure = np.stack(rows) if rows else np.empty((0, 0, 0))
        return TactileSamples(self._frame(stream), self._stamps(stream), pressure)

    def causes(self, topic: str) -> CauseSamples:
        stream = self._kept(topic, TIME_REFERENCE)
        rows = [self._fast(topic, _cause, data) for data in stream.payloads]
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
        except _FAILURES as error:
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
            for channel, log_ns, data in _messages_at(self.path, at):
                if channel in stream.channel_ids and at.get(log_ns):
                    found = at[log_ns].popleft()
                    if found in wanted:
                        result[found] = data
                if len(result) == len(wanted):
                    break
        except _FAILURES as error:
            # A cut-off file: what lies before its end has been found.
            if not self.incomplete:
                raise EpisodeError(self.path, f"is damaged: {_reason(error)}") from error
        return result

    def large_image(self, topic: str, index: int, data: bytes) -> NDArray[np.uint8]:
        """Pixels ``(height, width, 3)`` RGB of an Image or CompressedImage message (video: see `video`)."""
        stream = self.stream(topic)
        try:
            offset = cdr.header(data)[2]
            if stream.type == COMPRESSED_IMAGE:
                return _decompressed(cdr.compressed_image(data, offset)[1])
            return _pixels(*cdr.image(data, offset))
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


def _joint_state(data: bytes) -> tuple[list[str], Array, Array, Array]:
    return cdr.joint_state(data, cdr.header(data)[2])


def _pose(data: bytes) -> tuple[float, ...]:
    return cdr.pose(data, cdr.header(data)[2])


def _wrench(data: bytes) -> Array:
    return cdr.wrench(data, cdr.header(data)[2])


def _cause(data: bytes) -> int:
    return cdr.time_reference(data, cdr.header(data)[2])


def _tactile(data: bytes) -> Array:
    height, width, encoding, big_endian, step, raw = cdr.image(data, cdr.header(data)[2])
    if encoding != "32FC1" or step < 4 * width or len(raw) < step * height:
        raise cdr.MalformedMessage(
            f"tactile image {width}x{height} {encoding!r}, step {step}, {len(raw)} bytes; 32FC1 expected"
        )
    rows = raw[: step * height].reshape(height, step)[:, : 4 * width]
    values = np.ascontiguousarray(rows).view(">f4" if big_endian else "<f4")
    return values.astype(np.float64)


def _decompressed(data: bytes) -> NDArray[np.uint8]:
    from PIL import Image as PillowImage  # comes with matplotlib; only pictures need it

    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB"), dtype=np.uint8)


_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}


def _pixels(
    height: int, width: int, encoding: str, big_endian: bool, step: int, raw: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    order = _CHANNELS.get(encoding)
    if order is None:
        raise cdr.MalformedMessage(f"encoding {encoding!r}; {', '.join(_CHANNELS)} can be shown")
    depth = 1 if encoding == "mono8" else len(encoding) - 1
    if step < width * depth or len(raw) < step * height:
        raise cdr.MalformedMessage(f"{width}x{height} {encoding} does not fit {len(raw)} bytes, step {step}")
    pixels = raw[: step * height].reshape(height, step)[:, : width * depth].reshape(height, width, depth)
    return np.ascontiguousarray(pixels[:, :, list(order)])


def _parsed(value: str) -> Any:
    if value[:1] in ("{", "["):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


class _Columns:
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


def _counts(path: Path, metadata: Mapping[str, str]) -> dict[str, StreamCounts]:
    """Counts by topic from the `streams` metadata: JSON per topic, or per topic and publisher (gid)."""
    publishers: dict[str, list[dict[str, Any]]] = {}
    for key, text in metadata.items():
        try:
            values = json.loads(text)
        except ValueError as error:
            raise EpisodeError(path, f"metadata 'streams' of {key!r} is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise EpisodeError(path, f"metadata 'streams' of {key!r} is {text!r}, a JSON object expected")
        publishers.setdefault(str(values.get("topic", key.split(" ", 1)[0])), []).append(values)

    def total(rows: list[dict[str, Any]], key: str) -> int | None:
        numbers = [row[key] for row in rows if isinstance(row.get(key), int)]
        # One publisher that is not counted makes the sum unknown.
        return sum(numbers) if len(numbers) == len(rows) else None

    result = {}
    # Of a camera whose encoding changed, the topics its other forms were written to.
    for rows in publishers.values():
        for row in rows:
            for topic, written in (row.get("written_as") or {}).items():
                result[topic] = StreamCounts(written=written, rate_known=True)
    for topic, given in publishers.items():
        # In the topic of the row there are only those of its form.
        rows = [
            {**row, "written": (row.get("written_as") or {}).get(topic, row.get("written"))} for row in given
        ]
        rates = [row["expected_hz"] for row in rows if "expected_hz" in row]
        not_joined: dict[str, int] = {}
        for row in rows:
            if isinstance(row.get("not_joined"), int) and row["not_joined"] > 0:
                publisher = str(row.get("node") or row.get("gid"))
                not_joined[publisher] = not_joined.get(publisher, 0) + row["not_joined"]
        result[topic] = StreamCounts(
            published=total(rows, "published"),
            received=total(rows, "received"),
            written=total(rows, "written"),
            repeated=total(rows, "repeated") or 0,
            lost=total(rows, "lost"),
            publishers=len(rows),
            tail_known=all(bool(row.get("tail_known", True)) for row in rows),
            not_joined=not_joined,
            # Of several publishers one without a fixed rate leaves the topic without one.
            expected_hz=float(rates[0]) if rates and all(map(_is_rate, rates)) else None,
            rate_known=bool(rates),
        )
    return result


def _opening_rates(opening: Mapping[str, str]) -> dict[str, StreamCounts]:
    """The expected rates that the recorder knew when it opened the file: all that a cut one has of them."""
    rates = _parsed(opening.get("expected_hz", ""))
    if not isinstance(rates, dict):
        return {}
    return {
        topic: StreamCounts(expected_hz=float(rate) if _is_rate(rate) else None, rate_known=True)
        for topic, rate in rates.items()
    }


def _is_rate(value: Any) -> bool:
    return isinstance(value, (int, float)) and 0.0 < value < float("inf")


def _records(path: Path, progress: Progress | None = None) -> Iterator[McapRecord]:
    """Every record in the order of the file, chunks unopened."""
    with path.open("rb") as file:
        size = max(1, path.stat().st_size)
        for record in StreamReader(file, emit_chunks=True, record_size_limit=size).records:
            if progress is not None:
                progress(file.tell() / size)
            yield record


def _messages_at(path: Path, times_ns: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    """(channel, log time, data) of the messages in those chunks whose time span holds one of the times."""
    times = np.sort(np.array(list(times_ns), dtype=np.int64))
    for record in _records(path):
        if isinstance(record, Chunk):
            first = np.searchsorted(times, record.message_start_time)
            if first == len(times) or times[first] > record.message_end_time:
                continue
            for inner in _chunk_records(record):
                if isinstance(inner, tuple):
                    yield inner[0], inner[2], inner[4]
        elif isinstance(record, Message):
            yield record.channel_id, record.log_time, record.data
        elif isinstance(record, DataEnd):
            return


def _chunk_records(chunk: Chunk) -> Iterator[Schema | Channel | tuple[int, int, int, int, bytes]]:
    """Schemas, channels and messages (channel, sequence, log, publish, data) of a chunk, CRC checked.

    `mcap` reads the fields of a message one by one from a stream; slicing them is ten times faster.
    """
    stream, length = get_chunk_data_stream(chunk, validate_crc=True)
    data = stream.read(length) if length else b""
    offset = 0
    while offset < length:
        opcode, size = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size
        end = offset + size
        if end > length:
            raise ValueError(f"record of {size} bytes runs over the end of its chunk")
        if opcode == Opcode.MESSAGE:
            channel, sequence, log_ns, publish_ns = _MESSAGE.unpack_from(data, offset)
            yield channel, sequence, log_ns, publish_ns, data[offset + _MESSAGE.size : end]
        elif opcode == Opcode.SCHEMA:
            yield Schema.read(_data_stream(data[offset:end]))
        elif opcode == Opcode.CHANNEL:
            yield Channel.read(_data_stream(data[offset:end]))
        offset = end


def _data_stream(data: bytes) -> ReadDataStream:
    return ReadDataStream(io.BytesIO(data))


def _check_file(path: Path, allow_incomplete: bool) -> int:
    """Size of the file; raises `EpisodeError` on what is no complete MCAP file at first sight."""
    try:
        if path.is_dir():
            raise EpisodeError(path, "is a folder; an episode file (*.mcap) expected")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            file.seek(max(0, size - len(MAGIC)))
            end = file.read(len(MAGIC))
    except FileNotFoundError as error:
        active = path.with_name(path.name + ACTIVE_SUFFIX)
        more = f" ({active.name} is there: it is still being recorded)" if active.exists() else ""
        raise EpisodeError(path, f"does not exist{more}") from error
    except OSError as error:
        raise EpisodeError(path, f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise EpisodeError(path, "is empty (0 bytes)")
    if start != MAGIC:
        raise EpisodeError(path, "is not an MCAP file: it does not begin with MCAP's magic bytes")
    if allow_incomplete:
        return size
    if path.name.endswith(ACTIVE_SUFFIX):
        raise EpisodeError(
            path, "is still being recorded, or its recorder died; read what is there with --incomplete"
        )
    if end != MAGIC or size < 2 * len(MAGIC):
        raise EpisodeError(
            path,
            f"is truncated: {size} bytes do not end with MCAP's closing bytes; "
            "read what is there with --incomplete",
        )
    return size


def read_bag(
    path: Path | str,
    *,
    payloads: bool = True,
    allow_incomplete: bool = False,
    progress: Progress | None = None,
) -> Bag:
    """Read an MCAP file in one pass.

    `payloads` keeps the serialized messages (up to `PAYLOAD_LIMIT_BYTES` each) so that the typed
    streams can be had; without it only times, sizes and metadata are. `allow_incomplete` reads a file
    that is still being written or was cut off, as far as it is whole, and says in `Bag.incomplete`
    where it stopped. `progress` is called with the share of the file read, 0..1. Raises
    `EpisodeError`.
    """
    path = Path(path)
    size = _check_file(path, allow_incomplete)
    schemas: dict[int, Schema] = {}
    channels: dict[int, Channel] = {}
    columns: dict[str, _Columns] = {}
    by_channel: dict[int, _Columns] = {}
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
            column = columns.setdefault(channel.topic, _Columns(channel.topic, schema, payloads))
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
        for record in _records(path, progress):
            if isinstance(record, Chunk):
                for inner in _chunk_records(record):
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
    except _FAILURES as error:
        if not allow_incomplete:
            raise EpisodeError(path, f"is damaged: {_reason(error)}") from error
        incomplete = (
            f"stops after {sum(len(c.log_ns) for c in columns.values())} whole messages: {_reason(error)}"
        )
    except OSError as error:
        raise EpisodeError(path, f"cannot be read: {error.strerror}") from error

    # A channel without a message is a stream of count 0: the topic was there and silent.
    for channel in channels.values():
        schema = schemas.get(channel.schema_id)
        if channel.topic not in columns and schema is not None:
            columns[channel.topic] = _Columns(channel.topic, schema, payloads)
    said = _opening_rates(metadata.get("episode_opening", {})) | _counts(path, metadata.get("streams", {}))
    return Bag(
        path,
        size_bytes=size,
        profile=profile,
        streams={topic: c.stream(said.get(topic, StreamCounts())) for topic, c in sorted(columns.items())},
        metadata=metadata,
        attachments=attachments,
        incomplete=incomplete,
    )


def _reason(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def find_episodes(path: Path | str) -> list[Path]:
    """The episode files of a folder and the folders below it, by name; a file is itself.

    What begins with a dot (`.trash`) is left out, unless it is asked for itself. Raises `EpisodeError`
    where there is none.
    """
    path = Path(path)
    if not path.is_dir():
        return [path]

    def shown(pattern: str) -> list[Path]:
        return sorted(
            file
            for file in path.rglob(pattern)
            if not any(part.startswith(".") for part in file.relative_to(path).parts)
        )

    found = shown("*.mcap")
    if not found:
        active = len(shown("*.mcap" + ACTIVE_SUFFIX))
        more = f" ({active} still being recorded)" if active else ""
        raise EpisodeError(path, f"holds no episode (*.mcap){more}")
    return found
