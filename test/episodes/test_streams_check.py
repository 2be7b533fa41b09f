"""The stream check finds each fault that was put in, and only it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from episodes.bag import read_bag
from episodes.streams_check import check_streams, expected_rate_hz

TOPIC = "/toy/joint_states"


def drop_some(episode: Any) -> None:
    episode.topics[TOPIC] = [s for k, s in enumerate(episode.topics[TOPIC]) if k % 25 or k < 2]


def hole(episode: Any) -> None:
    del episode.topics[TOPIC][100:105]
    episode.topics[TOPIC][100:] = [*episode.topics[TOPIC][100:]]


def uneven(episode: Any) -> None:
    """In every twentieth interval 11 ms pass, and the next messages catch up."""
    for k, sample in enumerate(episode.topics[TOPIC]):
        late_ms = {12: 6, 13: 2, 14: 1}.get(k % 20, 0)
        sample.message.header.stamp.nanosec += late_ms * 1_000_000


def twice(episode: Any) -> None:
    samples = episode.topics[TOPIC]
    samples[51].message.header.stamp = samples[50].message.header.stamp


def other_clock(episode: Any) -> None:
    for sample in episode.topics[TOPIC]:
        sample.message.header.stamp.sec -= 1


def late_begin(episode: Any) -> None:
    episode.topics[TOPIC] = episode.topics[TOPIC][100:]


def early_end(episode: Any) -> None:
    episode.topics[TOPIC] = episode.topics[TOPIC][:300]


def lost(episode: Any) -> None:
    episode.counts[TOPIC] = {"published": 403, "lost": 3}


def not_written(episode: Any) -> None:
    episode.counts[TOPIC] = {"written": 401}


def late_found(episode: Any) -> None:
    episode.counts[TOPIC] = {"not_joined": 7, "node": "/toy/driver"}


def uncounted(episode: Any) -> None:
    episode.counts[TOPIC] = {"lost": None}


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (drop_some, ["Hz rate", "sequence numbers missing"]),
        (hole, ["5 sequence numbers missing"]),
        (uneven, ["intervals under two periods"]),
        (twice, ["1 stamps do not come after"]),
        (other_clock, ["another clock"]),
        (late_begin, ["begins 0.5"]),
        (early_end, ["ends 0.5"]),
        (lost, ["3 of 403 messages lost"]),
        (not_written, ["the recorder wrote 401"]),
        (uncounted, ["no loss count"]),
        (late_found, ["7 messages that /toy/driver published inside the episode are not in it"]),
    ],
)
def test_each_fault_is_found(
    synthetic: Any, tmp_path: Path, fault: Callable[[Any], None], words: list[str]
) -> None:
    fault(synthetic)
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert not result.passed
    for word in words:
        assert any(word in problem for problem in result.problems), result.problems
    assert all(TOPIC in problem for problem in result.problems), result.problems


def test_a_flawless_episode_passes(synthetic: Any, tmp_path: Path) -> None:
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.passed, result.problems
    assert result.figures["lost"] == 0
    latency = result.figures["latency"]
    assert latency["p50_s"] == latency["newest_motion_age"]["p50_s"] == pytest.approx(0.012)
    assert latency["commands_with_cause"] == 1.0
    assert result.figures["streams"][TOPIC]["under_two_periods"] == 1.0


def test_latency_is_read_from_the_causes(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    def later(index: int, message: Any) -> Any:
        now = messages["start_ns"] + index * 5_000_000
        return messages["time_reference"](now, now - (30_000_000 if index % 10 == 0 else 8_000_000))

    synthetic.replace("/toy/command_cause", later)
    latency = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap"))).figures["latency"]
    assert latency["p50_s"] == pytest.approx(0.008)
    assert latency["p99_s"] == pytest.approx(0.030)
    assert latency["negative"] == 0


def test_motion_to_command_counts_each_frame_once(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    """Frames every 20 ms, each followed 3 ms later; what comes until the next frame is older."""

    def follows(index: int, message: Any) -> Any:
        now = messages["start_ns"] + index * 5_000_000
        # The file begins with the third command of a frame.
        return messages["time_reference"](now, now - 3_000_000 - (index + 2) % 4 * 5_000_000)

    synthetic.replace("/toy/command_cause", follows)
    # Recorded out of order: the stamps tell which was first.
    samples = synthetic.topics["/toy/command_cause"]
    samples[10].message, samples[11].message = samples[11].message, samples[10].message
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    latency = result.figures["latency"]
    first, every = latency["motion_to_command"], latency["newest_motion_age"]
    commands = len(samples)
    assert first["frames"] == (commands - 2 + 3) // 4 and every["commands"] == commands
    assert first["p50_s"] == first["p99_s"] == first["max_s"] == pytest.approx(0.003)
    assert every["p50_s"] == pytest.approx(0.0105, abs=0.003)
    assert every["max_s"] == pytest.approx(0.018)
    assert {key: latency[key] for key in ("p50_s", "p99_s", "max_s")} == {
        key: every[key] for key in ("p50_s", "p99_s", "max_s")
    }


def test_missing_causes_are_a_problem(synthetic: Any, tmp_path: Path) -> None:
    del synthetic.topics["/toy/command_cause"]
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert [p for p in result.problems if "latency cannot be read" in p]


def test_given_rates_come_first(synthetic: Any, tmp_path: Path) -> None:
    bag = read_bag(synthetic.write(tmp_path / "e.mcap"))
    result = check_streams(bag, {"/toy/wrench/*": 100.0})
    assert result.problems == ("/toy/wrench/right_wrist: 200.00 Hz rate, 100 Hz ± 2 % expected",)


def test_an_open_tail_is_a_note(synthetic: Any, tmp_path: Path) -> None:
    synthetic.counts[TOPIC] = {"tail_known": False}
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert result.passed
    assert TOPIC in result.notes[0]


def test_on_change_streams_owe_nothing_from_before_they_were_found(synthetic: Any, tmp_path: Path) -> None:
    synthetic.counts["/tf_static"] = {"not_joined": 7, "node": "/toy/driver"}
    assert check_streams(read_bag(synthetic.write(tmp_path / "e.mcap"))).passed


def test_the_rates_of_the_file_come_before_the_usual_ones(synthetic: Any, tmp_path: Path) -> None:
    synthetic.counts[TOPIC] = {"expected_hz": 100.0}
    synthetic.counts["/toy/wrench/right_wrist"] = {"expected_hz": None}
    synthetic.topics["/toy/wrench/right_wrist"] = synthetic.topics["/toy/wrench/right_wrist"][::7]
    result = check_streams(read_bag(synthetic.write(tmp_path / "e.mcap")))
    assert [p for p in result.problems if TOPIC in p] == [f"{TOPIC}: 200.00 Hz rate, 100 Hz ± 2 % expected"]
    assert result.figures["streams"]["/toy/wrench/right_wrist"]["expected_hz"] is None
    assert not [p for p in result.problems if "wrench" in p and "rate" in p]


def test_a_cut_file_has_the_rates_of_its_opening(synthetic: Any, tmp_path: Path) -> None:
    writes = synthetic.write(tmp_path / "whole.mcap")
    assert expected_rate_hz(read_bag(writes).streams[TOPIC]) == 200.0
    synthetic.episode = None
    synthetic.opening = {"robot": "toy", "expected_hz": json.dumps({TOPIC: 100.0, "/tf": None})}
    bag = read_bag(synthetic.write(tmp_path / "cut.mcap"))
    assert expected_rate_hz(bag.streams[TOPIC]) == 100.0
    assert expected_rate_hz(bag.streams["/tf"]) is None
    assert expected_rate_hz(bag.streams["/trainer/head"]) == 90.0


def test_a_simulation_that_fell_behind_fails(synthetic: Any, tmp_path: Path) -> None:
    synthetic.episode["real_time_factor"] = "0.9712"
    result = check_streams(read_bag(synthetic.write(tmp_path / "slow.mcap")))
    (problem,) = result.problems
    assert "real-time factor 0.9712 at its lowest, at least 0.99" in problem
    assert result.figures["real_time_factor"] == 0.9712
    synthetic.episode["real_time_factor"] = "0.9901"
    assert check_streams(read_bag(synthetic.write(tmp_path / "good.mcap"))).passed
    del synthetic.episode["real_time_factor"]
    result = check_streams(read_bag(synthetic.write(tmp_path / "unknown.mcap")))
    assert result.passed and "no real-time factor" in result.notes[-1]
