"""One camera into one file: the form it is recorded in, and every step down."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.recording import camera_encoding
from capture_nodes.recording.camera_encoding import CameraEncoder, CameraSettings, EncodingStep
from capture_nodes.recording.camera_image import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE, Image
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.message_schemas import schema_text
from capture_nodes.recording.video_encoder import SOFTWARE, EncoderFailed, H264Encoder, VideoParameters

TOPIC = "/kestrel/camera/head/image"
PICTURE = (np.arange(24 * 32 * 3) % 251).astype(np.uint8).reshape(24, 32, 3)
PERIOD_NS = 33_333_333


@pytest.fixture(scope="module")
def schemas(prefixes: list[Path]) -> dict[str, str]:
    return {name: schema_text(name, prefixes) for name in (COMPRESSED_IMAGE, COMPRESSED_VIDEO)}


class Camera:
    """An encoder, what it said, and what it gave: (topic, data) by frame."""

    def __init__(
        self, schemas: dict[str, str], settings: CameraSettings | None = None, codec: str = SOFTWARE
    ) -> None:
        self.steps: list[EncodingStep] = []
        metadata = {"offered_qos_profiles": "- depth: 5", "topic_type_hash": "RIHS01_of_an_image"}
        self.channel = ChannelDescription(TOPIC, IMAGE, "raw schema", metadata)
        self.encoder = CameraEncoder(
            self.channel, settings or CameraSettings(), schemas, codec, self.steps.append
        )
        self.topics: list[str] = []
        self.data: list[bytes] = []

    def frame(self, data: bytes) -> ChannelDescription:
        channel, encoded = self.encoder.encode(data, len(self.data))
        self.topics.append(channel.topic.removeprefix(TOPIC))
        self.data.append(encoded)
        return channel


def video_of(messages: list[bytes]) -> list[av.VideoFrame]:
    """Frames of CompressedVideo messages; the packet is found by its start code, the rest is ignored."""
    decoder = av.CodecContext.create("h264", "r")
    frames = []
    for message in messages:
        start = message.index(b"\0\0\0\1", 16)
        frames += decoder.decode(av.Packet(message[start : message.rindex(b"\5\0\0\0h264\0")]))
    return frames


@pytest.mark.parametrize(
    ("encoding", "suffix", "type_name"),
    [
        ("h264", "/foxglove", COMPRESSED_VIDEO),
        ("jpeg", "/compressed", COMPRESSED_IMAGE),
        ("raw", "", IMAGE),
    ],
)
def test_each_form_has_its_topic_and_type(
    schemas: dict[str, str], image_message: Callable[..., bytes], encoding: str, suffix: str, type_name: str
) -> None:
    camera = Camera(schemas, CameraSettings(encoding=encoding))  # type: ignore[arg-type]
    data = image_message(PICTURE)
    channel = camera.frame(data)
    assert (channel.topic, channel.type_name) == (TOPIC + suffix, type_name)
    assert channel.metadata["offered_qos_profiles"] == "- depth: 5"
    assert camera.frame(data) is not None
    assert camera.steps == []
    if encoding == "raw":
        assert channel is camera.channel
        assert camera.data[0] is data
    else:
        assert channel.schema_text == schemas[type_name]
        assert channel.metadata["encoded_from"] == TOPIC
        assert "topic_type_hash" not in channel.metadata
        assert b"camera_optical\0" in camera.data[0]
    figures = camera.encoder.figures
    assert figures.frames == {encoding: 2}
    assert (figures.bytes_in, figures.bytes_out) == (2 * len(data), sum(map(len, camera.data)))


def test_another_size_or_encoding_restarts_with_a_keyframe(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    camera = Camera(schemas)
    pictures = [(PICTURE, "rgb8"), (PICTURE, "rgb8"), (PICTURE, "bgr8"), (PICTURE[:20], "bgr8")]
    for k, (pixels, encoding) in enumerate(pictures):
        camera.frame(image_message(pixels, encoding, k * PERIOD_NS))
    assert camera.topics == ["/foxglove"] * 4
    assert camera.encoder.figures.keyframes == 3
    frames = video_of(camera.data)
    assert [(f.width, f.height) for f in frames] == [(32, 24)] * 3 + [(32, 20)]


@pytest.mark.parametrize("encoding", ["h264", "jpeg"])
def test_depth_stays_as_it_is_and_is_said_once(
    schemas: dict[str, str], image_message: Callable[..., bytes], encoding: str
) -> None:
    camera = Camera(schemas, CameraSettings(encoding=encoding))  # type: ignore[arg-type]
    depth = np.full((24, 32), np.nan, dtype="<f4")
    messages = [image_message(depth, "32FC1"), image_message(PICTURE[:, :, :2], "16UC1")]
    for data in messages:
        camera.frame(data)
    assert camera.topics == ["", ""]
    assert camera.data == messages
    assert [(step.before, step.after) for step in camera.steps] == [(encoding, "raw")]
    assert "32FC1" in camera.steps[0].reason
    assert camera.encoder.figures.unusable == 2


def test_a_damaged_frame_is_kept_and_the_stream_goes_on(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    camera = Camera(schemas)
    good = [image_message(PICTURE, "rgb8", k * PERIOD_NS) for k in range(4)]
    for data in (good[0], good[1][:-100], b"", good[2], good[3]):
        camera.frame(data)
    assert camera.topics == ["/foxglove", "", "", "/foxglove", "/foxglove"]
    assert camera.data[1] == good[1][:-100]
    assert camera.encoder.figures.unusable == 2
    assert "CDR is expected" in camera.encoder.figures.unusable_reason
    assert len(camera.steps) == 1
    assert len(video_of([camera.data[k] for k in (0, 3, 4)])) == 3


def test_a_failing_encoder_is_left_for_the_next_and_the_frame_is_kept(
    schemas: dict[str, str], image_message: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = Camera(schemas)
    working = H264Encoder.encode

    def failing(self: H264Encoder, image: Image, keyframe: bool = False) -> bytes:
        if image.stamp_ns >= 2 * PERIOD_NS:
            raise EncoderFailed("out of order")
        return working(self, image, keyframe)

    def no_jpeg(image: Image, quality: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(H264Encoder, "encode", failing)
    messages = [image_message(PICTURE, "rgb8", k * PERIOD_NS) for k in range(6)]
    for data in messages[:4]:
        camera.frame(data)
    monkeypatch.setattr(camera_encoding, "encode_jpeg", no_jpeg)
    for data in messages[4:]:
        camera.frame(data)
    assert camera.topics == ["/foxglove", "/foxglove", "/compressed", "/compressed", "", ""]
    assert camera.data[4:] == messages[4:]
    assert [(s.log_ns, s.before, s.after, s.reason) for s in camera.steps] == [
        (2, "h264", "jpeg", "out of order"),
        (4, "jpeg", "raw", "MemoryError()"),
    ]
    assert camera.encoder.figures.frames == {"h264": 2, "jpeg": 2, "raw": 2}
    assert "recorded as jpeg instead of h264: out of order" in str(camera.steps[0])


def test_hardware_that_fails_is_followed_by_software(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    camera = Camera(schemas, codec="h264_nowhere")
    channel = camera.frame(image_message(PICTURE))
    assert camera.topics == ["/foxglove"]
    assert [(s.before, s.after) for s in camera.steps] == [("h264_nowhere", SOFTWARE)]
    assert channel.metadata["encoder"] == camera.encoder.figures.encoder == SOFTWARE


def test_after_a_lost_frame_comes_a_keyframe(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    camera = Camera(schemas)
    for k in range(5):
        camera.frame(image_message(PICTURE, "rgb8", k * PERIOD_NS))
        if k == 2:
            camera.encoder.frame_lost()
    assert camera.encoder.figures.keyframes == 2
    assert len(video_of(camera.data[3:])) == 2


def test_a_camera_that_compresses_itself_is_taken_as_it_is(schemas: dict[str, str]) -> None:
    channel = ChannelDescription(TOPIC + "/compressed", COMPRESSED_IMAGE, "schema")
    encoder = CameraEncoder(channel, CameraSettings(), schemas)
    assert encoder.encode(b"\0\1\0\0anything", 1) == (channel, b"\0\1\0\0anything")
    assert encoder.figures.steps == []


def test_there_is_nothing_below_raw(schemas: dict[str, str], image_message: Callable[..., bytes]) -> None:
    camera = Camera(schemas)
    for _ in range(4):
        camera.encoder.step_down("overload", 7)
    assert [step.after for step in camera.steps] == ["h264 ultrafast", "jpeg", "raw"]
    camera.frame(image_message(PICTURE))
    assert camera.topics == [""]


def test_a_camera_goes_down_and_up_step_by_step_and_every_frame_can_be_read(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    camera = Camera(schemas)
    encoder = camera.encoder
    moves = [encoder.step_down] * 4 + [encoder.step_up] * 4
    for k, move in enumerate([None, *moves]):
        if move is not None:
            move("because", len(camera.data))
        for j in range(2):
            camera.frame(image_message(PICTURE, "rgb8", (2 * k + j) * PERIOD_NS))
    down, up = ["h264 ultrafast", "jpeg", "raw"], ["jpeg", "h264 ultrafast", "h264"]
    assert [step.after for step in camera.steps] == [*down, *up]
    assert [step.log_ns for step in camera.steps] == [2, 4, 6, 10, 12, 14]
    video, jpeg = ["/foxglove"], ["/compressed"]
    assert camera.topics == 4 * video + 2 * jpeg + 4 * [""] + 2 * jpeg + 6 * video
    # Each way of encoding begins so that a reader can begin there.
    for first in (0, 2, 12, 14):
        assert len(video_of(camera.data[first : first + 2])) == 2
    assert encoder.figures.keyframes == 4
    assert encoder.figures.raw_bytes == sum(map(len, camera.data[6:10]))
    assert not encoder.may_rise


def test_where_the_fastest_preset_is_asked_for_there_is_no_faster_one(
    schemas: dict[str, str], image_message: Callable[..., bytes]
) -> None:
    for codec, settings in (
        (SOFTWARE, CameraSettings(video=VideoParameters(preset="ultrafast"))),
        ("h264_nowhere", CameraSettings()),
        (SOFTWARE, CameraSettings(encoding="jpeg")),
    ):
        camera = Camera(schemas, settings, codec)
        camera.encoder.step_down("overload", 1)
        assert camera.steps[0].after == ("raw" if settings.encoding == "jpeg" else "jpeg")


def test_what_has_failed_is_not_tried_again(
    schemas: dict[str, str], image_message: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def failing(self: H264Encoder, image: Image, keyframe: bool = False) -> bytes:
        raise EncoderFailed("out of order")

    monkeypatch.setattr(H264Encoder, "encode", failing)
    camera = Camera(schemas)
    camera.frame(image_message(PICTURE))
    camera.encoder.step_up("calm", 1)
    assert camera.topics == ["/compressed"] and not camera.encoder.may_rise
    camera.encoder.step_down("overload", 1)
    camera.encoder.step_up("calm", 2)
    camera.encoder.step_up("calm", 3)
    assert [step.after for step in camera.steps] == ["jpeg", "raw", "jpeg"]


@pytest.mark.parametrize("frames", [0, 3])
def test_raw_for_want_of_time_is_bounded(
    schemas: dict[str, str], image_message: Callable[..., bytes], frames: int
) -> None:
    data = image_message(PICTURE)
    camera = Camera(schemas, CameraSettings(raw_limit_bytes=frames * len(data)))
    for _ in range(10):
        # Whatever the pace says.
        for _ in range(4):
            camera.encoder.step_down("overload", len(camera.data))
        camera.frame(data)
    assert camera.topics == frames * [""] + (10 - frames) * ["/compressed"]
    assert camera.encoder.figures.raw_bytes == frames * len(data)
    if frames:
        assert "MB raw are allowed" in camera.steps[-1].reason


def test_raw_is_not_bounded_where_it_is_asked_for_or_nothing_else_works(
    schemas: dict[str, str], image_message: Callable[..., bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_jpeg(image: Image, quality: int) -> bytes:
        raise MemoryError

    monkeypatch.setattr(camera_encoding, "encode_jpeg", no_jpeg)
    for encoding in ("raw", "jpeg"):
        camera = Camera(schemas, CameraSettings(encoding=encoding, raw_limit_bytes=1))  # type: ignore[arg-type]
        for _ in range(3):
            camera.frame(image_message(PICTURE))
        assert camera.topics == [""] * 3
        assert camera.encoder.figures.raw_bytes == 0


def test_settings_are_checked_whole(schemas: dict[str, str]) -> None:
    bad = CameraSettings("mpeg", -1.0, 101, VideoParameters(crf=99.0))  # type: ignore[arg-type]
    assert [text.split()[0] for text in bad.problems()] == ["crf", "encoding", "rate_hz", "jpeg_quality"]
    with pytest.raises(CaptureError, match=r"head/image: crf is 99.*encoding is 'mpeg'"):
        Camera(schemas, bad)
