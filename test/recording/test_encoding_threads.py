"""The encoding stage: order, overlapping files, bounds, overload, what is counted."""

from __future__ import annotations

import gc
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.recording.camera_encoding import CameraEncoder, CameraFigures, CameraSettings, EncodingStep
from capture_nodes.recording.camera_image import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from capture_nodes.recording.encoding_threads import EncodingThreads
from capture_nodes.recording.episode_message import EpisodeMessage
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile
from capture_nodes.recording.message_schemas import schema_text
from capture_nodes.recording.stream_statistics import EpisodeCounts
from capture_nodes.recording.video_encoder import IDR, nal_units

WAIT_S = 60.0
PERIOD_NS = 33_333_333
CAMERAS = ("/r/camera/head/image", "/r/camera/left/image", "/r/camera/right/image")
CHANNELS = {topic: ChannelDescription(topic, IMAGE, "schema") for topic in CAMERAS}


class Written:
    """The writer's side; refuses what ``refuse`` says (by how many came before)."""

    def __init__(self) -> None:
        self.messages: dict[tuple[Path, str], list[tuple[int, int, int, bytes]]] = defaultdict(list)
        self.refuse: Callable[[int], bool] = lambda _: False
        self.count = 0
        self._lock = threading.Lock()

    def __call__(self, message: EpisodeMessage) -> bool:
        file, channel, log_ns, publish_ns, sequence, data, counts, _ = message
        with self._lock:
            self.count += 1
            if self.refuse(self.count):
                counts.lost_queue += 1
                return False
            self.messages[file.path, channel.topic].append((log_ns, publish_ns, sequence, data))
            return True

    def of(self, file: EpisodeFile, topic: str) -> list[tuple[int, int, int, bytes]]:
        return self.messages[file.path, topic]


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


class Stage:
    def __init__(self, schemas: dict[str, str], **options: object) -> None:
        self.written = Written()
        self.steps: list[EncodingStep] = []
        self.failures: list[tuple[str, Exception]] = []
        self.clock = Clock()
        self.settings = CameraSettings()
        self.counts = EpisodeCounts(before=None)
        self.threads = EncodingThreads(
            self.written,
            lambda channel: self.settings,
            schemas,
            told=self.steps.append,
            failed=lambda topic, error: self.failures.append((topic, error)),
            clock=self.clock,
            **options,  # type: ignore[arg-type]
        )

    def put(self, file: EpisodeFile, topic: str, index: int, data: bytes) -> bool:
        message = EpisodeMessage(file, CHANNELS[topic], 10 + index, 5 + index, index, data, self.counts)  # type: ignore[arg-type]
        return self.threads.put(message)

    def finish(self, file: EpisodeFile) -> tuple[CameraFigures, ...]:
        done = threading.Event()
        result: list[tuple[CameraFigures, ...]] = []

        def then(figures: tuple[CameraFigures, ...]) -> None:
            result.append(figures)
            done.set()

        self.threads.close(file, then)
        assert done.wait(WAIT_S)
        return result[0]


@pytest.fixture
def stage(prefixes: list[Path]) -> Iterator[Callable[..., Stage]]:
    schemas = {name: schema_text(name, prefixes) for name in (COMPRESSED_IMAGE, COMPRESSED_VIDEO)}
    made: list[Stage] = []

    def make(**options: object) -> Stage:
        made.append(Stage(schemas, **options))
        return made[-1]

    yield make
    for each in made:
        each.threads.stop()


@pytest.fixture
def frame(image_message: Callable[..., bytes]) -> Callable[[int], bytes]:
    random = np.random.default_rng(2)
    texture = random.integers(0, 255, (48, 80, 3), dtype=np.uint8)

    def make(index: int) -> bytes:
        return image_message(np.roll(texture, index, axis=1)[:, :64], "rgb8", index * PERIOD_NS)

    return make


class Held:
    """Holds every encoder before its next frame until released."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.gate = threading.Event()
        self.reached = threading.Semaphore(0)
        working = CameraEncoder.encode

        def encode(encoder: CameraEncoder, data: bytes, log_ns: int) -> tuple[ChannelDescription, bytes]:
            self.reached.release()
            assert self.gate.wait(WAIT_S)
            return working(encoder, data, log_ns)

        monkeypatch.setattr(CameraEncoder, "encode", encode)


def keyframes(messages: list[tuple[int, int, int, bytes]]) -> list[int]:
    return [sequence for _, _, sequence, data in messages if IDR in [kind for kind, _ in nal_units(data)]]


def test_order_stamps_and_numbers_of_every_camera_are_kept(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage(threads=3)
    file = EpisodeFile(tmp_path / "a.mcap")
    # A second of pre-roll at once, then the rest.
    for k in range(90):
        for topic in CAMERAS:
            assert here.put(file, topic, k, frame(k))
    figures = here.finish(file)
    for topic in CAMERAS:
        messages = here.written.of(file, f"{topic}/foxglove")
        assert [message[:3] for message in messages] == [(10 + k, 5 + k, k) for k in range(90)]
        assert keyframes(messages) == [0, 30, 60]
        seconds = [data[4:12] for *_, data in messages]
        assert seconds == [frame(k)[4:12] for k in range(90)]
    assert {f.topic: f.frames for f in figures} == {topic: {"h264": 90} for topic in CAMERAS}
    assert here.counts.lost_queue == 0
    assert here.steps == here.failures == []


def test_overlapping_files_each_begin_with_a_keyframe(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage()
    first, second = EpisodeFile(tmp_path / "a.mcap"), EpisodeFile(tmp_path / "b.mcap")
    topic = CAMERAS[0]
    for k in range(40):
        if k < 25:
            here.put(first, topic, k, frame(k))
        if k >= 13:
            here.put(second, topic, k, frame(k))
    here.finish(first)
    here.finish(second)
    assert [m[2] for m in here.written.of(first, topic + "/foxglove")] == list(range(25))
    assert [m[2] for m in here.written.of(second, topic + "/foxglove")] == list(range(13, 40))
    assert keyframes(here.written.of(second, topic + "/foxglove")) == [13]


def test_a_file_closes_once_all_of_it_is_written_and_not_for_others(
    stage: Callable[..., Stage],
    frame: Callable[[int], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch)
    here = stage(threads=1)
    busy, empty = EpisodeFile(tmp_path / "a.mcap"), EpisodeFile(tmp_path / "b.mcap")
    for k in range(3):
        here.put(busy, CAMERAS[0], k, frame(k))
    assert held.reached.acquire(timeout=WAIT_S)
    done: list[str] = []
    both = threading.Event()

    def ended(name: str) -> None:
        done.append(f"{name} {here.written.count}")
        if len(done) == 2:
            both.set()

    here.threads.close(busy, lambda figures: ended("busy"))
    here.threads.close(empty, lambda figures: ended("empty"))
    # Closed: what comes too late is refused and counted.
    assert not here.put(busy, CAMERAS[0], 3, frame(3))
    assert not here.put(empty, CAMERAS[0], 3, frame(3))
    assert here.counts.lost_queue == 2
    held.gate.set()
    assert both.wait(WAIT_S)
    assert "busy 3" in done
    assert not here.put(busy, CAMERAS[0], 4, frame(4))
    assert here.counts.lost_queue == 3
    with pytest.raises(ValueError, match=r"a\.mcap is closed already"):
        here.threads.close(busy, lambda figures: None)


def test_a_full_queue_refuses_and_counts_every_frame(
    stage: Callable[..., Stage],
    frame: Callable[[int], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch)
    size = len(frame(0))
    here = stage(queue_limit_bytes=5 * size + 1)
    file = EpisodeFile(tmp_path / "a.mcap")
    taken = [here.put(file, CAMERAS[0], k, frame(k)) for k in range(12)]
    # What is being encoded is still held, so it counts.
    assert taken == [True] * 5 + [False] * 7
    assert here.counts.lost_queue == 7
    held.gate.set()
    (figures,) = here.finish(file)
    assert sum(figures.frames.values()) == 5
    assert here.written.count == 5


def test_what_the_writer_refuses_is_counted_and_followed_by_a_keyframe(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage(threads=1)
    here.written.refuse = lambda count: count in (4, 5)
    file = EpisodeFile(tmp_path / "a.mcap")
    for k in range(10):
        assert here.put(file, CAMERAS[0], k, frame(k))
    here.finish(file)
    messages = here.written.of(file, CAMERAS[0] + "/foxglove")
    assert [m[2] for m in messages] == [0, 1, 2, 5, 6, 7, 8, 9]
    assert keyframes(messages) == [0, 5]
    assert here.counts.lost_queue == 2


def test_overload_takes_a_step_at_a_time_and_gives_each_its_chance(
    stage: Callable[..., Stage],
    frame: Callable[[int], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch)
    here = stage(threads=1, overload_s=2.0)
    file = EpisodeFile(tmp_path / "a.mcap")
    topic = CAMERAS[0]
    here.put(file, topic, 0, frame(0))
    assert held.reached.acquire(timeout=WAIT_S)
    for k in range(1, 6):
        here.put(file, topic, k, frame(k))
    # All five have waited too long, but they tell of one overload.
    here.clock.now_s += 2.5
    held.gate.set()
    for _ in range(5):
        assert held.reached.acquire(timeout=WAIT_S)
    here.finish(file)
    messages = here.written.of(file, topic + "/foxglove")
    assert [m[2] for m in messages] == [0, 1, 2, 3, 4, 5]
    assert keyframes(messages) == [0, 1]
    assert [(s.before, s.after, s.log_ns) for s in here.steps] == [("h264", "h264 ultrafast", 11)]
    assert "waited 2.5 s" in here.steps[0].reason
    # The next file begins anew with what was asked for.
    following = EpisodeFile(tmp_path / "b.mcap")
    here.put(following, topic, 9, frame(9))
    here.finish(following)
    assert [m[2] for m in here.written.of(following, topic + "/foxglove")] == [9]


def test_a_queue_that_is_nearly_full_is_an_overload_too(
    stage: Callable[..., Stage],
    frame: Callable[[int], bytes],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = Held(monkeypatch)
    here = stage(threads=1, queue_limit_bytes=8 * len(frame(0)) + 1)
    file = EpisodeFile(tmp_path / "a.mcap")
    here.put(file, CAMERAS[0], 0, frame(0))
    assert held.reached.acquire(timeout=WAIT_S)
    for k in range(1, 8):
        here.put(file, CAMERAS[0], k, frame(k))
    held.gate.set()
    (figures,) = here.finish(file)
    assert figures.frames == {"h264": 8}
    assert [step.log_ns for step in here.steps] == [11]
    assert "MB have room" in here.steps[0].reason
    assert here.counts.lost_queue == 0


def test_an_error_behind_the_encoder_is_told_and_the_frame_counted(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage()

    def broken(count: int) -> bool:
        if count == 2:
            raise OSError("gone")
        return False

    here.written.refuse = broken
    file = EpisodeFile(tmp_path / "a.mcap")
    for k in range(3):
        here.put(file, CAMERAS[0], k, frame(k))
    here.finish(file)
    assert [(topic, str(error)) for topic, error in here.failures] == [(CAMERAS[0], "gone")]
    assert here.counts.lost_queue == 1
    other = EpisodeFile(tmp_path / "b.mcap")
    here.threads.close(other, lambda figures: 1 / 0)  # type: ignore[arg-type, return-value]
    here.threads.stop()
    assert isinstance(here.failures[1][1], ZeroDivisionError)


def test_stopping_works_off_what_waits_and_takes_no_more(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage()
    file = EpisodeFile(tmp_path / "a.mcap")
    for k in range(20):
        here.put(file, CAMERAS[k % 3], k, frame(k))
    here.threads.stop()
    assert here.written.count == 20
    assert not here.put(file, CAMERAS[0], 20, frame(20))
    assert here.counts.lost_queue == 1


def test_files_that_are_closed_are_forgotten(
    stage: Callable[..., Stage], frame: Callable[[int], bytes], tmp_path: Path
) -> None:
    here = stage()
    for k in range(30):
        file = EpisodeFile(tmp_path / f"{k}.mcap")
        here.put(file, CAMERAS[0], k, frame(k))
        here.finish(file)
        del file
    # A file and its writer know each other.
    gc.collect()
    assert here.threads._lanes == {}
    assert len(here.threads._closed) <= 2
