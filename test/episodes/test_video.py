"""Camera pictures out of a file, whatever form they were recorded in."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from mcap.writer import Writer
from PIL import Image as Pillow
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from capture_nodes.recording.camera_image import Image
from capture_nodes.recording.video_encoder import H264Encoder, VideoParameters
from episodes.bag import read_bag
from episodes.cdr import MalformedMessage, begins_with_header
from episodes.errors import EpisodeError
from episodes.message_types import COMPRESSED_VIDEO
from episodes.picture import draw_picture
from episodes.video import VideoDecoder, cameras, every_picture, pictures

STORE = get_typestore(Stores.ROS2_JAZZY)
FIELDS = "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
STORE.register(get_types_from_msg(FIELDS, COMPRESSED_VIDEO))
START_NS = 1_700_000_000_000_000_000
PERIOD_NS = 33_333_333
BASE = "/toy/camera/head/image"
VIDEO = BASE + "/foxglove"


def scene(index: int, height: int = 48, width: int = 64) -> np.ndarray:
    """A smooth pattern whose brightness tells the index."""
    row, column = np.mgrid[0:height, 0:width]
    level = 30 + (37 * index) % 180
    return np.stack([level + row // 2, level + column // 4, np.full_like(row, level)], axis=-1).astype(
        np.uint8
    )


@dataclass
class Frame:
    topic: str
    index: int
    message: Any


def make(name: str, **fields: Any) -> Any:
    return STORE.types[name](**fields)


def time(index: int) -> Any:
    now = START_NS + index * PERIOD_NS
    return make("builtin_interfaces/msg/Time", sec=now // 10**9, nanosec=now % 10**9)


def header(index: int) -> Any:
    return make("std_msgs/msg/Header", stamp=time(index), frame_id="camera")


def video(index: int, data: bytes, form: str = "h264") -> Frame:
    payload = np.frombuffer(data, np.uint8)
    message = make(COMPRESSED_VIDEO, timestamp=time(index), frame_id="camera", data=payload, format=form)
    return Frame(VIDEO, index, message)


def raw(index: int) -> Frame:
    pixels = scene(index)
    message = make(
        "sensor_msgs/msg/Image", header=header(index), height=48, width=64, encoding="rgb8", is_bigendian=0,
        step=192, data=pixels.reshape(-1),
    )  # fmt: skip
    return Frame(BASE, index, message)


def jpeg(index: int) -> Frame:
    target = io.BytesIO()
    Pillow.fromarray(scene(index)).save(target, "JPEG", quality=95)
    message = make(
        "sensor_msgs/msg/CompressedImage", header=header(index), format="rgb8; jpeg compressed bgr8",
        data=np.frombuffer(target.getvalue(), np.uint8),
    )  # fmt: skip
    return Frame(BASE + "/compressed", index, message)


def stream(first: int, last: int, height: int = 48, width: int = 64) -> list[Frame]:
    """Frames ``first`` to ``last`` (exclusive) of one encoder."""
    frames = []
    encoder: H264Encoder | None = None
    for k in range(first, last):
        pixels = scene(k, height, width)
        image = Image((0, k * PERIOD_NS), b"", height, width, "rgb8", width * 3, pixels.reshape(-1))
        encoder = encoder or H264Encoder(image, VideoParameters(crf=10.0, max_bits_per_pixel=24.0))
        frames.append(video(k, encoder.encode(image)))
    return frames


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., Path]:
    def write_file(frames: list[Frame], log_step_ns: int = PERIOD_NS, chunk_size: int = 20_000) -> Path:
        path = tmp_path / "video.mcap"
        with path.open("wb") as file:
            writer = Writer(file, chunk_size=chunk_size)
            writer.start(profile="ros2", library="test")
            channels: dict[str, int] = {}
            for frame in frames:
                name = frame.message.__msgtype__
                if frame.topic not in channels:
                    text, _ = STORE.generate_msgdef(name, ros_version=2)
                    schema = writer.register_schema(name, "ros2msg", text.encode())
                    channels[frame.topic] = writer.register_channel(frame.topic, "cdr", schema)
                data = bytes(STORE.serialize_cdr(frame.message, name))
                at = START_NS + frame.index * log_step_ns
                writer.add_message(channels[frame.topic], at, data, at, frame.index)
            writer.add_metadata("episode", {"robot": "toy"})
            writer.finish()
        return path

    return write_file


def shows(pixels: np.ndarray, index: int) -> bool:
    return bool(np.abs(pixels.astype(int) - scene(index, *pixels.shape[:2])).mean() < 5.0)


def test_any_frame_of_video_is_shown_alone(write: Callable[..., Path]) -> None:
    bag = read_bag(write(stream(0, 100)))
    for index in (0, 1, 29, 30, 31, 77, 99):
        found = pictures(bag, VIDEO, [index])
        assert list(found) == [index]
        assert shows(found[index], index)
    several = pictures(bag, VIDEO, [99, 5, 3, 45, 46, 5])
    assert sorted(several) == [3, 5, 45, 46, 99]
    assert all(shows(pixels, index) for index, pixels in several.items())


def test_only_what_a_frame_builds_on_is_decoded(
    write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    bag = read_bag(write(stream(0, 100)))
    decoded: list[bool] = []
    decode = VideoDecoder.decode

    def counted(self: VideoDecoder, message: bytes, wanted: bool = True) -> Any:
        decoded.append(wanted)
        return decode(self, message, wanted)

    monkeypatch.setattr(VideoDecoder, "decode", counted)
    pictures(bag, VIDEO, [65, 70, 95])
    # From the keyframes 60 and 90.
    assert decoded.count(True) == 3
    assert len(decoded) == 11 + 6


def test_every_frame_is_decoded_with_its_stamp(write: Callable[..., Path]) -> None:
    bag = read_bag(write(stream(0, 95)))
    shown = dict(every_picture(bag, VIDEO))
    assert list(shown) == list(range(95))
    assert all(shows(pixels, index) for index, pixels in shown.items())
    stamps = bag.stream(VIDEO).stamp_ns
    assert stamps is not None
    assert stamps.tolist() == [START_NS + k * PERIOD_NS for k in range(95)]
    assert bag.stream(VIDEO).frame_ids == ("camera",)


def test_messages_of_one_time_are_told_apart_by_their_order(write: Callable[..., Path]) -> None:
    bag = read_bag(write(stream(0, 50), log_step_ns=0))
    assert all(shows(pixels, index) for index, pixels in pictures(bag, VIDEO, [7, 33]).items())
    assert len(list(every_picture(bag, VIDEO))) == 50


@pytest.mark.parametrize(("height", "width"), [(47, 63), (47, 64), (48, 63), (1, 1)])
def test_odd_sizes_come_back_as_they_were(write: Callable[..., Path], height: int, width: int) -> None:
    bag = read_bag(write(stream(0, 40, height, width)))
    for _, pixels in every_picture(bag, VIDEO):
        assert pixels.shape == (height, width, 3)


def test_one_camera_in_three_forms(write: Callable[..., Path]) -> None:
    frames = [*stream(0, 20), *(jpeg(k) for k in range(20, 40)), *(raw(k) for k in range(40, 60))]
    bag = read_bag(write(frames))
    assert cameras(bag) == {BASE: (BASE, BASE + "/compressed", VIDEO)}
    for topic, first in ((VIDEO, 0), (BASE + "/compressed", 20), (BASE, 40)):
        found = dict(every_picture(bag, topic))
        assert sorted(found) == list(range(20))
        assert all(shows(pixels, first + k) for k, pixels in found.items())
        assert pictures(bag, topic, [3])[3].tolist() == found[3].tolist()
    with Pillow.open(draw_picture(bag)) as drawn:
        assert drawn.format == "PNG"
        assert len(drawn.convert("RGB").resize((160, 40)).getcolors(10_000) or ()) > 50


def test_frames_before_the_first_keyframe_cannot_be_shown(write: Callable[..., Path]) -> None:
    bag = read_bag(write([frame for frame in stream(0, 50) if frame.index >= 20]))
    assert pictures(bag, VIDEO, [5, 15]).keys() == {15}
    assert next(iter(every_picture(bag, VIDEO)))[0] == 10


def test_a_cut_off_file_shows_what_is_left(write: Callable[..., Path]) -> None:
    path = write(stream(0, 100), chunk_size=2000)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    bag = read_bag(path, allow_incomplete=True)
    count = bag.stream(VIDEO).count
    assert 20 < count < 100
    assert len(list(every_picture(bag, VIDEO))) == count
    assert shows(pictures(bag, VIDEO, [count - 1])[count - 1], count - 1)


@pytest.mark.parametrize(
    ("frame", "words"),
    [
        (video(3, b"no video at all"), "frame 3 cannot be decoded"),
        (video(3, b"\0\0\0\1\x65garbage"), "frame 3 cannot be decoded"),
        (video(3, b""), "frame 3 cannot be decoded"),
        (video(3, b"\0\0\0\1", "vp9"), "format 'vp9': h264 can be decoded"),
    ],
)
def test_what_is_no_video_is_named(write: Callable[..., Path], frame: Frame, words: str) -> None:
    bag = read_bag(write([*stream(0, 3), frame]))
    with pytest.raises(EpisodeError, match=words):
        pictures(bag, VIDEO, [3])
    with pytest.raises(EpisodeError, match=words):
        list(every_picture(bag, VIDEO))


def test_a_truncated_message_is_malformed() -> None:
    frame = stream(0, 1)[0]
    data = bytes(STORE.serialize_cdr(frame.message, COMPRESSED_VIDEO))
    assert VideoDecoder().decode(data) is not None
    for length in (0, 3, 11, 20, len(data) // 2):
        with pytest.raises(MalformedMessage):
            VideoDecoder().decode(data[:length])


def test_the_schema_counts_as_one_with_a_header() -> None:
    assert begins_with_header(FIELDS)
    assert not begins_with_header("builtin_interfaces/Time timestamp\nuint8[] data\n")
    assert not begins_with_header("builtin_interfaces/Time timestamp\n")


def test_the_size_note_is_that_of_the_recorder() -> None:
    from capture_nodes.recording import video_encoder
    from episodes import video as reader

    assert reader._SIZE_NOTE_UUID == video_encoder.SIZE_NOTE_UUID


def test_full_range_video_of_others_keeps_its_brightness() -> None:
    context = av.CodecContext.create("libx264", "w")
    context.width, context.height, context.pix_fmt = 64, 48, "yuvj420p"
    context.time_base = Fraction(1, 30)
    context.options = {"tune": "zerolatency", "crf": "5"}
    frame = av.VideoFrame.from_ndarray(scene(1), "rgb24").reformat(format="yuvj420p", dst_colorspace="itu601")
    frame.pts = 0
    (packet,) = context.encode(frame)
    message = bytes(STORE.serialize_cdr(video(0, bytes(packet)).message, COMPRESSED_VIDEO))
    pixels = VideoDecoder().decode(message)
    assert pixels is not None
    assert shows(pixels, 1)
