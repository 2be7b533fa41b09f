"""The trainer's motion out of a recorded episode: every frame as it was, and the messages that carried it.

Only the chunks that hold `/trainer/…` are read: the pictures of a long episode stay on the disk.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.recording.cdr import MalformedMessage
from capture_nodes.recording.episode_parts import PARTS_RECORD
from capture_nodes.recording.episode_record import EPISODE_RECORD, STREAMS_RECORD
from capture_nodes.recording.mcap_file import ACTIVE_SUFFIX, MESSAGE_ENCODING, ChannelDescription
from capture_nodes.recording.mcap_reader import (
    AttachmentRecord,
    ChannelRecord,
    McapFile,
    MessageRecord,
    MetadataRecord,
    SchemaRecord,
    Summary,
    UnreadableFile,
)
from capture_nodes.recording.motion_cdr import MotionReader, read_controls
from capture_nodes.recording.recovery import RECOVERING_SUFFIX, RECOVERY_RECORD, UNREADABLE_SUFFIX
from capture_nodes.recording.tf_stream import TRAINER_FRAME
from retargeting.errors import InvalidMotion
from retargeting.motion_frame import Controls, MotionFrame

MOTION_TOPIC = "/trainer/motion"
BUTTONS_TOPIC = "/trainer/buttons"
_TRAINER = "/trainer/"
_MOTION_TYPE = "sensor_msgs/msg/MultiDOFJointState"
_BUTTONS_TYPE = "sensor_msgs/msg/Joy"
_STATION = "station.json"


class UnusableRecording(CaptureError):
    """A file whose trainer cannot be played: which, and why."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path, self.reason = path, reason
        super().__init__(f"{path}: {reason}")


@dataclass(frozen=True)
class RecordedMessage:
    """One message as it stands in the file."""

    channel: ChannelDescription
    log_ns: int
    publish_ns: int
    sequence: int
    data: bytes


@dataclass(frozen=True)
class TrainerRecording:
    """The trainer of one episode, all its parts together.

    frames: every motion frame with its own stamp (strictly increasing) and the controls of that moment;
    rejected: messages that hold no usable frame; messages: all of `/trainer/…`, in the order of the file;
    expected_hz: by topic, as the recorder had them; episode: its record; station: the arguments of the
    station it was recorded at, empty where the file does not have them; schemas: definitions by message type,
    of everything in the file.
    """

    path: Path
    frames: tuple[MotionFrame, ...]
    rejected: int
    messages: tuple[RecordedMessage, ...]
    expected_hz: Mapping[str, float | None]
    episode: Mapping[str, str]
    station: Mapping[str, object]
    schemas: Mapping[str, str]

    @property
    def duration_s(self) -> float:
        """From the first frame to the last."""
        return (self.frames[-1].stamp_ns - self.frames[0].stamp_ns) * 1e-9


def read_trainer_recording(path: Path, *, recovered: bool = False) -> TrainerRecording:
    """Read and check the trainer's streams of the episode whose first file is `path`.

    `recovered`: also take one that was cut off, whose end is missing. Raises `UnusableRecording`.
    """
    _refuse_by_name(path)
    reader = _Reader(path)
    try:
        files = [path, *reader.read(path, recovered)]
        for further in files[1:]:
            reader.read(further, recovered)
    except OSError as error:
        raise UnusableRecording(path, f"cannot be read: {error.strerror or error}") from error
    return reader.recording(*reader.frames())


def read_recording_head(path: Path, *, recovered: bool = False) -> TrainerRecording:
    """The same without its frames and messages: quickly. Raises `UnusableRecording`."""
    _refuse_by_name(path)
    reader = _Reader(path)
    try:
        reader.read(path, recovered, messages=False)
    except OSError as error:
        raise UnusableRecording(path, f"cannot be read: {error.strerror or error}") from error
    return reader.recording((), 0)


def file_sha256(path: Path) -> str:
    """Of a whole file, in hexadecimal. Raises `UnusableRecording`."""
    try:
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            while piece := stream.read(1 << 20):
                digest.update(piece)
    except OSError as error:
        raise UnusableRecording(path, f"cannot be read: {error.strerror or error}") from error
    return digest.hexdigest()


def _refuse_by_name(path: Path) -> None:
    if path.is_dir():
        raise UnusableRecording(path, "is a folder; one episode (….mcap) is expected")
    if path.name.endswith((ACTIVE_SUFFIX, RECOVERING_SUFFIX)):
        raise UnusableRecording(
            path, "is still being recorded, or was cut off: the next start of a recorder there completes it"
        )
    if path.name.endswith(UNREADABLE_SUFFIX):
        raise UnusableRecording(path, "was cut off before anything could be read from it")
    if not path.is_file():
        active = path.with_name(path.name + ACTIVE_SUFFIX)
        more = f"; {active.name} is there: it is still being recorded" if active.exists() else ""
        raise UnusableRecording(path, f"there is no such file{more}")


class _Reader:
    """Collects from one file after the other."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._messages: list[RecordedMessage] = []
        self._rates: dict[str, float | None] = {}
        self._episode: Mapping[str, str] = {}
        self._station: Mapping[str, object] = {}
        self._schemas: dict[str, str] = {}

    def read(self, path: Path, recovered: bool, *, messages: bool = True) -> list[Path]:
        """Take one file in; returns the further parts that the episode has."""
        try:
            with McapFile(path) as file:
                summary = file.summary()
                records = [file.record_at(place) for place in (*summary.metadata, *summary.attachments)]
                further = self._take_records(path, records, recovered)
                for record in summary.definitions:
                    if isinstance(record, SchemaRecord):
                        self._schemas[record.name] = record.data.decode("utf-8", errors="replace")
                if messages:
                    self._messages.extend(_trainer_messages(file, summary))
        except UnreadableFile as error:
            raise UnusableRecording(path, f"is damaged, or no episode: {error}") from error
        return further

    def _take_records(self, path: Path, records: Sequence[object], recovered: bool) -> list[Path]:
        metadata = {record.name: record.values for record in records if isinstance(record, MetadataRecord)}
        if RECOVERY_RECORD in metadata and not recovered:
            why = metadata[RECOVERY_RECORD].get("reason", "")
            raise UnusableRecording(
                path, f"was cut off and recovered ({why}): the end of the demonstration is missing"
            )
        self._episode = self._episode or metadata.get(EPISODE_RECORD, {})
        for key, text in metadata.get(STREAMS_RECORD, {}).items():
            row = _json_object(text)
            rate = row.get("expected_hz")
            topic = str(row.get("topic", key.split(" ", 1)[0]))
            self._rates[topic] = float(rate) if isinstance(rate, (int, float)) else None
        for record in records:
            if isinstance(record, AttachmentRecord) and record.name == _STATION:
                self._station = _json_object(record.data.decode("utf-8", errors="replace"))
        parts = metadata.get(PARTS_RECORD, {})
        if path != self._path or not parts:
            return []
        names = _json_list(parts.get("files", ""))
        if parts.get("number") != "1":
            first = names[0] if names else "the first"
            raise UnusableRecording(path, f"is a later part of an episode; give {first}, which begins it")
        if any(Path(name).name != name for name in names):
            raise UnusableRecording(path, f"names parts that do not lie beside it: {names}")
        return [path.with_name(name) for name in names[1:]]

    def recording(self, frames: tuple[MotionFrame, ...], rejected: int) -> TrainerRecording:
        return TrainerRecording(
            path=self._path,
            frames=frames,
            rejected=rejected,
            messages=tuple(self._messages),
            expected_hz=self._rates,
            episode=self._episode,
            station=self._station,
            schemas=self._schemas,
        )

    def frames(self) -> tuple[tuple[MotionFrame, ...], int]:
        motions = [message for message in self._messages if message.channel.topic == MOTION_TOPIC]
        if not motions:
            raise UnusableRecording(self._path, f"has no {MOTION_TOPIC}: nothing of a trainer was recorded")
        controls = self._controls()
        frames: list[MotionFrame] = []
        rejected, reason = 0, ""
        now = Controls()
        place = 0
        reader = MotionReader()
        for message in motions:
            try:
                stamp_ns, frame_id, poses = reader.read(message.data)
                if frame_id != TRAINER_FRAME:
                    raise UnusableRecording(
                        self._path, f"{MOTION_TOPIC} is in frame {frame_id!r}; {TRAINER_FRAME!r} is expected"
                    )
                while place < len(controls) and controls[place][0] <= stamp_ns:
                    now = controls[place][1]
                    place += 1
                frame = MotionFrame(stamp_ns, poses, now)
            except (MalformedMessage, InvalidMotion) as error:
                rejected, reason = rejected + 1, str(error)
                continue
            if frames and stamp_ns < frames[-1].stamp_ns:
                raise UnusableRecording(
                    self._path,
                    f"{MOTION_TOPIC}: stamp {stamp_ns} comes after {frames[-1].stamp_ns} ns: two trainers, "
                    "or a clock that was set back",
                )
            if not frames or stamp_ns > frames[-1].stamp_ns:
                frames.append(frame)
        if not frames:
            raise UnusableRecording(
                self._path, f"none of {rejected} messages of {MOTION_TOPIC} can be used: {reason}"
            )
        return tuple(frames), rejected

    def _controls(self) -> list[tuple[int, Controls]]:
        """Stamps and controls, by stamp; messages that hold none are as if they had not come."""
        found = []
        for message in self._messages:
            if message.channel.topic == BUTTONS_TOPIC:
                try:
                    found.append(read_controls(message.data))
                except (MalformedMessage, InvalidMotion):
                    continue
        return sorted(found, key=lambda entry: entry[0])


def _trainer_messages(file: McapFile, summary: Summary) -> Iterator[RecordedMessage]:
    schemas = {record.id: record for record in summary.definitions if isinstance(record, SchemaRecord)}
    channels: dict[int, ChannelDescription] = {}
    for record in summary.definitions:
        if not isinstance(record, ChannelRecord) or not record.topic.startswith(_TRAINER):
            continue
        schema = schemas.get(record.schema_id)
        name = "" if schema is None else schema.name
        expected = {MOTION_TOPIC: _MOTION_TYPE, BUTTONS_TOPIC: _BUTTONS_TYPE}.get(record.topic, name)
        if schema is None or name != expected or record.message_encoding != MESSAGE_ENCODING:
            raise UnreadableFile(
                f"{record.topic} is {name or 'of no type'} ({record.message_encoding}), "
                f"{expected} ({MESSAGE_ENCODING}) is expected"
            )
        text = schema.data.decode("utf-8", errors="replace")
        channels[record.id] = ChannelDescription(record.topic, name, text, record.metadata)
    for chunk in summary.chunks:
        if channels.keys().isdisjoint(chunk.indexes):
            continue
        for entry in file.chunk_records(chunk):
            if isinstance(entry, MessageRecord) and entry.channel_id in channels:
                channel = channels[entry.channel_id]
                yield RecordedMessage(
                    channel, entry.log_ns, entry.publish_ns, entry.sequence, bytes(entry.data)
                )


def _json_object(text: str) -> dict[str, object]:
    """The object, empty where the text is none: what it would say is then not known."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def _json_list(text: str) -> list[str]:
    try:
        value = json.loads(text)
    except ValueError:
        return []
    return [str(entry) for entry in value] if isinstance(value, list) else []
