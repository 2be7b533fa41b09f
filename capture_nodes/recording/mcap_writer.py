"""Writes MCAP files (https://mcap.dev/spec), without copying what is large.

Two chunks are open at a time: small messages go into one that is compressed, large messages that compression
does not make smaller (camera images with grain, video) into one that goes to the disk as a list of the
very buffers that were handed over. Within a chunk messages stand in the order of writing; across the two
the indexes give the order of time. Nothing here knows files: the output is a function that takes buffers.
"""

from __future__ import annotations

import hashlib
import struct
import sys
from array import array
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import lz4.frame
import zstandard

from capture_nodes.recording.crc import crc32

Buffer: TypeAlias = "bytes | memoryview"
# Log time, publish time (ns), sequence number, data.
SmallMessage: TypeAlias = "tuple[int, int, int, Buffer]"
Compression = Literal["none", "lz4", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = ("none", "lz4", "zstd")

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, CHUNK_INDEX = range(1, 9)
ATTACHMENT, ATTACHMENT_INDEX, STATISTICS, METADATA, METADATA_INDEX, SUMMARY_OFFSET, DATA_END = range(9, 16)

# Opcode and length before every record; a message's own fields follow in the same struct.
RECORD_HEAD = struct.Struct("<BQ")
MESSAGE_HEAD = struct.Struct("<BQHIQQ")
CHUNK_HEAD = struct.Struct("<QQQI")
FOOTER_BODY = struct.Struct("<QQI")

# From this size a message is worth a look at what compression does to it.
LARGE_BYTES = 16 * 1024
# Only a piece is tried, and again after so many messages: what a camera sees changes.
_TRIAL_BYTES = 64 * 1024
_TRIAL_EVERY = 90
# Compression has to take away this part of a large message to be worth its time …
_TRIAL_GAIN = 0.3
# … and this part of a chunk, or the chunk is written as it is.
_CHUNK_GAIN = 0.05
_ZSTD_LEVEL = 1

_pack_message = MESSAGE_HEAD.pack


class Chunk:
    """Messages waiting to be written together; `entries`: by channel, log time and offset of each."""

    __slots__ = ("buffers", "entries", "size")

    def __init__(self) -> None:
        self.buffers: list[Buffer] = []
        self.entries: dict[int, array[int]] = {}
        self.size = 0

    def clear(self) -> None:
        # New ones: the old are what was just handed to the output.
        self.buffers = []
        self.entries = {}
        self.size = 0


class McapWriter:
    """One file, from the magic to the magic. Not thread-safe.

    ``write`` takes a list of buffers and writes all of them in order, or raises; what it raises goes
    through, and the writer is then of no further use. ``digest``: also compute the SHA-256 of all that is
    written. Every text that cannot be encoded and every number the format has no room for raises
    (`struct.error`, `UnicodeError`) before anything of the record is kept.
    """

    def __init__(
        self,
        write: Callable[[list[Buffer]], object],
        *,
        profile: str = "",
        library: str = "",
        compression: Compression = "zstd",
        digest: bool = True,
    ) -> None:
        self.position = 0
        self.packed = Chunk()
        self.plain = Chunk()
        self.message_count = 0
        self.first_ns: int | None = None
        self.last_ns: int | None = None
        self.channel_counts: dict[int, int] = {}
        self._write = write
        self._compression = compression
        self._compress = _compressor(compression)
        self._digest = hashlib.sha256() if digest else None
        self._crc = 0
        self._pending: list[Buffer] = [MAGIC, _record(HEADER, _text(profile), _text(library))]
        self._schemas: list[bytes] = []
        self._channels: list[bytes] = []
        self._chunk_indexes: list[bytes] = []
        self._attachment_indexes: list[bytes] = []
        self._metadata_indexes: list[bytes] = []
        # By channel with large messages: do they go into the compressed chunk, and until which trial.
        self._trials: dict[int, tuple[bool, int]] = {}

    @property
    def sha256(self) -> str:
        """Of everything written so far, in hexadecimal; "" where it is not computed."""
        return "" if self._digest is None else self._digest.hexdigest()

    def add_schema(self, name: str, encoding: str, data: bytes) -> int:
        """Returns the schema's id; it reaches the output before the next chunk."""
        number = len(self._schemas) + 1
        record = _record(SCHEMA, struct.pack("<H", number), _text(name), _text(encoding), _sized(data))
        self._schemas.append(record)
        self._pending.append(record)
        return number

    def add_channel(
        self, topic: str, message_encoding: str, schema_id: int, metadata: Mapping[str, str]
    ) -> int:
        """Returns the channel's id; it reaches the output before the next chunk."""
        number = len(self._channels) + 1
        record = _record(
            CHANNEL,
            struct.pack("<HH", number, schema_id),
            _text(topic),
            _text(message_encoding),
            _text_map(metadata),
        )
        self._channels.append(record)
        self.channel_counts[number] = 0
        self._pending.append(record)
        return number

    def add_message(
        self, channel_id: int, log_ns: int, publish_ns: int, sequence: int, data: Buffer
    ) -> Chunk:
        """Keep one message, by reference, until its chunk is ended; returns that chunk."""
        size = len(data)
        chunk = self.packed if size < LARGE_BYTES else self._chunk_for(channel_id, data)
        head = _pack_message(MESSAGE, size + 22, channel_id, sequence, log_ns, publish_ns)
        entries = chunk.entries.get(channel_id)
        if entries is None:
            entries = chunk.entries[channel_id] = array("Q")
        entries.append(log_ns)
        entries.append(chunk.size)
        buffers = chunk.buffers
        buffers.append(head)
        buffers.append(data)
        chunk.size += 31 + size
        return chunk

    def add_small_messages(self, channel_id: int, messages: Sequence[SmallMessage]) -> Chunk:
        """`add_message` for each; none may be as large as `LARGE_BYTES`."""
        chunk = self.packed
        entries = chunk.entries.get(channel_id)
        if entries is None:
            entries = chunk.entries[channel_id] = array("Q")
        buffers, offset = chunk.buffers, chunk.size
        for log_ns, publish_ns, sequence, data in messages:
            size = len(data)
            head = _pack_message(MESSAGE, size + 22, channel_id, sequence & 0xFFFFFFFF, log_ns, publish_ns)
            entries.append(log_ns)
            entries.append(offset)
            buffers.append(head)
            buffers.append(data)
            offset += 31 + size
        chunk.size = offset
        return chunk

    def _chunk_for(self, channel_id: int, data: Buffer) -> Chunk:
        """Where a large message goes: into the compressed chunk only if that was tried and pays."""
        packs, left = self._trials.get(channel_id, (False, 0))
        if left == 0:
            middle = len(data) // 2
            piece = bytes(data[max(0, middle - _TRIAL_BYTES // 2) : middle + _TRIAL_BYTES // 2])
            packs = self._compression != "none" and (
                len(lz4.frame.compress(piece)) <= (1.0 - _TRIAL_GAIN) * len(piece)
            )
            left = _TRIAL_EVERY
        self._trials[channel_id] = packs, left - 1
        return self.packed if packs else self.plain

    def add_attachment(
        self, name: str, media_type: str, data: bytes, log_ns: int, create_ns: int = 0
    ) -> None:
        times = struct.pack("<QQ", log_ns, create_ns)
        head = times + _text(name) + _text(media_type) + struct.pack("<Q", len(data))
        crc = crc32(data, crc32(head))
        length = len(head) + len(data) + 4
        offset = self._emit([RECORD_HEAD.pack(ATTACHMENT, length), head, data, struct.pack("<I", crc)])
        self._attachment_indexes.append(
            _record(
                ATTACHMENT_INDEX,
                struct.pack("<QQ", offset, RECORD_HEAD.size + length),
                times,
                struct.pack("<Q", len(data)),
                _text(name),
                _text(media_type),
            )
        )

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        record = _record(METADATA, _text(name), _text_map(values))
        offset = self._emit([record])
        self._metadata_indexes.append(
            _record(METADATA_INDEX, struct.pack("<QQ", offset, len(record)), _text(name))
        )

    def write_definitions(self) -> None:
        """Hand over the header, schemas and channels that wait for the next record."""
        self._emit([])

    def end_chunk(self, chunk: Chunk) -> int:
        """Hand over a chunk and its message indexes in one go; returns its number of messages."""
        if not chunk.entries:
            return 0
        body: list[Buffer] = chunk.buffers
        size = chunk.size
        compression: Compression = "none"
        if chunk is self.packed:
            records = b"".join(body)
            crc = crc32(records)
            body = [records]
            packed = self._compress(records)
            if len(packed) <= (1.0 - _CHUNK_GAIN) * size:
                body, compression = [packed], self._compression
        else:
            crc = 0
            for buffer in body:
                crc = crc32(buffer, crc)
        entries = chunk.entries
        first_ns = min(min(times[::2]) for times in entries.values())
        last_ns = max(max(times[::2]) for times in entries.values())
        stored = size if compression == "none" else len(body[0])
        name = _text("" if compression == "none" else compression)
        head = CHUNK_HEAD.pack(first_ns, last_ns, size, crc) + name + struct.pack("<Q", stored)
        indexes = [_message_index(channel_id, times) for channel_id, times in entries.items()]
        offset = self._emit(
            [RECORD_HEAD.pack(CHUNK, len(head) + stored) + head],
            body,
            # What was computed over the plain bytes need not be computed again over the file's.
            (crc, size) if compression == "none" else None,
            indexes,
        )
        length = RECORD_HEAD.size + len(head) + stored
        places = []
        place = offset + length
        for channel_id, index in zip(entries, indexes, strict=True):
            places.append(struct.pack("<HQ", channel_id, place))
            place += len(index)
        self._chunk_indexes.append(
            _record(
                CHUNK_INDEX,
                struct.pack("<QQQQ", first_ns, last_ns, offset, length),
                _sized(b"".join(places)),
                struct.pack("<Q", place - offset - length),
                name,
                struct.pack("<QQ", stored, size),
            )
        )
        messages = 0
        for channel_id, times in entries.items():
            count = len(times) // 2
            self.channel_counts[channel_id] += count
            messages += count
        self.message_count += messages
        self.first_ns = first_ns if self.first_ns is None else min(self.first_ns, first_ns)
        self.last_ns = last_ns if self.last_ns is None else max(self.last_ns, last_ns)
        chunk.clear()
        return messages

    def finish(self) -> None:
        """End both chunks and write everything that a reader looks for at the end."""
        self.end_chunk(self.packed)
        self.end_chunk(self.plain)
        self._emit([])
        self._emit([_record(DATA_END, struct.pack("<I", self._crc))])
        groups = (
            (SCHEMA, self._schemas),
            (CHANNEL, self._channels),
            (STATISTICS, [self._statistics()]),
            (CHUNK_INDEX, self._chunk_indexes),
            (ATTACHMENT_INDEX, self._attachment_indexes),
            (METADATA_INDEX, self._metadata_indexes),
        )
        start = place = self.position
        summary: list[bytes] = []
        offsets = []
        for opcode, records in groups:
            if records:
                length = sum(map(len, records))
                offsets.append(_record(SUMMARY_OFFSET, struct.pack("<BQQ", opcode, place, length)))
                summary.extend(records)
                place += length
        body = b"".join(summary) + b"".join(offsets)
        footer = RECORD_HEAD.pack(FOOTER, FOOTER_BODY.size) + struct.pack("<QQ", start, place)
        crc = crc32(footer, crc32(body))
        self._emit([body, footer, struct.pack("<I", crc), MAGIC])

    def _statistics(self) -> bytes:
        return _record(
            STATISTICS,
            struct.pack(
                "<QHIIIIQQ",
                self.message_count,
                len(self._schemas),
                len(self._channels),
                len(self._attachment_indexes),
                len(self._metadata_indexes),
                len(self._chunk_indexes),
                self.first_ns or 0,
                self.last_ns or 0,
            ),
            _sized(b"".join(struct.pack("<HQ", *item) for item in self.channel_counts.items())),
        )

    def _emit(
        self,
        head: list[Buffer],
        body: Sequence[Buffer] = (),
        body_crc: tuple[int, int] | None = None,
        tail: Sequence[Buffer] = (),
    ) -> int:
        """Write what waits, then head, body and tail; returns the offset of the head.

        ``body_crc``: the CRC of the body, where it is known, and its size.
        """
        pending, self._pending = self._pending, []
        offset = self.position + sum(map(len, pending))
        buffers = [*pending, *head, *body, *tail]
        if not buffers:
            return offset
        self._write(buffers)
        crc = self._crc
        for buffer in (*pending, *head):
            crc = crc32(buffer, crc)
        if body_crc is None:
            for buffer in body:
                crc = crc32(buffer, crc)
        else:
            crc = crc32_of_both(crc, *body_crc)
        for buffer in tail:
            crc = crc32(buffer, crc)
        self._crc = crc
        if self._digest is not None:
            for buffer in buffers:
                self._digest.update(buffer)
        self.position += sum(map(len, buffers))
        return offset


def _compressor(compression: Compression) -> Callable[[bytes], bytes]:
    if compression == "lz4":
        return lz4.frame.compress  # type: ignore[no-any-return]
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=_ZSTD_LEVEL).compress
    return bytes


def _record(opcode: int, *parts: bytes) -> bytes:
    body = b"".join(parts)
    return RECORD_HEAD.pack(opcode, len(body)) + body


def _sized(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


def _text(text: str) -> bytes:
    return _sized(text.encode("utf-8"))


def _text_map(values: Mapping[str, str]) -> bytes:
    return _sized(b"".join(_text(key) + _text(value) for key, value in values.items()))


def _message_index(channel_id: int, times: array[int]) -> bytes:
    if sys.byteorder == "big":
        times = array("Q", times)
        times.byteswap()
    return _record(MESSAGE_INDEX, struct.pack("<H", channel_id), _sized(times.tobytes()))


# CRC-32 as polynomials over GF(2), reflected: bit 31 is x^0. A CRC of two parts is that of the first times
# x^(8 * length of the second), plus that of the second.
_POLYNOMIAL = 0xEDB88320
_ONE = 1 << 31


def _times(a: int, b: int) -> int:
    """The product of two polynomials modulo the CRC's."""
    product = 0
    bit = _ONE
    while a:
        if a & bit:
            product ^= b
            a ^= bit
        bit >>= 1
        b = (b >> 1) ^ _POLYNOMIAL if b & 1 else b >> 1
    return product


def _squares() -> list[int]:
    """x^(8 * 2^n) for n = 0 … 63."""
    powers = [_ONE >> 8]
    for _ in range(63):
        powers.append(_times(powers[-1], powers[-1]))
    return powers


_POWERS = _squares()


def crc32_of_both(first: int, second: int, second_size: int) -> int:
    """The CRC-32 of two byte strings in a row, from those of each and the size of the second."""
    shift = _ONE
    for n, power in enumerate(_POWERS):
        if second_size >> n & 1:
            shift = _times(power, shift)
    return _times(shift, first) ^ second
