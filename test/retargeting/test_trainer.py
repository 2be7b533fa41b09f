"""Where the trainer is, how large, and how the robot takes that over."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
from driven_robot import READY, person, without
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.sources.person import Person
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.frames import (
    pose_compose,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
)
from retargeting.mapping_settings import MappingSettings, load_mapping_settings
from retargeting.motion_frame import MotionFrame
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel
from retargeting.swivel import natural_elbow_direction
from retargeting.trainer_place import TrainerPlacer
from retargeting.trainer_size import TrainerSize, TrainerSizeEstimator, measure_trainer
from retargeting.trainer_store import TrainerStore
from retargeting.trainer_to_robot import TrainerToRobot

REPOSITORY = Path(__file__).resolve().parents[2]
TRUNK = ("pelvis", "chest", "left_shoulder", "right_shoulder", "left_elbow", "right_elbow")
# From the eyes to where the head turns about: between the joints of skull and neck and neck and trunk.
EYES_FROM_PIVOT = np.array([0.08, 0.0, 0.12])


def headset_frame(yaw_rad: float = 0.0, pitch_rad: float = 0.0, body_yaw_rad: float = 0.0, at=(0.0, 0.0)):
    """Head and wrists only; the head turns about a pivot in the neck, the hands stay with the body."""
    frame = without(person(READY, 1, heading_rad=body_yaw_rad, at=at), *TRUNK)
    body = quaternion_from_rotation_vector([0.0, 0.0, body_yaw_rad])
    yaw = quaternion_from_rotation_vector([0.0, 0.0, yaw_rad])
    look = quaternion_multiply(yaw, quaternion_from_rotation_vector([0.0, pitch_rad, 0.0]))
    turn = quaternion_multiply(body, look)
    head = frame.poses["head"]
    pivot = head[:3] - rotate(body, EYES_FROM_PIVOT)
    return MotionFrame(1, {**frame.poses, "head": np.r_[pivot + rotate(turn, EYES_FROM_PIVOT), turn]})


# ---- where


def test_looking_around_with_a_headset_alone_moves_no_arm(kestrel: RobotModel) -> None:
    placer = TrainerPlacer()
    mapping = TrainerToRobot(kestrel, measure_trainer(headset_frame()))
    still = mapping.targets(headset_frame(), placer.place(headset_frame())).wrists
    for yaw, pitch in [(0.5, 0.0), (1.0, 0.2), (-1.0, -0.5), (0.3, 0.9), (0.0, 0.0)]:
        frame = headset_frame(yaw, pitch)
        wrists = mapping.targets(frame, placer.place(frame)).wrists
        for side in wrists:
            np.testing.assert_allclose(wrists[side], still[side], atol=1e-9)


def test_walking_with_a_headset_alone_moves_no_arm(kestrel: RobotModel) -> None:
    placer = TrainerPlacer()
    mapping = TrainerToRobot(kestrel, measure_trainer(headset_frame()))
    still = mapping.targets(headset_frame(), placer.place(headset_frame())).wrists
    frame = headset_frame(0.4, 0.3, at=(3.0, -1.0))
    wrists = mapping.targets(frame, placer.place(frame)).wrists
    np.testing.assert_allclose(wrists["left"], still["left"], atol=1e-9)


def test_a_body_that_turns_takes_its_heading_along_and_recentring_ends_the_rest(kestrel: RobotModel) -> None:
    """Beyond what a neck can turn the body must have; what is left, `recentre` removes."""
    placer = TrainerPlacer()
    mapping = TrainerToRobot(kestrel, measure_trainer(headset_frame()))
    still = mapping.targets(headset_frame(), placer.place(headset_frame())).wrists["left"]
    for angle in np.linspace(0.0, 2.0, 40):
        place = placer.place(headset_frame(body_yaw_rad=float(angle)))
    behind = rotation_vector_from_quaternion(place.heading)[2]
    assert behind == pytest.approx(2.0 - 1.05, abs=1e-6)
    placer.recentre()
    frame = headset_frame(body_yaw_rad=2.0)
    np.testing.assert_allclose(mapping.targets(frame, placer.place(frame)).wrists["left"], still, atol=1e-9)


@pytest.mark.parametrize("hidden", [(), ("pelvis",), ("pelvis", "head")])
def test_turning_with_a_tracked_trunk_moves_no_arm(kestrel: RobotModel, hidden) -> None:
    mapping = TrainerToRobot(kestrel, measure_trainer(person(READY, 1)))
    still = mapping.targets(without(person(READY, 1), *hidden)).wrists["right"]
    frame = without(person(READY, 1, heading_rad=-2.2, at=(1.0, 4.0)), *hidden)
    np.testing.assert_allclose(mapping.targets(frame).wrists["right"], still, atol=1e-9)


def test_shoulders_hang_on_the_chest_where_only_that_is_tracked() -> None:
    turn = quaternion_from_rotation_vector([0.0, 0.0, 1.2])
    frame = MotionFrame(1, {"chest": np.r_[1.0, 2.0, 1.25, turn]})
    place = TrainerPlacer().place(frame)
    across = place.shoulders["left"] - place.shoulders["right"]
    assert np.linalg.norm(across) == pytest.approx(0.38)
    np.testing.assert_allclose(across / 0.38, [-np.sin(1.2), np.cos(1.2), 0.0], atol=1e-9)
    assert TrainerPlacer().place(MotionFrame(1, {})).shoulders == {}


# ---- how large


def test_tracked_arms_are_measured_in_any_posture() -> None:
    estimator = TrainerSizeEstimator(30)
    for k in range(60):
        reach = {side: READY[side] + [0.0, 0.002 * k, 0.003 * k] for side in READY}
        size = estimator.observe(person(reach, k))
        assert (size is None) == (k < 29)
    assert size is not None
    assert size.upper_arm_m["left"] == pytest.approx(0.3, abs=1e-6)
    assert size.forearm_m["right"] == pytest.approx(0.26, abs=1e-6)
    assert (size.shoulder_width_m, size.shoulder_height_m) == pytest.approx((0.38, 1.42))


@pytest.mark.parametrize("stature_m", [1.5, 1.75, 1.95])
@pytest.mark.parametrize("pose", ["forward", "sideways"])
def test_the_calibration_pose_measures_arms_that_are_not_tracked(stature_m: float, pose: str) -> None:
    """Arms 6 % longer than the average of that stature, hands 38 cm apart where they point forward."""
    human = Person.of_stature(stature_m)
    arm = 1.06 * human.reach_m
    poses = {"head": np.array([0.0, 0.0, human.head_height_m, 0.0, 0.0, 0.0, 1.0])}
    for side, sign in (("left", 1.0), ("right", -1.0)):
        along = np.array([1.0, 0.0, 0.0]) if pose == "forward" else np.array([0.0, sign, 0.0])
        wrist = np.array([0.0, sign * 0.19, human.shoulder_height_m]) + arm * along
        poses[f"{side}_wrist"] = np.r_[wrist, 0.0, 0.0, 0.0, 1.0]
    down = {**poses}
    for side in ("left", "right"):
        down[f"{side}_wrist"] = poses[f"{side}_wrist"] * np.array([0.1, 1, 0.6, 1, 1, 1, 1])
    estimator = TrainerSizeEstimator(30)
    for k in range(40):
        size = estimator.observe(MotionFrame(k, down))
    assert size is not None and size.arm_m("left") == pytest.approx(0.332 * stature_m, rel=0.02)
    for k in range(90):
        size = estimator.observe(MotionFrame(100 + k, poses))
    assert size is not None
    assert size.arm_m("left") == pytest.approx(arm, rel=0.01) == size.arm_m("right")
    estimator.freeze()
    for k in range(200):
        assert estimator.observe(MotionFrame(300 + k, down)) is size


def test_an_absurd_trainer_is_told_and_does_not_stay_among_the_measurements() -> None:
    estimator = TrainerSizeEstimator(5)
    giant = {name: pose * np.array([9, 9, 9, 1, 1, 1, 1]) for name, pose in person(READY, 1).poses.items()}
    with pytest.raises(
        RetargetingError, match=r"left arm measures 5\.0.. m; 0\.25 \.\. 0\.9 m is a person's"
    ):
        for k in range(5):
            estimator.observe(MotionFrame(k, giant))
    for k in range(5):
        size = estimator.observe(person(READY, 10 + k))
    assert size is not None and size.arm_m("left") == pytest.approx(0.56)


# ---- kept

SIZE = TrainerSize({"left": 0.3, "right": 0.31}, {"left": 0.25, "right": 0.26}, 1.4, 0.37)


def test_a_size_is_kept_per_operator(tmp_path: Path) -> None:
    store = TrainerStore(tmp_path / "made" / "here")
    assert store.load("anna") is None
    store.save("anna", SIZE)
    store.save("ben", dataclasses.replace(SIZE, shoulder_width_m=0.42))
    store.save("anna", SIZE)
    assert store.load("anna") == SIZE and store.load("ben") != SIZE
    assert sorted(path.name for path in (tmp_path / "made" / "here").iterdir()) == ["anna.json", "ben.json"]


@pytest.mark.parametrize("operator", ["", "../anna", "a/b", ".hidden", "x" * 65, "a\n"])
def test_a_name_that_is_no_file_name_is_refused(tmp_path: Path, operator: str) -> None:
    with pytest.raises(RetargetingError, match="operator"):
        TrainerStore(tmp_path).save(operator, SIZE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda c: "{", "is no JSON"),
        (lambda c: "[]", "an object is expected"),
        (lambda c: "\xff" * 20_000, "over 10000 bytes"),
        (lambda c: json.dumps(c | {"version": 2}), "version: 2 is not known, 1 is expected"),
        (lambda c: json.dumps(c | {"upper_arm_m": 3}), "upper_arm_m.left: metres .* not None"),
        (lambda c: json.dumps(c | {"forearm_m": {"left": "x", "right": True}}), "(?s)'x'.*True"),
        (lambda c: json.dumps(c | {"shoulder_width_m": float("nan")}), "shoulder_width_m: metres .* not nan"),
        (lambda c: json.dumps(c | {"shoulder_height_m": 10**400}), "shoulder_height_m: metres"),
        (lambda c: json.dumps(c | {"forearm_m": {"left": 2.0, "right": 2.0}}), r"arm measures 2\.300 m"),
        (lambda c: "[" * 9000, "JSON"),
    ],
)
def test_a_bad_file_is_told_with_its_key_and_the_way_out(tmp_path: Path, change, told: str) -> None:
    store = TrainerStore(tmp_path)
    file = store.save("anna", SIZE)
    file.write_text(change(json.loads(file.read_text())), encoding="latin-1")
    with pytest.raises(InvalidConfiguration, match=told) as caught:
        store.load("anna")
    assert "delete the file" in str(caught.value) and "anna.json" in str(caught.value)
    store.save("anna", SIZE)
    assert store.load("anna") == SIZE


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200))
def test_no_file_ends_in_anything_but_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    store = TrainerStore(tmp_path_factory.mktemp("sizes"))
    store.file("anna").write_bytes(data)
    with pytest.raises(InvalidConfiguration):
        store.load("anna")


def test_a_size_that_cannot_be_kept_is_told(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    with pytest.raises(RetargetingError, match="cannot be kept"):
        TrainerStore(tmp_path / "taken").save("anna", SIZE)


# ---- mapped


def test_the_mapping_file_is_the_default(kestrel: RobotModel) -> None:
    read, default = load_mapping_settings(REPOSITORY / "config" / "mapping.yaml"), MappingSettings()
    assert read.position_gain == default.position_gain and read.orientation_gain == default.orientation_gain
    for source, sides in default.wrist_in_point.items():
        for side, pose in sides.items():
            np.testing.assert_allclose(read.wrist_in_point[source][side], pose)


def test_every_problem_of_a_mapping_file_is_told(tmp_path: Path) -> None:
    file = tmp_path / "mapping.yaml"
    file.write_text(
        "position_gain: {left: 9, middle: 1}\norientation_gain: 3\nspeed: 1\n"
        "wrist_in_point: {wrist: {left: {rpy_rad: [0, 90, 0], xyz_m: [1, 2]}}, aim: {}}\n"
    )
    with pytest.raises(InvalidConfiguration) as caught:
        load_mapping_settings(file)
    keys = sorted(problem.key for problem in caught.value.problems)
    assert keys == [
        "orientation_gain", "position_gain.left", "position_gain.middle", "speed", "wrist_in_point.aim",
        "wrist_in_point.wrist.left.rpy_rad", "wrist_in_point.wrist.left.xyz_m",
    ]  # fmt: skip
    assert "degrees" in str(caught.value)
    file.write_text("a: [")
    with pytest.raises(InvalidConfiguration, match="not valid YAML"):
        load_mapping_settings(file)


def test_gains_and_offsets_are_undone_by_the_inverse(kestrel: RobotModel) -> None:
    offset = np.r_[0.01, -0.02, 0.03, quaternion_from_rotation_vector([0.3, -0.2, 0.5])]
    settings_ = MappingSettings(
        {"left": 0.7, "right": 1.2},
        {"left": 0.5, "right": 1.3},
        {"wrist": {"left": offset, "right": offset}, "grip": {"left": offset, "right": offset}},
    )
    frame = person(READY, 1, heading_rad=0.8, hand_roll_rad=0.6)
    mapping = TrainerToRobot(kestrel, measure_trainer(frame), settings=settings_)
    for side in ("left", "right"):
        wanted = mapping.targets(frame).wrists[side]
        wrist = mapping.trainer_wrist_for(frame, side, wanted)
        np.testing.assert_allclose(wrist[:3], frame.poses[f"{side}_wrist"][:3], atol=1e-9)
        assert abs(wrist[3:] @ frame.poses[f"{side}_wrist"][3:]) == pytest.approx(1.0)


def test_gains_scale_places_and_turns(kestrel: RobotModel) -> None:
    size, body = measure_trainer(person(READY, 1)), measure_robot(kestrel)
    halved = MappingSettings({"left": 0.5, "right": 1.0}, {"left": 0.5, "right": 1.0})
    frame = person(READY, 1, hand_roll_rad=1.0)
    whole = TrainerToRobot(kestrel, size, body).targets(frame).wrists
    half = TrainerToRobot(kestrel, size, body, halved).targets(frame).wrists
    shoulder = body.shoulders["left"]
    np.testing.assert_allclose(half["left"][:3] - shoulder, 0.5 * (whole["left"][:3] - shoulder))
    np.testing.assert_allclose(rotation_vector_from_quaternion(half["left"][3:]), [0.5, 0.0, 0.0], atol=1e-9)
    np.testing.assert_allclose(half["right"], whole["right"])


def test_a_controller_stands_for_a_wrist_that_is_not_tracked(kestrel: RobotModel) -> None:
    frame = person(READY, 1)
    mapping = TrainerToRobot(kestrel, measure_trainer(frame))
    wrist = frame.poses["left_wrist"]
    grip = pose_compose(wrist, [0.09, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    held = MotionFrame(1, {**without(frame, "left_wrist").poses, "left_grip": grip})
    np.testing.assert_allclose(mapping.targets(held).wrists["left"], mapping.targets(frame).wrists["left"])


# ---- elbows


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    wrist=st.tuples(st.floats(-0.5, 0.55), st.floats(-0.5, 0.5), st.floats(-0.55, 0.5)),
    side=st.sampled_from(["left", "right"]),
)
def test_a_natural_elbow_closes_the_arm_and_hangs(wrist, side: str) -> None:
    place = np.array(wrist)
    direction = np.empty(3)
    if not natural_elbow_direction(1.0 if side == "left" else -1.0, place, 0.3, 0.26, direction):
        return
    assert np.linalg.norm(direction) == pytest.approx(1.0)
    distance = float(np.linalg.norm(place))
    elbow = 0.3 * direction
    if 0.05 < distance < 0.55:
        assert np.linalg.norm(place - elbow) == pytest.approx(0.26, abs=1e-6)
    # Of all elbows that close the arm, none hangs lower along the preferred direction.
    along = place / distance
    beside = elbow - (elbow @ along) * along
    hanging = np.array([-0.3, 0.35 if side == "left" else -0.35, -1.0])
    assert beside @ hanging >= -1e-9


def test_without_tracked_elbows_the_natural_one_is_asked_for(kestrel: RobotModel) -> None:
    frame = person(READY, 1)
    mapping = TrainerToRobot(kestrel, measure_trainer(frame))
    told = mapping.targets(frame).elbow_directions
    natural = mapping.targets(without(frame, "left_elbow", "right_elbow")).elbow_directions
    for side in ("left", "right"):
        assert float(told[side] @ natural[side]) > np.cos(0.5)
        inverse = quaternion_inverse([0.0, 0.0, 0.0, 1.0])
        assert rotate(inverse, natural[side])[2] < 0.0
