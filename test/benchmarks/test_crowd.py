"""A crowd of different robots follows one trainer as each of them would alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("scipy")

from benchmarks.retargeting.crowd import Crowd, crowd, describe
from benchmarks.retargeting.different_robots import different_robots, resized
from benchmarks.retargeting.finger_motion import hand_points, with_fingers
from benchmarks.retargeting.motions import SYNTHETIC, Motion
from capture_nodes.sources.person import Person
from retargeting.body_points import BODY_POINT_SET, FINGERS, SIDES
from retargeting.errors import RetargetingError
from retargeting.retargeter import State
from retargeting.robot_model import load_robot
from retargeting.trainer_view import view_of

ROBOTS = Path(__file__).resolve().parents[2] / "robot_descriptions"


@pytest.fixture(scope="module")
def kestrel():
    return load_robot(ROBOTS / "kestrel" / "robot.yaml")


@pytest.fixture(scope="module")
def motion() -> Motion:
    """Engaging, standing, and the first second of the figure-eight."""
    return Motion("start", SYNTHETIC["figure_eight"](Person()).frames[:360])


def test_resized_robots_differ_in_their_lengths_alone(kestrel):
    one, same, other = resized(kestrel, 1), resized(kestrel, 1), resized(kestrel, 2)
    assert len({kestrel.name, one.name, other.name}) == 3
    offsets = [
        np.array([joint.pose[:3] for joint in model.urdf.joints.values()])
        for model in (kestrel, one, same, other)
    ]
    np.testing.assert_array_equal(offsets[1], offsets[2])
    lengths = [np.linalg.norm(places, axis=1) for places in offsets]
    long = lengths[0] > 0.01
    for a, b in ((0, 1), (0, 3), (1, 3)):
        assert (np.abs(lengths[a][long] - lengths[b][long]) > 1e-6).all()
    share = lengths[1][long] / lengths[0][long]
    assert (share >= 0.85).all() and (share <= 1.15).all()
    for name, joint in kestrel.urdf.joints.items():
        assert (joint.lower, joint.upper) == (one.urdf.joints[name].lower, one.urdf.joints[name].upper)
    assert one.joint_names == kestrel.joint_names


def test_there_are_as_many_different_robots_as_asked_for():
    models = different_robots(ROBOTS, 60)
    assert len(models) == 60 == len({model.name for model in models})
    assert models[0].name != "kestrel" or len({model.urdf.path for model in models}) == 1


def test_no_robots_are_told(tmp_path):
    with pytest.raises(RetargetingError, match="no robot of"):
        different_robots(tmp_path, 3)


def test_each_robot_is_commanded_as_if_it_were_alone(kestrel, motion):
    """They share what is read of the trainer, and nothing else."""
    models = [kestrel, resized(kestrel, 1), resized(kestrel, 2)]
    fingered = with_fingers(motion)
    together, alone = Crowd(models), [Crowd([model]) for model in models]
    for frame in fingered.frames:
        commands = together.round(frame)
        together.follow(commands)
        for k, single in enumerate(alone):
            (command,) = single.round(frame)
            single.follow([command])
            expected = commands[k]
            if command is None or expected is None:
                assert command is expected
                continue
            np.testing.assert_array_equal(command.positions, expected.positions)
            np.testing.assert_array_equal(command.velocities, expected.velocities)
        for group in (together, *alone):
            group.engage(frame.stamp_ns * 1e-9)
    assert {robot.state for robot in together.robots} == {State.TRACKING}
    first, second = (command.positions for command in commands[:2])
    assert np.abs(first - second).max() > 1e-3, "other lengths take other joints"


def test_the_figures_count_every_robot_and_tell_what_they_say(kestrel, motion):
    models = [kestrel, resized(kestrel, 1)]
    found = crowd(models, motion)
    assert (found["robots"], found["different_models"]) == (2, 2)
    assert found["joints"] == 2 * len(kestrel.joint_names)
    moving = sum(frame.stamp_ns - motion.frames[0].stamp_ns > 3_000_000_000 for frame in motion.frames)
    assert 0.5 * moving < found["rounds"] < moving
    assert 0.0 < found["solver_share"] < 1.0
    for kind in ("processor_s", "wall_s"):
        assert 0.0 < found[kind]["median"] <= found[kind]["p95"] <= found[kind]["p99"]
    assert found["fits"] == (found["processor_s"]["median"] <= found["frame_s"])
    assert "2 robots (2 models" in describe(found) and "self-collision off" in describe(found)


def test_robots_that_do_not_follow_are_no_figure(kestrel, motion):
    frames = motion.frames
    with pytest.raises(RetargetingError, match="kestrel was commanded to stand still"):
        crowd([kestrel], Motion("still", frames[:275]))
    headless = [type(f)(f.stamp_ns, {n: p for n, p in f.poses.items() if "left" in n}) for f in frames]
    with pytest.raises(RetargetingError, match="kestrel does not follow the trainer"):
        crowd([kestrel], Motion("nobody", tuple(headless)))


@pytest.mark.parametrize("side", SIDES)
def test_fingers_of_recorded_motions_bend_and_keep_their_lengths(side):
    opened, closed = hand_points(side, 0.0), hand_points(side, 1.0)
    assert opened.keys() == closed.keys() <= BODY_POINT_SET and len(opened) == 4 * len(FINGERS)
    bones = [
        [
            [
                np.linalg.norm(points[f"{side}_{finger}_{b}"][:3] - points[f"{side}_{finger}_{a}"][:3])
                for a, b in (("metacarpal", "proximal"), ("proximal", "distal"), ("distal", "tip"))
                if f"{side}_{finger}_{a}" in points
            ]
            for finger in ("thumb",)
        ]
        for points in (opened, closed)
    ]
    np.testing.assert_allclose(bones[0], bones[1], atol=1e-12)
    for finger in FINGERS[1:]:
        reach = [np.linalg.norm(points[f"{side}_{finger}_tip"][:3]) for points in (opened, closed)]
        assert reach[1] < 0.8 * reach[0]


def test_fingers_are_seen_on_every_tracked_wrist(motion):
    frame = with_fingers(motion).frames[100]
    assert view_of(frame).arrays.fingers_tracked.all()
    lost = type(frame)(
        frame.stamp_ns, {n: p for n, p in motion.frames[100].poses.items() if n != "left_wrist"}
    )
    (seen,) = with_fingers(Motion("lost", (lost,))).frames
    assert view_of(seen).arrays.fingers_tracked.all(axis=1).tolist() == [False, True]
