"""Fast decoding of the few ROS 2 messages the checks read in bulk.

Plain CDR, little endian, as every ROS 2 middleware on x86 and ARM writes it. Anything else goes
through `mcap_ros2` (see `Bag.decode`), which is complete but some fifty times slower. Offsets are
counted from byte 4, after the encapsulation header.

Every function raises `MalformedMessage` on data that ends early or is in another encapsulation.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]

_STAMP = struct.Struct("<iI")
_LENGTH = struct.Struct("<I")
_POSE = struct.Struct("<7d")
_NS = 1_000_000_000


class MalformedMessage(ValueError):
    """Bytes that are not the CDR message they are said to be."""


def _aligned(offset: int, size: int) -> int:
    """Next offset (from the start of the bytes) where a value of `size` bytes may stand."""
    return 4 + -(-(offset - 4) // size) * size


def _check_encapsulation(data: bytes) -> None:
    if len(data) < 4 or data[0] != 0 or data[1] != 1:
        raise MalformedMessage(f"encapsulation {data[:4].hex()} is not plain little-endian CDR (00010000)")


def _string(data: bytes, offset: int) -> tuple[str, int]:
    offset = _aligned(offset, 4)
    try:
        (length,) = _LENGTH.unpack_from(data, offset)
    except struct.error as error:
        raise MalformedMessage(f"string at byte {offset} lies beyond {len(data)} bytes") from error
    start = offset + 4
    end: int = start + length
    if end > len(data):
        raise MalformedMessage(f"string of {length} bytes at byte {offset} lies beyond {len(data)} bytes")
    return data[start:end].rstrip(b"\0").decode("utf-8", "replace"), end


def _count(data: bytes, offset: int) -> tuple[int, int]:
    offset = _aligned(offset, 4)
    try:
        (count,) = _LENGTH.unpack_from(data, offset)
    except struct.error as error:
        raise MalformedMessage(f"array at byte {offset} lies beyond {len(data)} bytes") from error
    return int(count), offset + 4


def _doubles(data: bytes, offset: int, count: int) -> tuple[Array, int]:
    if count == 0:
        return np.empty(0), offset
    offset = _aligned(offset, 8)
    if offset + 8 * count > len(data):
        raise MalformedMessage(f"{count} doubles at byte {offset} lie beyond {len(data)} bytes")
    return np.frombuffer(data, "<f8", count, offset), offset + 8 * count


def header(data: bytes) -> tuple[int, str, int]:
    """Stamp (ns), frame id and the offset after them, of a message that begins with a Header."""
    _check_encapsulation(data)
    try:
        seconds, nanoseconds = _STAMP.unpack_from(data, 4)
    except struct.error as error:
        raise MalformedMessage(f"{len(data)} bytes are too few for a header") from error
    frame, end = _string(data, 12)
    return seconds * _NS + nanoseconds, frame, end


def joint_state(data: bytes, offset: int) -> tuple[list[str], Array, Array, Array]:
    """Names, position, velocity, effort of a `sensor_msgs/JointState` whose header ends at `offset`.

    Effort is left empty where velocity is: some CDR writers pad an empty double array, some do not.
    """
    count, offset = _count(data, offset)
    names = []
    for _ in range(count):
        name, offset = _string(data, offset)
        names.append(name)
    arrays = []
    for _ in range(3):
        if offset >= len(data):
            arrays.append(np.empty(0))
            continue
        count, offset = _count(data, offset)
        values, offset = _doubles(data, offset, count)
        arrays.append(values)
        if count == 0:
            offset = len(data)
    return names, arrays[0], arrays[1], arrays[2]


def pose(data: bytes, offset: int) -> tuple[float, ...]:
    """``x y z qx qy qz qw`` of a `geometry_msgs/PoseStamped` whose header ends at `offset`."""
    return _seven(data, _aligned(offset, 8))


def _seven(data: bytes, offset: int) -> tuple[float, ...]:
    try:
        return _POSE.unpack_from(data, offset)
    except struct.error as error:
        raise MalformedMessage(f"pose at byte {offset} lies beyond {len(data)} bytes") from error


def wrench(data: bytes, offset: int) -> Array:
    """``fx fy fz tx ty tz`` of a `geometry_msgs/WrenchStamped` whose header ends at `offset`."""
    values, _ = _doubles(data, offset, 6)
    return values


def time_reference(data: bytes, offset: int) -> int:
    """`time_ref` (ns) of a `sensor_msgs/TimeReference` whose header ends at `offset`."""
    try:
        seconds, nanoseconds = _STAMP.unpack_from(data, _aligned(offset, 4))
    except struct.error as error:
        raise MalformedMessage(f"{len(data)} bytes are too few for a TimeReference") from error
    return int(seconds * _NS + nanoseconds)


def transforms(data: bytes) -> list[tuple[int, str, str, tuple[float, ...]]]:
    """(stamp ns, parent, child, ``x y z qx qy qz qw``) of every transform of a `tf2_msgs/TFMessage`."""
    _check_encapsulation(data)
    count, offset = _count(data, 4)
    result = []
    for _ in range(count):
        offset = _aligned(offset, 4)
        try:
            seconds, nanoseconds = _STAMP.unpack_from(data, offset)
        except struct.error as error:
            raise MalformedMessage(f"transform at byte {offset} lies beyond {len(data)} bytes") from error
        parent, offset = _string(data, offset + 8)
        child, offset = _string(data, offset)
        offset = _aligned(offset, 8)
        result.append((seconds * _NS + nanoseconds, parent, child, _seven(data, offset)))
        offset += 56
    return result


def image(data: bytes, offset: int) -> tuple[int, int, str, bool, int, NDArray[np.uint8]]:
    """Height, width, encoding, big endian, row step and bytes of a `sensor_msgs/Image`."""
    height, offset = _count(data, offset)
    width, offset = _count(data, offset)
    encoding, offset = _string(data, offset)
    if offset >= len(data):
        raise MalformedMessage(f"image ends after {len(data)} bytes, before its pixels")
    big_endian = bool(data[offset])
    step, offset = _count(data, offset + 1)
    count, offset = _count(data, offset)
    if offset + count > len(data):
        raise MalformedMessage(f"image of {count} bytes lies beyond {len(data)} bytes")
    return height, width, encoding, big_endian, step, np.frombuffer(data, np.uint8, count, offset)


def compressed_image(data: bytes, offset: int) -> tuple[str, bytes]:
    """Format and bytes of a `sensor_msgs/CompressedImage`."""
    form, offset = _string(data, offset)
    count, offset = _count(data, offset)
    if offset + count > len(data):
        raise MalformedMessage(f"image of {count} bytes lies beyond {len(data)} bytes")
    return form, data[offset : offset + count]


def compressed_video(data: bytes, offset: int) -> tuple[bytes, str]:
    """Bytes and format of a `foxglove_msgs/CompressedVideo` whose stamp and frame id end at `offset`."""
    count, offset = _count(data, offset)
    if offset + count > len(data):
        raise MalformedMessage(f"video of {count} bytes lies beyond {len(data)} bytes")
    return data[offset : offset + count], _string(data, offset + count)[0]


def begins_with_header(schema_text: str) -> bool:
    """Whether a `ros2msg` schema begins with a `std_msgs/Header`, or with a time and a frame id in its place.

    The types of `foxglove_msgs` do the latter; to CDR it is the same.
    """
    first: list[Sequence[str]] = []
    for line in schema_text.splitlines():
        words: Sequence[str] = line.split("#", 1)[0].split()
        if line.startswith("==="):
            break
        if len(words) < 2 or "=" in line.split("#", 1)[0]:
            continue
        first.append(words[:2])
        if len(first) == 2:
            break
    if not first:
        return False
    if first[0][0] in ("builtin_interfaces/Time", "builtin_interfaces/msg/Time"):
        return [list(words) for words in first[1:]] == [["string", "frame_id"]]
    return first[0][0] in ("std_msgs/Header", "std_msgs/msg/Header", "Header")
