"""All that can go away: attention, tracking, the session, the runtime, sane numbers; and coming back."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from openxr_script import TRACKED, VALID
from worn_headset import Headset, any_frame, wait_for, wait_for_none

from capture_nodes.sources.openxr.live import OpenXrSource
from capture_nodes.sources.openxr.session import State
from retargeting.motion_frame import Axis, Controls, MotionFrame

_HELD = {"squeeze__value": 1.0, "trigger__value": 0.5, "x__click": 1.0}


def squeezed(frame: MotionFrame) -> bool:
    return frame.controls.axes[Axis.LEFT_SQUEEZE] == 1.0


def worn_and_squeezed(headset: Headset, source: OpenXrSource) -> MotionFrame:
    """A trainer with the deadman held."""
    headset.hold("touch", "touch")
    wait_for(source, lambda frame: "left_grip" in frame.poses)
    with headset.writing() as script:
        script.controllers[0].press(**_HELD)
    return wait_for(source, squeezed)


def release(headset: Headset) -> None:
    with headset.writing() as script:
        script.controllers[0].press(**dict.fromkeys(_HELD, 0.0))


def check_last(frames: list[MotionFrame]) -> None:
    """The frames up to a silence end in one that repeats the last poses with nothing pressed."""
    last = frames[-1]
    assert last.controls == Controls()
    assert last.poses
    if len(frames) > 1:
        before = frames[-2]
        assert before.controls != Controls()
        assert last.stamp_ns == before.stamp_ns
        assert set(last.poses) == set(before.poses)
        assert all(np.array_equal(last.poses[name], before.poses[name]) for name in last.poses)


def check_needs_a_new_press(headset: Headset, source: OpenXrSource) -> None:
    """What was held all the time holds nothing; let go and pressed again it does."""
    frame = wait_for(source, lambda frame: "left_grip" in frame.poses)
    assert frame.controls.axes[Axis.LEFT_SQUEEZE] == 0.0
    assert not any(frame.controls.buttons)
    for _ in range(5):
        assert any_frame(source).controls.axes[Axis.LEFT_SQUEEZE] == 0.0
    release(headset)
    wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_TRIGGER] == 0.0)
    with headset.writing() as script:
        script.controllers[0].press(**_HELD)
    assert any(wait_for(source, squeezed).controls.buttons)


def test_what_is_held_on_opening_holds_nothing(headset: Headset) -> None:
    headset.hold("touch", "touch")
    with headset.writing() as script:
        script.controllers[0].press(**_HELD)
    with headset.worn() as source:
        check_needs_a_new_press(headset, source)


def test_a_controller_that_is_told_of_only_after_the_head_is_holds_nothing(headset: Headset) -> None:
    """As Monado does on every opening: the first sync still knows no profile."""
    with headset.writing() as script:
        script.controllers[0].press(**_HELD)
    with headset.worn() as source:
        assert any_frame(source).controls == Controls()
        headset.hold("touch", "touch")
        check_needs_a_new_press(headset, source)


def test_a_controller_that_drops_out_and_comes_back_holds_nothing(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        headset.hold("none", "touch")
        wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_SQUEEZE] == 0.0)
        headset.hold("touch", "touch")
        check_needs_a_new_press(headset, source)


def test_a_device_that_replaces_a_held_one_holds_nothing(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            script.controllers[0].press(squeeze__force=1.0)
        headset.hold("index", "touch")
        wait_for(source, lambda frame: source.diagnostics()["left_device"] == "index" and not squeezed(frame))
        for _ in range(5):
            assert not squeezed(any_frame(source))


def test_what_is_pressed_on_one_side_lasts_while_the_other_takes_something_up(headset: Headset) -> None:
    with headset.worn() as source:
        headset.hold("touch", "none")
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        with headset.writing() as script:
            script.controllers[0].press(**_HELD)
        wait_for(source, squeezed)
        headset.hold("touch", "touch")
        while "right_grip" not in (frame := any_frame(source)).poses:
            assert squeezed(frame)
        assert squeezed(frame)


def test_lost_attention_opens_the_deadman_and_ends_the_frames(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        any_frame(source)
        assert float(str(source.diagnostics()["frame_rate_hz"])) > 0.0
        with headset.writing() as script:
            script.focused = 0
        check_last(wait_for_none(source))
        diagnostics = source.diagnostics()
        assert (diagnostics["device"], diagnostics["frame_rate_hz"]) == ("not in use (visible)", 0.0)
        with headset.writing() as script:
            script.focused = 1
        check_needs_a_new_press(headset, source)
        assert source.diagnostics()["device"] == "in use"


def test_points_that_are_lost_are_absent_and_with_the_last_the_frames_end(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            script.controllers[0].grip.flags = VALID
        frame = wait_for(source, lambda frame: "left_grip" not in frame.poses)
        assert squeezed(frame)
        with headset.writing() as script:
            script.head.flags = 0
            for controller in script.controllers:
                controller.grip.flags = controller.aim.flags = 0
        check_last(wait_for_none(source))
        assert source.diagnostics()["device"] == "in use, but nothing is tracked"
        with headset.writing() as script:
            script.head.flags = TRACKED
            for controller in script.controllers:
                controller.grip.flags = controller.aim.flags = TRACKED
        check_needs_a_new_press(headset, source)


def test_an_inferred_place_of_the_head_counts_only_of_a_headset_that_never_tracked_one(
    headset: Headset,
) -> None:
    inferred = VALID | 4
    with headset.writing() as script:
        script.head.flags = inferred
    with headset.worn() as source:
        assert "head" in any_frame(source).poses
        with headset.writing() as script:
            script.head.flags = TRACKED
            script.head.put((0.0, 1.0, 0.0))
        wait_for(source, lambda frame: frame.poses["head"][2] < 1.1)
        with headset.writing() as script:
            script.head.flags = inferred
        wait_for_none(source)


@pytest.mark.parametrize("lost", ["instance_lost", "session_lost"])
def test_a_runtime_that_goes_away_and_comes_back(headset: Headset, lost: str) -> None:
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.2) as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            setattr(script, lost, 1)
            script.present = 0
        check_last(wait_for_none(source))
        assert "no headset" in str(source.diagnostics()["device"])
        assert headset.happened.instances_made == headset.happened.instances_destroyed
        # For as long as it likes.
        for _ in range(5):
            assert source.wait_frame(0.1) is None
        with headset.writing() as script:
            setattr(script, lost, 0)
            script.present = 1
        check_needs_a_new_press(headset, source)
        diagnostics = source.diagnostics()
        assert (diagnostics["device_losses"], diagnostics["connections"]) == (1, 2)


@pytest.mark.parametrize("code", [-2, -3, -424242], ids=["runtime failure", "out of memory", "unknown"])
def test_any_failure_of_the_runtime_is_survived(headset: Headset, code: int) -> None:
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.2) as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            script.failure = code
        # Every try opens a session that fails at once.
        check_last(wait_for_none(source))
        with headset.writing() as script:
            script.failure = 0
        check_needs_a_new_press(headset, source)


def test_a_runtime_that_is_gone_is_tried_ever_less_often(headset: Headset) -> None:
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.4) as source:
        any_frame(source)
        with headset.writing() as script:
            script.headset_present = 0
            script.instance_lost = 1
        wait_for_none(source)
        with headset.writing() as script:
            script.instance_lost = 0
        before = headset.happened.instances_made
        for _ in range(12):
            assert source.wait_frame(0.1) is None
        # 1.2 s at up to 0.4 s between: not one per frame, and more than none.
        assert 2 <= headset.happened.instances_made - before <= 8


def test_a_headset_that_is_not_plugged_in_yet_is_waited_for(headset: Headset) -> None:
    with headset.writing() as script:
        script.headset_present = 0
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.1) as source:
        assert "ERROR_FORM_FACTOR_UNAVAILABLE" in source.report["headset"]
        assert source.wait_frame(0.3) is None
        with headset.writing() as script:
            script.headset_present = 1
        any_frame(source)
        assert source.report["headset"] == "test headset"


def test_a_session_that_the_trainer_ends_is_ended_and_later_made_anew(headset: Headset) -> None:
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.5) as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            script.exits += 1
        check_last(wait_for_none(source))
        assert headset.happened.sessions_ended == 1
        assert headset.happened.state == State.EXITING
        check_needs_a_new_press(headset, source)
        assert headset.happened.sessions_made == 2


def test_a_recentred_space_lets_go_of_the_deadman(headset: Headset) -> None:
    """Poses jump: what was held does not hold across it."""
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        with headset.writing() as script:
            script.recentres += 1
        wait_for(source, lambda frame: not squeezed(frame))
        check_needs_a_new_press(headset, source)


def test_a_recentred_stage_puts_the_trainer_under_the_head_again(headset: Headset) -> None:
    with headset.writing() as script:
        script.spaces = 0
    with headset.worn() as source:
        any_frame(source)
        with headset.writing() as script:
            script.head.put((2.0, 1.6, 1.0))
        far = wait_for(source, lambda frame: abs(frame.poses["head"][1]) > 1.0)
        assert far.poses["head"][1] == pytest.approx(-2.0, abs=1e-5)
        with headset.writing() as script:
            script.recentres += 1
        near = wait_for(source, lambda frame: abs(frame.poses["head"][1]) < 1.0)
        assert np.abs(near.poses["head"][:2]).max() < 1e-5


@pytest.mark.parametrize(
    "orientation",
    [(math.nan, 0.0, 0.0, 1.0), (0.0, 0.0, 0.0, 0.0), (math.inf, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 1.2)],
)
def test_a_rotation_that_is_none_is_a_point_that_is_not_tracked(
    headset: Headset, orientation: tuple[float, ...]
) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_aim" in frame.poses)
        with headset.writing() as script:
            script.controllers[0].grip.put((0.0, 1.0, 0.0), orientation)
        frame = wait_for(source, lambda frame: "left_grip" not in frame.poses)
        assert {"head", "left_aim", "right_grip"} <= set(frame.poses)
        assert source.diagnostics()["unusable_poses"] > 0


@pytest.mark.parametrize("x_m", [math.nan, math.inf, 1e3])
def test_a_position_that_is_none_is_a_point_that_is_not_tracked(headset: Headset, x_m: float) -> None:
    with headset.worn() as source:
        any_frame(source)
        with headset.writing() as script:
            script.hands[0].active = 1
            script.hands[0].joints[5].put((x_m, 1.0, 0.0))
        frame = wait_for(source, lambda frame: "left_wrist" in frame.poses)
    assert "left_thumb_tip" not in frame.poses


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e9])
def test_an_input_that_is_no_number_presses_nothing(headset: Headset, value: float) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        with headset.writing() as script:
            script.controllers[0].press(squeeze__value=value, trigger__value=0.5)
        frame = wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_TRIGGER] == 0.5)
    assert frame.controls.axes[Axis.LEFT_SQUEEZE] == 0.0


def freeze(headset: Headset, source: OpenXrSource) -> None:
    """Until a call into the runtime waits, and the source has said so."""
    with headset.writing() as script:
        script.frozen = 1
    wait_for(source, lambda frame: frame.controls == Controls(), "the open deadman")
    assert source.wait_frame(0.3) is None
    assert headset.happened.frozen_calls == 1
    diagnostics = source.diagnostics()
    assert str(diagnostics["device"]).startswith("the OpenXR runtime has not answered for 0.")
    assert diagnostics["frame_rate_hz"] == 0.0


def test_a_runtime_that_freezes_opens_the_deadman_and_may_answer_again(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        freeze(headset, source)
        # What a moment long past looked like is no frame any more.
        thawed_ns = round(1e9 * time.monotonic())
        with headset.writing() as script:
            script.frozen = 0
        assert any_frame(source).stamp_ns > thawed_ns
        check_needs_a_new_press(headset, source)
        diagnostics = source.diagnostics()
        assert (diagnostics["freezes"], diagnostics["device"]) == (1, "in use")
        assert (diagnostics["device_losses"], diagnostics["connections"]) == (0, 1)


def test_a_frozen_runtime_that_is_restarted_is_opened_anew(headset: Headset) -> None:
    """As when the process behind it is killed: its calls come back with an error."""
    with headset.worn(retry_first_s=0.05, retry_longest_s=0.2) as source:
        worn_and_squeezed(headset, source)
        freeze(headset, source)
        with headset.writing() as script:
            script.frozen, script.instance_lost, script.present = 0, 1, 0
        assert source.wait_frame(0.3) is None
        with headset.writing() as script:
            script.instance_lost, script.present = 0, 1
        check_needs_a_new_press(headset, source)
        assert headset.happened.instances_made == 2


def test_a_runtime_that_freezes_for_good_holds_up_no_end(headset: Headset) -> None:
    with headset.worn() as source:
        worn_and_squeezed(headset, source)
        freeze(headset, source)
        left_s = time.monotonic()
    assert time.monotonic() - left_s < 10.0
    # Its thread is still in there.
    with headset.writing() as script:
        script.frozen = 0
    end_s = time.monotonic() + 20.0
    while headset.happened.instances_destroyed < 1:
        assert time.monotonic() < end_s
        source.wait_frame(0.01)


def test_a_body_that_is_lost_takes_its_points_along(headset: Headset) -> None:
    with headset.writing() as script:
        script.fb_supported = script.fb_active = 1
    with headset.worn() as source:
        wait_for(source, lambda frame: "chest" in frame.poses)
        with headset.writing() as script:
            script.fb_active = 0
        frame = wait_for(source, lambda frame: "chest" not in frame.poses)
    assert set(frame.poses) == {"head"}
