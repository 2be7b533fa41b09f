"""`sensor_msgs/Image` as bytes, read in place; and its encoded forms as bytes.

Read: CDR of either byte order. Written: little-endian CDR of `foxglove_msgs/CompressedVideo` and
`sensor_msgs/CompressedImage`. Stamp and frame name pass through as the bits they came as.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.recording.cdr import ENCAPSULATION, HEADER_BYTES
from capture_nodes.recording.mcap_writer import Buffer

Pixels = NDArray[np.uint8]

IMAGE = "sensor_msgs/msg/Image"
COMPRESSED_IMAGE = "sensor_msgs/msg/CompressedImage"
COMPRESSED_VIDEO = "foxglove_msgs/msg/CompressedVideo"

# Encapsulations of plain CDR: no type of an image is aligned to more than 4 bytes, so all are alike.
_BYTE_ORDER: Mapping[bytes, str] = {b"\0\0": ">", b"\0\1": "<", b"\0\6": ">", b"\0\7": "<"}

# Bytes per pixel of what can be encoded with loss; everything else (depth above all) must not be.
COLOUR_ENCODINGS: Mapping[str, int] = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1}
# More than any camera has; beyond it a length word is a wrong one.
MOST_PIXELS = 1 << 28


class UnusableImage(CaptureError):
    """An image message that cannot be encoded: damaged, or of a kind that must not be."""


@dataclass(frozen=True)
class Image:
    """A `sensor_msgs/Image`; `pixels` looks into the message it was read from.

    `stamp` is the pair (seconds, nanoseconds) and `frame_id` the bytes without the closing zero.
    """

    stamp: tuple[int, int]
    frame_id: bytes
    height: int
    width: int
    encoding: str
    step: int
    pixels: Pixels

    @property
    def stamp_ns(self) -> int:
        return self.stamp[0] * 1_000_000_000 + self.stamp[1]

    def colour_rows(self) -> Pixels:
        """``(height, width * bytes per pixel)`` without what pads the rows. Raises `UnusableImage`."""
        depth = COLOUR_ENCODINGS.get(self.encoding)
        if depth is None:
            raise UnusableImage(
                f"image encoding {self.encoding!r} cannot be compressed with loss; "
                f"{', '.join(COLOUR_ENCODINGS)} can: record it raw"
            )
        return self.pixels.reshape(self.height, self.step)[:, : self.width * depth]


def read_image(data: Buffer) -> Image:
    """The image in ``data``. Raises `UnusableImage` where size, step and bytes do not fit each other."""
    try:
        order, word, stamp, frame_id, offset = _read_header(data)
        height, width = struct.unpack_from(order + "II", data, _aligned(offset))
        encoding, offset = _string(data, _aligned(offset) + 8, word)
        # One byte for the byte order of the pixels, which matters to nothing that is encoded here.
        offset = _aligned(offset + 1)
        step, count = struct.unpack_from(order + "II", data, offset)
    except struct.error:
        raise UnusableImage(f"image message ends after {len(data)} bytes, before its pixels") from None
    offset += 8
    name = encoding.decode("utf-8", "replace")
    what = f"image {width}x{height} {name!r}, step {step}"
    if offset + count > len(data):
        raise UnusableImage(f"{what}: {count} bytes of pixels announced, {len(data) - offset} are there")
    if not 0 < width * height <= MOST_PIXELS:
        raise UnusableImage(f"{what}: between 1 and {MOST_PIXELS} pixels are expected")
    depth = COLOUR_ENCODINGS.get(name, 1)
    if step < width * depth or count != step * height:
        raise UnusableImage(
            f"{what}: {count} bytes of pixels; a step of at least {width * depth} "
            f"and {step * height} bytes are expected"
        )
    pixels = np.frombuffer(data, np.uint8, count, offset)
    return Image(stamp, frame_id, height, width, name, step, pixels)


def _read_header(data: Buffer) -> tuple[str, struct.Struct, tuple[int, int], bytes, int]:
    """Byte order (of `struct`), a word in it, stamp, frame name, and where that ends.

    Raises `UnusableImage` where it is no CDR, `struct.error` where it is too short.
    """
    order = _BYTE_ORDER.get(bytes(data[:2]))
    if order is None:
        raise UnusableImage(
            f"image message of {len(data)} bytes starts with {data[:4].hex()!r}: CDR is expected"
        )
    word = struct.Struct(order + "I")
    seconds, nanoseconds = struct.unpack_from(order + "iI", data, HEADER_BYTES)
    frame_id, offset = _string(data, HEADER_BYTES + 8, word)
    return order, word, (seconds, nanoseconds), frame_id, offset


@dataclass(frozen=True)
class Picture:
    """A `sensor_msgs/CompressedImage`; `data` is the picture's file."""

    stamp_ns: int
    image_format: str
    data: bytes

    @property
    def is_jpeg(self) -> bool:
        return self.data[:3] == b"\xff\xd8\xff"


def read_picture(data: bytes) -> Picture:
    """The picture in the `sensor_msgs/CompressedImage` ``data``. Raises `UnusableImage`."""
    try:
        _, word, stamp, _, offset = _read_header(data)
        name, offset = _string(data, _aligned(offset), word)
        offset = _aligned(offset)
        (count,) = word.unpack_from(data, offset)
    except struct.error:
        raise UnusableImage(f"image message ends after {len(data)} bytes, before its picture") from None
    start = offset + 4
    if not 0 < count <= len(data) - start:
        raise UnusableImage(f"picture of {count} bytes announced, {len(data) - start} are there")
    stamp_ns = stamp[0] * 1_000_000_000 + stamp[1]
    return Picture(stamp_ns, name.decode("utf-8", "replace"), bytes(data[start : start + count]))


def compressed_video(image: Image, data: bytes, video_format: str = "h264") -> bytes:
    """CDR of the `foxglove_msgs/CompressedVideo` that holds ``data`` as the frame of ``image``."""
    return b"".join(
        (
            _header(image),
            _text(len(image.frame_id), image.frame_id),
            _U32.pack(len(data)),
            data,
            b"\0" * (-len(data) % 4),
            _closed(video_format),
        )
    )


def compressed_image(image: Image, data: bytes, image_format: str) -> bytes:
    """CDR of the `sensor_msgs/CompressedImage` that holds ``data`` as the picture of ``image``."""
    form = image_format.encode("ascii")
    return b"".join(
        (
            _header(image),
            _text(len(image.frame_id), image.frame_id),
            _text(len(form), form),
            _U32.pack(len(data)),
            data,
        )
    )


_U32 = struct.Struct("<I")
_STAMP = struct.Struct("<iI")


def _header(image: Image) -> bytes:
    return ENCAPSULATION + _STAMP.pack(*image.stamp)


def _text(length: int, text: bytes) -> bytes:
    """A string, and what pads it to where the next word stands."""
    return _U32.pack(length + 1) + text + b"\0" * (1 + -(length + 1) % 4)


def _closed(text: str) -> bytes:
    """A string at the end of a message: nothing is padded."""
    return _U32.pack(len(text) + 1) + text.encode("ascii") + b"\0"


def _aligned(offset: int) -> int:
    return offset + -(offset - HEADER_BYTES) % 4


def _string(data: Buffer, offset: int, word: struct.Struct) -> tuple[bytes, int]:
    (length,) = word.unpack_from(data, _aligned(offset))
    start = _aligned(offset) + 4
    if start + length > len(data):
        raise UnusableImage(f"a string of {length} bytes does not fit into a message of {len(data)}")
    return bytes(data[start : start + max(0, length - 1)]), start + length
