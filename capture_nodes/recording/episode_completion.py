"""Makes files of episodes that are written to their end, on a thread of its own; keeps what is said of them.

The next start, and the messages, wait for none of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from capture_nodes.errors import CaptureError, error_text
from capture_nodes.recording.alignment import ALIGNMENT_MEDIA_TYPE, ALIGNMENT_NAME
from capture_nodes.recording.episode import Episode
from capture_nodes.recording.episode_record import (
    DISCARDED,
    EPISODE_RECORD,
    STREAMS_RECORD,
    closing_record,
    streams_record,
)
from capture_nodes.recording.episode_words import keep_word, say_later, write_episode_sidecar
from capture_nodes.recording.fair_lock import FairLock
from capture_nodes.recording.mcap_file import Attachment, FileProblem
from capture_nodes.recording.recorded_streams import RecordedStreams
from capture_nodes.recording.recordings_folder import move_to_trash
from capture_nodes.recording.rosbag2_metadata import FOXGLOVE_RECORD, foxglove_record
from capture_nodes.recording.stream_quality import QUALITY_RECORD, judge_episode
from capture_nodes.recording.stream_statistics import StreamStatistics

# Of so many episodes the totals are kept, and of so many everything that is counted.
EPISODES_REMEMBERED = 1000
EPISODES_WHOLE = 50


class EpisodeCompletion:
    """``ended`` is called, under ``lock``, when an episode has its file or never will; ``note`` with what
    somebody should read."""

    def __init__(
        self,
        root: Path,
        streams: RecordedStreams,
        statistics: StreamStatistics,
        lock: FairLock,
        ended: Callable[[Episode], None],
        note: Callable[[str], None],
    ) -> None:
        self._root, self._streams, self._statistics, self._lock = root, streams, statistics, lock
        self._ended, self._note = ended, note
        self._finished: deque[dict[str, Any]] = deque(maxlen=EPISODES_REMEMBERED)
        self._thread = ThreadPoolExecutor(1, "episode finisher")

    def complete(self, episode: Episode) -> None:
        """Everything that belongs to the episode has been written; `Episode.result` gets its path."""
        self._thread.submit(self._complete, episode)

    def say(self, episode: Episode, verdict: str, reason: str) -> Future[str]:
        """A word on an episode whose record is made, or being made; its id once the word is on the disk."""
        kept: Future[str] = Future()

        def write() -> None:
            try:
                self._say(episode, verdict, reason)
            except Exception as error:
                problem = CaptureError(
                    f"the word {verdict!r} on {episode.id} is not kept: {error_text(error)}"
                )
                self._note(str(problem))
                kept.set_exception(problem)
            else:
                kept.set_result(episode.id)

        episode.result.add_done_callback(lambda _: self._thread.submit(write))
        return kept

    def _say(self, episode: Episode, verdict: str, reason: str) -> None:
        if episode.path is not None:
            say_later(episode.path, verdict, reason)
        else:
            keep_word(episode.file.path, episode.opening, verdict, reason)
        self._entry(episode).update(verdict=verdict, reason=reason)

    def discard(self, episode: Episode, reason: str) -> Future[Path]:
        """Move an episode to the trash once it is completed; the future gives its place there."""
        moved: Future[Path] = Future()
        episode.result.add_done_callback(lambda _: self._thread.submit(self._discard, episode, reason, moved))
        return moved

    def report(self) -> list[dict[str, Any]]:
        """Every completed episode with its counts."""
        with self._lock:
            return [
                {
                    **entry,
                    "topics": entry.get("topics") or self._statistics.totals(entry["id"]),
                    "streams": self._streams.episode_table(entry["id"]),
                }
                for entry in self._finished
            ]

    def stop(self) -> None:
        """Complete what is waiting and end the thread."""
        self._thread.shutdown()

    def _complete(self, episode: Episode) -> None:
        file = episode.file
        path: Path | None = None
        problem: CaptureError | None = None
        try:
            record = self._write_records(episode)
            path = file.finish()
            if file.refused_split:
                self._note(f"{path} is larger than was asked for: {file.refused_split}")
            self._keep(lambda: write_episode_sidecar(file.path, file, record))
            if episode.discard:
                path = move_to_trash(self._root, path)
        except CaptureError as error:
            problem = error
        except Exception as error:
            # Nobody looks into this thread: whatever it is has to reach the one who waits for the file.
            message = f"finishing {file.active_path} failed: {error!r}; it is recovered at the next start"
            problem = FileProblem(message, file.active_path)
        if path is None and (episode.verdict or episode.reason):
            # The record with the trainer's word may not have reached the disk; recovery finds it here.
            self._keep(lambda: keep_word(file.path, episode.opening, episode.verdict, episode.reason))
        self._remember(episode, path, problem)

    def _write_records(self, episode: Episode) -> dict[str, str]:
        """Everything that is known only now; returns the `episode` record."""
        file, statistics = episode.file, self._statistics
        file.flush()
        episode.times.fold()
        episode.alignment.advance(final=True)
        skew = episode.alignment.skew(episode.times.figures())
        with self._lock:
            moves = tuple(episode.clock_moves)
            evidence = statistics.evidence(episode.id)
            for camera in episode.cameras:
                if camera.topic in evidence:
                    camera.lost_queue = evidence[camera.topic].lost_queue
            quality = judge_episode(
                evidence,
                self._streams.all_expectations(),
                begin_ns=None if moves else episode.started_ns,
                end_ns=None if moves else episode.stopped_ns,
                real_time_factor=episode.real_time_factor,
                clock_moves=moves,
            )
            table = self._streams.episode_table(episode.id, episode.cameras, skew)
            episode.recorded, episode.quality = True, quality
            record = closing_record(
                episode.opening,
                start_ns=episode.first_ns,
                end_ns=episode.end_ns,
                stopped_ns=episode.stopped_ns,
                topics=statistics.totals(episode.id),
                refused=self._streams.refused_with_messages(episode.refused_before),
                verdict=episode.verdict,
                reason=episode.reason,
                real_time_factor=episode.real_time_factor,
                moments=episode.moments,
                clutch=episode.clutch,
                cameras=episode.cameras,
                clock_moves=moves,
            )
        neighbours = episode.alignment.encoded(self._streams.written_names())
        file.attach(Attachment(ALIGNMENT_NAME, ALIGNMENT_MEDIA_TYPE, neighbours), episode.end_ns)
        file.add_metadata(STREAMS_RECORD, streams_record(table))
        file.add_metadata(QUALITY_RECORD, quality.as_record())
        file.add_metadata(EPISODE_RECORD, record)
        device = record["robot_serial"] or record["robot"]
        file.add_metadata(FOXGLOVE_RECORD, foxglove_record(device, episode.id))
        return record

    def _remember(self, episode: Episode, path: Path | None, problem: CaptureError | None) -> None:
        quality = episode.quality
        with self._lock:
            self._ended(episode)
            self._statistics.release_times(episode.id)
            self._forget_old()
            self._finished.append(
                {
                    "id": episode.id,
                    "path": str(path) if path is not None else str(episode.file.active_path),
                    "start_ns": episode.first_ns,
                    "end_ns": episode.end_ns,
                    "discarded": episode.discard,
                    "verdict": episode.verdict,
                    "reason": episode.reason,
                    "real_time_factor": episode.real_time_factor,
                    "quality": "" if quality is None else quality.verdict,
                    "quality_reasons": [] if quality is None else quality.reasons,
                    "problem": "" if problem is None else str(problem),
                }
            )
        if problem is None and path is not None:
            episode.path = path
            episode.result.set_result(path)
        else:
            episode.result.set_exception(problem or CaptureError("no file"))

    def _discard(self, episode: Episode, reason: str, moved: Future[Path]) -> None:
        try:
            if episode.path is None:
                # The disk ended it: it goes to the trash when it is recovered.
                self._say(episode, DISCARDED, reason)
                episode.discard, episode.verdict = True, DISCARDED
                moved.set_result(episode.file.active_path)
                return
            path = episode.result.result()
            if not episode.discard:
                episode.path = path = move_to_trash(self._root, path)
                episode.discard, episode.verdict = True, DISCARDED
                self._keep(lambda: say_later(path, DISCARDED, reason))
                self._entry(episode).update(path=str(path), discarded=True, verdict=DISCARDED)
        except Exception as error:
            episode.given_up = False
            if not isinstance(error, CaptureError):
                error = CaptureError(f"episode {episode.id} is not discarded: {error_text(error)}")
            moved.set_exception(error)
        else:
            moved.set_result(episode.path or path)

    def _keep(self, write: Callable[[], None]) -> None:
        """What is written beside an episode is no part of it: where that fails, it is told."""
        try:
            write()
        except Exception as error:
            self._note(error_text(error))

    def _forget_old(self) -> None:
        """Of the last episodes the counts are kept whole, of those before them the totals."""
        if len(self._finished) >= EPISODES_WHOLE:
            entry = self._finished[-EPISODES_WHOLE]
            if "topics" not in entry:
                entry["topics"] = self._statistics.totals(entry["id"])
                self._statistics.forget(entry["id"])

    def _entry(self, episode: Episode) -> dict[str, Any]:
        with self._lock:
            return next((entry for entry in self._finished if entry["id"] == episode.id), {})
