"""The verdict at the end of an episode: each fault found and named, and the same as from the file alone."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.writer import CompressionType, Writer

from capture_nodes.recording.episode_record import streams_record
from capture_nodes.recording.stream_quality import (
    EpisodeQuality,
    Finding,
    StreamEvidence,
    StreamExpectation,
    judge_episode,
)
from capture_nodes.recording.stream_statistics import StreamStatistics
from capture_nodes.recording.stream_timing import EpisodeTimes, StreamTimes, TimingFigures
from episodes.bag import read_bag
from episodes.streams_check import check_streams, real_time_factor

START_NS = 1_700_000_000_000_000_000
WHOLE = [START_NS + k * 10_000_000 for k in range(200)]
SCHEMA = (
    "std_msgs/Header header\n"
    + "=" * 80
    + ("\nMSG: std_msgs/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n" + "=" * 80)
    + "\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
)


def message(stamp_ns: int) -> bytes:
    seconds, nanoseconds = divmod(stamp_ns, 10**9)
    return b"\0\1\0\0" + b"".join(word.to_bytes(4, "little") for word in (seconds, nanoseconds, 1)) + b"\0"


def evidence(
    stamps: list[int] | None = None, rate_hz: float | None = 100.0, **changes: Any
) -> StreamEvidence:
    """Two seconds at 100 Hz, or what is given."""
    times = StreamTimes("/t", True, rate_hz)
    for stamp in WHOLE if stamps is None else stamps:
        # A stamp that is not set is no time.
        source = (stamp or START_NS) + 100_000
        times.add(source + 900_000, source, 0, message(stamp))
    times.fold()
    return StreamEvidence(times.figures(), **changes)


def kinds(quality: EpisodeQuality) -> list[str]:
    return [finding.kind for finding in quality.findings]


def judge(found: StreamEvidence | None, expected: StreamExpectation, **more: Any) -> EpisodeQuality:
    return judge_episode({} if found is None else {"/t": found}, {"/t": expected}, **more)


EXPECTED = StreamExpectation(rate_hz=100.0, required=True)


def test_a_whole_stream_passes() -> None:
    quality = judge(evidence(), EXPECTED)
    assert (quality.passed, quality.verdict, quality.reasons, quality.judged) == (True, "passed", [], 1)
    assert quality.as_record() == {"verdict": "passed", "reasons": "[]", "findings": "[]", "judged": "1"}


@pytest.mark.parametrize(
    ("stamps", "changes", "expectation", "kind", "words"),
    [
        (WHOLE[:1], {}, {"edge_s": 9.0}, ["rate"], "1 messages, 100 Hz expected"),
        (WHOLE[::2], {}, {}, ["rate", "intervals"], "50.00 Hz, 100 Hz ± 2 % expected"),
        (WHOLE[::2], {}, {"rate_share": 0.6, "intervals_share": 0.0}, [], ""),
        (WHOLE[:50] + WHOLE[53:], {}, {}, [], ""),
        (
            WHOLE[:50] + WHOLE[53:],
            {},
            {"longest_gap_periods": 3.0},
            ["gap"],
            "no message for 40.0 ms, at most 30.0",
        ),
        (WHOLE[:50] + WHOLE[53:], {}, {"longest_gap_s": 0.039}, ["gap"], "at 22:13:20.490 UTC"),
        (WHOLE[:50] + WHOLE[53:], {}, {"longest_gap_s": 0.041}, [], ""),
        (
            [*WHOLE[:50], WHOLE[49], *WHOLE[50:]],
            {},
            {},
            ["order"],
            "1 stamps do not come after the one before",
        ),
        (
            None,
            {"lost_middleware": 2, "lost_disk": 1},
            {},
            ["lost"],
            "3 messages lost (2 in the middleware, 1 on the disk)",
        ),
        (None, {"lost_queue": 3}, {"allowed_lost": 3}, [], ""),
        (None, {"lost_middleware": None}, {}, ["not counted"], "numbers nothing"),
        (None, {"lost_middleware": None}, {"counted": False}, [], ""),
        (None, {"not_joined": {"/node": 4}}, {}, ["not joined"], "4 messages that /node published"),
        ([0] * 200, {}, {"rate_hz": None}, ["clock"], "200 of 200 stamps are not set"),
        (None, {"lost_middleware": None, "not_joined": {"/node": 4}}, {"rate_hz": None}, [], ""),
    ],
)
def test_each_fault_is_named_with_its_value_and_bound(
    stamps: list[int] | None,
    changes: dict[str, Any],
    expectation: dict[str, Any],
    kind: list[str],
    words: str,
) -> None:
    expected = replace(EXPECTED, **expectation)
    quality = judge(evidence(stamps, expected.rate_hz, **changes), expected)
    assert kinds(quality) == kind
    assert words in "; ".join(quality.reasons)
    assert all(reason.startswith("/t: ") for reason in quality.reasons)


def test_a_required_stream_that_is_not_there_fails() -> None:
    quality = judge(None, EXPECTED)
    assert quality.reasons == ["/t: required, and not one message came"]
    assert judge(None, replace(EXPECTED, required=False)).passed
    assert kinds(judge(StreamEvidence(TimingFigures("header", 0)), EXPECTED)) == ["missing"]


def test_a_stream_with_a_rate_whose_publisher_is_silent_fails() -> None:
    silent, expected = StreamEvidence(TimingFigures("header", 0)), replace(EXPECTED, required=False)
    assert judge(silent, expected).reasons == ["/t: silent: no message within the episode, 100 Hz expected"]
    assert judge(silent, replace(expected, rate_hz=None)).passed


def test_late_at_the_head_or_the_tail() -> None:
    begin, end = START_NS, START_NS + 2 * 10**9
    assert judge(evidence(), EXPECTED, begin_ns=begin, end_ns=end).passed
    late = judge(evidence(), EXPECTED, begin_ns=begin - 300_000_000, end_ns=end)
    assert late.reasons == ["/t: begins 0.30 s after the episode, at most 0.27 s at 22:13:20.000 UTC"]
    early = judge(evidence(), EXPECTED, begin_ns=begin, end_ns=end + 10**9)
    assert kinds(early) == ["ends early"]
    assert judge(evidence(), replace(EXPECTED, edge_s=2.0), begin_ns=begin, end_ns=end + 10**9).passed


def test_a_robot_that_fell_behind() -> None:
    assert judge(evidence(), EXPECTED, real_time_factor=0.99).passed
    for factor in (0.9899, float("nan")):
        quality = judge(evidence(), EXPECTED, real_time_factor=factor)
        assert kinds(quality) == ["real time"]
        assert "at least 0.99" in quality.reasons[0]


def test_the_record_holds_values_bounds_and_moments() -> None:
    stamps = WHOLE[:50] + WHOLE[53:]
    record = judge(evidence(stamps), replace(EXPECTED, longest_gap_s=0.02)).as_record()
    (row,) = json.loads(record["findings"])
    assert (row["topic"], row["kind"], row["bound"]) == ("/t", "gap", 0.02)
    assert row["value"] == pytest.approx(0.04)
    assert row["at_ns"] == WHOLE[49]
    assert json.loads(record["reasons"])[0].startswith("/t: no message for 40.0 ms")


def test_publishers_of_a_topic_are_added_up() -> None:
    a = evidence(lost_middleware=1, lost_queue=2, not_joined={"/n": 1})
    b = evidence(lost_middleware=3, lost_disk=4, not_joined={"/n": 2, "/m": 5})
    both = a.with_publisher(b)
    assert (both.lost_middleware, both.lost, both.not_joined) == (4, 10, {"/n": 3, "/m": 5})
    assert a.with_publisher(evidence(lost_middleware=None)).lost_middleware is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({}, []),
        ({"rate_hz": None}, []),
        ({"rate_share": 2, "edge_s": -1.0}, ["rate_share is 2", "edge_s is -1.0"]),
        ({"rate_hz": float("nan")}, ["rate_hz is nan"]),
        ({"allowed_lost": True}, ["allowed_lost is True"]),
        ({"clock_s": "1"}, ["clock_s is '1'"]),
        ({"longest_gap_periods": 0.5}, ["longest_gap_periods is 0.5"]),
        ({"rate_hz": None, "longest_gap_periods": 3.0}, ["longest_gap_periods needs rate_hz"]),
    ],
)
def test_an_expectation_lists_all_that_is_wrong_with_it(changes: dict[str, Any], words: list[str]) -> None:
    problems = replace(EXPECTED, **changes).problems()
    assert len(problems) == len(words)
    assert all(word in problem for word, problem in zip(words, problems, strict=True))


def test_a_finding_without_a_moment() -> None:
    assert str(Finding("", "real time", "slow")) == "slow"
    assert str(Finding("/t", "rate", "slow")) == "/t: slow"


# Beside the check of the file -------------------------------------------------------------------------------

RATES = {"/toy/a": 100.0, "/toy/b": 30.0, "/toy/c": None}


@st.composite
def recordings(draw: st.DrawFn) -> dict[str, Any]:
    """What a middleware delivers of three topics in 2 s, with faults of all kinds, near their bounds too."""
    random = np.random.default_rng(draw(st.integers(0, 10_000)))
    arrived = []
    for topic, rate in RATES.items():
        real = (rate or 50.0) * draw(st.sampled_from([1.0, 1.0, 1.0, 1.019, 1.021, 0.979, 0.9]))
        publishers = draw(st.sampled_from([1, 1, 2]))
        n = int(2 * real)
        seconds = np.arange(n) / real + random.normal(0.0, draw(st.sampled_from([0, 0, 0.1, 0.6])) / real, n)
        begin = draw(st.sampled_from([0.0, 0.0, 0.25, 0.4]))
        end = draw(st.sampled_from([2.0, 2.0, 1.8, 1.2]))
        drop = draw(st.sampled_from([0.0, 0.0, 0.01, 0.3]))
        shift = draw(st.sampled_from([0.0, 0.0, 0.49, 0.51, -3.0]))
        numbers = [0, 0]
        for k in range(n):
            gid = 0 if publishers == 1 or k < n // 2 else 1
            numbers[gid] += 1
            if not begin <= k / real < end or (random.random() < drop and 5 < k < n - 5):
                continue
            source = START_NS + int(seconds[k] * 1e9)
            stamp = source + int(shift * 1e9)
            received = START_NS + int(k / real * 1e9) + 2_000_000
            arrived.append((received, topic, gid, numbers[gid], source, stamp))
    return {
        "arrived": sorted(arrived),
        "factor": draw(st.sampled_from([None, 0.995, 0.9])),
        "queue": draw(st.sampled_from([0.0, 0.0, 0.02])),
        "seed": draw(st.integers(0, 100)),
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(recording=recordings())
def test_the_verdict_is_that_of_the_check_of_the_file(
    recording: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Both are fed the same messages: one while they are recorded, the other from the file alone."""
    statistics, times = StreamStatistics(), EpisodeTimes()
    for topic, rate in RATES.items():
        statistics.add_topic(topic, SCHEMA, rate)
    statistics.episode_begins("e", times)
    random = np.random.default_rng(recording["seed"])
    path = tmp_path_factory.mktemp("agree") / "episode.mcap"
    with path.open("wb") as file:
        writer = Writer(file, compression=CompressionType.NONE)
        writer.start(profile="ros2", library="test")
        schema = writer.register_schema("toy_msgs/msg/Stamped", "ros2msg", SCHEMA.encode())
        channels: dict[str, int] = {}
        for received, topic, gid, number, source, stamp in recording["arrived"]:
            counts = statistics.publisher(topic, f"a{gid}")
            window = statistics.into("e", counts, counts.arrived(number, 10, source, received))
            if random.random() < recording["queue"]:
                window.lost_queue += 1
                continue
            data = message(stamp)
            window.wrote(received, source, data)
            if topic not in channels:
                channels[topic] = writer.register_channel(topic, "cdr", schema)
            writer.add_message(channels[topic], received, data, source, number)
        times.fold()
        table = {
            key: {**row, "expected_hz": RATES[row["topic"]]}
            for key, row in statistics.episode_table("e").items()
        }
        writer.add_metadata("streams", streams_record(table))
        episode = {"id": "e", "robot": "toy", "simulated": "true"}
        if recording["factor"] is not None:
            episode["real_time_factor"] = f"{recording['factor']:.4f}"
        writer.add_metadata("episode", episode)
        writer.finish()
    quality = judge_episode(
        statistics.evidence("e"),
        {topic: StreamExpectation(rate_hz=rate) for topic, rate in RATES.items()},
        real_time_factor=recording["factor"],
    )
    bag = read_bag(path)
    result = check_streams(bag)
    # What only the file's check looks at, and no episode of this test has: latency.
    offline = [p for p in result.problems if not p.startswith("latency cannot be read")]
    failed = {problem.split(": ", 1)[0] if problem.startswith("/toy/") else "" for problem in offline}
    assert {finding.topic for finding in quality.findings} == failed
    assert quality.passed == (not offline)
    assert real_time_factor(bag) == recording["factor"]
    for topic, stream in bag.streams.items():
        figures = times.figures()[topic]
        assert figures.count == stream.count
        assert figures.rate_hz == pytest.approx(stream.rate_hz)
        assert figures.not_increasing == result.figures["streams"][topic]["not_increasing"]
        assert figures.under_two_periods == pytest.approx(
            result.figures["streams"][topic]["under_two_periods"]
        )
        assert figures.clock_offset_s == pytest.approx(result.figures["streams"][topic]["clock_offset_s"])
        assert statistics.evidence("e")[topic].lost == result.figures["streams"][topic]["lost"]
