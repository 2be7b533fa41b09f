"""Reading a BVH file: the skeleton, its channels and every frame, or the line and the reason why not."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from capture_nodes.sources.source import SourceError
from retargeting.frames import Array

POSITION_CHANNELS = ("Xposition", "Yposition", "Zposition")
ROTATION_CHANNELS = ("Xrotation", "Yrotation", "Zrotation")
_CHANNELS = {channel.lower(): channel for channel in (*POSITION_CHANNELS, *ROTATION_CHANNELS)}
_COUNT = re.compile(r"frames\s*:\s*(\S+)\s*$", re.IGNORECASE)
_FRAME_TIME = re.compile(r"frame\s*time\s*:\s*(\S+)\s*$", re.IGNORECASE)
FRAMES, FRAME_TIME = "Frames:", "Frame Time:"
_LONGEST_FRAME_TIME_S = 10.0
# No body has more; what a stranger sends must not fill the memory.
MOST_JOINTS = 1000


class BvhError(SourceError):
    """A BVH file (or stream) that cannot be used: its name, the line (from 1) and the reason."""

    def __init__(self, path: Path | str, line: int, reason: str) -> None:
        self.path, self.line, self.reason = path, line, reason
        super().__init__(f"{path}, line {line}: {reason}")


@dataclass(frozen=True)
class BvhJoint:
    """A joint or an end site (`channels` empty, `is_end`), its offset in the file's unit."""

    name: str
    parent: int
    offset: tuple[float, float, float]
    channels: tuple[str, ...]
    first_channel: int
    is_end: bool
    # Where it stands makes no other joint of it.
    line: int = field(compare=False)


@dataclass(frozen=True)
class BvhFile:
    """A parsed file. Parents come before their children; `values` is ``(frames, channels)``, degrees
    and file units; rotations of a joint multiply in the order its channels are listed. `path` of a stream is
    its address.
    """

    path: Path | str
    joints: tuple[BvhJoint, ...]
    frame_time_s: float
    values: Array

    def children(self, joint: int) -> Iterator[int]:
        """Indices of the joints (and end sites) right below."""
        return (index for index, other in enumerate(self.joints) if other.parent == joint)


def read_bvh(path: Path) -> BvhFile:
    """Read and check a whole BVH file; raises `BvhError` (line, reason) or `SourceError` (no such file)."""
    try:
        text = path.read_bytes().decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise SourceError(f"motion:={path}: cannot be read: {error.strerror or error}") from error
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    while lines and not lines[-1].strip():
        lines.pop()
    motion = next((n for n, line in enumerate(lines) if line.strip().lower() == "motion"), None)
    if not lines or lines[0].strip().lower() != "hierarchy":
        found = repr(lines[0].strip()[:40]) if lines else "nothing"
        raise BvhError(path, 1, f"a BVH file starts with HIERARCHY; found {found}")
    if motion is None:
        raise BvhError(path, len(lines), "the file ends without a MOTION section")
    joints = read_hierarchy(path, lines[1:motion])
    frame_time_s, values = _read_motion(path, lines, motion + 1, sum(len(j.channels) for j in joints))
    return BvhFile(path, joints, frame_time_s, values)


def read_hierarchy(path: Path | str, lines: Sequence[str], first_line: int = 2) -> tuple[BvhJoint, ...]:
    """The joints of the lines between HIERARCHY and MOTION, the first of which is line `first_line`.

    Raises `BvhError`.
    """
    return _Header(path, lines, first_line).joints


def read_header_number(path: Path | str, line: int, text: str, what: str) -> float | None:
    """The number of a line `Frames: <n>` or `Frame Time: <s>`; None where it is another line.

    Raises `BvhError` where the number is none or out of bounds.
    """
    pattern = _COUNT if what == FRAMES else _FRAME_TIME
    found = pattern.match(text.strip())
    if found is None:
        return None
    value = _number(path, line, found.group(1), what)
    if what == FRAME_TIME and not 0.0 < value <= _LONGEST_FRAME_TIME_S:
        bounds = f"above 0 and at most {_LONGEST_FRAME_TIME_S:g} s is expected"
        raise BvhError(path, line, f"Frame Time: {value:g} s: {bounds}")
    return value


def read_frame(path: Path | str, line: int, tokens: Sequence[str], what: str) -> Array:
    """One frame's values as they stand. Raises `BvhError` on what is no number, or not finite."""
    try:
        row = np.array(tokens, dtype=np.float64)
    except ValueError:
        row = np.array([_number(path, line, token, what) for token in tokens])
    if not np.isfinite(row).all():
        column = int(np.flatnonzero(~np.isfinite(row))[0])
        raise BvhError(path, line, f"{what}: value {column + 1} is {tokens[column]!r}, not finite")
    return row


class _Header:
    """The HIERARCHY section as a stream of tokens that know their lines."""

    def __init__(self, path: Path | str, lines: Sequence[str], first_line: int) -> None:
        self._path = path
        self._tokens = [(n, token) for n, line in enumerate(lines, first_line) for token in _split(line)]
        self._end_line = len(lines) + first_line - 1
        self._position = 0
        self._channel_count = 0
        self._joints: list[BvhJoint] = []
        self._read()

    @property
    def joints(self) -> tuple[BvhJoint, ...]:
        return tuple(self._joints)

    def _next(self, expected: str) -> tuple[int, str]:
        if self._position == len(self._tokens):
            raise BvhError(self._path, self._end_line, f"the hierarchy ends where {expected} is expected")
        self._position += 1
        return self._tokens[self._position - 1]

    def _peek(self) -> str:
        return self._tokens[self._position][1].lower() if self._position < len(self._tokens) else ""

    def _require(self, word: str) -> int:
        line, token = self._next(word)
        if token.lower() != word.lower():
            raise BvhError(self._path, line, f"{word} is expected; found {token!r}")
        return line

    def _number(self, what: str) -> float:
        line, token = self._next(what)
        return _number(self._path, line, token, what)

    def _read(self) -> None:
        self._require("ROOT")
        open_joints: list[int] = [self._joint(-1, is_end=False)]
        while open_joints:
            line, token = self._next("JOINT, End Site or }")
            word = token.lower()
            if word == "}":
                open_joints.pop()
            elif self._joints[open_joints[-1]].is_end:
                raise BvhError(self._path, line, f"an End Site holds nothing but its OFFSET; found {token!r}")
            elif word == "joint":
                open_joints.append(self._joint(open_joints[-1], is_end=False))
            elif word == "end":
                self._require("Site")
                open_joints.append(self._joint(open_joints[-1], is_end=True))
            else:
                raise BvhError(self._path, line, f"JOINT, End Site or }} is expected; found {token!r}")
        if self._position < len(self._tokens):
            line, token = self._tokens[self._position]
            reason = (
                "a second ROOT: one skeleton per file can be read"
                if token.lower() == "root"
                else f"MOTION is expected after the skeleton; found {token!r}"
            )
            raise BvhError(self._path, line, reason)

    def _joint(self, parent: int, *, is_end: bool) -> int:
        line = self._tokens[self._position - 1][0]
        words = []
        while self._peek() not in ("{", ""):
            words.append(self._next("{")[1])
        self._require("{")
        if len(self._joints) >= MOST_JOINTS:
            raise BvhError(self._path, line, f"more than {MOST_JOINTS} joints and end sites")
        if not words and not is_end:
            raise BvhError(self._path, line, "a joint has no name")
        name = f"{self._joints[parent].name} (end)" if is_end else " ".join(words)
        self._require("OFFSET")
        x, y, z = (self._number(f"{name}: OFFSET {axis}") for axis in "xyz")
        channels = () if is_end else self._channels(name)
        self._joints.append(BvhJoint(name, parent, (x, y, z), channels, self._channel_count, is_end, line))
        self._channel_count += len(channels)
        return len(self._joints) - 1

    def _channels(self, name: str) -> tuple[str, ...]:
        line = self._require("CHANNELS")
        count = self._number(f"{name}: the number of CHANNELS")
        if not 0 <= count <= len(_CHANNELS) or count != int(count):
            raise BvhError(self._path, line, f"{name}: CHANNELS {count:g}: a whole number 0..6 is expected")
        channels: list[str] = []
        for _ in range(int(count)):
            line, token = self._next(f"a channel of {name}")
            channel = _CHANNELS.get(token.lower())
            if channel is None:
                known = ", ".join(_CHANNELS.values())
                raise BvhError(self._path, line, f"{name}: unknown channel {token!r}; known: {known}")
            if channel in channels:
                raise BvhError(self._path, line, f"{name}: channel {channel} is listed twice")
            channels.append(channel)
        return tuple(channels)


def _split(line: str) -> list[str]:
    return line.replace("{", " { ").replace("}", " } ").split()


def _number(path: Path | str, line: int, token: str, what: str) -> float:
    try:
        value = float(token)
    except ValueError:
        hint = " (a decimal comma?)" if "," in token else ""
        raise BvhError(path, line, f"{what}: {token!r} is not a number{hint}") from None
    if not math.isfinite(value):
        raise BvhError(path, line, f"{what}: {token!r} is not finite")
    return value


def _read_motion(path: Path, lines: list[str], start: int, channels: int) -> tuple[float, Array]:
    def header(index: int, pattern: re.Pattern[str], what: str) -> tuple[int, float]:
        while index < len(lines) and not lines[index].strip():
            index += 1
        found = pattern.match(lines[index].strip()) if index < len(lines) else None
        if found is None:
            raise BvhError(path, min(index, len(lines) - 1) + 1, f"'{what} <number>' is expected")
        return index + 1, _number(path, index + 1, found.group(1), what)

    after_count, count = header(start, _COUNT, FRAMES)
    first, frame_time_s = header(after_count, _FRAME_TIME, FRAME_TIME)
    if count < 1 or count != int(count):
        raise BvhError(path, after_count, f"Frames: {count:g}: a whole number from 1 is expected")
    if not 0.0 < frame_time_s <= _LONGEST_FRAME_TIME_S:
        bounds = f"above 0 and at most {_LONGEST_FRAME_TIME_S:g} s is expected"
        raise BvhError(path, first, f"Frame Time: {frame_time_s:g} s: {bounds}")
    if channels == 0:
        raise BvhError(path, first, "the skeleton has no channels: there is no motion to play")
    rows: list[Array] = []
    for number, line in enumerate(lines[first:], start=first + 1):
        tokens = line.split()
        if not tokens:
            continue
        if len(rows) == count:
            raise BvhError(path, number, f"more frames than the {count:g} announced by Frames:")
        if len(tokens) != channels:
            reason = f"frame {len(rows)}: {len(tokens)} values, {channels} channels are expected"
            raise BvhError(path, number, reason)
        rows.append(read_frame(path, number, tokens, f"frame {len(rows)}"))
    if len(rows) < count:
        raise BvhError(path, len(lines), f"the file ends after {len(rows)} of {count:g} announced frames")
    return frame_time_s, np.array(rows)
