"""When the messages of an episode were stamped, published and received: rates, jitter, gaps, delays, clocks.

The writer thread only appends 32 bytes per message (`StreamTimes.add`). Once a second another thread folds
them into running figures of constant size, so that a long episode takes no more memory than a short one.
A topic's time is its header stamp, where its type has one, else the time at which it was published.
"""

from __future__ import annotations

import copy
import struct
import threading
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from capture_nodes.recording.mcap_writer import Buffer, SmallMessage
from capture_nodes.recording.quantile_sketch import QuantileSketch

IntArray = NDArray[np.int64]
TimeBasis = Literal["header", "publish"]

# An interval this many expected periods long is a gap.
GAP_PERIODS = 2.0
# A stamp may be this far ahead of the clock: those of a schedule are, by as much as two clocks drift apart.
FUTURE_NS = 5_000_000

_ROW = struct.Struct("<qqI12s")
# The last twelve bytes are the message's first: its encapsulation and what is the stamp if it has one.
_HEAD_BYTES = 12
_COLUMNS = np.dtype(
    {
        "names": ["received", "source", "publisher", "encapsulation", "seconds", "nanoseconds"],
        "formats": ["<i8", "<i8", "<u4", ">u2", "<i4", "<u4"],
        "offsets": [0, 8, 16, 20, 24, 28],
        "itemsize": _ROW.size,
    }
)
_BIG_ENDIAN, _LITTLE_ENDIAN = 0, 1
_STAMPED = (
    "Header",
    "std_msgs/Header",
    "std_msgs/msg/Header",
    "builtin_interfaces/Time",
    "builtin_interfaces/msg/Time",
)
_pack = _ROW.pack


def begins_with_stamp(schema_text: str) -> bool:
    """Whether the first field of a message definition is a Header or a Time: a stamp at byte 4 of its CDR."""
    for line in schema_text.splitlines():
        if line.startswith("==="):
            return False
        text = line.split("#", 1)[0]
        words = text.split()
        if len(words) >= 2 and "=" not in text:
            return words[0] in _STAMPED
    return False


@dataclass(frozen=True)
class TimingFigures:
    """What is known of the times of one stream; None where there are too few messages to tell.

    Intervals are those between the times (`basis`) of messages that follow each other in the file.
    `deviation_p99_s` is against the expected period, of a stream without one against its usual one. `gaps`
    counts intervals of `GAP_PERIODS` or more, `longest_gap_at_ns` is the time of the last message before
    the longest. `delay_*` is received minus published, `clock_*` received minus stamp, `clock_offset_s` the
    largest distance of a stamp from the times of publishing and receiving. Quantiles are within 1 %.
    """

    basis: TimeBasis
    count: int
    first_ns: int | None = None
    last_ns: int | None = None
    received_first_ns: int | None = None
    received_last_ns: int | None = None
    rate_hz: float | None = None
    period_mean_s: float | None = None
    period_std_s: float | None = None
    deviation_p99_s: float | None = None
    gaps: int | None = None
    under_two_periods: float | None = None
    longest_gap_s: float | None = None
    longest_gap_at_ns: int | None = None
    not_increasing: int = 0
    not_increasing_at_ns: int | None = None
    delay_p50_s: float | None = None
    delay_p99_s: float | None = None
    delay_max_s: float | None = None
    clock_p50_s: float | None = None
    clock_min_s: float | None = None
    clock_max_s: float | None = None
    clock_offset_s: float | None = None
    in_future: int = 0
    unset_stamps: int = 0
    malformed: int = 0

    def as_row(self) -> dict[str, Any]:
        """For the `streams` record: what is None is left out."""
        return {key: value for key, value in asdict(self).items() if value is not None}


class _RunningTiming:
    """The figures of one row of messages, folded piece by piece."""

    def __init__(self, basis: TimeBasis, expected_hz: float | None) -> None:
        self.basis = basis
        self.count = 0
        self._expected_hz = expected_hz
        self._nominal_ns: int | None = None if expected_hz is None else round(1e9 / expected_hz)
        self._first = self._last = 0
        self._received_first = self._received_last = 0
        self._sum = self._sum_of_squares = 0.0
        self._under_two = 0
        self._longest: int | None = None
        self._longest_at = 0
        self._not_increasing = 0
        self._not_increasing_at: int | None = None
        self._clock_offset = 0
        self._in_future = self._unset = self._malformed = 0
        self._deviation = QuantileSketch()
        self._delay = QuantileSketch()
        self._clock = QuantileSketch()

    def fold(
        self,
        received: IntArray,
        source: IntArray,
        stamps: IntArray | None,
        malformed: int,
    ) -> None:
        times = source if stamps is None else stamps
        if not len(times):
            return
        joined = times if not self.count else np.concatenate(([self._last], times))
        self._fold_steps(joined)
        if not self.count:
            self._first = int(times[0])
            self._received_first = int(received.min())
        self._received_first = min(self._received_first, int(received.min()))
        self._received_last = max(self._received_last, int(received.max()))
        self._last = int(times[-1])
        self.count += len(times)
        self._malformed += malformed
        self._delay.fold(received - source)
        if stamps is not None:
            is_set = stamps != 0
            self._unset += len(stamps) - int(np.count_nonzero(is_set))
            offset = received - stamps
            far = max(int(np.abs(offset).max()), int(np.abs(source - stamps).max()))
            self._clock_offset = max(self._clock_offset, far)
            self._in_future += int(np.count_nonzero(offset < -FUTURE_NS))
            self._clock.fold(offset if is_set.all() else offset[is_set])

    def _fold_steps(self, times: IntArray) -> None:
        steps = np.diff(times)
        if not len(steps):
            return
        if self._nominal_ns is None:
            self._nominal_ns = int(np.median(steps))
        deviation = steps - self._nominal_ns
        exact = deviation.astype(np.float64)
        self._sum += float(exact.sum())
        self._sum_of_squares += float(exact @ exact)
        self._deviation.fold(np.abs(deviation))
        if self._expected_hz is not None:
            # In seconds, as `episodes` computes it, so that both count an interval of just two periods alike.
            seconds = steps.astype(np.float64) * 1e-9
            self._under_two += int(np.count_nonzero(seconds < GAP_PERIODS / self._expected_hz))
        longest = int(np.argmax(steps))
        if self._longest is None or int(steps[longest]) > self._longest:
            self._longest, self._longest_at = int(steps[longest]), int(times[longest])
        back = np.flatnonzero(steps <= 0)
        if len(back):
            self._not_increasing += len(back)
            if self._not_increasing_at is None:
                self._not_increasing_at = int(times[int(back[0])])

    def figures(self) -> TimingFigures:
        if not self.count:
            return TimingFigures(self.basis, 0)
        steps = self.count - 1
        values: dict[str, Any] = {}
        if steps and self._longest is not None:
            length_ns = self._last - self._first
            mean = self._sum / steps
            values = {
                "rate_hz": steps / (length_ns * 1e-9) if length_ns > 0 else None,
                "period_mean_s": length_ns / steps * 1e-9,
                "period_std_s": float(np.sqrt(max(0.0, self._sum_of_squares / steps - mean * mean))) * 1e-9,
                "deviation_p99_s": _seconds(self._deviation.quantile(0.99)),
                "longest_gap_s": self._longest * 1e-9,
                "longest_gap_at_ns": self._longest_at,
            }
            if self._expected_hz is not None:
                values["gaps"] = steps - self._under_two
                values["under_two_periods"] = self._under_two / steps
        if self._clock.count:
            values["clock_p50_s"] = _seconds(self._clock.quantile(0.5))
            values["clock_min_s"] = self._clock.low * 1e-9
            values["clock_max_s"] = self._clock.high * 1e-9
        return TimingFigures(
            basis=self.basis,
            count=self.count,
            first_ns=self._first,
            last_ns=self._last,
            received_first_ns=self._received_first,
            received_last_ns=self._received_last,
            not_increasing=self._not_increasing,
            not_increasing_at_ns=self._not_increasing_at,
            delay_p50_s=_seconds(self._delay.quantile(0.5)),
            delay_p99_s=_seconds(self._delay.quantile(0.99)),
            delay_max_s=self._delay.high * 1e-9,
            clock_offset_s=self._clock_offset * 1e-9 if self.basis == "header" else None,
            in_future=self._in_future,
            unset_stamps=self._unset,
            malformed=self._malformed,
            **values,
        )


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns * 1e-9


@dataclass
class Judged:
    """The part of an episode whose figures are made: times (ns) from `begin_ns` to `end_ns`."""

    begin_ns: int = -(1 << 62)
    end_ns: int = 1 << 62


class StreamTimes:
    """The times of one topic within one episode, in the order of the file.

    Figures are made of those in the ``judged`` part. `add` belongs to one thread, `fold` and `figures` to
    another; they need no lock between them. ``each_fold`` is told the times of what is folded.
    """

    def __init__(
        self,
        topic: str,
        stamped: bool,
        expected_hz: float | None = None,
        each_fold: Callable[[str, TimeBasis, IntArray], None] | None = None,
        judged: Judged | None = None,
    ) -> None:
        self._judged = Judged() if judged is None else judged
        self.topic = topic
        self.basis: TimeBasis = "header" if stamped else "publish"
        self.expected_hz = expected_hz
        self._rows = bytearray()
        self._each_fold = each_fold
        self._all = _RunningTiming(self.basis, expected_hz)
        # Apart from `_all` only where there are several.
        self._only: int | None = None
        self._publishers: dict[int, _RunningTiming] = {}

    def add(self, received_ns: int, source_ns: int, publisher: int, data: Buffer) -> None:
        """One more message of the file, from the ``publisher``-th publisher of the topic."""
        self._rows += _pack(received_ns, source_ns, publisher, bytes(data[:_HEAD_BYTES]))

    def add_all(self, publisher: int, messages: Sequence[SmallMessage]) -> None:
        """`add` for each: received time, source time, number, data."""
        self._rows += b"".join(
            [
                _pack(received_ns, source_ns, publisher, bytes(data[:_HEAD_BYTES]))
                for received_ns, source_ns, _, data in messages
            ]
        )

    @property
    def waiting_bytes(self) -> int:
        return len(self._rows)

    def fold(self) -> None:
        """Take what was added into the figures."""
        # Two steps that each leave the other thread a whole array; it only ever appends.
        taken = bytes(self._rows)
        if not taken:
            return
        del self._rows[: len(taken)]
        rows = np.frombuffer(taken, dtype=_COLUMNS)
        received = rows["received"].astype(np.int64)
        source = rows["source"].astype(np.int64)
        stamps, odd = self._stamps(rows)
        times = source if stamps is None else stamps
        inside = (times >= self._judged.begin_ns) & (times <= self._judged.end_ns)
        if inside.all():
            self._all_and_each(received, source, stamps, odd, rows["publisher"])
        elif inside.any():
            kept = None if stamps is None else stamps[inside]
            publisher = rows["publisher"][inside]
            self._all_and_each(received[inside], source[inside], kept, odd[inside], publisher)
        if self._each_fold is not None:
            self._each_fold(self.topic, self.basis, times)

    def _stamps(self, rows: NDArray[Any]) -> tuple[IntArray | None, NDArray[np.bool_]]:
        encapsulation = rows["encapsulation"]
        big = encapsulation == _BIG_ENDIAN
        odd = ~big & (encapsulation != _LITTLE_ENDIAN)
        if self.basis == "publish":
            return None, np.zeros(len(rows), dtype=np.bool_)
        seconds, nanoseconds = rows["seconds"], rows["nanoseconds"]
        if big.any():
            seconds = np.where(big, seconds.byteswap(), seconds)
            nanoseconds = np.where(big, nanoseconds.byteswap(), nanoseconds)
        return seconds.astype(np.int64) * 1_000_000_000 + nanoseconds, odd

    def _all_and_each(
        self,
        received: IntArray,
        source: IntArray,
        stamps: IntArray | None,
        odd: NDArray[np.bool_],
        publisher: NDArray[Any],
    ) -> None:
        present = [int(publisher[0])] if (publisher == publisher[0]).all() else np.unique(publisher).tolist()
        if self._only is None and not self._publishers:
            self._only = present[0]
        if not self._publishers and (len(present) > 1 or present[0] != self._only):
            # Until now that of the only publisher was that of all.
            self._publishers[self._only or 0] = copy.deepcopy(self._all)
        self._all.fold(received, source, stamps, int(np.count_nonzero(odd)))
        if not self._publishers:
            return
        for index in present:
            timing = self._publishers.get(index)
            if timing is None:
                timing = self._publishers[index] = _RunningTiming(self.basis, self.expected_hz)
            mine = publisher == index
            timing.fold(
                received[mine],
                source[mine],
                None if stamps is None else stamps[mine],
                int(np.count_nonzero(odd[mine])),
            )

    def figures(self, publisher: int | None = None) -> TimingFigures:
        """Of all publishers together, or of one of them; as of the last `fold`."""
        if publisher is None or (publisher == self._only and not self._publishers):
            return self._all.figures()
        timing = self._publishers.get(publisher)
        return TimingFigures(self.basis, 0) if timing is None else timing.figures()


class EpisodeTimes:
    """The times of every topic of one episode. ``each_fold``: see `StreamTimes`.

    `judged` may be narrowed as long as nothing beyond it has been folded.
    """

    def __init__(self, each_fold: Callable[[str, TimeBasis, IntArray], None] | None = None) -> None:
        self.judged = Judged()
        self._streams: dict[str, StreamTimes] = {}
        self._each_fold = each_fold
        # The one who folds every second and the one who closes the episode may meet.
        self._folding = threading.Lock()

    def stream(self, topic: str, stamped: bool, expected_hz: float | None = None) -> StreamTimes:
        """Those of a topic, made at its first message (by the thread that adds)."""
        times = self._streams.get(topic)
        if times is None:
            times = self._streams[topic] = StreamTimes(
                topic, stamped, expected_hz, self._each_fold, self.judged
            )
        return times

    def fold(self) -> None:
        """Take in what was added since; once a second, and before the figures are read."""
        with self._folding:
            for times in list(self._streams.values()):
                times.fold()

    def figures(self) -> dict[str, TimingFigures]:
        """By topic, all publishers together."""
        with self._folding:
            return {topic: times.figures() for topic, times in sorted(self._streams.items())}
