"""`station calibrate`: a trainer is measured by poses that terminal and headset ask for.

No ROS and no robot: the source is opened here. What comes of it is kept with the operator's size, which the
next station of that operator takes (`trainer_folder`), and beside it as YAML with the residuals.
"""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import yaml

from capture_nodes.calibration_guide import CalibrationGuide
from capture_nodes.errors import CaptureError
from capture_nodes.resources import user_path
from capture_nodes.retargeting_parameters import TRAINER_FOLDER
from capture_nodes.sources.registry import LIVE_SOURCES, SourceOptions, live_source, open_source
from capture_nodes.stamp_clock import StampClock
from retargeting.calibration import INSTRUCTIONS, STEPS, Calibration, CalibrationResult, CalibrationStep
from retargeting.errors import RetargetingError
from retargeting.motion_frame import MotionFrame
from retargeting.trainer_store import TrainerStore

OK, REFUSED, BAD_ARGUMENTS, INTERRUPTED = 0, 1, 2, 130
FORMAT_VERSION = 1
_NAMES = (
    "operator",
    "source",
    "motion",
    "address",
    "peers",
    "skeleton",
    "scale",
    "up_axis",
    "trainer_folder",
)
_OTHER_WORDS = {"file": "motion"}
_WAIT_S, _HINT_EVERY_S = 0.2, 2.0
_PLAYED_HZ = 60.0
# Without a frame for this long there is nothing to wait for.
_SILENT_S = 60.0

USAGE = (
    "usage: station calibrate operator:=<name> source:=<name> [address:=…] [peers:=…] [skeleton:=…]\n"
    "                         [motion:=FILE] [scale:=…] [up_axis:=…] [trainer_folder:=…]\n\n"
    "Measures a trainer: stand, arms down, arms out, forward, pinch. Arguments are those of a station.\n\n"
    "exit code: 0 kept; 1 refused, with the reason; 2 an argument or file cannot be used; 130 interrupted"
)


@dataclass(frozen=True)
class CalibrateArguments:
    operator: str
    source: str
    options: SourceOptions
    folder: Path


def read_arguments(words: Sequence[str]) -> CalibrateArguments:
    """Raises `CaptureError` with every problem."""
    given: dict[str, str] = {}
    problems = []
    for word in words:
        name, separator, value = word.partition(":=")
        name = _OTHER_WORDS.get(name, name)
        if not separator or name not in _NAMES:
            problems.append(f"argument {word!r}: one of {', '.join(f'{n}:=…' for n in _NAMES)} is expected")
        elif name in given:
            problems.append(f"argument {name}: given twice")
        else:
            given[name] = value
    for name in ("operator", "source"):
        if not given.get(name):
            problems.append(f"{name}:=… is missing")
    scale = given.get("scale", "0")
    try:
        metres = float(scale)
    except ValueError:
        metres = 0.0
        problems.append(f"scale:={scale}: a number is expected")
    if problems:
        raise CaptureError("\n".join(problems))
    options = SourceOptions(
        motion=given.get("motion", ""),
        scale=metres,
        up_axis=given.get("up_axis", "auto"),
        address=given.get("address", ""),
        peers=given.get("peers", ""),
        skeleton=given.get("skeleton", ""),
    )
    folder = user_path(given.get("trainer_folder") or TRAINER_FOLDER)
    return CalibrateArguments(given["operator"], given["source"], options, folder)


def lead(calibration: Calibration, frames: Iterable[tuple[float, MotionFrame | None]]) -> Iterator[str]:
    """What to tell the trainer while `frames` (steady time, frame or None while none comes) come in."""
    step: CalibrationStep | None = None
    hint, told_s = "", -_HINT_EVERY_S
    for now_s, frame in frames:
        if calibration.step is not step and calibration.step is not None:
            step = calibration.step
            yield f"{STEPS.index(step) + 1}/{len(STEPS)}  {INSTRUCTIONS[step]}"
            hint = ""
        if frame is not None:
            calibration.observe(frame, now_s)
        if calibration.ended:
            return
        if calibration.hint != hint and now_s - told_s >= _HINT_EVERY_S:
            hint, told_s = calibration.hint, now_s
            if hint:
                yield f"     {hint}"


def calibration_yaml(arguments: CalibrateArguments, result: CalibrationResult, date: str) -> str:
    """The file beside the operator's size."""
    content = {
        "version": FORMAT_VERSION,
        "operator": arguments.operator,
        "date": date,
        "source": arguments.source,
        "upper_arm_m": _rounded(result.size.upper_arm_m),
        "forearm_m": _rounded(result.size.forearm_m),
        "bones_from": result.bones,
        "shoulder_height_m": round(result.size.shoulder_height_m, 4),
        "shoulder_width_m": round(result.size.shoulder_width_m, 4),
        "head_height_m": round(result.head_height_m, 4),
        "heading_rad": round(result.heading_rad, 4),
        "pinch_m": _rounded(result.pinch_m),
        "residuals_m": {side: _rounded(of_side) for side, of_side in result.residuals_m.items()},
    }
    return yaml.safe_dump(content, sort_keys=False)


def calibrate(words: Sequence[str]) -> int:
    """Run the command; returns its exit code."""
    if any(word in ("-h", "--help", "help") for word in words):
        print(USAGE)
        return OK
    guide = CalibrationGuide()
    with contextlib.ExitStack() as opened:
        try:
            arguments = read_arguments(words)
            store = TrainerStore(arguments.folder)
            file = store.file(arguments.operator).with_suffix(".calibration.yaml")
            calibration = Calibration()
            frames = opened.enter_context(contextlib.closing(_frames(arguments, guide)))
            for text in lead(calibration, _watched(frames, calibration, guide)):
                print(text, flush=True)
        except (CaptureError, RetargetingError) as error:
            for line in str(error).splitlines():
                print(f"station: error: {line}", file=sys.stderr)
            return BAD_ARGUMENTS
        except KeyboardInterrupt:
            print("station: interrupted; nothing was kept", file=sys.stderr)
            return INTERRUPTED
        kept, lines = _conclude(arguments, calibration, store, file)
        with contextlib.suppress(KeyboardInterrupt):
            guide.tell_outcome(kept, lines)
        return OK if kept else REFUSED


def _conclude(
    arguments: CalibrateArguments, calibration: Calibration, store: TrainerStore, file: Path
) -> tuple[bool, list[str]]:
    """Keep what came of it and print it, or the reason; whether it was kept, and what the trainer is told."""
    try:
        result = calibration.result()
        date = datetime.now(tz=timezone.utc).isoformat(timespec="seconds")
        kept = store.save(arguments.operator, result.size)
    except RetargetingError as error:
        print("station: the calibration is refused, nothing was kept:", file=sys.stderr)
        for line in str(error).splitlines():
            print(f"  {line}", file=sys.stderr)
        return False, str(error).splitlines()
    try:
        file.write_text(calibration_yaml(arguments, result, date), encoding="utf-8")
    except OSError as error:
        problem = f"{kept} is kept, but {file} is not: {error.strerror}"
        print(f"station: {problem}", file=sys.stderr)
        return False, [problem]
    lines = []
    for side, of_side in result.residuals_m.items():
        words_of = ", ".join(f"{step} {1e3 * value:.0f} mm" for step, value in of_side.items())
        length_m = result.size.arm_m(side)
        print(f"{side}: arm {length_m:.3f} m; residuals {words_of}")
        lines.append(f"{side} arm {100.0 * length_m:.1f} cm (± {1e3 * max(of_side.values()):.0f} mm)")
    print(f"kept in {kept} and {file}", flush=True)
    return True, lines


def _watched(
    frames: Iterable[tuple[float, MotionFrame | None]], calibration: Calibration, guide: CalibrationGuide
) -> Iterator[tuple[float, MotionFrame | None]]:
    """The frames; the guide looks after each was taken."""
    for now_s, frame in frames:
        yield now_s, frame
        guide.look(calibration, frame is not None)


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(float(value), 4) for name, value in values.items()}


def _frames(
    arguments: CalibrateArguments, guide: CalibrationGuide
) -> Generator[tuple[float, MotionFrame | None], None, None]:
    """Frames as they come, until none did for long. Raises `CaptureError`."""
    if arguments.source not in LIVE_SOURCES:
        played = open_source(arguments.source, arguments.options)
        with played:
            for k in range(round(played.duration_s * _PLAYED_HZ) + 1):
                # Nobody waits in a recording: it is taken as fast as it can be read.
                now_s = k / _PLAYED_HZ
                yield now_s, played.frame_at(now_s, 1 + round(now_s * 1e9))
        return
    source = live_source(arguments.source, arguments.options, StampClock(time.time_ns))
    with source:
        guide.wear(source)
        for key, text in source.report.items():
            print(f"{key}: {text}", flush=True)
        if arguments.source == "webxr":
            from capture_nodes.sources.webxr import DEFAULT_ADDRESS, WebxrParameters, pairing_text

            print(pairing_text(WebxrParameters(arguments.options.address or DEFAULT_ADDRESS)), flush=True)
        heard_s = time.monotonic()
        while time.monotonic() - heard_s < _SILENT_S:
            frame = source.wait_frame(_WAIT_S)
            if frame is not None:
                heard_s = time.monotonic()
            yield time.monotonic(), frame
    raise CaptureError(f"source:={arguments.source}: no motion for {_SILENT_S:g} s")
