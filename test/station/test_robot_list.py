"""`station robots`."""

from __future__ import annotations

import json

import pytest

from capture_nodes.resources import known_robots
from capture_nodes.robot_list import list_robots


def test_every_robot_has_a_line_with_its_joints_hands_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_robots([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["ROBOT", "WAIST", "HEAD", "ARMS", "HANDS", "STATE"]
    rows = {line.split()[0]: line.split() for line in lines[1:-2]}
    assert sorted(rows) == known_robots()
    assert rows["kestrel"] == ["kestrel", "2", "2", "7", "+", "7", "gripper", "usable"]
    assert lines[-1].endswith("robot:=path/to/robot.yaml")


def test_programs_get_all_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert list_robots(["--json"]) == 0
    robots = {robot["name"]: robot for robot in json.loads(capsys.readouterr().out)}
    assert sorted(robots) == known_robots()
    assert robots["kestrel"]["usable"] and robots["kestrel"]["chains"]["left_arm"] == 7
    for robot in robots.values():
        # What is missing can be installed; nothing that ships is wrong.
        assert robot["usable"] or "pip install" in robot["state"], robot


def test_a_wrong_word_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        list_robots(["--jsn"])
    assert caught.value.code == 2
    assert "--jsn" in capsys.readouterr().err
