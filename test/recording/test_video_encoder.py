"""H.264 streams, taken apart and decoded by FFmpeg's decoder, which encodes nothing here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.frame import PictureType
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.recording import video_encoder
from capture_nodes.recording.camera_image import COLOUR_ENCODINGS, Image, UnusableImage, read_image
from capture_nodes.recording.video_encoder import (
    IDR,
    LONGEST_GROUP,
    PPS,
    SIZE_NOTE_UUID,
    SOFTWARE,
    SPS,
    EncoderFailed,
    H264Encoder,
    VideoParameters,
    choose_encoder,
    nal_units,
    probe,
    size_note,
)

GOOD = VideoParameters(crf=12.0, max_bits_per_pixel=24.0)
PERIOD_NS = 33_333_333


def moving(index: int, height: int = 48, width: int = 64, channels: int = 3) -> np.ndarray:
    """A coloured pattern that moves by whole pixels."""
    row, column = np.mgrid[0:height, 0:width]
    planes = [128 + 90 * np.sin((row * (k + 1) + column + 2 * index) / 30.0 + k) for k in range(channels)]
    return np.rint(np.stack(planes, axis=-1)).astype(np.uint8)


def image(pixels: np.ndarray, stamp_ns: int = 0, encoding: str = "rgb8") -> Image:
    height, width, depth = pixels.shape
    stamp = (stamp_ns // 10**9, stamp_ns % 10**9)
    return Image(
        stamp, b"c", height, width, encoding, width * depth, np.ascontiguousarray(pixels).reshape(-1)
    )


def encoded(stamps_ns: list[int], height: int = 48, width: int = 64) -> list[bytes]:
    encoder = H264Encoder(image(moving(0, height, width)), GOOD)
    return [encoder.encode(image(moving(k, height, width), t)) for k, t in enumerate(stamps_ns)]


def decoded(packets: list[bytes]) -> list[av.VideoFrame]:
    """One frame from every packet at once, or the test fails."""
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1
    frames = []
    for packet in packets:
        here = decoder.decode(av.Packet(packet))
        assert len(here) == 1
        frames += here
    assert decoder.decode(None) == []
    return frames


def kinds(packet: bytes) -> list[int]:
    return [kind for kind, _ in nal_units(packet)]


def keyframes(packets: list[bytes]) -> list[int]:
    return [k for k, packet in enumerate(packets) if IDR in kinds(packet)]


def test_a_frame_in_is_a_packet_out_and_each_is_decoded() -> None:
    packets = encoded([k * PERIOD_NS for k in range(75)])
    assert keyframes(packets) == [0, 30, 60]
    for k in keyframes(packets):
        assert packets[k].startswith(b"\0\0\0\1")
        assert {SPS, PPS, IDR} <= set(kinds(packets[k]))
    for k, frame in enumerate(decoded(packets)):
        assert PictureType(frame.pict_type) in (PictureType.I, PictureType.P)
        assert np.abs(frame.to_ndarray(format="rgb24").astype(int) - moving(k)).mean() < 4.0


def test_decoding_may_begin_at_any_keyframe() -> None:
    packets = encoded([k * PERIOD_NS for k in range(70)])
    whole = [frame.to_ndarray(format="rgb24") for frame in decoded(packets)]
    for first in keyframes(packets):
        for frame, expected in zip(decoded(packets[first:]), whole[first:], strict=True):
            assert np.array_equal(frame.to_ndarray(format="rgb24"), expected)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    encoding=st.sampled_from(sorted(COLOUR_ENCODINGS)),
    padding=st.integers(0, 7),
    little=st.booleans(),
)
def test_every_size_and_encoding_keeps_its_picture(
    image_message: Callable[..., bytes], width: int, height: int, encoding: str, padding: int, little: bool
) -> None:
    """Also at odd sizes, where the frame has a column or row more, and each keyframe says so."""
    depth = COLOUR_ENCODINGS[encoding]
    pixels = np.zeros((height, width, depth), dtype=np.uint8)
    pixels[:] = np.array([190, 110, 60, 255])[:depth]
    packets = []
    encoder = None
    for k in range(3):
        source = read_image(image_message(pixels, encoding, k, "", padding, little))
        encoder = encoder or H264Encoder(source, GOOD)
        packets.append(encoder.encode(source, keyframe=k == 2))
    wanted = {"rgb8": (190, 110, 60), "bgr8": (60, 110, 190), "mono8": (190, 190, 190)}
    odd = bool(width % 2 or height % 2)
    for packet in packets:
        assert (size_note(width, height) in packet) == (odd and IDR in kinds(packet))
    for frame in decoded(packets):
        assert (frame.width, frame.height) == (width + width % 2, height + height % 2)
        shown = frame.to_ndarray(format="rgb24").astype(int)
        assert np.abs(shown - wanted[encoding.replace("a8", "8")]).max() <= 6


@settings(derandomize=True, max_examples=40, deadline=None)
@given(st.lists(st.integers(-200_000_000, 1_500_000_000), min_size=2, max_size=40))
def test_keyframes_are_a_second_apart_at_most(steps: list[int]) -> None:
    """By the stamps, whatever they do: also with holes, repetitions and jumps back."""
    stamps = [int(t) for t in np.cumsum([5_000_000_000, *steps])]
    packets = encoded(stamps, 16, 16)
    keys = keyframes(packets)
    assert keys[0] == 0
    for k, stamp in enumerate(stamps):
        key = max(key for key in keys if key <= k)
        assert k == key or (0 <= stamp - stamps[key] <= 1_000_000_000 and stamp >= stamps[k - 1])
    assert len(decoded(packets)) == len(stamps)


def test_a_regular_stream_has_no_more_keyframes_than_needed() -> None:
    assert len(keyframes(encoded([k * 50_000_000 for k in range(100)], 16, 16))) == 5


def test_keyframes_come_also_where_the_stamps_stand_still() -> None:
    assert keyframes(encoded([0] * (LONGEST_GROUP + 5), 16, 16)) == [0, LONGEST_GROUP]


def test_colours_are_flagged_as_they_are() -> None:
    (frame,) = decoded(encoded([0]))
    # ITU-T H.273: limited range, matrix of BT.601 (SMPTE 170M), primaries of BT.709, transfer of sRGB.
    assert (frame.color_range, frame.colorspace, frame.color_primaries, frame.color_trc) == (1, 6, 1, 13)
    assert frame.format.name == "yuv420p"


def test_another_size_or_encoding_is_another_stream() -> None:
    encoder = H264Encoder(image(moving(0)), GOOD)
    assert encoder.fits(image(moving(1)))
    assert not encoder.fits(image(moving(1, 50)))
    assert not encoder.fits(image(moving(1), encoding="bgr8"))


def test_the_cap_holds_on_noise() -> None:
    random = np.random.default_rng(5)
    parameters = VideoParameters(crf=10.0, max_bits_per_pixel=0.3)
    sizes = []
    encoder = None
    for k in range(90):
        source = image(random.integers(0, 256, (96, 128, 3), dtype=np.uint8), k * PERIOD_NS)
        encoder = encoder or H264Encoder(source, parameters, 30.0)
        sizes.append(len(encoder.encode(source)))
    assert 8 * sum(sizes[30:]) <= 1.1 * 0.3 * 96 * 128 * 60


def test_depth_and_unknown_encodings_are_refused_by_name() -> None:
    depth = image(np.zeros((4, 4, 4), dtype=np.uint8), encoding="32FC1")
    with pytest.raises(EncoderFailed, match="32FC1"):
        H264Encoder(depth, GOOD)
    encoder = H264Encoder(image(moving(0)), GOOD)
    with pytest.raises(UnusableImage, match="32FC1"):
        encoder.encode(depth)


def test_too_large_an_image_is_an_error_of_the_encoder() -> None:
    with pytest.raises(EncoderFailed, match="libx264 cannot encode 40000x2 rgb8"):
        H264Encoder(image(np.zeros((2, 40000, 3), dtype=np.uint8)), GOOD).encode(
            image(np.zeros((2, 40000, 3), dtype=np.uint8))
        )


def test_a_hardware_encoder_is_believed_only_when_it_worked() -> None:
    chosen = choose_encoder(VideoParameters(), ("h264_nowhere", SOFTWARE))
    assert chosen.codec == SOFTWARE
    assert list(chosen.rejected) == ["h264_nowhere"]
    assert "h264_nowhere" in str(chosen)
    assert choose_encoder(VideoParameters(hardware=False)).rejected == {}


def test_an_encoder_that_holds_frames_back_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    configure = video_encoder._configure

    def with_lookahead(*arguments: object) -> None:
        configure(*arguments)  # type: ignore[arg-type]
        context = arguments[0]
        context.options = {"preset": "medium", "bf": "0", "rc-lookahead": "10"}  # type: ignore[attr-defined]

    monkeypatch.setattr(video_encoder, "_configure", with_lookahead)
    with pytest.raises(EncoderFailed, match="0 packets for frame 0"):
        probe(SOFTWARE, VideoParameters())


def test_headers_that_are_not_repeated_are_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    configure = video_encoder._configure

    def with_global_header(*arguments: object) -> None:
        configure(*arguments)  # type: ignore[arg-type]
        arguments[0].flags |= av.codec.context.Flags.global_header  # type: ignore[attr-defined]

    monkeypatch.setattr(video_encoder, "_configure", with_global_header)
    with pytest.raises(EncoderFailed, match="NAL units"):
        probe(SOFTWARE, VideoParameters())


def test_without_pyav_the_error_names_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EncoderFailed, match=r"`av` \(PyAV\).*pip.*jpeg or raw"):
        H264Encoder(image(moving(0)), GOOD)


def test_parameters_are_checked_whole() -> None:
    assert VideoParameters().problems() == []
    bad = VideoParameters(preset="warp", crf=float("nan"), max_bits_per_pixel=0.0, keyframe_s=60.0)
    assert [text.split()[0] for text in bad.problems()] == [
        "preset", "crf", "max_bits_per_pixel", "keyframe_s",
    ]  # fmt: skip


def test_the_note_cannot_look_like_a_start_code() -> None:
    assert 0 not in SIZE_NOTE_UUID
    assert kinds(size_note(641, 479)) == [6]


def test_ffmpeg_decodes_every_frame(tmp_path: Path) -> None:
    ffprobe = shutil.which("ffprobe")
    if ffprobe is None:
        pytest.skip(
            "ffprobe is not installed: the decoder inside PyAV (the other tests) is the only one here"
        )
    path = tmp_path / "stream.h264"
    path.write_bytes(b"".join(encoded([k * PERIOD_NS for k in range(45)])))
    counted = subprocess.run(
        [ffprobe, "-v", "error", "-count_frames", "-show_entries", "stream=nb_read_frames,has_b_frames",
         "-of", "csv=p=0", str(path)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert counted.stderr == ""
    assert counted.stdout.strip() == "0,45"
