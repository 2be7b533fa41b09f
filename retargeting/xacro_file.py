"""Expand xacro macros with the Python package `xacro`, which only files that use it need."""

from __future__ import annotations

import contextlib
import importlib
import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from retargeting.errors import InvalidConfiguration, Problem, RetargetingError
from retargeting.package_paths import PackagePaths

INSTALL = "pip install xacro"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


class _MissingPackage(RetargetingError):
    """A package that `$(find …)` asks for."""


def _reason(error: BaseException) -> str:
    """What went wrong, in one sentence: xacro wraps errors in errors and repeats their text."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, _MissingPackage):
            return str(cause)
        cause = cause.__cause__ or cause.__context__
    return " ".join(str(error).split()) or type(error).__name__


def uses_xacro(path: Path, root: ElementTree.Element) -> bool:
    """Whether macros are left in the file: by its name, or by an element of xacro's in it."""
    return path.suffix == ".xacro" or any(element.tag.startswith("xacro:") for element in root.iter())


def _package() -> Any:
    """The package `xacro`, or None; `xacrodoc` brings it along."""
    try:
        return importlib.import_module("xacro")
    except ImportError:
        return None


@contextlib.contextmanager
def _found_by(xacro: Any, packages: PackagePaths) -> Any:
    """`$(find …)` asks `packages`: xacro's own way needs a ROS installation."""

    def find(name: str) -> str:
        folder = packages.package(name)
        if folder is None:
            way_out = (
                "name the folder that holds it in robot.yaml's urdf.package_paths (onboard: --package-path)"
            )
            raise _MissingPackage(f"package {name!r} is not found; {way_out}")
        return str(folder)

    substitutions = importlib.import_module(f"{xacro.__name__}.substitution_args")
    names: dict[str, Any] = vars(substitutions)
    before = names["_eval_find"]
    expressions = names.get("_eval_dict", {})
    names["_eval_find"] = expressions["find"] = find
    try:
        yield
    finally:
        names["_eval_find"] = expressions["find"] = before


def expand_xacro(
    path: Path, packages: PackagePaths, arguments: Mapping[str, str] | None = None
) -> tuple[str, tuple[str, ...]]:
    """The URDF text that `path` expands to, and what `xacro` warned of.

    `arguments` are values for `<xacro:arg>`. Raises `InvalidConfiguration` naming the file that was
    being read, also where the package `xacro` is not installed.
    """
    xacro = _package()
    if xacro is None:
        message = f"the file uses xacro macros and the Python package xacro is not installed; {INSTALL}"
        raise InvalidConfiguration([Problem(path, "file", message)])
    said = io.StringIO()
    try:
        with _found_by(xacro, packages), contextlib.redirect_stderr(said):
            document = xacro.process_file(str(path), mappings=dict(arguments or {}))
        text = str(document.toprettyxml(indent="  "))
    # A macro is a program: whatever it raises is a fault of the file.
    except Exception as error:
        file = Path(next((name for name in reversed(getattr(xacro, "filestack", None) or []) if name), path))
        place = f"line {error.lineno}" if isinstance(error, ExpatError) else "file"
        raise InvalidConfiguration([Problem(file, place, f"cannot be expanded: {_reason(error)}")]) from error
    warnings = (_COLOUR.sub("", line).strip() for line in said.getvalue().splitlines())
    return text, tuple(line for line in warnings if line)
