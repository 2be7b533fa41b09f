"""The list of robots, and that each of them can be used where its package is installed."""

from __future__ import annotations

import importlib.metadata
from pathlib import Path

import pytest

from retargeting.onboarding.self_test import run_self_test
from retargeting.registered_robots import USABLE, registered_robots
from retargeting.robot_description import load_robot_description
from retargeting.robot_model import load_robot

FOLDER = Path(__file__).resolve().parents[2] / "robot_descriptions"
ROBOTS = {robot.name: robot for robot in registered_robots(FOLDER)}


def installed(package: str) -> bool:
    try:
        importlib.metadata.distribution(package)
    except importlib.metadata.PackageNotFoundError:
        return False
    return True


def test_the_list_names_joints_hands_and_state() -> None:
    kestrel = ROBOTS["kestrel"]
    assert kestrel.state == USABLE and kestrel.package == ""
    assert kestrel.chains == {"waist": 2, "head": 2, "left_arm": 7, "right_arm": 7}
    assert kestrel.hands == {"left": "gripper", "right": "gripper"}
    assert ROBOTS["ur5"].hands == {"right": "no hand"}
    assert [robot.name for robot in ROBOTS.values()] == sorted(ROBOTS)


@pytest.mark.parametrize("name", ROBOTS)
def test_every_robot_loads_or_says_which_package_is_missing(name: str) -> None:
    robot = ROBOTS[name]
    if robot.package and not installed(robot.package):
        assert not robot.usable
        assert f"pip install {robot.package}" in robot.state
        return
    assert robot.state == USABLE
    model = load_robot(robot.file)
    assert sum(robot.chains.values()) == model.body_count


def test_robots_on_wheels_are_driven_and_others_are_not() -> None:
    bases = {name: load_robot_description(robot.file).base for name, robot in ROBOTS.items() if robot.usable}
    driven = {name: base for name, base in bases.items() if base is not None}
    # What each can do aside: two wheels, mecanum wheels, casters.
    aside = {"tiago": 0.0, "tiago_dual": 0.0, "tiago_no_hand": 0.0, "tiago_pro": 0.4, "pr2": 0.5}
    assert {name: base.lateral_m_s for name, base in driven.items()} == {
        name: speed for name, speed in aside.items() if name in bases
    }


# A base whose x points backwards, a lift and two arms, a single arm without an elbow's name in its joints.
@pytest.mark.parametrize("name", ["icub", "pr2", "panda"])
def test_robots_follow_a_motion_inside_their_limits(name: str) -> None:
    if not ROBOTS[name].usable:
        pytest.skip(f"{name}: {ROBOTS[name].state}")
    test = run_self_test(load_robot(ROBOTS[name].file), {})
    assert test.problems == ()
    assert test.motions[0].violations == 0


def test_a_bad_file_is_a_state_not_an_error(tmp_path: Path) -> None:
    for name, text in (
        ("absent", "name: absent\nurdf: {package: no-such-package-here, file: a.urdf}\nbase_link: a\n"
                   "chains: {left_arm: [j]}\nsites: {left_shoulder: {link: a}, left_wrist: {link: a}}\n"),
        ("broken", "name: [\n"),
        ("empty", ""),
        ("number", "name: number\nchains: {waist: 5, left_arm: true, right_arm: joint}\n"),
        ("date", "name: 2020-13-45\n"),
        ("long", f"name: {'9' * 5000}\n"),
        ("deep", "a: " + "[" * 3000 + "]" * 3000),
    ):  # fmt: skip
        (tmp_path / name).mkdir()
        (tmp_path / name / "robot.yaml").write_text(text, "utf-8")
    robots = {robot.name: robot for robot in registered_robots(tmp_path)}
    assert robots["number"].chains == dict.fromkeys(("waist", "head", "left_arm", "right_arm"), 0)
    assert {robot.state for robot in registered_robots(tmp_path, thorough=True)}.isdisjoint({USABLE})
    assert robots["absent"].chains["left_arm"] == 1
    assert "no-such-package-here" in robots["absent"].state
    assert "not valid YAML" in robots["broken"].state
    assert not robots["empty"].usable


def test_thorough_reads_the_urdf_too(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "a.urdf").write_text('<robot name="a"><link name="x"/></robot>', "utf-8")
    (tmp_path / "a" / "robot.yaml").write_text(
        "name: a\nurdf: {file: a.urdf}\nbase_link: x\nchains: {left_arm: [j]}\n"
        "sites: {left_shoulder: {link: x}, left_wrist: {link: x}}\n",
        "utf-8",
    )
    assert registered_robots(tmp_path)[0].usable
    (robot,) = registered_robots(tmp_path, thorough=True)
    assert "'j' is not in a.urdf" in robot.state
