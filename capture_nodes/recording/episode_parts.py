"""One episode in as many files as its size or length asks for, without losing a message between them.

``<id>.mcap``, ``<id>.part2.mcap``, ``<id>.part3.mcap`` …: each can be read alone. It has the attachments,
the opening record, the schemas it needs, and at its head the latest message of every latched topic once
more. All parts stay ``.active`` until the episode ends: only then its verdict and counts are known, which
stand in every part; a kill before leaves parts that are recovered like any cut file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from capture_nodes.recording.mcap_file import (
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileOptions,
    FileProblem,
)
from capture_nodes.recording.mcap_writer import Buffer, SmallMessage
from capture_nodes.recording.stream_statistics import EpisodeCounts

# At the head of every part but the first, and at the end of all where there are several.
PART_RECORD = "part"
PARTS_RECORD = "parts"


@dataclass(frozen=True)
class SplitLimits:
    """A part is ended by the message that would take it over one of these; None: never."""

    max_bytes: int | None = None
    max_s: float | None = None


@dataclass(frozen=True)
class _Latched:
    channel: ChannelDescription
    publish_ns: int
    sequence: int
    data: Buffer


def part_path(path: Path, number: int) -> Path:
    """The path of part ``number`` (from 1) of the episode whose first file is ``path``."""
    return path if number == 1 else path.with_name(f"{path.stem}.part{number}{path.suffix}")


class EpisodeParts:
    """Writes one episode like an `EpisodeFile`, splitting it where a limit is met. Not thread-safe.

    latched: whether the latest message of a topic, of each publisher, is repeated in later parts. begins:
    False for a message that cannot be read without the one before it (video between keyframes): after a
    split it still goes to the part before, until the topic's first that can.

    `parts`: the files so far. `problem`: the first that any of them met. `refused_split`: why the disk took
    no further file, in which case the one there is goes on.
    """

    def __init__(
        self,
        path: Path,
        options: FileOptions | None = None,
        limits: SplitLimits | None = None,
        latched: Callable[[str], bool] = lambda _: False,
        begins: Callable[[ChannelDescription, Buffer], bool] = lambda *_: True,
    ) -> None:
        self._is_latched, self._begins = latched, begins
        self.path = path
        self.options = options or FileOptions()
        self.limits = limits or SplitLimits()
        self._may_split = self.limits != SplitLimits()
        self.parts: list[EpisodeFile] = [EpisodeFile(path, self.options)]
        self._attachments: list[tuple[Attachment, int]] = []
        self._metadata: list[tuple[str, Mapping[str, str]]] = []
        # By topic and window, which each publisher has of its own.
        self._latched: dict[tuple[str, int], _Latched] = {}
        self._repeated = 0
        self.refused_split = ""
        # The part that has the latest message of a topic.
        self._part_of: dict[str, EpisodeFile] = {}
        self._start_ns: int | None = None
        self._bytes = 0

    @property
    def active_path(self) -> Path:
        return self.parts[-1].active_path

    @property
    def problem(self) -> FileProblem | None:
        return next((part.problem for part in self.parts if part.problem is not None), None)

    @property
    def messages(self) -> int:
        """Messages flushed; those repeated at the head of a part are not counted."""
        return max(0, sum(part.messages for part in self.parts) - self._repeated)

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    @property
    def size(self) -> int:
        return sum(part.size for part in self.parts)

    def open(self) -> None:
        """Raises `FileProblem`, as `EpisodeFile.open`."""
        self.parts[0].open()

    def attach(self, attachment: Attachment, time_ns: int) -> None:
        """Goes into every part, later ones included."""
        self._attachments.append((attachment, time_ns))
        for part in self.parts:
            part.attach(attachment, time_ns)

    def add_metadata(self, name: str, values: Mapping[str, str]) -> None:
        """Goes into every part, later ones included."""
        self._metadata.append((name, values))
        for part in self.parts:
            part.add_metadata(name, values)

    def write(
        self,
        channel: ChannelDescription,
        log_ns: int,
        publish_ns: int,
        sequence: int,
        data: Buffer,
        counts: EpisodeCounts | None = None,
    ) -> bool:
        """As `EpisodeFile.write`."""
        if self._is_over(log_ns, len(data)):
            self._split(log_ns)
        last = self.parts[-1]
        part = last
        if len(self.parts) > 1 and not self._begins(channel, data):
            part = self._part_of.get(channel.topic, last)
        self._part_of[channel.topic] = part
        if part is last:
            # The earliest: a clock that is set back must not make this part longer.
            self._start_ns = log_ns if self._start_ns is None else min(self._start_ns, log_ns)
            self._bytes += len(data)
        written = part.write(channel, log_ns, publish_ns, sequence, data, counts)
        if self._is_latched(channel.topic):
            self._latched[channel.topic, id(counts)] = _Latched(channel, publish_ns, sequence, data)
        return written

    def write_small(
        self, channel: ChannelDescription, messages: Sequence[SmallMessage], counts: EpisodeCounts, size: int
    ) -> bool:
        """As `EpisodeFile.write_small`; ``size`` of all data."""
        if self._may_split or self._is_latched(channel.topic):
            return False
        return self.parts[0].write_small(channel, messages, counts)

    def _is_over(self, log_ns: int, size: int) -> bool:
        limits = self.limits
        if self._start_ns is None or self.problem is not None:
            return False
        if limits.max_bytes is not None and self._bytes + size > limits.max_bytes:
            return True
        return limits.max_s is not None and log_ns - self._start_ns >= limits.max_s * 1e9

    def _split(self, log_ns: int) -> None:
        for part in self.parts:
            part.flush()
        new = EpisodeFile(part_path(self.path, len(self.parts) + 1), self.options)
        try:
            new.open()
        except FileProblem as error:
            # The disk takes no new file; the one there is goes on, which loses nothing.
            self._start_ns, self._bytes = log_ns, 0
            self.refused_split = str(error)
            return
        repeated: dict[str, int] = {}
        for topic, _ in self._latched:
            repeated[topic] = repeated.get(topic, 0) + 1
        number = str(len(self.parts) + 1)
        new.add_metadata(PART_RECORD, {"number": number, "repeated": json.dumps(repeated, sort_keys=True)})
        for attachment, time_ns in self._attachments:
            new.attach(attachment, time_ns)
        for name, values in self._metadata:
            new.add_metadata(name, values)
        for latched in self._latched.values():
            new.write(latched.channel, log_ns, latched.publish_ns, latched.sequence, latched.data)
        self.parts.append(new)
        self._repeated += len(self._latched)
        self._start_ns, self._bytes = log_ns, 0

    def flush(self) -> None:
        for part in self.parts:
            part.flush()

    def flush_if_due(self) -> None:
        for part in self.parts:
            part.flush_if_due()

    def finish(self) -> Path:
        """Complete every part and return the path of the first. Raises `FileProblem` where one could not be.

        The parts that could be are complete then too; the others are recovered at the next start.
        """
        if len(self.parts) > 1:
            names = json.dumps([part.path.name for part in self.parts])
            for number, part in enumerate(self.parts, 1):
                part.add_metadata(PARTS_RECORD, {"number": str(number), "files": names})
        problem: FileProblem | None = None
        for part in self.parts:
            try:
                part.finish()
            except FileProblem as error:
                problem = problem or error
        if problem is not None:
            raise problem
        return self.path

    def abandon(self) -> None:
        for part in self.parts:
            part.abandon()

    def remove(self) -> None:
        for part in self.parts:
            part.remove()

    def fail(self, error: Exception) -> None:
        for part in self.parts:
            part.fail(error)
