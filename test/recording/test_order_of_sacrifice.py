"""A disk that stands still: what waits for it gives way in the order that was configured, and is counted."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from capture_nodes.recording.episode_message import EpisodeMessage, EpisodeMessages
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.locked_file import LockedFile
from capture_nodes.recording.mcap_file import ChannelDescription, FileOptions
from capture_nodes.recording.mcap_writer import LARGE_BYTES
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.stream import Stream
from capture_nodes.recording.stream_statistics import EpisodeCounts
from capture_nodes.recording.writer_thread import ALWAYS, SHARES, WriterThread

LIMIT = 100_000
WAIT_S = 30.0
CHANNELS = [ChannelDescription(f"/class{k}", "std_msgs/msg/String", "string data") for k in range(5)]
STRING = "std_msgs/msg/String"
FIELDS = EpisodeFields(robot="kestrel", skill="lift")
GIDS = [bytes([k] * 16) for k in range(1, 5)]
CAMERA = "/kestrel/camera/head/image"
Channel = Callable[[str, str], ChannelDescription]


class _StillDisk:
    """An episode's file that takes as many writes as it is let; `numbers` of what it took."""

    problem = None

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self._entered = self._may = 0
        self._changed = threading.Condition()

    def write(
        self, channel: Any, log_ns: int, publish_ns: int, sequence: int, data: Any, counts: Any
    ) -> bool:
        self._pass([sequence])
        return True

    def write_small(self, channel: Any, messages: Any, counts: Any, size: int) -> bool:
        self._pass([message[2] for message in messages])
        return True

    def _pass(self, numbers: list[int]) -> None:
        with self._changed:
            self._entered += 1
            self._changed.notify_all()
            assert self._changed.wait_for(lambda: self._entered <= self._may, WAIT_S)
            self.numbers += numbers

    def let(self, writes: int, writer: WriterThread) -> None:
        """So many writes, and wait until the writer stands before the next or has nothing to write."""
        with self._changed:
            self._may += writes
            self._changed.notify_all()
            while not (self._entered > self._may or writer.backlog_bytes == 0):
                assert self._changed.wait(timeout=0.001) or True


@dataclass
class _Put:
    """What was handed over at once, several small ones or one; `counts` of its own tell what came of it."""

    priority: int
    size: int
    numbers: list[int]
    counts: EpisodeCounts = field(default_factory=lambda: EpisodeCounts(before=None))

    @property
    def lost(self) -> bool:
        assert self.counts.lost_queue in (0, len(self.numbers))
        return self.counts.lost_queue > 0


class _Queue:
    def __init__(self) -> None:
        self.disk = _StillDisk()
        self.writer = WriterThread(LIMIT, lambda topic, error: None)
        self.puts: list[_Put] = []
        self._made = 0

    def put(self, priority: int, size: int, several: int) -> _Put:
        numbers = list(range(self._made, self._made + several))
        self._made += several
        put = _Put(priority, size * several, numbers)
        self.puts.append(put)
        file: Any = self.disk
        if several == 1:
            message = EpisodeMessage(
                file, CHANNELS[priority], 1, 1, numbers[0], bytes(size), put.counts, priority
            )
            assert self.writer.put(message) is not put.lost
        else:
            small = [(1, 1, number, bytes(size)) for number in numbers]
            given = EpisodeMessages(file, CHANNELS[priority], small, put.counts, size * several, priority)
            if not self.writer.put_all(given):
                assert not put.lost
                put.counts.lost_queue += several
        return put

    @property
    def waiting(self) -> list[_Put]:
        """What is neither lost nor written, nor in the writer's hands."""
        left = [put for put in self.puts if not put.lost and put.numbers[0] not in self.disk.numbers]
        return left[1:]

    def end(self) -> None:
        self.disk.let(1_000_000, self.writer)
        self.writer.stop()


@contextmanager
def _queue() -> Iterator[_Queue]:
    queue = _Queue()
    try:
        # From now on one is in the writer's hands.
        queue.put(3, 1, 1)
        queue.disk.let(0, queue.writer)
        yield queue
    finally:
        queue.end()


happening = st.one_of(
    st.tuples(st.integers(0, 3), st.integers(1, 30_000), st.just(1)),
    st.tuples(st.integers(0, 3), st.integers(1, 30_000), st.just(1)),
    st.tuples(st.integers(0, 3), st.integers(1, 2_000), st.integers(2, 6)),
    st.tuples(st.just("disk"), st.integers(1, 8), st.just(0)),
)


@given(st.lists(happening, min_size=5, max_size=80))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_nothing_is_lost_while_something_of_a_lower_class_waits(happened: list[tuple[Any, int, int]]) -> None:
    with _queue() as queue:
        for what, amount, several in happened:
            if what == "disk":
                queue.disk.let(amount, queue.writer)
                continue
            before = queue.waiting
            backlog = queue.writer.backlog_bytes
            new = queue.put(what, amount, several)
            gone = [put for put in [*before, new] if put.lost]
            if not gone:
                continue
            # Several at once are refused for being put one by one: nothing gives way to them.
            assert several == 1 or gone == [new]
            least = 0 if several == 1 else new.size
            assert backlog + least > SHARES[what] * LIMIT
            left = queue.waiting
            if several == 1:
                highest = max(put.priority for put in gone)
                assert all(put.priority >= highest for put in left)
                assert all(put.priority < what for put in gone if put is not new)
            for put in gone:
                # Of a class the newest: what is left of it came before.
                assert not [p for p in left if p.priority == put.priority and p.numbers > put.numbers]
        most = max(put.size for put in queue.puts)
        assert queue.writer.backlog_bytes <= LIMIT + most
    written = [number for put in queue.puts if not put.lost for number in put.numbers]
    assert queue.disk.numbers == written


@pytest.mark.parametrize("priority", [1, 2, 3])
def test_no_more_gives_way_than_is_needed_and_a_little(priority: int) -> None:
    """The next of its kind find room, without another look through all that waits."""
    size = 500
    with _queue() as queue:
        while not queue.put(0, size, 1).lost:
            pass
        full = queue.writer.backlog_bytes
        while queue.writer.backlog_bytes + size <= SHARES[priority] * LIMIT:
            queue.put(priority, size, 1)
        assert sum(put.lost for put in queue.puts) == 1 and queue.writer.backlog_bytes > full
        for _ in range(20):
            assert not queue.put(priority, size, 1).lost
        given_up = sum(put.size for put in queue.puts if put.lost)
        assert 19 * size <= given_up <= 21 * size + 0.05 * LIMIT


def test_what_has_to_be_there_is_never_refused_nor_given_up() -> None:
    with _queue() as queue:
        heads = []
        for _ in range(30):
            queue.put(3, 9_000, 1)
            heads.append(queue.put(ALWAYS, 9_000, 1))
    assert not any(head.lost for head in heads) and any(put.lost for put in queue.puts)


def test_room_for_what_is_in_memory_anyway_is_room_beside_the_limit() -> None:
    with _queue() as queue:
        queue.writer.hold(LIMIT)
        held = [queue.put(0, 10_000, 1) for _ in range(10)]
        queue.writer.let_go(LIMIT)
        assert not any(put.lost for put in [*held, *(queue.put(3, 10_000, 1) for _ in range(9))])


def test_threads_that_put_and_one_that_writes_leave_nothing_uncounted() -> None:
    """Several at once, the disk as fast as it is: each one's messages stay in order, none comes twice."""
    disk = _StillDisk()
    disk._may = 1 << 60
    file: Any = disk
    counts = [EpisodeCounts(before=None) for _ in range(4)]
    writer = WriterThread(20_000, lambda topic, error: None)
    data = bytes(900)
    each = 4_000
    go = threading.Barrier(4)

    def publish(priority: int) -> None:
        go.wait()
        for k in range(each):
            number = each * priority + k
            writer.put(
                EpisodeMessage(file, CHANNELS[priority], 1, 1, number, data, counts[priority], priority)
            )

    threads = [threading.Thread(target=publish, args=(k,)) for k in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    writer.stop()
    assert writer.backlog_bytes == 0
    for priority in range(4):
        mine = [n for n in disk.numbers if n // each == priority]
        assert mine == sorted(set(mine)) and len(mine) + counts[priority].lost_queue == each


# The whole recorder -----------------------------------------------------------------------------------------


class _StandingWriter:
    """The disk stands still for the thread that writes; files are still opened."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes = threading.Event()
        self.goes.set()
        write = LockedFile.write

        def wait(file: LockedFile, buffers: Any, /) -> None:
            if threading.current_thread().name == "episode writer":
                assert self.goes.wait(WAIT_S)
            write(file, buffers)

        monkeypatch.setattr(LockedFile, "write", wait)


class _Feed:
    """Streams of the four classes, the camera the lowest; every message is counted and has its own time."""

    def __init__(self, recorder: Recorder, channel: Channel) -> None:
        self.recorder = recorder
        names = (CAMERA, "/tactile", "/wrench", "/joints")
        self.streams: list[Stream] = [
            recorder.streams.add(channel(name, STRING), priority=k) for k, name in enumerate(names)
        ]
        self.sent = [0] * len(self.streams)

    def take(self, priority: int, size: int, count: int = 1, several: bool = False) -> None:
        taken = []
        for _ in range(count):
            self.sent[priority] += 1
            at_ns = time.time_ns()
            taken.append((bytes(size), at_ns - 1000, at_ns, self.sent[priority], GIDS[priority]))
        while time.time_ns() <= taken[-1][2]:
            pass
        with self.recorder.taking():
            if several:
                self.recorder.take_all(self.streams[priority], taken)
            else:
                for message in taken:
                    self.recorder.take(self.streams[priority], *message)
            self.recorder.pass_done()

    def ended(self, result: Any) -> Path:
        while not result.done():
            with self.recorder.taking():
                self.recorder.pass_done()
        path = result.result(timeout=0)
        assert isinstance(path, Path)
        return path


@pytest.fixture
def recorders(tmp_path: Path) -> Iterator[Callable[..., Recorder]]:
    made: list[Recorder] = []

    def make(**changes: Any) -> Recorder:
        values: dict[str, Any] = {
            "topics": (),
            "min_free_bytes": 0,
            "direct_bytes_per_s": 0.0,
            "file": FileOptions(flush_s=0.02, chunk_bytes=32 * 1024),
            "pre_roll_s": 0.0,
            "post_roll_s": 0.0,
            "tail_s": 0.0,
            "queue_limit_bytes": 1_000_000,
            **changes,
        }
        made.append(Recorder(tmp_path, RecorderConfiguration(**values)))
        return made[-1]

    yield make
    for recorder in made:
        recorder.close()


def _contents(path: Path) -> tuple[dict[str, list[int]], dict[str, dict[str, Any]], Any, dict[str, str]]:
    """Publish times by topic, in the order of the file; the rows of `streams`; alignment; quality."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        times: dict[str, list[int]] = {}
        for _, channel, message in reader.iter_messages(log_time_order=False):
            times.setdefault(channel.topic, []).append(message.publish_time)
        (table,) = (a.data for a in reader.iter_attachments() if a.name == "alignment.json.gz")
        metadata = {m.name: dict(m.metadata) for m in reader.iter_metadata()}
    rows = {row["topic"]: row for row in map(json.loads, metadata["streams"].values())}
    return times, rows, json.loads(gzip.decompress(table)), metadata["quality"]


def _check(contents: Any, topics: Any) -> dict[str, int]:
    """The laws of a file; what the queue lost, by topic."""
    times, rows, table, quality = contents
    for topic in topics:
        row = rows[topic]
        assert row["received"] == row["published"] and row["lost_in"]["disk"] == 0
        assert row["received"] == row["written"] + row["lost_in"]["queue"]
        assert row["written"] == len(times.get(topic, []))
        assert times.get(topic, []) == sorted(times.get(topic, []))
    base = int(table["base_ns"])
    assert [base + ns for ns in table["stamp_ns"]] == times.get(CAMERA, [])
    for topic, column in table["streams"].items():
        assert column["messages"] == len(times[topic])
        for stamp, index, ns in zip(table["stamp_ns"], column["before"], column["before_ns"], strict=True):
            if index is not None:
                assert times[topic][index] == base + stamp + ns
    lost = {topic: rows[topic]["lost_in"]["queue"] for topic in topics}
    assert (quality["verdict"] == "failed") == any(lost.values())
    for topic, count in lost.items():
        assert (f"{topic}" in quality["reasons"] and "in the queue" in quality["reasons"]) or not count
    return lost


def test_behind_frames_that_no_disk_takes_joints_are_not_lost(
    recorders: Callable[..., Recorder], channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue is full of frames when the disk stops; everything else comes after, six times its limit."""
    disk = _StandingWriter(monkeypatch)
    recorder = recorders()
    feed = _Feed(recorder, channel)
    recorder.start(FIELDS)
    for priority in range(4):
        feed.take(priority, 100)
    disk.goes.clear()
    feed.take(0, 50_000, 30)
    feed.take(1, 5_000, 100)
    for _ in range(10):
        feed.take(1, 2_000, 20, several=True)
        feed.take(2, 1_000, 20, several=True)
        feed.take(3, 1_500, 40, several=True)
    assert recorder.status().backlog_bytes <= 1_050_000
    live, _ = recorder.live()
    assert {row.topic for row in live if row.lost_queue} == {CAMERA, "/tactile"}
    disk.goes.set()
    lost = _check(_contents(feed.ended(recorder.stop())), [s.topic for s in feed.streams])
    assert lost["/joints"] == lost["/wrench"] == 0 < lost["/tactile"] and lost[CAMERA] > 15
    assert sum(
        row["lost_in"]["queue"] for row in recorder.report()["episodes"][0]["streams"].values()
    ) == sum(lost.values())


happenings = st.lists(
    st.tuples(st.integers(0, 3), st.integers(1, 60_000), st.integers(1, 12), st.booleans()),
    min_size=10,
    max_size=40,
)


@given(happenings)
@settings(max_examples=25, deadline=None, derandomize=True)
def test_whatever_comes_the_counts_of_every_publisher_add_up(
    channel: Channel, tmp_path_factory: pytest.TempPathFactory, happened: list[tuple[int, int, int, bool]]
) -> None:
    with pytest.MonkeyPatch.context() as monkeypatch:
        disk = _StandingWriter(monkeypatch)
        values: dict[str, Any] = {"topics": (), "min_free_bytes": 0, "direct_bytes_per_s": 0.0}
        rolls: dict[str, Any] = {"pre_roll_s": 0.0, "post_roll_s": 0.0, "tail_s": 0.0}
        file = FileOptions(flush_s=0.02, chunk_bytes=32 * 1024)
        recorder = Recorder(
            tmp_path_factory.mktemp("order"),
            RecorderConfiguration(**values, **rolls, file=file, queue_limit_bytes=400_000),
        )
        try:
            feed = _Feed(recorder, channel)
            recorder.start(FIELDS)
            for priority in range(4):
                feed.take(priority, 100)
            disk.goes.clear()
            for k, (priority, size, count, several) in enumerate(happened):
                small = min(size, LARGE_BYTES - 1) if several else size
                feed.take(priority, small, count, several)
                if k % 12 == 11:
                    disk.goes.set()
                    recorder._writer.submit(lambda: None).result(timeout=WAIT_S)
                    disk.goes.clear()
            disk.goes.set()
            _check(_contents(feed.ended(recorder.stop())), [s.topic for s in feed.streams])
        finally:
            disk.goes.set()
            recorder.close()


def test_what_two_episodes_share_is_counted_in_each(
    recorders: Callable[..., Recorder], channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk stands still from the end of one until the next has its pre-roll, its head and more."""
    disk = _StandingWriter(monkeypatch)
    recorder = recorders(pre_roll_s=30.0, post_roll_s=0.0)
    feed = _Feed(recorder, channel)
    head = recorder.streams.add(channel("/robot_description", STRING), latched=True)
    with recorder.taking():
        at_ns = time.time_ns()
        recorder.take(head, b"urdf" * 10_000, at_ns, at_ns, 1, GIDS[0])
    recorder.start(FIELDS)
    for priority in range(4):
        feed.take(priority, 100)
    disk.goes.clear()
    feed.take(0, 50_000, 12)
    first = recorder.stop()
    recorder.start(FIELDS)
    feed.take(0, 50_000, 4)
    feed.take(3, 40_000, 60)
    assert recorder.status().backlog_bytes <= 1_050_000
    disk.goes.set()
    topics = [s.topic for s in feed.streams]
    lost_first = _check(_contents(feed.ended(first)), topics)
    contents = _contents(feed.ended(recorder.stop()))
    lost = _check(contents, topics)
    assert lost_first["/joints"] == 0 and lost["/joints"] > 0
    # Those of the first before and after the stop, and all that the second had of them and its own.
    assert lost_first[CAMERA] >= 12 and lost[CAMERA] == 13 + 4
    assert len(contents[0]["/robot_description"]) == 1
