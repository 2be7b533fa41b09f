"""Trainers' sizes on disk, one JSON file per operator, so that nobody is measured twice."""

from __future__ import annotations

import json
import os
import re
import tempfile
from pathlib import Path
from typing import Any

from retargeting.body_points import SIDES
from retargeting.errors import InvalidConfiguration, Problem, RetargetingError
from retargeting.trainer_size import TrainerSize

FORMAT_VERSION = 1
_OPERATOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_LARGEST_FILE_BYTES = 10_000
_LENGTHS = ("upper_arm_m", "forearm_m")
_HEIGHTS = ("shoulder_height_m", "shoulder_width_m")


class TrainerStore:
    """The sizes in `directory`, which is made on the first save."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def file(self, operator: str) -> Path:
        """Where an operator's size is kept. Raises `RetargetingError` on a name that is no file name."""
        if not _OPERATOR.fullmatch(operator):
            raise RetargetingError(
                f"operator {operator!r}: up to 64 letters, digits, '_', '-' and '.' are expected, "
                f"the first a letter or digit"
            )
        return self._directory / f"{operator}.json"

    def load(self, operator: str) -> TrainerSize | None:
        """The operator's size, None where none is kept.

        Raises `InvalidConfiguration` with every problem of a bad file and the way out; whoever starts a
        session tells it and measures anew.
        """
        file = self.file(operator)
        try:
            with file.open("rb") as stream:
                data = stream.read(_LARGEST_FILE_BYTES + 1)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise InvalidConfiguration([_problem(file, "file", f"cannot be read: {error}")]) from error
        return _decode(file, data)

    def save(self, operator: str, size: TrainerSize) -> Path:
        """Keep a size; the file is replaced whole, so that it is never half written. Its path.

        Raises `RetargetingError` where it cannot be written.
        """
        file = self.file(operator)
        content: dict[str, Any] = {"version": FORMAT_VERSION, "operator": operator}
        content |= {name: {side: float(getattr(size, name)[side]) for side in SIDES} for name in _LENGTHS}
        content |= {name: float(getattr(size, name)) for name in _HEIGHTS}
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._replace(file, json.dumps(content, indent=2) + "\n")
        except OSError as error:
            raise RetargetingError(f"{file}: the trainer's size cannot be kept: {error}") from error
        return file

    def _replace(self, file: Path, text: str) -> None:
        descriptor, name = tempfile.mkstemp(dir=self._directory, prefix=f".{file.stem}.", suffix=".new")
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise


def _problem(file: Path, key: str, message: str) -> Problem:
    return Problem(file, key, f"{message}; delete the file to have the trainer measured anew")


def _decode(file: Path, data: bytes) -> TrainerSize:
    if len(data) > _LARGEST_FILE_BYTES:
        raise InvalidConfiguration([_problem(file, "file", f"is over {_LARGEST_FILE_BYTES} bytes long")])
    try:
        content = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise InvalidConfiguration([_problem(file, "file", f"is no JSON: {error}")]) from error
    if not isinstance(content, dict):
        raise InvalidConfiguration([_problem(file, "file", f"an object is expected, not {content!r}")])
    version = content.get("version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        message = f"{version!r} is not known, {FORMAT_VERSION} is expected"
        raise InvalidConfiguration([_problem(file, "version", message)])
    problems: list[Problem] = []

    def metres(key: str, value: Any) -> float:
        # A number beyond a float's range would be an error of its own.
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0.0 < value < 10.0:
            problems.append(_problem(file, key, f"metres between 0 and 10 are expected, not {value!r}"))
            return 0.0
        return float(value)

    lengths: dict[str, dict[str, float]] = {}
    for name in _LENGTHS:
        given = content.get(name)
        given = given if isinstance(given, dict) else {}
        lengths[name] = {side: metres(f"{name}.{side}", given.get(side)) for side in SIDES}
    heights = {name: metres(name, content.get(name)) for name in _HEIGHTS}
    if not problems:
        try:
            return TrainerSize(lengths["upper_arm_m"], lengths["forearm_m"], **heights)
        except RetargetingError as error:
            problems.append(_problem(file, "file", str(error)))
    raise InvalidConfiguration(problems)
