"""Poses and stamps that come out against those the runtime was given, by an arithmetic of its own (scipy)."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from openxr_script import FB_JOINTS, TRACKED, VALID
from scipy.spatial.transform import Rotation
from worn_headset import Headset, any_frame, wait_for

from capture_nodes.sources.openxr.bodies import BD_JOINTS
from capture_nodes.sources.openxr.bodies import FB_JOINTS as FB_POINTS
from capture_nodes.sources.openxr.points import HAND_POINT_NAMES
from retargeting.body_points import HAND_POINTS, SIDES

# OpenXR's axes (columns) in trainer axes: right is -y, up is z, back is -x.
C = np.array([[0.0, 0.0, -1.0], [-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
_TOLERANCE = 1e-5  # m and rad; a float32 at 2 m is good to 1.2e-7
_HALF_A_PERIOD_NS = 5_000_000


def random_pose(random: np.random.Generator) -> tuple[np.ndarray, Rotation]:
    return random.uniform(-2.0, 2.0, 3), Rotation.random(random_state=random)


def put(scripted: Any, position: np.ndarray, rotation: Rotation, **more: Any) -> None:
    scripted.put(position, rotation.as_quat(), **more)


def check(pose: np.ndarray, position: np.ndarray, rotation: np.ndarray) -> None:
    """Position and rotation matrix in trainer axes."""
    assert np.abs(pose[:3] - position).max() < _TOLERANCE
    error = Rotation.from_quat(pose[3:]) * Rotation.from_matrix(rotation).inv()
    assert error.magnitude() < _TOLERANCE


def converted(rotation: Rotation) -> np.ndarray:
    """Of a point whose own axes agree with OpenXR's: x right, y out of the hand's back, z to the wrist."""
    result: np.ndarray = C @ rotation.as_matrix() @ C.T
    return result


@pytest.mark.parametrize("seed", range(4))
def test_head_and_aims_are_where_they_were_put(headset: Headset, seed: int) -> None:
    random = np.random.default_rng(seed)
    poses = {name: random_pose(random) for name in ("head", "left_aim", "right_aim")}
    with headset.writing() as script:
        put(script.head, *poses["head"])
        for k, side in enumerate(SIDES):
            put(script.controllers[k].aim, *poses[f"{side}_aim"])
    headset.hold("touch", "touch")
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "left_aim" in frame.poses)
    for name, (position, rotation) in poses.items():
        check(frame.poses[name], C @ position, converted(rotation))


def _matrix(x: list[float], y: list[float], z: list[float]) -> Rotation:
    return Rotation.from_matrix(np.array([x, y, z]).T)


# Where a grip's axes point, OpenXR's axes, by the words of its specification: x out of the left and into the
# right palm, -z along what is held from the little finger to the thumb, y the third.
_PALM_DOWN = {
    "left": _matrix([0, -1, 0], [0, 0, 1], [-1, 0, 0]),
    "right": _matrix([0, 1, 0], [0, 0, 1], [1, 0, 0]),
}
_THUMBS_UP = _matrix([1, 0, 0], [0, 0, 1], [0, -1, 0])


def test_grips_have_the_axes_of_the_hands_that_hold_them(headset: Headset) -> None:
    """Arms ahead and palms down is the neutral pose; thumbs up turns both hands by a quarter."""
    headset.hold("touch", "touch")
    with headset.writing() as script:
        for k, side in enumerate(SIDES):
            put(script.controllers[k].grip, np.array([0.1, 1.0, -0.5]), _PALM_DOWN[side])
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "left_grip" in frame.poses)
        for side in SIDES:
            check(frame.poses[f"{side}_grip"], np.array([0.5, -0.1, 1.0]), np.eye(3))
        with headset.writing() as script:
            for controller in script.controllers:
                put(controller.grip, np.zeros(3), _THUMBS_UP)
        frame = wait_for(source, lambda frame: abs(frame.poses["left_grip"][0]) < 0.1)
    # The back of the left hand then faces left (y), that of the right one right.
    for side, out in (("left", 1.0), ("right", -1.0)):
        z = Rotation.from_quat(frame.poses[f"{side}_grip"][3:]).apply([0.0, 0.0, 1.0])
        x = Rotation.from_quat(frame.poses[f"{side}_grip"][3:]).apply([1.0, 0.0, 0.0])
        assert np.allclose(z, [0.0, out, 0.0], atol=_TOLERANCE)
        assert np.allclose(x, [1.0, 0.0, 0.0], atol=_TOLERANCE)


def test_both_hands_have_26_joints(headset: Headset) -> None:
    random = np.random.default_rng(7)
    poses = {f"{side}_{name}": random_pose(random) for side in SIDES for name in HAND_POINT_NAMES}
    with headset.writing() as script:
        for k, side in enumerate(SIDES):
            script.hands[k].active = 1
            for joint, name in zip(script.hands[k].joints, HAND_POINT_NAMES, strict=True):
                put(joint, *poses[f"{side}_{name}"])
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "left_wrist" in frame.poses)
    assert set(frame.poses) == {"head", "left_wrist", "right_wrist", *HAND_POINTS}
    for name, (position, rotation) in poses.items():
        check(frame.poses[name], C @ position, converted(rotation))


def test_a_hidden_finger_is_inferred_and_a_hidden_wrist_is_a_lost_hand(headset: Headset) -> None:
    with headset.writing() as script:
        for hand in script.hands:
            hand.active = 1
        left, right = script.hands[0].joints, script.hands[1].joints
        left[HAND_POINT_NAMES.index("index_tip")].flags = VALID
        left[HAND_POINT_NAMES.index("ring_tip")].flags = 0
        right[HAND_POINT_NAMES.index("wrist")].flags = VALID
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "left_wrist" in frame.poses)
    assert "left_index_tip" in frame.poses
    assert "left_ring_tip" not in frame.poses
    assert not any(name.startswith("right_") for name in frame.poses)


def _turned_out(point: str) -> np.ndarray:
    """Axes of a point in a T-pose that faces the trainer's x, written down: x along the limb, z up."""
    side, _, part = point.partition("_")
    if part not in ("shoulder", "elbow", "wrist"):
        return np.eye(3)
    left = [[0, -1, 0], [1, 0, 0], [0, 0, 1]]
    return np.array(left if side == "left" else np.array(left).T, dtype=float)


def test_a_whole_body_of_24_joints(headset: Headset) -> None:
    """In a T-pose its joints' axes are those of the world; by what they turn from there, our points turn."""
    random = np.random.default_rng(3)
    poses = {point: random_pose(random) for point in BD_JOINTS}
    with headset.writing() as script:
        script.bd_supported = script.bd_active = 1
        script.head.flags = 0
        for point, joint in BD_JOINTS.items():
            put(script.bd[joint], *poses[point])
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "pelvis" in frame.poses)
        assert "body (BD)" in source.report["tracks"]
    assert set(frame.poses) == set(BD_JOINTS)
    for point, (position, rotation) in poses.items():
        check(frame.poses[point], C @ position, converted(rotation) @ _turned_out(point))


def _t_pose(random: np.random.Generator) -> dict[int, tuple[np.ndarray, Rotation]]:
    """70 joints of arbitrary axes that stand in a T-pose, turned about the vertical: facing OpenXR's +x."""
    facing = Rotation.from_euler("y", -90.0, degrees=True)
    places = {
        FB_POINTS["head"]: [0.0, 1.7, 0.0],
        FB_POINTS["pelvis"]: [0.0, 1.0, 0.0],
        FB_POINTS["left_shoulder"]: [-0.2, 1.5, 0.0],
        FB_POINTS["right_shoulder"]: [0.2, 1.5, 0.0],
    }
    return {
        joint: (facing.apply(places.get(joint, [0.0, 1.2, 0.0])), Rotation.random(random_state=random))
        for joint in range(FB_JOINTS)
    }


def test_an_upper_body_of_70_joints_by_its_own_t_pose(headset: Headset) -> None:
    """Whatever axes the runtime gives its joints: what they turn by from the T-pose, our points turn by."""
    random = np.random.default_rng(11)
    skeleton = _t_pose(random)
    turns = {point: random_pose(random) for point in FB_POINTS}
    facing = Rotation.from_euler("y", -90.0, degrees=True).as_matrix()
    with headset.writing() as script:
        script.bd_supported, script.fb_supported, script.fb_active = 0, 1, 1
        script.head.flags = 0
        for joint, (position, rotation) in skeleton.items():
            script.fb_skeleton[joint].put(position, rotation.as_quat())
        for point, joint in FB_POINTS.items():
            position, turn = turns[point]
            put(script.fb[joint], position, turn * skeleton[joint][1])
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "pelvis" in frame.poses)
        assert "body (FB)" in source.report["tracks"]
    assert set(frame.poses) == set(FB_POINTS)
    for point, (position, turn) in turns.items():
        expected = C @ turn.as_matrix() @ facing @ C.T @ _turned_out(point)
        check(frame.poses[point], C @ position, expected)


def test_a_changed_skeleton_is_read_again(headset: Headset) -> None:
    random = np.random.default_rng(12)
    skeleton = _t_pose(random)
    with headset.writing() as script:
        script.fb_supported = script.fb_active = 1
        for joint, (position, rotation) in skeleton.items():
            script.fb_skeleton[joint].put(position, rotation.as_quat())
            put(script.fb[joint], position, rotation)
    chest = FB_POINTS["chest"]
    with headset.worn() as source:
        before = wait_for(source, lambda frame: "chest" in frame.poses).poses["chest"]
        other = Rotation.random(random_state=random)
        with headset.writing() as script:
            script.fb_skeleton[chest].put(skeleton[chest][0], other.as_quat())
            put(script.fb[chest], skeleton[chest][0] + [0.0, 0.5, 0.0], other)
            script.fb_skeleton_count = 5
        after = wait_for(source, lambda frame: frame.poses["chest"][2] > before[2] + 0.4).poses["chest"]
    error = Rotation.from_quat(after[3:]) * Rotation.from_quat(before[3:]).inv()
    assert error.magnitude() < _TOLERANCE


def test_inferred_joints_of_a_body_count_but_its_wrists_have_to_be_tracked(headset: Headset) -> None:
    with headset.writing() as script:
        script.bd_supported = script.bd_active = 1
        for joint in script.bd:
            joint.flags = VALID
        script.bd[BD_JOINTS["right_wrist"]].flags = TRACKED
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: "pelvis" in frame.poses)
    assert {"left_elbow", "left_knee", "right_wrist"} <= set(frame.poses)
    assert "left_wrist" not in frame.poses


def test_a_tracked_hand_is_trusted_before_the_bodys(headset: Headset) -> None:
    with headset.writing() as script:
        script.bd_supported = script.bd_active = 1
        script.hands[0].active = 1
        script.hands[0].joints[1].put((0.0, 1.1, -0.4))
        for joint in script.bd:
            joint.put((0.0, 0.5, 0.0))
    with headset.worn() as source:
        frame = wait_for(source, lambda frame: {"left_palm", "pelvis"} <= set(frame.poses))
    assert frame.poses["left_wrist"][2] == pytest.approx(1.1, abs=1e-6)
    assert frame.poses["right_wrist"][2] == pytest.approx(0.5, abs=1e-6)


# ---- time


@pytest.mark.parametrize(
    ("shift_ns", "rate", "bound_ns"),
    [(0, 1.0, 1), (987_654_321_012_345, 1.0, 1), (5_000_000_123_456_789, 1.0, 1), (10**15, 1.0 + 2e-5, 2)],
)
def test_stamps_are_the_moments_that_poses_were_asked_for(
    headset: Headset, shift_ns: int, rate: float, bound_ns: int
) -> None:
    """XrTime far from the steady clock, and one that drifts from it by 20 ppm: the stamp is that moment's."""
    with headset.writing() as script:
        script.time_shift_ns, script.time_rate = shift_ns, rate
    errors = []
    with headset.worn() as source:
        for _ in range(100):
            frame = any_frame(source)
            since = headset.happened.located_ns - shift_ns - headset.script.time_origin_ns
            asked_ns = headset.script.time_origin_ns + round(since / rate)
            # On a busy machine the runtime may have been asked again before its answer is looked at here.
            if asked_ns - frame.stamp_ns < _HALF_A_PERIOD_NS:
                errors.append(abs(frame.stamp_ns - asked_ns))
                assert frame.stamp_ns <= headset.happened.located_monotonic_ns
            if len(errors) == 20:
                break
        offset_ms = source.diagnostics()["clock_offset_ms"]
        assert source.diagnostics()["clock_uncertainty_ms"] <= 1e-6 * (bound_ns + 1)
    assert len(errors) == 20
    assert max(errors) <= bound_ns
    assert abs(offset_ms - 1e-6 * shift_ns) < 1e-6 * abs(rate - 1.0) * 1e11 + 1e-3


def test_moving_points_are_where_they_are_at_the_stamp(headset: Headset) -> None:
    """A head at 1.5 m/s that turns at 2 rad/s, XrTime shifted: 1e-5 m is 7 us."""
    shift_ns = 123_456_789_000_000
    origin_ns = time.monotonic_ns() + shift_ns
    start, velocity = np.array([0.1, 1.6, 0.2]), np.array([1.0, 0.5, -1.0])
    spin = np.array([0.0, 2.0, 0.0])
    with headset.writing() as script:
        script.time_shift_ns = shift_ns
        script.head.put(start, velocity=velocity, spin=spin, origin_ns=origin_ns)
    with headset.worn() as source:
        for _ in range(20):
            frame = any_frame(source)
            elapsed_s = 1e-9 * (frame.stamp_ns + shift_ns - origin_ns)
            check(
                frame.poses["head"],
                C @ (start + elapsed_s * velocity),
                converted(Rotation.from_rotvec(elapsed_s * spin)),
            )


def test_frames_come_at_the_rate_that_is_asked_for_and_never_twice(headset: Headset) -> None:
    with headset.worn(rate_hz=200.0) as source:
        stamps = [any_frame(source).stamp_ns for _ in range(100)]
    steps = np.diff(stamps)
    assert (steps > 0).all()
    # On a busy machine some are late, missed, or replaced by the next before they are read here.
    assert np.mean(steps) > 0.9 * 5e6
    assert np.percentile(steps, 25) == pytest.approx(5e6, rel=0.2)


def test_it_waits_no_longer_than_it_is_told(headset: Headset) -> None:
    with headset.worn(rate_hz=10.0) as source:
        any_frame(source)
        assert source.wait_frame(0.001) is None


# ---- the space


def _heading(pose: np.ndarray) -> float:
    ahead = Rotation.from_quat(pose[3:]).apply([1.0, 0.0, 0.0])
    return float(np.arctan2(ahead[1], ahead[0]))


@pytest.mark.parametrize(("spaces", "word"), [(2, "STAGE"), (0, "LOCAL:")])
def test_without_a_local_floor_the_trainer_is_put_under_the_first_head(
    headset: Headset, spaces: int, word: str
) -> None:
    turn = Rotation.from_euler("yxz", [70.0, -20.0, 5.0], degrees=True)
    with headset.writing() as script:
        script.spaces = spaces
        script.stage.put((1.0, 0.0, 2.0), Rotation.from_euler("y", 130.0, degrees=True).as_quat())
        script.local.put((3.0, 1.6, 1.0), Rotation.from_euler("y", -50.0, degrees=True).as_quat())
        put(script.head, np.array([0.7, 1.6, -0.3]), turn)
        put(script.controllers[1].grip, np.array([0.7, 1.2, -0.8]), Rotation.identity())
    headset.hold("touch", "touch")
    with headset.worn(stature_m=1.6 / 0.936) as source:
        frame = wait_for(source, lambda frame: "right_grip" in frame.poses)
        assert word in source.report["space"]
    assert np.allclose(frame.poses["head"][:3], [0.0, 0.0, 1.6], atol=_TOLERANCE)
    assert _heading(frame.poses["head"]) == pytest.approx(0.0, abs=_TOLERANCE)
    # The same head seen from LOCAL_FLOOR: what lies between the points does not depend on the space.
    across = frame.poses["right_grip"][:3] - frame.poses["head"][:3]
    assert np.linalg.norm(across) == pytest.approx(np.linalg.norm([0.0, -0.4, -0.5]), abs=_TOLERANCE)
    assert across[2] == pytest.approx(-0.4, abs=_TOLERANCE)


def test_without_a_floor_nothing_is_given_before_a_head_is_seen(headset: Headset) -> None:
    with headset.writing() as script:
        script.spaces = 2
        script.head.flags = VALID
        script.hands[0].active = 1
    with headset.worn() as source:
        assert source.wait_frame(0.3) is None
        with headset.writing() as script:
            script.head.flags = TRACKED
        assert "left_wrist" in any_frame(source).poses
