"""Running figures, folded in any pieces, against numpy on the whole."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from capture_nodes.recording.quantile_sketch import RELATIVE_ERROR, RESOLUTION_NS, QuantileSketch
from capture_nodes.recording.stream_timing import (
    FUTURE_NS,
    EpisodeTimes,
    StreamTimes,
    TimingFigures,
    begins_with_stamp,
)

IntArray = NDArray[np.int64]
START_NS = 1_700_000_000_000_000_000


def head(stamp_ns: int, big_endian: bool = False) -> bytes:
    seconds, nanoseconds = divmod(stamp_ns, 1_000_000_000)
    if big_endian:
        return b"\0\0\0\0" + struct.pack(">iI", seconds, nanoseconds) + bytes(20)
    return b"\0\1\0\0" + struct.pack("<iI", seconds, nanoseconds) + bytes(20)


def close(value: float | None, exact: float) -> bool:
    return value is not None and abs(value - exact) <= 2 * RELATIVE_ERROR * abs(exact) + RESOLUTION_NS * 1e-9


def lower_quantile(values: IntArray, share: float) -> float:
    return float(np.sort(values)[max(1, int(np.ceil(share * len(values)))) - 1])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    values=st.lists(st.integers(-(10**12), 10**12), min_size=1, max_size=200),
    share=st.sampled_from([0.0, 0.01, 0.5, 0.9, 0.99, 1.0]),
    pieces=st.integers(1, 7),
)
def test_a_sketch_is_within_its_error_of_the_exact_quantile(
    values: list[int], share: float, pieces: int
) -> None:
    sketch = QuantileSketch()
    array = np.array(values, dtype=np.int64)
    for piece in np.array_split(array, pieces):
        sketch.fold(piece)
    exact = lower_quantile(array, share)
    found = sketch.quantile(share)
    assert found is not None
    # float32 rounds a value at the border of two bins into either.
    assert abs(found - exact) <= (RELATIVE_ERROR + 1e-6) * abs(exact) + RESOLUTION_NS
    assert (sketch.low, sketch.high, sketch.count) == (min(values), max(values), len(values))


def test_a_sketch_of_nothing_and_of_what_is_beyond_its_bins() -> None:
    sketch = QuantileSketch()
    sketch.fold(np.empty(0, dtype=np.int64))
    assert sketch.quantile(0.5) is None
    far = np.array([-(1 << 60), 0, 1 << 60], dtype=np.int64)
    sketch.fold(far)
    assert sketch.quantile(0.5) == 0.0
    assert (sketch.low, sketch.high) == (-(1 << 60), 1 << 60)


@st.composite
def columns(draw: st.DrawFn) -> dict[str, Any]:
    n = draw(st.integers(1, 120))
    seed = draw(st.integers(0, 10_000))
    random = np.random.default_rng(seed)
    period = draw(st.sampled_from([2_000_000, 10_000_000, 33_333_333]))
    steps = period + random.normal(0.0, draw(st.sampled_from([0.0, 0.02, 0.4])) * period, n)
    steps[random.random(n) < draw(st.sampled_from([0.0, 0.1]))] *= 4
    steps[random.random(n) < draw(st.sampled_from([0.0, 0.1]))] *= -0.5
    stamps = START_NS + np.cumsum(steps.astype(np.int64))
    source = stamps + random.integers(0, 3_000_000, n)
    received = source + random.integers(-100_000, 5_000_000, n)
    stamps[random.random(n) < draw(st.sampled_from([0.0, 0.05]))] += 4 * FUTURE_NS
    return {
        "stamps": stamps,
        "source": source,
        "received": received,
        "stamped": draw(st.booleans()),
        "expected_hz": draw(st.sampled_from([None, 1e9 / period])),
        "big": random.random(n) < draw(st.sampled_from([0.0, 0.5])),
        "fold": random.random(n) < draw(st.sampled_from([0.0, 0.1, 1.0])),
        "publisher": random.integers(0, draw(st.integers(1, 3)), n) + draw(st.integers(0, 5)),
    }


def check(figures: TimingFigures, c: dict[str, Any], mine: NDArray[np.bool_]) -> None:
    stamps, source, received = (c[name][mine] for name in ("stamps", "source", "received"))
    times = stamps if c["stamped"] else source
    steps = np.diff(times)
    assert figures.basis == ("header" if c["stamped"] else "publish")
    assert (figures.count, figures.first_ns, figures.last_ns) == (len(times), times[0], times[-1])
    assert (figures.received_first_ns, figures.received_last_ns) == (received.min(), received.max())
    assert figures.not_increasing == np.count_nonzero(steps <= 0)
    assert close(figures.delay_p50_s, lower_quantile(received - source, 0.5) * 1e-9)
    assert close(figures.delay_p99_s, lower_quantile(received - source, 0.99) * 1e-9)
    assert figures.delay_max_s == pytest.approx((received - source).max() * 1e-9)
    if len(steps):
        assert figures.longest_gap_s == pytest.approx(steps.max() * 1e-9)
        at = int(np.flatnonzero(times == figures.longest_gap_at_ns)[0])
        assert times[at : at + 2].tolist() in [
            times[i : i + 2].tolist() for i in np.flatnonzero(steps == steps.max())
        ]
        assert figures.period_mean_s == pytest.approx(steps.mean() * 1e-9, abs=1e-12)
        assert figures.period_std_s == pytest.approx(steps.std() * 1e-9, rel=1e-6, abs=2e-9)
        if times[-1] > times[0]:
            assert figures.rate_hz == pytest.approx(len(steps) / ((times[-1] - times[0]) * 1e-9))
    else:
        assert (figures.longest_gap_s, figures.rate_hz) == (None, None)
    if c["expected_hz"] is None or not len(steps):
        assert (figures.gaps, figures.under_two_periods) == (None, None)
    else:
        under = np.count_nonzero(steps.astype(np.float64) * 1e-9 < 2.0 / c["expected_hz"])
        assert figures.gaps == len(steps) - under
        assert figures.under_two_periods == pytest.approx(under / len(steps))
        deviation = np.abs(steps - round(1e9 / c["expected_hz"]))
        assert close(figures.deviation_p99_s, lower_quantile(deviation, 0.99) * 1e-9)
    if c["stamped"]:
        clock = received - stamps
        assert close(figures.clock_p50_s, lower_quantile(clock, 0.5) * 1e-9)
        assert figures.clock_min_s == pytest.approx(clock.min() * 1e-9)
        assert figures.clock_max_s == pytest.approx(clock.max() * 1e-9)
        assert figures.in_future == np.count_nonzero(clock < -FUTURE_NS)
        offset = max(np.abs(clock).max(), np.abs(source - stamps).max())
        assert figures.clock_offset_s == pytest.approx(offset * 1e-9)
    else:
        assert (figures.clock_p50_s, figures.clock_offset_s, figures.in_future) == (None, None, 0)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(c=columns())
def test_figures_of_all_and_of_each_publisher_do_not_depend_on_the_pieces(c: dict[str, Any]) -> None:
    times = StreamTimes("/t", c["stamped"], c["expected_hz"])
    for k in range(len(c["stamps"])):
        data = head(int(c["stamps"][k]), bool(c["big"][k]))
        times.add(int(c["received"][k]), int(c["source"][k]), int(c["publisher"][k]), data)
        if c["fold"][k]:
            times.fold()
    times.fold()
    assert times.waiting_bytes == 0
    check(times.figures(), c, np.ones(len(c["stamps"]), dtype=np.bool_))
    for publisher in np.unique(c["publisher"]):
        mine = c["publisher"] == publisher
        if len(np.unique(c["publisher"])) == 1 or c["expected_hz"] is not None:
            check(times.figures(int(publisher)), c, mine)
        else:
            assert times.figures(int(publisher)).count == np.count_nonzero(mine)
    assert times.figures(99).count == 0


def test_memory_does_not_grow_with_the_episode() -> None:
    """Half an hour of 500 Hz, a second at a time: what is kept is what one second needs."""
    times = StreamTimes("/t", True, 500.0)
    row = head(START_NS)
    most = 0
    for second in range(3):
        for k in range(500):
            times.add(START_NS + second * 10**9 + k * 2_000_000, START_NS, 0, row)
        most = max(most, times.waiting_bytes)
        times.fold()
        assert times.waiting_bytes == 0
    assert most == 500 * 32
    assert times.figures().count == 1500


def test_messages_that_are_not_of_their_type() -> None:
    times = StreamTimes("/t", True)
    for data in (head(START_NS), b"", b"\x12\x34\0\0", b"\0\1\0\0", head(0)):
        times.add(START_NS + 1, START_NS, 0, data)
    times.fold()
    figures = times.figures()
    assert (figures.count, figures.malformed, figures.unset_stamps) == (5, 1, 4)
    assert figures.clock_max_s == pytest.approx(1e-9)
    assert figures.clock_offset_s is not None and figures.clock_offset_s > 1e9


def test_without_a_message_there_are_no_figures() -> None:
    times = EpisodeTimes()
    times.stream("/t", True)
    times.fold()
    assert times.figures() == {"/t": TimingFigures("header", 0)}
    assert TimingFigures("header", 0).as_row() == {
        "basis": "header",
        "count": 0,
        "not_increasing": 0,
        "in_future": 0,
        "unset_stamps": 0,
        "malformed": 0,
    }


def test_a_stream_without_an_expected_rate_deviates_from_its_usual_one() -> None:
    times = StreamTimes("/t", False)
    for k in range(100):
        times.add(0, k * 1_000_000 + (50_000 if k == 50 else 0), 0, b"")
    times.fold()
    assert times.figures().deviation_p99_s == pytest.approx(50e-6, rel=0.01)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("std_msgs/Header header\nfloat64 x", True),
        ("# words first\n\nstd_msgs/msg/Header header # and behind", True),
        ("uint8 A=1\nuint8 B = 2\nHeader header", True),
        ("builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data", True),
        ("string data\nstd_msgs/Header header", False),
        ("geometry_msgs/TransformStamped[] transforms\n===\nMSG: x/Y\nstd_msgs/Header header", False),
        ("====\nstd_msgs/Header header", False),
        ("float64 x 1.0\nstd_msgs/Header header", False),
        ("", False),
    ],
)
def test_which_messages_begin_with_a_stamp(text: str, expected: bool) -> None:
    assert begins_with_stamp(text) is expected
