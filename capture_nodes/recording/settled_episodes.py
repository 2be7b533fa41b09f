"""Settles what a kill left after a file got its name: missing sidecars, moves to the trash."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import DISCARDED
from capture_nodes.recording.episode_words import write_recovered_sidecar
from capture_nodes.recording.mcap_file import ACTIVE_SUFFIX
from capture_nodes.recording.recordings_folder import TRASH, move_to_trash
from capture_nodes.recording.sidecar import read_sidecar, sidecar_path

# A kill leaves one or two, and the newest: older ones were settled by an earlier start.
LOOKED_AT = 2000


def settle_all(
    root: Path,
    report: Callable[[str], object],
    before_ns: int,
    should_stop: Callable[[], bool] = lambda: False,
    limit: int = LOOKED_AT,
) -> list[Path]:
    """Write missing sidecars and move what is said to be discarded to the trash; the files it did that for.

    The newest ``limit`` episodes under ``root`` are looked at, those that are older than ``before_ns``: what
    is being completed meanwhile is not touched. Each outcome goes to ``report`` in one line.
    """
    settled = []
    for number, path in enumerate(_newest(root)):
        if number >= limit or should_stop():
            break
        try:
            if path.stat().st_mtime_ns < before_ns and _settle(root, path, report):
                settled.append(path)
        except (CaptureError, OSError) as error:
            report(f"{path} is left as it is: {error}")
    return settled


def _newest(root: Path) -> Iterator[Path]:
    """Complete episodes, newest day first; their names are ordered by time."""
    days = sorted(root.glob("*/*/*"), key=lambda day: day.name, reverse=True)
    for day in days:
        if day.relative_to(root).parts[0] == TRASH:
            continue
        for path in sorted(day.glob("*.mcap"), reverse=True):
            if ".part" not in path.name:
                yield path


def _settle(root: Path, path: Path, report: Callable[[str], object]) -> bool:
    if any(path.parent.glob(f"{path.stem}.*{ACTIVE_SUFFIX}")):
        # A part of it is still to be recovered.
        return False
    beside = sidecar_path(path)
    if not (root / TRASH / beside.relative_to(root)).exists():
        said = read_sidecar(beside)
        missing = said is None or not said.files
        if missing:
            write_recovered_sidecar(path)
            said = read_sidecar(beside)
            report(f"wrote {beside}, which was missing")
        if said is None or said.word.verdict != DISCARDED:
            return missing
    # Discarded, or half moved already: its sidecar is there.
    report(f"moved {path}, which was discarded, to {move_to_trash(root, path)}")
    return True
