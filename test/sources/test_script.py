"""The scripted person: smooth, of constant size, where it was told to be."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from capture_nodes.sources.person import Person
from capture_nodes.sources.script import (
    Circle,
    PickAndPlace,
    Script,
    ScriptSource,
    Waypoint,
    minimum_jerk,
    pick_and_place,
    reach_and_circle,
    stand_ready,
)
from capture_nodes.sources.source import SourceError
from retargeting.frames import pose_compose, quaternion_from_rpy, rotation_matrix_from_quaternion

PERSON = Person()
TASK = PickAndPlace("right", (0.45, -0.25, 1.05), (0.45, 0.0, 1.05), (0.0, 0.6, 0.0), (0.1, 0.0, 0.0))


def sampled(source, rate_hz=90.0):
    times = np.arange(0.0, source.duration_s + 0.5 / rate_hz, 1 / rate_hz)
    return times, np.array([source.poses_at(t) for t in times])


def of(source, poses, point):
    return poses[:, source.names.index(point)]


def scripts():
    yield "circle", reach_and_circle(PERSON)
    yield "circle left", reach_and_circle(PERSON, "left")
    yield "pick and place", pick_and_place(PERSON, TASK)
    far = dataclasses.replace(TASK, object_position_m=(0.85, -0.2, 0.95), goal_position_m=(0.8, 0.05, 0.95))
    yield "leaning", pick_and_place(PERSON, far)
    yield "small person", reach_and_circle(Person.of_stature(1.5))


SOURCES = {name: ScriptSource(script) for name, script in scripts()}


def test_minimum_jerk_is_flash_and_hogans():
    t = np.linspace(0, 1, 1001)
    s = minimum_jerk(t)
    velocity, acceleration = np.gradient(s, t), np.gradient(np.gradient(s, t), t)
    assert s[0] == 0.0 and s[-1] == 1.0 and np.all(np.diff(s) >= 0)
    assert velocity.max() == pytest.approx(1.875, rel=1e-3)
    assert abs(velocity[[0, -1]]).max() < 1e-4 and abs(acceleration[[0, -1]]).max() < 0.1
    assert np.abs(acceleration).max() == pytest.approx(10 / math.sqrt(3), rel=1e-2)
    np.testing.assert_array_equal(minimum_jerk(np.array([-1.0, 2.0])), [0.0, 1.0])


@pytest.mark.parametrize("name", SOURCES)
def test_motion_is_smooth(name):
    """Finite differences at 90 Hz: speeds and accelerations of a calm person, no jump between two frames."""
    source = SOURCES[name]
    _, poses = sampled(source)
    for point in source.names:
        position = of(source, poses, point)[:, :3]
        velocity = np.diff(position, axis=0) * 90
        acceleration = np.diff(velocity, axis=0) * 90
        assert np.linalg.norm(velocity, axis=-1).max(initial=0) < 1.0, point
        assert np.linalg.norm(acceleration, axis=-1).max(initial=0) < 4.0, point
        # Acceleration itself is continuous: it changes by a jerk, never in a step.
        assert np.linalg.norm(np.diff(acceleration, axis=0), axis=-1).max(initial=0) < 0.5, point
        turn = Rotation.from_quat(of(source, poses, point)[:, 3:])
        speed = (turn[1:] * turn[:-1].inv()).as_rotvec() * 90
        assert np.linalg.norm(speed, axis=-1).max() < 3.5, point
        assert np.linalg.norm(np.diff(speed, axis=0), axis=-1).max() * 90 < 25.0, point


@pytest.mark.parametrize("name", SOURCES)
def test_segments_keep_their_lengths_and_axes(name):
    source = SOURCES[name]
    person = source.script.person
    _, poses = sampled(source, 41.3)
    trunk = of(source, poses, "left_shoulder")[:, :3] - of(source, poses, "right_shoulder")[:, :3]
    np.testing.assert_allclose(np.linalg.norm(trunk, axis=-1), person.shoulder_width_m, atol=1e-6)
    for side in ("left", "right"):
        shoulder, elbow, wrist = (of(source, poses, f"{side}_{p}") for p in ("shoulder", "elbow", "wrist"))
        for start, end, length in ((shoulder, elbow, person.upper_arm_m), (elbow, wrist, person.forearm_m)):
            bone = end[:, :3] - start[:, :3]
            np.testing.assert_allclose(np.linalg.norm(bone, axis=-1), length, atol=2e-6)
            x = rotation_matrix_from_quaternion(start[:, 3:])[..., 0]
            assert np.sum(x * bone, axis=-1).min() > length * (1 - 1e-6)
        assert np.all(elbow[:, 2] < shoulder[:, 2]), "elbows stay below the shoulders"


def test_the_elbow_is_a_hinge_that_only_flexes():
    """In the shoulder's own axes the forearm turns inward: to -y on the left, to +y on the right."""
    for source in SOURCES.values():
        _, poses = sampled(source, 20.0)
        for side, sign in (("left", -1.0), ("right", 1.0)):
            shoulder, elbow, wrist = (
                of(source, poses, f"{side}_{p}") for p in ("shoulder", "elbow", "wrist")
            )
            forearm = Rotation.from_quat(shoulder[:, 3:]).inv().apply(wrist[:, :3] - elbow[:, :3])
            np.testing.assert_allclose(forearm[:, 2], 0.0, atol=1e-5)
            assert np.all(sign * forearm[:, 1] > 0.0)


def test_waypoints_are_reached_with_hand_and_opening():
    script = SOURCES["pick and place"].script
    source = SOURCES["pick and place"]
    moment = script.pause_before_s
    for waypoint in script.waypoints:
        moment += waypoint.duration_s
        frame = source.frame_at(moment, 1)
        np.testing.assert_allclose(frame.poses["right_wrist"][:3], waypoint.wrist[:3], atol=1e-5)
        turned = Rotation.from_quat(frame.poses["right_wrist"][3:]).inv() * Rotation.from_quat(
            waypoint.wrist[3:]
        )
        assert turned.magnitude() < 1e-4
        assert frame.controls.hand_opening("right") == pytest.approx(waypoint.opening, abs=1e-4)
        assert frame.controls.hand_opening("left") == 1.0
        moment += waypoint.pause_s


def test_the_object_is_where_the_hand_closes():
    source, script = SOURCES["pick and place"], SOURCES["pick and place"].script
    names = ["reach", "approach", "grasp", "lift", "carry", "lower", "release", "retreat", "return"]
    held = {n: pose_compose(np.array(w.wrist), [0.1, 0, 0, 0, 0, 0, 1])[:3]
            for n, w in zip(names, script.waypoints, strict=True)}  # fmt: skip
    np.testing.assert_allclose(held["grasp"], TASK.object_position_m, atol=1e-12)
    np.testing.assert_allclose(held["lift"] - held["grasp"], [0, 0, 0.12], atol=1e-12)
    np.testing.assert_allclose(held["release"], TASK.goal_position_m, atol=1e-12)
    hand = rotation_matrix_from_quaternion(quaternion_from_rpy([0.0, 0.6, 0.0]))[:, 0]
    np.testing.assert_allclose(held["grasp"] - held["reach"], 0.1 * hand, atol=1e-12)
    assert source.duration_s == pytest.approx(12.0, abs=1e-3)


def test_it_starts_and_ends_ready_and_the_other_arm_rests():
    source = SOURCES["pick and place"]
    _, poses = sampled(source)
    right, left = of(source, poses, "right_wrist"), of(source, poses, "left_wrist")
    np.testing.assert_allclose(right[0], PERSON.ready_wrist("right"), atol=1e-12)
    np.testing.assert_allclose(right[-1], PERSON.ready_wrist("right"), atol=1e-9)
    assert np.ptp(left, axis=0).max() < 1e-9
    np.testing.assert_array_equal(source.poses_at(1e3), source.poses_at(source.duration_s))
    np.testing.assert_array_equal(source.poses_at(-1.0), source.poses_at(0.0))


def test_the_head_looks_a_little_towards_the_hand():
    source = SOURCES["pick and place"]
    _, poses = sampled(source)
    facing = rotation_matrix_from_quaternion(of(source, poses, "head")[:, 3:])[..., 0]
    hand = of(source, poses, "right_wrist")[:, :3] - of(source, poses, "head")[:, :3]
    assert np.all(facing[:, 2] < 0.0) and np.all(facing[:, 0] > 0.8)
    assert np.all(
        np.abs(np.arctan2(facing[:, 1], facing[:, 0])) <= np.abs(np.arctan2(hand[:, 1], hand[:, 0]))
    )


def test_the_circle_is_round():
    source = SOURCES["circle"]
    times, poses = sampled(source)
    circling = (times > 3.0) & (times < 7.5)
    wrist = of(source, poses, "right_wrist")[circling, :3]
    centre = PERSON.shoulder("right") + np.array([0.68, 0.0, -0.25]) * PERSON.reach_m
    np.testing.assert_allclose(np.linalg.norm(wrist - centre, axis=-1), 0.15 * PERSON.reach_m, atol=1e-5)


def test_the_trunk_leans_only_as_far_as_it_must():
    def lean(name):
        source = SOURCES[name]
        _, poses = sampled(source, 20.0)
        return Rotation.from_quat(of(source, poses, "chest")[:, 3:]).magnitude()

    assert lean("circle").max() < 1e-9
    assert 0.1 < lean("leaning").max() < 0.7
    assert lean("leaning")[0] < 1e-9 and lean("leaning")[-1] < 1e-6


@seed(30)
@settings(max_examples=20, deadline=None)
@given(
    st.sampled_from(["left", "right"]),
    st.tuples(st.floats(0.25, 0.6), st.floats(-0.2, 0.4), st.floats(0.85, 1.4)),
    st.tuples(st.floats(0.25, 0.6), st.floats(-0.2, 0.4), st.floats(0.85, 1.4)),
    st.floats(0.0, 1.0),
)
def test_any_task_is_performed_exactly_or_refused(side, taken, goal, pitch):
    sign = 1.0 if side == "left" else -1.0
    task = PickAndPlace(
        side, (taken[0], sign * taken[1], taken[2]), (goal[0], sign * goal[1], goal[2]), (0.0, pitch, 0.0),
        duration_s=6.0,
    )  # fmt: skip
    try:
        source = ScriptSource(pick_and_place(PERSON, task))
    except SourceError as error:
        assert "reach" in str(error) or "folds" in str(error)
        return
    _, poses = sampled(source, 30.0)
    assert (
        np.linalg.norm(
            of(source, poses, f"{side}_wrist")[:, :3] - np.array(task.object_position_m), axis=-1
        ).min()
        < 0.02
    )
    step = np.linalg.norm(np.diff(of(source, poses, f"{side}_elbow")[:, :3], axis=0), axis=-1)
    assert step.max() * 30 < 5.0


def test_a_mapping_is_applied_to_every_wanted_wrist_and_forbids_leaning():
    def shifted(side, pose):
        assert side == "right"
        return pose + np.array([0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0])

    task = dataclasses.replace(TASK, object_position_m=(0.45, -0.25, 0.05), goal_position_m=(0.45, 0.0, 0.05))
    script = pick_and_place(PERSON, task, shifted)
    assert script.most_lean_rad == 0.0
    same = pick_and_place(PERSON, TASK)
    for a, b in zip(script.waypoints, same.waypoints, strict=True):
        np.testing.assert_allclose(a.wrist, b.wrist, atol=1e-12)
    far = dataclasses.replace(task, object_position_m=(0.9, -0.2, 0.05))
    with pytest.raises(
        SourceError, match=r"waypoint 0: the right wrist at .* out of reach of an arm of 0\.581 m\."
    ):
        ScriptSource(pick_and_place(PERSON, far, shifted))


def test_out_of_reach_is_said_with_distance_and_reach():
    far = dataclasses.replace(TASK, object_position_m=(3.0, 0.0, 1.0))
    with pytest.raises(SourceError, match=r"right wrist .* out of reach of an arm of 0\.581 m even with"):
        ScriptSource(pick_and_place(PERSON, far))
    inside = dataclasses.replace(TASK, object_position_m=(0.08, -0.18, 1.4315), hand_rpy_rad=(0, 0, 0))
    with pytest.raises(SourceError, match="folds to"):
        ScriptSource(pick_and_place(PERSON, inside))


def test_bad_data_is_refused_with_all_problems():
    ready = stand_ready(PERSON).start
    bad = Waypoint("middle", (0, 0, 0, 0, 0, 0, 2.0), 1.5, 0.0, -1.0)
    with pytest.raises(SourceError) as caught:
        Script(PERSON, {"left": ready["left"]}, (bad,), pause_before_s=math.nan)
    assert len(caught.value.problems) == 7
    with pytest.raises(SourceError) as caught:
        PickAndPlace("both", (0, 0, math.inf), (0, 0, 0), lift_m=2.0, duration_s=math.nan)
    assert len(caught.value.problems) == 4
    with pytest.raises(SourceError, match="no waypoint"):
        Script(PERSON, ready, ())
    with pytest.raises(SourceError, match="its circle ends at"):
        circle = Circle((0.0, 0.0, 1.0), (1.0, 0.0, 0.0), 1.0)
        ScriptSource(Script(PERSON, ready, (Waypoint("right", ready["right"], 1.0, 1.0, circle=circle),)))


def test_a_person_is_checked():
    with pytest.raises(SourceError, match="upper_arm_m is nan"):
        Person(upper_arm_m=math.nan)
    with pytest.raises(SourceError, match="knee_height_m 1 is not below pelvis_height_m"):
        Person(knee_height_m=1.0)
    with pytest.raises(SourceError, match=r"stature_m:=3: 1\.2\.\.2\.3 m"):
        Person.of_stature(3.0)
    assert Person.of_stature(1.75) == PERSON


def test_a_frame_is_cheap_and_planning_quick(record_property):
    started = time.perf_counter()
    source = ScriptSource(pick_and_place(PERSON, TASK))
    planning_s = time.perf_counter() - started
    costs = []
    for t in np.random.default_rng(0).uniform(0, source.duration_s, 500):
        started = time.perf_counter()
        source.frame_at(t, 1)
        costs.append(time.perf_counter() - started)
    median_us = 1e6 * float(np.median(costs))
    record_property("frame_at_median_us", round(median_us, 1))
    record_property("planning_ms", round(1e3 * planning_s, 1))
    assert median_us < 1000.0 and planning_s < 2.0  # 75 us and 0.1 s on an idle core
