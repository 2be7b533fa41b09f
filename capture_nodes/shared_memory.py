"""Shared-memory files that DDS leaves behind when a process is killed, and their removal."""

from __future__ import annotations

import os
from pathlib import Path

_FOLDER = Path("/dev/shm")
_PREFIXES = ("fastdds_", "fastrtps_", "sem.fastdds_", "sem.fastrtps_")


def dds_files(folder: Path = _FOLDER) -> frozenset[Path]:
    """Shared-memory files of Fast DDS, of any process on this machine."""
    if not folder.is_dir():
        return frozenset()
    return frozenset(path for path in folder.iterdir() if path.name.startswith(_PREFIXES))


def remove_orphans(before: frozenset[Path], folder: Path = _FOLDER) -> list[Path]:
    """Remove files that are newer than `before`, ours, and neither open nor mapped in any live process.

    A file that another program is using is in its maps or descriptors and stays; so does one that
    belongs to another user, or was there before. Answers what was removed.
    """
    candidates = {path for path in dds_files(folder) - before if _is_ours(path)}
    # A port is two files and a semaphore: as long as one is in use the others are needed too.
    used = {_stem(path) for path in _used_files(folder)}
    removed = []
    for path in sorted(candidates):
        if _stem(path) not in used:
            path.unlink(missing_ok=True)
            removed.append(path)
    return removed


def _stem(path: Path) -> str:
    return path.name.removeprefix("sem.").removesuffix("_el").removesuffix("_mutex")


def _is_ours(path: Path) -> bool:
    try:
        return path.stat().st_uid == os.getuid()
    except FileNotFoundError:
        return False


def _used_files(folder: Path) -> set[Path]:
    """Files of `folder` that any process we may look into has mapped or open."""
    used: set[Path] = set()
    prefix = f"{folder}/"
    for process in Path("/proc").iterdir():
        if not process.name.isdecimal():
            continue
        try:
            for line in (process / "maps").read_text(errors="replace").splitlines():
                start = line.find(prefix)
                if start >= 0:
                    used.add(Path(line[start:].removesuffix(" (deleted)")))
            for descriptor in (process / "fd").iterdir():
                target = os.readlink(descriptor)
                if target.startswith(prefix):
                    used.add(Path(target.removesuffix(" (deleted)")))
        except OSError:
            # Ended meanwhile, or another user's, whose files we do not touch anyway.
            continue
    return used
