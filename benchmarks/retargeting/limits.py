"""Every motion on every registered robot, by our solver alone: does a published command break a promise?

python -m benchmarks.retargeting.limits [--robots NAME …] [--recorded FILE.bvh …] [--json FILE]

Each robot plays all motions twice, with self-collision on and off. `check_commands`, a program of its own,
judges the published commands: limits always, the collision margin where it is promised (on). Robots whose
package is not installed are left out and named; a robot that fails is reported and the others go on.

Exit status: 0 without a violation, forced exception or failure, 1 with one, 2 for wrong arguments.
"""

from __future__ import annotations

import os

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import argparse  # noqa: E402
import json  # noqa: E402
import subprocess  # noqa: E402
import sys  # noqa: E402
import tempfile  # noqa: E402
import time  # noqa: E402
from collections import Counter  # noqa: E402
from collections.abc import Sequence  # noqa: E402
from dataclasses import replace  # noqa: E402
from pathlib import Path  # noqa: E402
from typing import Any  # noqa: E402

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from benchmarks.retargeting.command_trace import CommandTrace  # noqa: E402
from benchmarks.retargeting.motions import SYNTHETIC, Motion  # noqa: E402
from benchmarks.retargeting.playback import Playback, play  # noqa: E402
from benchmarks.retargeting.report import aligned  # noqa: E402
from retargeting.collision_cache import collision_model  # noqa: E402
from retargeting.errors import RetargetingError  # noqa: E402
from retargeting.robot_model import RobotModel  # noqa: E402
from retargeting.robot_tasks import POSE_SITES, robot_tasks  # noqa: E402
from retargeting.solver import SolverParameters  # noqa: E402

Array = NDArray[np.float64]

ROOT = Path(__file__).resolve().parents[2]
KINDS = ("position", "velocity", "acceleration", "collision")
MODES = ("on", "off")


def readable_urdf(model: RobotModel, file: Path) -> None:
    """Write the URDF as `pin` can read it: after xacro, meshes by the path they were found at."""
    found = {
        shape.geometry.mesh_uri: shape.geometry.mesh
        for link in model.urdf.links.values()
        for shape in (*link.collisions, *link.visuals)
        if shape.geometry.mesh is not None
    }
    # As text: a file may have prefixes that no parser with namespaces takes (`drake:acceleration`).
    text = model.urdf.text
    for uri, path in found.items():
        for quote in "\"'":
            text = text.replace(f"filename={quote}{uri}{quote}", f"filename={quote}{path.absolute()}{quote}")
    file.write_text(text, encoding="utf-8")


def wrist_errors_m(playback: Playback) -> Array:
    """The worse wrist's distance (m) from its target, in the ticks of tracking."""
    model = playback.model
    layout = robot_tasks(model, SolverParameters())
    sites = [k for k, site in enumerate(POSE_SITES) if site != "head" and site in model.description.sites]
    errors = [
        max(float(np.linalg.norm(layout.site_poses(q)[0][k] - targets.positions[k])) for k in sites)
        for q, targets, kept in zip(
            playback.positions[:, : model.body_count], playback.targets, playback.tracking, strict=True
        )
        if kept
    ]
    return np.array(errors)


def judge_apart(files: Sequence[Path], collision_every: int) -> list[dict[str, Any]]:
    """Judgements of traces by the separate program. Raises `RuntimeError` where it cannot."""
    command = [sys.executable, "-m", "benchmarks.retargeting.check_commands", *map(str, files)]
    command += ["--json", "--collision-every", str(collision_every)]
    result = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    if result.returncode not in (0, 1) or not result.stdout:
        raise RuntimeError(f"commands cannot be judged: {result.stderr.strip()[-600:]}")
    answers: list[dict[str, Any]] = json.loads(result.stdout)
    return answers


def run_robot(
    model: RobotModel, motions: Sequence[Motion], *, self_collision: bool, collision_every: int
) -> dict[str, Any]:
    """All motions on one robot: what was broken, by motion and in sum. A motion that fails is a failure."""
    parameters = SolverParameters(self_collision=self_collision)
    margin_m = 0.0
    exempt: tuple[tuple[str, str, str], ...] = ()
    own: tuple[tuple[str, str, float], ...] = ()
    if self_collision:
        collision = collision_model(model)
        margin_m, exempt, own = collision.margin_m, collision.exempt_links(), collision.own_margins()
    failures: list[str] = []
    forced: dict[str, int] = {}
    errors: list[Array] = []
    times: list[Array] = []
    with tempfile.TemporaryDirectory() as folder:
        urdf, files = Path(folder) / "robot.urdf", []
        readable_urdf(model, urdf)
        for motion in motions:
            try:
                playback = play(model, motion, parameters)
            except RetargetingError as error:
                failures.append(f"{motion.name}: {error}")
                continue
            failures += [f"{motion.name}: {reason}" for reason in playback.reasons if "failed" in reason]
            forced[motion.name] = playback.forced_exceptions
            errors.append(wrist_errors_m(playback))
            times.append(playback.tick_s)
            trace: CommandTrace = playback.trace(margin_m, motion.name, exempt, own)
            files.append(Path(folder) / f"{motion.name}.npz")
            replace(trace, urdf=urdf).save(files[-1])
        judged = judge_apart(files, collision_every if self_collision else 0) if files else []
    return {
        "margin_m": margin_m,
        "motions": {row["label"]: row | {"forced_exceptions": forced[row["label"]]} for row in judged},
        "total": summary(judged, forced, errors, times),
        "failures": failures,
    }


def summary(
    judged: Sequence[dict[str, Any]],
    forced: dict[str, int],
    errors: Sequence[Array],
    times: Sequence[Array],
) -> dict[str, Any]:
    """One line of the table."""
    known = [row for row in judged if row["nearest_m"] == row["nearest_m"]]
    nearest = min(known, key=lambda row: float(row["nearest_m"]), default=None)
    wrists = np.concatenate(errors) if errors else np.array([])
    ticks = np.concatenate(times) if times else np.array([])
    exempt: dict[tuple[str, str, str], float] = {}
    for row in judged:
        for pair in row["exempt_near"]:
            key = (pair["first"], pair["second"], pair["reason"])
            exempt[key] = min(exempt.get(key, np.inf), pair["nearest_m"])
    first = judged[0] if judged else {}
    return {
        "ticks": sum(row["ticks"] for row in judged),
        **{kind: sum(row[kind] for row in judged) for kind in KINDS},
        "forced_exceptions": sum(forced.values()),
        "nearest_m": None if nearest is None else nearest["nearest_m"],
        "nearest_pair": "" if nearest is None else nearest["nearest_pair"],
        "judged_pairs": first.get("collision_pairs", 0),
        "adjacent_pairs": first.get("adjacent_pairs", 0),
        "own_margin_pairs": first.get("own_margin_pairs", 0),
        "refused_margins": first.get("refused_margins", []),
        "least_room_m": min((row["least_room_m"] for row in known), default=None),
        "exempt_pairs": first.get("exempt_pairs", {}),
        "starts_inside": first.get("starts_inside", []),
        "exempt_near": [[*key, distance] for key, distance in exempt.items()],
        "wrist_m": {str(p): float(np.percentile(wrists, p)) if len(wrists) else None for p in (50, 95)},
        "tick_us": {str(p): 1e6 * float(np.percentile(ticks, p)) if len(ticks) else None for p in (50, 99)},
        "notes": sorted({note for row in judged for note in row["notes"]}),
    }


COLUMNS = ("robot", "self-collision", "ticks", "pos", "vel", "acc", "coll", "forced", "nearest / margin",
           "pairs judged / exempt / adjacent", "exempt inside", "wrist p50", "p95", "tick p50", "p99",
           "failures")  # fmt: skip


def table(rows: Sequence[tuple[str, str, dict[str, Any]]]) -> str:
    lines = [list(COLUMNS)]
    for robot, mode, found in rows:
        if "total" not in found:
            lines.append([robot, mode, *["-"] * (len(COLUMNS) - 3), found["failures"][0][:60]])
            continue
        total = found["total"]
        lines.append(
            [
                robot,
                mode,
                str(total["ticks"]),
                *(str(total[kind]) for kind in KINDS),
                str(total["forced_exceptions"]),
                f"{_scaled(total['nearest_m'], 1e3, 2)} / {_scaled(found['margin_m'], 1e3, 0)} mm",
                " / ".join(
                    str(total[key] if isinstance(total[key], int) else sum(total[key].values()))
                    for key in ("judged_pairs", "exempt_pairs", "adjacent_pairs")
                ),
                str(len(total["exempt_near"])),
                *(f"{_scaled(total['wrist_m'][p], 1e3, 1)} mm" for p in ("50", "95")),
                *(f"{_scaled(total['tick_us'][p], 1.0, 0)} µs" for p in ("50", "99")),
                str(len(found["failures"])),
            ]
        )
    return aligned(lines, words=2)


def _scaled(value: float | None, factor: float, digits: int) -> str:
    return "-" if value is None else f"{factor * value:.{digits}f}"


def broken(found: dict[str, Any]) -> int:
    """Violations, forced exceptions and failures of one robot."""
    total = found.get("total", {})
    return len(found["failures"]) + sum(int(total.get(kind, 0)) for kind in (*KINDS, "forced_exceptions"))


def main(arguments: list[str] | None = None) -> int:
    # The other program of this package parses the same words.
    from benchmarks.retargeting.__main__ import ROBOTS, chosen_motions, environment, say, shortened
    from capture_nodes.sources.source import SourceError
    from retargeting.registered_robots import registered_robots
    from retargeting.robot_model import load_robot

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retargeting.limits",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--robots", nargs="+", default=["all"], metavar="NAME", help="all, or names")
    parser.add_argument("--motions", nargs="+", default=[], metavar="NAME", help=f"of {', '.join(SYNTHETIC)}")
    parser.add_argument("--recorded", nargs="*", default=[], metavar="FILE.bvh", help="added to the motions")
    parser.add_argument("--seconds", type=float, default=600.0, metavar="S", help="of each motion")
    parser.add_argument("--self-collision", nargs="+", choices=MODES, default=MODES)
    parser.add_argument("--collision-every", type=int, default=1, metavar="N", help="judge every Nth command")
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    registered = {robot.name: robot for robot in registered_robots(ROBOTS)}
    names = sorted(registered) if given.robots == ["all"] else given.robots
    try:
        unknown = [name for name in names if name not in registered]
        if unknown:
            raise RetargetingError(
                f"--robots {unknown[0]}: no such robot; known: {', '.join(sorted(registered))}"
            )
        if given.collision_every < 1:
            raise RetargetingError(f"--collision-every {given.collision_every}: at least 1 is expected")
        motions = [*(given.motions or SYNTHETIC), *given.recorded]
        played = [shortened(motion, given.seconds) for motion in chosen_motions(motions)]
    except (RetargetingError, SourceError) as error:
        print(f"limits: error: {error}", file=sys.stderr)
        return 2
    results: dict[str, Any] = {
        "environment": environment(),
        "motions_s": {motion.name: motion.duration_s for motion in played},
        "collision_every": given.collision_every,
        "not_installed": {},
        "robots": {},
    }
    rows: list[tuple[str, str, dict[str, Any]]] = []
    for number, name in enumerate(names, start=1):
        if "is not installed" in registered[name].state:
            results["not_installed"][name] = registered[name].state
            say(f"{number}/{len(names)} {name}: left out, {registered[name].state}")
            continue
        for mode in given.self_collision:
            begin = time.perf_counter()
            try:
                found = run_robot(
                    load_robot(registered[name].file),
                    played,
                    self_collision=mode == "on",
                    collision_every=given.collision_every,
                )
            except Exception as error:  # one robot's failure is a result, the others go on
                found = {"failures": [f"{type(error).__name__}: {error}"]}
            rows.append((name, mode, found))
            results["robots"].setdefault(name, {})[mode] = found
            spent_s = time.perf_counter() - begin
            say(f"{number}/{len(names)} {name} ({mode}): {broken(found)} broken, {spent_s:.0f} s")
            if given.json:
                given.json.write_text(json.dumps(results, indent=1) + "\n")
    show(rows, results["not_installed"])
    return int(any(broken(found) for _, _, found in rows) or not rows)


def show(rows: Sequence[tuple[str, str, dict[str, Any]]], not_installed: dict[str, str]) -> None:
    print(table(rows))
    for robot, mode, found in rows:
        total = found.get("total", {})
        notes = [f"failure: {failure}" for failure in found["failures"]]
        for motion, row in found.get("motions", {}).items():
            notes += [
                f"{motion}: {pair['first']} - {pair['second']} {1e3 * pair['nearest_m']:.2f} mm, promised "
                f"{1e3 * pair['promised_m']:.2f} mm, in {pair['commands']} commands"
                for pair in row["too_near"]
            ]
        notes += [
            f"starts inside a margin: {first} - {second}, {1e3 * distance:.2f} mm"
            for first, second, distance in total.get("starts_inside", [])
        ]
        notes += [
            f"margin of {1e3 * asked:.2f} mm not granted: {first} - {second} rest {1e3 * rest:.2f} mm apart"
            for first, second, asked, rest in total.get("refused_margins", [])
        ]
        reasons: Counter[str] = Counter()
        deepest: dict[str, tuple[float, str]] = {}
        for first, second, reason, distance in total.get("exempt_near", []):
            reasons[reason] += 1
            deepest[reason] = min(deepest.get(reason, (np.inf, "")), (distance, f"{first} - {second}"))
        notes += [
            f"exempt ({reason}) but inside a margin: {count} pairs, nearest "
            f"{1e3 * deepest[reason][0]:.2f} mm {deepest[reason][1]}"
            for reason, count in reasons.items()
        ]
        notes += [note for note in total.get("notes", []) if "no collision margin" not in note]
        for note in notes:
            print(f"  {robot} ({mode}): {note}")
    judged = {robot for robot, _, _ in rows}
    good = {robot for robot in judged if not any(broken(found) for name, _, found in rows if name == robot)}
    print(f"\n{len(good)} of {len(judged)} robots without a violation, forced exception or failure")
    for robot, why in not_installed.items():
        print(f"left out: {robot}: {why}")


if __name__ == "__main__":
    sys.exit(main())
