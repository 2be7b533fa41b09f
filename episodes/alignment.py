"""The alignment table that the recorder attached to an episode: neighbours of every camera frame, no search.

Written by the recorder as `alignment.json.gz` (JSON, version 1; its columns are described in
`docs/episodes.md`). Indices count the messages of a stream in the order of the file, as `Stream` of
`episodes.stream` holds them.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.bag import Bag
from episodes.errors import EpisodeError

IntArray = NDArray[np.int64]

NAME = "alignment.json.gz"
VERSION = 1
# What stands for a neighbour that is not there: a frame before the first or after the last message.
NONE = -1


@dataclass(frozen=True)
class Neighbours:
    """One stream beside the reference frames; every array is ``(frames,)``.

    `before` is the index of the last message that is not later than the frame, `after` that of the first
    later one, `NONE` where there is none; `before_ns` (≤ 0) and `after_ns` (> 0) are their times minus the
    frame's, 0 where there is none. `time`: ``header`` stamps or ``publish`` times. `messages`: how many the
    stream has.
    """

    time: str
    messages: int
    before: IntArray
    before_ns: IntArray
    after: IntArray
    after_ns: IntArray

    def nearest(self) -> IntArray:
        """``(frames,)`` the index of the message nearest in time, the earlier of two; `NONE` of none."""
        later = (self.after != NONE) & ((self.before == NONE) | (self.after_ns < -self.before_ns))
        return np.where(later, self.after, self.before)


@dataclass(frozen=True)
class Alignment:
    """All streams beside the frames of `reference`, whose times are `stamp_ns` ``(frames,)``."""

    reference: str
    time: str
    stamp_ns: IntArray
    streams: Mapping[str, Neighbours]


def alignment(bag: Bag) -> Alignment:
    """The table of an episode. Raises `EpisodeError` where it has none, or one that cannot be read."""
    return parse_alignment(bag.path, bag.attachment(NAME))


def parse_alignment(path: Path | None, data: bytes) -> Alignment:
    """The table in ``data``, the bytes of the attachment; ``path`` is whom errors name."""

    def refuse(reason: str) -> EpisodeError:
        return EpisodeError(path, f"attachment {NAME!r} {reason}")

    try:
        table = json.loads(gzip.decompress(data))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise refuse(f"is no JSON under gzip: {error}") from error
    if not isinstance(table, dict):
        raise refuse("holds no JSON object")
    version = table.get("version")
    if version != VERSION:
        raise refuse(f"is of version {version!r}; {VERSION} is known")
    try:
        base_ns = int(table["base_ns"])
        stamp_ns = np.array(table["stamp_ns"], dtype=np.int64) + base_ns
        streams = {
            str(topic): _neighbours(values, len(stamp_ns)) for topic, values in dict(table["streams"]).items()
        }
        return Alignment(str(table["reference"]), str(table["time"]), stamp_ns, streams)
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError) as error:
        raise refuse(f"is not as described: {type(error).__name__}: {error}") from error


def _neighbours(values: Mapping[str, Any], frames: int) -> Neighbours:
    columns = {}
    for side in ("before", "after"):
        indices, offsets = values[side], values[f"{side}_ns"]
        if not len(indices) == len(offsets) == frames:
            raise ValueError(f"{side} has {len(indices)} indices and {len(offsets)} offsets, {frames} frames")
        columns[side] = np.array([NONE if k is None else k for k in indices], dtype=np.int64)
        columns[f"{side}_ns"] = np.array([0 if k is None else k for k in offsets], dtype=np.int64)
        highest = int(columns[side].max(initial=NONE))
        if highest >= int(values["messages"]):
            raise ValueError(f"{side} names message {highest} of {values['messages']}")
    return Neighbours(time=str(values["time"]), messages=int(values["messages"]), **columns)
