"""The laws of the latched emergency stop: anybody sets it, and who may reset it."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.stop_latch import StopLatch, Word

PANEL, OTHER, SUPERVISOR, SERVICE = b"panel", b"other", b"supervisor", b"service"


class Heard:
    """A latch and publishers that number what they say."""

    def __init__(self) -> None:
        self.latch = StopLatch(lambda gid: gid == SERVICE)
        self.numbers: dict[bytes, int] = {}

    def say(self, *said: tuple[bytes, bool]) -> bool | None:
        return self.latch.hear([self.word(gid, stop) for gid, stop in said])

    def word(self, gid: bytes, stop: bool) -> Word:
        self.numbers[gid] = self.numbers.get(gid, 0) + 1
        return Word(gid, self.numbers[gid], stop)


def test_whoever_set_it_takes_it_back() -> None:
    heard = Heard()
    assert heard.say((PANEL, True)) is True
    assert heard.say((PANEL, False)) is False
    assert heard.say((PANEL, False)) is None


def test_a_panel_that_says_false_all_the_time_undoes_nothing_of_others() -> None:
    heard = Heard()
    assert heard.say((PANEL, False)) is None
    assert heard.say((SUPERVISOR, True)) is True
    assert [heard.say((PANEL, False)) for _ in range(50)] == [None] * 50
    assert heard.say((SERVICE, False)) is False


def test_two_that_set_it_both_take_it_back() -> None:
    heard = Heard()
    assert heard.say((PANEL, True)) is True
    assert heard.say((OTHER, True)) is True
    assert heard.say((PANEL, False)) is None
    assert heard.say((OTHER, False)) is False


def test_the_service_resets_whoever_set_it_and_the_next_stop_counts_anew() -> None:
    heard = Heard()
    assert heard.say((PANEL, True), (SUPERVISOR, True)) is True
    assert heard.say((SERVICE, False)) is False
    assert heard.say((OTHER, True)) is True
    assert heard.say((PANEL, False)) is None
    assert heard.say((OTHER, False)) is False


def test_of_two_that_speak_at_once_the_careful_one_wins() -> None:
    heard = Heard()
    assert heard.say((PANEL, True)) is True
    assert heard.say((PANEL, False), (OTHER, True)) is True
    heard = Heard()
    assert heard.say((PANEL, True), (PANEL, False)) is True
    assert heard.say((PANEL, False)) is None
    assert heard.say((SERVICE, False)) is False


def test_a_word_that_several_subscriptions_hear_counts_once() -> None:
    heard = Heard()
    stop, reset = heard.word(PANEL, True), heard.word(PANEL, False)
    assert heard.latch.hear([stop, stop, stop]) is True
    assert heard.latch.hear([reset]) is False
    assert heard.latch.hear([stop, reset]) is None, "the slower subscriptions say what is over"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(said=st.lists(st.tuples(st.sampled_from([PANEL, OTHER, SUPERVISOR, SERVICE]), st.booleans())))
def test_it_is_set_as_long_as_somebody_has_not_taken_it_back(said: list[tuple[bytes, bool]]) -> None:
    heard, is_set = Heard(), False
    setters: set[bytes] = set()
    for gid, stop in said:
        answer = heard.say((gid, stop))
        is_set = is_set if answer is None else answer
        if stop:
            setters.add(gid)
        else:
            setters = set() if gid == SERVICE else setters - {gid}
        assert is_set == bool(setters)
