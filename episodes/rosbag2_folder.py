"""An episode as the folder that `ros2 bag` takes: its files and the `metadata.yaml` that names them.

Episodes of a day share a folder, which `ros2 bag` does not. The files are linked, not copied, where the
target is on the same disk. `metadata.yaml` is put together from the record `rosbag2` of each file.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml
from mcap.exceptions import McapError
from mcap.reader import make_reader

from episodes.episode_files import ACTIVE_SUFFIX
from episodes.errors import EpisodeError
from retargeting.errors import InvalidConfiguration
from retargeting.yaml_file import parse_yaml

METADATA_NAME = "metadata.yaml"
RECORD = "rosbag2"
PARTS_RECORD = "parts"
_EPOCH, _LENGTH = "nanoseconds_since_epoch", "nanoseconds"


def episode_files(path: Path) -> tuple[Path, ...]:
    """All files of the episode that ``path`` is one of, in their order. Raises `EpisodeError`."""
    record = _records(path).get(PARTS_RECORD)
    if record is None:
        return (path,)
    try:
        names = [str(name) for name in json.loads(record["files"])]
    except (KeyError, ValueError, TypeError) as error:
        raise EpisodeError(path, f"its record {PARTS_RECORD!r} cannot be read: {error!r}") from error
    if path.name not in names or any(Path(name).name != name for name in names):
        raise EpisodeError(path, f"its record {PARTS_RECORD!r} names {names}, not files beside it")
    files = tuple(path.with_name(name) for name in names)
    for file in files:
        if not file.is_file():
            raise EpisodeError(path, f"{file.name} belongs to the episode and is not there")
    return files


def make_bag_folder(files: Sequence[Path], folder: Path) -> Path:
    """Make ``folder`` with these files, the parts of one episode, and its `metadata.yaml`; the folder.

    It is there whole or not at all. Raises `EpisodeError`; an existing folder is not touched.
    """
    text = metadata_text(files)
    if folder.exists():
        raise EpisodeError(folder, "exists already and is not overwritten")
    making = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        making.mkdir(parents=True)
        for file in files:
            _link(file, making / file.name)
        (making / METADATA_NAME).write_text(text, encoding="utf-8")
        making.rename(folder)
    except OSError as error:
        raise EpisodeError(folder, f"cannot be made: {error.strerror or error}") from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return folder


def metadata_text(files: Sequence[Path]) -> str:
    """The `metadata.yaml` of a folder with these files. Raises `EpisodeError` without those records."""
    return yaml.safe_dump(
        {"rosbag2_bagfile_information": _together([(file.name, _information(file)) for file in files])},
        sort_keys=False,
        width=1000,
        allow_unicode=True,
    )


def _link(file: Path, target: Path) -> None:
    """What a disk, or who owns the file, does not let be linked is copied."""
    try:
        os.link(file, target)
    except OSError:
        shutil.copy2(file, target)


def _records(path: Path) -> dict[str, dict[str, str]]:
    if path.name.endswith(ACTIVE_SUFFIX):
        raise EpisodeError(
            path, "is still being recorded, or was cut off: a recorder completes it at its start"
        )
    try:
        with path.open("rb") as stream:
            return {record.name: dict(record.metadata) for record in make_reader(stream).iter_metadata()}
    except OSError as error:
        raise EpisodeError(path, f"cannot be read: {error.strerror}") from error
    except (McapError, ValueError, EOFError, RuntimeError) as error:
        raise EpisodeError(path, f"is no complete MCAP file: {error or type(error).__name__}") from error


def _information(path: Path) -> dict[str, Any]:
    record = _records(path).get(RECORD)
    if record is None:
        raise EpisodeError(path, f"has no record {RECORD!r}: neither this recorder nor `ros2 bag` wrote it")
    found: Any = None
    with suppress(InvalidConfiguration, KeyError):
        found = parse_yaml(record["serialized_metadata"], path)
    try:
        _check(found)
    except (KeyError, TypeError) as error:
        raise EpisodeError(path, f"its record {RECORD!r} cannot be read: {error!r}") from error
    return dict(found)


def _check(information: Any) -> None:
    """Raises `KeyError` or `TypeError` where something is missing that is needed here."""
    for name, key in (("starting_time", _EPOCH), ("duration", _LENGTH)):
        int(information[name][key])
    int(information["message_count"])
    for topic in information["topics_with_message_count"]:
        str(topic["topic_metadata"]["name"])
        int(topic["message_count"])


def _together(parts: Sequence[tuple[str, Mapping[str, Any]]]) -> dict[str, Any]:
    """What the bag of all these files has; the rest is as in the first."""
    filled = [part for _, part in parts if part["message_count"]]
    first_ns = min((part["starting_time"][_EPOCH] for part in filled), default=0)
    last_ns = max(
        (part["starting_time"][_EPOCH] + part["duration"][_LENGTH] for part in filled), default=first_ns
    )
    topics: dict[str, dict[str, Any]] = {}
    for _, part in parts:
        for topic in part["topics_with_message_count"]:
            name = topic["topic_metadata"]["name"]
            if name in topics:
                topics[name]["message_count"] += topic["message_count"]
            else:
                topics[name] = dict(topic)
    return {
        **parts[0][1],
        "duration": {_LENGTH: last_ns - first_ns},
        "starting_time": {_EPOCH: first_ns},
        "message_count": sum(part["message_count"] for _, part in parts),
        "topics_with_message_count": list(topics.values()),
        "relative_file_paths": [name for name, _ in parts],
        "files": [
            {
                "path": name,
                "starting_time": dict(part["starting_time"]),
                "duration": dict(part["duration"]),
                "message_count": part["message_count"],
            }
            for name, part in parts
        ],
    }
