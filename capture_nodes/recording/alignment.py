"""For every frame of one camera, which messages of each stream came just before and just after it.

Nothing is resampled or invented: the streams keep their rates and stamps, this says where to look. The table
is attached to the episode as `alignment.json.gz`: JSON under gzip, which Python, Node (`zlib.gunzipSync`) and
a browser (`DecompressionStream`) open without a library, and a person with `zcat`::

    {"version": 1, "reference": "/robot/camera/head/image", "time": "header",
     "base_ns": "1700000000000000000",     a string: a JSON number has only 53 bits in most readers
     "stamp_ns": [0, 33333333, …],         one per frame, in the order of the file, beyond base_ns
     "streams": {"/robot/joint_states": {
        "time": "header",                  the stream's times: header stamps, or publish times
        "messages": 10000,
        "before": [0, 16, …],              the last message that is not later than the frame: its index
                                           in the stream, in the order of the file; null for none
        "before_ns": [-120000, …],         its time minus the frame's, ≤ 0
        "after": [1, 17, …],               the first message later than the frame
        "after_ns": [1880000, …],          > 0
        "let_go": 500}}}                   only where it happened, see below

Frames are aligned as the episode goes on, so that a long one needs no more memory than its table. While no
frame comes the times of the streams wait for one: the last `WAITING_TIMES` of each. A frame that would have
needed older ones has null for both neighbours; `let_go` says how many messages were not waited for.
"""

from __future__ import annotations

import gzip
import io
import json
import threading
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture_nodes.recording.quantile_sketch import QuantileSketch
from capture_nodes.recording.stream_timing import TimeBasis, TimingFigures

IntArray = NDArray[np.int64]
AnyInt = NDArray[np.signedinteger[Any]]

ALIGNMENT_NAME = "alignment.json.gz"
ALIGNMENT_MEDIA_TYPE = "application/gzip"
VERSION = 1

# A frame is aligned to a stream once that is this much further; stamps may be out of order by as much.
SETTLED_NS = 2_000_000_000
# Of every stream: two minutes at 500 Hz, half a megabyte.
WAITING_TIMES = 1 << 16
# Level 1 is four times as fast as the usual 9, for a tenth more bytes.
_GZIP_LEVEL = 1


def reference_topic(topics: Iterable[str], configured: str = "") -> str:
    """Whose frames the table is for: the configured topic, else the first camera, else the joint states.

    The images of a camera are `…/camera/<name>/image` and below; "" where there is nothing of the kind.
    """
    names = sorted(topics)
    if configured in names:
        return configured
    cameras = [
        name for name in names if "/camera/" in name and "image" in name.split("/camera/", 1)[1].split("/")
    ]
    joints = [name for name in names if name.rsplit("/", 1)[-1] == "joint_states"]
    return next(iter([*cameras, *joints]), "")


class _Times:
    """Growing times, ``(n,)`` ns in the order of the file; the first of those `kept` is number `begin`."""

    def __init__(self) -> None:
        self.begin = 0
        self.newest: int | None = None
        self._pieces: list[IntArray] = []

    def add(self, times: IntArray) -> None:
        if len(times):
            self._pieces.append(times)
            newest = int(times.max())
            self.newest = newest if self.newest is None else max(self.newest, newest)

    def kept(self) -> IntArray:
        if len(self._pieces) != 1:
            self._pieces = [np.concatenate(self._pieces)] if self._pieces else [np.empty(0, dtype=np.int64)]
        return self._pieces[0]

    def drop(self, count: int) -> None:
        """Let go of the first ``count`` of those kept."""
        if count:
            self._pieces = [self.kept()[count:].copy()]
            self.begin += count


class _Column:
    """One stream: its times that may still be needed, and the rows of the table made so far."""

    def __init__(self, basis: TimeBasis) -> None:
        self.basis = basis
        self.times = _Times()
        self.rows = 0
        self.pieces: list[tuple[AnyInt, AnyInt, AnyInt, AnyInt]] = []
        self.nearest = QuantileSketch()
        self.let_go = 0
        self._let_go_until_ns = 0

    def align(self, frames: IntArray) -> None:
        """Append the neighbours of ``frames``; -1 for none."""
        times, begin = self.times.kept(), self.times.begin
        order: IntArray | None = None
        if len(times) > 1 and np.any(np.diff(times) < 0):
            order = np.argsort(times, kind="stable")
        ordered = times if order is None else times[order]
        after = np.searchsorted(ordered, frames, side="right")
        before = after - 1
        has_before, has_after = before >= 0, after < len(ordered)
        if len(ordered):
            safe_before, safe_after = np.maximum(before, 0), np.minimum(after, len(ordered) - 1)
            before_ns = np.where(has_before, ordered[safe_before] - frames, 0)
            after_ns = np.where(has_after, ordered[safe_after] - frames, 0)
            if order is not None:
                safe_before, safe_after = order[safe_before], order[safe_after]
            before = np.where(has_before, safe_before + begin, -1)
            after = np.where(has_after, safe_after + begin, -1)
            later = has_after & (~has_before | (after_ns < -before_ns))
            distance = np.abs(np.where(later, after_ns, before_ns))
            if self.let_go:
                # One that was let go of may have stood nearer.
                unknown = ~has_before | (frames + before_ns < self._let_go_until_ns)
                before, after = np.where(unknown, -1, before), np.where(unknown, -1, after)
                before_ns, after_ns = np.where(unknown, 0, before_ns), np.where(unknown, 0, after_ns)
                distance = distance[~unknown]
            self.nearest.fold(distance)
        else:
            before_ns = after_ns = np.zeros(len(frames), dtype=np.int64)
            before = after = np.full(len(frames), -1, dtype=np.int64)
        self.pieces.append((_small(before), _small(before_ns), _small(after), _small(after_ns)))
        self.rows += len(frames)

    def forget(self, before_ns: int) -> None:
        """Let go of what no later frame can need: all but the last of those up to ``before_ns``."""
        times = self.times.kept()
        if not len(times):
            return
        # Only from the front, so that the others keep their places.
        old = int(np.count_nonzero(np.maximum.accumulate(times) <= before_ns))
        if old:
            # Where stamps run backwards, the last of the old may stand anywhere among them.
            self.times.drop(int(np.argmax(times[:old])))

    def bound(self) -> None:
        """Let go of all but the last `WAITING_TIMES`."""
        times = self.times.kept()
        over = len(times) - WAITING_TIMES
        if over > 0:
            until_ns = int(times[:over].max())
            self._let_go_until_ns = max(self._let_go_until_ns, until_ns) if self.let_go else until_ns
            self.let_go += over
            self.times.drop(over)

    def as_json(self) -> dict[str, Any]:
        before, before_ns, after, after_ns = (
            np.concatenate([piece[k] for piece in self.pieces]) if self.pieces else np.empty(0, np.int64)
            for k in range(4)
        )
        return {
            "time": self.basis,
            "messages": self.times.begin + len(self.times.kept()),
            "before": _or_null(before, before < 0),
            "before_ns": _or_null(before_ns, before < 0),
            "after": _or_null(after, after < 0),
            "after_ns": _or_null(after_ns, after < 0),
            **({"let_go": self.let_go} if self.let_go else {}),
        }


def _small(values: IntArray) -> AnyInt:
    """Half the memory where nothing is lost by it: offsets under two seconds, indices."""
    limit = np.iinfo(np.int32).max
    return values.astype(np.int32) if len(values) and int(np.abs(values).max()) <= limit else values


def _or_null(values: AnyInt, none: NDArray[np.bool_]) -> list[int | None]:
    result: list[int | None] = values.tolist()
    for index in np.flatnonzero(none).tolist():
        result[index] = None
    return result


class AlignmentTable:
    """The neighbours of every message of ``reference`` in every other stream that `add` is given.

    `add` is the ``each_fold`` of an `EpisodeTimes`. All methods may be called by any thread.
    """

    def __init__(self, reference: str) -> None:
        self.reference = reference
        self._basis: TimeBasis = "header"
        self._frames = _Times()
        self._columns: dict[str, _Column] = {}
        self._lock = threading.Lock()

    def add(self, topic: str, basis: TimeBasis, times_ns: IntArray) -> None:
        """More messages of a topic, ``(n,)`` times in the order of the file."""
        with self._lock:
            if topic == self.reference:
                self._basis = basis
                self._frames.add(times_ns)
                return
            column = self._columns.get(topic)
            if column is None:
                column = self._columns[topic] = _Column(basis)
            if self.reference:
                column.times.add(times_ns)
            else:
                # Without frames nothing is ever aligned, and nothing would be let go of: counted only.
                column.times.begin += len(times_ns)

    def advance(self, final: bool = False) -> None:
        """Align, per stream, the frames it has passed; with ``final`` all. Once a second, and at the end."""
        with self._lock:
            frames = self._frames.kept()
            for column in self._columns.values():
                waiting = frames[column.rows :]
                newest = column.times.newest
                ready = len(waiting)
                if newest is None:
                    ready = ready if final else 0
                elif not final:
                    unsettled = waiting > newest - SETTLED_NS
                    ready = int(np.argmax(unsettled)) if unsettled.any() else ready
                if ready:
                    column.align(waiting[:ready])
                    # Frames may be a little out of order, too.
                    column.forget(int(waiting[ready - 1 :].min()) - SETTLED_NS)
                # A reference that has fallen silent settles nothing.
                column.bound()

    @property
    def frames(self) -> int:
        """How many frames the reference has so far."""
        return len(self._frames.kept())

    @property
    def kept_bytes(self) -> int:
        """Memory of the times that wait for their neighbours; the table's own grows with the frames."""
        return sum(column.times.kept().nbytes for column in self._columns.values())

    def skew(self, figures: Mapping[str, TimingFigures]) -> dict[str, dict[str, Any]]:
        """By topic, how it stands to the reference; ``figures`` of all, from `EpisodeTimes`.

        `nearest_p50_s`, `nearest_max_s`: how far its message nearest to a frame is from it, for half of the
        frames and at most. `clock_s`: how much older its messages are when they are received than the frames
        are then (median): another way, or another clock. What is not known is left out.
        """
        with self._lock:
            nearest = {topic: column.nearest for topic, column in sorted(self._columns.items())}
        mine = figures[self.reference].clock_p50_s if self.reference in figures else None
        result: dict[str, dict[str, Any]] = {}
        for topic, sketch in nearest.items():
            theirs = figures[topic].clock_p50_s if topic in figures else None
            row = {
                "nearest_p50_s": _seconds(sketch.quantile(0.5)),
                "nearest_max_s": sketch.high * 1e-9 if sketch.count else None,
                "clock_s": None if mine is None or theirs is None else theirs - mine,
            }
            known = {key: value for key, value in row.items() if value is not None}
            if known:
                result[topic] = {"reference": self.reference, **known}
        return result

    def encoded(self, written_as: Mapping[str, str] | None = None) -> bytes:
        """The attachment (see the module), after ``advance(final=True)``.

        ``written_as``: topics that have another name in the file.
        """
        names = written_as or {}
        with self._lock:
            stamps = self._frames.kept()
            base = int(stamps[0]) if len(stamps) else 0
            head = {
                "version": VERSION,
                "reference": names.get(self.reference, self.reference),
                "time": self._basis,
                "base_ns": str(base),
                "stamp_ns": (stamps - base).tolist(),
            }
            columns = sorted((names.get(topic, topic), column) for topic, column in self._columns.items())
        result = io.BytesIO()
        # Without the time of day, so that equal tables are equal bytes. One stream after the other: as lists
        # and text, those of a long episode would take ten times the memory of the table.
        with gzip.GzipFile(fileobj=result, mode="wb", compresslevel=_GZIP_LEVEL, mtime=0) as file:
            file.write(_text(head)[:-1] + b',"streams":{')
            for k, (topic, column) in enumerate(columns):
                file.write((b"," if k else b"") + _text(topic) + b":" + _text(column.as_json()))
            file.write(b"}}")
        return result.getvalue()


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _seconds(value_ns: float | None) -> float | None:
    return None if value_ns is None else value_ns * 1e-9
