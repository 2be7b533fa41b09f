"""The deadman as a state machine: pressing starts, letting go stops, a fault needs a new press."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.deadman import Deadman, DeadmanParameters
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame

BOTH = frozenset(("left", "right"))
FRAME_S = 1.0 / 90.0


def motion(squeeze: float = 0.0, button: int = 0) -> MotionFrame:
    """Left hand only; the right one lets everything go."""
    axes, buttons = [0.0] * len(Axis), [0] * len(Button)
    axes[Axis.LEFT_SQUEEZE] = squeeze
    buttons[Button.LEFT_SECONDARY] = button
    return MotionFrame(1, {}, Controls(tuple(axes), tuple(buttons)))


def test_a_squeeze_has_two_thresholds() -> None:
    deadman = Deadman(DeadmanParameters("squeeze"))
    seen = []
    for squeeze in (0.0, 0.5, 0.61, 0.5, 0.41, 0.39, 0.5, 1.0):
        change = deadman.observe(motion(squeeze), BOTH, 0.0)
        seen.append((deadman.held["left"], change.pressed, change.let_go))
    assert [held for held, *_ in seen] == [False, False, True, True, True, False, False, True]
    assert [pressed for _, pressed, _ in seen] == [(), (), ("left",), (), (), (), (), ("left",)]
    assert [let_go for *_, let_go in seen].index(("left",)) == 5
    assert not deadman.held["right"]


def test_a_button_of_each_side() -> None:
    deadman = Deadman(DeadmanParameters("button", button="secondary"))
    assert deadman.observe(motion(button=1), BOTH, 0.0).pressed == ("left",)
    assert deadman.observe(motion(button=0), BOTH, 0.0).let_go == ("left",)


def test_hands_must_be_in_view_for_a_while() -> None:
    deadman = Deadman(DeadmanParameters("hands", in_view_s=0.3, out_of_view_s=0.1))

    def watch(views: list[frozenset[str]], start_s: float) -> list[bool]:
        held = []
        for k, view in enumerate(views):
            deadman.observe(motion(), view, start_s + k * FRAME_S)
            held.append(deadman.held["left"])
        return held

    held = watch([BOTH] * 40, 0.0)
    assert 26 <= held.index(True) <= 28 and all(held[28:])
    assert all(watch([frozenset(), BOTH] * 20, 1.0)), "a frame without the hand is none out of view"
    held = watch([frozenset()] * 20, 2.0)
    assert 8 <= held.index(False) <= 10


@pytest.mark.parametrize("mode", ["squeeze", "button", "hands"])
def test_a_fault_needs_letting_go_and_a_new_press(mode: str) -> None:
    deadman = Deadman(DeadmanParameters(mode, button="secondary"))

    def hold(on: bool, start_s: float) -> bool:
        view = BOTH if on else frozenset[str]()
        for k in range(60):
            deadman.observe(motion(float(on), int(on)), view, start_s + k * FRAME_S)
        return deadman.held["left"]

    assert hold(True, 0.0)
    deadman.require_press()
    assert not deadman.held["left"] and not hold(True, 1.0)
    assert not hold(False, 2.0)
    assert hold(True, 3.0)


@pytest.mark.parametrize("mode", ["squeeze", "button", "hands"])
def test_asking_is_a_press_of_hands_in_view_and_of_nothing_else(mode: str) -> None:
    deadman = Deadman(DeadmanParameters(mode, button="secondary"))
    for k in range(60):
        deadman.observe(motion(1.0, 1), BOTH, k * FRAME_S)
    deadman.require_press()
    deadman.ask(("left",))
    assert deadman.held == {"left": mode == "hands", "right": False}
    for k in range(60):
        deadman.observe(motion(1.0, 1), BOTH, 1.0 + k * FRAME_S)
    assert deadman.held == {"left": mode == "hands", "right": False}


def test_switched_off_it_is_always_held() -> None:
    deadman = Deadman()
    deadman.require_press()
    change = deadman.observe(motion(), frozenset(), 0.0)
    assert deadman.held == {"left": True, "right": True} and change.pressed == change.let_go == ()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(
    mode=st.sampled_from(["squeeze", "button", "hands"]),
    steps=st.lists(st.tuples(st.floats(0.0, 1.0), st.booleans(), st.booleans(), st.booleans()), max_size=60),
)
def test_changes_are_told_once_and_a_held_side_is_active(mode: str, steps) -> None:
    deadman = Deadman(DeadmanParameters(mode, button="secondary", in_view_s=0.02, out_of_view_s=0.02))
    held = False
    for k, (squeeze, button, seen, fault) in enumerate(steps):
        if fault and np.random.default_rng(k).random() < 0.2:
            deadman.require_press()
            held = False
        view = BOTH if seen else frozenset[str]()
        change = deadman.observe(motion(squeeze, int(button)), view, k * FRAME_S)
        assert not ("left" in change.pressed and held) and not ("left" in change.let_go and not held)
        held = (held or "left" in change.pressed) and "left" not in change.let_go
        assert held == deadman.held["left"]
        if held and mode == "squeeze":
            assert squeeze > 0.4
        if held and mode == "button":
            assert button


def test_every_wrong_parameter_is_told() -> None:
    with pytest.raises(RetargetingError, match=r"(?s)mode 'foot': one of off, .*button 'a'.*let_go < press"):
        DeadmanParameters(mode="foot", button="a", press=0.2)
