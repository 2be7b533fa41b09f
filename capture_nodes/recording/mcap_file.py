"""One episode as an MCAP file that survives what happens to it.

A file is ``<id>.mcap.active``, locked, while it is written and becomes ``<id>.mcap`` when it is complete;
no existing file is ever overwritten. Chunks go to the file as soon as they are full or `flush_s` old, each
in one write, so that after a kill everything flushed can be recovered (`recovery`). Nothing here knows
ROS; the caller hands over serialized messages with their schema text.
"""

from __future__ import annotations

import errno
import fcntl
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from mcap.writer import CompressionType, Writer

from capture_nodes.errors import CaptureError
from capture_nodes.recording.stream_statistics import EpisodeCounts

ACTIVE_SUFFIX = ".active"
PROFILE = "ros2"
MESSAGE_ENCODING = "cdr"
SCHEMA_ENCODING = "ros2msg"
LIBRARY = "teleop_capture"

Compression = Literal["none", "lz4", "zstd"]
COMPRESSIONS: Mapping[str, CompressionType] = {
    "none": CompressionType.NONE,
    "lz4": CompressionType.LZ4,
    "zstd": CompressionType.ZSTD,
}


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

    sync_s: how often what was written is forced to the disk (power loss costs at most that much).
    """

    compression: Compression = "lz4"
    chunk_bytes: int = 4 * 1024 * 1024
    flush_s: float = 0.25
    sync_s: float = 5.0


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

    def write(self, data: bytes, /) -> int: ...
    def tell(self) -> int: ...
    def flush(self) -> None: ...
    def sync(self) -> None: ...
    def close(self) -> None: ...


class LockedFile:
    """A new file under an advisory lock that ends with the process: so a dead writer is told from a live one.

    Raises `OSError` (`FileExistsError` where the path exists).
    """

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
        self._written = 0
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # A file system without locks still takes a recording; it must then not be shared.
            if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS):
                os.close(self._descriptor)
                raise

    def write(self, data: bytes, /) -> int:
        view = memoryview(data)
        while view:
            count = os.write(self._descriptor, view)
            self._written += count
            view = view[count:]
        return len(data)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing is held back here: every write goes to the system at once."""

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


class EpisodeFile:
    """Writes one episode. Not thread-safe: everything after `__init__` runs on the writer thread.

    After the first error of the disk (or of whatever else a write met) `problem` is set, nothing more is
    written, and what is on the disk stays.
    """

    def __init__(self, path: Path, options: FileOptions | None = None, suffix: str = ACTIVE_SUFFIX) -> None:
        self.path = path
        self.active_path = path.with_name(path.name + suffix)
        self.options = options or FileOptions()
        self.problem: FileProblem | None = None
        self.messages = 0
        self.bytes = 0
        self._output: Output | None = None
        self._writer: Writer | None = None
        self._schemas: dict[str, int] = {}
        self._channels: dict[str, int] = {}
        self._unflushed: list[EpisodeCounts] = []
        self._unflushed_messages = 0
        self._unflushed_bytes = 0
        self._flushed_at_s = self._synced_at_s = time.monotonic()

    def open(self) -> None:
        """Make the folder and the file and write the header. Raises `FileProblem` naming the way out."""
        folder = self.path.parent
        if self.path.exists():
            raise FileProblem(f"{self.path} exists already and is not overwritten", self.path)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._output = self._open_output()
            self._writer = Writer(
                self._output,
                # Chunks are ended by `write` and `flush`, so that it is known which messages are on the disk.
                chunk_size=1 << 62,
                compression=COMPRESSIONS[self.options.compression],
            )
            self._writer.start(profile=PROFILE, library=LIBRARY)
        except FileExistsError as error:
            message = f"{self.active_path} exists already and is not overwritten"
            raise FileProblem(message, self.active_path) from error
        except OSError as error:
            self._close_output()
            raise FileProblem(
                f"cannot record into {folder}: {_explain(error)}; {_way_out(error, folder)}", self.active_path
            ) from error

    def _open_output(self) -> Output:
        return LockedFile(self.active_path)

    def attach(self, attachment: Attachment, time_ns: int) -> None:
        self._guard(
            lambda writer: writer.add_attachment(
                create_time=time_ns,
                log_time=time_ns,
                name=attachment.name,
                media_type=attachment.media_type,
                data=attachment.data,
            )
        )

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        self._guard(lambda writer: writer.add_metadata(name, dict(values)))

    def write(
        self,
        channel: ChannelDescription,
        log_ns: int,
        publish_ns: int,
        sequence: int,
        data: bytes,
        counts: EpisodeCounts | None = None,
    ) -> bool:
        """Add one message; ``counts.lost_disk`` grows for every message that does not reach the disk.

        Returns False where the file has failed (see `problem`). Raises `MessageRefused`, before anything of
        the message is written, where its times are before 1970, which the format cannot say.
        """
        writer = self._writer
        if self.problem is not None or writer is None:
            if counts is not None:
                counts.lost_disk += 1
            return False
        if log_ns < 0 or publish_ns < 0:
            raise MessageRefused(f"received at {log_ns} ns, published at {publish_ns} ns: before 1970")
        try:
            channel_id = self._channels.get(channel.topic)
            if channel_id is None:
                channel_id = self._register(writer, channel)
            writer.add_message(
                channel_id=channel_id,
                log_time=log_ns,
                data=data,
                publish_time=publish_ns,
                sequence=sequence & 0xFFFFFFFF,
            )
        except Exception as error:
            # Half a record may be in the chunk: it must not reach the disk, nor take the writer thread along.
            self.fail(error)
            if counts is not None:
                counts.lost_disk += 1
            return False
        if counts is not None:
            self._unflushed.append(counts)
        self._unflushed_messages += 1
        self._unflushed_bytes += len(data)
        if self._unflushed_bytes >= self.options.chunk_bytes:
            self.flush()
        return self.problem is None

    def _register(self, writer: Writer, channel: ChannelDescription) -> int:
        schema_id = self._schemas.get(channel.type_name)
        if schema_id is None:
            schema_id = writer.register_schema(
                name=channel.type_name, encoding=SCHEMA_ENCODING, data=channel.schema_text.encode("utf-8")
            )
            self._schemas[channel.type_name] = schema_id
        channel_id: int = writer.register_channel(
            topic=channel.topic,
            message_encoding=MESSAGE_ENCODING,
            schema_id=schema_id,
            metadata=dict(channel.metadata),
        )
        self._channels[channel.topic] = channel_id
        return channel_id

    def flush(self) -> None:
        """End the chunk and hand it to the system: from here on a kill of this process does not lose it."""
        self._flushed_at_s = time.monotonic()
        if self._guard(lambda writer: writer.flush()):
            self.messages += self._unflushed_messages
            self.bytes += self._unflushed_bytes
        else:
            for counts in self._unflushed:
                counts.lost_disk += 1
        self._unflushed.clear()
        self._unflushed_messages = self._unflushed_bytes = 0

    def flush_if_due(self) -> None:
        """Flush what is older than `flush_s`; sync every `sync_s`."""
        now_s = time.monotonic()
        if self._unflushed_messages and now_s - self._flushed_at_s >= self.options.flush_s:
            self.flush()
        if now_s - self._synced_at_s >= self.options.sync_s:
            self._guard(lambda _: self._sync())
            self._synced_at_s = time.monotonic()

    def _sync(self) -> None:
        if self._output is not None:
            self._output.sync()

    def finish(self) -> Path:
        """Write the summary, sync, rename. Raises `FileProblem`; the data then stays where it is."""
        if self.problem is None:
            self.flush()
            self._guard(lambda writer: writer.finish())
            self._guard(lambda _: self._sync())
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

    def abandon(self) -> None:
        """Stop writing and leave the file as it is, to be recovered later."""
        self._close_output()

    def remove(self) -> None:
        """Take back a file that nothing has been recorded into."""
        self._close_output()
        self.active_path.unlink(missing_ok=True)

    def _close_output(self) -> None:
        output, self._output, self._writer = self._output, None, None
        if output is not None:
            try:
                output.close()
            except OSError as error:
                self.fail(error)

    def _guard(self, action: _Action) -> bool:
        """Run a write; any error becomes the file's `problem`. False once there is one."""
        if self.problem is not None or self._writer is None:
            return False
        try:
            action(self._writer)
        except Exception as error:
            # Not only the disk: compression and packing fail in ways of their own, and the one who waits for
            # the file has to hear of each.
            self.fail(error)
            return False
        return True

    def fail(self, error: Exception) -> None:
        """Make ``error`` the file's `problem`, unless it has one."""
        if self.problem is None:
            self.problem = FileProblem(
                f"writing {self.active_path} stopped: {_explain(error)}; what was written before is kept and "
                f"recovered at the next start; {_way_out(error, self.path.parent)}",
                self.active_path,
            )
            self.problem.__cause__ = error


class _Action(Protocol):
    def __call__(self, writer: Writer, /) -> None: ...


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
