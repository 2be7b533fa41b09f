"""The retargeting benchmark.

python -m benchmarks.retargeting [--robots kestrel g1] [--motions NAME … | FILE.bvh …] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import platform
import sys
import warnings
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

# One core for every solver: threads of linear algebra only get in the way at this size.
for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

from benchmarks.retargeting.comparison import compare  # noqa: E402
from benchmarks.retargeting.crowd import crowd, describe  # noqa: E402
from benchmarks.retargeting.different_robots import different_robots  # noqa: E402
from benchmarks.retargeting.motions import FRAME_RATE_HZ, STANDING_S, SYNTHETIC, Motion, recorded  # noqa: E402
from benchmarks.retargeting.report import draw, table  # noqa: E402
from benchmarks.retargeting.start_up import first_command_s  # noqa: E402
from capture_nodes.sources.person import Person  # noqa: E402
from capture_nodes.sources.source import SourceError  # noqa: E402
from retargeting.errors import RetargetingError  # noqa: E402
from retargeting.robot_model import RobotModel, load_robot  # noqa: E402
from retargeting.solver import SolverParameters  # noqa: E402

ROBOTS = Path(__file__).resolve().parents[2] / "robot_descriptions"
# Ours, with the peers' tasks and limits; further entries are replayed on the same targets.
VARIANTS = {"ours": SolverParameters(), "ours apart": SolverParameters(self_collision=True)}
PEERS = ("pink", "mink", "least_squares", "ipopt")
_PACKAGES = (
    *("numpy", "numba", "pin", "coal", "pin-pink", "mink", "mujoco"),
    *("casadi", "scipy", "daqp", "quadprog"),
)


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def chosen_motions(names: list[str]) -> list[Motion]:
    """Synthetic motions by name, and files. Raises `SourceError` naming what is neither."""
    motions = []
    for name in names:
        if name in SYNTHETIC:
            motions.append(SYNTHETIC[name](Person()))
        elif name.endswith(".bvh"):
            motions.append(recorded(Path(name)))
        else:
            raise SourceError(f"--motions {name}: a .bvh file or one of {', '.join(SYNTHETIC)} is expected")
    return motions


def shortened(motion: Motion, seconds: float) -> Motion:
    """The first `seconds` of a motion. Raises `SourceError` where not even the standing is left."""
    if seconds <= STANDING_S:
        raise SourceError(f"--seconds {seconds:g}: more than the {STANDING_S:g} s of standing is expected")
    count = round(seconds * FRAME_RATE_HZ)
    clean = None if motion.clean is None else shortened(motion.clean, seconds)
    return replace(motion, frames=motion.frames[:count], clean=clean)


def chosen_robots(names: list[str]) -> list[RobotModel]:
    models = []
    for name in names:
        file = ROBOTS / name / "robot.yaml"
        if not file.is_file():
            known = ", ".join(sorted(path.parent.name for path in ROBOTS.glob("*/robot.yaml")))
            raise RetargetingError(f"--robots {name}: there is no such robot; known: {known}")
        models.append(load_robot(file))
    return models


def environment() -> dict[str, str]:
    found = {"python": platform.python_version(), "machine": platform.machine()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retargeting",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--robots", nargs="+", default=["kestrel", "g1"], metavar="NAME")
    parser.add_argument(
        "--motions", nargs="+", default=[], metavar="NAME|FILE.bvh", help=f"of {', '.join(SYNTHETIC)}"
    )
    parser.add_argument("--recorded", nargs="*", default=[], metavar="FILE.bvh", help="added to the motions")
    parser.add_argument(
        "--seconds", type=float, default=600.0, metavar="S", help="of each motion, three of standing included"
    )
    parser.add_argument("--steps", type=int, default=SolverParameters.goal_steps, help="per tick, for all")
    parser.add_argument(
        "--peers",
        nargs="*",
        default=PEERS,
        metavar="WORD",
        help=f"solvers whose name begins so, of {', '.join(PEERS)}; none: only ours",
    )
    parser.add_argument(
        "--collision-margin-m", type=float, default=0.0, metavar="M", help="0: nothing is promised"
    )
    parser.add_argument(
        "--collision-every", type=int, default=8, metavar="N", help="judge every Nth command; 0 none"
    )
    parser.add_argument("--crowd", type=int, default=100, metavar="N", help="robots in one tick; 0 none")
    parser.add_argument("--without-start-up", action="store_true", help="do not measure compilation")
    parser.add_argument("--json", type=Path, metavar="FILE")
    parser.add_argument("--figure", type=Path, metavar="FILE.png")
    given = parser.parse_args(arguments)
    try:
        motions = chosen_motions([*(given.motions or SYNTHETIC), *given.recorded])
        motions = [shortened(motion, given.seconds) for motion in motions]
        models = chosen_robots(given.robots)
    except (RetargetingError, SourceError) as error:
        print(f"benchmark: error: {error}", file=sys.stderr)
        return 2
    # Peers warn in every tick in which rounding leaves them beyond a limit.
    logging.getLogger().setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", category=RuntimeWarning)
    results: dict[str, Any] = {"environment": environment(), "steps": given.steps, "robots": {}}
    status = 0
    for model in models:
        found = compare(
            model,
            motions,
            VARIANTS,
            steps=given.steps,
            peers=given.peers,
            margin_m=given.collision_margin_m,
            collision_every=given.collision_every,
            say=say,
        )
        if not given.without_start_up:
            compiling_s, cached_s = first_command_s(model.description.file)
            found["first_command_s"] = {"compiling": compiling_s, "cached": cached_s}
        results["robots"][model.name] = found
        show(model.name, found)
        keep(results, given)
        ours = [rows[0] for rows in found["motions"].values()]
        broken = sum(sum(row["violations"].values()) + row["forced_exceptions"] for row in ours)
        status = max(status, int(broken > 0))
    if given.crowd:
        results["crowd"] = crowd(different_robots(ROBOTS, given.crowd), motions[0])
        print(f"\n{describe(results['crowd'])}")
        keep(results, given)
    return status


def keep(results: dict[str, Any], given: argparse.Namespace) -> None:
    """Write what there is so far: a long run that is cut short has not been in vain."""
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.figure:
        draw(given.figure, {name: found["total"] for name, found in results["robots"].items()})


def show(name: str, found: dict[str, Any]) -> None:
    print(f"\n{name}, {found['joints']} joints, all motions")
    print(table(found["total"]))
    print("\nours per motion")
    print(table([{**rows[0], "solver": motion} for motion, rows in found["motions"].items()]))
    for motion, rows in found["motions"].items():
        ours = rows[0]
        notes = [f"states {' | '.join(ours['states'])}"] if ours["refused"] else []
        notes += [f"refused {text}" for text in ours["refused"]]
        if "disturbance_m" in ours:
            largest_mm = 1e3 * ours["disturbance_m"]["largest"]
            notes.append(f"the disturbance moved a wrist by at most {largest_mm:.2f} mm")
        if ours["penetrating_ticks"]:
            pair = ours["nearest_pair"]
            notes.append(f"links touch in {ours['penetrating_ticks']} judged commands ({pair})")
        for note in notes:
            print(f"  {motion}: {note}")
    for peer, ratio in found["ratios"].items():
        print(f"{peer}: {ratio:.1f} times the time of ours")
    if "first_command_s" in found:
        times = found["first_command_s"]
        print(f"first command: {times['compiling']:.1f} s compiling, {times['cached']:.1f} s from the cache")


if __name__ == "__main__":
    sys.exit(main())
