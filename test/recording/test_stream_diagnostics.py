"""What /diagnostics says of the streams: each rule, and how it goes away again."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capture_nodes.recording.stream_diagnostics import (
    ERROR,
    OK,
    WARN,
    LiveStatus,
    RecorderLoad,
    StreamDiagnostics,
)
from capture_nodes.recording.stream_quality import StreamExpectation
from capture_nodes.recording.stream_statistics import LiveCounts, StreamStatistics

NOW_NS = 1_700_000_000_000_000_000
EXPECTED = {"/t": StreamExpectation(rate_hz=100.0)}
FIRST = LiveCounts("/t", "aa", 1000, 64_000, 0, 0, 0, NOW_NS - 5_000_000, 10_000_000, 400_000)
NEXT = replace(FIRST, received=1100, bytes=70_400, latest_received_ns=NOW_NS + 995_000_000)
IDLE = RecorderLoad("recording", 0, 100_000_000, 50_000_000_000)


def after_a_second(
    *counts: LiveCounts, expected: StreamExpectation = EXPECTED["/t"], load: RecorderLoad = IDLE
) -> tuple[LiveStatus, LiveStatus]:
    """The statuses of the recorder and of /t at a second look."""
    diagnostics = StreamDiagnostics()
    diagnostics.look([FIRST], {"/t": expected}, IDLE, now_ns=NOW_NS, now_s=10.0)
    recorder, stream = diagnostics.look(
        counts, {"/t": expected}, load, now_ns=NOW_NS + 1_000_000_000, now_s=11.0
    )
    return recorder, stream


def test_a_stream_as_it_should_be() -> None:
    recorder, stream = after_a_second(NEXT)
    assert (stream.name, stream.level, stream.message) == ("/t", OK, "ok")
    assert stream.values == {
        "rate_hz": "100",
        "expected_hz": "100",
        "received": "1100",
        "publishers": "1",
        "lost_middleware": "0",
        "lost_queue": "0",
        "lost_disk": "0",
        "lost_now": "0",
        "longest_gap_s": "0.0100",
        "longest_delay_s": "0.0004",
        "silent_s": "0.005",
    }
    assert (recorder.name, recorder.level, recorder.message) == ("recorder", OK, "ok")
    assert (recorder.values["messages_hz"], recorder.values["megabytes_per_s"]) == ("100", "0.01")
    assert (recorder.values["state"], recorder.values["streams"]) == ("recording", "1")


@pytest.mark.parametrize(
    ("changes", "level", "words"),
    [
        ({"received": 1088}, WARN, "88.0 Hz, 100 Hz expected"),
        ({"received": 1089}, OK, "ok"),
        ({"received": 1112}, WARN, "112.0 Hz"),
        ({"lost_middleware": 3}, WARN, "3 lost in the middleware"),
        ({"lost_queue": 2}, ERROR, "2 lost in the queue"),
        ({"lost_disk": 1}, ERROR, "1 lost on the disk"),
        ({"longest_interval_ns": 51_000_000}, WARN, "a gap of 51 ms"),
        ({"longest_interval_ns": 49_000_000}, OK, "ok"),
        ({"longest_delay_ns": 150_000_000}, WARN, "under way for 150 ms"),
        ({"received": 1000, "latest_received_ns": NOW_NS - 100_000_000}, WARN, "nothing for 1.1 s"),
    ],
)
def test_each_rule(changes: dict[str, int], level: int, words: str) -> None:
    recorder, stream = after_a_second(replace(NEXT, **changes))  # type: ignore[arg-type]
    assert (stream.level, recorder.level) == (level, level)
    assert words in stream.message
    if level != OK:
        assert "1 streams" in recorder.message and "/t" in recorder.message


def test_a_required_stream_that_is_silent_is_an_error() -> None:
    required = replace(EXPECTED["/t"], required=True)
    gone = replace(FIRST, latest_received_ns=NOW_NS - 100_000_000)
    assert after_a_second(gone, expected=required)[1].level == ERROR
    _, never = after_a_second(expected=required)
    assert (never.level, never.message) == (ERROR, "required, and nothing has arrived yet")
    assert after_a_second()[1].level == OK


def test_a_loss_is_told_once_and_kept_in_the_values() -> None:
    diagnostics = StreamDiagnostics()
    messages = []
    for second, lost in enumerate((0, 4, 4)):
        row = replace(
            FIRST,
            received=1000 + 100 * second,
            lost_middleware=lost,
            latest_received_ns=NOW_NS + second * 10**9,
        )
        now = diagnostics.look([row], EXPECTED, IDLE, now_ns=NOW_NS + second * 10**9, now_s=float(second))[1]
        messages.append((now.message, now.values["lost_middleware"], now.values["lost_now"]))
    assert messages == [("ok", "0", "0"), ("4 lost in the middleware", "4", "4"), ("ok", "4", "0")]


def test_what_is_lost_in_the_queue_counts_anew_with_the_next_episode() -> None:
    diagnostics = StreamDiagnostics()
    told = []
    for second, lost in enumerate((5, 5, 2, 0)):
        row = replace(FIRST, lost_queue=lost, latest_received_ns=NOW_NS)
        now = diagnostics.look([row], {}, IDLE, now_ns=NOW_NS, now_s=float(second))[1]
        told.append(now.values["lost_now"])
    assert told == ["0", "0", "2", "0"]


def test_without_numbers_nothing_is_called_lost() -> None:
    recorder, stream = after_a_second(replace(NEXT, lost_middleware=None))
    assert (stream.level, stream.values["lost_middleware"]) == (OK, "not counted")
    assert recorder.values["not_counted"] == "1"


def test_publishers_of_a_topic_are_one_stream() -> None:
    other = replace(NEXT, gid="bb", received=5, lost_middleware=1, longest_delay_ns=7_000_000)
    _, stream = after_a_second(NEXT, other)
    assert (stream.values["received"], stream.values["publishers"]) == ("1105", "2")
    assert (stream.values["lost_middleware"], stream.values["longest_delay_s"]) == ("1", "0.0070")


def test_a_topic_without_expectation_only_reports() -> None:
    diagnostics = StreamDiagnostics()
    row = replace(FIRST, latest_received_ns=NOW_NS - 3600 * 10**9)
    for second in range(2):
        recorder, stream = diagnostics.look([row], {}, IDLE, now_ns=NOW_NS, now_s=float(second))
    assert (stream.level, stream.values["silent_s"], stream.values["expected_hz"]) == (OK, "3600", "")
    assert recorder.level == OK


@pytest.mark.parametrize(
    ("load", "level", "words"),
    [
        (replace(IDLE, backlog_bytes=60_000_000), WARN, "60 MB wait for it, 100 MB may"),
        (replace(IDLE, backlog_bytes=80_000_000), ERROR, "the disk is slow"),
        (replace(IDLE, free_bytes=4_000_000_000), WARN, "4.0 GB left"),
        (replace(IDLE, problem="writing stopped: full"), ERROR, "writing stopped: full"),
        (replace(IDLE, free_bytes=None, backlog_limit_bytes=0), OK, "ok"),
    ],
)
def test_the_recorder_as_a_whole(load: RecorderLoad, level: int, words: str) -> None:
    recorder, stream = after_a_second(NEXT, load=load)
    assert (recorder.level, stream.level) == (level, OK)
    assert words in recorder.message


def test_a_clock_that_was_set_back_is_no_silence() -> None:
    diagnostics = StreamDiagnostics()
    (_, stream) = diagnostics.look([FIRST], EXPECTED, IDLE, now_ns=NOW_NS - 10**12, now_s=0.0)
    assert (stream.level, stream.values["silent_s"], stream.values["rate_hz"]) == (OK, "0", "")


def test_live_counts_of_the_statistics_are_taken_as_they_are() -> None:
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", "aa")
    diagnostics = StreamDiagnostics()
    for second in range(2):
        for k in range(100):
            received = NOW_NS + second * 10**9 + k * 10_000_000
            counts.arrived(second * 100 + k + 1, 10, received - 1_000_000, received)
        look_ns = NOW_NS + second * 10**9 + 995_000_000
        _, stream = diagnostics.look(statistics.live([]), EXPECTED, IDLE, now_ns=look_ns, now_s=float(second))
    assert (stream.level, stream.values["rate_hz"], stream.values["longest_gap_s"]) == (OK, "100", "0.0100")
