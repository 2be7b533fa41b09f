"""One robot: every motion through the retargeting, then its targets through every solver, interleaved."""

from __future__ import annotations

import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.retargeting import figures
from benchmarks.retargeting.check_commands import Judgement, judge
from benchmarks.retargeting.motions import Motion
from benchmarks.retargeting.pin_robot import PinRobot
from benchmarks.retargeting.playback import Playback, play, play_clean
from benchmarks.retargeting.reachable import reachable_ticks
from benchmarks.retargeting.reduced_robot import ReducedRobot, reduce_robot
from benchmarks.retargeting.solvers import BenchmarkSolver, Ours
from retargeting.robot_model import RobotModel
from retargeting.solver import SolverParameters

Array = NDArray[np.float64]
Say = Callable[[str], None]

# Solvers take turns of so many ticks: long enough for warm caches, short enough to share the machine's moods.
_TURN_TICKS = 20


@dataclass
class SolverFigures:
    """What one solver did on one motion; arrays are kept so that motions can be put together."""

    name: str
    solve_s: Array
    position_m: Array
    orientation_rad: Array
    elbow_rad: Array
    reachable: NDArray[np.bool_]
    judgement: Judgement
    joints: int
    jerk_rms: float
    shake_power: float
    longest_freeze_s: float
    lag_s: float
    failures: int
    extra: dict[str, Any] = field(default_factory=dict)

    def row(self) -> dict[str, Any]:
        """Plain numbers for the table and JSON."""
        return {
            "solver": self.name,
            "solve_us": {key: 1e6 * value for key, value in figures.percentiles(self.solve_s).items()},
            "position_reachable_m": figures.percentiles(self.position_m[self.reachable]),
            "position_all_m": figures.percentiles(self.position_m),
            "orientation_reachable_rad": figures.percentiles(self.orientation_rad[self.reachable]),
            "orientation_all_rad": figures.percentiles(self.orientation_rad),
            "elbow_rad": figures.percentiles(self.elbow_rad),
            "violations": {
                kind: getattr(self.judgement, kind)
                for kind in ("position", "velocity", "acceleration", "collision")
            },
            "worst": {
                "position": self.judgement.worst_position,
                "velocity_share": self.judgement.worst_velocity,
                "acceleration_share": self.judgement.worst_acceleration,
            },
            "joint_ticks": self.judgement.ticks * self.joints,
            "jerk_rms": self.jerk_rms,
            "shake_power": self.shake_power,
            "longest_freeze_s": self.longest_freeze_s,
            "lag_s": self.lag_s,
            "failures": self.failures,
            **self.extra,
        }


def make_solvers(
    robot: ReducedRobot, variants: dict[str, SolverParameters], steps: int, peers: Sequence[str]
) -> list[BenchmarkSolver]:
    """Ours in its variants, then the peers whose names begin with a word of `peers`.

    All take `steps` steps and the first variant's weights.
    """
    solvers: list[BenchmarkSolver] = [
        Ours(robot.model, replace(parameters, goal_steps=steps), name)
        for name, parameters in variants.items()
    ]
    if not peers:
        return solvers
    from benchmarks.retargeting.peers_nlp import Ipopt, LeastSquares
    from benchmarks.retargeting.peers_qp import Limits, Mink, Pink

    weights = next(iter(variants.values()))
    every: dict[str, Callable[[], BenchmarkSolver]] = {}
    kinds: tuple[tuple[str, Limits], ...] = (("daqp", "own"), ("daqp", "box"), ("quadprog", "box"))
    for backend, limits in kinds:
        every[f"pink {backend} {limits}"] = partial(Pink, robot, weights, steps, backend, limits)
        every[f"mink {backend} {limits}"] = partial(Mink, robot, weights, steps, backend, limits)
    every["least_squares box"] = partial(LeastSquares, robot, weights, steps)
    every[f"ipopt box {steps}"] = partial(Ipopt, robot, weights, steps, free=False)
    every["ipopt box 50"] = partial(Ipopt, robot, weights, 50, free=False)
    every["ipopt free 50"] = partial(Ipopt, robot, weights, 50, free=True)
    solvers += [make() for name, make in every.items() if name.startswith(tuple(peers))]
    return solvers


def replay(solvers: Sequence[BenchmarkSolver], playback: Playback, m: int) -> list[tuple[Array, Array]]:
    """(commands ``(t, m)``, solve times ``(t,)``) of each solver on the targets of `playback`.

    Times are of the processor, not of the clock: a busy machine interrupts a long call more often than a
    short one, and would flatter the short one.
    """
    steps_s, ticks = playback.steps_s, len(playback.targets)
    outcome = [(np.empty((ticks, m)), np.empty(ticks)) for _ in solvers]
    prepared = [[solver.prepare(targets) for targets in playback.targets] for solver in solvers]
    for solver, targets in zip(solvers, prepared, strict=True):
        # One call before the clock runs: compilation and first allocations.
        solver.start(playback.start[:m])
        solver.solve(targets[0], float(steps_s[0]))
        solver.start(playback.start[:m])
        solver.failures = 0
    gc.collect()
    gc.disable()
    try:
        for turn, first in enumerate(range(0, ticks, _TURN_TICKS)):
            for place in range(len(solvers)):
                k = (place + turn) % len(solvers)
                solver, (commands, times) = solvers[k], outcome[k]
                for tick in range(first, min(first + _TURN_TICKS, ticks)):
                    target, dt = prepared[k][tick], float(steps_s[tick])
                    begin = time.thread_time()
                    q = solver.solve(target, dt)
                    times[tick] = time.thread_time() - begin
                    commands[tick] = q
    finally:
        gc.enable()
    return outcome


def judge_apart(playback: Playback, margin_m: float, collision_every: int, label: str) -> Judgement:
    """Our published commands, judged by the separate program. Raises `RuntimeError` where it cannot."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "trace.npz"
        playback.trace(margin_m, label).save(file)
        command = [sys.executable, "-m", "benchmarks.retargeting.check_commands", str(file)]
        command += ["--json", "--collision-every", str(collision_every)]
        root = Path(__file__).resolve().parents[2]
        result = subprocess.run(command, capture_output=True, text=True, cwd=root)
    if result.returncode not in (0, 1):
        raise RuntimeError(f"the commands of {label} cannot be judged:\n{result.stderr[-1500:]}")
    answer = json.loads(result.stdout)[0]
    answer.pop("file")
    return Judgement(**answer)


def run_motion(
    robot: ReducedRobot,
    motion: Motion,
    variants: dict[str, SolverParameters],
    solvers: Sequence[BenchmarkSolver],
    margin_m: float,
    collision_every: int,
) -> list[SolverFigures]:
    """Figures of all solvers; the first is our published command as a whole retargeting gave it."""
    m = len(robot.names)
    default = next(iter(variants.values()))
    playback = play(robot.model, motion, default)
    pin_robot = PinRobot(robot)
    reachable = reachable_ticks(robot, playback)
    found = []
    for k, (solver, (commands, times)) in enumerate(zip(solvers, replay(solvers, playback, m), strict=True)):
        extra: dict[str, Any] = {}
        positions = commands
        if k == 0:
            # What was published, holds and all, not the replay that was timed.
            positions = playback.positions[:, :m]
            judgement = judge_apart(playback, margin_m, collision_every, f"{robot.model.name} {motion.name}")
            extra = _ours_alone(playback, judgement, pin_robot, m, default, commands)
        else:
            trace = replace(
                playback.trace(margin_m, solver.name),
                joint_names=robot.names,
                positions=commands,
                start=playback.start[:m],
            )
            judgement = judge(trace, 0)
        found.append(_figures(solver, positions, times, playback, pin_robot, reachable, judgement, extra))
    return found


def _figures(
    solver: BenchmarkSolver,
    positions: Array,
    times: Array,
    playback: Playback,
    pin_robot: PinRobot,
    reachable: NDArray[np.bool_],
    judgement: Judgement,
    extra: dict[str, Any],
) -> SolverFigures:
    errors = figures.errors_of(pin_robot, positions, playback.targets)
    kept = playback.tracking
    return SolverFigures(
        name=solver.name,
        solve_s=times[kept],
        position_m=errors.position_m[kept],
        orientation_rad=errors.orientation_rad[kept],
        elbow_rad=errors.elbow_rad[kept],
        reachable=reachable[kept],
        judgement=judgement,
        joints=positions.shape[1],
        jerk_rms=figures.jerk_rms(positions, playback.steps_s),
        shake_power=figures.shake_power(positions, playback.nominal_s),
        longest_freeze_s=figures.longest_freeze_s(errors, kept, playback.steps_s),
        lag_s=figures.lag_s(errors.targets[kept], errors.wrists[kept], playback.nominal_s),
        failures=solver.failures,
        extra=extra,
    )


def _ours_alone(
    playback: Playback,
    judgement: Judgement,
    pin_robot: PinRobot,
    m: int,
    parameters: SolverParameters,
    replayed: Array,
) -> dict[str, Any]:
    """What only the whole retargeting has: states, forced exceptions, how a disturbance came through."""
    extra: dict[str, Any] = {
        "forced_exceptions": playback.forced_exceptions,
        "refused": list(playback.refused),
        "states": list(playback.reasons),
        "tick_us": {k: 1e6 * v for k, v in figures.percentiles(playback.tick_s).items()},
        "frame_us": {k: 1e6 * v for k, v in figures.percentiles(playback.frame_s).items()},
        "nearest_m": judgement.nearest_m,
        "nearest_pair": judgement.nearest_pair,
        "penetrating_ticks": judgement.penetrating_ticks,
        "notes": judgement.notes,
        "replay_differs_rad": float(np.abs(replayed - playback.positions[:, :m]).max()),
    }
    clean = play_clean(playback, parameters)
    if clean is not None and len(clean.positions) == len(playback.positions):
        wrists, undisturbed = (
            figures.errors_of(pin_robot, run.positions[:, :m], run.targets).wrists
            for run in (playback, clean)
        )
        moved = np.linalg.norm(wrists - undisturbed, axis=-1)
        extra["disturbance_m"] = {"largest": float(moved.max()), "rms": float(np.sqrt(np.mean(moved**2)))}
    return extra


def pooled(rows: Sequence[SolverFigures]) -> SolverFigures:
    """One solver over several motions: ticks put together, violations added, the worst kept."""
    total = Judgement(rows[0].name, sum(row.judgement.ticks for row in rows))
    for row in rows:
        for kind in ("position", "velocity", "acceleration", "collision"):
            setattr(total, kind, getattr(total, kind) + getattr(row.judgement, kind))
            if kind != "collision":
                worst = f"worst_{kind}"
                setattr(total, worst, max(getattr(total, worst), getattr(row.judgement, worst)))
    weights = np.array([row.judgement.ticks for row in rows], dtype=np.float64)
    weights /= weights.sum()
    lags = np.array([row.lag_s for row in rows])
    return SolverFigures(
        name=rows[0].name,
        solve_s=np.concatenate([row.solve_s for row in rows]),
        position_m=np.concatenate([row.position_m for row in rows]),
        orientation_rad=np.concatenate([row.orientation_rad for row in rows]),
        elbow_rad=np.concatenate([row.elbow_rad for row in rows]),
        reachable=np.concatenate([row.reachable for row in rows]),
        judgement=total,
        joints=rows[0].joints,
        jerk_rms=float(np.sqrt(weights @ np.array([row.jerk_rms**2 for row in rows]))),
        shake_power=float(weights @ np.array([row.shake_power for row in rows])),
        longest_freeze_s=max(row.longest_freeze_s for row in rows),
        lag_s=float(np.median(lags[np.isfinite(lags)])) if np.isfinite(lags).any() else float("nan"),
        failures=sum(row.failures for row in rows),
    )


def compare(
    model: RobotModel,
    motions: Sequence[Motion],
    variants: dict[str, SolverParameters],
    *,
    steps: int,
    peers: Sequence[str],
    margin_m: float,
    collision_every: int,
    say: Say,
) -> dict[str, Any]:
    """All figures of one robot: per motion, over all motions, and the ratios of solve times."""
    robot = reduce_robot(model)
    begin = time.perf_counter()
    solvers = make_solvers(robot, variants, steps, peers)
    say(f"{model.name}: {len(robot.names)} joints, {len(solvers)} solvers set up in "
        f"{time.perf_counter() - begin:.1f} s")  # fmt: skip
    by_motion: dict[str, list[SolverFigures]] = {}
    for number, motion in enumerate(motions, start=1):
        begin = time.perf_counter()
        by_motion[motion.name] = run_motion(robot, motion, variants, solvers, margin_m, collision_every)
        ours = by_motion[motion.name][0]
        say(
            f"{model.name}: {number}/{len(motions)} {motion.name} ({motion.duration_s:.1f} s) in "
            f"{time.perf_counter() - begin:.1f} s; {ours.judgement.violations} violations"
        )
    totals = [pooled(rows) for rows in zip(*by_motion.values(), strict=True)]
    summary = [row.row() for row in totals]
    for row in summary:
        row["time_ratio"] = row["solve_us"]["median"] / summary[0]["solve_us"]["median"]
    return {
        "joints": len(robot.names),
        "motions": {name: [row.row() for row in rows] for name, rows in by_motion.items()},
        "total": summary,
        "ratios": ratios(summary),
    }


def ratios(summary: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Median solve times of the peers over that of ours (the first row)."""
    ours = summary[0]["solve_us"]["median"]

    def times(*words: str) -> list[float]:
        return [row["solve_us"]["median"] / ours for row in summary if row["solver"].split()[0] in words]

    found = {}
    if qp := times("pink", "mink"):
        found["fastest of pink and mink"] = min(qp)
    for row in summary:
        if row["solver"].startswith("ipopt"):
            found[row["solver"]] = row["solve_us"]["median"] / ours
    return found
