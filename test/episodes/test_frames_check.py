"""Every frame leads to one root at every time, or the check says which does not and why."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.bag import read_bag
from episodes.frames_check import FrameBounds, check_frames, frame_tree
from episodes.kinematics import KinematicTree


def problems(episode: Any, tmp_path: Path, bounds: FrameBounds | None = None) -> tuple[str, ...]:
    return check_frames(read_bag(episode.write(tmp_path / "e.mcap")), bounds).problems


def test_a_flawless_tree_has_one_root(synthetic: Any, tmp_path: Path) -> None:
    result = check_frames(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.passed, result.problems
    assert result.figures["roots"] == ["toy/pelvis"]
    tree = KinematicTree(synthetic.attachments["robot.urdf"].decode())
    assert {f"toy/{link}" for link in tree.links} <= set(result.figures["frames"])


def test_a_frame_nobody_defines(synthetic: Any, tmp_path: Path) -> None:
    def rename(index: int, message: Any) -> Any:
        message.header.frame_id = "toy/nowhere"
        return message

    synthetic.replace("/toy/wrench/right_wrist", rename)
    (problem,) = problems(synthetic, tmp_path)
    assert "'toy/nowhere' (used by /toy/wrench/right_wrist): 400 of 400" in problem
    assert "in no transform" in problem


def test_a_gap_in_the_transforms(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics["/tf"][100:140]
    found = problems(synthetic, tmp_path)
    assert found
    assert all("has gaps" in problem for problem in found)


def test_transforms_that_begin_late(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics["/tf"][:4]
    found = problems(synthetic, tmp_path)
    assert found
    assert all("up to 20.0 ms outside" in problem for problem in found)
    assert problems(synthetic, tmp_path, FrameBounds(edge_s=0.02)) == ()


def test_two_roots(synthetic: Any, tmp_path: Path) -> None:
    for sample in synthetic.topics["/tf"]:
        for transform in sample.message.transforms:
            if transform.child_frame_id == "trainer":
                transform.header.frame_id = "map"
    (problem,) = problems(synthetic, tmp_path)
    assert problem.startswith("2 roots instead of one: 'map' (trainer)")


def test_two_parents(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    start = messages["start_ns"]
    extra = messages["transform"](
        start, "toy/pelvis", "toy/right_hand", np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
    )
    synthetic.topics["/tf"][3].message.transforms.append(extra)
    found = problems(synthetic, tmp_path)
    assert any("'toy/right_hand' has two parents" in problem for problem in found)


def test_a_loop(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    start = messages["start_ns"]
    unit = np.array([0.0, 0.0, 0.0, 1.0])
    synthetic.topics["/tf_static"][0].message.transforms.append(
        messages["transform"](start, "toy/right_hand", "toy/pelvis", np.zeros(3), unit)
    )
    assert any("loop" in problem for problem in problems(synthetic, tmp_path))


def test_values_that_are_no_transform(synthetic: Any, tmp_path: Path) -> None:
    transforms = synthetic.topics["/tf"][7].message.transforms
    transforms[0].transform.rotation.w = 0.0
    transforms[1].transform.translation.x = float("nan")
    found = problems(synthetic, tmp_path)
    assert any("norm 1" in problem for problem in found)
    assert any("not finite" in problem for problem in found)


def test_a_pose_without_a_frame(synthetic: Any, tmp_path: Path) -> None:
    def anonymous(index: int, message: Any) -> Any:
        if index == 4:
            message.header.frame_id = ""
        return message

    synthetic.replace("/trainer/head", anonymous)
    (problem,) = problems(synthetic, tmp_path)
    assert problem == "/trainer/head: 1 messages without a frame_id"


def test_no_transforms_at_all(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics["/tf"], synthetic.topics["/tf_static"]
    (problem,) = problems(synthetic, tmp_path)
    assert "holds no transforms" in problem


@pytest.mark.parametrize("offset_ns", [0, 2_500_000])
def test_interpolated_transforms_agree_with_forward_kinematics(
    synthetic: Any, tmp_path: Path, offset_ns: int
) -> None:
    bag = read_bag(synthetic.write(tmp_path / "e.mcap"))
    states = bag.joints("/toy/joint_states")
    k = 150
    share = offset_ns / 5_000_000
    q = (1 - share) * states.position[k] + share * states.position[k + 1]
    tree = KinematicTree(bag.attachment("robot.urdf").decode())
    expected = tree.place(["right_finger_outer"], states.names, q[None])["right_finger_outer"]
    rotation, position = frame_tree(bag).transform(
        "toy/right_finger_outer", int(states.stamp_ns[k]) + offset_ns
    )
    np.testing.assert_allclose(position, expected.position[0], atol=1e-9)
    np.testing.assert_allclose(rotation, expected.rotation[0], atol=1e-9)
