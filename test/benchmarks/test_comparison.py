"""Ours replayed is what was published; the peers, where installed, reach what can be reached."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("coal")
pytest.importorskip("scipy")

from benchmarks.retargeting.comparison import make_solvers, ratios, replay
from benchmarks.retargeting.figures import errors_of
from benchmarks.retargeting.motions import SYNTHETIC, Motion
from benchmarks.retargeting.pin_robot import PinRobot
from benchmarks.retargeting.playback import Playback, play
from benchmarks.retargeting.reachable import reachable_ticks
from benchmarks.retargeting.reduced_robot import ReducedRobot, reduce_robot
from benchmarks.retargeting.report import table
from benchmarks.retargeting.solvers import BenchmarkSolver, Ours
from capture_nodes.sources.person import Person
from retargeting.robot_model import load_robot
from retargeting.solver import SolverParameters

ROBOT = Path(__file__).resolve().parents[2] / "robot_descriptions" / "kestrel" / "robot.yaml"


@pytest.fixture(scope="module")
def robot() -> ReducedRobot:
    return reduce_robot(load_robot(ROBOT))


@pytest.fixture(scope="module")
def playback(robot: ReducedRobot) -> Playback:
    """The first four seconds of the figure-eight: engaging, standing, and the first second of motion."""
    whole = SYNTHETIC["figure_eight"](Person())
    return play(robot.model, Motion("start", whole.frames[:360]))


def test_the_playback_tracks_inside_every_limit_of_the_separate_judge(playback: Playback):
    from benchmarks.retargeting.check_commands import judge

    assert playback.tracking[-1] and not playback.refused and playback.forced_exceptions == 0
    assert judge(playback.trace(0.0, "ours"), 0).violations == 0


def test_ours_replayed_is_what_was_published(robot: ReducedRobot, playback: Playback):
    m = len(robot.names)
    ((commands, times),) = replay([Ours(robot.model, SolverParameters(self_collision=False))], playback, m)
    np.testing.assert_allclose(commands, playback.positions[:, :m], atol=1e-12)
    assert (times > 0.0).all()


def test_a_ready_pose_can_be_reached_and_one_two_metres_away_not(robot: ReducedRobot, playback: Playback):
    assert reachable_ticks(robot, playback, every=200)[-1]
    for targets in playback.targets:
        targets.positions[0] += [2.0, 0.0, 0.0]
    try:
        assert not reachable_ticks(robot, playback, every=200).any()
    finally:
        for targets in playback.targets:
            targets.positions[0] -= [2.0, 0.0, 0.0]


def peers(robot: ReducedRobot, word: str) -> list[BenchmarkSolver]:
    for package in ("pink", "mink", "casadi"):
        pytest.importorskip(package)
    return make_solvers(robot, {"ours": SolverParameters(self_collision=False)}, 3, [word])[1:]


@pytest.mark.parametrize(
    "word", ["pink daqp box", "mink daqp", "least_squares", "ipopt free", "ipopt box 50"]
)
def test_a_peer_reaches_a_standing_target(robot: ReducedRobot, playback: Playback, word: str):
    m = len(robot.names)
    for solver in peers(robot, word):
        solver.start(playback.start[:m])
        prepared = solver.prepare(playback.targets[300])
        for _ in range(150):
            q = solver.solve(prepared, 0.005)
        errors = errors_of(PinRobot(robot), q[None], (playback.targets[300],))
        assert errors.position_m.max() < 0.002, solver.name
        assert (q >= robot.lower - 1e-6).all() and (q <= robot.upper + 1e-6).all(), solver.name


def test_ratios_are_of_the_peers_medians_to_ours():
    rows = [
        {"solver": name, "solve_us": {"median": median}}
        for name, median in (("ours", 50.0), ("pink a", 500.0), ("mink b", 400.0), ("ipopt c", 2000.0))
    ]
    assert ratios(rows) == {"fastest of pink and mink": 8.0, "ipopt c": 40.0}


def test_a_table_has_a_line_per_solver_and_a_dash_for_what_is_unknown():
    rows = [{"solver": "ours", "jerk_rms": float("nan")}, {"solver": "other", "failures": 3}]
    lines = table(rows).split("\n")
    assert len(lines) == 3 and lines[1].split()[:2] == ["ours", "-"] and lines[2].endswith("3")
