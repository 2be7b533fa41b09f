"""The BVH stream of motion-capture software, taken apart as it comes in; nothing here knows sockets.

A stream is a BVH file that never ends: HIERARCHY, MOTION, `Frames:` and `Frame Time:` (both may be left
out), then one line a frame. A line ends with a line feed or with ``||``. Before its values a frame may have
its number (one word) or the number and name of its actor (two words; then only the first actor, or the one
asked for, is read). Some senders give every joint six values whatever its channels are (displacement), or put
six more before all others (the reference): both are recognized by the number of values. Another HIERARCHY
begins anew.

What comes in is a stranger's: a line, a header, a skeleton and the number of frames have limits, a
broken line is counted and told by line and reason, and what follows is read on.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from capture_nodes.sources.bvh_file import (
    FRAME_TIME,
    FRAMES,
    POSITION_CHANNELS,
    ROTATION_CHANNELS,
    BvhError,
    BvhJoint,
    read_frame,
    read_header_number,
    read_hierarchy,
)
from retargeting.frames import Array

LONGEST_LINE_BYTES = 128 * 1024
MOST_HEADER_LINES = 8_000
LONGEST_HEADER_BYTES = 512 * 1024
_TERMINATOR = re.compile(rb"\r\n|\n|\r|\|\|")
_USUAL_FRAME_TIME_S = 1.0 / 60.0
_PER_JOINT = 6


@dataclass(frozen=True)
class StreamHeader:
    """A skeleton has come; `frame_time_s` is None where the sender does not say."""

    joints: tuple[BvhJoint, ...]
    frame_time_s: float | None


@dataclass(frozen=True)
class StreamFrame:
    """`values` ``(channels,)`` in the order of the header's channels; `number` where frames are numbered."""

    values: Array
    number: int | None
    line: int


@dataclass
class StreamCounts:
    """`problem`: the last line that could not be used, "" where every one could."""

    lines: int = 0
    frames: int = 0
    headers: int = 0
    refused_lines: int = 0
    other_actors: int = 0
    problem: str = ""


class BvhStream:
    """Takes bytes as they come, gives headers and frames. `name` of the stream is for messages.

    joints: the skeleton of a sender that sends none (from a BVH file); actor: whose frames are read, by
    number or name, "" for the first that speaks.
    """

    def __init__(self, name: str, joints: tuple[BvhJoint, ...] = (), actor: str = "") -> None:
        self._name = name
        self._joints = self._given = joints
        self._asked = self._actor = actor
        self._rest = b""
        self._overlong = False
        self._header: list[str] | None = None
        self._header_bytes = 0
        self._header_line = 0
        # The header at hand cannot be used: nor can the frames that belong to it, which is said once.
        self._broken = False
        self._awaits_numbers = False
        self._frame_time_s: float | None = None
        self._counts = StreamCounts()
        self._layout: _Layout | None = _Layout.of(joints) if joints else None

    @property
    def counts(self) -> StreamCounts:
        return self._counts

    def restart(self) -> None:
        """Another connection: what was half read belongs to the one before; the skeleton is kept."""
        self._rest, self._overlong = b"", False
        self._broken = self._broken or self._header is not None
        self._header = None
        self._actor = self._asked

    def feed(self, data: bytes) -> Iterator[StreamHeader | StreamFrame]:
        """Everything that `data` completes. Never raises: what cannot be used is in `counts`."""
        self._rest += data
        place = 0
        for found in _TERMINATOR.finditer(self._rest):
            if found.group() == b"\r" and found.end() == len(self._rest):
                # It may be the first half of \r\n.
                break
            line = self._rest[place : found.start()]
            place = found.end()
            if self._overlong:
                self._overlong = False
                continue
            yield from self._take(line)
        self._rest = self._rest[place:]
        if len(self._rest) > LONGEST_LINE_BYTES:
            self._counts.lines += 1
            self._refuse(f"is longer than {LONGEST_LINE_BYTES} bytes")
            self._rest, self._overlong = b"", True
            # A header with a hole in it is none.
            self._broken = self._broken or self._header is not None
            self._header = None

    def _refuse(self, reason: str) -> None:
        self._counts.refused_lines += 1
        self._counts.problem = f"{self._name}, line {self._counts.lines}: {reason}"

    def _take(self, raw: bytes) -> Iterator[StreamHeader | StreamFrame]:
        self._counts.lines += 1
        if len(raw) > LONGEST_LINE_BYTES:
            self._refuse(f"is longer than {LONGEST_LINE_BYTES} bytes")
            return
        text = raw.decode("utf-8", errors="replace").strip().lstrip("\ufeff")
        if not text:
            return
        try:
            yield from self._take_text(text)
        except BvhError as error:
            self._counts.refused_lines += 1
            self._counts.problem = str(error)

    def _take_text(self, text: str) -> Iterator[StreamHeader | StreamFrame]:
        word = text.lower()
        if word == "hierarchy":
            self._header, self._header_bytes, self._header_line = [], 0, self._counts.lines + 1
            self._broken = False
        elif self._header is not None:
            if word == "motion":
                lines, self._header = self._header, None
                self._begin(lines)
            else:
                self._header.append(text)
                self._header_bytes += len(text)
                if len(self._header) > MOST_HEADER_LINES or self._header_bytes > LONGEST_HEADER_BYTES:
                    self._header, self._broken = None, True
                    self._refuse("the hierarchy does not end")
        elif self._broken:
            self._counts.refused_lines += 1
        elif word == "motion" or self._is_number_line(text):
            return
        else:
            yield from self._take_frame(text)

    def _begin(self, lines: Sequence[str]) -> None:
        try:
            joints = read_hierarchy(self._name, lines, self._header_line)
            layout = _Layout.of(joints)
            if layout.channels == 0:
                raise BvhError(self._name, self._counts.lines, "the skeleton has no channels")
        except BvhError as error:
            self._counts.refused_lines += 1
            self._counts.problem = str(error)
            self._broken = True
            return
        self._joints, self._layout = joints, layout
        self._frame_time_s = None
        self._awaits_numbers = True
        self._counts.headers += 1

    def _is_number_line(self, text: str) -> bool:
        line = self._counts.lines
        if read_header_number(self._name, line, text, FRAMES) is not None:
            return True
        frame_time_s = read_header_number(self._name, line, text, FRAME_TIME)
        if frame_time_s is None:
            return False
        self._frame_time_s = frame_time_s
        return True

    def _take_frame(self, text: str) -> Iterator[StreamHeader | StreamFrame]:
        if self._layout is None:
            raise BvhError(
                self._name,
                self._counts.lines,
                "a frame before any HIERARCHY: have the header sent, or name a file that has it "
                "(skeleton:=, key hierarchy)",
            )
        tokens = text.split()
        prefix = self._layout.prefix(self._name, self._counts.lines, tokens)
        number: int | None = None
        if prefix == 1:
            number = _whole(self._name, self._counts.lines, tokens[0])
        elif prefix == 2 and not self._is_actor(tokens[0], tokens[1]):
            self._counts.other_actors += 1
            return
        row = read_frame(self._name, self._counts.lines, tokens[prefix:], "frame")
        if self._awaits_numbers or self._counts.headers == self._counts.frames == 0:
            # What is known of the time between frames is known by now.
            self._awaits_numbers = False
            yield StreamHeader(self._joints, self._frame_time_s)
        self._counts.frames += 1
        yield StreamFrame(self._layout.channel_values(row), number, self._counts.lines)

    def _is_actor(self, number: str, name: str) -> bool:
        if not self._actor:
            self._actor = number
        return self._actor in (number, name)


@dataclass(frozen=True)
class _Layout:
    """How many values a frame has, and which of them are the channels."""

    channels: int
    joints: int
    # Of six values a joint (position, then its rotations as they are listed) the columns that are channels.
    six: Array = field(repr=False)

    @staticmethod
    def of(joints: Sequence[BvhJoint]) -> _Layout:
        columns: list[int] = []
        moved = [joint for joint in joints if not joint.is_end]
        for k, joint in enumerate(moved):
            turns = 0
            for channel in joint.channels:
                if channel in POSITION_CHANNELS:
                    columns.append(_PER_JOINT * k + POSITION_CHANNELS.index(channel))
                elif channel in ROTATION_CHANNELS:
                    columns.append(_PER_JOINT * k + 3 + turns)
                    turns += 1
        return _Layout(len(columns), len(moved), np.array(columns, dtype=np.intp))

    def _counts(self) -> tuple[int, ...]:
        six = _PER_JOINT * self.joints
        return tuple(dict.fromkeys((self.channels, six, self.channels + _PER_JOINT, six + _PER_JOINT)))

    def prefix(self, name: str, line: int, tokens: Sequence[str]) -> int:
        """How many words come before the values. Raises `BvhError` where their number fits nothing."""
        count = len(tokens)
        for values in self._counts():
            if count == values:
                return 0
            if count == values + 1:
                return 1
            if count == values + 2 and not _is_number(tokens[1]):
                return 2
        raise BvhError(
            name,
            line,
            f"{count} words in a frame; {self.channels} values are expected (a number, or an actor's number "
            "and name, may come before them)",
        )

    def channel_values(self, row: Array) -> Array:
        """The channels ``(channels,)`` of a frame in any of the forms."""
        six = _PER_JOINT * self.joints
        if len(row) in (self.channels + _PER_JOINT, six + _PER_JOINT) and len(row) != six:
            row = row[_PER_JOINT:]
        return row if len(row) == self.channels else row[self.six]


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _whole(name: str, line: int, word: str) -> int:
    if not word.isdecimal() or len(word) > 18:
        raise BvhError(name, line, f"the frame's number is {word[:20]!r}: a whole number is expected")
    return int(word)
