"""Every file that a user may write for a station: no value in any place of it makes a traceback."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capture_nodes.errors import CaptureError
from capture_nodes.recording.recorder_configuration import load_recorder_configuration
from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.simulation.scene import load_scene
from capture_nodes.sources.suit_skeleton import load_suit_skeleton
from capture_nodes.station import make_plan
from capture_nodes.station_arguments import StationError
from retargeting.errors import RetargetingError
from retargeting.mapping_settings import load_mapping_settings
from retargeting.registered_robots import registered_robots
from retargeting.robot_description import load_robot_description
from retargeting.yaml_file import read_yaml


def _station(file: Path) -> None:
    make_plan([f"root:={file.parent}", f"config:={file}"], {})


def _robots(file: Path) -> None:
    (robot,) = registered_robots(file.parent.parent)
    assert robot.file == file


SUIT = {
    "joints": {"left_wrist": "hand"},
    "hierarchy": "a.bvh",
    "actor": 1,
    "up_axis": "y",
    "scale_m_per_unit": 0.01,
}
MAPPING = {
    "position_gain": {"left": 1.0},
    "orientation_gain": {"right": 1.0},
    "waist_gain": 0.5,
    "wrist_in_point": {"grip": {"left": {"xyz_m": [0, 0, 0], "rpy_rad": [0, 0, 0]}}},
}
# What stands where something else is expected.
WRONG: tuple[Any, ...] = (
    None,
    True,
    5,
    -1,
    0,
    2**63,
    1e308,
    float("nan"),
    float("inf"),
    "",
    "x",
    "~no-such-one",
    "../..",
    "a" * 5000,
    "on",
    "{",
    "[x",
    "/",
    "package://",
    "file://x",
    [],
    [1],
    ["x"],
    [None],
    ["~no-such-one"],
    ["a" * 5000],
    [[1, 2]],
    {},
    {"x": 1},
    {1: {}},
    {None: None},
    {"x": {"y": []}},
    {"left": []},
    {"left": {"joints": {"a": 1}}},
)


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if isinstance(value, dict | list):
        for key in value if isinstance(value, dict) else range(len(value)):
            yield from _places(value[key], (*path, key))


def _with(content: Any, path: tuple[Any, ...], wrong: Any) -> Any:
    if not path:
        return wrong
    changed = copy.deepcopy(content)
    inner = changed
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = wrong
    return changed


def _robot() -> Any:
    content = read_yaml(robot_description_file("kestrel"))[1]
    extra = """
    urdf: {file: package://a/b.urdf, package_paths: [a], xacro_arguments: {a: 1}}
    axes: {forward: [1, 0, 0], up: [0, 0, 1]}
    hands: {left: {index: {tip: a, xyz_m: [0, 0, 0], pad_radius_m: 0.01, base: a}}}
    base: {topic: cmd_vel, linear_m_s: 0.5}
    collision: {margin_m: 0.01, ignore: [[a, b]], check: [[a, c]]}
    command_interface: {kind: joint_trajectory, controllers: {a: {topic: a, joints: [a]}}}
    limits: {velocity_rad_s: 1, joints: {a: {reason: x, velocity: 1, lower: 0, upper: 1}}}
    """
    return content | yaml.safe_load(extra)


READERS: dict[str, tuple[Callable[[Path], object], Any]] = {
    "robot": (load_robot_description, _robot()),
    "robots": (_robots, _robot()),
    "mapping": (load_mapping_settings, MAPPING),
    "recorder": (load_recorder_configuration, read_yaml(config_file("recorder.yaml"))[1]),
    "scene": (load_scene, read_yaml(config_file("scene.yaml"))[1]),
    "suit": (load_suit_skeleton, SUIT),
    "station": (_station, read_yaml(config_file("station.yaml"))[1]),
}


def _read_with_a_wrong_value(tmp_path: Path, name: str, data: st.DataObject) -> None:
    read, content = READERS[name]
    path = data.draw(st.sampled_from(list(_places(content))))
    file = tmp_path / "x" / "robot.yaml"
    file.parent.mkdir(exist_ok=True)
    file.write_text(yaml.safe_dump(_with(content, path, data.draw(st.sampled_from(WRONG)))), "utf-8")
    try:
        read(file)
    except (CaptureError, RetargetingError, StationError) as error:
        assert str(error)


QUICK = settings(
    derandomize=True,
    deadline=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.mark.parametrize("name", [name for name in READERS if name != "station"])
@QUICK
@given(data=st.data())
def test_a_wrong_value_anywhere_is_told(tmp_path: Path, name: str, data: st.DataObject) -> None:
    _read_with_a_wrong_value(tmp_path, name, data)


@settings(QUICK, max_examples=20)  # a plan reads the robot too
@given(data=st.data())
def test_a_wrong_value_anywhere_in_a_station_is_told(tmp_path: Path, data: st.DataObject) -> None:
    _read_with_a_wrong_value(tmp_path, "station", data)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize(
    "text",
    ["a: 1\na: 2\n", "a: 2020-13-45", f"a: {'9' * 5000}", "[" * 3000, "a: &a [*a]", 'a: "\\uD800"', "\tx"],
)
def test_what_yaml_cannot_read_has_its_line(tmp_path: Path, name: str, text: str) -> None:
    file = tmp_path / "x" / "robot.yaml"
    file.parent.mkdir()
    file.write_text(text, "utf-8")
    if name == "robots":
        assert registered_robots(tmp_path)[0].state.startswith(("line 1", "line 2"))
        return
    read, _ = READERS[name]
    with pytest.raises((CaptureError, RetargetingError, StationError), match=r"robot\.yaml: line [12]: "):
        read(file)
