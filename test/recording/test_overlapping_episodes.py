"""The counts of overlapping episodes under loss, lateness, duplicates and restarts, against plain sets."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.recording.stream_statistics import (
    HOLES_KEPT,
    Arrival,
    EpisodeCounts,
    PublisherCounts,
    StreamStatistics,
)
from capture_nodes.recording.stream_timing import EpisodeTimes

PRE_NS = POST_NS = 40
FIRST, SECOND = "first", "second"
HEADER = "std_msgs/Header header\n"


@dataclass(frozen=True)
class Message:
    gid: str
    sequence: int
    received_ns: int
    queue_full: bool
    disk_fails: bool


@dataclass
class Station:
    """What a recorder does with the statistics: a ring for the pre-roll, a post-roll, several episodes."""

    statistics: StreamStatistics = field(default_factory=StreamStatistics)
    episodes: dict[str, list[int | None]] = field(default_factory=dict)
    times: dict[str, EpisodeTimes] = field(default_factory=dict)
    ring: deque[tuple[PublisherCounts, Arrival, Message, int]] = field(default_factory=deque)
    written: dict[str, list[Message]] = field(default_factory=dict)

    def take(self, message: Message) -> None:
        counts = self.statistics.publisher("/t", message.gid)
        arrival = counts.arrived(message.sequence, 10, message.received_ns - 3, message.received_ns)
        crossed_ns = counts.latest_received_ns
        for name, (begin, end) in self.episodes.items():
            if begin is not None and begin <= crossed_ns and (end is None or crossed_ns <= end):
                self._into(name, counts, arrival, message)
        self.ring.append((counts, arrival, message, crossed_ns))

    def _into(self, name: str, counts: PublisherCounts, arrival: Arrival, message: Message) -> None:
        window = self.statistics.into(name, counts, arrival)
        if message.queue_full:
            window.lost_queue += 1
            return
        window.wrote(message.received_ns, message.received_ns - 3, bytes(16))
        if message.disk_fails:
            window.lost_disk += 1
        else:
            self.written.setdefault(name, []).append(message)

    def start(self, name: str, now_ns: int) -> None:
        begin = now_ns - PRE_NS
        self.episodes[name] = [begin, None]
        self.times[name] = EpisodeTimes()
        self.statistics.episode_begins(name, self.times[name])
        for counts, arrival, message, crossed_ns in self.ring:
            if crossed_ns >= begin:
                self._into(name, counts, arrival, message)

    def stop(self, name: str, now_ns: int) -> None:
        self.episodes[name][1] = now_ns + POST_NS
        self.statistics.episode_ends(name, now_ns + POST_NS)


@st.composite
def stories(draw: st.DrawFn) -> tuple[list[Message], dict[str, int], tuple[int, ...]]:
    """Messages in the order of arrival, last published number of each publisher, four moments."""
    messages: list[tuple[int, int, Message]] = []
    last = {}
    for k, gid in enumerate(draw(st.sampled_from([["aa"], ["aa", "bb"]]))):
        begin = draw(st.sampled_from([0, 1, 2, 1000, 1 << 40]), label="first number")
        # A restarted publisher has a new gid and begins where the other ends.
        start_ns = 1000 + draw(st.integers(0, 300)) * k
        fates = draw(
            st.lists(
                st.tuples(st.sampled_from("....lltdqwhh"), st.integers(0, 9), st.integers(0, 6)),
                min_size=2,
                max_size=50,
            )
        )
        last[gid] = begin + len(fates) - 1
        for i, (fate, late, jitter) in enumerate(fates):
            if fate == "l":
                continue
            at = start_ns + 10 * i + (late * 10 if fate in "th" else 0)
            # `h`: held back by the middleware, but marked with the time it came in.
            received = start_ns + 10 * i + jitter if fate == "h" else at + jitter
            message = Message(gid, begin + i, received, fate == "q", fate == "w")
            messages.append((at, len(messages), message))
            if fate == "d":
                messages.append((at + 10 * late, len(messages), message))
    moments = sorted(draw(st.lists(st.integers(980, 1600), min_size=4, max_size=4, unique=True)))
    return [m for _, _, m in sorted(messages)], last, tuple(moments)


def play(messages: list[Message], moments: tuple[int, ...]) -> Station:
    station = Station()
    actions = [
        (moments[0], lambda: station.start(FIRST, moments[0])),
        (moments[1], lambda: station.stop(FIRST, moments[1])),
        (moments[2], lambda: station.start(SECOND, moments[2])),
        (moments[3], lambda: station.stop(SECOND, moments[3])),
    ]
    for message in messages:
        while actions and message.received_ns >= actions[0][0]:
            actions.pop(0)[1]()
        station.take(message)
    for _, action in actions:
        action()
    return station


def crossings(messages: list[Message], gid: str) -> list[tuple[int, int, bool]]:
    """(crossing time, number, came before) of one publisher, in the order of arrival."""
    result, newest, seen = [], 0, set()
    for message in messages:
        if message.gid == gid:
            newest = max(newest, message.received_ns)
            result.append((newest, message.sequence, message.sequence in seen))
            seen.add(message.sequence)
    return result


@settings(max_examples=200, deadline=None, derandomize=True)
@given(story=stories(), final=st.booleans())
def test_laws_of_two_overlapping_episodes(
    story: tuple[list[Message], dict[str, int], tuple[int, ...]], final: bool
) -> None:
    messages, last, moments = story
    station = play(messages, moments)
    statistics = station.statistics
    if final:
        for gid, number in last.items():
            # A count: of a publisher that is known to begin with 0, one more than the last number.
            zero = statistics.publisher("/t", gid).first == 0
            statistics.reported("/t", gid, number + 1 if zero else number, True)
        statistics.close_tails()
    for gid in last:
        came = crossings(messages, gid)
        counts = statistics.publisher("/t", gid)
        numbers = {number for _, number, _ in came}
        assert counts.received == len(numbers)
        assert counts.duplicates == len(came) - len(numbers)
        assert counts.published == counts.not_joined + counts.received + counts.lost
        if numbers:
            highest = last[gid] if final else max(numbers)
            assert counts.lost == highest - min(numbers) + 1 - len(numbers)
            assert counts.not_joined == min(numbers) - (0 if 0 in numbers else 1)
        for name, start, stop in ((FIRST, moments[0], moments[1]), (SECOND, moments[2], moments[3])):
            begin_ns, end_ns = start - PRE_NS, stop + POST_NS
            inside = [entry for entry in came if begin_ns <= entry[0] <= end_ns]
            window = counts.episodes.get(name)
            if window is None:
                assert not inside
                continue
            check_window(window, came, begin_ns, end_ns, last[gid] if final else None)
            row = statistics.episode_table(name).get(f"/t {gid}")
            assert row is not None or not inside
            mine = [m for m in messages if m.gid == gid]
            kept = [m for m in station.written.get(name, []) if m.gid == gid]
            assert window.written == len(kept)
            taken = [
                m for m, (crossed, _, _) in zip(mine, came, strict=True) if begin_ns <= crossed <= end_ns
            ]
            assert window.lost_queue == sum(m.queue_full for m in taken)
            assert window.lost_disk == sum(m.disk_fails and not m.queue_full for m in taken)
            station.times[name].fold()
            if window.times is not None:
                timed = window.times.figures(window.publisher_index)
                assert timed.count == window.written + window.lost_disk


def check_window(
    window: EpisodeCounts,
    came: list[tuple[int, int, bool]],
    begin_ns: int,
    end_ns: int,
    final: int | None,
) -> None:
    earlier = {number for crossed, number, _ in came if crossed < begin_ns}
    before = max(earlier) if earlier else None
    inside = [number for crossed, number, again in came if begin_ns <= crossed <= end_ns and not again]
    again = sum(again for crossed, _, again in came if begin_ns <= crossed <= end_ns)
    assert window.received == len(inside)
    assert window.duplicates == again
    assert window.received + window.duplicates == window.written + window.lost_queue + window.lost_disk
    assert window.published == window.received + window.lost_middleware
    so_far: set[int] = set()
    after = None
    for crossed, number, _ in came:
        if crossed > end_ns and after is None and (not so_far or number > max(so_far)):
            after = number
        so_far.add(number)
    if after is None and final is not None and (inside or before is not None):
        after = final + 1
    if not inside and before is None:
        # Nothing of this publisher before or inside: it has no window but by a duplicate, and lost nothing.
        assert window.lost_middleware == 0
        return
    assert window.after == after
    # Everything numbered between the neighbours is inside or lost, nothing else.
    low = min(inside) - 1 if before is None else before
    high = max([low, *inside]) + 1 if after is None else after
    missing = set(range(low + 1, high)) - set(inside)
    assert window.lost_middleware == len(missing)
    assert window.before == before


@settings(max_examples=200, deadline=None, derandomize=True)
@given(numbers=st.lists(st.integers(0, 60), max_size=80))
def test_any_order_of_numbers_is_told_apart_from_duplicates(numbers: list[int]) -> None:
    counts = StreamStatistics().publisher("/t", "aa")
    seen: set[int] = set()
    for number in numbers:
        again = counts.saw(number, 1)[2]
        assert again == (number in seen)
        seen.add(number)
    assert (counts.received, counts.duplicates) == (len(seen), len(numbers) - len(seen))
    if seen:
        assert counts.lost == max(seen) - min(seen) + 1 - len(seen)
        assert counts.published == counts.not_joined + counts.received + counts.lost


def test_a_late_message_of_a_forgotten_hole_stays_lost() -> None:
    counts = StreamStatistics().publisher("/t", "aa")
    for k in range(HOLES_KEPT + 2):
        counts.saw(2 * k + 1, 1)
    counts.saw(2, 1)
    assert (counts.duplicates, counts.lost) == (1, HOLES_KEPT + 1)
    counts.saw(6, 1)
    assert (counts.late, counts.lost) == (1, HOLES_KEPT)
    assert counts.published == counts.received + counts.lost


def test_a_jump_of_the_numbers_costs_no_memory() -> None:
    counts = StreamStatistics().publisher("/t", "aa")
    counts.saw(1, 1)
    counts.saw(1 << 62, 1)
    assert counts.lost == (1 << 62) - 2


def test_the_first_number_after_the_end_may_lie_inside_the_next_episode() -> None:
    station = Station()
    station.start(FIRST, 1000)
    for number in (1, 2):
        station.take(Message("aa", number, 1000 + 10 * number, False, False))
    station.stop(FIRST, 1025)
    station.start(SECOND, 1040)
    # Inside both: the first ends at 1065, the second began at 1000.
    station.take(Message("aa", 3, 1060, False, False))
    first, second = (station.statistics.publisher("/t", "aa").episodes[name] for name in (FIRST, SECOND))
    assert (first.last, first.after, second.first, second.last) == (3, None, 1, 3)
    assert [counts.gid for counts, _ in station.statistics.tails_open(FIRST)] == ["aa"]
    station.take(Message("aa", 5, 1070, False, False))
    assert (first.last, first.after, first.lost) == (3, 5, 1)
    assert (second.last, second.lost) == (5, 1)
    assert station.statistics.tails_open(FIRST) == []


def test_what_is_taken_after_the_start_but_came_before_it_is_no_loss_of_the_episode() -> None:
    station = Station()
    station.take(Message("aa", 1, 900, False, False))
    station.start(FIRST, 1000)
    station.take(Message("aa", 2, 950, False, False))
    station.stop(FIRST, 1010)
    station.take(Message("aa", 5, 1100, False, False))
    window = station.statistics.publisher("/t", "aa").episodes[FIRST]
    assert (window.before, window.after, window.received, window.lost) == (2, 5, 0, 2)


def test_a_message_from_before_the_episode_does_not_hide_a_loss() -> None:
    window = EpisodeCounts(before=20)
    for number in (18, 21, 22, 24):
        window.saw((number, 20, False))
    assert (window.published, window.received, window.lost_middleware, window.early) == (5, 4, 1, 1)
    window.saw((22, 24, True))
    assert (window.received, window.duplicates, window.lost_middleware) == (4, 1, 1)


def test_a_silent_publisher_has_a_row_and_its_loss_as_soon_as_that_shows() -> None:
    station = Station()
    station.take(Message("aa", 7, 1000, False, False))
    station.start(FIRST, 1100)
    station.stop(FIRST, 1200)
    row = station.statistics.episode_table(FIRST)["/t aa"]
    assert (row["published"], row["received"], row["lost"], row["tail_known"]) == (0, 0, 0, False)
    station.take(Message("aa", 10, 1300, False, False))
    row = station.statistics.episode_table(FIRST)["/t aa"]
    assert (row["published"], row["received"], row["lost"], row["tail_known"]) == (2, 0, 2, True)


@pytest.mark.parametrize(
    ("gid", "numbers", "sequence", "publisher"),
    [
        ("ab01", (1, 2), "counted", "gid"),
        ("ab01", (None, None), "not given by the middleware", "gid"),
        ("ab01", (1, None), "not given by the middleware for 1 of 2 messages", "gid"),
        ("", (1, 2), "counted", "not given by the middleware: all publishers of the topic in one row"),
        ("0000", (1, 2), "counted", "not given by the middleware: all publishers of the topic in one row"),
        ("recorder", (1, 2), "counted", "gid"),
    ],
)
def test_a_row_says_what_the_middleware_does_not_give(
    gid: str, numbers: tuple[int | None, ...], sequence: str, publisher: str
) -> None:
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", gid)
    statistics.episode_begins("e")
    for number in numbers:
        statistics.into("e", counts, counts.arrived(number, 1, 0, 1))
    row = statistics.episode_table("e")[f"/t {gid}"]
    assert (row["sequence"], row["publisher"], row["received"]) == (sequence, publisher, 2)
    given_all = None not in numbers
    assert (row["lost"] is not None, row["lost_in"]["middleware"] is not None) == (given_all, given_all)
    assert statistics.evidence("e")["/t"].lost_middleware == (0 if given_all else None)


def test_rows_carry_the_times_of_each_publisher_until_they_are_released() -> None:
    statistics = StreamStatistics()
    statistics.add_topic("/t", HEADER, 100.0)
    times = EpisodeTimes()
    statistics.episode_begins("e", times)
    for gid, offset in (("aa", 0), ("bb", 5_000_000)):
        counts = statistics.publisher("/t", gid)
        for number in range(1, 12):
            stamp = 1_000_000_000 + number * 10_000_000 + offset
            data = (
                b"\0\1\0\0" + (stamp // 10**9).to_bytes(4, "little") + (stamp % 10**9).to_bytes(4, "little")
            )
            window = statistics.into("e", counts, counts.arrived(number, 1, stamp, stamp + 1))
            window.wrote(stamp + 1, stamp, data)
    times.fold()
    table = statistics.episode_table("e")
    for gid in ("aa", "bb"):
        timing = table[f"/t {gid}"]["timing"]
        assert (timing["basis"], timing["count"]) == ("header", 11)
        assert timing["rate_hz"] == pytest.approx(100.0)
    statistics.release_times("e")
    assert "timing" not in statistics.episode_table("e")["/t aa"]


def test_live_counts_start_their_peaks_anew() -> None:
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", "aa")
    statistics.episode_begins("e")
    for number, received in ((1, 100), (2, 150), (5, 400)):
        window = statistics.into("e", counts, counts.arrived(number, 8, received - 20 * number, received))
    window.lost_queue, window.lost_disk = 2, 1
    (live,) = statistics.live(["e", "unknown"])
    assert (live.received, live.bytes, live.lost_middleware, live.lost_queue, live.lost_disk) == (
        3,
        24,
        2,
        2,
        1,
    )
    assert (live.latest_received_ns, live.longest_interval_ns, live.longest_delay_ns) == (400, 250, 100)
    (live,) = statistics.live([])
    assert (live.longest_interval_ns, live.longest_delay_ns, live.lost_queue) == (0, 0, 0)
