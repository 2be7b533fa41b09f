"""`station.launch.py` with `source:=bvh` records a motion that a person made."""

from __future__ import annotations

import unittest
from typing import Any

import pytest

pytest.importorskip("launch_testing", reason="launch_testing is not installed: it comes with ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with ROS 2")

import launch_testing
from launch_testing.markers import keep_alive
from station_under_launch import MOTIONS, WHOLE_RUN_S, LaunchedStation, check_recorded

from episodes.bag import read_bag


@pytest.mark.launch_test
@pytest.mark.skipif(not list(MOTIONS.glob("*.bvh")), reason=f"no recorded motions in {MOTIONS}")
@keep_alive
def generate_test_description() -> Any:
    motion = min(MOTIONS.glob("*.bvh"), key=lambda path: path.stat().st_size)
    return LaunchedStation(81, source="bvh", motion=str(motion), episodes="1").description()


class TestMotion(unittest.TestCase):
    def test_the_station_ends_by_itself(self, station: LaunchedStation, proc_info: Any) -> None:
        proc_info.assertWaitForShutdown(process=station.process, timeout=WHOLE_RUN_S)


@launch_testing.post_shutdown_test()
class TestRecorded(unittest.TestCase):
    def test_exit_code(self, station: LaunchedStation, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, [0], process=station.process)

    def test_one_complete_file_without_loss(self, station: LaunchedStation) -> None:
        episode = read_bag(check_recorded(station)).episode
        assert (episode["skill"], episode["source"]) == ("free_motion", "bvh")

    def test_nothing_is_left(self, station: LaunchedStation) -> None:
        assert station.processes() == {}
