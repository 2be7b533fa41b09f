"""The run over every robot: what it plays is judged apart, a failure is a result, the status says it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("coal")

import pinocchio

from benchmarks.retargeting import limits
from benchmarks.retargeting.motions import SYNTHETIC, Motion
from capture_nodes.sources.person import Person
from retargeting.robot_model import load_robot

ROBOT = Path(__file__).resolve().parents[2] / "robot_descriptions" / "kestrel" / "robot.yaml"


def found(**changes) -> dict:
    total = {kind: 0 for kind in limits.KINDS} | {
        "ticks": 10,
        "forced_exceptions": 0,
        "nearest_m": 0.0123,
        "judged_pairs": 5,
        "exempt_pairs": {"one hand": 2},
        "adjacent_pairs": 1,
        "own_margin_pairs": 1,
        "exempt_near": [],
        "wrist_m": {"50": 0.001, "95": None},
        "tick_us": {"50": 100.0, "99": 200.0},
    }
    return {"margin_m": 0.01, "failures": [], "motions": {}, "total": total | changes}


def test_a_robot_is_played_and_judged_with_its_margins():
    start = Motion("start", SYNTHETIC["torso_grazing"](Person()).frames[:300])
    result = limits.run_robot(load_robot(ROBOT), [start], self_collision=True, collision_every=8)
    assert result["failures"] == [] and limits.broken(result) == 0
    nearest_m = result["total"]["nearest_m"]  # none where nothing came near
    assert result["margin_m"] == 0.01 and (nearest_m is None or nearest_m >= 0.01)
    assert result["total"]["judged_pairs"] > 100 and result["total"]["own_margin_pairs"] > 0
    assert result["total"]["ticks"] == result["motions"]["start"]["ticks"] > 400


def test_the_judges_urdf_finds_its_meshes_wherever_it_lies(tmp_path: Path):
    model = load_robot(ROBOT)
    limits.readable_urdf(model, tmp_path / "robot.urdf")
    read = pinocchio.buildModelFromUrdf(str(tmp_path / "robot.urdf"))
    assert all(read.existJointName(name) for name in model.joint_names)


def test_a_robot_that_fails_is_reported_and_the_others_go_on(monkeypatch, tmp_path: Path, capsys):
    def run(model, *_args, **_named):
        if model.name == "kestrel":
            raise ZeroDivisionError("it broke")
        return found()

    monkeypatch.setattr(limits, "run_robot", run)
    monkeypatch.setattr(
        "retargeting.robot_model.load_robot", lambda file: type("M", (), {"name": file.parent.name})
    )
    file = tmp_path / "limits.json"
    arguments = ["--robots", "kestrel", "g1", "--motions", "glitch", "--json", str(file)]
    assert limits.main([*arguments, "--self-collision", "on"]) == 1
    said = capsys.readouterr()
    assert "ZeroDivisionError: it broke" in said.out
    results = json.loads(file.read_text())["robots"]
    assert results["kestrel"]["on"]["failures"] and "kestrel" in said.err


def test_the_status_is_1_for_a_violation_a_forced_exception_or_a_failure():
    assert limits.broken(found()) == 0
    for changes in ({"collision": 3}, {"velocity": 1}, {"forced_exceptions": 2}):
        assert limits.broken(found(**changes)) == next(iter(changes.values()))
    assert limits.broken(found() | {"failures": ["it did not engage"]}) == 1
    assert limits.broken({"failures": ["it broke"]}) == 1


def test_a_table_has_a_line_per_robot_and_a_dash_for_what_is_unknown():
    rows = [("kestrel", "on", found()), ("other", "off", {"failures": ["it broke"]})]
    lines = limits.table(rows).split("\n")
    assert len(lines) == 3 and "12.30 / 10 mm" in lines[1] and "- mm" in lines[1]
    assert lines[2].split()[:3] == ["other", "off", "-"] and lines[2].endswith("it broke")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--robots", "nobody"], "no such robot"),
        (["--motions", "nothing"], "nothing"),
        (["--collision-every", "0"], "at least 1"),
        (["--seconds", "1"], "more than"),
    ],
)
def test_wrong_arguments_are_named(arguments: list[str], words: str, capsys):
    assert limits.main(arguments) == 2
    assert words in capsys.readouterr().err
