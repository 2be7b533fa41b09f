"""A grasp that happened passes; each way of not having happened is named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.bag import read_bag
from episodes.errors import EpisodeError
from episodes.grasp_check import check_grasp

OBJECT, PAD, WRENCH = "/toy/object/cube/pose", "/toy/tactile/right_inner", "/toy/wrench/right_wrist"


def check(episode: Any, tmp_path: Path) -> Any:
    return check_grasp(read_bag(episode.write(tmp_path / "e.mcap")))


def test_a_good_grasp_passes(synthetic: Any, tmp_path: Path) -> None:
    result = check(synthetic, tmp_path)
    assert result.passed, result.problems
    cube, hand = result.figures["objects"]["cube"], result.figures["hand"]
    assert cube["lift_m"] == pytest.approx(0.12)
    assert cube["goal_distance_m"] == pytest.approx(0.005)
    assert hand["wrench"] == "right_wrist"
    assert hand["median_contact_n"] == pytest.approx(30_000.0 * 4 * 0.02 * 0.02 / 16)
    assert hand["median_load_n"] == pytest.approx(3.0, abs=0.1)
    assert hand["correlation"] > 0.9


def test_lifted_too_little(synthetic: Any, tmp_path: Path) -> None:
    def low(index: int, message: Any) -> Any:
        message.pose.position.z = 0.2 + 0.3 * (message.pose.position.z - 0.2)
        return message

    synthetic.replace(OBJECT, low)
    assert check(synthetic, tmp_path).problems == ("cube was lifted 36.0 mm, at least 50 mm expected",)


def test_set_down_elsewhere(synthetic: Any, tmp_path: Path) -> None:
    synthetic.episode["goal_m"] = "[0.6, -0.3, 0.2]"
    assert check(synthetic, tmp_path).problems == ("cube ended 55.0 mm from its goal, at most 30 mm",)


def test_still_moving(synthetic: Any, tmp_path: Path) -> None:
    def roll(index: int, message: Any) -> Any:
        if index >= 180:
            message.pose.position.y += 0.001 * (index - 180)
        return message

    synthetic.replace(OBJECT, roll)
    assert any("still moves" in problem for problem in check(synthetic, tmp_path).problems)


def test_lifted_without_touch(synthetic: Any, tmp_path: Path) -> None:
    synthetic.topics[PAD] = [
        type(sample)(sample.time_ns, other.message, sample.sequence)
        for sample, other in zip(
            synthetic.topics[PAD], synthetic.topics["/toy/tactile/left_inner"], strict=True
        )
    ]
    (problem,) = check(synthetic, tmp_path).problems
    assert "no hand with pads" in problem


def test_touch_that_ends_before_the_lift_does(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    blank = np.zeros((4, 4), np.float32)

    def let_go(index: int, message: Any) -> Any:
        if index <= 100:
            return message
        stamp = messages["start_ns"] + index * 10_000_000
        return messages["image"](stamp, "toy/right_inner_tactile", blank, "32FC1")

    synthetic.replace(PAD, let_go)
    found = " ".join(check(synthetic, tmp_path).problems)
    assert "pads touch in" in found
    assert "let go before it was set down" in found


def test_a_wrist_that_carries_nothing(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def noise(index: int, message: Any) -> Any:
        stamp = messages["start_ns"] + index * 5_000_000
        return messages["wrench_stamped"](stamp, "toy/right_hand", random.normal(0.0, 1.0, 3))

    synthetic.replace(WRENCH, noise)
    assert any("wrist" in problem for problem in check(synthetic, tmp_path).problems)


def test_without_a_goal_nothing_is_judged(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.episode["goal_m"]
    result = check(synthetic, tmp_path)
    assert result.verdict == "skipped"
    assert result.figures["objects"]["cube"]["lift_m"] == pytest.approx(0.12)


def test_without_objects_nothing_is_judged(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics[OBJECT]
    assert check(synthetic, tmp_path).verdict == "skipped"


@pytest.mark.parametrize("goal", ['{"cube": [0.55, -0.3, 0.2]}', "0.55 -0.3 0.2", "[0.55, -0.3, 0.2]"])
def test_the_ways_to_write_a_goal(synthetic: Any, tmp_path: Path, goal: str) -> None:
    synthetic.episode["goal_m"] = goal
    assert check(synthetic, tmp_path).passed


def test_a_goal_that_is_none(synthetic: Any, tmp_path: Path) -> None:
    synthetic.episode["goal_m"] = "[1, 2]"
    with pytest.raises(EpisodeError, match="x, y, z in metres"):
        check(synthetic, tmp_path)


def test_the_simulated_robot_names_the_goal_where_the_metadata_does_not(
    synthetic: Any, messages: Any, tmp_path: Path
) -> None:
    make = messages["make"]
    values = [
        make("diagnostic_msgs/msg/KeyValue", key="goal_object", value="cube"),
        make("diagnostic_msgs/msg/KeyValue", key="goal_xyz_m", value="0.5500 -0.3000 0.2000"),
    ]
    state = make(
        "diagnostic_msgs/msg/DiagnosticStatus",
        level=0, name="/toy/simulated_robot", message="ready", hardware_id="", values=values,
    )  # fmt: skip
    del synthetic.episode["goal_m"]
    synthetic.add("/toy/simulated_robot/state", messages["start_ns"], state)
    assert check(synthetic, tmp_path).verdict == "skipped"
    synthetic.episode["skill"] = "pick_and_place"
    result = check(synthetic, tmp_path)
    assert result.verdict == "passed", result.problems
    assert result.figures["objects"]["cube"]["goal_m"] == [0.55, -0.3, 0.2]
