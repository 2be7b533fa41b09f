"""The folder that episodes are written under: is there room, and what was discarded."""

from __future__ import annotations

import shutil
import time
from contextlib import suppress
from pathlib import Path

from capture_nodes.recording.mcap_file import FileProblem, rename_without_overwriting

TRASH = ".trash"


def free_bytes(root: Path) -> int:
    """What the disk of ``root`` (which need not exist yet) has left. Raises `FileProblem`."""
    existing = root
    try:
        # A mount that has gone raises already where one only asks whether it is there.
        while not existing.exists() and existing != existing.parent:
            existing = existing.parent
        return shutil.disk_usage(existing).free
    except OSError as error:
        raise FileProblem(f"cannot look at the disk of {root}: {error.strerror}", root) from error


def check_free_space(root: Path, needed_bytes: float, why: str) -> None:
    """Raises `FileProblem` where the disk of ``root`` has less than ``needed_bytes`` left; ``why`` them."""
    free = free_bytes(root)
    if free < needed_bytes:
        raise FileProblem(
            f"the disk of {root} has {free / 1e6:.0f} MB left, {needed_bytes / 1e6:.0f} MB are needed "
            f"to start ({why}): free space or choose another folder with the parameter `root`",
            root,
        )


def move_to_trash(root: Path, path: Path) -> Path:
    """Where the discarded ``path`` lies then, with all parts and the sidecar. Raises `FileProblem`."""
    target = root / TRASH / path.relative_to(root)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for file in _files_of(path):
            rename_without_overwriting(file, target.with_name(file.name))
    except OSError as error:
        message = f"cannot move the discarded {path} to {target}: {error.strerror}"
        raise FileProblem(message, path) from error
    return target


def purge_trash(root: Path, keep_h: float) -> list[Path]:
    """Delete discarded episodes that were discarded over ``keep_h`` hours ago and return them."""
    limit_s = time.time() - keep_h * 3600.0
    removed = []
    for path in sorted((root / TRASH).glob("**/*.mcap")):
        # One that cannot be removed, or that somebody else removes just now, does not keep the others.
        with suppress(OSError):
            if _discarded_s(path) < limit_s:
                path.unlink()
                path.with_suffix(".json").unlink(missing_ok=True)
                removed.append(path)
    return removed


def _discarded_s(path: Path) -> float:
    """When it was moved here (its last change of name), which may be long after it was written."""
    found = path.stat()
    return max(found.st_mtime, found.st_ctime)


def _files_of(path: Path) -> list[Path]:
    """The files of the episode ``path``: further parts and the sidecar are moved before it."""
    parts = sorted(path.parent.glob(f"{path.stem}.part*{path.suffix}"))
    beside = path.with_suffix(".json")
    return [*parts, *([beside] if beside.exists() else []), path]
