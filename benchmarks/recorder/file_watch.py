"""How long a message takes from its publisher into the file, seen from outside the recorder.

The size of the growing file is read every few milliseconds. Afterwards the chunks of the finished file say
which messages lie where (a rename moves nothing); a chunk was in the file at the first look at which the
file reached beyond its end. From then on whoever reads the file finds it, and it outlives a kill of the
recorder; an `fsync` is another matter. `publish_time` is what the publisher's middleware stamped, on the same
clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import lz4.frame
import numpy as np
import zstandard
from mcap.reader import make_reader
from numpy.typing import NDArray

_LOOK_S = 0.004
_MESSAGE = 0x05
_CHUNK_HEAD = 1 + 8
# Times, sizes and checksum before the name of the compression.
_CHUNK_FIXED = 8 + 8 + 8 + 4


@dataclass
class FileWatch:
    """Looks for the first file below ``folder`` that matches ``pattern`` and was not there before."""

    folder: Path
    pattern: str
    times_ns: list[int] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    # When it was gone: it has its final name.
    gone_ns: int = 0

    def __post_init__(self) -> None:
        self._before = set(self.folder.glob(self.pattern))
        self.path: Path | None = None
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.wait(_LOOK_S):
            if self.path is None:
                self.path = next((p for p in self.folder.glob(self.pattern) if p not in self._before), None)
                continue
            now_ns = time.time_ns()
            try:
                size = self.path.stat().st_size
            except FileNotFoundError:
                self.gone_ns = now_ns
                return
            if not self.sizes or size != self.sizes[-1]:
                self.times_ns.append(now_ns)
                self.sizes.append(size)

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


@dataclass(frozen=True)
class FileContent:
    """By topic: how many messages, their bytes, and how many of the publishers' numbers are missing between
    the first and the last. latency_s: of every message, by topic. last_log_ns: of all of them."""

    messages: dict[str, int]
    bytes: dict[str, int]
    missing: dict[str, int]
    latency_s: dict[str, NDArray[np.float64]]
    last_log_ns: int


def read_content(path: Path, watch: FileWatch) -> FileContent:
    """Reads every message of a finished file. Raises `mcap.exceptions.McapError` or `OSError`."""
    sizes = np.array(watch.sizes, np.int64)
    times_ns = np.array(watch.times_ns, np.int64)
    published: dict[int, list[int]] = {}
    arrived: dict[int, list[int]] = {}
    numbers: dict[int, list[int]] = {}
    total_bytes: dict[int, int] = {}
    last_log_ns = 0
    with path.open("rb") as stream:
        summary = make_reader(stream).get_summary()
        if summary is None:
            raise OSError(f"{path} has no summary")
        for index in sorted(summary.chunk_indexes, key=lambda chunk: chunk.chunk_start_offset):
            # Of a file that was still growing at the last look, the last chunks have no time.
            look = int(np.searchsorted(sizes, index.chunk_start_offset + index.chunk_length))
            at_ns = int(times_ns[look]) if look < len(times_ns) else 0
            stream.seek(index.chunk_start_offset)
            for channel, sequence, log_ns, publish_ns, size in _messages(stream.read(index.chunk_length)):
                published.setdefault(channel, []).append(publish_ns)
                arrived.setdefault(channel, []).append(at_ns)
                numbers.setdefault(channel, []).append(sequence)
                total_bytes[channel] = total_bytes.get(channel, 0) + size
                last_log_ns = max(last_log_ns, log_ns)
    topics = {channel: summary.channels[channel].topic for channel in numbers}
    latency: dict[str, NDArray[np.float64]] = {}
    for channel, topic in topics.items():
        at = np.array(arrived[channel], np.int64)
        taken_ns = (at - np.array(published[channel], np.int64))[at > 0]
        latency[topic] = taken_ns.astype(np.float64) * 1e-9
    return FileContent(
        {topic: len(numbers[channel]) for channel, topic in topics.items()},
        {topic: total_bytes[channel] for channel, topic in topics.items()},
        {topic: missing_numbers(numbers[channel]) for channel, topic in topics.items()},
        latency,
        last_log_ns,
    )


def missing_numbers(numbers: list[int]) -> int:
    """How many of the numbers from the least to the greatest are not among them."""
    return max(numbers) - min(numbers) + 1 - len(set(numbers))


def _messages(record: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Channel, sequence, log and publish time, size of data of every message in a chunk record."""
    begin = _CHUNK_HEAD + _CHUNK_FIXED
    length = int.from_bytes(record[begin : begin + 4], "little")
    compression = record[begin + 4 : begin + 4 + length].decode()
    data: bytes | memoryview = memoryview(record)[begin + 4 + length + 8 :]
    if compression == "lz4":
        data = lz4.frame.decompress(bytes(data))
    elif compression == "zstd":
        data = zstandard.ZstdDecompressor().decompress(
            bytes(data), max_output_size=int.from_bytes(record[25:33], "little")
        )
    elif compression:
        raise OSError(f"a chunk is compressed with {compression!r}; none, lz4 or zstd is expected")
    view, place = memoryview(data), 0
    while place < len(view):
        size = int.from_bytes(view[place + 1 : place + 9], "little")
        if view[place] == _MESSAGE:
            head = view[place + 9 : place + 31]
            yield (
                int.from_bytes(head[0:2], "little"),
                int.from_bytes(head[2:6], "little"),
                int.from_bytes(head[6:14], "little"),
                int.from_bytes(head[14:22], "little"),
                size - 22,
            )
        place += 9 + size
