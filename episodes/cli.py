"""The `episodes` command: info, check, table, picture, retarget and `ros2 bag` folder of episodes."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from episodes.bag import read_bag
from episodes.check import CHECKS, CheckOptions, EpisodeReport, check_episode, report_text
from episodes.episode_files import find_episodes
from episodes.errors import EpisodeError
from episodes.frames_check import FrameBounds
from episodes.info import info, info_text
from episodes.picture import draw_picture
from episodes.progress import ProgressLine
from episodes.rosbag2_folder import episode_files, make_bag_folder
from episodes.summary import summary, summary_text
from episodes.tracking_check import TrackingOptions

OK, FAILED, UNUSABLE = 0, 1, 2

# Verbs that are programs of their own: they write episodes, which is not the business of this package.
PROGRAMS = {"retarget": "capture_nodes.retarget_episodes"}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="episodes",
        description="Look into recorded episodes (MCAP files).",
        epilog="Exit code: 0 all well, 1 a check failed, 2 a file or argument cannot be used.",
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    def verb(
        name: str, text: str, run: Callable[[argparse.Namespace], int], what: str
    ) -> argparse.ArgumentParser:
        sub = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        sub.set_defaults(run=run)
        sub.add_argument("files", nargs="+", type=Path, metavar="FILE", help=what)
        if name != "bag":
            sub.add_argument(
                "--incomplete",
                action="store_true",
                help="read files that are cut off or still being recorded",
            )
        return sub

    either = "an episode file, or a folder of them"
    sub = verb("info", "show what a file holds", _info, either)
    sub.add_argument("--json", action="store_true", help="as JSON")

    for name, text, run in (
        ("check", "check streams, limits, frames, tracking and grasp; exit code 1 if one fails", _check),
        ("table", "one table over all episodes", _table),
    ):
        sub = verb(name, text, run, either)
        sub.add_argument("--json", action="store_true", help="as JSON")
        sub.add_argument(
            "--only",
            type=_names,
            default=CHECKS,
            metavar="CHECK,…",
            help=f"of {', '.join(CHECKS)} (default: all)",
        )
        sub.add_argument(
            "--rate", type=_rate, action="append", default=[], metavar="TOPIC=HZ",
            help="expected rate of a topic (* stands for any name); may be given several times",
        )  # fmt: skip
        sub.add_argument(
            "--goal",
            type=float,
            nargs=3,
            metavar=("X", "Y", "Z"),
            help="where the object belongs at the end, in m",
        )
        sub.add_argument(
            "--reachable", choices=("pose", "position"), default="pose",
            help="tracking is judged on targets reachable within 5 mm and 1 degree (pose) or 5 mm (position)",
        )  # fmt: skip
        sub.add_argument(
            "--frame-step", type=int, default=1, metavar="N", help="tracking: look at every N-th frame only"
        )
        sub.add_argument(
            "--frame-edge", type=float, default=FrameBounds().edge_s, metavar="S",
            help="frames: forgive messages this long outside the recorded transforms (default %(default)s s)",
        )  # fmt: skip

    sub = verb("picture", "draw a PNG of each episode", _picture, either)
    sub.add_argument(
        "--output", type=Path, metavar="PATH",
        help="file (one episode) or folder to write to (default: beside each episode)",
    )  # fmt: skip
    sub = verb("bag", "make a folder of each episode that `ros2 bag info` and `play` take", _bag, either)
    sub.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="where the folders, named by episode, are made"
    )
    text = "have other robots follow the trainers of episodes (episodes retarget --help)"
    verbs.add_parser("retarget", help=text, add_help=False)
    return parser


def _names(text: str) -> tuple[str, ...]:
    names = tuple(name for name in text.split(",") if name)
    unknown = [name for name in names if name not in CHECKS]
    if unknown or not names:
        raise argparse.ArgumentTypeError(
            f"unknown check {', '.join(unknown) or text!r}; there are {', '.join(CHECKS)}"
        )
    return names


def _rate(text: str) -> tuple[str, float]:
    topic, _, value = text.rpartition("=")
    try:
        rate = float(value)
    except ValueError:
        rate = 0.0
    if not topic or not rate > 0.0:
        raise argparse.ArgumentTypeError(f"{text!r} is not TOPIC=HZ with a rate above 0")
    return topic, rate


def _files(arguments: argparse.Namespace) -> list[Path]:
    return [file for path in arguments.files for file in find_episodes(path)]


def _each(
    arguments: argparse.Namespace, label: str, work: Callable[[Path, ProgressLine], Any]
) -> tuple[list[Any], bool]:
    """Results of the files that can be used, and whether all could; the others are named on stderr."""
    results = []
    whole = True
    files = _files(arguments)
    for number, path in enumerate(files, 1):
        line = ProgressLine(f"{label} {number}/{len(files)} {path.name}")
        try:
            results.append(work(path, line))
        except EpisodeError as error:
            line.close()
            print(f"episodes: error: {error}", file=sys.stderr)
            whole = False
        finally:
            line.close()
    return results, whole


def _print_json(content: Any) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False))


def _info(arguments: argparse.Namespace) -> int:
    bags, whole = _each(
        arguments,
        "reading",
        lambda path, line: read_bag(
            path, payloads=False, allow_incomplete=arguments.incomplete, progress=line
        ),
    )
    if arguments.json:
        _print_json([info(bag) for bag in bags])
    elif bags:
        print("\n\n".join(info_text(bag) for bag in bags))
    return OK if whole else UNUSABLE


def _options(arguments: argparse.Namespace) -> CheckOptions:
    return CheckOptions(
        checks=arguments.only,
        rates_hz=dict(arguments.rate),
        goal_m=None if arguments.goal is None else (arguments.goal[0], arguments.goal[1], arguments.goal[2]),
        tracking=TrackingOptions(reachable=arguments.reachable, frame_step=arguments.frame_step),
        frames=FrameBounds(edge_s=arguments.frame_edge),
        allow_incomplete=arguments.incomplete,
    )


def _check(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    reports: list[EpisodeReport]
    reports, whole = _each(arguments, "checking", lambda path, line: check_episode(path, options, line))
    if arguments.json:
        _print_json([report.as_json() for report in reports])
    else:
        for report in reports:
            print(report_text(report))
        if len(reports) > 1:
            passed = sum(report.passed for report in reports)
            print(f"\n{passed} of {len(reports)} episodes passed")
    if not whole:
        return UNUSABLE
    return OK if all(report.passed for report in reports) else FAILED


def _table(arguments: argparse.Namespace) -> int:
    options = _options(arguments)
    # Only the rows are kept: a folder may hold more than fits into memory.
    rows, whole = _each(arguments, "checking", lambda path, line: summary(check_episode(path, options, line)))
    if arguments.json:
        _print_json(rows)
    elif rows:
        print(summary_text(rows))
    return OK if whole else UNUSABLE


def _picture(arguments: argparse.Namespace) -> int:
    output: Path | None = arguments.output
    files = _files(arguments)
    to_folder = output is not None and (output.is_dir() or len(files) > 1 or output.suffix.lower() != ".png")
    if to_folder and output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise EpisodeError(output, f"no folder can be made here: {error.strerror}") from error

    def work(path: Path, line: ProgressLine) -> Path:
        bag = read_bag(path, allow_incomplete=arguments.incomplete, progress=lambda share: line(0.5 * share))
        target = output
        if to_folder and output is not None:
            target = output / f"{path.name.removesuffix('.active').removesuffix('.mcap')}.png"
        drawn = draw_picture(bag, target)
        line(1.0)
        return drawn

    drawn, whole = _each(arguments, "drawing", work)
    for path in drawn:
        print(path)
    return OK if whole else UNUSABLE


def _bag(arguments: argparse.Namespace) -> int:
    done: set[Path] = set()

    def work(path: Path, line: ProgressLine) -> Path | None:
        if path.absolute() in done:
            return None
        files = episode_files(path)
        done.update(file.absolute() for file in files)
        return make_bag_folder(files, arguments.out / files[0].stem)

    folders, whole = _each(arguments, "linking", work)
    for folder in folders:
        if folder is not None:
            print(folder)
    return OK if whole else UNUSABLE


def _become(program: str, words: Sequence[str]) -> int:
    """Go on as another program of this Python; returns only where it is not installed."""
    try:
        found = importlib.util.find_spec(program) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        print(f"episodes: error: {program} is not installed here", file=sys.stderr)
        return UNUSABLE
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, "-m", program, *words])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if words and words[0] in PROGRAMS:
        return _become(PROGRAMS[words[0]], words[1:])
    parsed = _parser().parse_args(words)
    try:
        code: int = parsed.run(parsed)
    except EpisodeError as error:
        print(f"episodes: error: {error}", file=sys.stderr)
        return UNUSABLE
    except BrokenPipeError:
        # The reader (less, head) has seen enough.
        sys.stderr.close()
        return OK
    except KeyboardInterrupt:
        print("episodes: interrupted", file=sys.stderr)
        return 130
    return code


if __name__ == "__main__":
    raise SystemExit(main())
