"""Which messages of every publisher arrived and which did not: counted, not guessed.

A publisher (its gid) numbers its messages 1, 2, 3 …; the middleware delivers that number with each. Counting
runs from the start of the recorder to its end, also between episodes, so that what an episode missed at
its head (between the last number before the start and the first inside) and at its tail is known too.
The truth the counts are measured against are the publishers' own final counts.

Laws, for every publisher, run and episode: ``published == received + lost_middleware`` (`not_joined` apart,
see there), ``received + duplicates == written + lost_queue + lost_disk``. Windows of episodes may overlap;
what lies in both counts in both.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from capture_nodes.recording.mcap_writer import Buffer, SmallMessage
from capture_nodes.recording.stream_quality import StreamEvidence
from capture_nodes.recording.stream_timing import EpisodeTimes, StreamTimes, TimingFigures, begins_with_stamp

Value = str | int | bool | None


# What a message was when it came: its number (None: not given), the highest number before it, whether that
# number had come already. Kept with a message that may yet become part of an episode (`into`).
Arrival = tuple[int | None, int | None, bool]

# Holes remembered, to tell a late message from one that comes twice.
HOLES_KEPT = 1024

COUNTED = "counted"
NO_SEQUENCE = "not given by the middleware"
NO_GID = "not given by the middleware: all publishers of the topic in one row"
BY_GID = "gid"


@dataclass
class EpisodeCounts:
    """One publisher within one episode; sequence numbers are the publisher's own.

    before: the highest number seen before the episode, None if the publisher was first seen inside;
    first, last: inside; after: the first higher number seen after the end, None as long as there is none.
    received: arrived inside for the first time, among them `early` ones that are numbered like messages from
    before the episode, and `uncounted` ones without a number. duplicates: arrived once more. said_first,
    said_last: the publisher's own first and last count that came inside. alive: it was on the network.
    """

    before: int | None
    first: int | None = None
    last: int | None = None
    after: int | None = None
    received: int = 0
    lost_queue: int = 0
    lost_disk: int = 0
    repeated: int = 0
    duplicates: int = 0
    early: int = 0
    uncounted: int = 0
    said_first: int | None = None
    said_last: int = 0
    alive: bool = False
    times: StreamTimes | None = field(default=None, repr=False, compare=False)
    publisher_index: int = 0

    def saw(self, arrival: Arrival) -> None:
        """A message of the episode arrived."""
        sequence, _, duplicate = arrival
        if duplicate:
            self.duplicates += 1
            return
        self.received += 1
        last = self.last
        if last is not None and sequence is not None and sequence > last:
            # Nearly every message; what follows says the same of it.
            self.last = sequence
            return
        if sequence is None:
            self.uncounted += 1
            return
        if self.before is not None and sequence <= self.before:
            self.early += 1
            return
        if self.last is None or sequence > self.last:
            self.last = sequence
        if self.first is None or sequence < self.first:
            self.first = sequence

    def wrote(self, received_ns: int, source_ns: int, data: Buffer) -> None:
        """The message went into the file: its times count, in this order."""
        times = self.times
        if times is not None:
            times.add(received_ns, source_ns, self.publisher_index, data)

    def wrote_all(self, messages: Sequence[SmallMessage]) -> None:
        """`wrote` for each."""
        times = self.times
        if times is not None:
            times.add_all(self.publisher_index, messages)

    def said(self, number: int) -> None:
        """The publisher reports, inside the episode, that its messages have come to ``number``."""
        if self.said_first is None:
            self.said_first = number
        self.said_last = max(self.said_last, number)

    @property
    def published(self) -> int:
        """Messages published between the last one before the episode and the first one after it.

        Where none came behind it, or none at all, what the publisher itself said inside counts.
        """
        begin = self.first if self.before is None else self.before + 1
        end = self.last if self.last is not None else self.before
        if self.after is not None:
            end = self.after - 1
        elif self.last is not None and not self.uncounted:
            end = max(self.last, self.said_last)
        span = 0 if begin is None or end is None else max(0, end - begin + 1)
        if self.last is None and self.said_first is not None and not self.uncounted:
            span = max(span, self.said_last - max(self.said_first, self.before or 0))
        return max(self.received, span + self.early + self.uncounted)

    @property
    def any(self) -> bool:
        """Whether there is anything to be told of it."""
        return bool(self.received or self.published or self.repeated)

    @property
    def lost_middleware(self) -> int:
        return self.published - self.received

    @property
    def lost(self) -> int:
        """Everything published that is not in the file."""
        return self.lost_middleware + self.lost_queue + self.lost_disk

    @property
    def written(self) -> int:
        """Messages of the episode in the file (repeated latched ones not counted)."""
        return self.received + self.duplicates - self.lost_queue - self.lost_disk


@dataclass
class _Span:
    """One episode as all publishers share it; `end_ns` is None as long as it is open."""

    times: EpisodeTimes | None
    end_ns: int | None = None


@dataclass
class PublisherCounts:
    """One publisher of one topic since the start of the recorder.

    `received`: arrived for the first time; `late` ones among them came after a higher number; `duplicates`
    came once more. `not_joined`: messages published before the first that arrived. DDS owes them to nobody
    (the publisher was there before the recorder had found it, or its latched history had moved on), but they
    are named. `final`: the publisher's own count, reported when it stopped. `latest_received_ns`: received
    times put in the order of arrival, see `arrived`. `peak_*`: the longest since `StreamStatistics.live`.
    `alive`: the graph has it.
    """

    topic: str
    gid: str
    node: str = ""
    first: int | None = None
    last: int | None = None
    received: int = 0
    uncounted: int = 0
    late: int = 0
    duplicates: int = 0
    bytes: int = 0
    reported: int | None = None
    final: bool = False
    latest_received_ns: int = 0
    peak_interval_ns: int = 0
    peak_delay_ns: int = 0
    index: int = 0
    alive: bool = False
    episodes: dict[str, EpisodeCounts] = field(default_factory=dict)
    _holes: list[tuple[int, int]] = field(default_factory=list, repr=False)
    _open: list[tuple[_Span, EpisodeCounts]] = field(default_factory=list, repr=False)

    def saw(self, sequence: int | None, size: int) -> Arrival:
        """A message arrived; ``sequence`` is None where the middleware gives no number."""
        self.bytes += size
        last = self.last
        if sequence is None:
            self.received += 1
            self.uncounted += 1
            return (None, last, False)
        if last is None:
            self.first = self.last = sequence
        elif sequence > last:
            self.last = sequence
            if sequence > last + 1:
                self._holes.append((last + 1, sequence - 1))
                if len(self._holes) > HOLES_KEPT:
                    del self._holes[0]
        elif self._fills(sequence):
            self.late += 1
        else:
            self.duplicates += 1
            return (sequence, last, True)
        self.received += 1
        return (sequence, last, False)

    def _fills(self, sequence: int) -> bool:
        """Whether a number that is not the highest was missing; it is not any longer."""
        holes = self._holes
        if self.first is not None and sequence < self.first:
            if sequence + 1 < self.first:
                holes.insert(0, (sequence + 1, self.first - 1))
            self.first = sequence
            return True
        at = bisect_right(holes, (sequence, sequence)) - 1
        # The hole that begins at the number itself sorts behind it where it is longer than one.
        if at + 1 < len(holes) and holes[at + 1][0] == sequence:
            at += 1
        if at < 0 or sequence > holes[at][1]:
            return False
        begin, end = holes[at]
        holes[at : at + 1] = [
            hole for hole in ((begin, sequence - 1), (sequence + 1, end)) if hole[0] <= hole[1]
        ]
        return True

    def arrived(self, sequence: int | None, size: int, source_ns: int, received_ns: int) -> Arrival:
        """`saw` with the times of the message; accounts for the tails of ended episodes.

        One that was repaired came late, and those behind it were held back for it. `latest_received_ns` is
        therefore in the order of arrival: they cross a border of an episode together and leave no hole.
        """
        latest = self.latest_received_ns
        if received_ns > latest:
            if latest and received_ns - latest > self.peak_interval_ns:
                self.peak_interval_ns = received_ns - latest
            self.latest_received_ns = latest = received_ns
        if received_ns - source_ns > self.peak_delay_ns:
            self.peak_delay_ns = received_ns - source_ns
        last = self.last
        if last is not None and sequence == last + 1:
            # Nearly every message; `saw` does the same with it.
            self.bytes += size
            self.received += 1
            self.last = sequence
            arrival: Arrival = (sequence, last, False)
        else:
            arrival = self.saw(sequence, size)
        for span, _ in self._open:
            if span.end_ns is not None:
                self._passed(latest, arrival)
                break
        return arrival

    def took(
        self, count: int, size: int, last: int, latest_ns: int, peak_interval_ns: int, peak_delay_ns: int
    ) -> None:
        """What `arrived` does for ``count`` messages that each follow the one before."""
        self.bytes += size
        self.received += count
        self.last = last
        self.latest_received_ns = latest_ns
        self.peak_interval_ns, self.peak_delay_ns = peak_interval_ns, peak_delay_ns

    def ends_open(self) -> bool:
        """Whether an episode that has ended waits for the next message of this publisher."""
        return any(span.end_ns is not None for span, _ in self._open)

    def _passed(self, crossed_ns: int, arrival: Arrival) -> None:
        sequence, highest, _ = arrival
        if sequence is None or (highest is not None and sequence <= highest):
            return
        closed = False
        for span, window in self._open:
            if span.end_ns is not None and crossed_ns > span.end_ns:
                self._close(window, highest, sequence)
                closed = True
        if closed:
            self._open = [entry for entry in self._open if entry[1].after is None]

    @staticmethod
    def _close(window: EpisodeCounts, highest: int | None, after: int) -> None:
        if window.first is None and window.before is not None:
            # Whatever was seen since and is not inside was before the episode.
            window.before = highest
        window.after = after

    def said(self, count: int, received_ns: int | None) -> None:
        """Its own count arrived; None: just now. Of no concern to an episode that was over."""
        for span, window in self._open:
            if span.end_ns is None or (received_ns is not None and received_ns <= span.end_ns):
                window.said(count + self.lowest - 1)

    def release(self, episode_id: str) -> None:
        """Let go of the times of an episode, and of its tail where that is known."""
        window = self.episodes.get(episode_id)
        if window is not None:
            window.times = None
        self._open = [entry for entry in self._open if entry[1].after is None]

    @property
    def lowest(self) -> int:
        """The number its first message has: 1, but where a middleware is seen to begin with 0."""
        return 0 if self.first == 0 else 1

    @property
    def not_joined(self) -> int:
        return 0 if self.first is None else self.first - self.lowest

    @property
    def published(self) -> int:
        """By its own final count where it gave one, else by the highest number seen."""
        count = 0 if self.last is None else self.last - self.lowest + 1
        if self.final and self.reported is not None:
            count = max(count, self.reported)
        return max(count, self.received + self.not_joined)

    @property
    def lost(self) -> int:
        """Published after the recorder had joined, and never received."""
        if self.first is None:
            return self.published - self.received if self.uncounted == 0 else 0
        return self.published - self.not_joined - self.received

    @property
    def has_gid(self) -> bool:
        """Whether the middleware tells this publisher from the topic's others."""
        return self.gid.strip("0") != ""

    @property
    def sequence_note(self) -> str:
        if self.uncounted == 0:
            return COUNTED
        if self.uncounted == self.received:
            return NO_SEQUENCE
        return f"{NO_SEQUENCE} for {self.uncounted} of {self.received} messages"


@dataclass(frozen=True)
class LiveCounts:
    """One publisher at one moment, for the live diagnostics; counts since the start of the recorder.

    `lost_queue`, `lost_disk`: in the episodes at hand. `longest_interval_ns`, `longest_delay_ns`: since the
    last look; `latest_received_ns` is 0 where nothing has arrived.
    """

    topic: str
    gid: str
    received: int
    bytes: int
    lost_middleware: int | None
    lost_queue: int
    lost_disk: int
    latest_received_ns: int
    longest_interval_ns: int
    longest_delay_ns: int


class StreamStatistics:
    """The counts of every topic and publisher. Used by the taking thread; not thread-safe by itself."""

    def __init__(self) -> None:
        self._publishers: dict[tuple[str, str], PublisherCounts] = {}
        self._gids: dict[str, list[str]] = {}
        self._topics: dict[str, tuple[bool, float | None]] = {}
        self._spans: dict[str, _Span] = {}
        self._unended: set[str] = set()

    def add_topic(self, topic: str, schema_text: str, expected_hz: float | None) -> None:
        """What the times of a topic are judged by: whether it is stamped, and its expected rate."""
        self._topics[topic] = (begins_with_stamp(schema_text), expected_hz)

    def publisher(self, topic: str, gid: str) -> PublisherCounts:
        """The counts of one publisher, made at first sight."""
        key = (topic, gid)
        counts = self._publishers.get(key)
        if counts is None:
            gids = self._gids.setdefault(topic, [])
            counts = self._publishers[key] = PublisherCounts(topic, gid, index=len(gids))
            gids.append(gid)
        return counts

    @property
    def publishers(self) -> list[PublisherCounts]:
        return [self._publishers[key] for key in sorted(self._publishers)]

    def reported(self, topic: str, gid: str, count: int, final: bool, received_ns: int | None = None) -> None:
        """A publisher's own count arrived on /diagnostics. A final one is never taken back."""
        counts = self.publisher(topic, gid)
        if counts.final and not final:
            return
        counts.reported = count
        counts.final = final
        self._into_open(counts)
        counts.said(count, received_ns)

    def found(self, topic: str, nodes: Mapping[str, str]) -> None:
        """The publishers (gid to node) that a topic has on the network now."""
        for gid in self._gids.get(topic, ()):
            self._publishers[topic, gid].alive = gid in nodes
        for gid, node in nodes.items():
            counts = self.publisher(topic, gid)
            counts.node, counts.alive = node, True
            self._into_open(counts)

    def _into_open(self, counts: PublisherCounts) -> None:
        """One that is there has a row in every episode at hand, also if nothing of it arrives."""
        for episode_id in self._unended:
            window = counts.episodes.get(episode_id)
            if window is None:
                window = self._window(counts, episode_id, counts.last)
            window.alive = True

    def waiting_for_final(self, alive: frozenset[str] | None = None) -> list[str]:
        """Gids that report counts (and, where given, are among ``alive``) but have not reported the last."""
        return [
            counts.gid
            for counts in self._publishers.values()
            if counts.reported is not None and not counts.final and (alive is None or counts.gid in alive)
        ]

    # Episodes -----------------------------------------------------------------------------------------------

    def episode_begins(self, episode_id: str, times: EpisodeTimes | None = None) -> None:
        """An episode opens; ``times`` collects those of its messages.

        Every publisher seen so far gets a window, so that a silent one is known to have been silent. What of
        the past belongs to the episode follows, oldest first, by `into`.
        """
        span = self._span(episode_id)
        span.times = times
        self._unended.add(episode_id)
        for counts in self._publishers.values():
            if (counts.alive or counts.last is not None) and episode_id not in counts.episodes:
                self._window(counts, episode_id, counts.last).alive = counts.alive

    def into(self, episode_id: str, counts: PublisherCounts, arrival: Arrival) -> EpisodeCounts:
        """A message (what `arrived` said of it) belongs to an episode, also to a second one; its window.

        Per publisher in the order of arrival.
        """
        window = counts.episodes.get(episode_id)
        if window is None:
            window = self._window(counts, episode_id, arrival[1])
        elif window.received == 0:
            window.before = arrival[1]
        window.saw(arrival)
        return window

    def episode_ends(self, episode_id: str, end_ns: int) -> None:
        """Where the episode ends (received time): higher numbers that arrive beyond it close its windows."""
        self._span(episode_id).end_ns = end_ns
        self._unended.discard(episode_id)

    def clock_moved(self, by_ns: int) -> None:
        """The clock of the received times was set: borders and what crosses them move with it."""
        for span in self._spans.values():
            if span.end_ns is not None:
                span.end_ns += by_ns
        for counts in self._publishers.values():
            if counts.latest_received_ns:
                counts.latest_received_ns += by_ns

    def tails_open(self, episode_id: str) -> list[tuple[PublisherCounts, EpisodeCounts]]:
        """Windows of an ended episode whose publishers have not been heard since."""
        return [
            (counts, window)
            for counts in self._publishers.values()
            for span, window in counts._open
            if span is self._spans.get(episode_id)
        ]

    def episode(self, counts: PublisherCounts, episode_id: str) -> EpisodeCounts:
        """The window of one publisher in an episode, made where there is none."""
        window = counts.episodes.get(episode_id)
        return self._window(counts, episode_id, None) if window is None else window

    def _span(self, episode_id: str) -> _Span:
        span = self._spans.get(episode_id)
        if span is None:
            span = self._spans[episode_id] = _Span(None)
        return span

    def _window(self, counts: PublisherCounts, episode_id: str, before: int | None) -> EpisodeCounts:
        span = self._span(episode_id)
        window = counts.episodes[episode_id] = EpisodeCounts(before=before, publisher_index=counts.index)
        if span.times is not None:
            window.times = span.times.stream(counts.topic, *self._topics.get(counts.topic, (False, None)))
        counts._open.append((span, window))
        return window

    def close_tails(self) -> None:
        """Use the final counts for the episodes that were still open at the end (no later message came)."""
        for counts in self._publishers.values():
            if not counts.final or counts.reported is None:
                continue
            for window in counts.episodes.values():
                if window.after is not None:
                    continue
                reached = window.last if window.last is not None else window.before
                after = counts.reported + counts.lowest
                if reached is not None and after > max(reached, counts.last or 0):
                    counts._close(window, counts.last, after)
            counts._open = [entry for entry in counts._open if entry[1].after is None]

    def release_times(self, episode_id: str) -> None:
        """Let go of the times of an episode whose file is closed. Its counts stay."""
        span = self._spans.get(episode_id)
        if span is not None:
            span.times = None
        for counts in self._publishers.values():
            counts.release(episode_id)

    def forget(self, episode_id: str) -> None:
        """Let go of everything of an episode."""
        self.release_times(episode_id)
        self._unended.discard(episode_id)
        span = self._spans.pop(episode_id, None)
        for counts in self._publishers.values():
            counts.episodes.pop(episode_id, None)
            counts._open = [entry for entry in counts._open if entry[0] is not span]

    # Tables -------------------------------------------------------------------------------------------------

    def _rows(self, episode_id: str) -> list[tuple[PublisherCounts, EpisodeCounts]]:
        """Every publisher that gave something or was there; of a topic without any, that heard last."""
        rows = []
        silent: dict[str, tuple[PublisherCounts, EpisodeCounts]] = {}
        # Topics with messages of somebody the graph never named: perhaps one that it names otherwise.
        unnamed: set[str] = set()
        for counts in self.publishers:
            window = counts.episodes.get(episode_id)
            if window is None:
                continue
            if window.received and not counts.node:
                unnamed.add(counts.topic)
            if not (window.alive or window.any):
                former = silent.get(counts.topic)
                if former is None or former[0].latest_received_ns < counts.latest_received_ns:
                    silent[counts.topic] = (counts, window)
                continue
            rows.append((counts, window))
        rows = [(counts, window) for counts, window in rows if window.any or counts.topic not in unnamed]
        there = {counts.topic for counts, _ in rows}
        rows += [entry for topic, entry in silent.items() if topic not in there]
        return sorted(rows, key=lambda entry: (entry[0].topic, entry[0].gid))

    def episode_table(
        self, episode_id: str, skew: Mapping[str, Mapping[str, Any]] | None = None
    ) -> dict[str, dict[str, Any]]:
        """``"<topic> <gid>"`` to the counts of that publisher in the episode, for the `streams` record.

        With its times under `timing`, as of their last fold, as long as they are there; and under `skew` what
        ``skew`` (`AlignmentTable.skew`) has of its topic.
        """
        table: dict[str, dict[str, Any]] = {}
        for counts, window in self._rows(episode_id):
            counted = counts.uncounted == 0
            row = table[f"{counts.topic} {counts.gid}"] = {
                "topic": counts.topic,
                "gid": counts.gid,
                "node": counts.node,
                "sequence": counts.sequence_note,
                "publisher": BY_GID if counts.has_gid else NO_GID,
                "published": window.published if counted else None,
                "received": window.received,
                "duplicates": window.duplicates,
                "early": window.early,
                "written": window.written,
                "repeated": window.repeated,
                "lost": window.lost if counted else None,
                "lost_in": {
                    "middleware": window.lost_middleware if counted else None,
                    "queue": window.lost_queue,
                    "disk": window.lost_disk,
                },
                "first_sequence": window.first,
                "last_sequence": window.last,
                "sequence_before": window.before,
                "sequence_after": window.after,
                # Published before the first that arrived, by a publisher first seen inside the episode.
                "not_joined": counts.not_joined if window.before is None else 0,
                # Without a number after the end, a loss of the very last messages cannot show yet.
                "tail_known": window.after is not None,
            }
            if window.times is not None:
                row["timing"] = window.times.figures(window.publisher_index).as_row()
            if skew is not None and counts.topic in skew:
                row["skew"] = dict(skew[counts.topic])
        return table

    def evidence(self, episode_id: str) -> dict[str, StreamEvidence]:
        """What the verdict on an episode is made from: by topic, its publishers together."""
        result: dict[str, StreamEvidence] = {}
        for counts, window in self._rows(episode_id):
            counted = counts.uncounted == 0
            missing = counts.not_joined if window.before is None else 0
            more = StreamEvidence(
                timing=TimingFigures("publish", 0) if window.times is None else window.times.figures(),
                lost_middleware=window.lost_middleware if counted else None,
                lost_queue=window.lost_queue,
                lost_disk=window.lost_disk,
                not_joined={counts.node or counts.gid: missing} if missing else {},
            )
            former = result.get(counts.topic)
            result[counts.topic] = more if former is None else former.with_publisher(more)
        return result

    def totals(self, episode_id: str) -> dict[str, dict[str, int]]:
        """Per topic: received, written (repeated ones included), lost in the episode."""
        result: dict[str, dict[str, int]] = {}
        for counts in self.publishers:
            window = counts.episodes.get(episode_id)
            if window is None:
                continue
            entry = result.setdefault(counts.topic, {"published": 0, "received": 0, "written": 0, "lost": 0})
            entry["published"] += window.published if counts.uncounted == 0 else window.received
            entry["received"] += window.received
            entry["written"] += window.written + window.repeated
            entry["lost"] += window.lost if counts.uncounted == 0 else window.lost_queue + window.lost_disk
        return {topic: entry for topic, entry in result.items() if any(entry.values())}

    def live(self, episode_ids: Sequence[str]) -> list[LiveCounts]:
        """Every publisher now, with what the queue and the disk lost in the episodes at hand.

        The longest interval and delay begin anew with each call.
        """
        result = []
        for counts in self._publishers.values():
            queue = disk = 0
            for episode_id in episode_ids:
                window = counts.episodes.get(episode_id)
                if window is not None:
                    queue += window.lost_queue
                    disk += window.lost_disk
            result.append(
                LiveCounts(
                    counts.topic,
                    counts.gid,
                    counts.received,
                    counts.bytes,
                    counts.lost if counts.uncounted == 0 else None,
                    queue,
                    disk,
                    counts.latest_received_ns,
                    counts.peak_interval_ns,
                    counts.peak_delay_ns,
                )
            )
            counts.peak_interval_ns = counts.peak_delay_ns = 0
        return result

    def run_table(self) -> list[dict[str, Value]]:
        """One row per topic and publisher over the whole run, for the report at the end."""
        return [
            {
                "topic": counts.topic,
                "gid": counts.gid,
                "node": counts.node,
                "sequence": counts.sequence_note,
                "publisher": BY_GID if counts.has_gid else NO_GID,
                "published": counts.published if counts.uncounted == 0 or counts.final else None,
                "published_said_by": "publisher" if counts.final else "sequence numbers",
                "not_joined": counts.not_joined,
                "received": counts.received,
                "duplicates": counts.duplicates,
                "lost": counts.lost if counts.uncounted == 0 else None,
                "late": counts.late,
                "bytes": counts.bytes,
            }
            for counts in self.publishers
            if counts.received or counts.final
        ]


def parse_published_counts(values: Mapping[str, str]) -> dict[tuple[str, str], int]:
    """Final counts of a diagnostics status: topic -> ``"<count> <gid hex>"`` to (topic, gid) -> count.

    Entries of another form are other people's values and are left out, and so is a count beyond 64 bits.
    """
    result: dict[tuple[str, str], int] = {}
    for topic, value in values.items():
        count, _, gid = value.partition(" ")
        # Not isdigit, which takes superscripts that are no numbers.
        if topic.startswith("/") and count.isdecimal() and len(count) < 20 and gid:
            result[(topic, gid.strip())] = int(count)
    return result
