"""Cameras that the recorder encodes: every episode whole, the counts those of the frames that came."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader

from capture_nodes.recording import camera_encoding
from capture_nodes.recording.camera_encoding import Encoding
from capture_nodes.recording.camera_image import IMAGE
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration, TopicRule
from capture_nodes.recording.stream import Stream
from capture_nodes.recording.video_encoder import IDR, nal_units
from episodes.bag import read_bag
from episodes.streams_check import expected_rate_hz
from episodes.video import every_picture

FIELDS = EpisodeFields(robot="kestrel", skill="lift")
TOPIC = "/kestrel/camera/head/image"
GID = bytes(range(16))
PERIOD_S = 0.02

Channel = Callable[[str, str], ChannelDescription]
Image = Callable[..., bytes]


class Camera:
    def __init__(self, recorder: Recorder, channel: Channel, image: Image, encoding: Encoding) -> None:
        self._recorder, self._image = recorder, image
        self._stream: Stream = recorder.streams.add(
            channel(TOPIC, IMAGE), rate_hz=50.0, priority=0, encoding=encoding
        )
        self.stamps: list[int] = []
        self.noisy = False

    def frame(self) -> None:
        row, column = np.mgrid[0:48, 0:64]
        pixels = np.stack([column * 4, row * 5, np.full_like(row, 9 * len(self.stamps) % 256)], axis=-1)
        if self.noisy:
            pixels = np.random.default_rng(len(self.stamps)).integers(0, 256, pixels.shape)
        stamp_ns = time.time_ns()
        self.stamps.append(stamp_ns)
        data = self._image(pixels.astype(np.uint8), "rgb8", stamp_ns)
        with self._recorder.taking():
            self._recorder.take(self._stream, data, stamp_ns, stamp_ns, len(self.stamps), GID)
            self._recorder.pass_done()
        time.sleep(PERIOD_S)

    def frames(self, count: int) -> None:
        for _ in range(count):
            self.frame()

    def until(self, result: Future[Path]) -> Path:
        end_s = time.monotonic() + 20
        while not result.done() and time.monotonic() < end_s:
            self.frame()
        return result.result(timeout=0)


@pytest.fixture
def make(tmp_path: Path) -> Any:
    made: list[Recorder] = []

    def recorder(encoding: Encoding, **changes: Any) -> Recorder:
        configuration = RecorderConfiguration(
            topics=(TopicRule(TOPIC, IMAGE, encoding=encoding),),
            min_free_bytes=0,
            pre_roll_s=0.1,
            post_roll_s=0.1,
            tail_s=0.5,
            **changes,
        )
        made.append(Recorder(tmp_path, configuration))
        return made[-1]

    yield recorder
    for each in made:
        each.close()


def _expected(camera: Camera, path: Path) -> list[int]:
    with path.open("rb") as stream:
        episode = next(m.metadata for m in make_reader(stream).iter_metadata() if m.name == "episode")
    return [ns for ns in camera.stamps if int(episode["start_ns"]) <= ns <= int(episode["end_ns"])]


@pytest.mark.parametrize(
    ("encoding", "suffix"), [("h264", "/foxglove"), ("jpeg", "/compressed"), ("raw", "")]
)
def test_every_frame_is_there_with_its_stamp(
    make: Callable[..., Recorder], channel: Channel, image_message: Image, encoding: Encoding, suffix: str
) -> None:
    recorder = make(encoding)
    camera = Camera(recorder, channel, image_message, encoding)
    camera.frames(10)
    recorder.start(FIELDS)
    camera.frames(20)
    path = camera.until(recorder.stop())
    bag = read_bag(path)
    assert list(bag.streams) == [TOPIC + suffix]
    stream = bag.streams[TOPIC + suffix]
    assert stream.stamp_ns is not None and stream.stamp_ns.tolist() == _expected(camera, path)
    assert (stream.counts.written, stream.counts.lost) == (stream.count, 0)
    assert expected_rate_hz(stream) == 50.0
    pictures = list(every_picture(bag, stream.topic))
    assert len(pictures) == stream.count and {p.shape for _, p in pictures} == {(48, 64, 3)}
    if encoding != "raw":
        said = bag.episode["cameras"][TOPIC]
        assert said["frames"] == {encoding: stream.count} and said["steps"] == []


def test_overlapping_episodes_each_begin_with_a_keyframe(
    make: Callable[..., Recorder], channel: Channel, image_message: Image
) -> None:
    recorder = make("h264")
    camera = Camera(recorder, channel, image_message, "h264")
    camera.frames(10)
    results = []
    for _ in range(3):
        recorder.start(FIELDS)
        camera.frames(3)
        results.append(recorder.stop())
    for result in results:
        path = camera.until(result)
        with path.open("rb") as stream:
            messages = [m for _, c, m in make_reader(stream).iter_messages() if c.topic.startswith(TOPIC)]
        assert len(messages) == len(_expected(camera, path))
        assert any(kind == IDR for kind, _ in nal_units(messages[0].data))


def test_an_encoder_that_fails_midway_loses_nothing(
    make: Callable[..., Recorder], channel: Channel, image_message: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The rest is recorded as JPEG, on a topic of its own, and the file says so."""
    recorder = make("h264")
    camera = Camera(recorder, channel, image_message, "h264")
    camera.frames(2)
    recorder.start(FIELDS)
    camera.frames(10)

    def fail(*_: Any) -> bytes:
        raise RuntimeError("no more")

    monkeypatch.setattr(camera_encoding.H264Encoder, "encode", fail)
    camera.frames(10)
    path = camera.until(recorder.stop())
    bag = read_bag(path)
    counts = {topic: stream.count for topic, stream in bag.streams.items()}
    assert set(counts) == {TOPIC + "/foxglove", TOPIC + "/compressed"}
    assert sum(counts.values()) == len(_expected(camera, path))
    for stream in bag.streams.values():
        assert stream.counts.written == stream.count and expected_rate_hz(stream) is None
    assert "no more" in bag.episode["cameras"][TOPIC]["steps"][0]
    assert any("no more" in note for note in recorder.notes)
    rows = [json.loads(row) for row in bag.metadata["streams"].values()]
    assert [row["taken_from"] for row in rows] == [TOPIC] and rows[0]["lost"] == 0


def test_an_encoded_frame_that_the_disk_is_too_slow_for_is_counted(
    make: Callable[..., Recorder], channel: Channel, image_message: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = make("jpeg", queue_limit_bytes=100_000)
    camera = Camera(recorder, channel, image_message, "jpeg")
    camera.noisy = True
    recorder.start(FIELDS)
    gate, working = threading.Event(), EpisodeParts.write

    def write(*arguments: Any) -> bool:
        assert gate.wait(20.0)
        return working(*arguments)

    monkeypatch.setattr(EpisodeParts, "write", write)
    camera.frames(60)
    gate.set()
    path = camera.until(recorder.stop())
    (row,) = (json.loads(row) for row in read_bag(path).metadata["streams"].values())
    assert row["received"] == len(_expected(camera, path))
    assert row["written"] < row["received"]
    assert row["lost"] == row["received"] - row["written"]
    assert row["lost_in"]["queue"] == row["lost"]


def test_video_goes_on_with_a_keyframe_where_encoded_frames_gave_way(
    make: Callable[..., Recorder], channel: Channel, image_message: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Joints need the room of frames that are encoded already, and the next ones build upon them."""
    recorder = make("h264", queue_limit_bytes=200_000)
    camera = Camera(recorder, channel, image_message, "h264")
    camera.noisy = True
    joints = recorder.streams.add(channel("/joints", "std_msgs/msg/String"))
    recorder.start(FIELDS)
    gate, working = threading.Event(), EpisodeParts.write

    def write(*arguments: Any) -> bool:
        assert gate.wait(20.0)
        return working(*arguments)

    monkeypatch.setattr(EpisodeParts, "write", write)
    camera.frames(20)
    sent = 0
    # Until something has given way, and on to where the camera itself would still be refused.
    while sent < 400 and not any(row.lost_queue for row in recorder.live()[0]):
        sent += 1
        with recorder.taking():
            now_ns = time.time_ns()
            recorder.take(joints, bytes(1_000), now_ns, now_ns, sent, bytes([7] * 16))
    lost = sum(row.lost_queue for row in recorder.live()[0])
    assert 0 < lost < 20
    gate.set()
    recorder._writer.submit(lambda: None).result(timeout=20.0)
    camera.frames(10)
    path = camera.until(recorder.stop())
    bag = read_bag(path)
    rows = {row["topic"]: row for row in (json.loads(row) for row in bag.metadata["streams"].values())}
    row = rows[TOPIC + "/foxglove"]
    assert rows["/joints"]["lost"] == 0 and rows["/joints"]["written"] == sent
    # And the one that was encoded upon them.
    assert row["lost_in"]["queue"] == row["lost"] == lost + 1 == bag.episode["cameras"][TOPIC]["lost_queue"]
    with path.open("rb") as stream:
        messages = [m for _, c, m in make_reader(stream).iter_messages() if c.topic.startswith(TOPIC)]
    assert len(messages) == row["written"] == len(list(every_picture(bag, TOPIC + "/foxglove")))
    numbers = [message.sequence for message in messages]
    (after,) = (k for k in range(1, len(numbers)) if numbers[k] != numbers[k - 1] + 1)
    assert numbers[after] - numbers[after - 1] == lost + 2
    assert any(kind == IDR for kind, _ in nal_units(messages[after].data))
