"""`onboard FILE.urdf [--name N]`: write a robot.yaml, test it, draw it, say what is sure."""

from __future__ import annotations

import argparse
import dataclasses
import os
import re
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from retargeting.errors import InvalidConfiguration, Problem, RetargetingError
from retargeting.onboarding.body import Body, infer_body
from retargeting.onboarding.picture import draw_body
from retargeting.onboarding.report import Report, problem_text
from retargeting.onboarding.robot_yaml_writer import robot_yaml
from retargeting.onboarding.self_test import Motion, SelfTest, run_self_test
from retargeting.onboarding.urdf_origin import UrdfOrigin, find_origin
from retargeting.robot_description import name_problem
from retargeting.robot_model import RobotModel, load_robot
from retargeting.urdf import Urdf, load_urdf

# A motion file to its motion and its length in s; raises `RetargetingError` or `OSError`.
MotionReader = Callable[[Path], tuple[Motion, float]]

FINE, FOLLOWS_BADLY, CANNOT = 0, 1, 2


def robot_name(urdf: Urdf) -> str:
    """A name that can be a topic and a folder, from the file's own, or the robot's."""
    for text in (urdf.path.stem, urdf.name):
        name = re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_").lower()
        if name and not name_problem(name) and name not in ("model", "robot"):
            return name
    return "robot"


def relative_origin(origin: UrdfOrigin, folder: Path) -> UrdfOrigin:
    """A file of one's own is named relative to the folder of its robot.yaml."""
    if origin.package:
        return origin
    file = os.path.relpath(Path(origin.file).resolve(), folder.resolve())
    return dataclasses.replace(origin, file=file)


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="onboard",
        description="Describe a robot from its URDF: which way it faces, arms, hands, waist and head.",
        epilog="exit codes: 0 it works; 1 the file is written but the self-test found problems; 2 it cannot",
    )
    parser.add_argument("urdf", type=Path, metavar="FILE.urdf")
    parser.add_argument("--name", help="of the robot (default: from the file's name)")
    parser.add_argument(
        "--folder",
        type=Path,
        default=Path("robot_descriptions"),
        help="where the robot's own folder goes (default: %(default)s)",
    )
    parser.add_argument(
        "--package-path",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="a folder that holds packages, or is one, for package:// and $(find …); written to robot.yaml",
    )
    parser.add_argument(
        "--xacro",
        action="append",
        default=[],
        metavar="NAME:=VALUE",
        help="an argument of a xacro file; written to robot.yaml",
    )
    parser.add_argument("--force", action="store_true", help="overwrite an existing robot.yaml")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--motion",
        type=Path,
        action="append",
        default=[],
        metavar="FILE|FOLDER",
        help="recorded motions (.bvh) for the self-test, besides the synthetic one",
    )
    parser.add_argument("--picture", type=Path, help="where the PNG goes (default: beside robot.yaml)")
    parser.add_argument("--no-picture", action="store_true", help="draw nothing")
    parser.add_argument("--no-self-test", action="store_true", help="follow no motion")
    return parser.parse_args(argv)


def xacro_arguments(given: Sequence[str]) -> dict[str, str]:
    """`NAME:=VALUE` (or `NAME=VALUE`) as a mapping. Raises `RetargetingError` for anything else."""
    found = {}
    for text in given:
        name, equals, value = text.partition(":=" if ":=" in text else "=")
        if not equals or not name.strip():
            raise RetargetingError(f"--xacro: {text!r} is not of the form NAME:=VALUE")
        found[name.strip()] = value
    return found


def _folders(given: Sequence[Path]) -> tuple[Path, ...]:
    for folder in given:
        if not folder.is_dir():
            raise RetargetingError(f"--package-path: {folder} is no folder")
    return tuple(folder.resolve() for folder in given)


def _sentence(error: Exception) -> str:
    """A single problem without a heading."""
    if isinstance(error, InvalidConfiguration) and len(error.problems) == 1:
        return str(error.problems[0])
    return str(error)


def _motion_files(given: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in given:
        files += sorted(path.glob("*.bvh")) if path.is_dir() else [path]
    return files


def _write(text: str, file: Path) -> RobotModel:
    """The robot of a file that loads, written whole; where it does not load all is left as it was."""
    made = [folder for folder in (file.parent, *file.parent.parents) if not folder.exists()]
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=file.parent, prefix=".robot.yaml.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        Path(temporary).chmod(0o644)
        model = load_robot(Path(temporary))
        Path(temporary).replace(file)
    except BaseException as error:
        Path(temporary).unlink(missing_ok=True)
        for folder in made:
            folder.rmdir()
        if isinstance(error, InvalidConfiguration):
            raise InvalidConfiguration(
                [_named(problem, Path(temporary), file) for problem in error.problems]
            ) from error
        raise
    return dataclasses.replace(model, description=dataclasses.replace(model.description, file=file))


def _named(problem: Problem, written: Path, file: Path) -> Problem:
    return dataclasses.replace(problem, file=file) if problem.file == written else problem


def onboard(
    urdf_file: Path,
    name: str | None,
    folder: Path,
    *,
    force: bool = False,
    motions: dict[str, tuple[Motion, float]] | None = None,
    picture: Path | None = None,
    draw: bool = True,
    self_test: bool = True,
    package_paths: tuple[Path, ...] = (),
    arguments: Mapping[str, str] | None = None,
) -> Report:
    """Infer, write what loads, test, draw. Raises `RetargetingError` where it cannot.

    `package_paths`: folders that hold packages, absolute; `arguments`: a xacro file's.
    """
    urdf = load_urdf(urdf_file, (*package_paths, *urdf_file.resolve().parents), arguments)
    name = name or robot_name(urdf)
    if problem := name_problem(name):
        raise RetargetingError(f"--name: {problem}")
    file = folder / name / "robot.yaml"
    if file.exists() and not force:
        raise RetargetingError(f"{file} exists and is not overwritten; use --force, or another --name")
    body: Body = infer_body(urdf)
    origin = relative_origin(find_origin(urdf_file), file.parent)
    origin = dataclasses.replace(origin, package_paths=package_paths, xacro_arguments=dict(arguments or {}))
    model = _write(robot_yaml(name, body, origin), file)
    test: SelfTest | None = run_self_test(model, motions or {}) if self_test else None
    drawn: Path | None = None
    if draw:
        drawn = picture or file.parent / "onboard.png"
        drawn.parent.mkdir(parents=True, exist_ok=True)
        unsure = sum(not finding.sure for finding in body.findings)
        draw_body(body, f"{name} ({urdf_file.name}), {unsure} of {len(body.findings)} findings unsure", drawn)
    return Report(name, file, drawn, body, urdf.warning_lines(), test)


def run(argv: Sequence[str] | None, read_motion: MotionReader) -> int:
    """The command; `read_motion` reads a file of `--motion`. Returns the exit code."""
    arguments = _arguments(argv)
    try:
        motions = {path.stem: read_motion(path) for path in _motion_files(arguments.motion)}
        report = onboard(
            arguments.urdf,
            arguments.name,
            arguments.folder,
            force=arguments.force,
            motions=motions,
            picture=arguments.picture,
            draw=not arguments.no_picture,
            self_test=not arguments.no_self_test,
            package_paths=_folders(arguments.package_path),
            arguments=xacro_arguments(arguments.xacro),
        )
    except (RetargetingError, OSError) as error:
        print(f"onboard: error: {_sentence(error)}", file=sys.stderr)
        return CANNOT
    print(report.json() if arguments.json else report.text())
    if report.problems:
        print(f"onboard: {problem_text(report.problems)}", file=sys.stderr)
        return FOLLOWS_BADLY
    return FINE
