"""The pieces a supervisor is made of: command lines, shared-memory files, the status line."""

from __future__ import annotations

import io
import json
import mmap
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from capture_nodes.child_process import command_of
from capture_nodes.resources import config_file
from capture_nodes.ros_environment import picture_environment, ros_environment, station_environment
from capture_nodes.shared_memory import dds_files, remove_orphans
from capture_nodes.station import ProcessPlan
from capture_nodes.station_status import StationStatus, StatusLine, rates_text


def test_parameters_keep_their_type_on_the_command_line() -> None:
    values = {"a": True, "b": 3, "c": 2.0, "d": "12", "e": "", "f": 'say "x": #1 ä', "g": 1e-07}
    plan = ProcessPlan("headset", "headset_node", "m", "/trainer", "headset", values, 1.0, 1.0)
    words = command_of(plan)
    given = dict(word.split(":=", 1) for word in words if ":=" in word)
    assert given["__ns"] == "/trainer" and given["__node"] == "headset"
    read = {name: yaml.safe_load(given[name]) for name in values}
    assert read == values
    assert all(type(read[name]) is type(value) for name, value in values.items())


def test_only_files_nobody_uses_are_removed(tmp_path: Path) -> None:
    old, used, orphan, other = (
        tmp_path / name for name in ("fastdds_old", "fastdds_used", "fastdds_orphan", "something_else")
    )
    old.write_bytes(b"x")
    before = dds_files(tmp_path)
    for path in (used, orphan, other, tmp_path / "fastdds_used_el", tmp_path / "sem.fastdds_orphan_mutex"):
        path.write_bytes(b"x" * 4096)
    with used.open("r+b") as file:
        mapped = mmap.mmap(file.fileno(), 4096)
    removed = remove_orphans(before, tmp_path)
    mapped.close()
    assert sorted(path.name for path in removed) == ["fastdds_orphan", "sem.fastdds_orphan_mutex"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "fastdds_old",
        "fastdds_used",
        "fastdds_used_el",
        "something_else",
    ]


def test_no_shared_memory_folder(tmp_path: Path) -> None:
    assert dds_files(tmp_path / "none") == frozenset()


def test_environment_keeps_what_is_set() -> None:
    given = {
        "RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp",
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET",
        "MUJOCO_GL": "osmesa",
    }
    added = station_environment(given, 5)
    assert not added.keys() & given.keys()
    assert added["ROS_DOMAIN_ID"] == "5"
    assert ros_environment({})["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


def transport(**given: str) -> tuple[str, str, str]:
    """File of the profiles and range of discovery of a station, file of those that exchange pictures."""
    found = {**given, **station_environment(given, 5)}
    pictures = {**found, **picture_environment(given)}
    profiles = "FASTDDS_DEFAULT_PROFILES_FILE"
    return (
        Path(found.get(profiles, "")).name,
        found["ROS_AUTOMATIC_DISCOVERY_RANGE"],
        Path(pictures.get(profiles, "")).name,
    )


def test_shared_memory_is_for_those_that_exchange_pictures() -> None:
    ours = ("fastdds.xml", "SYSTEM_DEFAULT", "fastdds_cameras.xml")
    fast = {"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp"}
    assert transport(**fast) == ours
    assert transport(**fast, ROS_AUTOMATIC_DISCOVERY_RANGE="LOCALHOST") == ours
    # A station started by another.
    assert transport(**station_environment(fast, 5)) == ours
    given = station_environment({**fast, **station_environment(fast, 5)}, 5)
    assert given["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "SYSTEM_DEFAULT"
    assert transport(**{**station_environment(fast, 5), **picture_environment(fast)}) == ours


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, ("fastdds.xml", "SUBNET", "fastdds_cameras.xml")),
        ({"ROS_STATIC_PEERS": "10.0.0.2"}, ("fastdds.xml", "LOCALHOST", "fastdds_cameras.xml")),
        ({"FASTDDS_DEFAULT_PROFILES_FILE": "mine.xml"}, ("mine.xml", "LOCALHOST", "mine.xml")),
        ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, ("fastdds.xml", "LOCALHOST", "fastdds_cameras.xml")),
    ],
)
def test_discovery_is_left_to_ros_where_our_profiles_do_not_do_it(
    given: dict[str, str], expected: tuple[str, str, str]
) -> None:
    assert transport(**{"RMW_IMPLEMENTATION": "rmw_fastrtps_cpp", **given}) == expected


def test_fast_dds_of_a_ros_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("capture_nodes.ros_environment.wheel_prefix", lambda: None)
    given = {"AMENT_PREFIX_PATH": f"/elsewhere:{tmp_path}"}
    assert "RMW_IMPLEMENTATION" not in station_environment(given, 5)
    assert transport(**given)[1] == "LOCALHOST"
    marker = tmp_path / "share/ament_index/resource_index/packages/rmw_fastrtps_cpp"
    marker.parent.mkdir(parents=True)
    marker.touch()
    assert station_environment(given, 5)["RMW_IMPLEMENTATION"] == "rmw_fastrtps_cpp"
    assert transport(**given)[1] == "SYSTEM_DEFAULT"


@pytest.mark.parametrize(
    ("name", "transports"), [("fastdds.xml", ["UDPv4"]), ("fastdds_cameras.xml", ["SHM", "UDPv4"])]
)
def test_profiles_find_this_machine_only(name: str, transports: list[str]) -> None:
    space = "{http://www.eprosima.com}"
    root = ElementTree.parse(config_file(name)).getroot()
    assert [element.text for element in root.iter(f"{space}type")] == transports
    used = [element.text for element in root.iter(f"{space}userTransports") for element in element]
    assert used == [element.text for element in root.iter(f"{space}transport_id")][: len(used)]
    assert [element.text for element in root.iter(f"{space}address")] == ["127.0.0.1"]
    assert [element.text for element in root.iter(f"{space}useBuiltinTransports")] == ["false"]
    assert len(list(root.iter(f"{space}metatrafficUnicastLocatorList"))) == 1


def test_the_graphics_library_is_left_to_the_cameras() -> None:
    """They take OSMesa where there is no EGL (`choose_graphics`), unless the user has chosen."""
    assert "MUJOCO_GL" not in station_environment({}, 5)


def test_status_line_tells_episode_rates_and_losses() -> None:
    rates = {
        "/kestrel/joint_states": 200.0,
        "/kestrel/joint_commands": 199.6,
        "/trainer/motion": 90.1,
        "/kestrel/camera/head/image": 30.0,
        "/kestrel/camera/head/camera_info": 30.0,
        "/kestrel/camera/wrist/image": 29.6,
    }
    status = StationStatus(
        states={"retargeting": "tracking"},
        session={"episode": "2", "episodes": "3"},
        episode_state="recording",
        episode={
            "duration_s": "12.34",
            "rates": json.dumps(rates),
            "messages": "12345",
            "lost": "0",
            "bytes": "14200000",
        },
    )
    assert status.line() == (
        "episode 2/3 recording 12.3 s | tracking | joints 200 Hz | commands 200 Hz | motion 90 Hz | "
        "frames 60 Hz | 12,345 messages | lost 0 | 14.2 MB"
    )


def test_status_line_tells_why_the_robot_holds() -> None:
    status = StationStatus(states={"retargeting": "holding"}, reasons={"retargeting": "motion is 0.31 s old"})
    assert status.line() == "holding (motion is 0.31 s old)"


@pytest.mark.parametrize("text", ["", "no json", "[1"])
def test_unusable_rates_are_left_out(text: str) -> None:
    assert rates_text(text) == []


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_line_is_rewritten_and_messages_stay() -> None:
    output = Terminal()
    line = StatusLine(output)
    line.show("episode 1/3")
    line.say("a message")
    line.close()
    assert output.getvalue() == "\r\x1b[Kepisode 1/3\r\x1b[Ka message\n"


def test_without_a_terminal_nothing_is_rewritten() -> None:
    output = io.StringIO()
    line = StatusLine(output)
    line.show("episode 1/3")
    line.show("episode 1/3")
    line.close()
    assert output.getvalue() == "episode 1/3\n"
