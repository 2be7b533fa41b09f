"""`simulation.launch.py`: whoever has no session engages and records by the nodes' services."""

from __future__ import annotations

import unittest
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("launch_testing", reason="launch_testing is not installed: it comes with ROS 2")
pytest.importorskip("launch_ros", reason="launch_ros is not installed: it comes with ROS 2")

import launch_testing
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from station_under_launch import SMALL, Watcher, launch_file, new_root

from episodes.bag import read_bag
from launch import LaunchDescription

DOMAIN = 87
RETARGETING = "/kestrel/retargeting"
RECORDER = "/kestrel/recorder"


@pytest.mark.launch_test
def generate_test_description() -> Any:
    root = new_root()
    arguments = {"root": str(root), "domain_id": str(DOMAIN), **SMALL}
    simulation = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(str(launch_file("simulation.launch.py"))),
        launch_arguments=list(arguments.items()),
    )
    # In a group: its environment is not that of the tests.
    description = LaunchDescription([GroupAction([simulation]), launch_testing.actions.ReadyToTest()])
    return description, {"root": root}


class TestServices(unittest.TestCase):
    def test_engage_record_release(self, root: Path) -> None:
        with Watcher(DOMAIN) as watcher:
            # Without a session the arms engage by themselves; what was engaged can be released.
            watcher.until_status(f"{RETARGETING}/state", lambda word, _: word == "tracking")
            watcher.until_accepted(f"{RETARGETING}/release")
            watcher.until_status(f"{RETARGETING}/state", lambda word, _: word == "holding")
            watcher.until_accepted(f"{RETARGETING}/engage")
            watcher.until_status(f"{RETARGETING}/state", lambda word, _: word == "tracking")

            accepted, message = watcher.call(f"{RECORDER}/stop")
            assert not accepted and message, "an episode that was never started was stopped"
            watcher.until_accepted(f"{RECORDER}/start")
            accepted, message = watcher.call(f"{RECORDER}/start")
            assert not accepted and message, "an episode was started within another"
            watcher.until_recording()
            file = Path(watcher.until_accepted(f"{RECORDER}/stop"))

        assert [file] == sorted(root.rglob("*.mcap"))
        bag = read_bag(file)
        assert bag.is_episode
        assert bag.length_s >= 1.0


@launch_testing.post_shutdown_test()
class TestEnd(unittest.TestCase):
    def test_every_process_ended_in_order(self, proc_info: Any, root: Path) -> None:
        assert len(proc_info.processes()) == 5
        launch_testing.asserts.assertExitCodes(proc_info)
        assert list(root.rglob("*.mcap.active")) == []
