"""One repetition while it is recorded: from its start to the renamed file."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from capture_nodes.recording.alignment import AlignmentTable
from capture_nodes.recording.camera_encoding import CameraFigures
from capture_nodes.recording.clock_watch import ClockMove
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.episode_record import EpisodeFields, Moment
from capture_nodes.recording.stream_quality import EpisodeQuality
from capture_nodes.recording.stream_timing import EpisodeTimes, Judged

EpisodeState = Literal["idle", "recording", "finishing"]

# The end of an episode that has not been stopped.
OPEN_END_NS = (1 << 63) - 1


@dataclass
class Episode:
    """`start_ns` to `end_ns` is what the file holds: from the pre-roll before `started_ns`, when the start
    was asked for, to the post-roll after `stopped_ns`, when the stop was. Both are by the clock as it is now
    and move where that is set (`clock_moves`).
    """

    id: str
    fields: EpisodeFields
    file: EpisodeParts
    opening: dict[str, str]
    started_ns: int = 0
    start_ns: int = 0
    stopped_ns: int = 0
    end_ns: int = OPEN_END_NS
    rounds_after_end: int = 0
    tail_deadline_s: float = 0.0
    tf_tail_done: bool = False
    discard: bool = False
    # A discard was asked for after its end.
    given_up: bool = False
    # Its file is with who completes it: the writer thread does not write into it any more.
    handed_over: bool = False
    # What was said of it is in its file.
    recorded: bool = False
    # Who stops it has been told what came of it.
    answered: bool = False
    verdict: str = ""
    reason: str = ""
    real_time_factor: float | None = None
    moments: list[Moment] = field(default_factory=list)
    clutch: list[Moment] = field(default_factory=list)
    clock_moves: list[ClockMove] = field(default_factory=list)
    times: EpisodeTimes = field(default_factory=EpisodeTimes)
    alignment: AlignmentTable = field(default_factory=lambda: AlignmentTable(""))
    cameras: tuple[CameraFigures, ...] = ()
    quality: EpisodeQuality | None = None
    # Messages that could not be used before it began, by topic.
    refused_before: Mapping[str, int] = field(default_factory=dict)
    path: Path | None = None
    result: Future[Path] = field(default_factory=Future)

    @property
    def stopped(self) -> bool:
        return self.stopped_ns > 0

    @property
    def first_ns(self) -> int:
        """`start_ns` by the clock as it was then: what its first messages are timed by."""
        return self.start_ns - sum(move.by_ns for move in self.clock_moves)

    def clock_moved(self, move: ClockMove) -> None:
        """The clock was set while messages may belong to this."""
        self.start_ns += move.by_ns
        if self.stopped:
            self.end_ns += move.by_ns
        self.judge_by_a_moved_clock(move)

    def judge_by_a_moved_clock(self, move: ClockMove) -> None:
        """Times by two clocks are in the file: which lie between start and stop cannot be told by them."""
        self.clock_moves.append(move)
        judged = Judged()
        self.times.judged.begin_ns, self.times.judged.end_ns = judged.begin_ns, judged.end_ns


@dataclass(frozen=True)
class EpisodeStatus:
    """What `~/episode` tells: `problem` is the reason the file cannot be written any further.

    `quality`, passed or failed, and its reasons are those of the episode that was completed last.
    """

    state: EpisodeState
    id: str = ""
    path: str = ""
    duration_s: float = 0.0
    messages: int = 0
    lost: int = 0
    bytes: int = 0
    backlog_bytes: int = 0
    problem: str = ""
    quality: str = ""
    quality_reasons: tuple[str, ...] = ()
