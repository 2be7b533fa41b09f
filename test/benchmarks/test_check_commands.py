"""The separate judge of commands: it counts what was broken, and knows nothing of the retargeting."""

from __future__ import annotations

import ast
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("coal")

from benchmarks.retargeting.check_commands import judge, main
from benchmarks.retargeting.command_trace import CommandTrace

ROOT = Path(__file__).resolve().parents[2]
URDF = ROOT / "robot_descriptions" / "kestrel" / "kestrel.urdf"
JOINTS = ("left_shoulder_pitch", "left_elbow_pitch")
TICK_S = 0.005
REST = np.array([0.0, -1.0])
ACCELERATION = 30.0


def trace(positions: np.ndarray, ticks_s: np.ndarray | None = None, **changes) -> CommandTrace:
    ticks_s = np.full(len(positions), TICK_S) if ticks_s is None else ticks_s
    stamps_ns = 10**9 + np.cumsum(np.round(ticks_s * 1e9).astype(np.int64))
    made = CommandTrace(URDF, (URDF.parent,), JOINTS, stamps_ns, positions, REST, TICK_S)
    return replace(made, **changes)


def eased(acceleration: float, ticks: int = 20) -> np.ndarray:
    """The elbow speeds up and slows down again at one acceleration."""
    velocity = TICK_S * acceleration * np.r_[np.arange(1, ticks + 1), np.arange(ticks - 1, -1, -1)]
    positions = np.tile(REST, (2 * ticks, 1))
    positions[:, 1] -= np.cumsum(velocity * TICK_S)
    return positions


def test_only_pin_and_coal_are_used():
    source = ROOT / "benchmarks" / "retargeting" / "check_commands.py"
    allowed = {"pinocchio", "coal", "numpy", *sys.stdlib_module_names}
    own = {f"benchmarks.retargeting.{name}" for name in ("command_trace", "joined_mesh")}
    for file in (source, source.with_name("command_trace.py"), source.with_name("joined_mesh.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [str(node.module)] if isinstance(node, ast.ImportFrom) else []
            for name in names:
                assert name.split(".")[0] in allowed or name in own, name


def test_commands_at_the_very_limit_pass():
    judgement = judge(trace(eased(ACCELERATION)), 0)
    assert judgement.violations == 0
    assert judgement.worst_acceleration == pytest.approx(1.0, abs=1e-9)


def test_acceleration_over_its_limit_is_counted_per_tick_and_joint():
    judgement = judge(trace(eased(1.01 * ACCELERATION)), 0)
    assert judgement.acceleration == 40 and judgement.position == judgement.velocity == 0
    assert judgement.worst_acceleration == pytest.approx(1.01)


def test_velocity_over_its_cap_is_counted():
    positions = np.tile(REST, (3, 1))
    positions[1:, 0] += 6.06 * TICK_S
    judgement = judge(trace(positions), 0)
    assert judgement.velocity == 1 and judgement.worst_velocity == pytest.approx(1.01)


def test_position_beyond_the_urdf_is_counted():
    positions = np.tile([0.0, 0.2], (4, 1))
    judgement = judge(trace(positions), 0)
    assert judgement.position == 4


def test_a_late_tick_is_judged_by_the_nominal_step():
    """The step may not grow with the delay: min(real, nominal)."""
    positions = eased(ACCELERATION)
    ticks_s = np.full(len(positions), TICK_S)
    ticks_s[5] = 0.03
    assert judge(trace(positions, ticks_s), 0).violations == 0
    ticks_s[5] = 0.0025
    early = judge(trace(positions, ticks_s), 0)
    assert early.acceleration > 0


def test_the_first_command_is_judged_from_the_measured_start_at_rest():
    positions = np.tile([REST[0], REST[1] - 0.01], (3, 1))
    judgement = judge(trace(positions), 0)
    assert judgement.acceleration >= 1
    assert judge(trace(positions, start=positions[0]), 0).violations == 0


def test_the_arm_in_the_body_is_a_collision_where_a_margin_is_promised():
    # The right arm swings in front of the body and through it.
    joints = ("right_shoulder_yaw", "right_elbow_pitch")
    inward = np.stack([np.linspace(0.0, 1.5, 60), np.full(60, -1.7)], axis=1)
    held = {"left_elbow_pitch": -1.7, "right_shoulder_roll": 0.1}
    changes = {"joint_names": joints, "held": held, "start": inward[0]}
    touching = judge(trace(inward, **changes), 1)
    assert touching.penetrating_ticks > 0 and touching.collision == 0
    assert "no collision margin is promised" in touching.notes
    promised = judge(trace(inward, collision_margin_m=0.01, **changes), 1)
    assert promised.collision >= touching.penetrating_ticks
    first, second = (name.rsplit("_", 1)[0] for name in promised.nearest_pair.split(" - "))
    exempted = judge(
        trace(inward, collision_margin_m=0.01, exempt_pairs=((first, second, "said so"),), **changes), 1
    )
    assert exempted.collision < promised.collision


def test_what_is_not_judged_is_counted_by_its_reason():
    positions = np.tile(REST, (3, 1))
    judgement = judge(trace(positions, collision_margin_m=0.01), 1)
    assert judgement.adjacent_pairs > 0 and judgement.judged_commands == 3
    (pair,) = (("torso", "left_forearm"),)
    told = judge(trace(positions, collision_margin_m=0.01, exempt_pairs=((*pair, "said so"),)), 1)
    assert told.exempt_pairs["said so"] > 0
    assert told.collision_pairs + told.exempt_pairs["said so"] == judgement.collision_pairs


def test_a_pair_with_a_margin_of_its_own_is_held_to_that():
    # The forearm rests 48 mm off the waist: it may keep less than 50 mm, and is led through it.
    joints = ("right_shoulder_yaw", "right_elbow_pitch")
    inward = np.stack([np.linspace(0.0, 1.5, 200), np.full(200, -1.7)], axis=1)
    changes = {"joint_names": joints, "held": {"left_elbow_pitch": -1.7, "right_shoulder_roll": 0.1}}
    full = judge(trace(inward, start=inward[0], collision_margin_m=0.05, **changes), 1)
    own = (("waist", "right_forearm", 0.01),)
    less = judge(trace(inward, start=inward[0], collision_margin_m=0.05, own_margins=own, **changes), 1)
    assert less.own_margin_pairs == 2 and full.own_margin_pairs == 0 and not less.refused_margins
    assert 0 < less.collision < full.collision
    found = [pair for pair in less.too_near if (pair.first, pair.second) == ("waist", "right_forearm")]
    assert found and all(pair.promised_m == 0.01 and pair.commands > 50 for pair in found)


def test_a_pair_that_starts_inside_its_margin_may_not_come_nearer():
    joints = ("right_shoulder_yaw", "right_elbow_pitch")
    inward = np.stack([np.linspace(0.0, 1.5, 200), np.full(200, -1.7)], axis=1)
    changes = {"joint_names": joints, "held": {"left_elbow_pitch": -1.7, "right_shoulder_roll": 0.1}}
    wide = judge(trace(inward, start=inward[0], collision_margin_m=0.05, **changes), 1)
    nearest = [
        row
        for row in range(200)
        if judge(trace(inward[: row + 1], start=inward[0], **changes), row + 1).nearest_m < 0.04
    ]
    start = inward[nearest[0]]
    still = judge(trace(np.tile(start, (5, 1)), start=start, collision_margin_m=0.05, **changes), 1)
    assert wide.collision > 0 and still.collision == 0 and still.starts_inside


def test_a_file_goes_through_unchanged(tmp_path: Path):
    made = trace(eased(3.0), held={"waist_yaw": 0.1}, exempt_pairs=(("a", "b", "neighbours"),), label="a run")
    made = replace(made, own_margins=(("a", "c", 0.002),))
    made.save(tmp_path / "trace.npz")
    read = CommandTrace.load(tmp_path / "trace.npz")
    for name in (
        "urdf",
        "package_paths",
        "joint_names",
        "held",
        "exempt_pairs",
        "own_margins",
        "label",
        "nominal_s",
    ):
        assert getattr(read, name) == getattr(made, name)
    np.testing.assert_array_equal(read.positions, made.positions)
    np.testing.assert_array_equal(read.stamps_ns, made.stamps_ns)


def test_the_program_says_by_its_exit_status_what_it_found(tmp_path: Path, capsys: pytest.CaptureFixture):
    trace(eased(3.0)).save(tmp_path / "good.npz")
    trace(eased(90.0)).save(tmp_path / "bad.npz")
    trace(np.full((3, 2), np.nan)).save(tmp_path / "nan.npz")
    trace(eased(3.0), joint_names=("left_shoulder_pitch", "no_joint")).save(tmp_path / "unknown.npz")
    none = ["--collision-every", "0"]
    assert main([str(tmp_path / "good.npz"), *none]) == 0
    assert main([str(tmp_path / "good.npz"), str(tmp_path / "bad.npz"), *none]) == 1
    capsys.readouterr()
    assert main([str(tmp_path / "bad.npz"), "--json", *none]) == 1
    assert json.loads(capsys.readouterr().out)[0]["acceleration"] == 40
    for name, words in (("nan", "not finite"), ("unknown", "no_joint"), ("missing", "No such file")):
        assert main([str(tmp_path / f"{name}.npz"), *none]) == 2
        assert words in capsys.readouterr().err


def test_a_margin_of_their_own_is_granted_only_to_links_that_rest_near_or_are_few_joints_apart():
    joints = tuple(
        f"right_{name}" for name in ("shoulder_pitch", "shoulder_roll", "shoulder_yaw", "elbow_pitch")
    )
    inward = np.tile([0.0, 0.1, 0.0, -1.7], (200, 1))
    inward[:, 2] = np.linspace(0.0, 1.5, 200)
    changes = {"joint_names": joints, "held": {"left_elbow_pitch": -1.7}}
    full = judge(trace(inward, start=inward[0], collision_margin_m=0.01, **changes), 1)
    (worst,) = sorted(full.too_near, key=lambda pair: -pair.commands)[:1]
    own = ((worst.first, worst.second, 0.001),)
    asked = judge(trace(inward, start=inward[0], collision_margin_m=0.01, own_margins=own, **changes), 1)
    assert asked.collision == full.collision and asked.own_margin_pairs == 0
    ((first, second, margin_m, rest_m),) = asked.refused_margins
    assert {first, second} == {worst.first, worst.second} and margin_m == 0.001 and rest_m > 0.015
    # Of a link and one that it carries over three joints it is taken, but not down to touching.
    for margin_m, refused in ((0.001, False), (0.0, True)):
        few = (("torso", "right_upper_arm", margin_m),)
        taken = judge(trace(inward, start=inward[0], collision_margin_m=0.01, own_margins=few, **changes), 1)
        assert bool(taken.refused_margins) == refused and taken.own_margin_pairs > 0
