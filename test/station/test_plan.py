"""The plan of a station: what runs, and every problem of its arguments at once."""

from __future__ import annotations

import os
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from capture_nodes import station_checks, station_parameters
from capture_nodes.errors import CaptureError
from capture_nodes.headset_parameters import HeadsetParameters
from capture_nodes.resources import config_file, known_robots, robot_description_file
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.sources.bvh import BvhParameters
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.station import StationPlan, main, make_plan, usage
from capture_nodes.station_arguments import StationError, argument_defaults, argument_names, split_arguments
from capture_nodes.thread_priority import SERVING
from retargeting.errors import RetargetingError
from retargeting.retargeter import RetargeterParameters

MOTIONS = sorted((Path(__file__).resolve().parents[3] / "shared" / "motions").glob("*.bvh"))


def _joint(name: str, offset: str, *children: str) -> str:
    return f"JOINT {name}\n{{\nOFFSET {offset}\nCHANNELS 0\n{''.join(children)}}}\n"


def _arm(side: str, sign: str) -> str:
    hand = _joint(f"{side}Hand", f"{sign}25 0 0")
    return _joint(f"{side}Arm", f"{sign}20 20 0", _joint(f"{side}ForeArm", f"{sign}25 0 0", hand))


def _leg(side: str, sign: str) -> str:
    foot = _joint(f"{side}Foot", "0 -40 0", _joint(f"{side}Toe", "0 -5 10"))
    return _joint(f"{side}UpLeg", f"{sign}10 0 0", _joint(f"{side}Leg", "0 -40 0", foot))


# A person who stands still, in centimetres.
_TRUNK = _joint("Spine", "0 40 0", _joint("Head", "0 30 0"), _arm("Left", ""), _arm("Right", "-"))
BVH = (
    "HIERARCHY\nROOT Hips\n{\nOFFSET 0 0 0\nCHANNELS 3 Xposition Yposition Zposition\n"
    f"{_TRUNK}{_leg('Left', '')}{_leg('Right', '-')}}}\n"
    "MOTION\nFrames: 2\nFrame Time: 0.01\n0 90 0\n0 90 0\n"
)


def problems_of(*words: str, environment: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(StationError) as caught:
        make_plan(list(words), {} if environment is None else environment)
    return caught.value.problems


def test_default_plan_has_every_process_once(tmp_path: Path) -> None:
    plan = make_plan([f"root:={tmp_path}"], {})
    assert [p.name for p in plan.processes] == [
        "session",
        "headset",
        "retargeting",
        "simulated_robot",
        "simulated_cameras",
        "recorder",
    ]
    by_name = {p.name: p for p in plan.processes}
    assert by_name["headset"].fully_qualified_name == "/trainer/headset"
    assert by_name["recorder"].fully_qualified_name == "/kestrel/recorder"
    assert by_name["recorder"].parameters["root"] == str(tmp_path)
    assert by_name["headset"].parameters["start"] == "service"
    assert all(p.module == f"capture_nodes.{p.executable}" for p in plan.processes)


def test_without_episodes_there_is_no_session(tmp_path: Path) -> None:
    plan = make_plan([f"root:={tmp_path}", "episodes:=0", "cameras:=false"], {})
    by_name = {p.name: p for p in plan.processes}
    assert set(by_name) == {"headset", "retargeting", "simulated_robot", "recorder"}
    assert by_name["headset"].parameters["start"] == "auto"
    assert by_name["retargeting"].parameters["auto_engage"] is True


def test_what_robot_yaml_says_is_left_to_it(tmp_path: Path) -> None:
    """Without an argument the cameras and the robot's watchdog are as its robot.yaml has them."""
    plan = make_plan([f"root:={tmp_path}"], {})
    by_name = {p.name: p.parameters for p in plan.processes}
    assert [by_name["simulated_cameras"][key] for key in ("width", "height", "rate_hz")] == [0, 0, 0]
    assert by_name["simulated_robot"]["command_timeout_s"] == 0
    words = ["camera_width:=64", "camera_rate_hz:=10", "command_timeout_s:=0.5"]
    by_name = {p.name: p.parameters for p in make_plan([f"root:={tmp_path}", *words], {}).processes}
    assert [by_name["simulated_cameras"][key] for key in ("width", "height", "rate_hz")] == [64, 0, 10]
    assert by_name["simulated_robot"]["command_timeout_s"] == 0.5


@pytest.mark.parametrize("word", ["camera_width:=-1", "camera_rate_hz:=0.5", "command_timeout_s:=0.001"])
def test_zero_is_the_only_number_outside_the_bounds(tmp_path: Path, word: str) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", word)
    assert problem.startswith(f"{word}: 0 (as in robot.yaml) or ")


def test_a_robot_can_be_a_path(tmp_path: Path) -> None:
    file = robot_description_file("kestrel")
    plan = make_plan({"robot": str(file), "root": str(tmp_path)}, {})
    assert plan.namespace == "/kestrel"
    assert plan.processes[0].parameters["robot"] == str(file)


def test_domain_comes_from_argument_then_environment_then_default(tmp_path: Path) -> None:
    root = f"root:={tmp_path}"
    assert make_plan([root, "domain_id:=7"], {"ROS_DOMAIN_ID": "9"}).domain_id == 7
    assert make_plan([root], {"ROS_DOMAIN_ID": "9"}).domain_id == 9
    assert make_plan([root], {}).domain_id == 73
    plan = make_plan([root], {})
    assert plan.environment["ROS_DOMAIN_ID"] == "73"
    assert Path(plan.environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()


def test_only_cameras_and_recorder_have_shared_memory(tmp_path: Path) -> None:
    plan = make_plan([f"root:={tmp_path}"], {})
    profiles = "FASTDDS_DEFAULT_PROFILES_FILE"
    assert Path(plan.environment[profiles]).name == "fastdds.xml"
    found = {process.name: process.environment for process in plan.processes}
    given = {name: Path(values[profiles]).name for name, values in found.items() if values}
    assert given == {"simulated_cameras": "fastdds_cameras.xml", "recorder": "fastdds_cameras.xml"}


def test_a_wrong_domain_in_the_environment_is_named(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", environment={"ROS_DOMAIN_ID": "500"})
    assert "ROS_DOMAIN_ID=500" in problem and "101" in problem


def test_unknown_robot_names_the_nearest_and_the_choices(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", "robot:=kestrl")
    assert "'kestrl'" in problem and "Did you mean 'kestrel'" in problem and "g1" in problem


def test_unknown_argument_names_the_nearest(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", "episode:=3")
    assert "'episode'" in problem and "did you mean episodes?" in problem


def test_an_option_in_the_usual_style_is_explained() -> None:
    (problem,) = problems_of("--robot=g1")
    assert "robot:=g1" in problem


def test_all_problems_are_listed_at_once(tmp_path: Path) -> None:
    problems = problems_of(
        f"root:={tmp_path}",
        "robot:=nobody",
        "source:=bhv",
        "episodes:=many",
        "camera_width:=3",
        "loop:=perhaps",
        "domain_id:=200",
    )
    text = "\n".join(problems)
    for expected in ("nobody", "bhv", "bvh", "episodes:=many", "16 .. 4096", "true or false", "-1 .. 101"):
        assert expected in text
    assert len(problems) == 6


def test_missing_motion_file(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", "source:=bvh", f"motion:={tmp_path}/none.bvh")
    assert "none.bvh" in problem and "no such file" in problem


def test_malformed_motion_file_names_the_line(tmp_path: Path) -> None:
    motion = tmp_path / "broken.bvh"
    motion.write_text("HIERARCHY\nROOT hips\n{\nOFFSET 0 0\n", encoding="utf-8")
    problems = problems_of(f"root:={tmp_path}", "source:=bvh", f"motion:={motion}")
    assert "broken.bvh" in problems[0] and any(c.isdigit() for c in problems[0])


@pytest.mark.parametrize(
    ("name", "low", "high", "node"),
    [
        ("headset_rate_hz", 10.0, 250.0, lambda value: HeadsetParameters(rate_hz=value)),
        ("stale_s", 0.02, 2.0, lambda value: RetargeterParameters(stale_s=value)),
        ("command_rate_hz", 20.0, 1000.0, lambda value: RetargeterParameters(rate_hz=value)),
    ],
)
def test_bounds_are_those_of_the_nodes(
    tmp_path: Path, name: str, low: float, high: float, node: Callable[[float], object]
) -> None:
    words = [f"root:={tmp_path}", "headset_rate_hz:=250", "stale_s:=2"]
    for inside, outside in ((low, 0.99 * low), (high, 1.01 * high)):
        node(inside)
        with pytest.raises((CaptureError, RetargetingError)):
            node(outside)
        others = [word for word in words if not word.startswith(name)]
        make_plan([*others, f"{name}:={inside}"], {})
        (problem,) = problems_of(*others, f"{name}:={outside}")
        assert problem == f"{name}:={outside}: a number {low:g} .. {high:g} is expected"


def test_motion_is_not_stale_between_two_frames(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", "headset_rate_hz:=10")
    assert "stale_s:=0.1 with headset_rate_hz:=10: more than 2 frames of the motion (0.2 s)" in problem
    make_plan([f"root:={tmp_path}", "headset_rate_hz:=10", "stale_s:=0.21"], {})


@pytest.mark.parametrize("skill", ["pick/place", "..", "-x", "x" * 101])
def test_a_skill_that_cannot_name_a_folder(tmp_path: Path, skill: str) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", f"skill:={skill}")
    assert problem.startswith(f"skill:={skill}: ") and "cannot name a folder" in problem


def test_an_unusable_recorder_configuration_is_told_by_the_plan(tmp_path: Path) -> None:
    file = tmp_path / "recorder.yaml"
    file.write_text("topics: {}\ndisc: {}\n", encoding="utf-8")
    problems = problems_of(f"root:={tmp_path}", f"recorder_config:={file}")
    assert all(problem.startswith(f"recorder_config:={file}: ") for problem in problems)
    assert any("disc" in problem for problem in problems)


def test_the_upward_axis_of_a_file_reaches_the_headset(tmp_path: Path) -> None:
    motion = tmp_path / "motion.bvh"
    motion.write_text(BVH, encoding="utf-8")
    words = [f"root:={tmp_path}", "source:=bvh", f"motion:={motion}"]
    # ROS takes a bare y for true, so it goes with its sign.
    for said, given in (("auto", "auto"), ("y", "+y"), ("+z", "+z"), ("-x", "-x")):
        plan = make_plan([*words, f"up_axis:={said}"], {})
        parameters = {p.name: p.parameters for p in plan.processes}["headset"]
        assert parameters["up_axis"] == given
        up_axis = HeadsetParameters(**{**parameters, "robot": "kestrel"}).source_options.up_axis
        assert BvhParameters(motion, up_axis=up_axis).up_axis == given
    (problem,) = problems_of(*words, "up_axis:=w")
    assert problem == "up_axis:='w': one of auto, +y, +z, +x, -y, -z, -x is expected"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["source:=bvh"], "motion:="),
        (["source:=script", "motion:=a.bvh"], "takes no file"),
        (["source:=script", "up_axis:=z"], "source:=script has no file to turn"),
        (["loop:=true"], "never ends"),
        (["loop:=true", "episodes:=0"], "the scripted trainer acts once"),
        (["recorder_config:=/nowhere.yaml"], "no such file"),
        (["scale:=nan"], "0 .. 1000"),
        (["episodes:=1.5"], "a whole number"),
        (["deadman:=squeeze"], "deadman:=squeeze with source:=script: a played motion holds no deadman"),
        (["deadman:=hands"], "give deadman:=off"),
        (["deadman:=squeez"], "one of auto, off, squeeze, button, hands is expected; did you mean squeeze?"),
        (["deadman_button:=a"], "deadman_button:=a: one of primary, secondary, stick, menu is expected"),
        (
            ["engage_mode:=relativ"],
            "engage_mode:=relativ: one of absolute, relative is expected; did you mean",
        ),
        (
            ["engage_mode:=relative"],
            "engage_mode:=relative with source:=script: the scripted trainer reaches",
        ),
        (["mapping:=/nowhere.yaml"], "mapping:=/nowhere.yaml: file: cannot be read"),
        (
            ["operator:=a/b", "trainer_folder:=/tmp"],
            "operator:=a/b with trainer_folder: operator 'a/b': up to 64",
        ),
        (["operator:=anna", f"trainer_folder:={__file__}"], "is no folder"),
    ],
)
def test_wrong_combinations_and_values(tmp_path: Path, words: list[str], expected: str) -> None:
    assert any(expected in problem for problem in problems_of(f"root:={tmp_path}", *words))


@pytest.mark.parametrize(
    "name", ["root", "motion", "scene", "mapping", "trainer_folder", "recorder_config", "config"]
)
def test_the_home_of_nobody_is_told(name: str) -> None:
    problems = problems_of(f"{name}:=~nobody-here/folder")
    assert problems == (f"{name}:=~nobody-here/folder: there is no user 'nobody-here' here",)


def test_how_trainer_and_robot_are_joined_reaches_the_retargeting(tmp_path: Path) -> None:
    motion = tmp_path / "motion.bvh"
    motion.write_text(BVH, encoding="utf-8")

    def parameters(*words: str) -> dict[str, Any]:
        plan = make_plan([f"root:={tmp_path}", "source:=bvh", f"motion:={motion}", *words], {})
        return dict({p.name: p.parameters for p in plan.processes}["retargeting"])

    usual = parameters("operator:=anna")
    assert (usual["engage_mode"], usual["deadman"], usual["mapping"]) == ("absolute", "off", "")
    # Whom a played motion shows is not known: nothing is kept in anna's name unless that is asked for.
    assert usual["operator"] == ""
    mapping = config_file("mapping.yaml")
    words = ["engage_mode:=relative", "operator:=anna", f"trainer_folder:={tmp_path}", f"mapping:={mapping}"]
    asked = parameters(*words)
    assert (asked["engage_mode"], asked["mapping"]) == ("relative", str(mapping))
    assert (asked["operator"], asked["trainer_folder"]) == ("anna", str(tmp_path))
    made = RetargetingParameters(**asked).retargeter_parameters()
    assert (made.engage_mode, made.deadman.mode) == ("relative", "off")
    for name, by_default in ("self_collision", True), ("branch_recovery", False):
        for words, wanted in ((), by_default), ((f"{name}:={str(not by_default).lower()}",), not by_default):
            said = RetargetingParameters(**parameters(*words)).solver_parameters
            assert getattr(said, name) is wanted


def test_a_bare_off_is_no_deadman_to_yaml_and_ros(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("deadman: off\n", encoding="utf-8")
    assert make_plan([f"root:={tmp_path}", f"config:={file}"], {}).arguments.deadman == "off"
    # ROS gives the node False, which it takes as a text.
    assert RetargetingParameters(deadman=str(False)).retargeter_parameters().deadman.mode == "off"


def test_a_live_source_has_a_deadman(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (station_checks, station_parameters):
        monkeypatch.setattr(module, "PLAYED_SOURCES", frozenset())
    words = [f"root:={tmp_path}", "deadman:=button", "deadman_button:=menu", "operator:=anna", "episodes:=0"]
    parameters = {p.name: p.parameters for p in make_plan(words, {}).processes}["retargeting"]
    assert (parameters["deadman"], parameters["deadman_button"]) == ("button", "menu")
    assert parameters["auto_engage"] is False, "pressing engages"
    assert parameters["operator"] == "anna" and str(parameters["trainer_folder"]).endswith("trainers")


def test_a_headset_s_page_is_a_source_with_a_deadman(tmp_path: Path) -> None:
    words = [f"root:={tmp_path}", "source:=webxr", "episodes:=0", "operator:=anna"]
    plan = make_plan(words, {})
    parameters = {p.name: p.parameters for p in plan.processes}
    assert parameters["headset"]["source"] == "webxr" and parameters["headset"]["address"] == ""
    assert parameters["headset"]["skill"] == "free_motion"
    assert (parameters["retargeting"]["deadman"], parameters["retargeting"]["auto_engage"]) == (
        "squeeze",
        False,
    )
    assert parameters["retargeting"]["operator"] == "anna", "who wears it is measured, and kept"
    asked = make_plan([*words, "deadman:=hands", "address:=0.0.0.0:9000"], {})
    parameters = {p.name: p.parameters for p in asked.processes}
    assert parameters["retargeting"]["deadman"] == "hands"
    assert parameters["headset"]["address"] == "0.0.0.0:9000"
    (problem,) = problems_of(f"root:={tmp_path}", "source:=webxr", "address:=somewhere")
    assert problem.startswith("address:=somewhere: host:port is expected")
    (problem,) = problems_of(f"root:={tmp_path}", "source:=webxr", "loop:=true", "episodes:=0")
    assert "nothing is played" in problem
    (problem,) = problems_of(f"root:={tmp_path}", "source:=bvx")
    assert "Did you mean bvh?" in problem and "webxr" in problem


def test_unwritable_root() -> None:
    (problem,) = problems_of("root:=/proc/recordings")
    assert problem.startswith("root:=/proc/recordings: the folder cannot be written")
    assert "root:=" in problem.split(";")[-1]


def test_root_that_is_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (problem,) = problems_of(f"root:={tmp_path}/file")
    assert "cannot be written" in problem


def test_wrong_unit_in_a_robot_description_starts_nothing(tmp_path: Path) -> None:
    """A `robot.yaml` with degrees instead of radians: the file, the key and the way out are named."""
    source = robot_description_file("kestrel")
    content = yaml.safe_load(source.read_text(encoding="utf-8"))
    content["urdf"] = {"file": str(source.parent / "kestrel.urdf")}
    content["neutral_posture_rad"] = {"left_elbow_pitch": -70.0}
    content["sites"]["head"]["xyz_mm"] = content["sites"]["head"].pop("xyz_m", [0, 0, 0])
    robot = tmp_path / "robot.yaml"
    robot.write_text(yaml.safe_dump(content), encoding="utf-8")
    problems = problems_of(f"root:={tmp_path}", f"robot:={robot}")
    text = "\n".join(problems)
    assert "robot.yaml" in text and "neutral_posture_rad.left_elbow_pitch" in text and "xyz_mm" in text


def changed_kestrel(folder: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    """A copy of kestrel's description in `folder` with a change."""
    source = robot_description_file("kestrel").parent
    content = yaml.safe_load((source / "robot.yaml").read_text(encoding="utf-8"))
    change(content)
    (folder / "kestrel.urdf").write_bytes((source / "kestrel.urdf").read_bytes())
    file = folder / "robot.yaml"
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    return file


def without_elbows(content: dict[str, Any]) -> None:
    for side in ("left", "right"):
        del content["sites"][f"{side}_elbow"]


@pytest.mark.parametrize("scene", ["scene.yaml", "scene_clear.yaml"])
def test_a_table_needs_the_length_of_an_arm(tmp_path: Path, scene: str) -> None:
    robot = changed_kestrel(tmp_path, without_elbows)
    (problem,) = problems_of(f"root:={tmp_path}", f"robot:={robot}", f"scene:={config_file(scene)}")
    assert problem.startswith(f"{robot}: sites: shoulder, elbow and wrist of one side are needed")


def test_a_robot_without_cameras(tmp_path: Path) -> None:
    robot = changed_kestrel(tmp_path, lambda content: content["sensors"].pop("cameras"))
    (problem,) = problems_of(f"root:={tmp_path}", f"robot:={robot}")
    assert f"cameras:=true: {robot} names no camera" in problem
    make_plan([f"root:={tmp_path}", f"robot:={robot}", "cameras:=false"], {})


def test_a_hand_without_pads_cannot_be_scripted(tmp_path: Path) -> None:
    robot = changed_kestrel(tmp_path, lambda content: content["sensors"].pop("tactile"))
    (problem,) = problems_of(f"root:={tmp_path}", f"robot:={robot}")
    assert "kestrel has no tactile sensor named right_" in problem


def test_an_object_called_like_a_link_starts_nothing(tmp_path: Path) -> None:
    scene = tmp_path / "scene.yaml"
    scene.write_text(config_file("scene.yaml").read_text().replace("  can:", "  left_hand:"))
    (problem,) = problems_of(f"root:={tmp_path}", f"scene:={scene}")
    assert "objects.left_hand: robot kestrel has a link or joint of that name" in problem


def test_what_was_mended_in_a_urdf_is_told_before_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    robot = changed_kestrel(tmp_path, lambda content: None)
    urdf = tmp_path / "kestrel.urdf"
    urdf.write_text(urdf.read_text().replace('velocity="', 'velocity="0" was="'), encoding="utf-8")
    words = [f"root:={tmp_path}", f"robot:={robot}"]
    (warning,) = make_plan(words, {}).warnings
    assert warning.startswith(f"{urdf}: line ") and "velocity limit 0 means nothing and is ignored" in warning

    class NoSupervisor:
        def __init__(self, plan: StationPlan, at_the_end: Callable[[int], None]) -> None:
            assert capsys.readouterr().err == f"station: warning: {warning}\n"

        def run(self) -> int:
            return 0

    module = types.ModuleType("capture_nodes.station_supervisor")
    module.Supervisor = NoSupervisor  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "capture_nodes.station_supervisor", module)
    monkeypatch.setattr(os, "environ", dict(os.environ))
    monkeypatch.setattr(sys, "argv", ["station", *words])
    # Of the real one, all tests after this would run ahead of everything else on the machine.
    preferred: list[int] = []
    monkeypatch.setattr("capture_nodes.station.prefer_thread", preferred.append)
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0
    assert preferred == [SERVING]


def test_the_robot_that_ships_whole_gives_no_warning(tmp_path: Path) -> None:
    assert make_plan([f"root:={tmp_path}", "robot:=kestrel"], {}).warnings == ()


@pytest.mark.parametrize("robot", known_robots())
def test_a_station_can_be_planned_for_every_robot(tmp_path: Path, robot: str) -> None:
    words = [f"root:={tmp_path}", f"robot:={robot}", "source:=bvh", f"motion:={tmp_path / 'motion.bvh'}"]
    has_cameras = bool(yaml.safe_load(robot_description_file(robot).read_text()).get("sensors"))
    try:
        make_plan([*words, f"cameras:={str(has_cameras).lower()}"], {})
    except StationError as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        # Only what this test leaves out.
        assert [problem for problem in error.problems if "motion.bvh" not in problem] == []


def test_help_names_robots_that_there_are() -> None:
    named = set(re.findall(r"robot:=(\w+)", usage()))
    assert named and named <= set(known_robots())


def test_malformed_urdf_starts_nothing(tmp_path: Path) -> None:
    source = robot_description_file("kestrel")
    (tmp_path / "kestrel.urdf").write_text(
        "<robot name='kestrel'><link name='pelvis'></robot>", encoding="utf-8"
    )
    (tmp_path / "robot.yaml").write_bytes(source.read_bytes())
    problems = problems_of(f"root:={tmp_path}", f"robot:={tmp_path / 'robot.yaml'}")
    assert any("kestrel.urdf" in problem for problem in problems)


def test_config_file_is_merged_and_its_keys_checked(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("episodes: 4\nskill: hand_over\n", encoding="utf-8")
    plan = make_plan([f"root:={tmp_path}", f"config:={file}", "skill:=place"], {})
    assert (plan.arguments.episodes, plan.arguments.skill) == (4, "place")
    file.write_text("episods: 4\n", encoding="utf-8")
    (problem,) = problems_of(f"root:={tmp_path}", f"config:={file}")
    assert "mine.yaml" in problem and "did you mean episodes?" in problem
    file.write_text("- a\n", encoding="utf-8")
    assert "keys and values" in problems_of(f"root:={tmp_path}", f"config:={file}")[0]
    file.write_text("a: [", encoding="utf-8")
    assert "not valid YAML" in problems_of(f"root:={tmp_path}", f"config:={file}")[0]


def test_arguments_given_twice() -> None:
    with pytest.raises(StationError, match="given twice"):
        split_arguments(["robot:=a", "robot:=b"])


def test_defaults_cover_exactly_the_arguments() -> None:
    content = yaml.safe_load(config_file("station.yaml").read_text(encoding="utf-8"))
    assert set(content) == set(argument_names()) - {"config"}
    assert set(argument_defaults()) == set(argument_names())
    assert all(name in usage() for name in content)


def test_the_defaults_as_arguments_make_the_same_plan(tmp_path: Path) -> None:
    """What a launch file passes on: every argument as text."""
    values = {**argument_defaults(), "root": str(tmp_path)}
    assert make_plan(values, {}) == make_plan([f"root:={tmp_path}"], {})


@pytest.mark.parametrize(
    ("words", "skill", "scene"),
    [
        (["source:=script"], "pick_and_place", "scene.yaml"),
        (["source:=script", "skill:=lift"], "lift", "scene.yaml"),
        (["source:=bvh"], "free_motion", "scene_clear.yaml"),
    ],
)
def test_skill_and_scene_follow_the_source(tmp_path: Path, words: list[str], skill: str, scene: str) -> None:
    motion = []
    if "source:=bvh" in words:
        if not MOTIONS:
            pytest.skip("no recorded motions beside the checkout")
        motion = [f"motion:={MOTIONS[0]}"]
    plan = make_plan([f"root:={tmp_path}", *words, *motion], {})
    parameters = {process.name: process.parameters for process in plan.processes}
    assert parameters["recorder"]["skill"] == skill
    for name in ("headset", "simulated_robot", "simulated_cameras"):
        assert Path(str(parameters[name]["scene"])).name == scene


def test_an_unusable_scene_is_told_by_the_plan(tmp_path: Path) -> None:
    (problem,) = problems_of(f"root:={tmp_path}", "scene:=/nowhere/scene.yaml")
    assert "/nowhere/scene.yaml: file: cannot be read" in problem


def _episode(record_trainer: Callable[..., Path], folder: Path) -> Path:
    from retargeting.motion_frame import MotionFrame

    pose = np.array([0.0, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0])
    frames = [MotionFrame(10**18 + k * 20_000_000, {"head": pose}) for k in range(51)]
    return record_trainer(folder / "one.mcap", frames)


def test_a_recorded_episode_is_named_by_either_word(record_trainer, tmp_path: Path) -> None:
    file = _episode(record_trainer, tmp_path)
    for word in ("file", "motion"):
        plan = make_plan([f"root:={tmp_path}", "source:=bag", f"{word}:={file}", "speed:=2"], {})
        by_name = {p.name: p.parameters for p in plan.processes}
        assert by_name["headset"]["motion"] == str(file) and by_name["headset"]["speed"] == 2.0
        # 50 Hz, twice as fast; and what was shown is what is shown.
        assert by_name["recorder"]["motion_rate_hz"] == pytest.approx(100.0)
        assert by_name["recorder"]["skill"] == "wave"
    steps = make_plan([f"root:={tmp_path}", "source:=bag", f"file:={file}", "speed:=0", "skill:=test"], {})
    by_name = {p.name: p.parameters for p in steps.processes}
    assert (by_name["recorder"]["motion_rate_hz"], by_name["recorder"]["skill"]) == (90.0, "test")


def test_what_does_not_go_with_a_recorded_episode(record_trainer, tmp_path: Path) -> None:
    file = _episode(record_trainer, tmp_path)
    base = (f"root:={tmp_path}", "source:=bag")
    assert problems_of(*base, f"file:={file}", "motion:=a.bvh")[0].endswith("give one of them")
    assert "needs file:=" in problems_of(*base)[0]
    assert "no such file" in problems_of(*base, "file:=/nowhere/a.mcap")[0]
    assert "only source:=bvh takes them" in problems_of(*base, f"file:={file}", "scale:=0.01")[0]
    assert "0.05..20 times as fast" in problems_of(*base, f"file:={file}", "speed:=0.01")[0]
    assert "a played motion holds no deadman" in problems_of(*base, f"file:={file}", "deadman:=squeeze")[0]
    assert "only source:=bag has a speed" in problems_of(f"root:={tmp_path}", "speed:=2")[0]


def test_settings_of_an_openxr_runtime_reach_its_source(tmp_path: Path) -> None:
    base = (f"root:={tmp_path}", "source:=openxr", "episodes:=0")
    words = [*base, "headset_rate_hz:=120", "openxr_pinch_press:=0.7", "openxr_answer_s:=0.5"]
    headset = next(p.parameters for p in make_plan(words, {}).processes if p.name == "headset")
    options = HeadsetParameters(**{**headset, "robot": "kestrel"}).source_options
    made = OpenXrParameters(rate_hz=options.rate_hz, stature_m=options.stature_m, **options.openxr)
    assert (made.rate_hz, made.pinch_press, made.answer_s) == (120.0, 0.7, 0.5)
    # What is not said is as the source has it, here and in the file.
    others = {name: getattr(OpenXrParameters(), name) for name in options.openxr}
    assert dict(options.openxr) == {**others, "pinch_press": 0.7, "answer_s": 0.5}
    (problem,) = problems_of(*base, "openxr_pinch_let_go:=0.9")
    assert problem == "openxr_pinch_let_go:=0.9: less than openxr_pinch_press (0.8) is expected"
    (problem,) = problems_of(*base, "openxr_answer_s:=0")
    assert problem == "openxr_answer_s:=0: a number 0.05 .. 10 is expected"
    (problem,) = problems_of(f"root:={tmp_path}", "openxr_answer_s:=0.5")
    assert problem == "openxr_answer_s:=0.5 with source:=script: only source:=openxr has it"


def test_a_suit_is_named_with_its_line(tmp_path: Path) -> None:
    base = (f"root:={tmp_path}", "source:=mocap")
    plan = make_plan([*base, "address:=udp://0.0.0.0:7002", "peers:=10.0.0.7", "deadman:=hands"], {})
    headset = next(p.parameters for p in plan.processes if p.name == "headset")
    assert (headset["address"], headset["peers"]) == ("udp://0.0.0.0:7002", "10.0.0.7")
    assert "name who may send" in problems_of(*base, "address:=udp://0.0.0.0:7002")[0]
    assert "who wears a suit holds no controller" in problems_of(*base, "deadman:=squeeze")[0]
    assert "no such file" in problems_of(*base, "skeleton:=/nowhere/suit.yaml")[0].lower()
