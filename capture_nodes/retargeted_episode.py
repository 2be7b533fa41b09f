"""A recorded trainer on another robot, as an episode file: its name, its content, whether it is done.

Everything about the file follows from what goes into it (recording, robot, settings, software versions),
its id too: so a run that was interrupted finds what it had done, and the same input gives the same commands.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np

from capture_nodes.cdr_template import CdrTemplate
from capture_nodes.command_messages import CommandMessages
from capture_nodes.errors import CaptureError
from capture_nodes.offline_retargeting import OfflineRetargeting, OfflineTick
from capture_nodes.recording.cdr import JointSample
from capture_nodes.recording.episode_record import (
    EPISODE_RECORD,
    STREAMS_RECORD,
    EpisodeFields,
    Moment,
    closing_record,
    derived_episode_id,
    episode_path,
    opening_record,
)
from capture_nodes.recording.episode_words import write_recovered_sidecar
from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, EpisodeFile, FileOptions
from capture_nodes.recording.mcap_reader import McapFile, MetadataRecord, UnreadableFile
from capture_nodes.recording.message_schemas import ament_prefixes, schema_text
from capture_nodes.recording.sidecar import (
    PartFile,
    Sidecar,
    Word,
    check_files,
    read_sidecar,
    sidecar_path,
    write_sidecar,
)
from capture_nodes.recording.tf_stream import TF_TYPE, TfStream
from capture_nodes.recording.trainer_recording import RecordedMessage, TrainerRecording
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.retargeting_report import clutches, mapping
from capture_nodes.robot_fields import robot_fields
from capture_nodes.software_versions import software_versions
from retargeting.retargeter import Retargeter
from retargeting.robot_model import RobotModel

# What the record says of where it comes from.
RETARGETED = "retargeted"
PROGRAM = "episodes retarget"
_TF_RATE_HZ = 50.0
_ASK_EVERY = 50
# Numbers that come out depend on these.
_PACKAGES = ("teleop_capture", "numpy", "numba")
_LATCHED = "- {history: keep_last, depth: 1, reliability: reliable, durability: transient_local}"


class Interrupted(Exception):
    """Nobody wants the file any more; nothing of it is left."""


class NotAsWritten(CaptureError):
    """A file in the place of the result that is not it."""


@dataclass(frozen=True)
class Target:
    """What a result is made of; `sha256`: of the recording's (first) file; `robot_yaml`: its bytes."""

    head: TrainerRecording
    sha256: str
    model: RobotModel
    robot_yaml: bytes
    parameters: RetargetingParameters
    root: Path
    versions: Mapping[str, str] = field(default_factory=lambda: software_versions(*_PACKAGES))

    @property
    def provenance(self) -> dict[str, Any]:
        """From what, with which settings: as it stands in the record."""
        episode, said = self.head.episode, self.parameters
        return {
            "from_id": episode.get("id", ""),
            "from_robot": episode.get("robot", ""),
            "from_file": self.head.path.name,
            "from_sha256": self.sha256,
            "robot_yaml_sha256": hashlib.sha256(self.robot_yaml).hexdigest(),
            "settings": {
                "rate_hz": said.rate_hz,
                "stale_s": said.stale_s,
                "engage_mode": said.engage_mode,
                "deadman": said.deadman,
                "deadman_button": said.deadman_button,
                "self_collision": said.self_collision,
                "branch_recovery": said.branch_recovery,
                "mapping_sha256": _sha256_of_text(repr(said.retargeter_parameters().mapping)),
            },
            "versions": dict(self.versions),
        }

    @property
    def start_ns(self) -> int:
        """When the demonstration was; 0 where the file does not say."""
        return _whole(self.head.episode.get("started_ns", ""))

    @property
    def id(self) -> str:
        what = {**self.provenance, "robot": self.model.name, "urdf": self.model.urdf.text}
        return derived_episode_id(self.start_ns, json.dumps(what, sort_keys=True).encode("utf-8"))

    @property
    def fields(self) -> EpisodeFields:
        """Raises `CaptureError` where the recording's skill can name no folder."""
        episode = self.head.episode
        return EpisodeFields(
            skill=episode.get("skill") or "unnamed",
            source=episode.get("source", ""),
            scenario=episode.get("scenario", ""),
            operator=episode.get("operator", ""),
            assignment=episode.get("assignment", ""),
            instruction=_texts(episode.get("instructions", "")),
            versions=self.versions,
            clock={"source": "that of the recording"},
            **robot_fields(self.model, f"/{self.model.name}"),
        )

    @property
    def path(self) -> Path:
        return episode_path(self.root, self.fields, self.id, self.start_ns)


def recorded_settings(head: TrainerRecording) -> dict[str, Any]:
    """Those arguments of the station that decide when arms follow, as they were; only what the file says."""
    kinds = {"engage_mode": str, "deadman": str, "deadman_button": str, "stale_s": float}
    return {
        name: head.station[name] for name, kind in kinds.items() if isinstance(head.station.get(name), kind)
    }


def is_done(target: Target) -> bool:
    """Whether the result is there, as it was written. Raises `NotAsWritten` where something else is."""
    path = target.path
    if not path.exists():
        return False
    if _record_of(path).get("id") != target.id:
        raise NotAsWritten(f"{path} is another episode; it is not overwritten: move it away")
    beside = sidecar_path(path)
    sidecar = read_sidecar(beside)
    if sidecar is None:
        # Killed between the file and its sidecar: the file was read back before it got its name.
        _check_whole(path)
        write_recovered_sidecar(path)
        return True
    problems = check_files(path.parent, sidecar)
    if problems:
        raise NotAsWritten(f"{'; '.join(problems)}; it is not overwritten: move it away to have it made anew")
    return True


def write_retargeted(
    target: Target, recording: TrainerRecording, ask: Callable[[float], bool]
) -> dict[str, object]:
    """Make the file and its sidecar; returns figures of it.

    `ask` is told how far it is (0..1) and answers whether to go on. Raises `Interrupted` where not, with
    nothing left, and `CaptureError`.
    """
    path = target.path
    file = EpisodeFile(path, FileOptions(sha256=True))
    _clear_leftover(file.active_path)
    file.open()
    try:
        writer = _Writer(target, recording, file)
        writer.write(ask)
        record = writer.finish()
        file.finish()
    except BaseException:
        # Half a file helps nobody: it is made anew in less time than recovered.
        file.remove()
        raise
    part = PartFile(path.name, file.size, file.sha256)
    word = Word("", "", target.start_ns, PROGRAM)
    write_sidecar(sidecar_path(path), Sidecar(target.id, (part,), record, word))
    return writer.figures


class _Writer:
    """Merges the recorded messages with the commands, by time."""

    def __init__(self, target: Target, recording: TrainerRecording, file: EpisodeFile) -> None:
        self._target, self._recording, self._file = target, recording, file
        self._model = target.model
        self._prefix = f"/{self._model.name}/"
        said = target.parameters
        retargeter = Retargeter(self._model, said.retargeter_parameters(), said.solver_parameters)
        self._offline = OfflineRetargeting(retargeter)
        self._messages = CommandMessages(self._model)
        self._tf = TfStream(self._model)
        self._channels: dict[str, ChannelDescription] = {}
        self._counts: dict[str, int] = {}
        self._clutch: list[Moment] = []
        self._first_ns = recording.frames[0].stamp_ns
        self._last_ns = self._first_ns
        self.figures: dict[str, object] = {}

    def write(self, ask: Callable[[float], bool]) -> None:
        target, file = self._target, self._file
        urdf = self._model.urdf.text.encode("utf-8")
        file.attach(Attachment("robot.urdf", "application/xml", urdf), self._first_ns)
        file.attach(Attachment("robot.yaml", "application/yaml", target.robot_yaml), self._first_ns)
        opening = {**opening_record(target.fields, target.id, target.start_ns), **self._said()}
        file.add_metadata("episode_opening", opening)
        self._put_latched()
        frames = self._recording.frames
        length_ns = max(1, frames[-1].stamp_ns - self._first_ns)
        recorded = _by_time(self._recording.messages)
        waiting = next(recorded, None)
        for k, tick in enumerate(self._offline.run(frames)):
            while waiting is not None and waiting.log_ns <= tick.stamp_ns:
                self._copy(waiting)
                waiting = next(recorded, None)
            self._put_tick(k, tick)
            if k % _ASK_EVERY == 0 and not ask((tick.stamp_ns - self._first_ns) / length_ns):
                raise Interrupted
            self._last_ns = tick.stamp_ns
        while waiting is not None:
            self._copy(waiting)
            waiting = next(recorded, None)

    def finish(self) -> dict[str, str]:
        """Write everything that is known only now; returns the `episode` record."""
        target, episode, offline = self._target, self._recording.episode, self._offline
        topics = {
            topic: {"written": count, "received": count, "published": count, "lost": 0}
            for topic, count in self._counts.items()
        }
        record = closing_record(
            opening_record(target.fields, target.id, target.start_ns),
            start_ns=_whole(episode.get("start_ns", "")) or self._first_ns,
            end_ns=max(_whole(episode.get("end_ns", "")), self._last_ns),
            stopped_ns=_whole(episode.get("stopped_ns", "")) or self._last_ns,
            topics=topics,
            clutch=self._clutch,
        )
        record |= self._said()
        record["moments"] = episode.get("moments", "[]")
        rates = self._rates()
        rows = {
            topic: {**counts, "topic": topic, "node": PROGRAM, "expected_hz": rates.get(topic)}
            for topic, counts in topics.items()
        }
        self._file.add_metadata(STREAMS_RECORD, {topic: json.dumps(row) for topic, row in rows.items()})
        self._file.add_metadata(EPISODE_RECORD, record)
        self.figures |= {
            "commands": self._counts.get(self._prefix + "joint_commands", 0),
            "engagements": offline.engagements,
            "refused_frames": offline.refused_frames,
            "forced_exceptions": offline.retargeter.forced_exceptions,
        }
        return record

    def _said(self) -> dict[str, str]:
        return {RETARGETED: json.dumps(self._target.provenance, sort_keys=True)}

    def _rates(self) -> dict[str, float | None]:
        command_hz = self._target.parameters.rate_hz
        rates = dict(self._recording.expected_hz)
        rates |= {self._prefix + topic: command_hz for topic in self._messages.types}
        return {**rates, "/tf": _TF_RATE_HZ}

    def _put_latched(self) -> None:
        text = CdrTemplate(None).string(self._model.urdf.text)
        qos = {"offered_qos_profiles": _LATCHED}
        self._put("robot_description", "std_msgs/msg/String", self._first_ns, bytes(text), qos)
        still = self._tf.static_message(self._first_ns)
        if still:
            self._put("/tf_static", TF_TYPE, self._first_ns, still, qos)

    def _put_tick(self, k: int, tick: OfflineTick) -> None:
        retargeter = self._offline.retargeter
        if tick.change is not None:
            now = tick.change
            details = {name: str(value) for name, value in clutches(now).items() if name != "engage_mode"}
            self._clutch.append(Moment(tick.stamp_ns, now.state.value, details))
            transform = mapping(retargeter).get("transform_trainer_to_base")
            if transform is not None:
                self._tf.set_trainer_transform(str(transform))
        if tick.command is not None:
            for topic, data in self._messages.of(tick.command):
                self._put(topic, self._messages.types[topic], tick.stamp_ns, data)
        if tick.is_last or k % max(1, round(self._target.parameters.rate_hz / _TF_RATE_HZ)) == 0:
            # The robot is where it is told to be, at first in its neutral posture.
            names, positions = self._model.joint_names[:0], np.empty(0)
            if tick.command is not None:
                names, positions = tick.command.joint_names, tick.command.positions
            if moving := self._tf.message(JointSample(tick.stamp_ns, names, positions)):
                self._put("/tf", TF_TYPE, tick.stamp_ns, moving)

    def _put(
        self, topic: str, kind: str, stamp_ns: int, data: bytes, metadata: Mapping[str, str] | None = None
    ) -> None:
        name = topic if topic.startswith("/") else self._prefix + topic
        channel = self._channels.get(name)
        if channel is None:
            text = self._recording.schemas.get(kind) or schema_text(kind, ament_prefixes())
            channel = self._channels[name] = ChannelDescription(name, kind, text, metadata or {})
        self._write(channel, stamp_ns, stamp_ns, self._counts.get(name, 0) + 1, data)

    def _copy(self, message: RecordedMessage) -> None:
        self._write(message.channel, message.log_ns, message.publish_ns, message.sequence, message.data)

    def _write(
        self, channel: ChannelDescription, log_ns: int, publish_ns: int, sequence: int, data: bytes
    ) -> None:
        if not self._file.write(channel, log_ns, publish_ns, sequence, data):
            raise self._file.problem or CaptureError(f"{self._file.active_path} cannot be written")
        self._counts[channel.topic] = self._counts.get(channel.topic, 0) + 1


def _by_time(messages: Sequence[RecordedMessage]) -> Iterator[RecordedMessage]:
    return iter(sorted(messages, key=lambda message: message.log_ns))


def _record_of(path: Path) -> Mapping[str, str]:
    """The `episode` record. Raises `NotAsWritten` where there is none."""
    try:
        with McapFile(path) as file:
            for place in file.summary().metadata:
                record = file.record_at(place)
                if isinstance(record, MetadataRecord) and record.name == EPISODE_RECORD:
                    return record.values
    except (UnreadableFile, OSError) as error:
        raise NotAsWritten(f"{path} is no episode ({error}); it is not overwritten: move it away") from error
    raise NotAsWritten(f"{path} is no episode; it is not overwritten: move it away")


def _check_whole(path: Path) -> None:
    try:
        with McapFile(path) as file:
            file.check(file.size)
    except (UnreadableFile, OSError) as error:
        raise NotAsWritten(f"{path} is damaged ({error}); move it away to have it made anew") from error


def _clear_leftover(active: Path) -> None:
    """Remove what a killed run left. Raises `NotAsWritten` where a live one still writes it."""
    with suppress(FileNotFoundError):
        descriptor = os.open(active, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            active.unlink()
        except BlockingIOError as error:
            raise NotAsWritten(f"{active} is being written by another run; wait for it") from error
        finally:
            os.close(descriptor)


def _sha256_of_text(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8")).hexdigest()


def _texts(text: str) -> dict[str, str]:
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return {str(key): str(entry) for key, entry in value.items()} if isinstance(value, dict) else {}


def _whole(text: str) -> int:
    return int(text) if text.isdecimal() and int(text) < _YEAR_2200_NS else 0


_YEAR_2200_NS = int(datetime(2200, 1, 1, tzinfo=timezone.utc).timestamp()) * 1_000_000_000
