"""The recorder without ROS: streams, episodes, counts, the tf tree. A node feeds it what it takes.

Three threads meet here. The *taking* thread calls `take` for every message and `pass_done` after each round,
both inside ``with recorder.taking():``. The *writer* thread (own) touches the disk. *Control* (services)
calls `start`, `stop` and the queries from any thread. One lock orders taking and control; nothing that
can block is done under it.
"""

from __future__ import annotations

import math
import shutil
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from capture_nodes.errors import CaptureError
from capture_nodes.recording.cdr import (
    CdrReader,
    JointStateReader,
    read_child_frames,
    read_status,
    read_status_array,
)
from capture_nodes.recording.episode_record import (
    DISCARDED,
    EPISODE_RECORD,
    OPENING_RECORD,
    STREAMS_RECORD,
    VERDICTS,
    EpisodeFields,
    closing_record,
    episode_path,
    new_episode_id,
    opening_record,
    streams_record,
)
from capture_nodes.recording.mcap_file import (
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileProblem,
    rename_without_overwriting,
)
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.stream_statistics import (
    EpisodeCounts,
    PublisherCounts,
    StreamStatistics,
    parse_published_counts,
)
from capture_nodes.recording.tf_stream import TfStream
from capture_nodes.recording.writer_thread import WriterThread

EpisodeState = Literal["idle", "recording", "finishing"]
Role = Literal["", "joint_states", "retargeting_state", "diagnostics", "transforms"]

# The recorder's own streams have no publisher on the network.
OWN_GID = "recorder"
TRASH = ".trash"
OPEN_TIMEOUT_S = 10.0
# Only a publisher faster than this can be expected to show its next message within the tail.
TAIL_RATE_HZ = 25.0
# A stamp may be this far ahead of the clock: those of a schedule are, by as much as two clocks drift apart.
STAMP_LEAD_NS = 5_000_000
# Publishers report every second; one that has not for this long may be gone.
ANNOUNCED_NS = 3_000_000_000


@dataclass
class Stream:
    """One recorded topic. `role` marks the few whose content the recorder itself reads.

    `expected_hz`: the rate it should have, None where it has no fixed one.
    """

    channel: ChannelDescription
    latched: bool = False
    role: Role = ""
    expected_hz: float | None = None
    publishers: dict[bytes, PublisherCounts] = field(default_factory=dict)
    latest: dict[bytes, tuple[bytes, int, int]] = field(default_factory=dict)

    @property
    def topic(self) -> str:
        return self.channel.topic


@dataclass
class Episode:
    """One repetition from the start to the renamed file."""

    id: str
    fields: EpisodeFields
    file: EpisodeFile
    opening: dict[str, str]
    start_ns: int = 0
    stop_ns: int = 0
    rounds_after_stop: int = 0
    deadline_s: float = 0.0
    tf_tail_done: bool = False
    discard: bool = False
    verdict: str = ""
    reason: str = ""
    real_time_factor: float | None = None
    closing: bool = False
    tf_counts: EpisodeCounts | None = None
    tf_static_counts: EpisodeCounts | None = None
    result: Future[Path] = field(default_factory=Future)


@dataclass(frozen=True)
class _Announced:
    """What a publisher said of itself in its last two reports (0 before the first)."""

    count_before: int
    count: int
    received_ns: int


@dataclass(frozen=True)
class EpisodeStatus:
    """What `~/episode` tells: `problem` is the reason the file cannot be written any further."""

    state: EpisodeState
    id: str = ""
    path: str = ""
    duration_s: float = 0.0
    messages: int = 0
    lost: int = 0
    bytes: int = 0
    backlog_bytes: int = 0
    problem: str = ""


class Recorder:
    """See the module. ``attachments`` go into every file; without ``tf`` no transforms are made."""

    def __init__(
        self,
        root: Path,
        configuration: RecorderConfiguration,
        attachments: tuple[Attachment, ...] = (),
        tf: TfStream | None = None,
        tf_channel: ChannelDescription | None = None,
        tf_static_channel: ChannelDescription | None = None,
    ) -> None:
        if tf is not None and (tf_channel is None or tf_static_channel is None):
            raise CaptureError("a tf stream needs the channels of /tf and /tf_static")
        self.root = root
        self.configuration = configuration
        self.statistics = StreamStatistics()
        self.attachments = attachments
        self.refused: dict[str, str] = {}
        self._messages_refused: dict[str, tuple[int, str]] = {}
        self._tf = tf
        self._tf_channel = tf_channel
        self._tf_static_channel = tf_static_channel
        self._tf_publisher = self.statistics.publisher("/tf", OWN_GID)
        self._tf_static_publisher = self.statistics.publisher("/tf_static", OWN_GID)
        self._tf_publisher.node = self._tf_static_publisher.node = "recorder"
        self._joint_states = JointStateReader()
        self._tf_next_ns = 0
        self._tf_period_ns = round(1e9 / configuration.tf_rate_hz)
        # One more than the head needs, so that it reaches back all the way.
        recent = 2 + round(configuration.tf_head_s * configuration.tf_rate_hz)
        self._tf_recent: deque[tuple[str, bytes, int, int]] = deque(maxlen=recent)
        self._streams: dict[str, Stream] = {}
        self._active: Episode | None = None
        self._opening = False
        self._finishing: list[Episode] = []
        self._open_tails: dict[int, list[tuple[Episode, EpisodeCounts]]] = {}
        self._finished: list[dict[str, Any]] = []
        self._lock = threading.RLock()
        self._simulated_robot = ""
        self._announced: dict[tuple[str, str], _Announced] = {}
        self._writer = WriterThread(configuration.queue_limit_bytes, self._refuse_message)

    # Streams ------------------------------------------------------------------------------------------------

    def add_stream(
        self,
        channel: ChannelDescription,
        latched: bool = False,
        role: Role = "",
        rate_hz: float | None = None,
    ) -> Stream:
        """A topic to be recorded from now on; once added it stays. ``rate_hz`` is its expected rate."""
        with self._lock:
            stream = self._streams.get(channel.topic)
            if stream is None:
                # Several publish transforms, each at a rate of its own.
                expected_hz = None if role == "transforms" else rate_hz
                stream = self._streams[channel.topic] = Stream(channel, latched, role, expected_hz)
                if role == "joint_states":
                    self._simulated_robot = f"{channel.topic.rsplit('/', 1)[0]}/simulated_robot"
            return stream

    def describe(self, stream: Stream, metadata: Mapping[str, str], nodes: Mapping[str, str]) -> None:
        """What the graph says of a topic: channel metadata for the next file, gid (hex) -> node name."""
        with self._lock:
            stream.channel = ChannelDescription(
                stream.channel.topic, stream.channel.type_name, stream.channel.schema_text, dict(metadata)
            )
            for gid, node in nodes.items():
                self.statistics.publisher(stream.topic, gid).node = node
            if stream.latched and nodes:
                # What a publisher that is gone had latched is repeated only as long as nobody replaced it.
                alive = [gid for gid in stream.latest if gid.hex() in nodes]
                if alive:
                    stream.latest = {gid: stream.latest[gid] for gid in alive}

    @property
    def streams(self) -> list[Stream]:
        with self._lock:
            return list(self._streams.values())

    # Taking -------------------------------------------------------------------------------------------------

    @contextmanager
    def taking(self) -> Iterator[None]:
        with self._lock:
            yield

    def take(
        self, stream: Stream, data: bytes, source_ns: int, received_ns: int, sequence: int | None, gid: bytes
    ) -> None:
        """A message as the middleware gave it. ``sequence``: the publisher's own number, None if unknown."""
        counts = stream.publishers.get(gid)
        if counts is None:
            counts = stream.publishers[gid] = self.statistics.publisher(stream.topic, gid.hex())
        before = counts.last
        counts.saw(sequence, len(data))
        # One that was repaired came late, and those behind it were held back for it: in the order of
        # their numbers, they cross the end of an episode together and leave no hole before it.
        crossed_ns = counts.latest_received_ns = max(received_ns, counts.latest_received_ns)
        episode = self._episode_at(crossed_ns)
        window: EpisodeCounts | None = None
        if episode is not None:
            window = counts.episodes.get(episode.id)
            if window is None:
                window = counts.episodes[episode.id] = EpisodeCounts(before=before)
            window.received += 1
            if sequence is not None:
                if window.first is None or sequence < window.first:
                    window.first = sequence
                if window.last is None or sequence > window.last:
                    window.last = sequence
            self._writer.put(
                episode.file, stream.channel, received_ns, source_ns, sequence or 0, data, window
            )
        elif sequence is not None and self._active is not None and crossed_ns < self._active.start_ns:
            early = counts.episodes.get(self._active.id)
            if early is not None and early.first is None:
                early.before = sequence
        if self._open_tails and sequence is not None:
            tails = self._open_tails.get(id(counts))
            if tails:
                for ended, tail in tails:
                    if tail is not window and crossed_ns > ended.stop_ns and tail.after is None:
                        tail.after = sequence
                left = [entry for entry in tails if entry[1].after is None]
                if left:
                    self._open_tails[id(counts)] = left
                else:
                    del self._open_tails[id(counts)]
        if stream.latched:
            stream.latest[gid] = (data, source_ns, sequence or 0)
        if stream.role:
            try:
                self._read(stream, data, source_ns, received_ns)
            except Exception as error:
                # One odd message must not end the taking of all others; it is in the file as it came.
                self._refuse_message(stream.topic, error)

    def _episode_at(self, received_ns: int) -> Episode | None:
        active = self._active
        if active is not None and received_ns >= active.start_ns:
            return active
        for episode in self._finishing:
            if not episode.closing and episode.start_ns <= received_ns <= episode.stop_ns:
                return episode
        return None

    def _refuse_message(self, topic: str, error: Exception) -> None:
        """Count and tell a message that could not be read or written. Called by both threads."""
        text = str(error) if isinstance(error, CaptureError) else repr(error)
        with self._lock:
            count = self._messages_refused.get(topic, (0, ""))[0] + 1
            self._messages_refused[topic] = (count, text)

    def _read(self, stream: Stream, data: bytes, source_ns: int, received_ns: int) -> None:
        tf = self._tf
        if stream.role == "diagnostics":
            self._diagnostics(data, received_ns)
        elif tf is None:
            return
        elif stream.role == "joint_states":
            self._joint_state(stream.topic, data, source_ns, received_ns)
        elif stream.role == "transforms":
            self._writer.call(stream.topic, lambda: tf.leave_out(read_child_frames(data)))
        elif stream.role == "retargeting_state" and b"transform_trainer_to_base" in data:
            text = read_status(data).values.get("transform_trainer_to_base", "")
            if text:
                self._writer.call(stream.topic, lambda: tf.set_trainer_transform(text))

    def _diagnostics(self, data: bytes, received_ns: int) -> None:
        if b": published" not in data and b"real_time_factor" not in data:
            return
        for status in read_status_array(data):
            if status.name.endswith(": published"):
                final = status.hardware_id == "final"
                for (topic, gid), count in parse_published_counts(status.values).items():
                    if topic in self._streams:
                        self.statistics.reported(topic, gid, count, final)
                    before = self._announced.get((topic, gid), _Announced(0, 0, 0))
                    self._announced[topic, gid] = _Announced(before.count, count, received_ns)
            elif status.name == self._simulated_robot and "real_time_factor" in status.values:
                factor = float(status.values["real_time_factor"])
                episode = self._episode_at(received_ns)
                if episode is not None and math.isfinite(factor):
                    lowest = episode.real_time_factor
                    episode.real_time_factor = factor if lowest is None else min(lowest, factor)

    def _joint_state(self, topic: str, data: bytes, source_ns: int, received_ns: int) -> None:
        for episode in self._finishing:
            # Samples from beyond the end until one is stamped after everything in the episode, so that its
            # last stamp lies between two.
            if not episode.tf_tail_done and not episode.closing and received_ns > episode.stop_ns:
                episode.tf_tail_done = CdrReader(data).stamp_ns() > episode.stop_ns + STAMP_LEAD_NS
                self._put_tf(episode, topic, data, source_ns, received_ns)
        # Due a little early: a publisher's jitter must not make every n-th sample wait for the next one.
        if source_ns < self._tf_next_ns - self._tf_period_ns // 8:
            return
        self._tf_next_ns = max(self._tf_next_ns + self._tf_period_ns, source_ns)
        self._tf_recent.append((topic, data, source_ns, received_ns))
        episode_now = self._episode_at(received_ns)
        if episode_now is not None:
            self._put_tf(episode_now, topic, data, source_ns, received_ns)

    def pass_done(self) -> None:
        """The taking thread has emptied every subscription once."""
        if not self._finishing:
            return
        now_s = time.monotonic()
        for episode in list(self._finishing):
            if episode.closing:
                continue
            episode.rounds_after_stop += 1
            # The first full round after the stop has everything the middleware had received before it.
            if episode.rounds_after_stop < 2:
                continue
            if now_s < episode.deadline_s and not self._tail_complete(episode):
                continue
            self._close(episode)

    def _tail_complete(self, episode: Episode) -> bool:
        if self._tf_recent and not episode.tf_tail_done:
            return False
        duration_s = max(1e-3, (episode.stop_ns - episode.start_ns) / 1e9)
        return not any(
            ended is episode and tail.received / duration_s >= TAIL_RATE_HZ
            for tails in self._open_tails.values()
            for ended, tail in tails
        )

    # Control ------------------------------------------------------------------------------------------------

    def start(self, fields: EpisodeFields) -> str:
        """Begin an episode and return its id. Raises `CaptureError` naming what is in the way.

        The file exists, and every stream goes into it, when this returns.
        """
        with self._lock:
            if self._active is not None:
                raise CaptureError(f"episode {self._active.id} is being recorded: stop or discard it first")
            if self._opening:
                raise CaptureError("an episode is being started already")
            self._opening = True
        try:
            episode = self._open(fields)
            with self._lock:
                self._begin(episode)
        finally:
            with self._lock:
                self._opening = False
        return episode.id

    def _open(self, fields: EpisodeFields) -> Episode:
        now_ns = time.time_ns()
        episode_id = new_episode_id(now_ns)
        path = episode_path(self.root, fields, episode_id, now_ns)
        with self._lock:
            opening = opening_record(fields, episode_id, now_ns, self._expected_hz())
        file = EpisodeFile(path, self.configuration.file)
        attachments = self.attachments

        def make() -> None:
            check_free_space(self.root, self.configuration.min_free_bytes)
            file.open()
            for attachment in attachments:
                file.attach(attachment, now_ns)
            file.add_metadata(OPENING_RECORD, opening)
            if file.problem is not None:
                file.remove()
                raise file.problem
            self._writer.watch(file)

        try:
            self._writer.submit(make).result(timeout=OPEN_TIMEOUT_S)
        except FutureTimeoutError as error:
            self._writer.submit(lambda: self._take_back(file))
            raise FileProblem(
                f"the disk of {path.parent} did not take a new file within {OPEN_TIMEOUT_S:g} s; "
                "check it or choose another folder with the parameter `root`",
                file.active_path,
            ) from error
        return Episode(episode_id, fields, file, opening)

    def _take_back(self, file: EpisodeFile) -> None:
        self._writer.unwatch(file)
        file.remove()

    def _begin(self, episode: Episode) -> None:
        episode.start_ns = time.time_ns()
        self.statistics.episode_begins(episode.id)
        head_ns = episode.start_ns - round(self.configuration.tf_head_s * 1e9)
        for stream in self._streams.values():
            for gid, (data, source_ns, sequence) in stream.latest.items():
                counts = stream.publishers[gid]
                window = self.statistics.episode(counts, episode.id)
                if self._writer.put(episode.file, stream.channel, head_ns, source_ns, sequence, data, window):
                    window.repeated += 1
        if self._tf is not None:
            episode.tf_counts = self.statistics.episode(self._tf_publisher, episode.id)
            episode.tf_static_counts = self.statistics.episode(self._tf_static_publisher, episode.id)
            self._writer.call("/tf_static", lambda: self._write_tf_static(episode, head_ns))
            for topic, data, source_ns, received_ns in self._tf_recent:
                if received_ns >= head_ns:
                    self._put_tf(episode, topic, data, source_ns, received_ns)
        self._active = episode

    def _expected_hz(self) -> dict[str, float | None]:
        """Expected rates by topic, None for those without a fixed one; the recorder's own included."""
        rates = {topic: stream.expected_hz for topic, stream in self._streams.items()}
        if self._tf is not None and "/tf" not in rates:
            joints = (s.expected_hz for s in self._streams.values() if s.role == "joint_states")
            # Made from measured joints, so never faster than they come.
            rates["/tf"] = min(
                [self.configuration.tf_rate_hz, *(rate for rate in joints if rate is not None)]
            )
        return rates

    def _episode_table(self, episode_id: str) -> dict[str, dict[str, Any]]:
        """`StreamStatistics.episode_table` with the expected rate of every row's topic."""
        rates = self._expected_hz()
        table = self.statistics.episode_table(episode_id)
        return {key: {**row, "expected_hz": rates.get(row["topic"])} for key, row in table.items()}

    def stop(self, discard: bool = False, verdict: str = "", reason: str = "") -> Future[Path]:
        """End the episode now; the future gives the final path, or the `CaptureError` that prevented it.

        Messages received up to now belong to it. A discarded episode goes to ``<root>/.trash``, with the
        verdict `discard` whatever ``verdict`` says. ``reason`` is in words.
        """
        if verdict not in VERDICTS:
            raise CaptureError(f"verdict {verdict!r} is given; {_one_of(VERDICTS)} is expected")
        with self._lock:
            episode = self._active
            if episode is None:
                raise CaptureError("no episode is being recorded")
            episode.stop_ns = time.time_ns()
            episode.discard = discard
            episode.verdict = DISCARDED if discard else verdict
            episode.reason = reason
            episode.deadline_s = time.monotonic() + self.configuration.tail_s
            self._active = None
            self._finishing.append(episode)
            for counts in self.statistics.publishers:
                window = counts.episodes.get(episode.id)
                if window is not None and counts.gid != OWN_GID:
                    self._open_tails.setdefault(id(counts), []).append((episode, window))
            return episode.result

    def finish_all(self, timeout_s: float, verdict: str = "", reason: str = "") -> list[str]:
        """End whatever episode there is and wait for its file; says what came of each that was still open.

        Verdict and reason as in `stop`. The taking thread has to be running.
        """
        with self._lock:
            if self._active is not None:
                self.stop(verdict=verdict, reason=reason)
            waiting = [(episode.file.active_path, episode.result) for episode in self._finishing]
        outcomes = []
        for active_path, result in waiting:
            try:
                outcomes.append(f"completed {result.result(timeout=timeout_s)}")
            except CaptureError as error:
                outcomes.append(str(error))
            except FutureTimeoutError:
                late = f"{active_path} was not completed within {timeout_s:g} s"
                outcomes.append(f"{late}; it is recovered at the next start")
        return outcomes

    def _close(self, episode: Episode) -> None:
        episode.closing = True
        self._writer.submit(lambda: self._finish(episode))

    def _finish(self, episode: Episode) -> None:
        """On the writer thread, after everything that belongs to the episode."""
        file = episode.file
        path: Path | None = None
        try:
            file.flush()
            with self._lock:
                topics = self.statistics.totals(episode.id)
                table = self._episode_table(episode.id)
                refused = self.refused_with_messages()
            file.add_metadata(STREAMS_RECORD, streams_record(table))
            file.add_metadata(
                EPISODE_RECORD,
                closing_record(
                    episode.opening,
                    start_ns=episode.start_ns,
                    end_ns=episode.stop_ns,
                    topics=topics,
                    refused=refused,
                    verdict=episode.verdict,
                    reason=episode.reason,
                    real_time_factor=episode.real_time_factor,
                ),
            )
            path = file.finish()
            if episode.discard:
                path = self._to_trash(path)
        except CaptureError as error:
            self._ended(episode, path, error)
        except Exception as error:
            # Nobody looks into this thread: whatever it is has to reach the one who waits for the file.
            message = f"finishing {file.active_path} failed: {error!r}; it is recovered at the next start"
            self._ended(episode, path, FileProblem(message, file.active_path))
        else:
            self._ended(episode, path, None)

    def _ended(self, episode: Episode, path: Path | None, error: CaptureError | None) -> None:
        self._writer.unwatch(episode.file)
        with self._lock:
            self._finishing.remove(episode)
            self._finished.append(
                {
                    "id": episode.id,
                    "path": str(path) if path is not None else str(episode.file.active_path),
                    "start_ns": episode.start_ns,
                    "end_ns": episode.stop_ns,
                    "discarded": episode.discard,
                    "verdict": episode.verdict,
                    "reason": episode.reason,
                    "real_time_factor": episode.real_time_factor,
                    "problem": "" if error is None else str(error),
                }
            )
        if error is None and path is not None:
            episode.result.set_result(path)
        else:
            episode.result.set_exception(error or CaptureError("no file"))

    def _to_trash(self, path: Path) -> Path:
        target = self.root / TRASH / path.relative_to(self.root)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            rename_without_overwriting(path, target)
        except OSError as error:
            message = f"cannot move the discarded {path} to {target}: {error.strerror}"
            raise FileProblem(message, path) from error
        return target

    # tf, on the writer thread -------------------------------------------------------------------------------

    def _put_tf(self, episode: Episode, topic: str, data: bytes, source_ns: int, received_ns: int) -> None:
        """``topic``: that of the joint states ``data``."""
        self._writer.call(topic, lambda: self._write_tf(episode, data, source_ns, received_ns))

    def _write_tf(self, episode: Episode, data: bytes, source_ns: int, received_ns: int) -> None:
        if self._tf is None or self._tf_channel is None or episode.tf_counts is None:
            return
        message = self._tf.message(self._joint_states.read(data))
        self._write_own(
            episode, self._tf_channel, self._tf_publisher, episode.tf_counts, message, source_ns, received_ns
        )

    def _write_tf_static(self, episode: Episode, head_ns: int) -> None:
        if self._tf is None or self._tf_static_channel is None or episode.tf_static_counts is None:
            return
        message = self._tf.static_message(head_ns)
        self._write_own(
            episode,
            self._tf_static_channel,
            self._tf_static_publisher,
            episode.tf_static_counts,
            message,
            head_ns,
            head_ns,
        )

    def _write_own(
        self,
        episode: Episode,
        channel: ChannelDescription,
        publisher: PublisherCounts,
        window: EpisodeCounts,
        message: bytes,
        source_ns: int,
        received_ns: int,
    ) -> None:
        if not message:
            # Others publish all of it.
            return
        sequence = (publisher.last or 0) + 1
        publisher.saw(sequence, len(message))
        window.received += 1
        window.first = window.first or sequence
        window.last = sequence
        window.after = sequence + 1
        episode.file.write(channel, received_ns, source_ns, sequence, message, window)

    # Queries ------------------------------------------------------------------------------------------------

    def status(self) -> EpisodeStatus:
        """The episode at hand: the one being recorded, else the one being finished, else idle."""
        with self._lock:
            episode = self._active or (self._finishing[-1] if self._finishing else None)
            if episode is None:
                return EpisodeStatus("idle", backlog_bytes=self._writer.backlog_bytes)
            end_ns = episode.stop_ns or time.time_ns()
            totals = self.statistics.totals(episode.id)
            problem = episode.file.problem
            return EpisodeStatus(
                state="recording" if episode is self._active else "finishing",
                id=episode.id,
                path=str(episode.file.path),
                duration_s=(end_ns - episode.start_ns) / 1e9,
                messages=sum(entry["written"] for entry in totals.values()),
                lost=sum(entry["lost"] for entry in totals.values()),
                bytes=episode.file.bytes,
                backlog_bytes=self._writer.backlog_bytes,
                problem="" if problem is None else str(problem),
            )

    def received(self) -> dict[str, int]:
        """Messages received per topic since the start of the recorder."""
        with self._lock:
            result: dict[str, int] = {}
            for counts in self.statistics.publishers:
                if counts.gid != OWN_GID:
                    result[counts.topic] = result.get(counts.topic, 0) + counts.received
            return result

    def refused_with_messages(self) -> dict[str, str]:
        """Why, by topic: topics that are not recorded, and those with messages that could not be used."""
        with self._lock:
            messages = {
                topic: f"messages that could not be used: {count}, the last: {text}"
                for topic, (count, text) in self._messages_refused.items()
            }
            return {**messages, **self.refused}

    def unheard(self) -> list[str]:
        """Topics that somebody says to be publishing, but nothing has arrived: not connected yet."""
        since_ns = time.time_ns() - ANNOUNCED_NS
        with self._lock:
            heard = {
                (topic, gid.hex()) for topic, stream in self._streams.items() for gid in stream.publishers
            }
            return sorted(
                {
                    topic
                    for (topic, gid), said in self._announced.items()
                    if (topic, gid) not in heard
                    and said.count > said.count_before
                    and said.received_ns >= since_ns
                }
            )

    def waiting_for_final(self, alive: frozenset[str]) -> list[str]:
        """Publishers that are on the graph and have not given their final counts."""
        with self._lock:
            return self.statistics.waiting_for_final(alive)

    def report(self) -> dict[str, Any]:
        """The run so far: per topic and publisher published, received, lost; the same for every episode."""
        with self._lock:
            self.statistics.close_tails()
            rows = self.statistics.run_table()
            episodes = [
                {
                    **entry,
                    "topics": self.statistics.totals(entry["id"]),
                    "streams": self._episode_table(entry["id"]),
                }
                for entry in self._finished
            ]
            not_joined = sum(
                row["not_joined"]
                for entry in episodes
                for row in entry["streams"].values()
                if row["expected_hz"] is not None
            )
        return {
            "published": sum(int(row["published"] or 0) for row in rows),
            "received": sum(int(row["received"] or 0) for row in rows),
            "lost": sum(int(row["lost"] or 0) for row in rows),
            "lost_in_episodes": sum(t["lost"] for e in episodes for t in e["topics"].values()),
            # Of streams with a rate: published inside an episode before the recorder had found the publisher.
            "not_joined_in_episodes": not_joined,
            "streams": rows,
            "episodes": episodes,
            "refused_topics": self.refused_with_messages(),
        }

    def close(self) -> None:
        """End the writer thread after its queue is worked off. An episode not stopped stays recoverable."""
        self._writer.stop()


def _one_of(words: tuple[str, ...]) -> str:
    return ", ".join(repr(word) for word in words[:-1]) + f" or {words[-1]!r}"


def check_free_space(root: Path, min_free_bytes: int) -> None:
    """Raises `FileProblem` where the disk of ``root`` has less than ``min_free_bytes`` left."""
    existing = root
    while not existing.exists() and existing != existing.parent:
        existing = existing.parent
    try:
        free = shutil.disk_usage(existing).free
    except OSError as error:
        raise FileProblem(f"cannot look at the disk of {root}: {error.strerror}", root) from error
    if free < min_free_bytes:
        raise FileProblem(
            f"the disk of {root} has {free / 1e6:.0f} MB left, {min_free_bytes / 1e6:.0f} MB are needed "
            "to start (disk.min_free_mb): free space or choose another folder with the parameter `root`",
            root,
        )


def purge_trash(root: Path, keep_h: float) -> list[Path]:
    """Delete discarded episodes older than ``keep_h`` hours and return them."""
    limit_s = time.time() - keep_h * 3600.0
    removed = []
    for path in sorted((root / TRASH).glob("**/*.mcap")):
        if path.stat().st_mtime < limit_s:
            path.unlink()
            removed.append(path)
    return removed
