"""Makes a readable episode of a file that was cut off by a kill, a crash or a power loss."""

from __future__ import annotations

import errno
import fcntl
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from capture_nodes.recording.episode_record import (
    EPISODE_RECORD,
    EXPECTED_HZ,
    OPENING_RECORD,
    SAID_RECORD,
    STREAMS_RECORD,
    SaidSoFar,
    closing_record,
    streams_record,
)
from capture_nodes.recording.mcap_file import (
    ACTIVE_SUFFIX,
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileOptions,
    FileProblem,
    rename_without_overwriting,
)
from capture_nodes.recording.mcap_reader import (
    AttachmentRecord,
    ChannelRecord,
    Damage,
    McapFile,
    MessageRecord,
    MetadataRecord,
    SchemaRecord,
    UnreadableFile,
)
from capture_nodes.recording.rosbag2_metadata import ROSBAG2_RECORD

RECOVERING_SUFFIX = ".recovering"
UNREADABLE_SUFFIX = ".unreadable"
RECOVERY_RECORD = "recovery"

# Said anew of the recovered file.
_REPLACED = (EPISODE_RECORD, SAID_RECORD, STREAMS_RECORD, RECOVERY_RECORD, ROSBAG2_RECORD)


class NothingToRecover(FileProblem):
    """A cut file in which not even the header is whole."""


class NothingRecorded(NothingToRecover):
    """A cut file that is empty, or has its header and nothing else."""


@dataclass(frozen=True)
class Recovery:
    """What came of one cut file: `path` is the readable file, `reason` where and why the old one ended.

    `damage`: places in its middle that had to be left out, in words; `lost`: messages known to have been
    there, by topic.
    """

    source: Path
    path: Path
    messages: int
    reason: str
    damage: tuple[str, ...] = ()
    lost: Mapping[str, int] = field(default_factory=dict)


def recover(active: Path, options: FileOptions | None = None) -> Recovery:
    """Write everything that is whole in ``<id>.mcap.active`` into ``<id>.mcap``, marked `recovered`.

    The original is removed only when the new file is complete and synced, so a kill in between loses
    nothing. Raises `FileProblem` where a live recorder still writes the file or the disk refuses,
    `NothingToRecover` and `NothingRecorded`.
    """
    path = active.with_name(active.name.removesuffix(ACTIVE_SUFFIX))
    with _held(active):
        if path.exists():
            messages = _complete_messages(path)
            if messages is None:
                raise FileProblem(f"both {active} and {path} exist, and the latter is not readable", active)
            # The kill came between giving the file its name and removing the old one.
            active.unlink()
            return Recovery(active, path, messages, "was complete already")
        messages = _complete_messages(active)
        if messages is not None:
            rename_without_overwriting(active, path)
            return Recovery(active, path, messages, "was complete, only its name was missing")
        leftover = path.with_name(path.name + RECOVERING_SUFFIX)
        leftover.unlink(missing_ok=True)
        recovery = _copy(active, path, options)
        active.unlink()
    return recovery


def recover_all(
    root: Path, report: Callable[[str], object], should_stop: Callable[[], bool] = lambda: False
) -> list[Recovery]:
    """Recover every file under `root` whose writer is dead; each outcome goes to ``report`` in one line.

    Files of living writers are left alone. A file without even a header is set aside as ``.unreadable``,
    one with nothing behind it removed.
    """
    recovered = []
    for active in sorted(root.glob(f"**/*.mcap{ACTIVE_SUFFIX}")):
        if should_stop():
            break
        if _is_locked(active):
            continue
        try:
            recovery = recover(active)
        except NothingRecorded:
            # The kill came right after the file was made.
            active.unlink()
            report(f"removed {active}: nothing was recorded into it")
        except NothingToRecover as error:
            active.rename(active.with_name(active.name + UNREADABLE_SUFFIX))
            report(str(error))
        except (FileProblem, OSError) as error:
            report(f"{active} is not recovered, and kept: {error}")
        else:
            recovered.append(recovery)
            report(f"recovered {recovery.path}: {recovery.messages} messages ({recovery.reason})")
    return recovered


class _Copy:
    """The recovered file while it is made from what the cut one gives, record by record."""

    def __init__(self, path: Path, options: FileOptions | None) -> None:
        self.out = EpisodeFile(path, options, suffix=RECOVERING_SUFFIX)
        self.opening = {"id": path.stem}
        self.said = SaidSoFar()
        self.damage: list[str] = []
        self.lost: dict[str, int] = {}
        self._schemas: dict[int, SchemaRecord] = {}
        self._channels: dict[int, ChannelDescription] = {}

    def channel(self, record: ChannelRecord) -> None:
        schema = self._schemas.get(record.schema_id)
        if schema is not None:
            text = schema.data.decode("utf-8", errors="replace")
            self._channels[record.id] = ChannelDescription(record.topic, schema.name, text, record.metadata)

    def message(self, record: MessageRecord) -> None:
        channel = self._channels.get(record.channel_id)
        if channel is None:
            self._lose(record.channel_id, 1)
        else:
            self.out.write(channel, record.log_ns, record.publish_ns, record.sequence, record.data)

    def metadata(self, record: MetadataRecord) -> None:
        if record.name == OPENING_RECORD:
            self.opening = dict(record.values)
        if record.name == SAID_RECORD:
            self.said.hear(record.values)
        if record.name not in _REPLACED:
            self.out.add_metadata(record.name, record.values)

    def leave_out(self, record: Damage) -> None:
        self.damage.append(f"{record.size} bytes at {record.offset} left out: {record.reason}")
        for channel_id, count in record.messages.items():
            self._lose(channel_id, count)

    def _lose(self, channel_id: int, count: int) -> None:
        channel = self._channels.get(channel_id)
        topic = f"channel {channel_id}" if channel is None else channel.topic
        self.lost[topic] = self.lost.get(topic, 0) + count

    def add(self, record: object) -> None:
        if isinstance(record, MessageRecord):
            self.message(record)
        elif isinstance(record, SchemaRecord):
            self._schemas[record.id] = record
        elif isinstance(record, ChannelRecord):
            self.channel(record)
        elif isinstance(record, AttachmentRecord):
            self.out.attach(Attachment(record.name, record.media_type, record.data), record.log_ns)
        elif isinstance(record, MetadataRecord):
            self.metadata(record)
        elif isinstance(record, Damage):
            self.leave_out(record)

    def finish(self, reason: str) -> None:
        out = self.out
        out.flush()
        counts = out.topic_counts()
        first_ns = out.first_ns or 0
        start_ns = first_ns
        rates: Any = {}
        # Metadata have no CRC: what stands there may be anything.
        with suppress(ValueError):
            start_ns = int(self.opening.get("start_ns", first_ns))
        with suppress(ValueError):
            rates = json.loads(self.opening.get(EXPECTED_HZ, "{}"))
        rates = rates if isinstance(rates, dict) else {}
        closing = closing_record(
            self.opening,
            start_ns=start_ns,
            end_ns=out.last_ns or start_ns,
            topics={topic: {"written": count} for topic, count in counts.items()},
            recovered=True,
            verdict=self.said.verdict,
            reason=self.said.reason,
            moments=self.said.moments,
            clutch=self.said.clutch,
        )
        # How many were lost is not known: the counts died with the writer.
        out.add_metadata(EPISODE_RECORD, {**closing, "lost": ""})
        out.add_metadata(
            RECOVERY_RECORD,
            {
                "reason": reason,
                "damage": json.dumps(self.damage),
                "lost": json.dumps(self.lost, sort_keys=True),
            },
        )
        out.add_metadata(
            STREAMS_RECORD,
            streams_record(
                {
                    topic: {"topic": topic, "gid": None, "written": count, **_expected(topic, rates)}
                    for topic, count in counts.items()
                }
            ),
        )
        out.finish()


def _copy(active: Path, path: Path, options: FileOptions | None) -> Recovery:
    copy = _Copy(path, options)
    with McapFile(active) as source:
        records = source.salvage()
        started = False
        try:
            while True:
                try:
                    record = next(records)
                except StopIteration as stop:
                    reason = str(stop.value)
                    break
                if not started:
                    copy.out.open()
                    started = True
                copy.add(record)
            if not started and source.size <= source.header_end:
                raise NothingRecorded(f"{active} holds nothing", active)
            if not started:
                raise NothingToRecover(f"{active} holds nothing that can be read ({reason})", active)
            copy.finish(reason)
        except Exception:
            # The original has it all; a half copy would only fill the disk.
            copy.out.remove()
            raise
        except BaseException:
            copy.out.abandon()
            raise
    return Recovery(active, path, copy.out.messages, reason, tuple(copy.damage), copy.lost)


def _expected(topic: str, rates: Mapping[str, float | None]) -> dict[str, float | None]:
    """The row's expected rate, where the opening of the file knew the topic."""
    return {"expected_hz": rates[topic]} if topic in rates else {}


def _complete_messages(path: Path) -> int | None:
    """The number of messages of a complete file, None where it is not complete."""
    try:
        with McapFile(path) as file:
            return file.check(FileOptions().check_bytes).messages
    except (UnreadableFile, OSError):
        return None


@contextmanager
def _held(active: Path) -> Iterator[None]:
    """Hold the lock of a cut file. Raises `FileProblem` where it is gone or its writer lives."""
    try:
        descriptor = os.open(active, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise FileProblem(f"cannot recover {active}: {os.strerror(error.errno or 0)}", active) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise FileProblem(f"{active} is being written by a living recorder", active) from error
        except OSError as error:
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                raise
        yield
    finally:
        os.close(descriptor)


def _is_locked(active: Path) -> bool:
    try:
        with _held(active):
            return False
    except FileProblem:
        return True
