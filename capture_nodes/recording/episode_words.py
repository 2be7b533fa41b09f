"""What is said of an episode beside its file: the sidecar at its end, and every word that comes later."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.episode_record import EPISODE_RECORD
from capture_nodes.recording.mcap_reader import McapFile, MetadataRecord, UnreadableFile
from capture_nodes.recording.sidecar import (
    PartFile,
    Sidecar,
    Word,
    read_sidecar,
    sha256_of,
    sidecar_path,
    write_sidecar,
)


def write_episode_sidecar(path: Path, file: EpisodeParts, record: Mapping[str, str]) -> None:
    """Beside the completed episode ``path``. Raises `CaptureError` where the disk refuses."""
    files = tuple(PartFile(part.path.name, part.size, part.sha256) for part in file.parts)
    sidecar = Sidecar(record.get("id", path.stem), files, record, _word_of(record))
    write_sidecar(sidecar_path(path), sidecar)


def write_recovered_sidecar(path: Path) -> None:
    """Beside an episode whose file ``path``, or one of its parts, was recovered. Raises `CaptureError`."""
    first = path.with_name(f"{path.stem.split('.part')[0]}{path.suffix}")
    parts = sorted(first.parent.glob(f"{first.stem}.part*{first.suffix}"), key=lambda part: len(part.name))
    files = [file for file in (first, *parts) if file.exists()]
    try:
        record = _episode_record(path)
        # A later part that was cut off does not know what the first one does.
        records = [record, *(_episode_record(file) for file in files if file != path)]
        described = tuple(PartFile(each.name, each.stat().st_size, sha256_of(each)) for each in files)
    except OSError as error:
        raise CaptureError(f"no sidecar for {first}: {error.strerror}") from error
    except UnreadableFile as error:
        raise CaptureError(f"no sidecar for {first}: {error}") from error
    word = next((_word_of(said) for said in records if said.get("verdict")), _word_of(record))
    beside = sidecar_path(first)
    sidecar = Sidecar(record.get("id", first.stem), described, record, word)
    said = read_sidecar(beside)
    if said is not None:
        # It was spoken of before it could be completed, and what was said there is the later word.
        sidecar = replace(sidecar, word=said.word, history=said.history)
    write_sidecar(beside, sidecar)


def keep_word(path: Path, opening: Mapping[str, str], verdict: str, reason: str) -> None:
    """A word on an episode that its disk has ended: its sidecar has it until the file is recovered.

    Raises `CaptureError` where the disk refuses.
    """
    beside = sidecar_path(path)
    word = Word(verdict, reason, time.time_ns(), opening.get("operator", ""))
    said = read_sidecar(beside)
    first = Sidecar(opening.get("id", path.stem), (), opening, word)
    write_sidecar(beside, first if said is None else said.saying(word))


def _episode_record(path: Path) -> Mapping[str, str]:
    """Of a complete file, empty where it has none. Raises `OSError` and `UnreadableFile`."""
    with McapFile(path) as file:
        for place in file.summary().metadata:
            found = file.record_at(place)
            if isinstance(found, MetadataRecord) and found.name == EPISODE_RECORD:
                return found.values
    return {}


def _word_of(record: Mapping[str, str]) -> Word:
    return Word(
        record.get("verdict", ""), record.get("reason", ""), time.time_ns(), record.get("operator", "")
    )


def say_later(path: Path, verdict: str, reason: str) -> None:
    """A word on the completed episode ``path``; those before it stay in the sidecar's history.

    Raises `CaptureError` where there is no usable sidecar.
    """
    beside = sidecar_path(path)
    sidecar = read_sidecar(beside)
    if sidecar is None and path.exists():
        # The disk did not take it when the file was completed.
        write_recovered_sidecar(path)
        sidecar = read_sidecar(beside)
    if sidecar is None:
        raise CaptureError(f"{beside} is not there: the word {verdict!r} on {path.name} is not kept")
    word = Word(verdict, reason, time.time_ns(), sidecar.word.by)
    write_sidecar(beside, sidecar.saying(word))
