"""Launch interrupted, or killed, in mid-episode: the episode is completed and everything ends."""

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
@launch_testing.parametrize("name,domain", [("SIGINT", 82), ("SIGKILL", 83)])
@keep_alive
def generate_test_description(name: str, domain: int) -> Any:
    return LaunchedStation(domain, episodes="1", **PATIENT).description()


class TestInterrupted(unittest.TestCase):
    def test_everything_ends(self, station: LaunchedStation, proc_info: Any, name: str) -> None:
        with station.watch() as watcher:
            watcher.until_recording()
        os.kill(station.pid, signal.Signals[name])
        proc_info.assertWaitForShutdown(process=station.process, timeout=ENDING_S)
        station.wait_until_nothing_is_left()


@launch_testing.post_shutdown_test()
class TestRecorded(unittest.TestCase):
    def test_exit_code(self, station: LaunchedStation, proc_info: Any, name: str) -> None:
        # Launch takes an interrupt for an end as any other.
        code = 0 if name == "SIGINT" else -signal.SIGKILL
        launch_testing.asserts.assertExitCodes(proc_info, [code], process=station.process)

    def test_no_process_complains(self, station: LaunchedStation, proc_output: Any, name: str) -> None:
        if name == "SIGINT":
            text = "".join(output.text.decode() for output in proc_output[station.process])
            assert "Traceback" not in text
            assert "[ERROR]" not in text

    def test_the_episode_is_complete(self, station: LaunchedStation) -> None:
        (file,) = station.episodes()
        assert station.unfinished() == []
        bag = read_bag(file)
        assert bag.is_episode
        assert bag.length_s >= 1.0
