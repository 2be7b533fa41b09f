"""Arguments that cannot be used: launch fails with one clear message and starts nothing."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

pytest.importorskip("launch_testing", reason="launch_testing is not installed: it comes with ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with ROS 2")

import launch_testing
from launch_testing.markers import keep_alive
from station_under_launch import ENDING_S, LaunchedStation

CASES = [
    ({"robot": "nobody"}, "unknown robot 'nobody'"),
    ({"root": "/proc/nowhere"}, "the folder cannot be written"),
    ({"source": "bvh", "motion": "/nowhere.bvh"}, "no such file"),
    ({"episodes": "three"}, "episodes:=three: a whole number"),
]


@pytest.mark.launch_test
@launch_testing.parametrize("arguments,expected", CASES)
@keep_alive
def generate_test_description(arguments: dict[str, str], expected: str) -> Any:
    return LaunchedStation(86, **arguments).description()


class TestBadArguments(unittest.TestCase):
    def test_launch_ends(self, station: LaunchedStation, proc_info: Any) -> None:
        proc_info.assertWaitForShutdown(process=station.process, timeout=ENDING_S)


@launch_testing.post_shutdown_test()
class TestMessage(unittest.TestCase):
    def test_one_clear_message(
        self, station: LaunchedStation, proc_info: Any, proc_output: Any, expected: str
    ) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, [1], process=station.process)
        text = "".join(output.text.decode() for output in proc_output[station.process])
        (error,) = (line for line in text.splitlines() if "[ERROR]" in line)
        assert expected in error
        assert "Traceback" not in text

    def test_nothing_was_started(self, station: LaunchedStation, proc_output: Any) -> None:
        text = "".join(output.text.decode() for output in proc_output[station.process])
        assert "process started" not in text
        assert not list(station.root.rglob("*.mcap*"))
