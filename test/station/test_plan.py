"""The plan of a station: what runs, and every problem of its arguments at once."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.station import (
    StationError,
    argument_defaults,
    argument_names,
    make_plan,
    split_arguments,
    usage,
)

MOTIONS = sorted((Path(__file__).resolve().parents[3] / "shared" / "motions").glob("*.bvh"))


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
    plan = make_plan([f"root:={tmp_path}", "episodes:=0", "loop:=true", "cameras:=false"], {})
    by_name = {p.name: p for p in plan.processes}
    assert set(by_name) == {"headset", "retargeting", "simulated_robot", "recorder"}
    assert by_name["headset"].parameters["start"] == "auto"
    assert by_name["retargeting"].parameters["auto_engage"] is True


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
    assert plan.environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"
    assert Path(plan.environment["FASTDDS_DEFAULT_PROFILES_FILE"]).is_file()


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
    ("words", "expected"),
    [
        (["source:=bvh"], "motion:="),
        (["source:=script", "motion:=a.bvh"], "takes no file"),
        (["loop:=true"], "never ends"),
        (["recorder_config:=/nowhere.yaml"], "no such file"),
        (["scale:=nan"], "0 .. 1000"),
        (["episodes:=1.5"], "a whole number"),
    ],
)
def test_wrong_combinations_and_values(tmp_path: Path, words: list[str], expected: str) -> None:
    assert any(expected in problem for problem in problems_of(f"root:={tmp_path}", *words))


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
    assert "not YAML" in problems_of(f"root:={tmp_path}", f"config:={file}")[0]


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
    assert "/nowhere/scene.yaml: cannot be read" in problem
