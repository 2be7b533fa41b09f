"""Tracking errors are those that were put in, on the frames that can be reached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from episodes.bag import read_bag
from episodes.errors import EpisodeError
from episodes.progress import Progress
from episodes.reachability import Reached, ReachProblem, reach
from episodes.tracking_check import TrackingOptions, check_tracking


def shift(episode: Any, site: str, metres: float, begin: int = 0) -> None:
    def moved(index: int, message: Any) -> Any:
        if index >= begin:
            message.pose.position.x += metres
        return message

    episode.replace(f"/toy/target/{site}", moved)


def test_the_error_put_in_is_the_error_found(synthetic: Any, tmp_path: Path) -> None:
    shift(synthetic, "left_wrist", -0.011)
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    left, right = (result.figures["all_frames"][name] for name in ("left_wrist", "right_wrist"))
    assert [left["commanded_m"][key] for key in ("p50", "max")] == pytest.approx([0.011, 0.011], abs=1e-12)
    assert left["commanded_deg"]["max"] == pytest.approx(0.0, abs=1e-7)
    assert right["commanded_m"]["max"] == pytest.approx(0.0, abs=1e-9)
    assert right["measured_m"]["max"] > 1e-3
    assert result.passed


def test_an_error_over_the_bound_fails(synthetic: Any, tmp_path: Path) -> None:
    shift(synthetic, "left_wrist", -0.03)
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.problems == ("left_wrist commanded 30.00 mm from its target (p95), at most 25 mm",)
    assert result.figures["reachable_pose"]["coverage"] == 1.0


def test_orientation_is_judged_too(synthetic: Any, tmp_path: Path) -> None:
    half = np.radians(8.0) / 2.0

    def turned(index: int, message: Any) -> Any:
        o = message.pose.orientation
        x, y, z, w = o.x, o.y, o.z, o.w
        s, c = np.sin(half), np.cos(half)
        o.x, o.y, o.z, o.w = c * x - s * y, c * y + s * x, c * z + s * w, c * w - s * z
        return message

    synthetic.replace("/toy/target/right_wrist", turned)
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.problems == ("right_wrist commanded 8.00 ° from its target (p95), at most 6 °",)


def test_targets_out_of_reach_are_left_out_and_lower_the_coverage(synthetic: Any, tmp_path: Path) -> None:
    shift(synthetic, "left_wrist", 2.0, begin=300)
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.passed, result.problems
    assert result.figures["reachable_pose"]["coverage"] == 0.75
    assert result.figures["reachable_position"]["coverage"] == 0.75
    assert result.figures["all_frames"]["left_wrist"]["commanded_m"]["max"] == pytest.approx(2.0)
    assert result.figures["reachable_pose"]["left_wrist"]["commanded_m"]["max"] < 1e-9


def test_too_little_coverage_fails(synthetic: Any, tmp_path: Path) -> None:
    shift(synthetic, "left_wrist", 2.0, begin=200)
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.problems == ("only 50.0 % of frames have reachable targets (pose), 60 % expected",)


def test_targets_without_a_command_are_a_problem(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics["/toy/joint_commands"][10:13]
    result = check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert any("3 targets without a command" in problem for problem in result.problems)


def test_another_solver_can_be_given(good_file: Path) -> None:
    asked: list[bool] = []

    def nothing(problem: ReachProblem, orientation: bool, progress: Progress) -> Reached:
        asked.append(orientation)
        shape = (len(problem.start), len(problem.sites))
        return Reached(np.full(shape, 1.0), np.full(shape, 1.0), problem.start)

    result = check_tracking(read_bag(good_file), TrackingOptions(frame_step=10), nothing)
    assert asked == [True, False]
    assert result.figures["frames"] == 40
    assert result.figures["reachable_pose"]["coverage"] == 0.0


def test_a_site_the_robot_does_not_have(synthetic: Any, tmp_path: Path) -> None:
    synthetic.topics["/toy/target/tail"] = synthetic.topics.pop("/toy/target/left_wrist")
    with pytest.raises(EpisodeError, match="no site tail"):
        check_tracking(read_bag(synthetic.write(tmp_path / "e.mcap")))


def test_the_search_finds_what_can_be_reached_from_anywhere(good_file: Path) -> None:
    asked: list[ReachProblem] = []

    def remember(problem: ReachProblem, orientation: bool, progress: Progress) -> Reached:
        asked.append(problem)
        return reach(problem, orientation, progress)

    check_tracking(read_bag(good_file), TrackingOptions(frame_step=20), remember)
    problem = asked[0]
    random = np.random.default_rng(1)
    start = random.uniform(problem.lower, problem.upper, problem.start.shape)
    lost = ReachProblem(
        problem.tree, problem.sites, problem.targets, problem.names, problem.lower, problem.upper, start,
        problem.neutral,
    )  # fmt: skip
    found = reach(lost, True)
    assert (found.position_error_m.max(axis=1) <= 0.005).mean() == 1.0
    assert (found.q >= problem.lower).all()
    assert (found.q <= problem.upper).all()


@pytest.mark.parametrize("option", [{"reachable": "maybe"}, {"frame_step": 0}])
def test_options_that_mean_nothing_are_refused(option: dict[str, Any]) -> None:
    with pytest.raises(EpisodeError):
        TrackingOptions(**option)
