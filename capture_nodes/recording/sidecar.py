"""``<id>.json`` beside an episode's file: its SHA-256, size and `episode` record, and the later words on it.

The file itself never changes once it has its name; a verdict that comes later is written here, and what it
replaced stays in `history`. A sidecar is written whole or not at all (temporary file, fsync, rename).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import DISCARDED, VERDICTS
from capture_nodes.recording.mcap_file import sync_folder

SIDECAR_VERSION = 1
_PIECE_BYTES = 1 << 20


class UnusableSidecar(CaptureError):
    """A file beside an episode that is not its sidecar; `problems` lists everything that is wrong with it."""

    def __init__(self, path: Path, problems: list[str]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(f"{path} is not the sidecar of an episode: {'; '.join(problems)}")


@dataclass(frozen=True)
class Word:
    """What was said of an episode, by whom, when (ns since 1970)."""

    verdict: str
    reason: str
    said_ns: int
    by: str = ""


@dataclass(frozen=True)
class PartFile:
    """One file of an episode, named without its folder; `sha256` in hexadecimal, "" where it is not known."""

    name: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Sidecar:
    """`files`: those of the episode, in their order; `episode`: the record as it stands in the file.

    `word` is the one that holds, `history` those before it, oldest first.
    """

    id: str
    files: tuple[PartFile, ...]
    episode: Mapping[str, str]
    word: Word
    history: tuple[Word, ...] = field(default=())

    def saying(self, word: Word) -> Sidecar:
        """The same with a later word. Raises `CaptureError` on a verdict there is none of."""
        allowed = (*VERDICTS, DISCARDED)
        if word.verdict not in allowed:
            names = ", ".join(repr(name) for name in allowed)
            raise CaptureError(f"verdict {word.verdict!r} is given; one of {names} is expected")
        return replace(self, word=word, history=(*self.history, self.word))


def sidecar_path(mcap: Path) -> Path:
    """``<id>.json`` beside ``<id>.mcap``."""
    return mcap.with_suffix(".json")


def sha256_of(path: Path) -> str:
    """Of a whole file, in hexadecimal. Raises `OSError`."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while piece := stream.read(_PIECE_BYTES):
            digest.update(piece)
    return digest.hexdigest()


def write_sidecar(path: Path, sidecar: Sidecar) -> None:
    """Write it whole or leave what was there. Raises `CaptureError` where the disk refuses."""
    content = {
        "sidecar_version": SIDECAR_VERSION,
        "id": sidecar.id,
        "files": [{"name": f.name, "size": f.size, "sha256": f.sha256} for f in sidecar.files],
        "episode": dict(sidecar.episode),
        **_spoken(sidecar.word),
        "history": [_spoken(word) for word in sidecar.history],
    }
    data = (json.dumps(content, indent=1, ensure_ascii=False) + "\n").encode("utf-8")
    # A name of its own for every writer: two of them at once must not mix.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        with suppress(OSError):
            # A disk that takes nothing does not let go of anything either.
            temporary.unlink(missing_ok=True)
        raise CaptureError(
            f"cannot write {path}: {error.strerror}; the episode itself is not touched"
        ) from error


def read_sidecar(path: Path) -> Sidecar | None:
    """The sidecar, None where there is none. Raises `UnusableSidecar` where it is foreign or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UnusableSidecar(path, [str(error.strerror)]) from error
    try:
        content = json.loads(data)
    except ValueError as error:
        raise UnusableSidecar(path, [f"no JSON: {error}"]) from error
    return _Parsed(path, content).sidecar()


def check_files(folder: Path, sidecar: Sidecar) -> list[str]:
    """What is wrong with the files a sidecar names, by size and, where known, SHA-256; empty if nothing."""
    problems = []
    for file in sidecar.files:
        path = folder / file.name
        try:
            size = path.stat().st_size
            if size != file.size:
                problems.append(f"{path} has {size} bytes, {file.size} were written")
            elif file.sha256 and sha256_of(path) != file.sha256:
                problems.append(f"{path} has another SHA-256 than was written")
        except OSError as error:
            problems.append(f"{path} cannot be read: {error.strerror}")
    return problems


def _spoken(word: Word) -> dict[str, Any]:
    return {"verdict": word.verdict, "reason": word.reason, "said_ns": word.said_ns, "by": word.by}


class _Parsed:
    """Takes the parsed JSON apart and remembers every problem."""

    def __init__(self, path: Path, content: Any) -> None:
        self._path = path
        self._content = content
        self._problems: list[str] = []

    def sidecar(self) -> Sidecar:
        content = self._content
        if not isinstance(content, dict):
            raise UnusableSidecar(self._path, ["an object is expected"])
        version = content.get("sidecar_version")
        if version != SIDECAR_VERSION:
            raise UnusableSidecar(
                self._path, [f"sidecar_version is {version!r}, {SIDECAR_VERSION} is expected"]
            )
        episode = content.get("episode")
        if not isinstance(episode, dict) or not all(isinstance(value, str) for value in episode.values()):
            self._problems.append("episode: an object of texts is expected")
            episode = {}
        found = Sidecar(
            id=self._get(content, "id", str, ""),
            files=tuple(
                PartFile(
                    self._get(f, "name", str, ""),
                    self._get(f, "size", int, 0),
                    self._get(f, "sha256", str, ""),
                )
                for f in self._objects("files")
            ),
            episode=episode,
            word=self._word(content),
            history=tuple(self._word(entry) for entry in self._objects("history")),
        )
        for file in found.files:
            if Path(file.name).name != file.name or not file.name:
                self._problems.append(f"files: {file.name!r} is not the name of a file beside this one")
        if self._problems:
            raise UnusableSidecar(self._path, self._problems)
        return found

    def _get(self, entry: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
        value = entry.get(key)
        if not isinstance(value, kind) or isinstance(value, bool):
            self._problems.append(f"{key} is {value!r}: {kind.__name__} is expected")
            return default
        return value

    def _objects(self, key: str) -> list[Mapping[str, Any]]:
        value = self._content.get(key)
        if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
            self._problems.append(f"{key}: a list of objects is expected")
            return []
        return value

    def _word(self, entry: Mapping[str, Any]) -> Word:
        return Word(
            self._get(entry, "verdict", str, ""),
            self._get(entry, "reason", str, ""),
            self._get(entry, "said_ns", int, 0),
            self._get(entry, "by", str, ""),
        )
