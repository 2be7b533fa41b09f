"""Reads MCAP files back: quickly, to check one just written, and doggedly, to save what a cut one holds."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Generator, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import lz4.frame
import zstandard

from capture_nodes.errors import CaptureError
from capture_nodes.recording.crc import crc32
from capture_nodes.recording.mcap_writer import (
    ATTACHMENT,
    ATTACHMENT_INDEX,
    CHANNEL,
    CHUNK,
    CHUNK_HEAD,
    CHUNK_INDEX,
    DATA_END,
    FOOTER,
    FOOTER_BODY,
    HEADER,
    MAGIC,
    MESSAGE,
    MESSAGE_HEAD,
    MESSAGE_INDEX,
    METADATA,
    METADATA_INDEX,
    RECORD_HEAD,
    SCHEMA,
    STATISTICS,
)

_TAIL_BYTES = RECORD_HEAD.size + FOOTER_BODY.size + len(MAGIC)
_STATISTICS = struct.Struct("<QHIIIIQQ")
_CHUNK_INDEX = struct.Struct("<QQQQ")
_INDEX_HEAD = struct.Struct("<BQH")
_CHANNEL_ENTRY = struct.Struct("<HQ")
_PIECE_BYTES = 1 << 20
# Beyond this no chunk of ours goes; a greater size is a damaged one.
_CHUNK_LIMIT_BYTES = 1 << 31
# What may stand between the header and the end of the data.
_DATA_RECORDS = frozenset((SCHEMA, CHANNEL, MESSAGE, CHUNK, MESSAGE_INDEX, ATTACHMENT, METADATA))
# A chunk record's first nine bytes: opcode and a length under 2^40.
_CHUNK_START = re.compile(rb"\x06.{5}\x00\x00\x00", re.DOTALL)


class UnreadableFile(CaptureError):
    """A file that is not a whole MCAP file; the message says where."""


@dataclass(frozen=True)
class ChunkPlace:
    """A chunk as the summary has it: offsets from the start of the file, lengths with the record's head."""

    first_ns: int
    last_ns: int
    offset: int
    length: int
    indexes: Mapping[int, int]
    index_length: int
    compression: str
    stored_size: int
    size: int


@dataclass(frozen=True)
class Summary:
    """What stands at the end of a file; `channels`: topic by id, `counts`: messages by channel id.

    `definitions`: its schemas and channels as they are, schemas first.
    """

    start: int
    messages: int
    first_ns: int
    last_ns: int
    schemas: int
    channels: Mapping[int, str]
    definitions: tuple[SchemaRecord | ChannelRecord, ...]
    counts: Mapping[int, int]
    chunks: tuple[ChunkPlace, ...]
    attachments: tuple[tuple[int, int], ...]
    metadata: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class SchemaRecord:
    id: int
    name: str
    encoding: str
    data: bytes


@dataclass(frozen=True)
class ChannelRecord:
    id: int
    schema_id: int
    topic: str
    message_encoding: str
    metadata: Mapping[str, str]


@dataclass(frozen=True)
class MessageRecord:
    channel_id: int
    sequence: int
    log_ns: int
    publish_ns: int
    data: memoryview


@dataclass(frozen=True)
class AttachmentRecord:
    log_ns: int
    create_ns: int
    name: str
    media_type: str
    data: bytes


@dataclass(frozen=True)
class MetadataRecord:
    name: str
    values: Mapping[str, str]


@dataclass(frozen=True)
class Damage:
    """Bytes that had to be left out; `messages` by channel id, where their index still tells."""

    offset: int
    size: int
    reason: str
    messages: Mapping[int, int] = field(default_factory=dict)


Record: TypeAlias = (
    "SchemaRecord | ChannelRecord | MessageRecord | AttachmentRecord | MetadataRecord | Damage"
)


class _Fields:
    """Walks over the fields of one record. Raises `UnreadableFile` where they do not fit into it."""

    def __init__(self, body: bytes | memoryview, offset: int = 0) -> None:
        self.body = body
        self.offset = offset

    def take(self, layout: struct.Struct) -> tuple[int, ...]:
        end = self.offset + layout.size
        if end > len(self.body):
            raise UnreadableFile("a record is shorter than its fields")
        values = layout.unpack_from(self.body, self.offset)
        self.offset = end
        return values

    def number(self, code: str) -> int:
        return self.take(struct.Struct("<" + code))[0]

    def sized(self, code: str = "I") -> bytes:
        size = self.number(code)
        end = self.offset + size
        if end > len(self.body):
            raise UnreadableFile("a record is shorter than its fields")
        data = bytes(self.body[self.offset : end])
        self.offset = end
        return data

    def text(self) -> str:
        try:
            return self.sized().decode("utf-8")
        except UnicodeDecodeError as error:
            raise UnreadableFile("a text is not UTF-8") from error

    def text_map(self) -> dict[str, str]:
        inner = _Fields(self.sized())
        values = {}
        while inner.offset < len(inner.body):
            key = inner.text()
            values[key] = inner.text()
        return values

    def number_map(self) -> dict[int, int]:
        data = self.sized()
        if len(data) % _CHANNEL_ENTRY.size:
            raise UnreadableFile("a map is shorter than its entries")
        return dict(_CHANNEL_ENTRY.iter_unpack(data))


class McapFile:
    """A file open for reading by offset. Use as a context manager. Raises `OSError` where the disk does."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        self.size = os.fstat(self._descriptor).st_size

    def __enter__(self) -> McapFile:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._descriptor)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes. Raises `UnreadableFile` where the file ends before."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise UnreadableFile(f"{size} bytes at {offset} are beyond the end ({self.size})")
        parts = []
        while size:
            part = os.pread(self._descriptor, size, offset)
            if not part:
                raise UnreadableFile(f"the file became shorter than {offset} bytes")
            parts.append(part)
            offset += len(part)
            size -= len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def crc(self, offset: int, size: int, crc: int = 0) -> int:
        while size > 0:
            piece = self.read(offset, min(size, _PIECE_BYTES))
            crc = crc32(piece, crc)
            offset += len(piece)
            size -= len(piece)
        return crc

    def head(self, offset: int) -> tuple[int, int]:
        """Opcode and length of the record there. Raises `UnreadableFile` where it does not fit."""
        opcode, length = RECORD_HEAD.unpack(self.read(offset, RECORD_HEAD.size))
        if offset + RECORD_HEAD.size + length > self.size:
            raise UnreadableFile(f"the record at {offset} says {length} bytes, beyond the end")
        return opcode, length

    # Whole files ------------------------------------------------------------------------------------------

    def summary(self) -> Summary:
        """Raises `UnreadableFile` where the file is cut, or its summary does not have the CRC it should."""
        if self.size < len(MAGIC) + _TAIL_BYTES or self.read(0, len(MAGIC)) != MAGIC:
            raise UnreadableFile("does not begin as an MCAP file")
        tail = self.read(self.size - _TAIL_BYTES, _TAIL_BYTES)
        if not tail.endswith(MAGIC) or RECORD_HEAD.unpack_from(tail) != (FOOTER, FOOTER_BODY.size):
            raise UnreadableFile("has no footer")
        start, offsets_start, crc = FOOTER_BODY.unpack_from(tail, RECORD_HEAD.size)
        end = self.size - _TAIL_BYTES
        if not len(MAGIC) <= start <= (offsets_start or end) <= end:
            raise UnreadableFile("its footer points outside of the file")
        body = self.read(start, end - start)
        if crc and crc32(tail[: RECORD_HEAD.size + 16], crc32(body)) != crc:
            raise UnreadableFile("the summary has another CRC than its footer says")
        return _parse_summary(body, start)

    def check_chunk(self, chunk: ChunkPlace, content: bool) -> None:
        """Raises `UnreadableFile` where a chunk is not what the summary says; ``content``: by its CRC too."""
        name = chunk.compression.encode()
        head_size = RECORD_HEAD.size + CHUNK_HEAD.size + 4 + len(name) + 8
        if self.head(chunk.offset) != (CHUNK, chunk.length - RECORD_HEAD.size):
            raise UnreadableFile(f"there is no chunk of {chunk.length} bytes at {chunk.offset}")
        fields = _Fields(self.read(chunk.offset, head_size), RECORD_HEAD.size)
        first_ns, last_ns, size, crc = fields.take(CHUNK_HEAD)
        compression = fields.text()
        stored = fields.number("Q")
        said = (chunk.first_ns, chunk.last_ns, chunk.size, chunk.compression, chunk.stored_size)
        if (first_ns, last_ns, size, compression, stored) != said or head_size + stored != chunk.length:
            raise UnreadableFile(f"the chunk at {chunk.offset} is another than the summary says")
        place = chunk.offset + chunk.length
        # In one piece: there may be thousands of indexes in a file.
        indexes = self.read(place, chunk.index_length)
        at = 0
        for channel_id, offset in sorted(chunk.indexes.items(), key=lambda item: item[1]):
            head = (
                _INDEX_HEAD.unpack_from(indexes, at) if at + _INDEX_HEAD.size <= len(indexes) else (0, 0, 0)
            )
            if (offset, head[0], head[2]) != (place + at, MESSAGE_INDEX, channel_id):
                raise UnreadableFile(f"there is no index of channel {channel_id} at {offset}")
            at += RECORD_HEAD.size + head[1]
        if at != chunk.index_length:
            raise UnreadableFile(f"the indexes of the chunk at {chunk.offset} have another length")
        if content and crc:
            data_at = chunk.offset + head_size
            if compression:
                found = crc32(_decompress(self.read(data_at, stored), compression, size))
            else:
                found = self.crc(data_at, stored)
            if found != crc:
                raise UnreadableFile(f"the chunk at {chunk.offset} has another CRC than it says")

    def chunk_records(self, chunk: ChunkPlace) -> Iterator[Record]:
        """Schemas, channels and messages of a chunk. Raises `UnreadableFile` where its CRC is another."""
        opcode, length = self.head(chunk.offset)
        if opcode != CHUNK:
            raise UnreadableFile(f"there is no chunk at {chunk.offset}")
        yield from _chunk_records(self.read(chunk.offset + RECORD_HEAD.size, length))

    def record_at(self, place: tuple[int, int]) -> Record:
        """The attachment or metadata record that a `Summary` names. Raises `UnreadableFile`."""
        offset, length = place
        if offset + length > self.size or length < RECORD_HEAD.size:
            raise UnreadableFile(f"there is no record of {length} bytes at {offset}")
        opcode, _ = self.head(offset)
        found = next(iter(self._records(opcode, offset, length - RECORD_HEAD.size)), None)
        if found is None:
            raise UnreadableFile(f"there is no record at {offset}")
        return found

    def check_attachment(self, offset: int, length: int) -> None:
        """Raises `UnreadableFile` where there is no whole attachment."""
        if self.head(offset) != (ATTACHMENT, length - RECORD_HEAD.size):
            raise UnreadableFile(f"there is no attachment of {length} bytes at {offset}")
        (crc,) = struct.unpack("<I", self.read(offset + length - 4, 4))
        if crc and self.crc(offset + RECORD_HEAD.size, length - RECORD_HEAD.size - 4) != crc:
            raise UnreadableFile(f"the attachment at {offset} has another CRC than it says")

    def check(self, whole_bytes: int) -> Summary:
        """Check the file against its own indexes and CRCs. Raises `UnreadableFile`.

        Summary, chunk heads, message indexes and attachments always; a file of at most ``whole_bytes`` whole,
        by the one CRC over all its data; of a larger one chunks spread evenly over it, as many as allowed.
        """
        summary = self.summary()
        ends = [chunk.offset + chunk.length + chunk.index_length for chunk in summary.chunks]
        if ends and max(ends) > summary.start:
            raise UnreadableFile("a chunk lies behind the summary")
        if sum(summary.counts.values()) != summary.messages:
            raise UnreadableFile("the numbers of messages in the summary do not add up")
        end_at = summary.start - RECORD_HEAD.size - 4
        if self.head(end_at) != (DATA_END, 4):
            raise UnreadableFile("the summary does not follow the end of the data")
        (crc,) = struct.unpack("<I", self.read(end_at + RECORD_HEAD.size, 4))
        whole = bool(crc) and end_at <= whole_bytes
        if whole and self.crc(0, end_at) != crc:
            raise UnreadableFile("the data have another CRC than their end says")
        stored = sum(chunk.stored_size for chunk in summary.chunks)
        step = max(1, -(-stored // max(1, whole_bytes)))
        last = len(summary.chunks) - 1
        for n, chunk in enumerate(summary.chunks):
            self.check_chunk(chunk, content=not whole and (n % step == 0 or n == last))
        for offset, length in summary.attachments:
            self.check_attachment(offset, length)
        for offset, length in summary.metadata:
            if self.head(offset) != (METADATA, length - RECORD_HEAD.size):
                raise UnreadableFile(f"there is no metadata of {length} bytes at {offset}")
        return summary

    @property
    def header_end(self) -> int:
        """Where the data section begins, 0 where not even the header is whole."""
        try:
            opcode, length = self.head(len(MAGIC))
            whole = self.read(0, len(MAGIC)) == MAGIC and opcode == HEADER
        except UnreadableFile:
            return 0
        return len(MAGIC) + RECORD_HEAD.size + length if whole else 0

    # Cut and damaged files --------------------------------------------------------------------------------

    def salvage(self) -> Generator[Record, None, str]:
        """Everything that can be trusted, in the order of the file; the value says how the file ends.

        A damaged chunk is left out and the search goes on behind it; messages are only taken from chunks
        with the CRC they should have. A file without a whole header gives nothing.
        """
        offset = self.header_end
        if not offset:
            return "it has no whole header"
        # The chunk before was damaged: the indexes behind it tell what was in it.
        damaged: Damage | None = None
        lost: dict[int, int] = {}
        while offset < self.size:
            try:
                opcode, length = self.head(offset)
                end = offset + RECORD_HEAD.size + length
                if opcode == DATA_END:
                    if damaged is not None:
                        yield Damage(damaged.offset, damaged.size, damaged.reason, lost)
                    return "whole to its end"
                if opcode not in _DATA_RECORDS:
                    raise UnreadableFile(f"no record begins with {opcode:#04x}")
            except UnreadableFile as error:
                if damaged is not None:
                    yield Damage(damaged.offset, damaged.size, damaged.reason, lost)
                    damaged, lost = None, {}
                found = self._next_chunk(offset + 1)
                if found is None:
                    return f"cut at byte {offset} of {self.size}: {error}"
                yield Damage(offset, found - offset, str(error))
                offset = found
                continue
            if opcode == MESSAGE_INDEX:
                if damaged is not None:
                    self._count_lost(offset, length, lost)
                offset = end
                continue
            if damaged is not None:
                yield Damage(damaged.offset, damaged.size, damaged.reason, lost)
                damaged, lost = None, {}
            try:
                yield from self._records(opcode, offset, length)
            except UnreadableFile as error:
                damaged = Damage(offset, end - offset, f"byte {offset}: {error}")
            offset = end
        if damaged is not None:
            yield Damage(damaged.offset, damaged.size, damaged.reason, lost)
        return f"cut at byte {offset} of {self.size}: end of file"

    def _records(self, opcode: int, offset: int, length: int) -> Iterator[Record]:
        body = self.read(offset + RECORD_HEAD.size, length)
        if opcode == CHUNK:
            yield from _chunk_records(body)
        elif opcode == MESSAGE:
            yield _message(memoryview(self.read(offset, RECORD_HEAD.size + length)))
        elif opcode == ATTACHMENT:
            yield _attachment(body)
        elif opcode in (SCHEMA, CHANNEL, METADATA):
            yield _definition(opcode, body)

    def _count_lost(self, offset: int, length: int, lost: dict[int, int]) -> None:
        fields = _Fields(self.read(offset + RECORD_HEAD.size, length))
        try:
            channel_id = fields.number("H")
            lost[channel_id] = lost.get(channel_id, 0) + len(fields.sized()) // 16
        except UnreadableFile:
            # The index of a chunk that is lost anyway: then its number of messages is not known.
            return

    def _next_chunk(self, offset: int) -> int | None:
        """Where the next whole chunk begins, found by what a chunk looks like."""
        while offset < self.size:
            window = self.read(offset, min(_PIECE_BYTES, self.size - offset))
            for match in _CHUNK_START.finditer(window):
                place = offset + match.start()
                try:
                    _, length = self.head(place)
                    head = self.read(place + RECORD_HEAD.size, min(length, CHUNK_HEAD.size + 24))
                    fields = _Fields(head, CHUNK_HEAD.size)
                    name = fields.sized()
                    if name in (b"", b"lz4", b"zstd") and fields.number("Q") == length - fields.offset:
                        for _ in _chunk_records(self.read(place + RECORD_HEAD.size, length)):
                            return place
                except UnreadableFile:
                    continue
            if offset + len(window) >= self.size:
                return None
            offset += len(window) - RECORD_HEAD.size
        return None


def _parse_summary(body: bytes, start: int) -> Summary:
    channels: dict[int, str] = {}
    schemas: list[SchemaRecord] = []
    described: list[ChannelRecord] = []
    chunks = []
    attachments: list[tuple[int, int]] = []
    metadata: list[tuple[int, int]] = []
    statistics: tuple[int, ...] | None = None
    counts: dict[int, int] = {}
    offset = 0
    while offset < len(body):
        fields = _Fields(body, offset)
        opcode, length = fields.take(RECORD_HEAD)
        if fields.offset + length > len(body):
            raise UnreadableFile("a record of the summary is longer than the summary")
        offset = fields.offset + length
        if opcode in (SCHEMA, CHANNEL):
            found = _definition(opcode, bytes(body[fields.offset : offset]))
            if isinstance(found, ChannelRecord):
                channels[found.id] = found.topic
                described.append(found)
            elif isinstance(found, SchemaRecord):
                schemas.append(found)
        elif opcode == STATISTICS:
            statistics = fields.take(_STATISTICS)
            counts = fields.number_map()
        elif opcode == CHUNK_INDEX:
            first_ns, last_ns, place, size = fields.take(_CHUNK_INDEX)
            indexes = fields.number_map()
            index_length = fields.number("Q")
            compression = fields.text()
            stored, plain = fields.number("Q"), fields.number("Q")
            chunks.append(
                ChunkPlace(first_ns, last_ns, place, size, indexes, index_length, compression, stored, plain)
            )
        elif opcode in (ATTACHMENT_INDEX, METADATA_INDEX):
            places = attachments if opcode == ATTACHMENT_INDEX else metadata
            places.append((fields.number("Q"), fields.number("Q")))
    if statistics is None:
        raise UnreadableFile("the summary has no statistics")
    return Summary(
        start=start,
        messages=statistics[0],
        first_ns=statistics[6],
        last_ns=statistics[7],
        schemas=len(schemas),
        channels=channels,
        definitions=(*schemas, *described),
        counts=counts,
        chunks=tuple(chunks),
        attachments=tuple(attachments),
        metadata=tuple(metadata),
    )


def _decompress(data: bytes, compression: str, size: int) -> bytes:
    """Raises `UnreadableFile` where the result is not of that size."""
    try:
        if compression == "lz4":
            plain = bytes(lz4.frame.decompress(data))
        elif compression == "zstd":
            # Said in the data themselves, which may be damaged: memory is only taken where both agree.
            said = zstandard.get_frame_parameters(data).content_size
            if size > _CHUNK_LIMIT_BYTES or said not in (size, zstandard.CONTENTSIZE_UNKNOWN):
                raise UnreadableFile(f"zstd data do not have the {size} bytes that are said")
            plain = zstandard.ZstdDecompressor().decompress(data, max_output_size=size)
        else:
            raise UnreadableFile(f"compression {compression!r} is not known")
    except (RuntimeError, ValueError, MemoryError, zstandard.ZstdError) as error:
        raise UnreadableFile(f"{compression} data are damaged: {error}") from error
    if len(plain) != size:
        raise UnreadableFile(f"{compression} data are {len(plain)} bytes, {size} are said")
    return plain


def _chunk_records(body: bytes) -> Iterator[Record]:
    """The records of a chunk, after its CRC was found right. Raises `UnreadableFile` before the first."""
    fields = _Fields(body)
    _, _, size, crc = fields.take(CHUNK_HEAD)
    compression = fields.text()
    stored = fields.number("Q")
    if fields.offset + stored != len(body):
        raise UnreadableFile("a chunk says another length than its record")
    data = memoryview(body)[fields.offset :]
    if compression:
        data = memoryview(_decompress(bytes(data), compression, size))
    if len(data) != size or (crc and crc32(data) != crc):
        raise UnreadableFile("a chunk has another CRC than it says")
    records: list[Record] = []
    offset = 0
    while offset < size:
        if offset + RECORD_HEAD.size > size:
            raise UnreadableFile("a chunk ends within a record")
        opcode, length = RECORD_HEAD.unpack_from(data, offset)
        end = offset + RECORD_HEAD.size + length
        if end > size:
            raise UnreadableFile("a chunk ends within a record")
        if opcode == MESSAGE:
            records.append(_message(data[offset:end]))
        elif opcode in (SCHEMA, CHANNEL):
            records.append(_definition(opcode, bytes(data[offset + RECORD_HEAD.size : end])))
        offset = end
    yield from records


def _message(record: memoryview) -> MessageRecord:
    if len(record) < MESSAGE_HEAD.size:
        raise UnreadableFile("a message is shorter than its fields")
    _, _, channel_id, sequence, log_ns, publish_ns = MESSAGE_HEAD.unpack_from(record)
    return MessageRecord(channel_id, sequence, log_ns, publish_ns, record[MESSAGE_HEAD.size :])


def _definition(opcode: int, body: bytes) -> SchemaRecord | ChannelRecord | MetadataRecord:
    fields = _Fields(body)
    if opcode == SCHEMA:
        return SchemaRecord(fields.number("H"), fields.text(), fields.text(), fields.sized())
    if opcode == CHANNEL:
        return ChannelRecord(
            fields.number("H"), fields.number("H"), fields.text(), fields.text(), fields.text_map()
        )
    return MetadataRecord(fields.text(), fields.text_map())


def _attachment(body: bytes) -> AttachmentRecord:
    fields = _Fields(body)
    record = AttachmentRecord(
        fields.number("Q"), fields.number("Q"), fields.text(), fields.text(), fields.sized("Q")
    )
    crc = fields.number("I")
    if crc and crc32(body[: fields.offset - 4]) != crc:
        raise UnreadableFile("an attachment has another CRC than it says")
    return record
