"""The table the recorder makes, read back by `episodes`, against looking at every message for every frame."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer
from numpy.typing import NDArray

from capture_nodes.recording.alignment import (
    ALIGNMENT_NAME,
    SETTLED_NS,
    WAITING_TIMES,
    AlignmentTable,
    reference_topic,
)
from capture_nodes.recording.stream_timing import EpisodeTimes
from episodes.alignment import NAME, NONE, Alignment, alignment, parse_alignment
from episodes.bag import read_bag
from episodes.errors import EpisodeError

IntArray = NDArray[np.int64]
START_NS = 1_700_000_000_000_000_000
CAMERA, JOINTS = "/toy/camera/head/image", "/toy/joint_states"
HEADER_SCHEMA = (
    "std_msgs/Header header\n"
    + "=" * 80
    + ("\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n" + "=" * 80)
    + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)


def brute_force(frame: int, times: list[int]) -> tuple[int, int, int, int]:
    """Index and offset of the last not later and the first later one; of equals the last, the first."""
    before = after = NONE
    for k, time in enumerate(times):
        if time <= frame and (before == NONE or time >= times[before]):
            before = k
        if time > frame and (after == NONE or time < times[after]):
            after = k
    return (
        before,
        times[before] - frame if before != NONE else 0,
        after,
        times[after] - frame if after != NONE else 0,
    )


def check(table: Alignment, frames: list[int], streams: dict[str, list[int]]) -> None:
    assert table.stamp_ns.tolist() == frames
    assert set(table.streams) == set(streams)
    for topic, times in streams.items():
        found = table.streams[topic]
        assert found.messages == len(times)
        rows = zip(found.before, found.before_ns, found.after, found.after_ns, strict=True)
        assert [tuple(map(int, row)) for row in rows] == [brute_force(frame, times) for frame in frames]
        for frame, nearest in zip(frames, found.nearest().tolist(), strict=True):
            assert nearest == NONE or abs(times[nearest] - frame) == min(abs(t - frame) for t in times)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[int], dict[str, list[int]], list[float]]:
    """Frames, the times of streams, and the moments (s) at which the table is brought forward."""
    length_s = draw(st.sampled_from([0.5, 9.0]))
    random = np.random.default_rng(draw(st.integers(0, 1000)))

    def times(rate_hz: float) -> list[int]:
        count = int(length_s * rate_hz)
        # Out of order and equal by the shake; a whole stream may also be late, or end early.
        shake = random.normal(0.0, draw(st.sampled_from([0.0, 0.2, 3.0])) / rate_hz, count)
        seconds = np.arange(count) / rate_hz + np.clip(shake, -0.9, 0.9)
        seconds = seconds[(seconds >= draw(st.sampled_from([-9.0, 0.3]))) & (seconds < length_s * 0.9)]
        grain = draw(st.sampled_from([1, 10_000_000]))
        return ((START_NS + (seconds * 1e9).astype(np.int64)) // grain * grain).tolist()

    streams = {
        f"/s{k}": times(rate) for k, rate in enumerate(draw(st.sampled_from([(), (20.0,), (1.0, 30.0)])))
    }
    moments = sorted(draw(st.lists(st.floats(0.0, length_s), max_size=6)))
    return times(10.0), {topic: row for topic, row in streams.items() if row}, moments


@settings(max_examples=120, deadline=None, derandomize=True)
@given(story=stories())
def test_every_frame_has_its_neighbours_however_the_table_was_made(
    story: tuple[list[int], dict[str, list[int]], list[float]],
) -> None:
    frames, streams, moments = story
    table = AlignmentTable(CAMERA)
    done = {topic: 0 for topic in (CAMERA, *streams)}
    for moment in [*moments, None]:
        for topic, times in ((CAMERA, frames), *streams.items()):
            begin = done[topic]
            end = len(times)
            if moment is not None:
                # What has come: everything in front of the first that has not.
                later = [k for k in range(begin, end) if times[k] > START_NS + moment * 1e9]
                end = later[0] if later else end
            if end > begin:
                table.add(topic, "header", np.array(times[begin:end], dtype=np.int64))
            done[topic] = end
        table.advance(final=moment is None)
    check(parse_alignment(None, table.encoded()), frames, streams)


def test_the_times_that_are_kept_do_not_grow_with_the_episode() -> None:
    table = AlignmentTable(CAMERA)
    most = []
    for second in range(60):
        begin = START_NS + second * 10**9
        table.add(CAMERA, "header", begin + np.arange(30) * 33_333_333)
        table.add(JOINTS, "header", begin + np.arange(500) * 2_000_000)
        table.advance()
        most.append(table.kept_bytes)
    assert max(most) <= 8 * 500 * (2 + SETTLED_NS * 2 / 1e9)
    table.advance(final=True)
    found = parse_alignment(None, table.encoded())
    assert len(found.stamp_ns) == 1800
    assert np.array_equal(found.streams[JOINTS].before, (found.stamp_ns - START_NS) // 2_000_000)


def test_the_table_of_an_episode_is_small() -> None:
    """20 s, 30 frames/s, 20 streams with stamps as irregular as they come."""
    random = np.random.default_rng(1)
    table = AlignmentTable(CAMERA)

    def stamps(rate_hz: float) -> IntArray:
        n = int(20 * rate_hz)
        return START_NS + ((np.arange(n) / rate_hz + random.normal(0, 2e-4, n)) * 1e9).astype(np.int64)

    table.add(CAMERA, "header", stamps(30.0))
    for k in range(20):
        table.add(f"/toy/stream_{k}", "header", stamps([500.0, 200.0, 90.0][k % 3]))
    table.advance(final=True)
    assert len(table.encoded()) < 300_000
    skew = table.skew({})["/toy/stream_0"]
    assert skew["reference"] == CAMERA and 0.0 < skew["nearest_p50_s"] < skew["nearest_max_s"] < 0.002


def message(stamp_ns: int) -> bytes:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    words = (seconds, nanoseconds, 1)
    return b"\0\1\0\0" + b"".join(word.to_bytes(4, "little") for word in words) + b"\0"


def test_indices_are_those_of_the_file(tmp_path: Path) -> None:
    """From the bytes of the messages to a file, and back by the readers of `episodes`."""
    random = np.random.default_rng(2)
    table = AlignmentTable(CAMERA)
    times = EpisodeTimes(table.add)
    path = tmp_path / "episode.mcap"
    rows = []
    for topic, rate in ((CAMERA, 30.0), (JOINTS, 200.0), ("/toy/late", 50.0)):
        for k in range(int(3 * rate)):
            stamp = START_NS + int((k / rate + random.normal(0, 1e-3)) * 1e9)
            if topic != "/toy/late" or k > 40:
                rows.append((stamp + int(random.integers(10**5, 10**7)), topic, stamp))
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema("toy_msgs/msg/Stamped", "ros2msg", HEADER_SCHEMA.encode())
        channels = {t: writer.register_channel(t, "cdr", schema) for t in (CAMERA, JOINTS, "/toy/late")}
        for sequence, (received, topic, stamp) in enumerate(sorted(rows)):
            data = message(stamp)
            writer.add_message(channels[topic], received, data, stamp, sequence)
            times.stream(topic, True).add(received, stamp, 0, data)
            if sequence % 100 == 0:
                times.fold()
                table.advance()
        times.fold()
        table.advance(final=True)
        writer.add_attachment(START_NS, START_NS, ALIGNMENT_NAME, "application/gzip", table.encoded())
        writer.finish()
    bag = read_bag(path)
    stamps = {topic: stream.stamp_ns for topic, stream in bag.streams.items()}
    assert all(row is not None for row in stamps.values())
    frames = stamps.pop(CAMERA)
    assert frames is not None
    check(
        alignment(bag),
        frames.tolist(),
        {topic: row.tolist() for topic, row in stamps.items() if row is not None},
    )


def test_skew_is_what_two_streams_differ_by() -> None:
    table = AlignmentTable(CAMERA)
    times = EpisodeTimes(table.add)
    for topic, shift_ns, delay_ns in ((CAMERA, 0, 30_000_000), (JOINTS, 3_000_000, 1_000_000)):
        stream = times.stream(topic, True)
        for k in range(100):
            stamp = START_NS + k * 20_000_000 + shift_ns
            stream.add(stamp + delay_ns, stamp, 0, message(stamp))
    times.fold()
    table.advance(final=True)
    skew = table.skew(times.figures())
    assert set(skew) == {JOINTS}
    assert skew[JOINTS]["nearest_p50_s"] == pytest.approx(0.003, rel=0.01)
    assert skew[JOINTS]["nearest_max_s"] == pytest.approx(0.003)
    assert skew[JOINTS]["clock_s"] == pytest.approx(-0.029, rel=0.02)


def test_a_reference_that_never_came_leaves_an_empty_table() -> None:
    table = AlignmentTable(CAMERA)
    table.add(JOINTS, "header", np.array([1, 2], dtype=np.int64))
    table.advance(final=True)
    found = parse_alignment(None, table.encoded())
    assert (found.reference, len(found.stamp_ns), len(found.streams[JOINTS].before)) == (CAMERA, 0, 0)
    assert table.skew({}) == {}


@pytest.mark.parametrize(
    ("topics", "configured", "expected"),
    [
        ([JOINTS, "/toy/camera/wrist/image", CAMERA], "", CAMERA),
        ([JOINTS, "/toy/camera/head/image/compressed"], "", "/toy/camera/head/image/compressed"),
        ([JOINTS, CAMERA, "/toy/camera/wrist/image"], "/toy/camera/wrist/image", "/toy/camera/wrist/image"),
        ([JOINTS, CAMERA], "/toy/camera/absent/image", CAMERA),
        ([JOINTS, "/toy/camera/head/camera_info", "/toy/wrench/left"], "", JOINTS),
        (["/toy/wrench/left"], "", ""),
        ([], "", ""),
    ],
)
def test_whose_frames_the_table_is_for(topics: list[str], configured: str, expected: str) -> None:
    assert reference_topic(topics, configured) == expected


def packed(**changes: object) -> bytes:
    column = {"time": "header", "messages": 2, "before": [0], "before_ns": [0], "after": [1], "after_ns": [5]}
    column.update(changes.pop("column", {}))  # type: ignore[call-overload]
    table = {"version": 1, "reference": CAMERA, "time": "header", "base_ns": "5", "stamp_ns": [0], **changes}
    return gzip.compress(json.dumps({"streams": {JOINTS: column}, **table}).encode())


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "no JSON under gzip"),
        (b"{}", "no JSON under gzip"),
        (packed()[:-9], "no JSON under gzip"),
        (gzip.compress(b"\xff"), "no JSON under gzip"),
        (gzip.compress(b"[]"), "no JSON object"),
        (packed(version=2), "version 2; 1 is known"),
        (packed(base_ns="x"), "not as described"),
        (packed(base_ns=str(1 << 70)), "not as described"),
        (packed(stamp_ns=None), "not as described"),
        (packed(stamp_ns=[0, 1]), "before has 1 indices"),
        (packed(streams=[1]), "not as described"),
        (packed(streams={"/x": 3}), "not as described"),
        (packed(column={"after": [2]}), "after names message 2 of 2"),
        (packed(column={"after_ns": []}), "0 offsets"),
        (packed(column={"before": ["a"]}), "not as described"),
    ],
)
def test_a_table_that_cannot_be_read_says_why(data: bytes, words: str) -> None:
    with pytest.raises(EpisodeError, match=words) as caught:
        parse_alignment(Path("x.mcap"), data)
    assert NAME in str(caught.value)


def test_missing_neighbours_are_none() -> None:
    column = {"messages": 0, "before": [None], "before_ns": [None], "after": [None], "after_ns": [None]}
    found = parse_alignment(None, packed(column=column)).streams[JOINTS]
    assert (found.before.tolist(), found.before_ns.tolist(), found.nearest().tolist()) == (
        [NONE],
        [0],
        [NONE],
    )


def test_without_a_reference_no_times_are_kept() -> None:
    table = AlignmentTable("")
    for _ in range(100):
        table.add("/a", "publish", np.arange(1000, dtype=np.int64))
        table.advance()
    assert table.kept_bytes == 0
    table.advance(final=True)
    assert json.loads(gzip.decompress(table.encoded()))["streams"]["/a"]["messages"] == 100_000


def test_a_reference_that_falls_silent_does_not_keep_the_others_waiting_for_ever() -> None:
    table = AlignmentTable(CAMERA)
    silent_s, length_s = range(10, 400), 410
    frames, most = [], 0
    for second in range(length_s):
        begin = START_NS + second * 10**9
        if second not in silent_s:
            frames.append(begin + np.arange(30) * 33_333_333)
            table.add(CAMERA, "header", frames[-1])
        table.add(JOINTS, "header", begin + np.arange(500) * 2_000_000)
        table.advance()
        most = max(most, table.kept_bytes)
    assert most <= 8 * (WAITING_TIMES + 500)
    # A camera whose stamps come from the time of the silence, in which nobody waited for it.
    late = START_NS + np.array([20, 21], dtype=np.int64) * 10**9
    table.add(CAMERA, "header", late)
    table.advance(final=True)
    data = table.encoded()
    let_go = json.loads(gzip.decompress(data))["streams"][JOINTS]["let_go"]
    found = parse_alignment(None, data)
    column, stamps = found.streams[JOINTS], np.concatenate([*frames, late])
    assert np.array_equal(found.stamp_ns, stamps)
    # A settled frame is aligned before anything is let go of, the frames of the last seconds too.
    expected = (stamps - START_NS) // 2_000_000
    assert np.array_equal(column.before[:-2], expected[:-2])
    assert np.array_equal(column.after[:-3], expected[:-3] + 1)
    assert column.before[-2:].tolist() == column.after[-2:].tolist() == [NONE, NONE]
    assert column.messages == 500 * length_s
    assert 0 < let_go <= 500 * len(silent_s)
    assert table.skew({})[JOINTS]["nearest_max_s"] <= 0.002


@settings(deadline=None, max_examples=20, derandomize=True)
@given(data=st.data())
def test_what_was_let_go_of_is_never_mistaken(data: st.DataObject) -> None:
    """With room for few times: every neighbour that is named is the true one."""
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    room = data.draw(st.sampled_from([1, 5, 40]))
    times = (
        START_NS + np.arange(400) * 10**8 + random.normal(0, data.draw(st.sampled_from([0, 2e8])), 400)
    ).astype(np.int64)
    frames = (START_NS + np.sort(random.uniform(0, 40e9, 30))).astype(np.int64)
    table = AlignmentTable(CAMERA)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("capture_nodes.recording.alignment.WAITING_TIMES", room)
        for begin in range(0, 400, 20):
            table.add(JOINTS, "header", times[begin : begin + 20])
            table.advance()
        table.add(CAMERA, "header", frames)
        table.advance(final=True)
    column = parse_alignment(None, table.encoded()).streams[JOINTS]
    assert column.messages == 400
    rows = zip(column.before, column.before_ns, column.after, column.after_ns, strict=True)
    for frame, row in zip(frames.tolist(), rows, strict=True):
        true = brute_force(frame, times.tolist())
        for named, right in ((row[:2], true[:2]), (row[2:], true[2:])):
            assert tuple(map(int, named)) in ((NONE, 0), right)
