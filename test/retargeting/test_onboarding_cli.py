"""The `onboard` command: what it writes, that it overwrites nothing, and what it says of bad input."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from capture_nodes.onboard import main
from retargeting.onboarding.self_test import MotionResult, run_self_test
from retargeting.robot_model import load_robot

ROOT = Path(__file__).resolve().parents[2]
KESTREL = ROOT / "robot_descriptions" / "kestrel" / "kestrel.urdf"


@pytest.fixture(scope="module")
def onboarded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Our own robot as a stranger: everything written, nothing tested yet."""
    folder = tmp_path_factory.mktemp("robots")
    assert main([str(KESTREL), "--name", "stranger", "--folder", str(folder), "--no-self-test"]) == 0
    return folder / "stranger"


def test_it_writes_a_robot_that_loads(onboarded: Path) -> None:
    model = load_robot(onboarded / "robot.yaml")
    assert model.name == "stranger"
    assert model.urdf.path.samefile(KESTREL)
    assert len(model.joint_names) == 20


def test_it_draws_a_picture_with_something_on_it(onboarded: Path) -> None:
    pixels = np.asarray(Image.open(onboarded / "onboard.png").convert("RGB"))
    assert min(pixels.shape[:2]) > 600
    assert 0.02 < float((pixels.min(axis=2) < 250).mean()) < 0.6


def test_the_robot_follows_a_motion_inside_its_limits(onboarded: Path) -> None:
    test = run_self_test(load_robot(onboarded / "robot.yaml"), {})
    (motion,) = test.motions
    assert motion.violations == 0
    assert test.problems == ()
    assert set(motion.error_m) == {"left", "right"}
    assert all(0.4 < reach < 1.0 for reach in test.reach_m.values())


def test_what_is_there_is_not_overwritten(onboarded: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = onboarded / "robot.yaml"
    before = file.read_text("utf-8")
    file.write_text(before + "# mine\n", "utf-8")
    arguments = [str(KESTREL), "--name", "stranger", "--folder", str(onboarded.parent), "--no-self-test"]
    assert main([*arguments, "--no-picture"]) == 2
    assert "--force" in capsys.readouterr().err
    assert file.read_text("utf-8").endswith("# mine\n")
    assert main([*arguments, "--no-picture", "--force"]) == 0
    assert file.read_text("utf-8") == before


def test_an_override_in_the_file_counts(onboarded: Path, tmp_path: Path) -> None:
    text = (onboarded / "robot.yaml").read_text("utf-8")
    assert "axes:" not in text
    moved = tmp_path / "robot.yaml"
    relative = next(line for line in text.splitlines() if line.startswith("urdf:"))
    moved.write_text(
        text.replace(relative, f"urdf: {{file: {KESTREL}}}\naxes: {{forward: [0, 1, 0]}}"), "utf-8"
    )
    assert load_robot(moved).description.axes.forward == (0.0, 1.0, 0.0)


def test_json_says_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--folder", str(tmp_path), "--no-self-test", "--no-picture", "--json"]
    assert main([str(KESTREL), *arguments]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["name"] == "kestrel"
    assert content["forward"] == [1.0, 0.0, 0.0]
    assert content["arms"]["left"]["elbow_joint"] == "left_elbow_pitch"
    assert all(set(finding) == {"what", "why", "sure"} for finding in content["findings"])


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read"),
        ("<robot", "malformed XML"),
        ("<sdf/>", "<robot> expected"),
        ('<robot name="a"><link name="a"/></robot>', "no arm was found"),
    ],
)
def test_bad_files_end_in_a_sentence(
    content: str | None, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "robot.urdf"
    if content is not None:
        file.write_text(content, "utf-8")
    assert main([str(file), "--folder", str(tmp_path / "out")]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_arm_of_very_many_joints_ends_in_a_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    joints = "".join(
        f'<link name="l{k + 1}"/><joint name="j{k}" type="revolute">'
        f'<parent link="l{k}"/><child link="l{k + 1}"/>'
        f'<origin xyz="0 0 0.2"/><axis xyz="0 {k % 2} {1 - k % 2}"/>'
        '<limit lower="-2" upper="2" velocity="3" effort="10"/></joint>'
        for k in range(300)
    )
    file = tmp_path / "snake.urdf"
    file.write_text(f'<robot name="snake"><link name="l0"/>{joints}</robot>', "utf-8")
    assert main([str(file), "--folder", str(tmp_path / "out")]) == 2
    assert "has 300 joints, 40 at most are looked through" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_bad_names_and_motions_end_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(KESTREL), "--name", "my robot", "--folder", str(tmp_path)]) == 2
    assert "cannot name a topic" in capsys.readouterr().err
    missing = tmp_path / "no.bvh"
    assert main([str(KESTREL), "--motion", str(missing), "--folder", str(tmp_path)]) == 2
    assert "no.bvh" in capsys.readouterr().err
    assert not (tmp_path / "kestrel").exists()


@pytest.mark.parametrize(
    ("name", "error_m", "violations", "problems", "lags"),
    [
        ("synthetic", 0.01, 0, 0, 0),
        ("synthetic", 0.20, 0, 1, 1),
        ("recorded", 0.20, 0, 0, 1),
        ("recorded", 0.01, 3, 1, 0),
    ],
)
def test_only_the_synthetic_motion_has_to_be_reached(
    name: str, error_m: float, violations: int, problems: int, lags: int
) -> None:
    result = MotionResult(
        name, 1.0, 200, "tracking", 0, violations, 0, {"left": error_m}, {"left": error_m}, {"left": 0.0}
    )
    assert (len(result.problems), len(result.lags)) == (problems, lags)


def test_one_problem_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "robot.urdf"
    file.write_text("<sdf/>", "utf-8")
    assert main([str(file), "--folder", str(tmp_path / "out")]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"onboard: error: {file}: line 1: ")
    assert len(said.splitlines()) == 1


XACRO = """<robot name="made" xmlns:xacro="http://www.ros.org/wiki/xacro">
<xacro:arg name="file" default="absent"/>
<xacro:include filename="$(find a_package)/$(arg file).urdf"/></robot>"""


def test_packages_and_arguments_of_a_xacro_file_reach_the_yaml(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("xacro")
    package = tmp_path / "packages" / "a_package"
    package.mkdir(parents=True)
    (package / "kestrel.urdf").write_text(KESTREL.read_text("utf-8"), "utf-8")
    file = tmp_path / "robots" / "made.urdf.xacro"
    file.parent.mkdir()
    file.write_text(XACRO, "utf-8")
    out = tmp_path / "out"
    arguments = [str(file), "--name", "made", "--folder", str(out), "--no-self-test", "--no-picture"]
    assert main(arguments) == 2
    said = capsys.readouterr().err
    assert "'a_package'" in said and "--package-path" in said and "<class" not in said
    found = ["--package-path", str(package.parent), "--xacro", "file:=kestrel"]
    assert main([*arguments, *found]) == 0
    description = load_robot(out / "made" / "robot.yaml").description
    assert description.xacro_arguments == {"file": "kestrel"}
    assert package.parent.resolve() in [path.resolve() for path in description.package_paths]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--xacro", "bimanual"], "'bimanual' is not of the form NAME:=VALUE"),
        (["--package-path", "/no/such/folder"], "/no/such/folder is no folder"),
    ],
)
def test_bad_arguments_end_in_a_sentence(
    arguments: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([str(KESTREL), "--folder", str(tmp_path), *arguments]) == 2
    assert said in capsys.readouterr().err
