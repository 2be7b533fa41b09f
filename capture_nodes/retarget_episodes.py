"""`episodes retarget`: the trainers of recorded episodes on other robots, offline, on all cores.

A program of its own, because `episodes` imports nothing of `capture_nodes`: that command starts this one
(`python -m capture_nodes.retarget_episodes`).
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import queue
import re
import signal
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from capture_nodes.errors import CaptureError
from capture_nodes.recording.trainer_recording import (
    TrainerRecording,
    file_sha256,
    read_recording_head,
    read_trainer_recording,
)
from capture_nodes.resources import robot_description_file, share_folder, user_path
from capture_nodes.retargeted_episode import (
    RETARGETED,
    Interrupted,
    Target,
    is_done,
    recorded_settings,
    write_retargeted,
)
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.retargeting_warm_up import warm_up
from retargeting.deadman import DeadmanMode
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.registered_robots import registered_robots
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_model import RobotModel, load_robot
from retargeting.solver import SolverParameters

OK, UNUSABLE, INTERRUPTED = 0, 2, 130
SCHEMA_VERSION = 1
_RECORDED = "recorded"
_PART = re.compile(r"\.part\d+\.mcap$")
# So many files go to one process with one robot: it is then loaded once for them.
_MOST_FILES_AT_ONCE = 8
_BAR_CELLS = 20
_BAR_PERIOD_S = 0.2


@dataclass(frozen=True)
class Settings:
    """What is asked for of every result; `recorded` stands for what the recording's station had."""

    out: Path
    rate_hz: float
    engage_mode: str
    deadman: str
    mapping: str
    self_collision: bool
    branch_recovery: bool
    incomplete: bool


@dataclass(frozen=True)
class Job:
    """One robot (a name or the path of a robot.yaml) and files; `named`: which were given themselves."""

    robot: str
    files: tuple[Path, ...]
    named: tuple[bool, ...]


@dataclass(frozen=True)
class Outcome:
    """Of one file on one robot. `state`: made, done (before), left_out, failed or interrupted."""

    file: str
    robot: str
    state: str
    output: str = ""
    reason: str = ""
    motion_s: float = 0.0
    took_s: float = 0.0
    figures: dict[str, object] = field(default_factory=dict)


# ---- in a worker


class _Worker:
    """What a worker process knows: set once by `_begin`."""

    cancelled: Any = None
    progress: Any = None


def _begin(cancelled: Any, progress: Any) -> None:
    # Ctrl-C reaches everyone; who tidies up is told by the event.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    # What nobody reads any more must not keep a worker from ending.
    progress.cancel_join_thread()
    _Worker.cancelled, _Worker.progress = cancelled, progress


def _end_with_parent() -> None:
    """A worker whose parent was killed ends too; what it has not finished is made anew by the next run."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@functools.lru_cache(maxsize=2)
def _robot(robot: str) -> tuple[RobotModel, bytes]:
    file = robot_description_file(robot)
    return load_robot(file), file.read_bytes()


@functools.lru_cache(maxsize=2)
def _warm_up(robot: str, parameters: SolverParameters) -> None:
    """Compile before anything is timed."""
    warm_up(_robot(robot)[0], parameters)


@functools.lru_cache(maxsize=64)
def _head(file: Path, incomplete: bool) -> tuple[TrainerRecording, str]:
    return read_recording_head(file, recovered=incomplete), file_sha256(file)


@functools.lru_cache(maxsize=_MOST_FILES_AT_ONCE)
def _recording(file: Path, incomplete: bool) -> TrainerRecording:
    return read_trainer_recording(file, recovered=incomplete)


def _work(job: Job, settings: Settings) -> list[Outcome]:
    return [
        _retarget(job.robot, file, named, settings) for file, named in zip(job.files, job.named, strict=True)
    ]


def _retarget(robot: str, file: Path, named: bool, settings: Settings) -> Outcome:
    outcome = Outcome(str(file), robot, "interrupted")
    if _Worker.cancelled.is_set():
        return outcome
    try:
        head, sha256 = _head(file, settings.incomplete)
        if RETARGETED in head.episode and not named:
            return replace(outcome, state="left_out", reason="it is retargeted itself")
        model, robot_yaml = _robot(robot)
        target = Target(head, sha256, model, robot_yaml, _parameters(robot, head, settings), settings.out)
        outcome = replace(outcome, robot=model.name, output=str(target.path))
        if is_done(target):
            return replace(outcome, state="done")
        recording = _recording(file, settings.incomplete)
        _warm_up(robot, target.parameters.solver_parameters)
        begun_s = time.perf_counter()

        def ask(share: float) -> bool:
            _Worker.progress.put((os.getpid(), min(share, 0.99)))
            return not _Worker.cancelled.is_set()

        figures = write_retargeted(target, recording, ask)
        took_s = time.perf_counter() - begun_s
        return replace(outcome, state="made", motion_s=recording.duration_s, took_s=took_s, figures=figures)
    except Interrupted:
        return outcome
    except InvalidConfiguration as error:
        reason = "; ".join(str(problem) for problem in error.problems)
        return replace(outcome, state="failed", reason=reason)
    except (CaptureError, RetargetingError, OSError) as error:
        return replace(outcome, state="failed", reason=str(error))
    finally:
        _Worker.progress.put((os.getpid(), 1.0))


def _parameters(robot: str, head: TrainerRecording, settings: Settings) -> RetargetingParameters:
    said = recorded_settings(head)
    if settings.engage_mode != _RECORDED:
        said["engage_mode"] = settings.engage_mode
    if settings.deadman != _RECORDED:
        said["deadman"] = settings.deadman
    return RetargetingParameters(
        robot=robot,
        rate_hz=settings.rate_hz,
        mapping=settings.mapping,
        self_collision=settings.self_collision,
        branch_recovery=settings.branch_recovery,
        **said,
    )


# ---- in the main process


class _Bar:
    """One line on stderr: on a terminal it moves, else it is said anew every tenth."""

    def __init__(self, total: int) -> None:
        self._total = max(1, total)
        self._stream = sys.stderr
        self._terminal = self._stream.isatty()
        self._begun_s = time.monotonic()
        self._shown = ""

    def show(self, done: int, share: float, motion_s: float) -> None:
        whole = min(1.0, share / self._total)
        took_s = max(1e-3, time.monotonic() - self._begun_s)
        filled = int(_BAR_CELLS * whole)
        text = f"retargeting {done}/{self._total}"
        if self._terminal:
            left_s = took_s * (1.0 - whole) / whole if whole > 0.0 else 0.0
            bar = "#" * filled + "-" * (_BAR_CELLS - filled)
            text += f" [{bar}] {100 * whole:3.0f} %, {motion_s / took_s:.0f} x real time, {left_s:.0f} s left"
            if text != self._shown:
                self._stream.write(f"\r\x1b[K{text}")
        else:
            text = f"retargeting {10 * int(10 * whole)} %"
            if text != self._shown:
                self._stream.write(f"{text}\n")
        self._shown = text
        self._stream.flush()

    def close(self) -> None:
        if self._terminal and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def _jobs(robots: Sequence[str], files: Sequence[tuple[Path, bool]], workers: int) -> Iterator[Job]:
    """By blocks of files, in each every robot: so neither files nor robots are read over and over."""
    size = max(1, min(_MOST_FILES_AT_ONCE, -(-len(files) * len(robots) // (2 * workers))))
    for begin in range(0, len(files), size):
        block = files[begin : begin + size]
        for robot in robots:
            yield Job(robot, tuple(file for file, _ in block), tuple(named for _, named in block))


def _run(jobs: Sequence[Job], settings: Settings, workers: int) -> tuple[list[Outcome], bool]:
    """All outcomes, in the order of the jobs, and whether it was interrupted."""
    # One thread each: the cores are taken by processes.
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    context = multiprocessing.get_context("spawn")
    cancelled, progress = context.Event(), context.Queue()
    total = sum(len(job.files) for job in jobs)
    bar = _Bar(total)
    interrupted = False
    # Workers begin with what is ignored here: Ctrl-C must not reach them before they can tidy up.
    on_interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    with ProcessPoolExecutor(workers, context, _begin, (cancelled, progress)) as pool:
        futures = [pool.submit(_work, job, settings) for job in jobs]
        signal.signal(signal.SIGTERM, _raise_interrupt)
        signal.signal(signal.SIGINT, on_interrupt)
        try:
            _watch(futures, progress, bar)
        except KeyboardInterrupt:
            interrupted = True
            cancelled.set()
            # A second one must not keep the workers from tidying up.
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            bar.close()
            print("episodes: interrupting; what is half done is taken back", file=sys.stderr)
        outcomes = [
            outcome for job, future in zip(jobs, futures, strict=True) for outcome in _of(job, future)
        ]
    bar.close()
    return outcomes, interrupted


def _of(job: Job, future: Future[list[Outcome]]) -> list[Outcome]:
    try:
        return future.result()
    except BrokenProcessPool:
        reason = "a worker process was killed: too little memory?"
    return [Outcome(str(file), job.robot, "failed", reason=reason) for file in job.files]


def _watch(futures: Sequence[Future[list[Outcome]]], progress: Any, bar: _Bar) -> None:
    """Until all are ended, whatever way."""
    done = 0
    shares: dict[int, float] = {}
    while not all(future.done() for future in futures):
        until_s = time.monotonic() + _BAR_PERIOD_S
        while (left_s := until_s - time.monotonic()) > 0.0:
            try:
                worker, share = progress.get(timeout=left_s)
            except queue.Empty:
                break
            done += share >= 1.0
            shares[worker] = share % 1.0
        ended = [outcome for future in futures if future.done() for outcome in _quietly(future)]
        bar.show(done, done + sum(shares.values()), sum(outcome.motion_s for outcome in ended))


def _quietly(future: Future[list[Outcome]]) -> list[Outcome]:
    return [] if future.exception() is not None else future.result()


def _raise_interrupt(_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _find(paths: Sequence[Path]) -> list[tuple[Path, bool]]:
    """Files to read, and whether each was named itself. Raises `CaptureError` where a folder has none."""
    found: dict[Path, bool] = {}
    for path in paths:
        if not path.is_dir():
            found[path.absolute()] = True
            continue
        files = sorted(
            file
            for file in path.absolute().rglob("*.mcap")
            if not _PART.search(file.name)
            and not any(part.startswith(".") for part in file.relative_to(path.absolute()).parts)
        )
        if not files:
            raise CaptureError(f"{path} holds no episode (*.mcap)")
        for file in files:
            found.setdefault(file, False)
    return list(found.items())


def _robots(text: str) -> tuple[list[str], list[str]]:
    """Robots to make episodes of, and in words those that `all` leaves out. Raises `CaptureError`."""
    if text == "all":
        known = registered_robots(share_folder() / "robot_descriptions")
        return [robot.name for robot in known if robot.usable], [
            f"{robot.name}: {robot.state}" for robot in known if not robot.usable
        ]
    names = list(dict.fromkeys(name for name in text.split(",") if name))
    if not names:
        raise CaptureError("--robots: names separated by commas, or all, are expected")
    for name in names:
        robot_description_file(name)
    return names, []


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="episodes retarget",
        description="Have other robots follow the trainers of recorded episodes, offline: one episode per "
        "file and robot, <out>/<robot>/<skill>/<date>/<id>.mcap. What is there already is not made again.",
        epilog="Exit code: 0 all well, 2 a file, robot or argument cannot be used, 130 interrupted "
        "(start it again to go on).",
    )
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="an episode, or a folder of them")
    parser.add_argument("--robots", required=True, metavar="all|A,B", help="names, or paths of a robot.yaml")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="where the episodes go")
    parser.add_argument("--json", action="store_true", help="the outcomes as JSON")
    parser.add_argument("--jobs", type=int, default=0, metavar="N", help="processes (default: one a core)")
    parser.add_argument("--rate", type=float, default=200.0, metavar="HZ", help="of commands (default: 200)")
    modes = [mode.value for mode in DeadmanMode]
    parser.add_argument(
        "--deadman",
        choices=[_RECORDED, *modes],
        default=_RECORDED,
        help="what must be held in the recording for an arm to move (default: what it was recorded with)",
    )
    parser.add_argument(
        "--engage-mode",
        choices=[_RECORDED, *(mode.value for mode in EngageMode)],
        default=_RECORDED,
        help="(default: what it was recorded with)",
    )
    parser.add_argument("--mapping", default="", metavar="FILE", help="as config/mapping.yaml")
    parser.add_argument(
        "--self-collision",
        action=argparse.BooleanOptionalAction,
        default=RetargetingParameters.self_collision,
        help="keep the robot's links apart",
    )
    parser.add_argument(
        "--branch-recovery",
        action=argparse.BooleanOptionalAction,
        default=RetargetingParameters.branch_recovery,
        help="lead an arm out of a wrong branch once its target rests",
    )
    parser.add_argument(
        "--incomplete", action="store_true", help="also recordings that were cut off and recovered"
    )
    return parser


def _check(given: argparse.Namespace) -> Settings:
    settings = Settings(
        out=user_path(given.out).absolute(),
        rate_hz=given.rate,
        engage_mode=given.engage_mode,
        deadman=given.deadman,
        mapping=str(user_path(given.mapping).absolute()) if given.mapping else "",
        self_collision=given.self_collision,
        branch_recovery=given.branch_recovery,
        incomplete=given.incomplete,
    )
    if not 0 <= given.jobs <= 1024:
        raise CaptureError(f"--jobs {given.jobs}: 1..1024, or 0 for one a core, is expected")
    # Every problem of rate and mapping before anything starts.
    RetargetingParameters(rate_hz=given.rate, mapping=settings.mapping).retargeter_parameters()
    try:
        settings.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CaptureError(f"--out {given.out}: no folder can be made here: {error.strerror}") from error
    return settings


def _tell(outcomes: Sequence[Outcome], left_out: Sequence[str], took_s: float, as_json: bool) -> None:
    made = [outcome for outcome in outcomes if outcome.state == "made"]
    motion_s = sum(outcome.motion_s for outcome in made)
    computing_s = sum(outcome.took_s for outcome in made)
    if as_json:
        summary = {
            "schema_version": SCHEMA_VERSION,
            "took_s": round(took_s, 3),
            "motion_s": round(motion_s, 3),
            "times_real_time_per_core": round(motion_s / computing_s, 2) if computing_s else None,
            "robots_left_out": list(left_out),
            "outcomes": [asdict(outcome) for outcome in outcomes],
        }
        print(json.dumps(summary, indent=2, ensure_ascii=False))
        return
    for outcome in made:
        print(outcome.output)
    states = ("made", "done", "left_out", "failed")
    counts = {state: sum(outcome.state == state for outcome in outcomes) for state in states}
    words = [f"{counts['made']} made", f"{counts['done']} were done before", f"{counts['failed']} failed"]
    if counts["left_out"]:
        words.append(f"{counts['left_out']} left out (retargeted themselves)")
    if computing_s:
        words.append(f"{motion_s:.0f} s of motion, {motion_s / computing_s:.1f} x real time per core")
    print(f"episodes: {', '.join(words)}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    given = _parser().parse_args(argv)
    begun_s = time.monotonic()
    try:
        settings = _check(given)
        robots, left_out = _robots(given.robots)
        files = _find(given.files)
    except InvalidConfiguration as error:
        for problem in error.problems:
            print(f"episodes: error: {problem}", file=sys.stderr)
        return UNUSABLE
    except (CaptureError, RetargetingError) as error:
        print(f"episodes: error: {error}", file=sys.stderr)
        return UNUSABLE
    for words in left_out:
        print(f"episodes: left out: {words}", file=sys.stderr)
    workers = given.jobs or len(os.sched_getaffinity(0))
    jobs = list(_jobs(robots, files, workers))
    outcomes, interrupted = _run(jobs, settings, min(workers, len(jobs)))
    _tell(outcomes, left_out, time.monotonic() - begun_s, given.json)
    for outcome in outcomes:
        if outcome.state == "failed":
            print(f"episodes: error: {outcome.robot}: {outcome.reason}", file=sys.stderr)
    if interrupted:
        return INTERRUPTED
    return UNUSABLE if any(outcome.state == "failed" for outcome in outcomes) else OK


if __name__ == "__main__":
    sys.exit(main())
