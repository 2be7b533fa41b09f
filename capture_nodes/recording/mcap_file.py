"""One episode as an MCAP file that survives what happens to it.

A file is ``<id>.mcap.active``, locked, while it is written and becomes ``<id>.mcap`` when it is complete and
was read back; no existing file is ever overwritten. Chunks go to the file as soon as they are full or
`flush_s` old, each in one write, so that after a kill everything flushed can be recovered (`recovery`).
Nothing here knows ROS; the caller hands over serialized messages with their schema text.
"""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from capture_nodes.errors import CaptureError
from capture_nodes.recording.direct_file import DirectFile, DirectIsRefused
from capture_nodes.recording.locked_file import LockedFile
from capture_nodes.recording.mcap_reader import McapFile, UnreadableFile
from capture_nodes.recording.mcap_writer import COMPRESSIONS as COMPRESSIONS
from capture_nodes.recording.mcap_writer import (
    MESSAGE_HEAD,
    Buffer,
    Chunk,
    Compression,
    McapWriter,
    SmallMessage,
)
from capture_nodes.recording.rosbag2_metadata import ROSBAG2_RECORD, BagFile, BagTopic, rosbag2_record
from capture_nodes.recording.stream_statistics import EpisodeCounts

ACTIVE_SUFFIX = ".active"
PROFILE = "ros2"
MESSAGE_ENCODING = "cdr"
SCHEMA_ENCODING = "ros2msg"
LIBRARY = "teleop_capture"

# The system takes no more buffers than this in one call.


class FileProblem(CaptureError):
    """An episode file that cannot be made, written or completed. `path` is where the data is, if anywhere."""

    def __init__(self, message: str, path: Path) -> None:
        self.path = path
        super().__init__(message)


class MessageRefused(CaptureError):
    """A message that no MCAP file can hold; the file goes on without it."""


@dataclass(frozen=True)
class FileOptions:
    """chunk_bytes: a chunk is written once it holds that much; flush_s: or once it is that old.

    sync_s, sync_bytes: how often, and after how much, what was written is forced to the disk, in the
    background (power loss costs at most that). check_bytes: a finished file is read back whole up to this
    size, beyond it in samples of that size together (`McapFile.check`). sha256: computed while writing.
    direct: past the page cache, where the file system takes that.
    """

    compression: Compression = "zstd"
    chunk_bytes: int = 4 * 1024 * 1024
    flush_s: float = 0.25
    sync_s: float = 5.0
    sync_bytes: int = 32 * 1024 * 1024
    check_bytes: int = 64 * 1024 * 1024
    sha256: bool = True
    direct: bool = False


@dataclass(frozen=True)
class ChannelDescription:
    """A topic as it stands in the file; `metadata` holds the offered QoS and, where known, the type hash."""

    topic: str
    type_name: str
    schema_text: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Attachment:
    name: str
    media_type: str
    data: bytes


class Output(Protocol):
    """What an episode is written to; tests put a failing disk here."""

    def write(self, buffers: Sequence[Buffer], /) -> None: ...
    def truncate(self, size: int, /) -> None: ...
    def sync_behind(self) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class EpisodeFile:
    """Writes one episode. Not thread-safe: everything after `__init__` runs on the writer thread.

    After the first error of the disk (or of whatever else a write met) `problem` is set, nothing more is
    written, and what is on the disk stays. `messages`, `bytes`: flushed so far (payloads only); `size`: of
    the file so far; `sha256`: of the finished file, in hexadecimal ("" before, or where the options leave it
    out); `descriptions`: the channels that are in the file, by topic.
    """

    def __init__(self, path: Path, options: FileOptions | None = None, suffix: str = ACTIVE_SUFFIX) -> None:
        self.path = path
        self.active_path = path.with_name(path.name + suffix)
        self.options = options or FileOptions()
        self.problem: FileProblem | None = None
        self.messages = 0
        self.bytes = 0
        self.sha256 = ""
        self.descriptions: dict[str, ChannelDescription] = {}
        self._output: Output | None = None
        self._writer = McapWriter(
            self._write_buffers,
            profile=PROFILE,
            library=LIBRARY,
            compression=self.options.compression,
            digest=self.options.sha256,
        )
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        # Whose messages wait in the compressed and in the other chunk.
        self._packed_counts: list[EpisodeCounts] = []
        self._plain_counts: list[EpisodeCounts] = []
        self._flushed_at_s = self._synced_at_s = time.monotonic()
        self._synced_size = 0

    @property
    def size(self) -> int:
        return self._writer.position

    @property
    def first_ns(self) -> int | None:
        """The earliest log time flushed, None before there is any."""
        return self._writer.first_ns

    @property
    def last_ns(self) -> int | None:
        """The latest log time flushed, None before there is any."""
        return self._writer.last_ns

    def topic_counts(self) -> dict[str, int]:
        """Messages flushed, by topic."""
        counts = self._writer.channel_counts
        return {topic: counts[channel_id] for topic, channel_id in self._channels.items()}

    def bag_file(self) -> BagFile:
        """What `ros2 bag` wants to know of this file, as far as it is flushed."""
        topics = tuple(
            BagTopic(topic, description.type_name, count, description.metadata)
            for (topic, count), description in zip(
                self.topic_counts().items(), self.descriptions.values(), strict=True
            )
        )
        return BagFile(self.path.name, self.first_ns or 0, self.last_ns or 0, self.messages, topics)

    def open(self) -> None:
        """Make the folder and the file and write the header. Raises `FileProblem` naming the way out."""
        folder = self.path.parent
        try:
            if self.path.exists():
                raise FileProblem(f"{self.path} exists already and is not overwritten", self.path)
            folder.mkdir(parents=True, exist_ok=True)
            self._output = self._open_output()
        except OSError as error:
            if isinstance(error, FileExistsError) and self.active_path.exists():
                message = f"{self.active_path} exists already and is not overwritten"
                raise FileProblem(message, self.active_path) from error
            raise self._refused(error) from error
        try:
            self._writer.write_definitions()
        except OSError as error:
            # Not even its header is whole: a file that nothing can be recovered from helps nobody.
            self.remove()
            raise self._refused(error) from error

    def _refused(self, error: OSError) -> FileProblem:
        folder = self.path.parent
        return FileProblem(
            f"cannot record into {folder}: {_explain(error)}; {_way_out(error, folder)}", self.active_path
        )

    def _open_output(self) -> Output:
        if self.options.direct:
            # Where the file system does not take them, the usual way.
            with suppress(DirectIsRefused):
                return DirectFile(self.active_path)
        return LockedFile(self.active_path)

    def _write_buffers(self, buffers: list[Buffer]) -> None:
        if self._output is None:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self._output.write(buffers)

    def attach(self, attachment: Attachment, time_ns: int) -> None:
        self._guard(
            lambda: self._writer.add_attachment(
                attachment.name, attachment.media_type, attachment.data, time_ns, time_ns
            )
        )

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        self._guard(lambda: self._writer.add_metadata(name, values))

    def write(
        self,
        channel: ChannelDescription,
        log_ns: int,
        publish_ns: int,
        sequence: int,
        data: Buffer,
        counts: EpisodeCounts | None = None,
    ) -> bool:
        """Add one message; ``counts.lost_disk`` grows for every message that does not reach the disk.

        ``data`` is kept by reference until it is flushed and must not change before. Returns False where the
        file has failed (see `problem`). Raises `MessageRefused`, before anything of the message is written,
        where the format cannot hold it: times before 1970, texts that are no Unicode.
        """
        if self.problem is not None or self._output is None:
            if counts is not None:
                counts.lost_disk += 1
            return False
        if log_ns < 0 or publish_ns < 0:
            raise MessageRefused(f"received at {log_ns} ns, published at {publish_ns} ns: before 1970")
        writer = self._writer
        try:
            channel_id = self._channels.get(channel.topic) or self._register(channel)
            chunk = writer.add_message(channel_id, log_ns, publish_ns, sequence & 0xFFFFFFFF, data)
        except (struct.error, UnicodeError) as error:
            raise MessageRefused(f"a message of {channel.topic} does not fit into MCAP: {error}") from error
        except Exception as error:
            # Half a record may be in the chunk: it must not reach the disk, nor take the writer thread along.
            self.fail(error)
            if counts is not None:
                counts.lost_disk += 1
            return False
        if counts is not None:
            (self._packed_counts if chunk is writer.packed else self._plain_counts).append(counts)
        if chunk.size >= self.options.chunk_bytes:
            self._end(chunk)
            return self.problem is None
        return True

    def write_small(
        self, channel: ChannelDescription, messages: Sequence[SmallMessage], counts: EpisodeCounts
    ) -> bool:
        """`write` for each at once; False, and nothing is done, where that takes one after the other.

        They are as `EpisodeMessages` has them.
        """
        channel_id = self._channels.get(channel.topic)
        if channel_id is None or self.problem is not None or self._output is None:
            return False
        try:
            chunk = self._writer.add_small_messages(channel_id, messages)
        except Exception as error:
            # As in `write`: what is in the chunk must not reach the disk.
            self.fail(error)
            counts.lost_disk += len(messages)
            return True
        self._packed_counts += [counts] * len(messages)
        if chunk.size >= self.options.chunk_bytes:
            self._end(chunk)
        return True

    def _register(self, channel: ChannelDescription) -> int:
        schema_id = self._schemas.get(channel.type_name)
        if schema_id is None:
            schema_id = self._schemas[channel.type_name] = self._writer.add_schema(
                channel.type_name, SCHEMA_ENCODING, channel.schema_text.encode("utf-8")
            )
        channel_id = self._writer.add_channel(channel.topic, MESSAGE_ENCODING, schema_id, channel.metadata)
        self._channels[channel.topic] = channel_id
        self.descriptions[channel.topic] = channel
        return channel_id

    def _end(self, chunk: Chunk) -> None:
        """Write a chunk; its messages are counted as written, or as lost to the disk."""
        size = chunk.size
        if not size or not self._guard(lambda: self._writer.end_chunk(chunk)):
            return
        messages = self._writer.message_count - self.messages
        self.messages += messages
        self.bytes += size - messages * MESSAGE_HEAD.size
        (self._packed_counts if chunk is self._writer.packed else self._plain_counts).clear()

    def flush(self) -> None:
        """End the chunks and hand them to the system: a kill of this process does not lose them any more."""
        self._flushed_at_s = time.monotonic()
        self._end(self._writer.packed)
        self._end(self._writer.plain)

    def flush_if_due(self) -> None:
        """Flush what is older than `flush_s`; have the disk told every `sync_s` and `sync_bytes`."""
        now_s = time.monotonic()
        if now_s - self._flushed_at_s >= self.options.flush_s:
            self.flush()
        new_bytes = self._writer.position - self._synced_size
        if new_bytes >= self.options.sync_bytes or (
            new_bytes and now_s - self._synced_at_s >= self.options.sync_s
        ):
            self._synced_size += new_bytes
            self._synced_at_s = now_s
            self._guard(self._sync_behind)

    def _sync_behind(self) -> None:
        if self._output is not None:
            self._output.sync_behind()

    def finish(self) -> Path:
        """Write the summary, sync, read back, rename. Raises `FileProblem`; the data then stay there."""
        self.flush()
        self._guard(self._complete)
        self._close_output()
        if self.problem is not None:
            raise self.problem
        try:
            rename_without_overwriting(self.active_path, self.path)
        except OSError as error:
            raise FileProblem(
                f"{self.active_path} is complete but cannot become {self.path.name}: {_explain(error)}; "
                "rename it by hand",
                self.active_path,
            ) from error
        return self.path

    def _complete(self) -> None:
        self._writer.add_metadata(ROSBAG2_RECORD, rosbag2_record(self.bag_file()))
        self._writer.finish()
        if self._output is not None:
            self._output.sync()
        with McapFile(self.active_path) as written:
            summary = written.check(self.options.check_bytes)
            if (written.size, summary.counts) != (self.size, self._writer.channel_counts):
                raise UnreadableFile("other messages are in it than were written")
        self.sha256 = self._writer.sha256

    def abandon(self) -> None:
        """Stop writing and leave the file as it is, to be recovered later."""
        self._close_output()

    def remove(self) -> None:
        """Take back a file that nothing has been recorded into."""
        self._close_output()
        with suppress(OSError):
            # What it could not be taken back from is told by whoever wanted to write.
            self.active_path.unlink(missing_ok=True)

    def _close_output(self) -> None:
        output, self._output = self._output, None
        if output is not None:
            try:
                output.close()
            except OSError as error:
                self.fail(error)

    def _guard(self, action: Callable[[], object]) -> bool:
        """Run a write; any error becomes the file's `problem`. False once there is one."""
        if self.problem is not None or self._output is None:
            return False
        try:
            action()
        except Exception as error:
            # Not only the disk: compression and packing fail in ways of their own, and the one who waits for
            # the file has to hear of each.
            self.fail(error)
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Make ``error`` the file's `problem`, unless it has one; what is not written is counted as lost."""
        if self.problem is not None:
            return
        self.problem = FileProblem(
            f"writing {self.active_path} stopped: {_explain(error)}; what was written before is kept and "
            f"recovered at the next start; {_way_out(error, self.path.parent)}",
            self.active_path,
        )
        self.problem.__cause__ = error
        for counts in (*self._packed_counts, *self._plain_counts):
            counts.lost_disk += 1
        self._packed_counts.clear()
        self._plain_counts.clear()
        if self._output is not None:
            # Half a record at the end is room that a full disk needs; where it stays, recovery steps over it.
            with suppress(OSError):
                self._output.truncate(self._writer.position)


def rename_without_overwriting(source: Path, target: Path) -> None:
    """Rename within a folder, refusing an existing target. Raises `FileExistsError` or another `OSError`."""
    try:
        # link + unlink is the atomic form of "rename unless it exists".
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK):
            raise
        if target.exists():
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from error
        os.rename(source, target)
    else:
        os.unlink(source)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power loss."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _explain(error: Exception) -> str:
    if isinstance(error, OSError) and error.errno is not None:
        return f"{os.strerror(error.errno)} ({errno.errorcode.get(error.errno, error.errno)})"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__


def _way_out(error: Exception, folder: Path) -> str:
    if isinstance(error, UnreadableFile):
        return "the disk gives back something else than was written: check it"
    if not isinstance(error, OSError):
        return "this is no fault of the disk: report it with the file"
    number = error.errno
    if number in (errno.EACCES, errno.EPERM):
        return f"make {folder} writable for this user or choose another folder with the parameter `root`"
    if number == errno.EROFS:
        return "mount the disk read-write or choose another folder with the parameter `root`"
    if number in (errno.ENOSPC, errno.EDQUOT):
        return f"free space on the disk of {folder} or choose another folder with the parameter `root`"
    if number in (errno.ENOTDIR, errno.EEXIST):
        return "a part of that path is a file; choose another folder with the parameter `root`"
    if number in (errno.EIO, errno.ENODEV, errno.ENXIO, errno.ESTALE):
        return "check the disk and its mount"
    return "check the disk or choose another folder with the parameter `root`"
