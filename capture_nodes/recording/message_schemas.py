"""`ros2msg` schema texts: a message definition followed by everything it depends on.

The text is what `rosbag2` puts into an MCAP schema record: the `.msg` file of the type, then for every
type it uses, directly or not, a line of 80 ``=``, a line ``MSG: package/Type`` and that `.msg` file.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from capture_nodes.errors import CaptureError

SEPARATOR = "=" * 80

_PRIMITIVES = frozenset(
    (
        *("bool", "byte", "char", "string", "wstring", "float32", "float64"),
        *("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"),
    )
)
_TYPE_NAME = re.compile(r"^[a-zA-Z]\w*/msg/[a-zA-Z]\w*$")

# No wheel carries tf2_msgs and foxglove_msgs; the recorder writes /tf and video itself.
_BUILT_IN: Mapping[str, str] = {
    "tf2_msgs/msg/TFMessage": "geometry_msgs/TransformStamped[] transforms\n",
    "foxglove_msgs/msg/CompressedVideo": (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
    ),
}


class UnknownMessageType(CaptureError):
    """A message type whose definition is not installed."""

    def __init__(self, type_name: str, searched: Sequence[Path], needed_by: str = "") -> None:
        self.type_name = type_name
        self.searched = tuple(searched)
        places = ", ".join(str(path) for path in searched)
        reason = f" (used by {needed_by})" if needed_by else ""
        super().__init__(
            f"message type {type_name!r}{reason} is not installed: no share/<package>/msg/<Type>.msg "
            f"in {places}; install its package or leave the topic out of the recorder configuration"
        )


def ament_prefixes(environment: Mapping[str, str] | None = None) -> list[Path]:
    """The installation prefixes in search order: ``AMENT_PREFIX_PATH``, then this Python's own (wheels)."""
    value = (os.environ if environment is None else environment).get("AMENT_PREFIX_PATH", "")
    found = [Path(entry) for entry in value.split(os.pathsep) if entry]
    own = Path(sys.prefix)
    return found if own in found else [*found, own]


def schema_text(type_name: str, prefixes: Sequence[Path]) -> str:
    """The `ros2msg` schema of ``type_name`` (``package/msg/Type``) with all its dependencies.

    ``prefixes`` are folders that hold ``share/<package>/msg/<Type>.msg``. Raises `UnknownMessageType`
    where the type or one of its dependencies is not found.
    """
    parts: list[str] = []
    for name, text in _definitions(type_name, prefixes):
        if parts:
            package, _, short = name.split("/")
            parts.append(f"{SEPARATOR}\nMSG: {package}/{short}\n")
        parts.append(text if text.endswith("\n") else text + "\n")
    return "".join(parts)


def _definitions(type_name: str, prefixes: Sequence[Path]) -> Iterator[tuple[str, str]]:
    """Each type needed and its text, the asked one first, every type once, breadth first."""
    waiting = [(type_name, "")]
    seen = {type_name}
    while waiting:
        name, needed_by = waiting.pop(0)
        text = _definition(name, prefixes, needed_by)
        yield name, text
        for dependency in _dependencies(name, text):
            if dependency not in seen:
                seen.add(dependency)
                waiting.append((dependency, name))


def _definition(type_name: str, prefixes: Sequence[Path], needed_by: str) -> str:
    if not _TYPE_NAME.match(type_name):
        raise CaptureError(f"message type {type_name!r} is not of the form package/msg/Type")
    package, _, short = type_name.split("/")
    for prefix in prefixes:
        path = prefix / "share" / package / "msg" / f"{short}.msg"
        if path.is_file():
            return path.read_text(encoding="utf-8")
    if type_name in _BUILT_IN:
        return _BUILT_IN[type_name]
    raise UnknownMessageType(type_name, prefixes, needed_by)


def _dependencies(type_name: str, text: str) -> Iterator[str]:
    package = type_name.split("/")[0]
    for raw_line in text.splitlines():
        words = raw_line.split("#", 1)[0].split()
        if len(words) < 2:
            continue
        base = re.sub(r"\[.*?\]$", "", words[0]).split("<=", 1)[0]
        if base in _PRIMITIVES:
            continue
        pieces = base.split("/")
        if len(pieces) == 1:
            yield f"{package}/msg/{pieces[0]}"
        else:
            yield f"{pieces[0]}/msg/{pieces[-1]}"
