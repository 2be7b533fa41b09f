"""Where the package's data files are: in a checkout, an installed wheel or a colcon install."""

from __future__ import annotations

import difflib
import os
from functools import cache
from pathlib import Path

from capture_nodes.errors import CaptureError

PACKAGE = "teleop_capture"


def user_folder() -> Path:
    """Where what belongs to this installation and user is kept; not made by asking."""
    return Path(os.environ.get("XDG_DATA_HOME") or "~/.local/share").expanduser() / PACKAGE


def user_path(path: str | Path) -> Path:
    """A path with `~` written out; raises `CaptureError` where it begins with nobody's name."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise CaptureError(f"{path}: there is no user {str(path).split('/')[0][1:]!r} here") from error


@cache
def share_folder() -> Path:
    """The folder that holds `config/`, `robot_descriptions/` and `launch/`, never written to."""
    here = Path(__file__).resolve()
    candidates = [here.parents[1], *(parent / "share" / PACKAGE for parent in here.parents)]
    for folder in candidates:
        if (folder / "robot_descriptions").is_dir() and (folder / "config").is_dir():
            return folder
    raise CaptureError(
        f"the data files of {PACKAGE} (config/, robot_descriptions/) were not found above {here}; "
        f"install the package again"
    )


def config_file(name: str) -> Path:
    """A file of `config/`; raises `CaptureError` naming what is there."""
    path = share_folder() / "config" / name
    if not path.is_file():
        known = ", ".join(sorted(entry.name for entry in path.parent.iterdir()))
        raise CaptureError(f"no configuration file {name!r}; there are: {known}")
    return path


def scene_file(path: str) -> Path:
    """The scene file at `path`, or `config/scene.yaml` where that is empty."""
    return user_path(path) if path else config_file("scene.yaml")


def known_robots() -> list[str]:
    """Names of all robots that ship with the package."""
    folder = share_folder() / "robot_descriptions"
    return sorted(entry.parent.name for entry in folder.glob("*/robot.yaml"))


def robot_description_file(robot: str) -> Path:
    """The `robot.yaml` of a known robot, or of a path to one; raises `CaptureError` with the choices."""
    path = Path(robot)
    if path.suffix in (".yaml", ".yml") or len(path.parts) > 1:
        if path.is_dir():
            path = path / "robot.yaml"
        if not path.is_file():
            raise CaptureError(f"robot:={robot}: there is no such file")
        return path.resolve()
    names = known_robots()
    if robot not in names:
        near = difflib.get_close_matches(robot, names, n=1)
        hint = f" Did you mean {near[0]!r}?" if near else ""
        raise CaptureError(
            f"unknown robot {robot!r}.{hint} Known robots: {', '.join(names)}; or give a path to a robot.yaml"
        )
    return share_folder() / "robot_descriptions" / robot / "robot.yaml"
