"""Messages handed over several at a time are recorded as one by one, whatever they are."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from capture_nodes.recording.episode_message import EpisodeMessages
from capture_nodes.recording.episode_parts import SplitLimits
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import ChannelDescription, FileOptions
from capture_nodes.recording.mcap_writer import LARGE_BYTES
from capture_nodes.recording.recent_messages import Taken
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.stream import Stream

Channel = Callable[[str, str], ChannelDescription]
FIELDS = EpisodeFields(robot="kestrel", skill="lift", simulated=True)
TOPICS = {"/a": "std_msgs/msg/String", "/b": "sensor_msgs/msg/JointState", "/c": "std_msgs/msg/String"}
GIDS = [bytes([k] * 16) for k in range(3)]
COUNTED = ("published", "received", "duplicates", "early", "written", "lost", "lost_in", "first_sequence")

# Who publishes, by how much its number grows (1 nearly always), how large it is, when it was received and
# published (µs, against the one before).
message = st.tuples(
    st.sampled_from([0, 0, 0, 0, 1]),
    st.sampled_from([1] * 12 + [0, 2, 7, -2]),
    st.sampled_from([0, 8, 40, 300, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES]),
    st.sampled_from([1, 1, 1, 0, 50, -3]),
    st.sampled_from([10, 10, 10, -5, None]),
)
round_of = st.tuples(st.sampled_from(sorted(TOPICS)), st.lists(message, min_size=1, max_size=9))
what_happens = st.one_of(round_of, round_of, round_of, st.just(("start again", [])))


class _Feed:
    """Makes messages as a middleware gives them, with times that no clock of the test has passed yet."""

    def __init__(self) -> None:
        self._numbers: dict[tuple[str, bytes], int] = {}
        self._made = 0

    def messages(self, topic: str, parts: Sequence[tuple[int, int, int, int, int | None]]) -> list[Taken]:
        result: list[Taken] = []
        at_ns = time.time_ns()
        for publisher, step, size, later_us, delay_us in parts:
            gid = GIDS[publisher]
            number = max(1, self._numbers.get((topic, gid), 0) + step)
            self._numbers[topic, gid] = max(number, self._numbers.get((topic, gid), 0))
            at_ns += 1000 * later_us
            self._made += 1
            data = b"\0\1\0\0" + self._made.to_bytes(8, "little") + bytes(size)
            source_ns = at_ns - 1000 * (delay_us or 0)
            result.append((data, source_ns, at_ns, None if delay_us is None else number, gid))
        while time.time_ns() <= at_ns:
            pass
        return result


def _recorder(root: Path, **changes: Any) -> Recorder:
    values = {
        "topics": (),
        "min_free_bytes": 0,
        "file": FileOptions(flush_s=0.02, chunk_bytes=64 * 1024),
        "pre_roll_s": 0.0,
        "post_roll_s": 0.05,
        "tail_s": 0.0,
        **changes,
    }
    return Recorder(root, RecorderConfiguration(**values))


def _recorded(path: Path) -> list[tuple[str, int, int, int, bytes]]:
    with path.open("rb") as stream:
        found = make_reader(stream, validate_crcs=True).iter_messages(log_time_order=False)
        return sorted((c.topic, m.sequence, m.log_time, m.publish_time, m.data) for _, c, m in found)


class _Twins:
    """Two recorders that are told the same: one takes one by one, the other several at a time."""

    def __init__(self, root: Path, channel: Channel, **changes: Any) -> None:
        self.both = [_recorder(root / name, **changes) for name in ("one", "several")]
        self.streams = [
            {topic: each.streams.add(channel(topic, type_name)) for topic, type_name in TOPICS.items()}
            for each in self.both
        ]
        self.finished: list[list[Path]] = []
        self._stopped: list[list[Any]] = []

    def start(self) -> None:
        for each in self.both:
            each.start(FIELDS)

    def stop(self) -> None:
        self._stopped.append([each.stop() for each in self.both])

    def take(self, topic: str, messages: list[Taken]) -> None:
        one, several = self.both
        with one.taking():
            for taken in messages:
                one.take(self.streams[0][topic], *taken)
            one.pass_done()
        with several.taking():
            several.take_all(self.streams[1][topic], messages)
            several.pass_done()

    def finish(self) -> Iterator[tuple[Path, Path]]:
        for results in self._stopped:
            for each, result in zip(self.both, results, strict=True):
                deadline_s = time.monotonic() + 10.0
                while not result.done() and time.monotonic() < deadline_s:
                    with each.taking():
                        each.pass_done()
            yield results[0].result(timeout=10.0), results[1].result(timeout=10.0)

    def table(self, index: int) -> list[dict[str, Any]]:
        found = []
        for episode in self.both[index].report()["episodes"]:
            for row in episode["streams"].values():
                found.append({key: row[key] for key in ("topic", "gid", *COUNTED)})
        return found

    def close(self) -> None:
        for each in self.both:
            each.close()


@settings(max_examples=30, deadline=None, derandomize=True)
@given(story=st.lists(what_happens, min_size=1, max_size=14), split=st.booleans())
def test_several_at_a_time_are_recorded_as_one_by_one(
    channel: Channel, story: list[tuple[str, list[Any]]], split: bool
) -> None:
    limits = SplitLimits(max_bytes=30_000) if split else SplitLimits()
    with tempfile.TemporaryDirectory() as folder:
        twins, feed = _Twins(Path(folder), channel, split=limits), _Feed()
        try:
            twins.start()
            for what, parts in story:
                if what == "start again":
                    # The post-roll of the one before goes on: what follows is in both.
                    twins.stop()
                    twins.start()
                else:
                    twins.take(what, feed.messages(what, parts))
            twins.stop()
            for one, several in twins.finish():
                files = [sorted(path.parent.glob(f"{path.stem}*.mcap")) for path in (one, several)]
                recorded = [sorted(m for file in each for m in _recorded(file)) for each in files]
                assert recorded[0] == recorded[1]
            assert twins.table(0) == twins.table(1)
            rows = [[str(row) for row in each.report()["streams"]] for each in twins.both]
            assert rows[0] == rows[1]
        finally:
            twins.close()


def test_the_usual_message_does_go_the_short_way(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    twins, feed = _Twins(tmp_path, channel), _Feed()
    together: list[int] = []
    put = type(twins.both[1]._writer).put_all

    def seen(self: Any, messages: EpisodeMessages) -> bool:
        together.append(len(messages.messages))
        return put(self, messages)

    monkeypatch.setattr(type(twins.both[1]._writer), "put_all", seen)
    try:
        twins.start()
        for _ in range(4):
            twins.take("/b", feed.messages("/b", [(0, 1, 40, 1, 10)] * 5))
        twins.stop()
        ((_, path),) = twins.finish()
        assert together == [5, 5, 5] and len(_recorded(path)) == 20
    finally:
        twins.close()


def test_where_the_queue_is_full_each_is_refused_and_counted(tmp_path: Path, channel: Channel) -> None:
    recorder, feed = _recorder(tmp_path, queue_limit_bytes=2000), _Feed()
    stream: Stream = recorder.streams.add(channel("/a", TOPICS["/a"]))
    try:
        recorder.start(FIELDS)
        with recorder.taking():
            for _ in range(50):
                recorder.take_all(stream, feed.messages("/a", [(0, 1, 300, 1, 10)] * 9))
            recorder.pass_done()
        result = recorder.stop()
        deadline_s = time.monotonic() + 10.0
        while not result.done() and time.monotonic() < deadline_s:
            with recorder.taking():
                recorder.pass_done()
        path = result.result(timeout=10.0)
        ((row),) = recorder.report()["episodes"][0]["streams"].values()
        assert row["received"] == 450 and row["written"] == len(_recorded(path))
        assert row["lost_in"]["queue"] == 450 - row["written"]
    finally:
        recorder.close()
