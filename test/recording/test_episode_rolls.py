"""Episodes begin before their start and end after their stop, whatever else goes on."""

from __future__ import annotations

import json
import random
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, FileOptions
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.tf_stream import TF_TYPE, TfStream
from retargeting.robot_model import RobotModel

FIELDS = EpisodeFields(robot="kestrel", skill="lift")
STRING = "std_msgs/msg/String"
GIDS = [bytes([number] * 16) for number in range(3)]

Channel = Callable[[str, str], ChannelDescription]


class Middleware:
    """Publishers of /a that are taken in rounds, as the taking thread does; every message is remembered."""

    def __init__(self, recorder: Recorder, channel: Channel) -> None:
        self.recorder = recorder
        self.stream = recorder.streams.add(channel("/a", STRING), rate_hz=1000.0)
        self.sent: list[tuple[bytes, int, int]] = []
        self._numbers = dict.fromkeys(GIDS, 0)

    def round(self) -> None:
        with self.recorder.taking():
            for gid in GIDS:
                self._numbers[gid] += 1
                now_ns = time.time_ns()
                self.sent.append((gid, self._numbers[gid], now_ns))
                data = b"\0\1\0\0" + gid + self._numbers[gid].to_bytes(8, "little")
                self.recorder.take(self.stream, data, now_ns - 1000, now_ns, self._numbers[gid], gid)
            self.recorder.pass_done()
        time.sleep(0.0005)

    def run(self, seconds: float) -> None:
        end_s = time.monotonic() + seconds
        while time.monotonic() < end_s:
            self.round()

    def until(self, result: Future[Path], timeout_s: float = 10.0) -> Path:
        end_s = time.monotonic() + timeout_s
        while not result.done() and time.monotonic() < end_s:
            self.round()
        return result.result(timeout=0)

    def between(self, start_ns: int, end_ns: int) -> list[tuple[bytes, int]]:
        return sorted((gid, number) for gid, number, ns in self.sent if start_ns <= ns <= end_ns)


def _recorder(root: Path, **changes: Any) -> Recorder:
    values = {
        "topics": (),
        "min_free_bytes": 0,
        "file": FileOptions(flush_s=0.02),
        "pre_roll_s": 0.15,
        "post_roll_s": 0.1,
        **changes,
    }
    return Recorder(root, RecorderConfiguration(**values))


@pytest.fixture
def recorder(tmp_path: Path) -> Iterator[Recorder]:
    made = _recorder(tmp_path)
    yield made
    made.close()


def _read(path: Path) -> tuple[list[tuple[bytes, int]], dict[str, dict[str, str]]]:
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        found = sorted(
            (m.data[4:20], int.from_bytes(m.data[20:28], "little"))
            for _, c, m in reader.iter_messages()
            if c.topic == "/a"
        )
        return found, {m.name: m.metadata for m in reader.iter_metadata()}


def _check(path: Path, middleware: Middleware) -> dict[str, str]:
    found, metadata = _read(path)
    episode = metadata["episode"]
    assert found == middleware.between(int(episode["start_ns"]), int(episode["end_ns"]))
    rows = [json.loads(row) for row in metadata["streams"].values()]
    assert len(rows) == len(GIDS) and all(row["tail_known"] for row in rows)
    for row in rows:
        assert (row["lost"], row["published"]) == (0, row["received"]) and row["received"] == row["written"]
    return episode


def test_an_episode_reaches_from_before_its_start_to_after_its_stop(
    recorder: Recorder, channel: Channel
) -> None:
    middleware = Middleware(recorder, channel)
    middleware.run(0.3)
    before_ns = time.time_ns()
    recorder.start(FIELDS)
    middleware.run(0.1)
    result = recorder.stop(verdict="success")
    stopped_ns = time.time_ns()
    episode = _check(middleware.until(result), middleware)
    assert abs(int(episode["started_ns"]) - before_ns) < 50_000_000
    assert int(episode["started_ns"]) - int(episode["start_ns"]) == 150_000_000
    assert abs(int(episode["stopped_ns"]) - stopped_ns) < 50_000_000
    assert int(episode["end_ns"]) - int(episode["stopped_ns"]) == 100_000_000
    assert episode["verdict"] == "success"


def test_what_nobody_had_heard_cannot_be_in_the_pre_roll(recorder: Recorder, channel: Channel) -> None:
    """The recorder was there for a moment only: the file says from when on it knows."""
    created_ns = time.time_ns()
    middleware = Middleware(recorder, channel)
    recorder.start(FIELDS)
    middleware.run(0.02)
    episode = _check(middleware.until(recorder.stop()), middleware)
    assert abs(int(episode["start_ns"]) - created_ns) < 50_000_000


def test_episodes_back_to_back_share_what_lies_between_them(recorder: Recorder, channel: Channel) -> None:
    middleware = Middleware(recorder, channel)
    middleware.run(0.2)
    rng = random.Random(3)
    results = []
    for _ in range(6):
        begun_s = time.monotonic()
        recorder.start(FIELDS)
        assert time.monotonic() - begun_s < 5.0
        middleware.run(rng.uniform(0.0, 0.15))
        results.append(recorder.stop())
    episodes = [_check(middleware.until(result), middleware) for result in results]
    ends = [int(episode["end_ns"]) for episode in episodes]
    starts = [int(episode["start_ns"]) for episode in episodes]
    assert all(start < end for end, start in zip(ends, starts[1:], strict=False))
    assert recorder.report()["lost_in_episodes"] == 0


def test_the_transforms_of_overlapping_episodes_are_all_there(
    tmp_path: Path, channel: Channel, kestrel: RobotModel, joint_state: Callable[..., bytes]
) -> None:
    """Of each sample one is written into both: neither counts those of the other as lost."""
    configuration = RecorderConfiguration(topics=(), min_free_bytes=0, pre_roll_s=0.2, post_roll_s=0.2)
    tf, tf_static = (channel(topic, TF_TYPE) for topic in ("/tf", "/tf_static"))
    recorder = Recorder(tmp_path, configuration, (), TfStream(kestrel), tf, tf_static)
    try:
        joints = recorder.streams.add(
            channel("/k/joint_states", "sensor_msgs/msg/JointState"), role="joint_states"
        )
        number = 0

        def run(seconds: float, until: Callable[[], bool] = lambda: False) -> None:
            nonlocal number
            end_s = time.monotonic() + seconds
            while time.monotonic() < end_s and not until():
                number += 1
                now_ns = time.time_ns()
                with recorder.taking():
                    data = joint_state(now_ns, ["waist_yaw"], [0.1])
                    recorder.take(joints, data, now_ns, now_ns, number, GIDS[0])
                    recorder.pass_done()

        run(0.3)
        results = []
        for _ in range(3):
            recorder.start(FIELDS)
            run(0.1)
            results.append(recorder.stop())
        for result in results:
            run(10.0, result.done)
            path = result.result(timeout=0)
            with path.open("rb") as stream:
                numbers = [m.sequence for _, _, m in make_reader(stream).iter_messages(topics=["/tf"])]
            rows = [json.loads(row) for row in _read(path)[1]["streams"].values()]
            (row,) = [row for row in rows if row["topic"] == "/tf"]
            assert numbers == list(range(1, len(numbers) + 1)) and len(numbers) > 3
            assert (row["published"], row["received"], row["lost"]) == (len(numbers), len(numbers), 0)
    finally:
        recorder.close()


def test_latched_messages_stand_at_the_head_as_they_were_then(recorder: Recorder, channel: Channel) -> None:
    """One that changed within the pre-roll is there as it was before, and again when it changed."""
    middleware = Middleware(recorder, channel)
    latched = recorder.streams.add(channel("/state", STRING), latched=True)

    def say(number: int, data: bytes) -> None:
        now_ns = time.time_ns()
        with recorder.taking():
            recorder.take(latched, data, now_ns, now_ns, number, GIDS[0])

    say(1, b"idle")
    middleware.run(0.3)
    say(2, b"tracking")
    middleware.run(0.05)
    recorder.start(FIELDS)
    path = middleware.until(recorder.stop())
    with path.open("rb") as stream:
        said = [(m.sequence, m.data) for _, c, m in make_reader(stream).iter_messages(topics=["/state"])]
    assert said == [(1, b"idle"), (2, b"tracking")]


def test_the_pre_roll_takes_no_more_memory_than_it_may(tmp_path: Path, channel: Channel) -> None:
    recorder = _recorder(tmp_path, pre_roll_limit_bytes=100 * 28)
    try:
        middleware = Middleware(recorder, channel)
        middleware.run(0.2)
        recorder.start(FIELDS)
        episode = _check(middleware.until(recorder.stop()), middleware)
        kept = middleware.between(int(episode["start_ns"]), int(episode["started_ns"]))
        assert 60 <= len(kept) <= 100
    finally:
        recorder.close()


def test_a_discard_ends_at_once_and_may_come_late(recorder: Recorder, channel: Channel) -> None:
    middleware = Middleware(recorder, channel)
    with pytest.raises(CaptureError, match="no episode has been recorded"):
        recorder.discard_last()
    recorder.start(FIELDS)
    during = middleware.until(recorder.discard_last())
    recorder.start(FIELDS)
    stopped = recorder.stop()
    in_post_roll = middleware.until(recorder.discard_last())
    assert stopped.result() == in_post_roll
    recorder.start(FIELDS)
    finished = middleware.until(recorder.stop(verdict="success"))
    after = middleware.until(recorder.discard_last())
    assert middleware.until(recorder.discard_last()) == after
    assert not finished.exists() and after.name == finished.name
    for path in (during, in_post_roll, after):
        assert path.is_relative_to(recorder.root / ".trash") and path.exists()
    assert [e["verdict"] for e in recorder.report()["episodes"]] == ["discard"] * 3


def test_moments_are_noted_with_their_time(recorder: Recorder, channel: Channel) -> None:
    middleware = Middleware(recorder, channel)
    with pytest.raises(CaptureError, match="no episode is being recorded"):
        recorder.mark_moment("grasped")
    episode_id = recorder.start(FIELDS)
    said = [recorder.mark_moment(label) for label in ("grasped", "placed")]
    assert [of for of, _ in said] == [episode_id] * 2
    _, metadata = _read(middleware.until(recorder.stop()))
    moments = json.loads(metadata["episode"]["moments"])
    assert moments == [
        {"time_ns": time_ns, "label": label}
        for (_, time_ns), label in zip(said, ("grasped", "placed"), strict=True)
    ]


def test_states_of_the_clutch_are_in_the_record(
    recorder: Recorder, channel: Channel, diagnostic_status: Callable[..., bytes]
) -> None:
    state = recorder.streams.add(
        channel("/k/retargeting/state", "diagnostic_msgs/msg/DiagnosticStatus"), True, "retargeting_state"
    )
    middleware = Middleware(recorder, channel)

    def say(number: int, word: str, left: str) -> None:
        now_ns = time.time_ns()
        with recorder.taking():
            data = diagnostic_status("/k/retargeting", word, {"left_clutch": left, "robot": "k"})
            recorder.take(state, data, now_ns, now_ns, number, GIDS[0])

    say(1, "idle", "open")
    recorder.start(FIELDS)
    say(2, "tracking", "closed")
    _, metadata = _read(middleware.until(recorder.stop()))
    said = json.loads(metadata["episode"]["clutch"])
    assert [(s["label"], s["left_clutch"]) for s in said] == [("idle", "open"), ("tracking", "closed")]
    assert "robot" not in said[0]


def test_each_episode_has_the_attachments_of_its_start(recorder: Recorder, channel: Channel) -> None:
    middleware = Middleware(recorder, channel)
    for text in (b"one", b"two"):
        recorder.start(FIELDS, (Attachment("station.yaml", "application/yaml", text),))
        with middleware.until(recorder.stop()).open("rb") as stream:
            found = {a.name: a.data for a in make_reader(stream).iter_attachments()}
        assert found["station.yaml"] == text and set(found) == {"station.yaml", "alignment.json.gz"}


@pytest.mark.parametrize("given_up", [0, 1, 2])
def test_what_has_low_priority_is_given_up_first(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch, given_up: int
) -> None:
    """While the disk stands still, each priority fills its share of the queue and no more."""
    recorder = _recorder(tmp_path, queue_limit_bytes=10_000)
    try:
        streams = [recorder.streams.add(channel(f"/p{p}", STRING), priority=p) for p in (given_up, 3)]
        recorder.start(FIELDS)
        gate: Future[None] = Future()
        recorder._writer.submit(lambda: gate.result(timeout=10))
        for number in range(1, 201):
            for stream in streams:
                now_ns = time.time_ns()
                with recorder.taking():
                    recorder.take(stream, bytes(40), now_ns, now_ns, number, GIDS[0])
        result = recorder.stop()
        gate.set_result(None)
        while not result.done():
            with recorder.taking():
                recorder.pass_done()
        topics = json.loads(_read(result.result())[1]["episode"]["topics"])
        low, high = topics[f"/p{given_up}"], topics["/p3"]
        assert low["lost"] > high["lost"] and low["written"] + low["lost"] == 200
        assert high["written"] + high["lost"] == 200
    finally:
        recorder.close()


def test_room_is_asked_for_by_what_episodes_take_on_the_disk(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not by what comes in: cameras shrink."""
    asked: list[float] = []

    def remember(_root: Path, needed_bytes: float, _why: str) -> None:
        asked.append(needed_bytes)

    monkeypatch.setattr("capture_nodes.recording.recorder.check_free_space", remember)
    recorder = _recorder(tmp_path)
    try:
        middleware = Middleware(recorder, channel)
        for _ in range(2):
            recorder.start(FIELDS)
            middleware.run(0.2)
            path = middleware.until(recorder.stop())
        # A usual minute, by the size of the first file over its length; that of the second is much the same.
        assert 0.3 < asked[1] / (path.stat().st_size / 0.35 * 60.0) < 3.0
    finally:
        recorder.close()


def test_a_pre_roll_larger_than_the_queue_loses_nothing(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk takes nothing until all of it has been handed over."""
    configuration = RecorderConfiguration(
        topics=(), min_free_bytes=0, pre_roll_s=30.0, post_roll_s=0.0, queue_limit_bytes=1_000_000
    )
    recorder = Recorder(tmp_path, configuration)
    gate = threading.Event()
    try:
        stream = recorder.streams.add(channel("/camera", "std_msgs/msg/String"), priority=0)

        def take(number: int, size: int) -> None:
            now_ns = time.time_ns()
            with recorder.taking():
                recorder.take(stream, bytes(size), now_ns, now_ns, number, bytes(16))

        for number in range(1, 31):
            take(number, 100_000)
        recorder._writer.call("", lambda: gate.wait(20) and None)
        recorder.start(EpisodeFields(robot="kestrel", skill="lift"))
        with recorder.taking():
            recorder.pass_done()
        # What comes now is bounded by the queue as ever: seven fit in, and one more.
        for number in range(31, 41):
            take(number, 100_000)
        assert recorder.status().backlog_bytes <= 1_000_000
        gate.set()
        result = recorder.stop()
        end_s = time.monotonic() + 10
        while not result.done() and time.monotonic() < end_s:
            with recorder.taking():
                recorder.pass_done()
        result.result(timeout=5)
        assert recorder.status().backlog_bytes == 0
        totals = recorder.report()["episodes"][0]["topics"]["/camera"]
        assert totals == {"published": 40, "received": 40, "written": 38, "lost": 2}
    finally:
        gate.set()
        recorder.close()
