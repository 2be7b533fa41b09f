"""A node killed in mid-episode: launch names it, ends everything, and the episode survives."""

from __future__ import annotations

import os
import signal
import unittest
from typing import Any

import pytest

pytest.importorskip("launch_testing", reason="launch_testing is not installed: it comes with ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with ROS 2")

import launch_testing
from launch_testing.markers import keep_alive
from station_under_launch import ENDING_S, PATIENT, LaunchedStation

from episodes.bag import read_bag


@pytest.mark.launch_test
@launch_testing.parametrize("node,domain", [("retargeting", 84), ("simulated_robot", 85)])
@keep_alive
def generate_test_description(node: str, domain: int) -> Any:
    return LaunchedStation(domain, episodes="1", **PATIENT).description()


class TestKilledNode(unittest.TestCase):
    def test_everything_ends(self, station: LaunchedStation, proc_info: Any, node: str) -> None:
        with station.watch() as watcher:
            watcher.until_recording()
        os.kill(station.node_pid(node), signal.SIGKILL)
        proc_info.assertWaitForShutdown(process=station.process, timeout=ENDING_S)
        assert station.processes() == {}


@launch_testing.post_shutdown_test()
class TestRecorded(unittest.TestCase):
    def test_the_node_is_named(
        self, station: LaunchedStation, proc_info: Any, proc_output: Any, node: str
    ) -> None:
        launch_testing.asserts.assertExitCodes(proc_info, [1], process=station.process)
        launch_testing.asserts.assertInStdout(proc_output, f"{node} was killed by SIGKILL", station.process)

    def test_the_episode_survives(self, station: LaunchedStation) -> None:
        (file,) = station.episodes()
        bag = read_bag(file)
        assert bag.is_episode
        assert bag.length_s >= 1.0
