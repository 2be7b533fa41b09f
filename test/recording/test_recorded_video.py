"""Cameras through the encoding stage and the writer thread into a file, read by others and by `episodes`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory

from capture_nodes.recording.camera_encoding import CameraFigures, CameraSettings
from capture_nodes.recording.camera_image import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from capture_nodes.recording.encoding_threads import EncodingThreads
from capture_nodes.recording.episode_message import EpisodeMessage
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile
from capture_nodes.recording.message_schemas import schema_text
from capture_nodes.recording.stream_statistics import EpisodeCounts
from capture_nodes.recording.writer_thread import WriterThread
from episodes.bag import read_bag
from episodes.video import cameras, every_picture

WAIT_S = 60.0
START_NS = 1_700_000_000_123_456_789
FRAMES = 70


def picture(index: int, channels: int) -> np.ndarray:
    row, column = np.mgrid[0:46, 0:61]
    planes = [40 + 10 * k + (row + column + 2 * index) % 120 for k in range(channels)]
    return np.stack(planes, axis=-1).astype(np.uint8)


def test_what_is_recorded_is_what_was_seen(
    channel: Callable[[str, str], ChannelDescription],
    image_message: Callable[..., bytes],
    prefixes: list[Path],
    tmp_path: Path,
) -> None:
    """Three cameras, each in its form, and one whose picture changes its size on the way; odd sides."""
    forms = {
        "head": ("h264", "rgb8"),
        "left": ("jpeg", "bgr8"),
        "right": ("raw", "rgba8"),
        "extra": ("h264", "mono8"),
    }
    channels = {name: channel(f"/kestrel/camera/{name}/image", IMAGE) for name in forms}
    settings = {channels[name].topic: CameraSettings(encoding=form) for name, (form, _) in forms.items()}  # type: ignore[arg-type]
    refused: list[tuple[str, Exception]] = []
    writer = WriterThread(1 << 28, lambda topic, error: refused.append((topic, error)))
    stage = EncodingThreads(
        writer.put,
        lambda description: settings[description.topic],
        {name: schema_text(name, prefixes) for name in (COMPRESSED_IMAGE, COMPRESSED_VIDEO)},
        failed=lambda topic, error: refused.append((topic, error)),
    )
    file = EpisodeFile(tmp_path / "cameras.mcap")
    writer.submit(file.open).result(WAIT_S)
    counts = {name: EpisodeCounts(before=None) for name in forms}
    stamps = [START_NS + k * 33_333_333 for k in range(FRAMES)]
    seen: dict[str, list[np.ndarray]] = {name: [] for name in forms}
    for k, stamp in enumerate(stamps):
        for name, (_, encoding) in forms.items():
            pixels = picture(k, {"rgb8": 3, "bgr8": 3, "rgba8": 4, "mono8": 1}[encoding])
            if name == "extra" and k >= 40:
                pixels = pixels[:33]
            data = image_message(pixels, encoding, stamp, f"{name}_optical")
            message = EpisodeMessage(file, channels[name], stamp + 5, stamp + 1, k + 1, data, counts[name])  # type: ignore[arg-type]
            assert stage.put(message)
            rgb = pixels[:, :, ::-1] if encoding == "bgr8" else pixels[:, :, :3]
            seen[name].append(np.broadcast_to(rgb, (*pixels.shape[:2], 3)))
    done = threading.Event()
    figures: list[CameraFigures] = []

    def encoded(result: tuple[CameraFigures, ...]) -> None:
        figures.extend(result)
        done.set()

    stage.close(file, encoded)
    assert done.wait(WAIT_S)
    path = writer.submit(file.finish).result(WAIT_S)
    stage.stop()
    writer.stop()
    assert refused == []
    assert [each.lost_queue for each in counts.values()] == [0] * 4
    assert {f.topic.split("/")[3]: f.frames for f in figures} == {
        name: {form: FRAMES} for name, (form, _) in forms.items()
    }

    bag = read_bag(path)
    topics = {base.split("/")[3]: names for base, names in cameras(bag).items()}
    assert topics["head"] == ("/kestrel/camera/head/image/foxglove",)
    assert topics["left"] == ("/kestrel/camera/left/image/compressed",)
    assert topics["right"] == ("/kestrel/camera/right/image",)
    for name, (topic,) in topics.items():
        stream = bag.stream(topic)
        assert stream.stamp_ns is not None
        assert stream.stamp_ns.tolist() == stamps
        assert stream.log_ns.tolist() == [stamp + 5 for stamp in stamps]
        assert stream.sequence.tolist() == list(range(1, FRAMES + 1))
        assert stream.frame_ids == (f"{name}_optical",)
        shown = dict(every_picture(bag, topic))
        assert list(shown) == list(range(FRAMES))
        for k, pixels in shown.items():
            assert pixels.shape == seen[name][k].shape
            # The pattern has hard edges; what matters is that it is this frame, in its colours.
            assert np.abs(pixels.astype(int) - seen[name][k]).mean() < 9.0

    with path.open("rb") as opened:
        reader = make_reader(opened, validate_crcs=True, decoder_factories=[DecoderFactory()])
        videos = [
            message
            for schema, _, _, message in reader.iter_decoded_messages()
            if schema.name == COMPRESSED_VIDEO
        ]
    assert len(videos) == 2 * FRAMES
    assert {video.format for video in videos} == {"h264"}


@pytest.mark.parametrize("encoding", ["h264", "jpeg"])
def test_rosbags_reads_the_encoded_topics(
    channel: Callable[[str, str], ChannelDescription],
    image_message: Callable[..., bytes],
    prefixes: list[Path],
    tmp_path: Path,
    encoding: str,
) -> None:
    from rosbags.highlevel import AnyReader

    from capture_nodes.recording.camera_encoding import CameraEncoder

    schemas = {name: schema_text(name, prefixes) for name in (COMPRESSED_IMAGE, COMPRESSED_VIDEO)}
    settings = CameraSettings(encoding=encoding)  # type: ignore[arg-type]
    encoder = CameraEncoder(channel("/kestrel/camera/head/image", IMAGE), settings, schemas)
    file = EpisodeFile(tmp_path / "one.mcap")
    file.open()
    data = [image_message(picture(k, 3), "rgb8", START_NS + k) for k in range(5)]
    for k, message in enumerate(data):
        described, packet = encoder.encode(message, k)
        assert file.write(described, START_NS + k, START_NS + k, k, packet)
    path = file.finish()
    with AnyReader([path]) as bag:
        read = [bag.deserialize(raw, connection.msgtype) for connection, _, raw in bag.messages()]
    stamps = [m.timestamp if encoding == "h264" else m.header.stamp for m in read]
    assert [s.sec * 10**9 + s.nanosec for s in stamps] == [START_NS + k for k in range(5)]
