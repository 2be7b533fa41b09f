"""The recorder's benchmark: a load of four processes, and who takes it.

python -m benchmarks.recorder [--seconds 60] [--encoding h264] [--freeze 5] [--scale 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from benchmarks.recorder.load_plan import Histories
from benchmarks.recorder.report import draw, priority_table, run_table, thread_table, tick_table, topic_table
from benchmarks.recorder.runs import CONSUMERS, RunOptions, bag_is_installed, run
from capture_nodes.errors import CaptureError
from capture_nodes.topics import STREAM_HISTORY_S

_PACKAGES = ("ros-rclpy", "ros-fastdds", "ros-rmw-fastrtps-cpp", "mcap", "av", "numpy")


def say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def environment() -> dict[str, str]:
    found = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "kernel": platform.release(),
        "cores": str(len(os.sched_getaffinity(0))),
    }
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def _pairs(texts: list[str], option: str) -> dict[str, str]:
    """``NAME=VALUE`` texts. Raises `CaptureError` on another form."""
    pairs = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not name or not equals:
            raise CaptureError(f"{option} {text}: NAME=VALUE is expected")
        pairs[name] = value
    return pairs


def options_of(given: argparse.Namespace) -> RunOptions:
    """Raises `CaptureError` on values that cannot be used."""
    if given.seconds < 1.0:
        raise CaptureError(f"--seconds {given.seconds:g}: at least 1 is expected")
    if given.kill and (given.freeze or set(given.runs) - {"counting", "recorder"}):
        raise CaptureError("--kill is for --runs counting recorder, and without --freeze")
    if given.freeze and given.seconds < 2.0:
        raise CaptureError(f"--freeze needs --seconds of at least 2, {given.seconds:g} is given")
    return RunOptions(
        seconds=given.seconds,
        scale=given.scale,
        freeze_s=given.freeze,
        histories=Histories(
            streams_s=given.history_s,
            control_s=given.history_s if given.control_history_s is None else given.control_history_s,
            camera_mb=given.camera_history_mb,
        ),
        reader_history_s=given.reader_history_s,
        poll_s=given.poll_s,
        configuration={name: yaml.safe_load(value) for name, value in _pairs(given.set, "--set").items()},
        encoding=given.encoding,
        segment_mb=given.segment_mb,
        environment=_pairs(given.environment, "--environment"),
        real_time=given.real_time,
        kill=given.kill,
        profile=given.profile,
        domain=given.domain,
        root=given.root,
        keep=given.keep,
    )


def parser() -> argparse.ArgumentParser:
    result = argparse.ArgumentParser(
        prog="python -m benchmarks.recorder",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = result.add_argument
    add("--runs", nargs="+", choices=CONSUMERS, default=["counting", "recorder", "bag"], metavar="NAME")
    add("--rounds", type=int, default=1, metavar="N", help="of all runs, one after the other")
    add("--seconds", type=float, default=30.0, metavar="S", help="of the window that is measured")
    add("--scale", type=float, default=1.0, metavar="X", help="times the rates, times the cameras")
    add("--freeze", type=float, default=0.0, metavar="S", help="stop (SIGSTOP) the reader in the middle")
    add("--kill", action="store_true", help="kill (SIGKILL) it in the middle, and start another one")
    add("--encoding", default="", metavar="NAME", help="of the cameras: raw, h264, …; without it as shipped")
    add(
        "--set",
        nargs="+",
        default=[],
        metavar="KEY=VALUE",
        help="of recorder.yaml, such as file.chunk_kb=8192",
    )
    add("--history-s", type=float, default=STREAM_HISTORY_S, metavar="S", help="that the publishers keep")
    add("--control-history-s", type=float, metavar="S", help="that those of joints and commands keep")
    add("--camera-history-mb", type=float, default=16.0, metavar="MB", help="that a camera keeps at most")
    add("--reader-history-s", type=float, default=6.5, metavar="S", help="of the readers' queues")
    add(
        "--poll-s",
        type=float,
        metavar="S",
        help="pause between rounds; without it 0.005 to count, as shipped to record",
    )
    add(
        "--segment-mb",
        type=float,
        default=0.0,
        metavar="MB",
        help="shared memory; 0 as in fastdds_cameras.xml",
    )
    add("--environment", nargs="+", default=[], metavar="NAME=VALUE", help="for all processes")
    add("--no-real-time", dest="real_time", action="store_false", help="without real-time priorities")
    add("--profile", default="", metavar="THREAD", help="cProfile of a thread of the recorder (taking)")
    add("--domain", type=int, default=150, metavar="N", help="ROS domain of the runs")
    add("--root", type=Path, metavar="FOLDER", help="where files are recorded; a temporary folder in it")
    add("--keep", action="store_true", help="do not remove what was recorded")
    add("--json", type=Path, metavar="FILE")
    add("--figure", type=Path, metavar="FILE.png")
    return result


def main(arguments: list[str] | None = None) -> int:
    given = parser().parse_args(arguments)
    runs: list[dict[str, Any]] = []
    results = {
        "environment": environment(),
        "arguments": {name: str(value) for name, value in vars(given).items()},
        "runs": runs,
    }
    try:
        options = options_of(given)
        for _ in range(given.rounds):
            for consumer in given.runs:
                if consumer == "bag" and not bag_is_installed():
                    continue
                say(f"{consumer}, {options.seconds:g} s")
                runs.append(run(consumer, options))
                keep(results, given)
    except CaptureError as error:
        print(f"benchmark: error: {error}", file=sys.stderr)
        return 2
    show(runs, options)
    if "bag" in given.runs and not bag_is_installed():
        print("\nros2 bag record is not installed here")
    problems = [problem for found in runs for problem in found["problems"]]
    for problem in problems:
        print(f"does not add up: {problem}")
    expected_whole = options.scale <= 1.0 and not options.freeze_s
    incomplete = expected_whole and any(found["lost"] for found in runs)
    return int(bool(problems) or incomplete or any(control_blocked_s(found) for found in runs))


def control_blocked_s(found: dict[str, Any]) -> float:
    """How long a reader kept the commands from their next tick: whatever becomes of it, it must not."""
    figures = found["load"]["commands"]
    return float(sum(figures[when]["blocked_s"] for when in figures["measured"]))


def keep(results: dict[str, Any], given: argparse.Namespace) -> None:
    """Write what there is so far: a long run that is cut short has not been in vain."""
    if given.json:
        given.json.write_text(json.dumps(results, indent=1) + "\n")
    if given.figure and not given.kill:
        draw(given.figure, results["runs"])


def show(runs: list[dict[str, Any]], options: RunOptions) -> None:
    if not options.kill:
        print(run_table(runs))
        print("\ncores by thread")
        print(thread_table(runs))
    for found in runs:
        if options.kill:
            print(f"\n{found['consumer']} was killed; frozen: from then on")
        elif options.freeze_s or options.scale != 1.0 or found["lost"] or found["problems"]:
            print(f"\n{found['consumer']}: every topic, by its publisher's own count")
            print(topic_table(found))
            print()
            print(priority_table(found))
        print(f"\n{found['consumer']}: the publishers' ticks")
        print(tick_table(found))
        for part, figures in found["load"].items():
            if blocked_s := sum(figures[when]["blocked_s"] for when in figures["measured"]):
                print(f"{part}: blocked for {blocked_s:.2f} s in calls of publish that wait for a reader")


if __name__ == "__main__":
    sys.exit(main())
