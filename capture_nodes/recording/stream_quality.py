"""The automatic verdict on an episode, the moment it ends: did every stream keep what was expected of it?

Judged from counts and running figures alone, by the rules that `episodes check` applies to the file later
(`episodes/streams_check.py`): rate, intervals, order, clock, edges, losses. Beyond those, a stream may be
required, and have a longest gap of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timezone
from typing import Any, Literal

from capture_nodes.recording.clock_watch import ClockMove
from capture_nodes.recording.stream_timing import TimingFigures

QUALITY_RECORD = "quality"

Kind = Literal[
    "missing",
    "rate",
    "intervals",
    "gap",
    "order",
    "begins late",
    "ends early",
    "clock",
    "malformed",
    "lost",
    "not counted",
    "not joined",
    "real time",
]


@dataclass(frozen=True)
class StreamExpectation:
    """What a stream has to keep; a bound that is None is not judged.

    rate_hz: expected rate, with all that follows from it; None for a topic that speaks on change. The times
    have to be collected with it (`StreamStatistics.add_topic`). rate_share: the rate may be off by this much.
    intervals_share: at least this share of intervals under two periods. longest_gap_s, longest_gap_periods:
    no interval above the smaller. allowed_lost: messages that may be lost anywhere. edge_s: beside two
    periods, how late it may begin, how early end, within the episode. clock_s: how far a stamp may be from
    the times of publishing and receiving. counted: losses have to be countable. required: without it the
    episode fails.
    """

    rate_hz: float | None = None
    rate_share: float = 0.02
    intervals_share: float = 0.99
    longest_gap_s: float | None = None
    longest_gap_periods: float | None = None
    allowed_lost: int = 0
    edge_s: float = 0.25
    clock_s: float = 0.5
    counted: bool = True
    required: bool = False

    def problems(self) -> list[str]:
        """What of it cannot be used, in words: ``rate_share is 2: 0 to 1 is allowed``."""
        found = []
        bounds = {
            "rate_hz": (0.001, 10_000.0),
            "rate_share": (0.0, 1.0),
            "intervals_share": (0.0, 1.0),
            "longest_gap_s": (1e-4, 3600.0),
            "longest_gap_periods": (1.0, 1e6),
            "allowed_lost": (0, 1 << 31),
            "edge_s": (0.0, 3600.0),
            "clock_s": (0.0, 3600.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            optional = name in ("rate_hz", "longest_gap_s", "longest_gap_periods")
            if value is None and optional:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
                found.append(f"{name} is {value!r}: {low:g} to {high:g} is allowed")
        if self.longest_gap_periods is not None and self.rate_hz is None:
            found.append("longest_gap_periods needs rate_hz")
        return found

    @property
    def gap_s(self) -> float | None:
        """The longest interval allowed; None for any."""
        limits = []
        if self.longest_gap_s is not None:
            limits.append(self.longest_gap_s)
        if self.longest_gap_periods is not None and self.rate_hz is not None:
            limits.append(self.longest_gap_periods / self.rate_hz)
        return min(limits) if limits else None


@dataclass(frozen=True)
class StreamEvidence:
    """What came of one topic in one episode, its publishers together; `timing` is that of the file.

    lost_middleware is None where the middleware numbers nothing. not_joined: by publisher, the messages that
    it had published inside the episode before the recorder had found it.
    """

    timing: TimingFigures
    lost_middleware: int | None = 0
    lost_queue: int = 0
    lost_disk: int = 0
    not_joined: Mapping[str, int] = field(default_factory=dict)

    @property
    def lost(self) -> int:
        """All that is known to be missing from the file."""
        return (self.lost_middleware or 0) + self.lost_queue + self.lost_disk

    def with_publisher(self, other: StreamEvidence) -> StreamEvidence:
        """The same topic with one more publisher (whose `timing` is the topic's, as here)."""
        unknown = self.lost_middleware is None or other.lost_middleware is None
        joined = dict(self.not_joined)
        for publisher, count in other.not_joined.items():
            joined[publisher] = joined.get(publisher, 0) + count
        return replace(
            self,
            lost_middleware=None if unknown else (self.lost_middleware or 0) + (other.lost_middleware or 0),
            lost_queue=self.lost_queue + other.lost_queue,
            lost_disk=self.lost_disk + other.lost_disk,
            not_joined=joined,
        )


@dataclass(frozen=True)
class Finding:
    """One bound that was broken: `text` says it in words, `at_ns` is when, where there is one moment."""

    topic: str
    kind: Kind
    text: str
    value: float | None = None
    bound: float | None = None
    at_ns: int | None = None

    def __str__(self) -> str:
        when = ""
        if self.at_ns is not None:
            moment = datetime.fromtimestamp(self.at_ns // 1_000_000 / 1000.0, tz=timezone.utc)
            when = f" at {moment.strftime('%H:%M:%S.%f')[:-3]} UTC"
        return f"{self.topic}: {self.text}{when}" if self.topic else f"{self.text}{when}"


@dataclass(frozen=True)
class EpisodeQuality:
    """The verdict: passed without findings. `judged`: how many streams were looked at."""

    findings: tuple[Finding, ...]
    judged: int

    @property
    def passed(self) -> bool:
        return not self.findings

    @property
    def verdict(self) -> str:
        return "passed" if self.passed else "failed"

    @property
    def reasons(self) -> list[str]:
        return [str(finding) for finding in self.findings]

    def as_record(self) -> dict[str, str]:
        """As metadata: strings, nested values JSON."""
        rows = [
            {f.name: value for f in fields(finding) if (value := getattr(finding, f.name)) is not None}
            for finding in self.findings
        ]
        return {
            "verdict": self.verdict,
            "reasons": json.dumps(self.reasons, ensure_ascii=False),
            "findings": json.dumps(rows, ensure_ascii=False),
            "judged": str(self.judged),
        }


def judge_episode(
    streams: Mapping[str, StreamEvidence],
    expectations: Mapping[str, StreamExpectation],
    *,
    begin_ns: int | None = None,
    end_ns: int | None = None,
    real_time_factor: float | None = None,
    least_real_time_factor: float = 0.99,
    clock_moves: Sequence[ClockMove] = (),
) -> EpisodeQuality:
    """The verdict on an episode.

    ``expectations`` by topic; a topic without any is judged by the defaults, those of a stream that has no
    rate. ``begin_ns``, ``end_ns`` are where the episode was meant to begin and end (received times); without
    them it is as long as its stamped streams. ``real_time_factor`` is the lowest that a simulated robot
    reported; ``clock_moves``: what the station's clock was set by meanwhile.
    """
    extent = _extent(streams)
    begin = extent[0] if begin_ns is None else begin_ns
    end = extent[1] if end_ns is None else end_ns
    findings = [
        Finding(
            "",
            "clock",
            f"the station's clock was set {move.by_ns / 1e9:+.3f} s: stamps before and after do not compare",
            move.by_ns / 1e9,
            0.0,
            move.time_ns,
        )
        for move in clock_moves
    ]
    for topic in sorted({*streams, *expectations}):
        expectation = expectations.get(topic, StreamExpectation())
        evidence = streams.get(topic)
        if evidence is None or not evidence.timing.count:
            if expectation.required:
                findings.append(Finding(topic, "missing", "required, and not one message came", 0.0, 1.0))
            elif evidence is not None and expectation.rate_hz is not None:
                text = f"silent: no message within the episode, {expectation.rate_hz:g} Hz expected"
                findings.append(Finding(topic, "missing", text, 0.0, 1.0))
            if evidence is None:
                continue
        findings += _stream_findings(topic, evidence, expectation, begin, end)
    if real_time_factor is not None and not real_time_factor >= least_real_time_factor:
        findings.append(
            Finding(
                "",
                "real time",
                f"the simulated robot fell behind: real-time factor {real_time_factor:.4f} at its lowest, "
                f"at least {least_real_time_factor:g}",
                real_time_factor,
                least_real_time_factor,
            )
        )
    return EpisodeQuality(tuple(findings), len(streams))


def _extent(streams: Mapping[str, StreamEvidence]) -> tuple[int, int]:
    """First and last received time of the stamped streams, of all where none is."""
    filled = [evidence.timing for evidence in streams.values() if evidence.timing.count]
    chosen = [timing for timing in filled if timing.basis == "header"] or filled
    return (
        min((t.received_first_ns or 0 for t in chosen), default=0),
        max((t.received_last_ns or 0 for t in chosen), default=0),
    )


def _stream_findings(
    topic: str, evidence: StreamEvidence, expected: StreamExpectation, begin_ns: int, end_ns: int
) -> list[Finding]:
    timing = evidence.timing
    found: list[Finding] = []

    def add(
        kind: Kind, text: str, value: float | None, bound: float | None, at_ns: int | None = None
    ) -> None:
        found.append(Finding(topic, kind, text, value, bound, at_ns))

    if expected.rate_hz is not None:
        if timing.count:
            _judge_rate(timing, expected, expected.rate_hz, add)
        _judge_edges(timing, expected, expected.rate_hz, begin_ns, end_ns, add)
        if expected.counted and evidence.lost_middleware is None:
            add("not counted", "the middleware numbers nothing: its losses cannot be counted", None, None)
        for publisher, count in evidence.not_joined.items():
            add(
                "not joined",
                f"{count} messages that {publisher} published inside the episode are not in it: "
                "the recorder had not found the publisher yet",
                count,
                0.0,
            )
    gap_s = expected.gap_s
    if gap_s is not None and timing.longest_gap_s is not None and timing.longest_gap_s > gap_s:
        text = f"no message for {1000 * timing.longest_gap_s:.1f} ms, at most {1000 * gap_s:.1f} ms"
        add("gap", text, timing.longest_gap_s, gap_s, timing.longest_gap_at_ns)
    if timing.clock_offset_s is not None and timing.clock_offset_s > expected.clock_s:
        if timing.unset_stamps:
            text = f"{timing.unset_stamps} of {timing.count} stamps are not set"
        else:
            text = (
                f"stamps up to {timing.clock_offset_s:.3f} s from the times of publishing and receiving, "
                f"at most {expected.clock_s:g} s: another clock"
            )
        add("clock", text, timing.clock_offset_s, expected.clock_s)
    if timing.malformed:
        add("malformed", f"{timing.malformed} messages are not of their type", timing.malformed, 0.0)
    if evidence.lost > expected.allowed_lost:
        places = {
            "in the middleware": evidence.lost_middleware,
            "in the queue": evidence.lost_queue,
            "on the disk": evidence.lost_disk,
        }
        where = ", ".join(f"{count} {place}" for place, count in places.items() if count)
        text = f"{evidence.lost} messages lost ({where}), at most {expected.allowed_lost}"
        add("lost", text, evidence.lost, expected.allowed_lost)
    return found


def _judge_rate(timing: TimingFigures, expected: StreamExpectation, rate_hz: float, add: Any) -> None:
    tolerance = f"{rate_hz:g} Hz ± {100 * expected.rate_share:g} %"
    if timing.count < 2:
        add("rate", f"{timing.count} messages, {rate_hz:g} Hz expected", 0.0, rate_hz)
    elif timing.rate_hz is None or abs(timing.rate_hz - rate_hz) > expected.rate_share * rate_hz:
        shown = "no rate" if timing.rate_hz is None else f"{timing.rate_hz:.2f} Hz"
        add("rate", f"{shown}, {tolerance} expected", timing.rate_hz, rate_hz)
    under = timing.under_two_periods
    if under is not None and under < expected.intervals_share:
        longest = math.nan if timing.longest_gap_s is None else 1000 * timing.longest_gap_s
        text = (
            f"{timing.gaps} of {timing.count - 1} intervals of two periods or more, "
            f"the longest {longest:.1f} ms"
        )
        add("intervals", text, under, expected.intervals_share, timing.longest_gap_at_ns)
    if timing.not_increasing:
        text = f"{timing.not_increasing} stamps do not come after the one before"
        add("order", text, timing.not_increasing, 0.0, timing.not_increasing_at_ns)


def _judge_edges(
    timing: TimingFigures,
    expected: StreamExpectation,
    rate_hz: float,
    begin_ns: int,
    end_ns: int,
    add: Any,
) -> None:
    if timing.first_ns is None or timing.last_ns is None:
        return
    edge_s = expected.edge_s + 2.0 / rate_hz
    late_s = float(timing.first_ns - begin_ns) * 1e-9
    if late_s > edge_s:
        text = f"begins {late_s:.2f} s after the episode, at most {edge_s:.2f} s"
        add("begins late", text, late_s, edge_s, timing.first_ns)
    early_s = float(end_ns - timing.last_ns) * 1e-9
    if early_s > edge_s:
        text = f"ends {early_s:.2f} s before the episode, at most {edge_s:.2f} s"
        add("ends early", text, early_s, edge_s, timing.last_ns)
