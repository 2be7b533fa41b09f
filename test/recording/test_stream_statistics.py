from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.recording.stream_statistics import EpisodeCounts, StreamStatistics, parse_published_counts


@settings(max_examples=200, deadline=None)
@given(
    arrived=st.lists(st.booleans(), min_size=1, max_size=80),
    final=st.booleans(),
)
def test_published_is_received_plus_lost_over_the_run(arrived: list[bool], final: bool) -> None:
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", "ab")
    numbers = [i + 1 for i, there in enumerate(arrived) if there]
    for number in numbers:
        counts.saw(number, 10)
    if final:
        statistics.reported("/t", "ab", len(arrived), True)
    joined = numbers[0] - 1 if numbers else 0
    assert counts.received == len(numbers)
    assert counts.published == counts.not_joined + counts.received + counts.lost
    if final:
        assert counts.published == len(arrived)
        assert counts.lost == len(arrived) - joined - len(numbers)
    elif numbers:
        assert counts.lost == numbers[-1] - numbers[0] + 1 - len(numbers)


@settings(max_examples=200, deadline=None)
@given(
    arrived=st.lists(st.booleans(), min_size=3, max_size=60),
    data=st.data(),
)
def test_an_episode_knows_what_it_missed_at_head_middle_and_tail(
    arrived: list[bool], data: st.DataObject
) -> None:
    """The first and the last message arrive, in between anything is lost; the episode is any interval."""
    arrived[0] = arrived[-1] = True
    begin = data.draw(st.integers(2, len(arrived) - 1), label="first number inside")
    end = data.draw(st.integers(begin, len(arrived) - 1), label="last number inside")
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", "ab")
    window: EpisodeCounts | None = None
    for number, there in enumerate(arrived, start=1):
        if number == begin:
            statistics.episode_begins("e")
            window = counts.episodes["e"]
        if not there:
            continue
        counts.saw(number, 1)
        assert window is not None or number < begin
        if window is not None and number <= end:
            window.received += 1
            window.first = window.first or number
            window.last = number
        elif window is not None and window.after is None:
            window.after = number
    assert window is not None
    received = sum(arrived[begin - 1 : end])
    assert window.received == window.written == received
    assert window.published == window.received + window.lost
    # What was lost next to a border may belong to either side; it is always counted, never forgotten.
    certainly_lost = (end - begin + 1) - received
    before = begin - 1 - max(i + 1 for i in range(begin - 1) if arrived[i])
    after = min(i + 1 for i in range(end, len(arrived)) if arrived[i]) - end - 1
    assert window.lost == certainly_lost + before + after


def test_losses_in_queue_and_on_disk_are_told_apart() -> None:
    window = EpisodeCounts(before=10, first=11, last=20, after=21, received=9, lost_queue=2, lost_disk=1)
    assert (window.published, window.lost_middleware, window.lost, window.written) == (10, 1, 4, 6)


def test_a_final_count_closes_an_open_tail() -> None:
    statistics = StreamStatistics()
    counts = statistics.publisher("/t", "ab")
    counts.saw(1, 1)
    counts.saw(2, 1)
    counts.episodes["e"] = EpisodeCounts(before=1, first=2, last=2, received=1)
    assert not statistics.episode_table("e")["/t ab"]["tail_known"]
    statistics.reported("/t", "ab", 5, True)
    statistics.reported("/t", "ab", 4, False)
    statistics.close_tails()
    row = statistics.episode_table("e")["/t ab"]
    assert (row["published"], row["lost"], row["tail_known"]) == (4, 3, True)
    assert statistics.run_table()[0]["lost"] == 3


def test_late_and_unnumbered_messages() -> None:
    statistics = StreamStatistics()
    late = statistics.publisher("/a", "1")
    for number in (5, 7, 6):
        late.saw(number, 1)
    assert (late.lost, late.late, late.not_joined) == (0, 1, 4)
    unnumbered = statistics.publisher("/b", "2")
    unnumbered.saw(None, 1)
    assert {row["topic"]: row["lost"] for row in statistics.run_table()} == {"/a": 0, "/b": None}


def test_waiting_for_final_counts() -> None:
    statistics = StreamStatistics()
    statistics.reported("/t", "ab", 5, False)
    statistics.publisher("/t", "silent").saw(1, 1)
    assert statistics.waiting_for_final() == ["ab"]
    assert statistics.waiting_for_final(frozenset({"other"})) == []
    statistics.reported("/t", "ab", 6, True)
    assert statistics.waiting_for_final() == []


def test_only_counts_are_read_from_a_status() -> None:
    values = {"/t": "12 ab", "/u": "3 ", "load": "0.5", "/v": "x ab"}
    assert parse_published_counts(values) == {("/t", "ab"): 12}
