"""Which messages of every publisher arrived and which did not: counted, not guessed.

A publisher (its gid) numbers its messages 1, 2, 3 …; the middleware delivers that number with each. Counting
runs from the start of the recorder to its end, also between episodes, so that what an episode missed at
its head (between the last number before the start and the first inside) and at its tail is known too.
The truth the counts are measured against are the publishers' own final counts.

Law: for every publisher, run and episode, ``published == received + lost`` (`not_joined` apart, see there).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = str | int | bool | None


@dataclass
class EpisodeCounts:
    """One publisher within one episode; sequence numbers are the publisher's own.

    before: the last number known before the episode, None if the publisher was first seen inside;
    first, last: inside; after: the first number seen after the end, None as long as there is none.
    """

    before: int | None
    first: int | None = None
    last: int | None = None
    after: int | None = None
    received: int = 0
    lost_queue: int = 0
    lost_disk: int = 0
    repeated: int = 0

    @property
    def published(self) -> int:
        """Messages published between the last one before the episode and the first one after it."""
        if self.first is None or self.last is None:
            # Nothing arrived inside: what lies between its neighbours was published and lost.
            if self.before is None or self.after is None:
                return self.received
            return max(self.received, self.after - self.before - 1)
        begin = self.first if self.before is None else self.before + 1
        end = self.last if self.after is None else self.after - 1
        return max(self.received, end - begin + 1)

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
        return self.received - self.lost_queue - self.lost_disk


@dataclass
class PublisherCounts:
    """One publisher of one topic since the start of the recorder.

    `not_joined`: messages published before the first that arrived. DDS owes them to nobody (the publisher
    was there before the recorder had found it, or its latched history had moved on), but they are named.
    `final`: the publisher's own count, reported when it stopped.
    """

    topic: str
    gid: str
    node: str = ""
    first: int | None = None
    last: int | None = None
    received: int = 0
    uncounted: int = 0
    late: int = 0
    bytes: int = 0
    reported: int | None = None
    final: bool = False
    latest_received_ns: int = 0
    episodes: dict[str, EpisodeCounts] = field(default_factory=dict)

    def saw(self, sequence: int | None, size: int) -> None:
        """A message arrived; ``sequence`` is None where the middleware gives no number."""
        self.received += 1
        self.bytes += size
        if sequence is None:
            self.uncounted += 1
            return
        last = self.last
        if last is None:
            self.first = self.last = sequence
        elif sequence > last:
            self.last = sequence
        else:
            self.late += 1
            if self.first is not None and sequence < self.first:
                self.first = sequence

    @property
    def not_joined(self) -> int:
        return 0 if self.first is None else self.first - 1

    @property
    def published(self) -> int:
        """By its own final count where it gave one, else by the highest number seen."""
        highest = self.last or 0
        if self.final and self.reported is not None:
            highest = max(highest, self.reported)
        return max(highest, self.received + self.not_joined)

    @property
    def lost(self) -> int:
        """Published after the recorder had joined, and never received."""
        if self.first is None:
            return self.published - self.received if self.uncounted == 0 else 0
        return self.published - self.not_joined - self.received


class StreamStatistics:
    """The counts of every topic and publisher. Used by the taking thread; not thread-safe by itself."""

    def __init__(self) -> None:
        self._publishers: dict[tuple[str, str], PublisherCounts] = {}

    def publisher(self, topic: str, gid: str) -> PublisherCounts:
        """The counts of one publisher, made at first sight."""
        key = (topic, gid)
        counts = self._publishers.get(key)
        if counts is None:
            counts = self._publishers[key] = PublisherCounts(topic, gid)
        return counts

    @property
    def publishers(self) -> list[PublisherCounts]:
        return [self._publishers[key] for key in sorted(self._publishers)]

    def reported(self, topic: str, gid: str, count: int, final: bool) -> None:
        """A publisher's own count arrived on /diagnostics. A final one is never taken back."""
        counts = self.publisher(topic, gid)
        if counts.final and not final:
            return
        counts.reported = count
        counts.final = final

    def waiting_for_final(self, alive: frozenset[str] | None = None) -> list[str]:
        """Gids that report counts (and, where given, are among ``alive``) but have not reported the last."""
        return [
            counts.gid
            for counts in self._publishers.values()
            if counts.reported is not None and not counts.final and (alive is None or counts.gid in alive)
        ]

    def episode(self, counts: PublisherCounts, episode_id: str) -> EpisodeCounts:
        """The window of one publisher in an episode, made at its first message inside."""
        window = counts.episodes.get(episode_id)
        if window is None:
            window = counts.episodes[episode_id] = EpisodeCounts(before=None)
        return window

    def episode_begins(self, episode_id: str) -> None:
        """Remember, for every publisher seen so far, the last number before the episode."""
        for counts in self._publishers.values():
            if counts.last is not None:
                counts.episodes[episode_id] = EpisodeCounts(before=counts.last)

    def close_tails(self) -> None:
        """Use the final counts for the episodes that were still open at the end (no later message came)."""
        for counts in self._publishers.values():
            if not counts.final or counts.reported is None:
                continue
            for window in counts.episodes.values():
                reached = window.last if window.last is not None else window.before
                if window.after is None and reached is not None and counts.reported >= reached:
                    window.after = counts.reported + 1

    def episode_table(self, episode_id: str) -> dict[str, dict[str, Any]]:
        """``"<topic> <gid>"`` to the counts of that publisher in the episode, for the `streams` record."""
        table: dict[str, dict[str, Any]] = {}
        for counts in self.publishers:
            window = counts.episodes.get(episode_id)
            if window is None or (window.received == 0 and window.published == 0 and window.repeated == 0):
                continue
            counted = counts.uncounted == 0
            table[f"{counts.topic} {counts.gid}"] = {
                "topic": counts.topic,
                "gid": counts.gid,
                "node": counts.node,
                "published": window.published if counted else None,
                "received": window.received,
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
        return table

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

    def run_table(self) -> list[dict[str, Value]]:
        """One row per topic and publisher over the whole run, for the report at the end."""
        return [
            {
                "topic": counts.topic,
                "gid": counts.gid,
                "node": counts.node,
                "published": counts.published if counts.uncounted == 0 else None,
                "published_said_by": "publisher" if counts.final else "sequence numbers",
                "not_joined": counts.not_joined,
                "received": counts.received,
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
