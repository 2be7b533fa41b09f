"""The records of an MCAP file in order, chunks opened fast; what is wrong with a file at first sight."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import numpy as np
from mcap.data_stream import ReadDataStream
from mcap.exceptions import McapError
from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, DataEnd, McapRecord, Message, Schema
from mcap.stream_reader import CRCValidationError, StreamReader, get_chunk_data_stream

from episodes.episode_files import ACTIVE_SUFFIX
from episodes.errors import EpisodeError

Progress = Callable[[float], None]

# What reading or decoding a damaged file may raise.
FAILURES = (McapError, CRCValidationError, struct.error, ValueError, EOFError, RuntimeError, MemoryError)

_MAGIC = b"\x89MCAP0\r\n"
_MESSAGE = struct.Struct("<HIQQ")
_RECORD = struct.Struct("<BQ")


def check_file(path: Path, allow_incomplete: bool) -> int:
    """Size of the file; raises `EpisodeError` on what is no complete MCAP file at first sight."""
    try:
        if path.is_dir():
            raise EpisodeError(path, "is a folder; an episode file (*.mcap) expected")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(_MAGIC))
            file.seek(max(0, size - len(_MAGIC)))
            end = file.read(len(_MAGIC))
    except FileNotFoundError as error:
        active = path.with_name(path.name + ACTIVE_SUFFIX)
        more = f" ({active.name} is there: it is still being recorded)" if active.exists() else ""
        raise EpisodeError(path, f"does not exist{more}") from error
    except OSError as error:
        raise EpisodeError(path, f"cannot be read: {error.strerror}") from error
    if size == 0:
        raise EpisodeError(path, "is empty (0 bytes)")
    if start != _MAGIC:
        raise EpisodeError(path, "is not an MCAP file: it does not begin with MCAP's magic bytes")
    if allow_incomplete:
        return size
    if path.name.endswith(ACTIVE_SUFFIX):
        raise EpisodeError(
            path, "is still being recorded, or its recorder died; read what is there with --incomplete"
        )
    if end != _MAGIC or size < 2 * len(_MAGIC):
        raise EpisodeError(
            path,
            f"is truncated: {size} bytes do not end with MCAP's closing bytes; "
            "read what is there with --incomplete",
        )
    return size


def file_records(path: Path, progress: Progress | None = None) -> Iterator[McapRecord]:
    """Every record in the order of the file, chunks unopened."""
    with path.open("rb") as file:
        size = max(1, path.stat().st_size)
        for record in StreamReader(file, emit_chunks=True, record_size_limit=size).records:
            if progress is not None:
                progress(file.tell() / size)
            yield record


def messages_at(path: Path, times_ns: Collection[int]) -> Iterator[tuple[int, int, bytes]]:
    """(channel, log time, data) of the messages in those chunks whose time span holds one of the times."""
    times = np.sort(np.array(list(times_ns), dtype=np.int64))
    for record in file_records(path):
        if isinstance(record, Chunk):
            first = np.searchsorted(times, record.message_start_time)
            if first == len(times) or times[first] > record.message_end_time:
                continue
            for inner in chunk_records(record):
                if isinstance(inner, tuple):
                    yield inner[0], inner[2], inner[4]
        elif isinstance(record, Message):
            yield record.channel_id, record.log_time, record.data
        elif isinstance(record, DataEnd):
            return


def chunk_records(chunk: Chunk) -> Iterator[Schema | Channel | tuple[int, int, int, int, bytes]]:
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


def failure_text(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
