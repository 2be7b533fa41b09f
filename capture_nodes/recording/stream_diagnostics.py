"""How every stream and the recorder are doing right now, in the words of /diagnostics, once a second."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from capture_nodes.recording.stream_quality import StreamExpectation
from capture_nodes.recording.stream_statistics import LiveCounts

# The levels of `diagnostic_msgs/DiagnosticStatus`.
OK, WARN, ERROR = 0, 1, 2


@dataclass(frozen=True)
class LiveBounds:
    """When a stream is worth a warning.

    rate_share: its rate over the last look is off by more (and by more than one message). gap_periods,
    gap_s: an interval longer than both. delay_s: a message under way for longer. silent_periods, silent_s:
    nothing for longer than both. backlog_share: that share of the writer's queue is taken; twice as near the
    limit is an error. free_bytes: less is left on the disk.
    """

    rate_share: float = 0.1
    gap_periods: float = 5.0
    gap_s: float = 0.05
    delay_s: float = 0.1
    silent_periods: float = 10.0
    silent_s: float = 1.0
    backlog_share: float = 0.5
    free_bytes: int = 5_000_000_000


@dataclass(frozen=True)
class RecorderLoad:
    """The recorder as a whole; None where something is not known, `problem` what keeps it from writing."""

    state: str
    backlog_bytes: int = 0
    backlog_limit_bytes: int = 0
    free_bytes: int | None = None
    problem: str = ""


@dataclass(frozen=True)
class LiveStatus:
    """One `DiagnosticStatus`: `level` is `OK`, `WARN` or `ERROR`, `message` says why."""

    name: str
    level: int
    message: str
    values: dict[str, str]


@dataclass
class _Topic:
    """The publishers of one topic together."""

    received: int = 0
    bytes: int = 0
    lost_middleware: int | None = 0
    lost_queue: int = 0
    lost_disk: int = 0
    publishers: int = 0
    latest_ns: int = 0
    interval_ns: int = 0
    delay_ns: int = 0

    def add(self, counts: LiveCounts) -> None:
        self.received += counts.received
        self.bytes += counts.bytes
        if counts.lost_middleware is None or self.lost_middleware is None:
            self.lost_middleware = None
        else:
            self.lost_middleware += counts.lost_middleware
        self.lost_queue += counts.lost_queue
        self.lost_disk += counts.lost_disk
        self.publishers += 1 if counts.received else 0
        self.latest_ns = max(self.latest_ns, counts.latest_received_ns)
        self.interval_ns = max(self.interval_ns, counts.longest_interval_ns)
        self.delay_ns = max(self.delay_ns, counts.longest_delay_ns)


@dataclass
class _Verdict:
    level: int = OK
    words: list[str] = field(default_factory=list)

    def add(self, level: int, words: str) -> None:
        self.level = max(self.level, level)
        self.words.append(words)

    @property
    def message(self) -> str:
        return "; ".join(self.words) or "ok"


class StreamDiagnostics:
    """Compares every look with the one before. Used by one thread, apart from the taking one."""

    def __init__(self, bounds: LiveBounds | None = None) -> None:
        self.bounds = LiveBounds() if bounds is None else bounds
        self._before: dict[str, _Topic] = {}
        self._before_s: float | None = None

    def look(
        self,
        counts: Iterable[LiveCounts],
        expectations: Mapping[str, StreamExpectation],
        load: RecorderLoad,
        *,
        now_ns: int,
        now_s: float,
    ) -> list[LiveStatus]:
        """The recorder's status, then that of every topic heard or expected, by name.

        ``counts``: `StreamStatistics.live`; ``now_ns`` in the clock of received times, ``now_s`` steady.
        """
        topics: dict[str, _Topic] = {topic: _Topic() for topic in expectations}
        for row in counts:
            topics.setdefault(row.topic, _Topic()).add(row)
        elapsed_s = None if self._before_s is None else now_s - self._before_s
        statuses = [
            self._stream(topic, topics[topic], expectations.get(topic), elapsed_s, now_ns)
            for topic in sorted(topics)
        ]
        recorder = self._recorder(topics, statuses, load, elapsed_s)
        self._before, self._before_s = topics, now_s
        return [recorder, *statuses]

    def _since(self, topic: str, now: _Topic) -> tuple[int, int, int]:
        """Lost since the last look in the middleware, the queue, on the disk."""
        before = self._before.get(topic)
        if before is None:
            return 0, 0, 0
        return (
            max(0, (now.lost_middleware or 0) - (before.lost_middleware or 0)),
            _grown(before.lost_queue, now.lost_queue),
            _grown(before.lost_disk, now.lost_disk),
        )

    def _stream(
        self,
        topic: str,
        now: _Topic,
        expected: StreamExpectation | None,
        elapsed_s: float | None,
        now_ns: int,
    ) -> LiveStatus:
        bounds = self.bounds
        expected_hz = None if expected is None else expected.rate_hz
        required = expected is not None and expected.required
        before = self._before.get(topic)
        rate_hz = None
        if before is not None and elapsed_s:
            rate_hz = (now.received - before.received) / elapsed_s
        silent_s = max(0, now_ns - now.latest_ns) * 1e-9 if now.latest_ns else None
        verdict = _Verdict()
        lost = self._since(topic, now)
        for count, level, place in zip(
            lost, (WARN, ERROR, ERROR), ("in the middleware", "in the queue", "on the disk"), strict=True
        ):
            if count:
                verdict.add(level, f"{count} lost {place}")
        if silent_s is None:
            if required:
                verdict.add(ERROR, "required, and nothing has arrived yet")
        elif expected_hz is not None and silent_s > max(bounds.silent_s, bounds.silent_periods / expected_hz):
            verdict.add(ERROR if required else WARN, f"nothing for {silent_s:.1f} s")
        elif expected_hz is not None:
            self._pace(verdict, now, expected_hz, rate_hz, elapsed_s)
        if now.delay_ns * 1e-9 > bounds.delay_s:
            verdict.add(WARN, f"a message was under way for {now.delay_ns * 1e-6:.0f} ms")
        values = {
            "rate_hz": _number(rate_hz),
            "expected_hz": _number(expected_hz),
            "received": str(now.received),
            "publishers": str(now.publishers),
            "lost_middleware": "not counted" if now.lost_middleware is None else str(now.lost_middleware),
            "lost_queue": str(now.lost_queue),
            "lost_disk": str(now.lost_disk),
            "lost_now": str(sum(lost)),
            "longest_gap_s": f"{now.interval_ns * 1e-9:.4f}",
            "longest_delay_s": f"{now.delay_ns * 1e-9:.4f}",
            "silent_s": _number(silent_s),
        }
        return LiveStatus(topic, verdict.level, verdict.message, values)

    def _pace(
        self,
        verdict: _Verdict,
        now: _Topic,
        expected_hz: float,
        rate_hz: float | None,
        elapsed_s: float | None,
    ) -> None:
        bounds = self.bounds
        if rate_hz is not None and elapsed_s:
            # A look that falls between two messages sees one more or less.
            slack_hz = bounds.rate_share * expected_hz + 1.0 / elapsed_s
            if abs(rate_hz - expected_hz) > slack_hz:
                verdict.add(WARN, f"{rate_hz:.1f} Hz, {expected_hz:g} Hz expected")
        gap_s = now.interval_ns * 1e-9
        if gap_s > max(bounds.gap_s, bounds.gap_periods / expected_hz):
            verdict.add(WARN, f"a gap of {1000 * gap_s:.0f} ms")

    def _recorder(
        self,
        topics: Mapping[str, _Topic],
        statuses: Sequence[LiveStatus],
        load: RecorderLoad,
        elapsed_s: float | None,
    ) -> LiveStatus:
        verdict = _Verdict()
        if load.problem:
            verdict.add(ERROR, load.problem)
        share = load.backlog_bytes / load.backlog_limit_bytes if load.backlog_limit_bytes else 0.0
        if share > self.bounds.backlog_share:
            near = share > 1.0 - (1.0 - self.bounds.backlog_share) / 2.0
            verdict.add(
                ERROR if near else WARN,
                f"the disk is slow: {load.backlog_bytes / 1e6:.0f} MB wait for it, "
                f"{load.backlog_limit_bytes / 1e6:.0f} MB may",
            )
        if load.free_bytes is not None and load.free_bytes < self.bounds.free_bytes:
            verdict.add(WARN, f"{load.free_bytes / 1e9:.1f} GB left on the disk")
        for level, word in ((ERROR, "failing"), (WARN, "to be watched")):
            names = [status.name for status in statuses if status.level == level]
            if names:
                verdict.add(level, f"{len(names)} streams {word}: {', '.join(names[:3])}")
        received = sum(topic.received for topic in topics.values())
        size = sum(topic.bytes for topic in topics.values())
        values = {
            "state": load.state,
            "streams": str(len(topics)),
            "received": str(received),
            "messages_hz": "",
            "megabytes_per_s": "",
            "lost_middleware": str(sum(topic.lost_middleware or 0 for topic in topics.values())),
            "lost_queue": str(sum(topic.lost_queue for topic in topics.values())),
            "lost_disk": str(sum(topic.lost_disk for topic in topics.values())),
            "not_counted": str(sum(topic.lost_middleware is None for topic in topics.values())),
            "backlog_bytes": str(load.backlog_bytes),
            "disk_free_bytes": "" if load.free_bytes is None else str(load.free_bytes),
        }
        if elapsed_s:
            before = self._before.values()
            values["messages_hz"] = f"{(received - sum(topic.received for topic in before)) / elapsed_s:.0f}"
            values["megabytes_per_s"] = (
                f"{(size - sum(topic.bytes for topic in before)) / elapsed_s / 1e6:.2f}"
            )
        return LiveStatus("recorder", verdict.level, verdict.message, values)


def _grown(before: int, now: int) -> int:
    """How much more of what counts anew with every episode."""
    return now - before if now >= before else now


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"
