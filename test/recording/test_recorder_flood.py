"""More than the disk, or anybody, can take: what is given up is counted, in the order that was configured."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from mcap.reader import make_reader

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.locked_file import LockedFile
from capture_nodes.recording.mcap_file import ChannelDescription, FileOptions
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.recovery import recover_all
from capture_nodes.recording.stream import Stream

FIELDS = EpisodeFields(robot="kestrel", skill="lift")
STRING = "std_msgs/msg/String"
GID = bytes(range(16))
MB = 1024 * 1024
# Rate, payload size, topics, priority: joints, commands, wrenches, tactile, motion, cameras.
LOAD = (
    (500, 1500, 1, 3),
    (200, 1250, 1, 3),
    (500, 100, 4, 2),
    (100, 1100, 4, 1),
    (90, 5000, 1, 3),
    (30, 921_700, 3, 0),
)

Channel = Callable[[str, str], ChannelDescription]


@contextmanager
def _recorder(root: Path, **changes: Any) -> Iterator[Recorder]:
    values: dict[str, Any] = {
        "topics": (),
        "min_free_bytes": 0,
        "direct_bytes_per_s": 0.0,
        "file": FileOptions(flush_s=0.05),
        "pre_roll_s": 0.0,
        "post_roll_s": 0.0,
        **changes,
    }
    recorder = Recorder(root, RecorderConfiguration(**values))
    try:
        yield recorder
    finally:
        recorder.close()


def _take(recorder: Recorder, stream: Stream, number: int, data: bytes, now_ns: int | None = None) -> None:
    at_ns = time.time_ns() if now_ns is None else now_ns
    recorder.take(stream, data, at_ns - 1000, at_ns, number, GID)


def _finish(recorder: Recorder, result: Future[Path], timeout_s: float = 20.0) -> Path:
    end_s = time.monotonic() + timeout_s
    while not result.done() and time.monotonic() < end_s:
        with recorder.taking():
            recorder.pass_done()
    return result.result(timeout=0)


def _resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def _contents(path: Path) -> tuple[dict[str, int], dict[str, dict[str, Any]], dict[str, str]]:
    """Messages by topic, the rows of `streams` by topic, the `episode` record."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        counts: dict[str, int] = {}
        for _, channel, _ in reader.iter_messages(log_time_order=False):
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
    rows = (json.loads(row) for row in metadata["streams"].values())
    return counts, {row["topic"]: row for row in rows}, metadata["episode"]


def test_a_slow_disk_costs_cameras_first_and_commands_last(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch, record_property: Any
) -> None:
    """Ten seconds of the load at once, while the disk takes a write only now and then."""
    write, slow = LockedFile.write, threading.Event()

    def hesitate(self: LockedFile, buffers: Any, /) -> None:
        slow.wait(timeout=0.05)
        write(self, buffers)

    monkeypatch.setattr(LockedFile, "write", hesitate)
    limit = 64 * MB
    with _recorder(tmp_path, queue_limit_bytes=limit) as recorder:
        streams = [
            (recorder.streams.add(channel(f"/s{n}/{k}", STRING), priority=priority), rate, bytes(size))
            for n, (rate, size, topics, priority) in enumerate(LOAD)
            for k in range(topics)
        ]
        sent = [0] * len(streams)
        recorder.start(FIELDS)
        before = _resident_bytes()
        most = backlog = 0
        for step in range(1, 1001):
            with recorder.taking():
                for n, (stream, rate, data) in enumerate(streams):
                    while sent[n] < rate * step / 100:
                        sent[n] += 1
                        # Of its own memory, as every message is.
                        _take(recorder, stream, sent[n], bytes(bytearray(data)))
                recorder.pass_done()
            backlog = max(backlog, recorder.status().backlog_bytes)
            if step % 50 == 0:
                most = max(most, _resident_bytes() - before)
        result = recorder.stop()
        slow.set()
        counts, rows, episode = _contents(_finish(recorder, result))
    lost: dict[int, int] = {}
    for (stream, _, _), number in zip(streams, sent, strict=True):
        row = rows[stream.topic]
        assert row["received"] == row["published"] == number
        assert counts.get(stream.topic, 0) == row["written"]
        assert row["written"] + row["lost_in"]["queue"] == number and row["lost_in"]["disk"] == 0
        lost[stream.priority] = lost.get(stream.priority, 0) + row["lost"]
    assert lost[0] > 0 and lost[3] == 0 and lost[2] == 0
    assert sum(lost.values()) == int(episode["lost"])
    # One message may go over the limit; two chunks are being written beside the queue.
    assert backlog <= limit + MB
    record_property("lost_by_priority", str(lost))
    record_property("memory_mb", round(most / MB))
    assert most < 2 * limit


@pytest.mark.parametrize(("count", "size"), [(20_000, 64), (100, 4 * MB)])
def test_a_publisher_that_floods_loses_its_own_messages_only(
    tmp_path: Path, channel: Channel, count: int, size: int
) -> None:
    """All in one round of the taking thread, before the writer gets a word in."""
    with _recorder(tmp_path, queue_limit_bytes=16 * MB) as recorder:
        flood = recorder.streams.add(channel("/flood", STRING), priority=0)
        joints = recorder.streams.add(channel("/joints", STRING), priority=3)
        recorder.start(FIELDS)
        data = bytes(size)
        for batch in range(10):
            with recorder.taking():
                for k in range(count // 10):
                    _take(recorder, flood, batch * (count // 10) + k + 1, data)
                for k in range(100):
                    _take(recorder, joints, batch * 100 + k + 1, b"j" * 100)
                recorder.pass_done()
        counts, rows, _ = _contents(_finish(recorder, recorder.stop()))
    assert counts["/joints"] == rows["/joints"]["written"] == 1000 and rows["/joints"]["lost"] == 0
    row = rows["/flood"]
    assert row["published"] == row["received"] == count
    assert row["written"] + row["lost_in"]["queue"] == count and counts.get("/flood", 0) == row["written"]


def test_two_hundred_topics_of_two_hundred_publishers_are_all_there(tmp_path: Path, channel: Channel) -> None:
    with _recorder(tmp_path) as recorder:
        streams = [recorder.streams.add(channel(f"/t{k:03d}", STRING)) for k in range(200)]
        recorder.start(FIELDS)
        for number in range(1, 51):
            with recorder.taking():
                for k, stream in enumerate(streams):
                    if number <= 1 + k % 50:
                        _take(recorder, stream, number, b"\0\1\0\0" + bytes(60))
                recorder.pass_done()
        counts, rows, episode = _contents(_finish(recorder, recorder.stop()))
    assert counts == {f"/t{k:03d}": 1 + k % 50 for k in range(200)}
    assert {topic: row["written"] for topic, row in rows.items()} == counts and episode["lost"] == "0"


class Hours:
    """A clock that is run by hand: `time.time_ns` and the steady one go on together."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._ns = 0
        wall, steady, steady_s = time.time_ns, time.monotonic_ns, time.monotonic
        monkeypatch.setattr(time, "time_ns", lambda: wall() + self._ns)
        monkeypatch.setattr(time, "monotonic_ns", lambda: steady() + self._ns)
        monkeypatch.setattr(time, "monotonic", lambda: steady_s() + self._ns / 1e9)

    def run(self, ns: int) -> None:
        self._ns += ns


@pytest.mark.parametrize(
    "minutes", [3, pytest.param(30, marks=pytest.mark.soak)], ids=["short", "thirty minutes"]
)
def test_a_long_episode_takes_no_more_memory_than_a_short_one(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch, record_property: Any, minutes: int
) -> None:
    """All messages of the load in number, small ones, as fast as they are written."""
    hours = Hours(monkeypatch)
    resident: list[int] = []
    with _recorder(tmp_path, pre_roll_s=1.0, post_roll_s=0.1) as recorder:
        streams = [
            (recorder.streams.add(channel(f"/s{n}/{k}", STRING), rate_hz=float(rate)), rate)
            for n, (rate, _, topics, _) in enumerate(LOAD)
            for k in range(topics)
        ]
        sent = [0] * len(streams)
        recorder.start(FIELDS)
        for step in range(1, minutes * 6000 + 1):
            hours.run(10_000_000)
            with recorder.taking():
                for n, (stream, rate) in enumerate(streams):
                    while sent[n] < rate * step // 100:
                        sent[n] += 1
                        _take(recorder, stream, sent[n], b"\0\1\0\0" + sent[n].to_bytes(8, "little"))
                recorder.pass_done()
            if step % 100 == 0:
                recorder.fold()
                # The disk is not what this is about.
                end_s = time.monotonic() + 20.0
                while recorder.status().backlog_bytes and time.monotonic() < end_s:
                    pass
            if step % 3000 == 0:
                resident.append(_resident_bytes())
        result = recorder.stop()
        counts, rows, episode = _contents(_finish(recorder, result))
    assert {stream.topic: number for (stream, _), number in zip(streams, sent, strict=True)} == counts
    assert all(row["written"] == counts[topic] for topic, row in rows.items()) and episode["lost"] == "0"
    assert (int(episode["stopped_ns"]) - int(episode["started_ns"])) / 60e9 >= minutes
    # After the first minute; the index of the file grows a little. There are no frames to align.
    growth = resident[-1] - resident[1]
    record_property("growth_mb_a_minute", round(growth / MB / max(1e-9, minutes - 1), 2))
    assert growth < 0.3 * MB * (minutes - 1) + 4 * MB


@pytest.mark.parametrize("moment", ["before", "recording"])
def test_a_folder_that_vanishes_is_told_and_the_next_start_is_fine(
    tmp_path: Path, channel: Channel, moment: str
) -> None:
    """An unmounted disk, to a program, is a folder that is not there any more."""
    root = tmp_path / "mount"
    with _recorder(root) as recorder:
        stream = recorder.streams.add(channel("/a", STRING))
        if moment == "before":
            root.mkdir()
        episode_id = recorder.start(FIELDS)
        with recorder.taking():
            _take(recorder, stream, 1, b"one")
        gone = tmp_path / "gone"
        root.rename(gone)
        with recorder.taking():
            _take(recorder, stream, 2, b"two")
        with pytest.raises(CaptureError, match=r"mount/.*No such file or directory"):
            _finish(recorder, recorder.stop())
        assert recorder.status().state == "idle" and recorder.status().problem
        assert recorder.report()["episodes"][0]["problem"]
        # Nothing of it was lost: the data went where the folder is now.
        (active,) = gone.rglob("*.active")
        recorder.start(FIELDS)
        with recorder.taking():
            _take(recorder, stream, 3, b"three")
        counts, _, episode = _contents(_finish(recorder, recorder.stop()))
        assert counts == {"/a": 1} and episode["lost"] == "0"
    (recovered,) = recover_all(gone, lambda _: None)
    assert recovered.path.stem == episode_id and recovered.messages == 2 and not active.exists()


def test_a_folder_that_may_not_be_written_is_told_and_the_next_start_is_fine(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may write anywhere: the refusal is the file layer's."""

    def read_only(*_: object) -> None:
        raise OSError(30, "Read-only file system")

    with _recorder(tmp_path) as recorder:
        stream = recorder.streams.add(channel("/a", STRING))
        with monkeypatch.context() as patch:
            patch.setattr(LockedFile, "__init__", read_only)
            for _ in range(2):
                with pytest.raises(CaptureError, match=r"cannot record into .*Read-only file system"):
                    recorder.start(FIELDS)
            assert recorder.status().state == "idle" and list(tmp_path.rglob("*.mcap*")) == []
        recorder.start(FIELDS)
        with recorder.taking():
            _take(recorder, stream, 1, b"kept")
        with monkeypatch.context() as patch:
            patch.setattr(LockedFile, "write", read_only)
            end_s = time.monotonic() + 10.0
            while not recorder.status().problem and time.monotonic() < end_s:
                pass
            with recorder.taking():
                recorder.pass_done()
            assert "Read-only file system" in recorder.status().problem
            with pytest.raises(CaptureError, match="Read-only file system"):
                _finish(recorder, recorder.stop())
        recorder.start(FIELDS)
        counts, _, _ = _contents(_finish(recorder, recorder.stop()))
        assert counts == {}


def test_an_episode_of_nothing_is_a_file_like_any_other(tmp_path: Path, channel: Channel) -> None:
    """No publisher at all; started and stopped at once; the same where there are topics that nobody fills."""
    with _recorder(tmp_path, pre_roll_s=0.1, post_roll_s=0.05) as recorder:
        for _ in range(2):
            counts, rows, episode = _contents(
                _finish(recorder, recorder.stop() if recorder.start(FIELDS) else None)
            )  # type: ignore[arg-type]
            assert (counts, rows, episode["lost"]) == ({}, {}, "0")
            assert int(episode["start_ns"]) <= int(episode["started_ns"]) <= int(episode["stopped_ns"])
            recorder.streams.add(channel("/silent", STRING), rate_hz=100.0)
