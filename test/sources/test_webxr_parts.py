"""The parts of the headset's page on this side: clock, gestures, held controls, certificate, body axes."""

from __future__ import annotations

import datetime
import random
import stat
import threading

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.body_axes import body_axes_from_positions
from capture_nodes.sources.hand_gestures import GestureParameters, HandGestures
from capture_nodes.sources.held_controls import HeldControls
from capture_nodes.sources.host_names import host_addresses, host_names
from capture_nodes.sources.pairing import Pairing, load_pairing
from capture_nodes.sources.round_trip_clock import RoundTripClock
from capture_nodes.sources.source import SourceError
from capture_nodes.sources.station_view import (
    episode_view,
    menu_view,
    retargeting_view,
    session_answer,
    task_view,
    with_reasons,
)
from capture_nodes.sources.webxr_body import CONVENTIONS, INFERRED, BodyAxes, joint_axes, t_pose_axes
from capture_nodes.sources.webxr_motion import WebxrMotion, tracked_poses
from capture_nodes.sources.webxr_wire import WireFrame
from retargeting.errors import RetargetingError
from retargeting.frames import ROTATION_OPENXR_TO_TRAINER, rotation_matrix_from_quaternion
from retargeting.motion_frame import Axis, Button, Controls

# ---- clock


@seed(1)
@settings(max_examples=40)
@given(st.integers(0, 10**6), st.floats(-1e6, 1e6), st.floats(-80e-6, 80e-6))
def test_the_offset_is_within_the_stated_uncertainty(number, offset_s, drift):
    """Whatever the network does on either way, and while the clocks drift."""
    draw = random.Random(number)
    clock, now_s = RoundTripClock(), 1000.0
    for _ in range(400):
        there_s, back_s = (0.0005 + draw.expovariate(200.0) for _ in range(2))
        their_s = (now_s + there_s) * (1.0 + drift) - offset_s
        clock.take(now_s, their_s, now_s + there_s + back_s)
        now_s += there_s + back_s + 0.1
        true_s = now_s - (now_s * (1.0 + drift) - offset_s)
        assert abs(clock.offset_s - true_s) <= clock.uncertainty_s(now_s) + 1e-9
    assert clock.uncertainty_s(now_s) < 0.006


def test_the_quickest_answer_decides():
    clock = RoundTripClock()
    assert not clock.known
    clock.take(0.0, 50.1, 0.2)
    clock.take(1.0, 51.0005, 1.001)
    clock.take(2.0, 52.05, 2.1)
    assert clock.offset_s == pytest.approx(-50.0)
    assert clock.round_trip_s == pytest.approx(0.001)


def test_a_clock_that_was_set_is_followed_at_once():
    clock = RoundTripClock()
    clock.take(0.0, 10.0005, 0.001)
    clock.take(1.0, 99.0, 1.02)
    assert clock.offset_s == pytest.approx(1.01 - 99.0)


def test_a_clock_is_read_while_it_learns():
    """By another thread, as the diagnostics do."""
    clock, ending = RoundTripClock(), threading.Event()
    with pytest.raises(RuntimeError, match="not answered yet"):
        clock.steady_s(0.0)
    clock.take(0.0, 0.0, 0.001)

    def learn():
        for k in range(20_000):
            # Set now and then: all answers before are dropped.
            clock.take(0.001 * k, 0.001 * k + 100.0 * (k % 997 == 0), 0.001 * k + 0.0005)
        ending.set()

    thread = threading.Thread(target=learn)
    thread.start()
    while not ending.is_set():
        assert (
            clock.known and np.isfinite([clock.offset_s, clock.uncertainty_s(20.0), clock.round_trip_s]).all()
        )
    thread.join()


# ---- gestures


def tips(index_m, little_m):
    def pose(x):
        return np.array([x, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])

    return {"left_thumb_tip": pose(0.0), "left_index_tip": pose(index_m), "left_little_tip": pose(little_m)}


def test_a_pinch_has_hysteresis():
    gestures = HandGestures()
    said = [
        gestures.observe("left", tips(d, 0.1), 0.0).pinch
        for d in (0.05, 0.02, 0.014, 0.03, 0.034, 0.04, 0.02)
    ]
    assert said == [False, False, True, True, True, False, False]
    assert not gestures.observe("left", {}, 0.0).pinch, "a hand out of view pinches nothing"
    assert not gestures.observe("right", tips(0.001, 0.1), 0.0).pinch


def test_menu_takes_a_moment_and_no_pinch():
    gestures = HandGestures(GestureParameters(menu_s=0.5))
    times = np.arange(0.0, 1.0, 0.1)
    said = [gestures.observe("left", tips(0.1, 0.01), t).menu for t in times]
    assert said == [bool(t >= 0.5) for t in times]
    assert not gestures.observe("left", tips(0.01, 0.01), 2.0).menu


@pytest.mark.parametrize(
    "bad", [{"close_m": 0.05}, {"open_m": 1.0}, {"menu_s": -1.0}, {"close_m": float("nan")}]
)
def test_impossible_gestures_are_refused(bad):
    with pytest.raises(RetargetingError):
        GestureParameters(**bad)


# ---- what is held


squeezes = st.tuples(st.floats(0.0, 1.0), st.floats(0.0, 1.0), st.booleans())


@seed(2)
@given(st.lists(st.tuples(st.booleans(), squeezes), max_size=30))
def test_nothing_held_counts_before_it_was_let_go(steps):
    held = HeldControls()
    let_go = {"left": True, "right": True, "button": True}
    for interrupted, (left, right, button) in steps:
        if interrupted:
            held.interrupt()
            let_go = dict.fromkeys(let_go, False)
        axes, buttons = [0.3] * len(Axis), [0] * len(Button)
        axes[Axis.LEFT_SQUEEZE], axes[Axis.RIGHT_SQUEEZE] = left, right
        buttons[Button.LEFT_MENU] = int(button)
        said = held.observe(Controls(tuple(axes), tuple(buttons)))
        let_go = {
            "left": let_go["left"] or left <= 0.4,
            "right": let_go["right"] or right <= 0.4,
            "button": let_go["button"] or not button,
        }
        assert said.axes[Axis.LEFT_SQUEEZE] == (left if let_go["left"] else 0.0)
        assert said.axes[Axis.RIGHT_SQUEEZE] == (right if let_go["right"] else 0.0)
        assert said.buttons[Button.LEFT_MENU] == (button if let_go["button"] else 0)
        assert said.axes[Axis.LEFT_TRIGGER] == 0.3, "a hand that holds something keeps it"


# ---- pairing, certificate


def test_the_token_is_made_once_and_private(tmp_path):
    folder = tmp_path / "new" / "webxr"
    first = load_pairing(folder)
    token = (folder / "token").read_text().strip()
    assert len(token) >= 22 and stat.S_IMODE((folder / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert load_pairing(folder).is_token(token) and first.is_token(token)
    assert first.is_cookie(first.cookie) and not first.is_token(first.cookie) and not first.is_cookie(token)
    assert token not in repr(first)
    assert load_pairing(tmp_path / "other").cookie != first.cookie


@pytest.mark.parametrize("token", ["", "short", "ä" * 30, "a\n" * 20])
def test_a_token_that_is_none_is_refused(token):
    with pytest.raises(SourceError):
        Pairing(token)


def test_a_certificate_is_kept_and_renewed(tmp_path):
    x509 = pytest.importorskip("cryptography.x509", reason="cryptography is not installed: make prepare-test")
    from capture_nodes.sources.station_certificate import server_context, station_certificate

    names, addresses = host_names(), host_addresses()
    certificate, key = station_certificate(tmp_path, names, addresses)
    server_context(certificate, key)
    assert stat.S_IMODE(key.stat().st_mode) == 0o600
    read = x509.load_pem_x509_certificate(certificate.read_bytes())
    there = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert set(names) <= set(there.get_values_for_type(x509.DNSName))
    assert set(addresses) <= set(there.get_values_for_type(x509.IPAddress))
    before = certificate.read_bytes()
    station_certificate(tmp_path, names, addresses)
    assert certificate.read_bytes() == before
    station_certificate(tmp_path, names, [*addresses, "192.0.2.7"])
    renamed = certificate.read_bytes()
    assert renamed != before
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=380)
    station_certificate(tmp_path, names, [*addresses, "192.0.2.7"], later)
    assert certificate.read_bytes() != renamed
    key.write_text("damaged")
    station_certificate(tmp_path, names, addresses)
    server_context(certificate, key)


# ---- axes


@seed(3)
@given(st.integers(0, 10**6), st.sampled_from(["left", "right"]))
def test_the_grip_has_the_axes_of_the_hand(number, side):
    """By the words of the specification: -z along the handle to the thumb, x through the palm."""
    turn = Rotation.random(random_state=number)
    pose = np.concatenate([[0.1, 1.2, -0.3], turn.as_quat()])
    seen = WireFrame(1, 0.0, "visible", False, (0.0,) * 8, (0,) * 8, (f"{side}_grip",), pose[None])
    grip = rotation_matrix_from_quaternion(tracked_poses(seen)[f"{side}_grip"][3:])
    columns = (ROTATION_OPENXR_TO_TRAINER @ turn.as_matrix()).T
    # Palm down, the thumb is to the right of the left hand and to the left of the right one.
    to_thumb = -columns[2]
    np.testing.assert_allclose(grip[:, 1], -to_thumb if side == "left" else to_thumb, atol=1e-12)
    # The back of the hand is where the palm's normal does not point.
    out_of_palm = columns[0] if side == "left" else -columns[0]
    np.testing.assert_allclose(grip[:, 2], -out_of_palm, atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(grip), 1.0)


def person(turn):
    """Standing, arms straight ahead, turned as a whole."""
    points = {"chest": (0, 0, 1.3), "pelvis": (0, 0, 0.95)}
    for side, y in (("left", 0.2), ("right", -0.2)):
        arm = {"shoulder": (0, y, 1.4), "elbow": (0.3, y, 1.4), "wrist": (0.55, y, 1.4)}
        leg = {"hip": (0, y / 2, 0.9), "knee": (0, y / 2, 0.5), "ankle": (0, y / 2, 0.08)}
        points |= {f"{side}_{part}": place for part, place in (arm | leg).items()}
    return {name: turn.apply(np.array(place, dtype=float)) for name, place in points.items()}


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5, 3.1])
def test_the_neutral_pose_gives_the_trainer_s_axes(yaw):
    turn = Rotation.from_euler("z", yaw)
    found = body_axes_from_positions(person(turn))
    assert {"chest", "pelvis", "left_elbow", "right_knee", "left_ankle"} <= set(found)
    assert "left_wrist" not in found
    for name, pose in found.items():
        axes = rotation_matrix_from_quaternion(pose[3:])
        np.testing.assert_allclose(axes, turn.as_matrix(), atol=1e-6, err_msg=name)


def test_a_body_comes_with_the_frame():
    """Positions in WebXR's world give the same points; hands that are tracked themselves are kept."""
    places = person(Rotation.identity())
    names = tuple(name for name in wire.BODY_JOINTS if name in places)
    body = np.array([[*ROTATION_OPENXR_TO_TRAINER.T @ places[name], 0.0, 0.0, 0.0, 1.0] for name in names])
    frame = WireFrame(
        1, 0.0, "visible", False, (0.0,) * 8, (0,) * 8, (), np.zeros((0, 7)), body_names=names, body=body
    )
    read = wire.decode_frame(wire.encode_frame(frame))
    poses = tracked_poses(read)
    assert set(poses) == set(names) - {"left_wrist", "right_wrist"}
    for name, pose in poses.items():
        np.testing.assert_allclose(pose[:3], places[name], atol=1e-6)
        np.testing.assert_allclose(rotation_matrix_from_quaternion(pose[3:]), np.eye(3), atol=1e-5)


def body_in_t_pose(convention):
    """Joints ``(n, 7)`` in WebXR's world, in the order of `BODY_JOINTS`."""
    places = person(Rotation.identity())
    for side, sign in (("left", 1.0), ("right", -1.0)):
        places |= {
            f"{side}_{part}": np.array([0.0, sign * (0.2 + far), 1.4])
            for part, far in (("shoulder", 0.0), ("elbow", 0.3), ("wrist", 0.55))
        }
    back = ROTATION_OPENXR_TO_TRAINER.T
    return np.array(
        [
            [*back @ places[p], *Rotation.from_matrix(back @ joint_axes(convention, p)).as_quat()]
            for p in wire.BODY_JOINTS
        ]
    )


@pytest.mark.parametrize("convention", CONVENTIONS)
def test_the_convention_of_a_browser_is_read_off_its_bones(convention):
    """Also where its joints are some degrees off their bones, and of a trainer who is turned."""
    random = np.random.default_rng(2)
    for _ in range(20):
        body = body_in_t_pose(convention)
        off = Rotation.from_rotvec(random.uniform(-0.2, 0.2, (len(body), 3)))
        whole = Rotation.random(random_state=int(random.integers(1 << 30)))
        body[:, 3:] = (whole * off * Rotation.from_quat(body[:, 3:])).as_quat()
        body[:, :3] = whole.apply(body[:, :3])
        axes = BodyAxes()
        poses = axes.poses(wire.BODY_JOINTS, body)
        assert axes.convention == convention
        assert set(poses) == set(wire.BODY_JOINTS) - {"left_wrist", "right_wrist"}
        for k, point in enumerate(wire.BODY_JOINTS):
            if point in poses:
                turned = (whole * off[k]).as_matrix()
                turned = ROTATION_OPENXR_TO_TRAINER @ turned @ ROTATION_OPENXR_TO_TRAINER.T
                found = rotation_matrix_from_quaternion(poses[point][3:])
                np.testing.assert_allclose(found, turned @ t_pose_axes(point), atol=1e-9, err_msg=point)


def test_axes_that_follow_no_convention_are_found_from_the_places():
    random = np.random.default_rng(4)
    body, axes = body_in_t_pose("meta"), BodyAxes()
    for k in range(50):
        body[:, 3:] = Rotation.random(len(body), random_state=k).as_quat()
        poses = axes.poses(wire.BODY_JOINTS, body)
        assert axes.convention == INFERRED
        places = dict(zip(wire.BODY_JOINTS, body[:, :3] @ ROTATION_OPENXR_TO_TRAINER.T, strict=True))
        expected = body_axes_from_positions(places)
        assert poses.keys() == expected.keys()
        assert all((poses[point] == expected[point]).all() for point in poses)
    # Of too little of a body nothing can be read.
    axes.forget()
    assert axes.poses(("left_elbow",), body[3:4]) == {} and axes.convention == INFERRED
    assert axes.poses((), np.zeros((0, 7))) == {}
    # One that begins in a bad moment is understood later, and kept through a later one.
    good = body_in_t_pose("draft")
    axes.poses(wire.BODY_JOINTS, good)
    assert axes.convention == "draft"
    good[:, 3:] = Rotation.random(len(good), random_state=random.integers(99)).as_quat()
    axes.poses(wire.BODY_JOINTS, good)
    assert axes.convention == "draft"


def test_what_was_known_and_is_guessed_now_is_left_out():
    motion = WebxrMotion()

    def points(emulated):
        pose = np.array([[0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0]] * 2)
        names = ("head", "left_grip")
        seen = WireFrame(1, 0.0, "visible", False, (0.0,) * 8, (0,) * 8, names, pose, frozenset(emulated))
        frame = motion.frame(seen, 1, 0.0)
        return set(frame.poses)

    # Of a device that never claims to know, guesses are taken.
    assert points({"left_grip"}) == {"head", "left_grip"}
    assert points({}) == {"head", "left_grip"}
    assert points({"left_grip"}) == {"head"}


HANDS = [f"left_{name}" for name in wire.HAND_JOINTS]


def squeezes(seen):
    """The left squeeze of each frame, of (points of it beside the head, the grip of a controller)."""
    motion, told = WebxrMotion(), []
    for k, (names, squeeze) in enumerate(seen):
        axes = [0.0] * 8
        axes[Axis.LEFT_SQUEEZE] = squeeze
        pose = np.tile([0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 1.0], (1 + len(names), 1))
        said = WireFrame(k, 0.0, "visible", False, tuple(axes), (0,) * 8, ("head", *names), pose)
        frame = motion.frame(said, k + 1, 0.01 * k)
        told.append(frame.controls.axes[Axis.LEFT_SQUEEZE])
    return told


def test_a_controller_that_comes_back_holds_nothing_until_it_is_pressed_anew():
    grip = ["left_grip", "left_aim"]
    # It was not there: nobody knows whether it was let go.
    assert squeezes([([], 0.0), (grip, 1.0), (grip, 1.0), (grip, 0.0), (grip, 1.0)]) == [0, 0, 0, 0, 1]
    assert squeezes([(grip, 0.0), (grip, 1.0), ([], 0.0), (grip, 1.0), (grip, 1.0)]) == [0, 1, 0, 0, 0]
    # The other hand's coming and going is nothing to it.
    both = [*grip, "right_grip"]
    assert squeezes([(grip, 0.0), (grip, 1.0), (both, 1.0), (grip, 1.0)]) == [0, 1, 1, 1]


def test_a_hand_that_is_seen_pinching_holds_nothing_until_it_pinches_anew():
    # All points in one place: as near as a pinch.
    assert squeezes([([], 0.0), (HANDS, 0.0), (HANDS, 0.0)]) == [0, 0, 0]
    # And one that puts its controller down.
    assert squeezes([(["left_grip"], 0.0), (["left_grip"], 1.0), (HANDS, 0.0), (HANDS, 0.0)]) == [0, 1, 0, 0]


def test_points_without_neighbours_have_no_axes():
    assert body_axes_from_positions({}) == {}
    assert body_axes_from_positions({"left_elbow": np.zeros(3)}) == {}
    assert "left_shoulder" not in body_axes_from_positions(
        {**person(Rotation.identity()), "left_elbow": np.array([0, 0.2, 1.4])}
    )


# ---- what is shown


def test_the_menu_sign_in_every_phase_of_a_session():
    for phase, does in (("waiting", True), ("recording", True), ("engaging", False), ("completing", False)):
        good, text = session_answer(phase)
        assert good is does and text
        assert menu_view("idle", phase)["menu"] == {"waiting": "start", "recording": "end"}.get(phase, "")
    assert session_answer("made_up") == (False, "Not now: made up")
    assert session_answer("") == (False, "Not now: no session runs")
    assert [menu_view(word, None)["menu"] for word in ("idle", "recording", "finishing")] == [
        "start", "end", "",
    ]  # fmt: skip


def test_the_station_in_the_words_of_a_trainer():
    view = retargeting_view(
        "holding", {"reason": "stale", "left_clutch": "following", "right_clutch": "lost"}
    )
    arms = with_reasons(view, {"left": "old", "right": "not tracked"})["retargeting"]["arms"]
    assert arms == {
        "left": {"state": "following", "reason": ""},
        "right": {"state": "lost", "reason": "not tracked"},
    }
    judged = episode_view(
        "idle",
        {"quality": "failed", "quality_reasons": '["camera head: lost 3"]'},
        {"episode": "2", "episodes": "9"},
    )
    assert judged["episode"]["verdict"] == "rejected" and judged["episode"]["reasons"] == [
        "camera head: lost 3"
    ]
    assert (judged["episode"]["number"], judged["episode"]["of"]) == ("2", "9")
    assert episode_view("recording", {"duration_s": "12.34"})["episode"]["duration_s"] == 12.3
    assert (
        episode_view("recording", {"duration_s": "?", "quality_reasons": "no json"})["episode"]["duration_s"]
        == 0
    )
    for said, shown in (
        ("Lift", "Lift"),
        ('{"de": "Heb", "en": "Lift it"}', "Lift it"),
        ("{broken", "{broken"),
        ("", ""),
    ):
        assert task_view("g1", "lift", said)["task"]["instruction"] == shown
