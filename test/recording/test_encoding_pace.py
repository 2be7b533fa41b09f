"""When a camera steps down and up: each overload once, and up again only as often as it holds."""

from __future__ import annotations

import itertools
import os
import threading

import pytest

from capture_nodes.recording.background import BACKGROUND_NICE, Background
from capture_nodes.recording.encoding_pace import BEHIND, CALM_S, HASTE_S, LONGEST_CALM_S, EncodingPace

OVERLOAD_S = 2.0
PERIOD_S = 1.0 / 30.0


class Load:
    """Frames of one camera whose encoder needs, at every step down, half the time it needed before."""

    def __init__(self, cost_s: float, steps: int = 3) -> None:
        self.pace = EncodingPace(OVERLOAD_S)
        self.cost_s = cost_s
        self.steps = steps
        self.step = 0
        self.moves: list[tuple[float, str]] = []
        self.longest_s = 0.0
        self._put_s = self._free_s = 0.0

    def run(self, seconds: float) -> None:
        end_s = self._put_s + seconds
        while self._put_s < end_s:
            now_s = max(self._put_s, self._free_s)
            self.longest_s = max(self.longest_s, now_s - self._put_s)
            move = self.pace.move(self._put_s, now_s, crowded=False, may_rise=self.step > 0)
            if move == "down" and self.step < self.steps:
                self.step += 1
            elif move == "up":
                assert self.step > 0
                self.step -= 1
            if move:
                self.moves.append((now_s, move))
            self._free_s = now_s + self.cost_s / 2**self.step
            self._put_s += PERIOD_S


def test_who_keeps_up_never_moves() -> None:
    load = Load(0.9 * PERIOD_S)
    load.run(600.0)
    assert load.moves == []


def test_an_overload_that_passes_is_made_good_again() -> None:
    load = Load(1.5 * PERIOD_S)
    load.run(30.0)
    assert [move for _, move in load.moves[:1]] == ["down"]
    load.cost_s = 0.5 * PERIOD_S
    load.run(LONGEST_CALM_S)
    assert load.step == 0
    assert load.moves[-1][1] == "up"


def test_an_overload_that_stays_is_tried_ever_more_rarely() -> None:
    load = Load(1.5 * PERIOD_S)
    load.run(3600.0)
    ups = [at_s for at_s, move in load.moves if move == "up"]
    between = [b - a for a, b in itertools.pairwise(ups)]
    assert min(between) >= 2 * CALM_S and max(between[:6]) < max(between)
    # 22 tries at most in an hour once they have become rare.
    assert len(ups) <= 3600.0 / LONGEST_CALM_S + 6
    assert load.longest_s <= OVERLOAD_S + 2 * load.cost_s
    assert load.step <= 1


def test_as_many_steps_as_are_needed() -> None:
    load = Load(3.5 * PERIOD_S)
    load.run(CALM_S)
    assert load.step == 2


def test_frames_put_before_a_step_do_not_make_another() -> None:
    pace = EncodingPace(OVERLOAD_S)
    assert pace.move(0.0, 3.0, crowded=False, may_rise=False) == "down"
    assert pace.move(1.0, 3.5, crowded=False, may_rise=True) == ""
    assert pace.move(3.1, 3.6, crowded=True, may_rise=True) == "down"


def test_where_there_is_no_room_left_nobody_waits_for_the_next_frame() -> None:
    pace = EncodingPace(OVERLOAD_S)
    assert pace.move(0.0, 1.0, crowded=True, may_rise=False) == "down"
    assert pace.move(0.1, 1.0 + 0.9 * HASTE_S, crowded=True, may_rise=True) == ""
    assert pace.move(0.2, 1.0 + 1.1 * HASTE_S, crowded=True, may_rise=True) == "down"


def test_who_catches_up_is_left_to_it() -> None:
    pace = EncodingPace(OVERLOAD_S)
    assert pace.move(0.0, 3.0, crowded=False, may_rise=True) == "down"
    assert pace.move(3.1, 6.0, crowded=False, may_rise=True) == ""
    assert pace.move(3.2, 6.3, crowded=False, may_rise=True) == "down"


@pytest.mark.parametrize("waited_s", [2 * BEHIND * OVERLOAD_S, 0.9 * OVERLOAD_S])
def test_who_is_behind_does_not_rise(waited_s: float) -> None:
    pace = EncodingPace(OVERLOAD_S)
    assert pace.move(0.0, 3.0, crowded=False, may_rise=True) == "down"
    for k in range(1000):
        put_s = 3.1 + k
        assert pace.move(put_s, put_s + waited_s, crowded=False, may_rise=True) == ""


def test_the_background_hurries_and_goes_back() -> None:
    found: list[int] = []

    def nice() -> int:
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def work() -> None:
        usual = nice()
        background = Background()
        found.append(nice() - max(usual, BACKGROUND_NICE))
        background.hurry(True)
        # Where it may not, it stays as it was.
        found.append(nice() in (usual, max(usual, BACKGROUND_NICE)))
        background.hurry(False)
        found.append(nice() - max(usual, BACKGROUND_NICE))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert found == [0, True, 0]
