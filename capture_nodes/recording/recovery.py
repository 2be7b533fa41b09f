"""Makes a readable episode of a file that was cut off by a kill, a crash or a power loss."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import struct
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mcap.exceptions import McapError
from mcap.reader import make_reader
from mcap.records import Attachment as AttachmentRecord
from mcap.records import Channel, McapRecord, Message, Metadata, Schema
from mcap.stream_reader import StreamReader

from capture_nodes.recording.episode_record import (
    EPISODE_RECORD,
    EXPECTED_HZ,
    OPENING_RECORD,
    STREAMS_RECORD,
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

RECOVERING_SUFFIX = ".recovering"
UNREADABLE_SUFFIX = ".unreadable"


class NothingToRecover(FileProblem):
    """A cut file in which not even the header is whole."""


@dataclass(frozen=True)
class Recovery:
    """What came of one cut file: `path` is the readable file, `reason` where and why the old one ended."""

    source: Path
    path: Path
    messages: int
    reason: str


def recover(active: Path, options: FileOptions | None = None) -> Recovery:
    """Write everything that is whole in ``<id>.mcap.active`` into ``<id>.mcap``, marked `recovered`.

    The original is removed only when the new file is complete and synced, so a kill in between loses
    nothing. Raises `FileProblem` where a live recorder still writes the file or the disk refuses, and
    `NothingToRecover`.
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
        messages, reason = _copy(active, path, options)
        active.unlink()
    return Recovery(active, path, messages, reason)


def recover_all(
    root: Path, report: Callable[[str], object], should_stop: Callable[[], bool] = lambda: False
) -> list[Recovery]:
    """Recover every file under `root` whose writer is dead; each outcome goes to ``report`` in one line.

    Files of living writers are left alone. A file without even a header is set aside as ``.unreadable``.
    """
    recovered = []
    for active in sorted(root.glob(f"**/*.mcap{ACTIVE_SUFFIX}")):
        if should_stop():
            break
        if _is_locked(active):
            continue
        try:
            recovery = recover(active)
        except NothingToRecover as error:
            active.rename(active.with_name(active.name + UNREADABLE_SUFFIX))
            report(str(error))
        except (FileProblem, OSError) as error:
            report(f"{active} is not recovered, and kept: {error}")
        else:
            recovered.append(recovery)
            report(f"recovered {recovery.path}: {recovery.messages} messages ({recovery.reason})")
    return recovered


def _copy(active: Path, path: Path, options: FileOptions | None) -> tuple[int, str]:
    channels: dict[int, ChannelDescription] = {}
    schemas: dict[int, Schema] = {}
    opening = {"id": path.stem}
    counts: dict[str, int] = {}
    first_ns = last_ns = 0
    out = EpisodeFile(path, options, suffix=RECOVERING_SUFFIX)
    started = False
    records = _whole_records(active)
    try:
        while True:
            try:
                record = next(records)
            except StopIteration as stop:
                reason = str(stop.value)
                break
            if not started:
                out.open()
                started = True
            if isinstance(record, Schema):
                schemas[record.id] = record
            elif isinstance(record, Channel):
                schema = schemas[record.schema_id]
                channels[record.id] = ChannelDescription(
                    record.topic, schema.name, schema.data.decode("utf-8"), record.metadata
                )
            elif isinstance(record, Message):
                channel = channels[record.channel_id]
                out.write(channel, record.log_time, record.publish_time, record.sequence, record.data)
                first_ns = min(first_ns or record.log_time, record.log_time)
                last_ns = max(last_ns, record.log_time)
                counts[channel.topic] = counts.get(channel.topic, 0) + 1
            elif isinstance(record, AttachmentRecord):
                out.attach(Attachment(record.name, record.media_type, record.data), record.log_time)
            elif isinstance(record, Metadata):
                if record.name == OPENING_RECORD:
                    opening = dict(record.metadata)
                if record.name not in (EPISODE_RECORD, STREAMS_RECORD):
                    out.add_metadata(record.name, record.metadata)
        if not started:
            raise NothingToRecover(f"{active} holds nothing that can be read ({reason})", active)
        topics = {topic: {"written": count} for topic, count in counts.items()}
        start_ns = int(opening.get("start_ns", first_ns))
        rates = json.loads(opening.get(EXPECTED_HZ, "{}"))
        out.add_metadata(
            EPISODE_RECORD,
            {
                **closing_record(
                    opening, start_ns=start_ns, end_ns=last_ns or start_ns, topics=topics, recovered=True
                ),
                # How many were lost is not known: the counts died with the writer.
                "lost": "",
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
    except BaseException:
        out.abandon()
        raise
    return sum(counts.values()), reason


def _expected(topic: str, rates: Mapping[str, float | None]) -> dict[str, float | None]:
    """The row's expected rate, where the opening of the file knew the topic."""
    return {"expected_hz": rates[topic]} if topic in rates else {}


def _whole_records(active: Path) -> Generator[McapRecord, None, str]:
    """Records up to the first that is cut or damaged; the generator's value says why it ended there."""
    with active.open("rb") as stream:
        reader = StreamReader(stream, validate_crcs=True, record_size_limit=active.stat().st_size)
        try:
            yield from reader.records
        except Exception as error:
            # The reader meets cut and damaged bytes in many ways (struct, CRC, decompression, encoding);
            # all mean the same: the whole records end here.
            detail = str(error) or "end of file"
            return f"cut at byte {stream.tell()} of {active.stat().st_size}: {type(error).__name__}, {detail}"
    return "whole to its end"


def _complete_messages(path: Path) -> int | None:
    """The number of messages of a complete file, None where it is not complete."""
    try:
        with path.open("rb") as stream:
            summary = make_reader(stream).get_summary()
    except (McapError, OSError, ValueError, struct.error):
        return None
    if summary is None or summary.statistics is None:
        return None
    return int(summary.statistics.message_count)


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
