"""Images read in place and written encoded; rosbags serializes and reads back."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap_ros2.decoder import DecoderFactory
from PIL import Image as Pillow
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from capture_nodes.recording.camera_image import (
    COLOUR_ENCODINGS,
    COMPRESSED_VIDEO,
    UnusableImage,
    compressed_image,
    compressed_video,
    read_image,
)
from capture_nodes.recording.jpeg_encoder import encode_jpeg, jpeg_format
from capture_nodes.recording.message_schemas import schema_text

STORE = get_typestore(Stores.ROS2_HUMBLE)
VIDEO_FIELDS = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
STORE.register(get_types_from_msg(VIDEO_FIELDS, COMPRESSED_VIDEO))


def smooth(height: int, width: int, channels: int) -> np.ndarray:
    """A gradient in every channel, another in each; what JPEG keeps well."""
    row, column = np.mgrid[0:height, 0:width]
    planes = [(row * (k + 1) + column * (3 - k)) % 200 + 20 for k in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(
    width=st.integers(1, 40),
    height=st.integers(1, 40),
    encoding=st.sampled_from(sorted(COLOUR_ENCODINGS)),
    padding=st.integers(0, 9),
    little=st.booleans(),
    frame_id=st.text(max_size=9).filter(lambda text: "\0" not in text),
    stamp_ns=st.integers(-(2**31) * 10**9, (2**31) * 10**9 - 1),
)
def test_what_was_serialized_is_read(
    image_message: Callable[..., bytes],
    width: int,
    height: int,
    encoding: str,
    padding: int,
    little: bool,
    frame_id: str,
    stamp_ns: int,
) -> None:
    pixels = smooth(height, width, COLOUR_ENCODINGS[encoding])
    image = read_image(image_message(pixels, encoding, stamp_ns, frame_id, padding, little))
    assert (image.width, image.height, image.encoding) == (width, height, encoding)
    assert image.stamp_ns == stamp_ns
    assert image.frame_id == frame_id.encode()
    assert np.array_equal(image.colour_rows(), pixels.reshape(height, -1))


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    size=st.integers(0, 70),
    frame_id=st.text(max_size=9).filter(lambda text: "\0" not in text),
    stamp_ns=st.integers(-(2**31) * 10**9, (2**31) * 10**9 - 1),
)
def test_encoded_messages_are_read_by_others(
    image_message: Callable[..., bytes], size: int, frame_id: str, stamp_ns: int
) -> None:
    image = read_image(image_message(smooth(2, 2, 3), "rgb8", stamp_ns, frame_id))
    payload = bytes(range(1, size + 1))
    video = STORE.deserialize_cdr(compressed_video(image, payload), COMPRESSED_VIDEO)
    assert (video.timestamp.sec * 10**9 + video.timestamp.nanosec, video.frame_id) == (stamp_ns, frame_id)
    assert (bytes(video.data), video.format) == (payload, "h264")
    still = STORE.deserialize_cdr(
        compressed_image(image, payload, jpeg_format("rgb8")), "sensor_msgs/msg/CompressedImage"
    )
    assert still.header.stamp.sec * 10**9 + still.header.stamp.nanosec == stamp_ns
    assert (still.header.frame_id, still.format) == (frame_id, "rgb8; jpeg compressed bgr8")
    assert bytes(still.data) == payload


def test_the_schema_of_video_is_complete(prefixes: list[Path], image_message: Callable[..., bytes]) -> None:
    text = schema_text(COMPRESSED_VIDEO, prefixes)
    fields = [line.split() for line in text.split("=" * 80)[0].splitlines() if line]
    assert [name for _, name in fields] == ["timestamp", "frame_id", "data", "format"]
    assert "MSG: builtin_interfaces/Time\n" in text

    class SchemaRecord:
        id, name, encoding, data = 1, COMPRESSED_VIDEO, "ros2msg", text.encode()

    decode = DecoderFactory().decoder_for("cdr", SchemaRecord)
    assert decode is not None
    message = decode(compressed_video(read_image(image_message(smooth(2, 2, 3), stamp_ns=5)), b"abcde"))
    assert (message.timestamp.nanosec, bytes(message.data), message.format) == (5, b"abcde", "h264")


@pytest.mark.parametrize("little", [True, False])
def test_every_truncation_is_refused(image_message: Callable[..., bytes], little: bool) -> None:
    data = image_message(smooth(4, 5, 3), padding=2, little_endian=little)
    for length in range(len(data)):
        with pytest.raises(UnusableImage):
            read_image(data[:length])
    read_image(data)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (0, b"\2\0", "CDR is expected"),
        # After the header (stamp, "f"): height, width, encoding, byte order, step, count.
        (20, b"\0\0\0\0", "pixels are expected"),
        (20, b"\xff\xff\xff\xff", "pixels are expected"),
        (24, b"\xff\xff\xff\x7f", "pixels are expected"),
        (24, b"\6\0\0\0", "step of at least 18"),
        (28, b"\xff\xff\xff\xff", "string of 4294967295 bytes"),
        (40, b"\2\0\0\0", "step 2"),
        (40, b"\xff\xff\xff\xff", "step 4294967295"),
        (44, b"\xff\xff\xff\xff", "4294967295 bytes of pixels announced"),
        (44, b"\1\0\0\0", "1 bytes of pixels"),
    ],
)
def test_lengths_that_do_not_fit_are_named(
    image_message: Callable[..., bytes], offset: int, value: bytes, words: str
) -> None:
    data = bytearray(image_message(smooth(4, 5, 3), frame_id="f"))
    assert data[20:28] == b"\4\0\0\0\5\0\0\0"
    assert data[40:48] == b"\x0f\0\0\0\x3c\0\0\0"
    data[offset : offset + len(value)] = value
    with pytest.raises(UnusableImage, match=words):
        read_image(bytes(data))


def test_depth_is_never_compressed_with_loss(image_message: Callable[..., bytes]) -> None:
    depth = np.full((4, 6), np.nan, dtype="<f4")
    for pixels, encoding in ((depth, "32FC1"), (depth.astype("<f2").view("<u2"), "16UC1")):
        image = read_image(image_message(pixels, encoding))
        with pytest.raises(UnusableImage, match=f"{encoding}.*record it raw"):
            image.colour_rows()


@pytest.mark.parametrize("encoding", sorted(COLOUR_ENCODINGS))
@pytest.mark.parametrize("padding", [0, 5])
def test_jpeg_shows_the_picture_in_its_colours(
    image_message: Callable[..., bytes], encoding: str, padding: int
) -> None:
    pixels = np.zeros((33, 47, COLOUR_ENCODINGS[encoding]), dtype=np.uint8)
    pixels[:] = np.array([200, 120, 40, 255])[: pixels.shape[2]]
    picture = Pillow.open(
        io.BytesIO(encode_jpeg(read_image(image_message(pixels, encoding, 0, "", padding)), 90))
    )
    expected = {"rgb8": (200, 120, 40), "bgr8": (40, 120, 200), "mono8": (200, 200, 200)}
    wanted = expected[encoding.replace("a8", "8")]
    assert picture.size == (47, 33)
    assert np.abs(np.asarray(picture.convert("RGB")).astype(int) - wanted).max() <= 3


def test_the_format_is_that_of_image_transport() -> None:
    assert jpeg_format("mono8") == "mono8; jpeg compressed mono8"
    assert jpeg_format("bgra8") == "bgra8; jpeg compressed bgr8"


def test_an_image_is_read_where_it_is(image_message: Callable[..., bytes]) -> None:
    data = image_message(smooth(4, 6, 3), "bgr8", 7, "head")
    there, copied = read_image(memoryview(bytearray(data)).toreadonly()), read_image(data)
    assert (there.stamp, there.frame_id, there.encoding) == (copied.stamp, copied.frame_id, copied.encoding)
    np.testing.assert_array_equal(there.colour_rows(), copied.colour_rows())
    assert encode_jpeg(there, 90) == encode_jpeg(copied, 90)
