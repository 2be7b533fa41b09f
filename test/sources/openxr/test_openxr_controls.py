"""Triggers, squeezes, sticks and buttons of every controller, bare hands, and what is felt."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from openxr_script import VALID
from worn_headset import Headset, any_frame, wait_for

from capture_nodes.sources.openxr.bare_hands import BareHand
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.points import HAND_POINT_NAMES
from capture_nodes.sources.openxr.profiles import PROFILES, offered_profiles
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame

_STICKS = {"thumbstick__x": 0.25, "thumbstick__y": -0.5, "thumbstick__click": 1.0}
# Per profile what is pressed on the left, on the right, and the axes and buttons it shall be.
_LEFT_AXES = {Axis.LEFT_TRIGGER: 0.5, Axis.LEFT_SQUEEZE: 0.75}
_RIGHT_STICK = {Axis.RIGHT_STICK_X: 0.25, Axis.RIGHT_STICK_Y: -0.5}
_VALUES = {"trigger__value": 0.5, "squeeze__value": 0.75}
_LETTERED = (
    {**_VALUES, "x__click": 1.0, "menu__click": 1.0},
    {**_STICKS, "b__click": 1.0},
    {**_LEFT_AXES, **_RIGHT_STICK},
    {Button.LEFT_PRIMARY, Button.LEFT_MENU, Button.RIGHT_SECONDARY, Button.RIGHT_STICK},
)
_PRESSED = {
    "touch": _LETTERED,
    "pico 4": _LETTERED,
    "pico neo 3": (
        _LETTERED[0],
        {**_LETTERED[1], "menu__click": 1.0},
        _LETTERED[2],
        _LETTERED[3] | {Button.RIGHT_MENU},
    ),
    "index": (
        # Fingers that lie around it: no squeeze.
        {"trigger__value": 0.5, "squeeze__value": 1.0, "squeeze__force": 0.75, "a__click": 1.0},
        {**_STICKS, "squeeze__value": 1.0, "b__click": 1.0},
        {**_LEFT_AXES, **_RIGHT_STICK},
        {Button.LEFT_PRIMARY, Button.RIGHT_SECONDARY, Button.RIGHT_STICK},
    ),
    "vive": (
        {"trigger__value": 0.5, "squeeze__click": 1.0, "menu__click": 1.0},
        {"trackpad__x": 0.25, "trackpad__y": -0.5, "trackpad__click": 1.0},
        {Axis.LEFT_TRIGGER: 0.5, Axis.LEFT_SQUEEZE: 1.0, **_RIGHT_STICK},
        {Button.LEFT_MENU, Button.RIGHT_STICK},
    ),
    "simple": (
        {"select__click": 1.0},
        {"menu__click": 1.0},
        {Axis.LEFT_SQUEEZE: 1.0},
        {Button.RIGHT_MENU},
    ),
}


def press(headset: Headset, left: dict[str, float], right: dict[str, float]) -> None:
    with headset.writing() as script:
        for k, values in enumerate((left, right)):
            script.controllers[k].components[:] = [0.0] * len(script.controllers[k].components)
            script.controllers[k].press(**values)


@pytest.mark.parametrize("profile", sorted(_PRESSED))
def test_every_input_of_a_controller_comes_out_where_it_belongs(headset: Headset, profile: str) -> None:
    left, right, axes, buttons = _PRESSED[profile]
    headset.hold(profile, profile)
    with headset.worn() as source:
        released = wait_for(source, lambda frame: "left_grip" in frame.poses)
        assert released.controls == Controls()
        press(headset, left, right)
        frame = wait_for(source, lambda frame: any(frame.controls.axes))
        assert source.diagnostics()["left_device"] == profile
    expected = [0.0] * len(Axis)
    for axis, value in axes.items():
        expected[axis] = value
    assert frame.controls.axes == pytest.approx(expected, abs=1e-6)
    assert {Button(k) for k, down in enumerate(frame.controls.buttons) if down} == buttons


def test_two_different_controllers_at_once(headset: Headset) -> None:
    headset.hold("index", "vive")
    press(headset, {"squeeze__force": 0.5}, {})
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        press(headset, {}, {"squeeze__click": 1.0})
        frame = wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] == 1.0)
    assert frame.controls.axes[Axis.LEFT_SQUEEZE] == 0.0


def test_a_controller_that_is_laid_down_is_gone_with_all_it_pressed(headset: Headset) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        any_frame(source)
        press(headset, _VALUES, _VALUES)
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] > 0.7)
        headset.hold("touch", "none")
        frame = wait_for(source, lambda frame: "right_grip" not in frame.poses)
        assert source.diagnostics()["right_device"] == "none"
    assert frame.controls.axes[Axis.LEFT_SQUEEZE] == pytest.approx(0.75)
    assert frame.controls.axes[Axis.RIGHT_SQUEEZE] == frame.controls.axes[Axis.RIGHT_TRIGGER] == 0.0


@pytest.mark.parametrize("flags", [0, VALID, 1, 2 | 8])
def test_a_controller_that_is_not_tracked_is_absent_while_its_buttons_work(
    headset: Headset, flags: int
) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        with headset.writing() as script:
            script.controllers[0].grip.flags = script.controllers[0].aim.flags = flags
        press(headset, _VALUES, {})
        frame = wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_TRIGGER] > 0.4)
    assert not {"left_grip", "left_aim"} & set(frame.poses)
    assert {"right_grip", "right_aim"} <= set(frame.poses)


# ---- bare hands


def test_gestures_of_the_runtime_are_the_squeeze_and_the_trigger(headset: Headset) -> None:
    headset.hold("hands", "hands")
    with headset.writing() as script:
        for hand in script.hands:
            hand.active = 1
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "left_wrist" in frame.poses)
        # No controller is held: its points would close the robot's fingers by a trigger that is not there.
        assert "left_grip" not in frame.poses
        ready = {"pinch_ext__ready_ext": 1.0, "grasp_ext__ready_ext": 1.0}
        press(headset, {"pinch_ext__value": 0.9, **ready}, {"grasp_ext__value": 0.6, **ready})
        frame = wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_SQUEEZE] > 0.0)
        assert frame.controls.axes[Axis.LEFT_SQUEEZE] == 1.0
        assert frame.controls.axes[Axis.RIGHT_TRIGGER] == pytest.approx(0.6)
        press(headset, {"pinch_ext__value": 0.6, **ready}, {})
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_TRIGGER] == 0.0)
        assert any_frame(source).controls.axes[Axis.LEFT_SQUEEZE] == 1.0
        press(headset, {"pinch_ext__value": 0.4, **ready}, {})
        wait_for(source, lambda frame: frame.controls.axes[Axis.LEFT_SQUEEZE] == 0.0)
        press(headset, {"pinch_ext__value": 0.9}, {})
        assert any_frame(source).controls.axes[Axis.LEFT_SQUEEZE] == 0.0


def put_fingers(headset: Headset, thumb_to_index_m: float) -> None:
    with headset.writing() as script:
        joints = script.hands[1].joints
        script.hands[1].active = 1
        joints[HAND_POINT_NAMES.index("thumb_tip")].put((0.2, 1.2, -0.4))
        joints[HAND_POINT_NAMES.index("index_tip")].put((0.2, 1.2 + thumb_to_index_m, -0.4))


def pinch_m(frame: MotionFrame) -> float:
    return float(np.linalg.norm((frame.poses["right_thumb_tip"] - frame.poses["right_index_tip"])[:3]))


def test_without_gestures_a_pinch_is_measured_between_the_tips(headset: Headset) -> None:
    headset.runtime.without("XR_EXT_hand_interaction")
    put_fingers(headset, 0.08)
    with headset.worn() as source:
        assert any_frame(source).controls.axes[Axis.RIGHT_SQUEEZE] == 0.0
        put_fingers(headset, 0.01)
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] == 1.0)
        put_fingers(headset, 0.03)
        for _ in range(3):
            assert any_frame(source).controls.axes[Axis.RIGHT_SQUEEZE] == 1.0
        put_fingers(headset, 0.04)
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] == 0.0)
        put_fingers(headset, 0.01)
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] == 1.0)
        with headset.writing() as script:
            script.hands[1].active = 0
        frame = wait_for(source, lambda frame: "right_wrist" not in frame.poses)
        assert frame.controls.axes[Axis.RIGHT_SQUEEZE] == 0.0
        # It comes back with the pinch that it went with.
        put_fingers(headset, 0.01)
        frame = wait_for(source, lambda frame: "right_wrist" in frame.poses)
        for _ in range(5):
            assert frame.controls.axes[Axis.RIGHT_SQUEEZE] == 0.0
            frame = any_frame(source)
        put_fingers(headset, 0.08)
        wait_for(source, lambda frame: pinch_m(frame) > 0.05)
        put_fingers(headset, 0.01)
        wait_for(source, lambda frame: frame.controls.axes[Axis.RIGHT_SQUEEZE] == 1.0)


def _hand(**places: tuple[float, float, float]) -> dict[str, np.ndarray]:
    return {f"left_{name}": np.array([*place, 0.0, 0.0, 0.0, 1.0]) for name, place in places.items()}


def test_a_pinch_has_hysteresis_and_ends_with_the_hand() -> None:
    parameters = OpenXrParameters(pinch_closed_m=0.02, pinch_open_m=0.04)
    hand = BareHand("left", parameters)

    def squeeze(distance_m: float) -> float:
        return hand.observe(_hand(thumb_tip=(0, 0, 0), index_tip=(distance_m, 0, 0)), {})[0]

    assert [squeeze(d) for d in (0.05, 0.03, 0.019, 0.03, 0.039, 0.041, 0.03)] == [0, 0, 1, 1, 1, 0, 0]
    assert squeeze(0.01) == 1.0
    assert hand.observe({}, {})[0] == 0.0
    assert squeeze(0.03) == 0.0


def test_a_fist_closes_between_its_two_distances() -> None:
    hand = BareHand("left", OpenXrParameters(fist_open_m=0.1, fist_closed_m=0.04))
    tips = ("middle_tip", "ring_tip", "little_tip")
    for distance_m, expected in ((0.2, 0.0), (0.1, 0.0), (0.07, 0.5), (0.04, 1.0), (0.0, 1.0)):
        poses = _hand(palm=(0, 0, 0), **{tip: (distance_m, 0.0, 0.0) for tip in tips})
        assert hand.observe(poses, {})[1] == pytest.approx(expected)
    assert hand.observe(_hand(palm=(0, 0, 0), middle_tip=(0, 0, 0)), {})[1] == 0.0


# ---- bindings


def test_no_path_is_suggested_twice_for_one_input_of_a_profile() -> None:
    for profile in PROFILES:
        paths = [path for _action, path in profile.bindings()]
        assert len(paths) == len(set(paths)), profile.name
        assert all(path.startswith(("/user/hand/left/", "/user/hand/right/")) for path in paths)


def test_every_profile_has_a_deadman_or_is_a_bare_hand() -> None:
    for profile in PROFILES:
        actions = {action for action, _path in profile.bindings()}
        assert ("squeeze" in actions) != profile.bare_hands
        assert {"grip", "aim"} <= actions


@pytest.mark.parametrize(
    ("extensions", "minor", "known"),
    [
        ((), 0, {"touch", "index", "vive", "simple"}),
        ((), 1, {"touch", "index", "vive", "simple", "pico 4", "pico neo 3"}),
        (("XR_BD_controller_interaction",), 0, {"touch", "index", "vive", "simple", "pico 4", "pico neo 3"}),
        (("XR_EXT_hand_interaction",), 0, {"touch", "index", "vive", "simple", "hands"}),
    ],
)
def test_profiles_are_offered_where_they_can_be_known(
    extensions: tuple[str, ...], minor: int, known: set[str]
) -> None:
    assert {profile.name for profile in offered_profiles(frozenset(extensions), minor)} == known


# ---- haptics


def test_a_rumble_is_felt_in_one_hand_and_ends(headset: Headset) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        source.rumble("right", 0.5)
        wait_for(source, lambda frame: headset.happened.haptic_applied[1] > 0)
        assert headset.happened.haptic_amplitude[1] == pytest.approx(0.5)
        assert 0.1e9 < headset.happened.haptic_duration_ns[1] <= 0.5e9
        assert headset.happened.haptic_applied[0] == 0
        # It goes on, in pulses, for as long as nobody says otherwise.
        wait_for(source, lambda frame: headset.happened.haptic_applied[1] >= 2)
        source.rumble("right", 0.0)
        wait_for(source, lambda frame: headset.happened.haptic_stopped[1] == 1)


def test_a_rumble_that_nobody_repeats_ends_by_itself(headset: Headset) -> None:
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "left_grip" in frame.poses)
        source.rumble("left", 1.0)
        wait_for(source, lambda frame: headset.happened.haptic_stopped[0] == 1)


def test_a_rumble_of_no_device_does_nothing(headset: Headset) -> None:
    with headset.worn() as source:
        any_frame(source)
        for intensity, side in itertools.product((0.4, 0.0), ("left", "right")):
            source.rumble(side, intensity)
            any_frame(source)
        assert isinstance(any_frame(source), MotionFrame)
    assert headset.happened.haptic_applied[:] == [0, 0]


def test_a_menu_sign_where_there_is_no_menu_button(headset: Headset) -> None:
    """The Index' B held, and a bare hand's thumb on its little finger; neither by a touch."""
    menu = Button.RIGHT_MENU
    headset.hold("index", "index")
    with headset.worn() as source:
        wait_for(source, lambda frame: "right_grip" in frame.poses)
        press(headset, {}, {"b__click": 1.0})
        first = wait_for(source, lambda frame: bool(frame.controls.buttons[Button.RIGHT_SECONDARY]))
        assert not first.controls.buttons[menu]
        held = wait_for(source, lambda frame: bool(frame.controls.buttons[menu]), "menu")
        assert held.stamp_ns - first.stamp_ns > 0.5e9
        press(headset, {}, {})
        wait_for(source, lambda frame: not frame.controls.buttons[menu])
        headset.hold("none", "none")
        with headset.writing() as script:
            script.hands[1].active = 1
            for k, joint in enumerate(script.hands[1].joints):
                joint.put((0.05 * k, 1.2, -0.4))
        apart = wait_for(source, lambda frame: "right_little_tip" in frame.poses)
        assert not any(apart.controls.buttons)
        with headset.writing() as script:
            joints = script.hands[1].joints
            names = HAND_POINT_NAMES
            joints[names.index("little_tip")].put((0.05 * names.index("thumb_tip") + 0.01, 1.2, -0.4))
        wait_for(source, lambda frame: bool(frame.controls.buttons[menu]), "menu of a bare hand")
    assert headset.validation_errors() == []
