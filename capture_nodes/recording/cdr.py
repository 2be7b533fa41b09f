"""Just enough CDR (little-endian XCDR1, what ROS 2 puts on the wire) to read what the recorder needs.

The recorder stores messages as they came; only joint states (for /tf), states, final counts and the frame
names of other people's /tf are read, at a cost that must not show beside the taking of messages, so no
message object is ever built.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError

Array = NDArray[np.float64]

ENCAPSULATION = b"\x00\x01\x00\x00"
HEADER_BYTES = len(ENCAPSULATION)

_UINT32 = struct.Struct("<I")
_STAMP = struct.Struct("<iI")


class MalformedMessage(CaptureError):
    """Bytes that are not the CDR of the type they are said to be."""


class CdrReader:
    """Walks over one message; alignment counts from the end of the encapsulation header.

    Every method raises `MalformedMessage` where the bytes end too early.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < HEADER_BYTES or data[:2] != ENCAPSULATION[:2]:
            raise MalformedMessage(
                f"message of {len(data)} bytes starts with {data[:4].hex()!r}: "
                "little-endian CDR (0001) is expected"
            )
        self._data = data
        self._offset = HEADER_BYTES

    @property
    def offset(self) -> int:
        """Bytes read so far, encapsulation header included."""
        return self._offset

    def uint32(self) -> int:
        return int(self._unpack(_UINT32, 4)[0])

    def int32(self) -> int:
        return int(self._unpack(struct.Struct("<i"), 4)[0])

    def byte(self) -> int:
        return int(self._unpack(struct.Struct("<B"), 1)[0])

    def stamp_ns(self) -> int:
        """A `builtin_interfaces/Time`."""
        seconds, nanoseconds = self._unpack(_STAMP, 4)
        return int(seconds) * 1_000_000_000 + int(nanoseconds)

    def string(self) -> str:
        length = self.uint32()
        raw = self._slice(length)
        return raw[:-1].decode("utf-8", errors="replace") if length else ""

    def string_sequence(self) -> tuple[str, ...]:
        count = self.uint32()
        # Each string takes at least its length word: a wild count is refused before anything is allocated.
        if count * 4 > len(self._data) - self._offset:
            raise MalformedMessage(f"a sequence of {count} strings does not fit into {len(self._data)} bytes")
        return tuple(self.string() for _ in range(count))

    def float64_values(self, count: int) -> Array:
        """The elements of a `float64` sequence whose length was read before."""
        if count == 0:
            return np.empty(0)
        self._align(8)
        return np.frombuffer(self._slice(count * 8), dtype="<f8")

    def float32_values(self, count: int) -> Array:
        """The elements of a `float32` sequence whose length was read before, as float64."""
        self._align(4)
        return np.frombuffer(self._slice(count * 4), dtype="<f4").astype(np.float64)

    def int32_values(self, count: int) -> tuple[int, ...]:
        """The elements of an `int32` sequence whose length was read before."""
        self._align(4)
        return tuple(np.frombuffer(self._slice(count * 4), dtype="<i4").tolist())

    def skip_float64(self, count: int) -> None:
        """Step over ``count`` (at least one) `float64` fields."""
        self._align(8)
        self._slice(count * 8)

    def _align(self, size: int) -> None:
        self._offset += -(self._offset - HEADER_BYTES) % size

    def _unpack(self, fmt: struct.Struct, alignment: int) -> tuple[int, ...]:
        self._align(alignment)
        start = self._offset
        if start + fmt.size > len(self._data):
            raise MalformedMessage(f"message ends at byte {len(self._data)}, {start + fmt.size} needed")
        self._offset = start + fmt.size
        return fmt.unpack_from(self._data, start)

    def _slice(self, length: int) -> bytes:
        start = self._offset
        if start + length > len(self._data):
            raise MalformedMessage(f"message ends at byte {len(self._data)}, {start + length} needed")
        self._offset = start + length
        return self._data[start : start + length]


@dataclass(frozen=True)
class JointSample:
    """Measured joints at `stamp_ns`: `names` (n), `positions` (n,) in rad or m."""

    stamp_ns: int
    names: tuple[str, ...]
    positions: Array


class JointStateReader:
    """Reads `sensor_msgs/JointState`; names seldom change and are parsed only when they do."""

    def __init__(self) -> None:
        self._head = b""
        self._names: tuple[str, ...] = ()
        self._positions_at = 0

    def read(self, data: bytes) -> JointSample:
        """The sample in ``data``. Raises `MalformedMessage`, also where a name has no position."""
        end = HEADER_BYTES + 8 + len(self._head)
        count = len(self._names)
        if (
            not count
            or data[HEADER_BYTES + 8 : end] != self._head
            or data[:2] != ENCAPSULATION[:2]
            or len(data) < self._positions_at + 8 * count
        ):
            return self._read_anew(data)
        seconds, nanoseconds = _STAMP.unpack_from(data, HEADER_BYTES)
        positions = np.frombuffer(data, dtype="<f8", count=count, offset=self._positions_at)
        return JointSample(seconds * 1_000_000_000 + nanoseconds, self._names, positions)

    def _read_anew(self, data: bytes) -> JointSample:
        reader = CdrReader(data)
        stamp_ns = reader.stamp_ns()
        reader.string()
        names = reader.string_sequence()
        count = reader.uint32()
        # The remembered head reaches over the count of positions, so that equal heads mean equal layout.
        head = data[HEADER_BYTES + 8 : reader.offset]
        positions = reader.float64_values(count)
        if len(positions) != len(names):
            raise MalformedMessage(f"joint state has {len(names)} names and {len(positions)} positions")
        self._head, self._names = head, names
        self._positions_at = reader.offset - 8 * count
        return JointSample(stamp_ns, names, positions)


@dataclass(frozen=True)
class Status:
    """A `diagnostic_msgs/DiagnosticStatus`."""

    level: int
    name: str
    message: str
    hardware_id: str
    values: dict[str, str]


def _status(reader: CdrReader) -> Status:
    level = reader.byte()
    name, message, hardware_id = reader.string(), reader.string(), reader.string()
    values = {}
    for _ in range(reader.uint32()):
        key = reader.string()
        values[key] = reader.string()
    return Status(level, name, message, hardware_id, values)


def read_status(data: bytes) -> Status:
    """A `diagnostic_msgs/DiagnosticStatus`. Raises `MalformedMessage`."""
    return _status(CdrReader(data))


def read_status_array(data: bytes) -> list[Status]:
    """The statuses of a `diagnostic_msgs/DiagnosticArray`. Raises `MalformedMessage`."""
    reader = CdrReader(data)
    reader.stamp_ns()
    reader.string()
    return [_status(reader) for _ in range(reader.uint32())]


def read_child_frames(data: bytes) -> frozenset[str]:
    """The child frames of a `tf2_msgs/TFMessage`. Raises `MalformedMessage`."""
    reader = CdrReader(data)
    children = []
    for _ in range(reader.uint32()):
        reader.stamp_ns()
        reader.string()
        children.append(reader.string())
        # Translation and rotation.
        reader.skip_float64(7)
    return frozenset(children)
