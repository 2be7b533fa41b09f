"""The recorder without ROS: streams, episodes, counts. A node feeds it what it takes.

Threads meet here. The *taking* thread calls `take_all` (or `take`, inside ``with recorder.taking():``) with
every message, and `pass_done`, inside that too, after it has been at every subscription. The *writer* thread
writes messages. Two more open and complete files, so that neither the next start nor the messages wait for
that. *Control* (services) calls `start`, `stop`, `discard_last`, `say` and the queries from any thread. One
lock orders taking and control; nothing that can block is done under it.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from capture_nodes.errors import CaptureError
from capture_nodes.recording.alignment import (
    AlignmentTable,
    reference_topic,
)
from capture_nodes.recording.camera_encoding import (
    CameraFigures,
    CameraSettings,
    stands_alone,
)
from capture_nodes.recording.camera_image import COMPRESSED_IMAGE, COMPRESSED_VIDEO
from capture_nodes.recording.cdr import read_status, read_status_array
from capture_nodes.recording.clock_watch import ClockMove, ClockWatch
from capture_nodes.recording.encoding_threads import EncodingThreads
from capture_nodes.recording.episode import Episode, EpisodeStatus
from capture_nodes.recording.episode_completion import EpisodeCompletion
from capture_nodes.recording.episode_message import EpisodeMessage, EpisodeMessages
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.episode_record import (
    DISCARDED,
    OPENING_RECORD,
    SAID_RECORD,
    VERDICTS,
    EpisodeFields,
    Moment,
    episode_path,
    new_episode_id,
    opening_record,
    said_moment,
    said_word,
)
from capture_nodes.recording.episode_transforms import OWN_GID, EpisodeTransforms
from capture_nodes.recording.fair_lock import FairLock
from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, FileProblem
from capture_nodes.recording.mcap_writer import LARGE_BYTES, Buffer, SmallMessage
from capture_nodes.recording.message_schemas import ament_prefixes, schema_text
from capture_nodes.recording.publisher_reports import PublisherReports
from capture_nodes.recording.recent_messages import RecentMessages, Taken, TakenMessage
from capture_nodes.recording.recorded_streams import RecordedStreams
from capture_nodes.recording.recorder_configuration import RecorderConfiguration
from capture_nodes.recording.recordings_folder import check_free_space
from capture_nodes.recording.stream import Latched, Stream
from capture_nodes.recording.stream_diagnostics import RecorderLoad
from capture_nodes.recording.stream_statistics import LiveCounts, StreamStatistics
from capture_nodes.recording.stream_timing import EpisodeTimes
from capture_nodes.recording.tf_stream import TfStream
from capture_nodes.recording.video_encoder import SOFTWARE, choose_encoder
from capture_nodes.recording.writer_thread import ALWAYS, WriterThread

OPEN_TIMEOUT_S = 10.0
_OPENING_NS = 100_000_000
# Only a publisher faster than this can be expected to show its next message within the tail.
TAIL_RATE_HZ = 25.0
_new = tuple.__new__
# States of the retargeter, and what the clock was set by, are remembered for the pre-roll.
CLUTCH_STATES = 1000
CLOCK_MOVES = 1000
# An episode is taken to become as long as this, or as the longest of the run.
EPISODE_S = 60.0
# What is left of a camera's bytes once they are encoded, at most usually.
ENCODED_SHARE = 0.1


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
        self.root = root
        self.configuration = configuration
        self.statistics = StreamStatistics()
        self.attachments = attachments
        # What somebody should read in the log; the node takes it from the left.
        self.notes: deque[str] = deque(maxlen=1000)
        self._lock = FairLock()
        tf_rate_hz = None if tf is None else configuration.tf_rate_hz
        self.streams = RecordedStreams(self.statistics, self._lock, tf_rate_hz)
        self._writer = WriterThread(configuration.queue_limit_bytes, self.streams.refuse_message)
        self._opener = ThreadPoolExecutor(1, "episode opener")
        self._completion = EpisodeCompletion(
            root, self.streams, self.statistics, self._lock, self._completed, self.notes.append
        )
        self._pre_roll_ns = round(configuration.pre_roll_s * 1e9)
        self._post_roll_ns = round(configuration.post_roll_s * 1e9)
        self._transforms: EpisodeTransforms | None = None
        if tf is not None:
            if tf_channel is None or tf_static_channel is None:
                raise CaptureError("a tf stream needs the channels of /tf and /tf_static")
            self._transforms = EpisodeTransforms(
                tf,
                tf_channel,
                tf_static_channel,
                self.statistics,
                self._writer,
                configuration.tf_rate_hz,
                round(configuration.tf_head_s * 1e9),
                self._pre_roll_ns,
            )
        encoded = any(rule.encoding != "raw" for rule in configuration.topics)
        self._encoders = self._encoding_threads() if encoded else None
        # A little more than the pre-roll, for the time that opening a file takes.
        span_ns = self._pre_roll_ns + _OPENING_NS if self._pre_roll_ns else 0
        self._recent = RecentMessages(span_ns, configuration.pre_roll_limit_bytes, time.time_ns())
        self._active: Episode | None = None
        self._opening = False
        # What messages may still belong to: the one being recorded, and those in their post-roll or tail.
        self._open: list[Episode] = []
        # Those of them that wait for their pre-roll.
        self._beginning: list[Episode] = []
        # Those that are written to their end and become files.
        self._closing: list[Episode] = []
        self._last: Episode | None = None
        self._reports = PublisherReports(self.statistics)
        # With the time that decides what they belong to, which moves with the clock.
        self._clutch: deque[tuple[int, Moment]] = deque(maxlen=CLUTCH_STATES)
        self._clock_moves: deque[tuple[int, ClockMove]] = deque(maxlen=CLOCK_MOVES)
        self._clock = ClockWatch()
        self._clock_moved_ns = 0
        # The clock at the last look at it.
        self._now_ns = 0
        # Of the last second; "plain" is what is written as it comes.
        self._bytes_taken = self._plain_bytes_taken = 0
        self._bytes_per_s = self._plain_bytes_per_s = 0.0
        self._since_s = time.monotonic()
        self._longest_s = 0.0

    # Streams ------------------------------------------------------------------------------------------------

    def _encoding_threads(self) -> EncodingThreads:
        """With an encoder that works here."""
        try:
            codec = choose_encoder(self.configuration.cameras.video).codec
        except CaptureError as error:
            codec = SOFTWARE
            self.notes.append(f"cameras are not recorded as video: {error}")
        prefixes = ament_prefixes()
        return EncodingThreads(
            self._writer.put,
            self._camera_settings,
            {
                type_name: schema_text(type_name, prefixes)
                for type_name in (COMPRESSED_VIDEO, COMPRESSED_IMAGE)
            },
            codec=codec,
            threads=self.configuration.encoder_threads,
            queue_limit_bytes=self.configuration.queue_limit_bytes,
            counting=self._writer.counting,
            told=lambda step: self.notes.append(str(step)),
            failed=self.streams.refuse_message,
        )

    def _camera_settings(self, channel: ChannelDescription) -> CameraSettings:
        stream = self.streams.by_topic[channel.topic]
        rate_hz = stream.expected_hz or self.configuration.cameras.rate_hz
        return replace(self.configuration.cameras, encoding=stream.encoding, rate_hz=rate_hz)

    # Taking -------------------------------------------------------------------------------------------------

    @contextmanager
    def taking(self) -> Iterator[None]:
        with self._lock:
            yield

    def take(
        self, stream: Stream, data: Buffer, source_ns: int, received_ns: int, sequence: int | None, gid: bytes
    ) -> None:
        """A message as the middleware gave it. ``sequence``: the publisher's own number, None if unknown."""
        if self._beginning:
            self._give_pre_roll()
        counts = stream.publishers.get(gid)
        if counts is None:
            self.streams.new_publisher(stream)
            counts = stream.publishers[gid] = self.statistics.publisher(stream.topic, gid.hex())
        size = len(data)
        self._bytes_taken += size
        if stream.encoding == "raw":
            self._plain_bytes_taken += size
        if received_ns > self._now_ns:
            self._follow_clock()
        # What was received before the clock was set back did not come later than now.
        now_ns = self._now_ns
        arrival = counts.arrived(sequence, size, source_ns, received_ns if received_ns < now_ns else now_ns)
        crossed_ns = counts.latest_received_ns
        # As the constructor makes it, but for half of the time.
        message = _new(TakenMessage, (stream, counts, data, source_ns, received_ns, crossed_ns, arrival, gid))
        self._recent.add(message, size)
        for episode in self._open:
            if episode.start_ns <= crossed_ns <= episode.end_ns:
                self._give(episode, message)
        if stream.role:
            self._read_or_refuse(message)

    def take_all(self, stream: Stream, messages: Sequence[Taken]) -> None:
        """`take` for each of several messages of a stream: data, source and received time, number, gid.

        Outside of `taking`, too: who starts and stops waits for no more than these.
        """
        with self._lock:
            if not self._take_usual(stream, messages):
                for data, source_ns, received_ns, sequence, gid in messages:
                    self.take(stream, data, source_ns, received_ns, sequence, gid)

    def _take_usual(self, stream: Stream, messages: Sequence[Taken]) -> bool:
        """What `take` does, for several small messages at once; False, and nothing is done, where one of them
        is not what it usually is: the next of its publisher, in order, into the one episode that is open.
        """
        newest_ns, gid = messages[-1][2], messages[-1][4]
        counts = stream.publishers.get(gid)
        if counts is None or self._beginning or len(self._open) != 1 or stream.encoding != "raw":
            return False
        if stream.role and stream.role != "joint_states":
            return False
        if newest_ns > self._now_ns:
            self._follow_clock()
        now_ns, episode = self._now_ns, self._open[0]
        window, last = counts.episodes.get(episode.id), counts.last
        if window is None or window.last is None or last is None or episode.stopped or counts.ends_open():
            return False
        latest_ns, interval_ns, delay_ns = (
            counts.latest_received_ns,
            counts.peak_interval_ns,
            counts.peak_delay_ns,
        )
        if latest_ns < episode.start_ns:
            return False
        kept: list[TakenMessage] = []
        given: list[SmallMessage] = []
        size = 0
        for data, source_ns, received_ns, sequence, its_gid in messages:
            bytes_in = len(data)
            if (
                sequence != last + 1
                or its_gid != gid
                or bytes_in >= LARGE_BYTES
                or source_ns < 0
                or not latest_ns <= received_ns <= now_ns
            ):
                return False
            if received_ns - latest_ns > interval_ns:
                interval_ns = received_ns - latest_ns
            if received_ns - source_ns > delay_ns:
                delay_ns = received_ns - source_ns
            fields = (
                stream,
                counts,
                data,
                source_ns,
                received_ns,
                received_ns,
                (sequence, last, False),
                gid,
            )
            kept.append(_new(TakenMessage, fields))
            given.append((received_ns, source_ns, sequence, data))
            latest_ns, last = received_ns, sequence
            size += bytes_in
        several = EpisodeMessages(episode.file, stream.channel, given, window, size, stream.priority)
        if not self._writer.put_all(several):
            return False
        counts.took(len(kept), size, last, latest_ns, interval_ns, delay_ns)
        window.received += len(kept)
        window.last = last
        self._bytes_taken += size
        self._plain_bytes_taken += size
        self._recent.extend(kept, size)
        if stream.role:
            for message in kept:
                self._read_or_refuse(message)
        return True

    def _give(self, episode: Episode, message: TakenMessage, held: bool = False) -> None:
        """Into the episode; ``held`` where it has been kept for it."""
        stream, counts, data, source_ns, received_ns, _, arrival, _ = message
        window = self.statistics.into(episode.id, counts, arrival)
        given = _new(
            EpisodeMessage,
            (
                episode.file,
                stream.channel,
                received_ns,
                source_ns,
                arrival[0] or 0,
                data,
                window,
                stream.priority,
            ),
        )
        if stream.encoding == "raw" or self._encoders is None:
            self._writer.put(given)
        else:
            self._encoders.put(given, held)

    def _read_or_refuse(self, message: TakenMessage) -> None:
        try:
            self._read(message)
        except Exception as error:
            # One odd message must not end the taking of all others; it is in the file as it came.
            self.streams.refuse_message(message.stream.topic, error)

    def _read(self, message: TakenMessage) -> None:
        stream, data = message.stream, bytes(message.data)
        if stream.role == "diagnostics":
            self._diagnostics(message, data)
        elif stream.role == "retargeting_state":
            self._retargeting_state(message, data)
        elif self._transforms is None:
            return
        elif stream.role == "joint_states":
            self._transforms.joint_state(
                stream.topic, data, message.source_ns, message.received_ns, self._open
            )
        elif stream.role == "transforms":
            self._transforms.leave_out(stream.topic, data)

    def _diagnostics(self, message: TakenMessage, data: bytes) -> None:
        crossed_ns = message.crossed_ns
        if b": published" not in data and b"real_time_factor" not in data:
            return
        for status in read_status_array(data):
            if status.name.endswith(": published"):
                self._reports.heard(status, self.streams.by_topic, message.received_ns)
            elif "real_time_factor" in status.values and status.name in self._simulated_robots():
                factor = float(status.values["real_time_factor"])
                for episode in self._open:
                    if math.isfinite(factor) and episode.start_ns <= crossed_ns <= episode.end_ns:
                        lowest = episode.real_time_factor
                        episode.real_time_factor = factor if lowest is None else min(lowest, factor)

    def _simulated_robots(self) -> list[str]:
        """What a node would be called that simulates the robot whose joints are recorded."""
        joints = [topic for topic, s in self.streams.by_topic.items() if s.role == "joint_states"]
        return [f"{topic.rsplit('/', 1)[0]}/simulated_robot" for topic in joints]

    def _retargeting_state(self, message: TakenMessage, data: bytes) -> None:
        if self._transforms is not None:
            self._transforms.join_trainer(message.stream.topic, data)
        status = read_status(data)
        clutch = Moment(message.received_ns, status.message, _clutches(status.values))
        self._clutch.append((message.crossed_ns, clutch))
        for episode in self._open:
            if message.crossed_ns <= episode.end_ns:
                episode.clutch.append(clutch)
                self._put_down(episode, said_moment("clutch", clutch))

    def pass_done(self, whole: bool = True) -> None:
        """The taking thread has been at every subscription once.

        ``whole``: that ended a round, in which it has taken all that was there when the round began.
        """
        if self._beginning:
            self._give_pre_roll()
        self._follow_clock()
        now_ns = self._now_ns
        self._recent.forget(now_ns)
        elapsed_s = time.monotonic() - self._since_s
        if elapsed_s >= 1.0:
            self._bytes_per_s = self._bytes_taken / elapsed_s
            self._plain_bytes_per_s = self._plain_bytes_taken / elapsed_s
            self._bytes_taken = self._plain_bytes_taken = 0
            self._since_s += elapsed_s
        for episode in list(self._open):
            if episode.file.problem is not None and not episode.stopped:
                # Nothing more can be written: the trainer need not go on.
                self._end(episode, "failure", str(episode.file.problem), post_roll_ns=0)
                self._active = None
            if now_ns <= episode.end_ns or not whole:
                continue
            if not episode.rounds_after_end:
                episode.tail_deadline_s = time.monotonic() + self.configuration.tail_s
            episode.rounds_after_end += 1
            # The first full round after the end has everything the middleware had received before it.
            if episode.rounds_after_end < 2:
                continue
            if time.monotonic() < episode.tail_deadline_s and self._tail_missing(episode):
                continue
            self._close(episode)

    def _follow_clock(self) -> None:
        """Where the clock was set, all borders, and all that is held against them, are moved along.

        So episodes, pre-roll and post-roll are as long as they would have been. What is in the file keeps the
        times that it came with.
        """
        by_ns = self._clock.moved_ns()
        self._now_ns = time.time_ns()
        if not by_ns:
            return
        move = ClockMove(self._now_ns, by_ns)
        self._clock_moved_ns += by_ns
        self.statistics.clock_moved(by_ns)
        self._recent.clock_moved(by_ns)
        self._reports.clock_moved(by_ns)
        if self._transforms is not None:
            self._transforms.clock_moved(by_ns)
        for episode in self._beginning + self._open:
            episode.clock_moved(move)
        self._clutch = deque(((at + by_ns, state) for at, state in self._clutch), CLUTCH_STATES)
        moves = [(at + by_ns, earlier) for at, earlier in self._clock_moves]
        self._clock_moves = deque([*moves, (self._now_ns, move)], CLOCK_MOVES)
        self.notes.append(f"the station's clock was set {by_ns / 1e9:+.3f} s")

    def _tail_missing(self, episode: Episode) -> bool:
        if self._transforms is not None and self._transforms.tail_missing(episode):
            return True
        duration_s = max(1e-3, (episode.end_ns - episode.start_ns) / 1e9)
        return any(
            counts.gid != OWN_GID and window.received / duration_s >= TAIL_RATE_HZ
            for counts, window in self.statistics.tails_open(episode.id)
        )

    # Control ------------------------------------------------------------------------------------------------

    def start(self, fields: EpisodeFields, attachments: tuple[Attachment, ...] = ()) -> str:
        """Begin an episode and return its id. Raises `CaptureError` naming what is in the way.

        ``attachments``: of this episode, beside the recorder's own. The file exists, and every stream goes
        into it, when this returns. What was received within the pre-roll is in it, also where that belongs
        to the episode before.
        """
        with self._lock:
            if self._active is not None:
                raise CaptureError(f"episode {self._active.id} is being recorded: stop or discard it first")
            if self._opening:
                raise CaptureError("an episode is being started already")
            self._opening = True
            self._follow_clock()
            started_ns, moved_ns = time.time_ns(), self._clock_moved_ns
        try:
            episode = self._open_file(fields, self.attachments + attachments, started_ns)
            with self._lock:
                self._follow_clock()
                self._begin(episode, started_ns + self._clock_moved_ns - moved_ns)
        finally:
            with self._lock:
                self._opening = False
        return episode.id

    def _open_file(
        self, fields: EpisodeFields, attachments: tuple[Attachment, ...], started_ns: int
    ) -> Episode:
        episode_id = new_episode_id(started_ns)
        path = episode_path(self.root, fields, episode_id, started_ns)
        with self._lock:
            opening = opening_record(fields, episode_id, started_ns, self.streams.expected_hz())
            needed_bytes, why = self._needed_bytes()
            options = replace(self.configuration.file, direct=self._is_heavy())
        file = EpisodeParts(path, options, self.configuration.split, self.streams.is_latched, stands_alone)

        def make() -> None:
            check_free_space(self.root, needed_bytes, why)
            file.open()
            for attachment in attachments:
                file.attach(attachment, started_ns)
            file.add_metadata(OPENING_RECORD, opening)
            if file.problem is not None:
                file.remove()
                raise file.problem

        try:
            self._opener.submit(make).result(timeout=OPEN_TIMEOUT_S)
        except FutureTimeoutError as error:
            self._opener.submit(file.remove)
            raise FileProblem(
                f"the disk of {path.parent} did not take a new file within {OPEN_TIMEOUT_S:g} s; "
                "check it or choose another folder with the parameter `root`",
                file.active_path,
            ) from error
        return Episode(episode_id, fields, file, opening, started_ns)

    def _is_heavy(self) -> bool:
        """Whether what is written as it comes is more than the page cache should be filled with.

        By the last second, and by what the pre-roll holds: cameras may have come since.
        """
        limit, span_s = self.configuration.direct_bytes_per_s, self._recent.span_s
        recent = sum(len(taken.data) for taken in self._recent if taken.stream.encoding == "raw")
        bytes_per_s = max(self._plain_bytes_per_s, recent / span_s if span_s else 0.0)
        return 0.0 < limit < bytes_per_s

    def _needed_bytes(self) -> tuple[float, str]:
        """Room for an episode of the run's longest, and at least usual, length: by what the last one took."""
        episode_s = max(EPISODE_S, self._longest_s)
        last = self._last
        if last is not None and last.stopped and last.file.size:
            written_s = max(0.1, (last.end_ns - last.start_ns) / 1e9)
            bytes_per_s = last.file.size / written_s
        else:
            encoded = self._bytes_per_s - self._plain_bytes_per_s
            bytes_per_s = self._plain_bytes_per_s + ENCODED_SHARE * encoded
        least, expected = float(self.configuration.min_free_bytes), bytes_per_s * episode_s
        return least + expected, (
            f"disk.min_free_mb {least / 1e6:.0f} and {expected / 1e6:.0f} for {episode_s:.0f} s"
        )

    def _begin(self, episode: Episode, started_ns: int) -> None:
        """``started_ns``: when the start was asked for, by the clock as it is now."""
        episode.start_ns = max(started_ns - self._pre_roll_ns, self._recent.complete_since_ns)
        file = episode.file
        self._writer.call("", lambda: self._writer.watch(file))
        reference = reference_topic(self.streams.by_topic, self.configuration.reference)
        episode.alignment = AlignmentTable(reference)
        episode.times = EpisodeTimes(episode.alignment.add)
        episode.times.judged.begin_ns = episode.started_ns
        for move in [move for at, move in self._clock_moves if at >= episode.start_ns]:
            episode.judge_by_a_moved_clock(move)
        self.statistics.episode_begins(episode.id, episode.times)
        recent: dict[str, list[tuple[bytes, Latched]]] = {}
        for taken in self._recent:
            if taken.stream.latched and taken.crossed_ns < episode.start_ns:
                entry = (bytes(taken.data), taken.source_ns, taken.number)
                recent.setdefault(taken.stream.topic, []).append((taken.gid, entry))
        head_ns = episode.start_ns - round(self.configuration.tf_head_s * 1e9)
        for topic, stream in self.streams.by_topic.items():
            latched = stream.heard_before(recent.get(topic, ())) if stream.latched else {}
            for gid, (data, source_ns, sequence) in latched.items():
                window = self.statistics.episode(stream.publishers[gid], episode.id)
                message = EpisodeMessage(
                    file, stream.channel, head_ns, source_ns, sequence, data, window, ALWAYS
                )
                self._writer.put(message)
                window.repeated += 1
        if self._transforms is not None:
            self._transforms.begin(episode)
        episode.clutch = [state for at, state in self._clutch if at >= episode.start_ns]
        episode.clutch[:0] = [state for at, state in self._clutch if at < episode.start_ns][-1:]
        for state in episode.clutch:
            self._put_down(episode, said_moment("clutch", state))
        episode.refused_before = self.streams.messages_refused()
        self._beginning.append(episode)
        self._active = self._last = episode

    def _give_pre_roll(self) -> None:
        """To the episodes that have begun, by the taking thread, so that nobody waits for it."""
        for episode in self._beginning:
            pre_roll = [m for m in self._recent if episode.start_ns <= m.crossed_ns <= episode.end_ns]
            # Kept until now within a limit of its own: it must not cost the queue, nor be lost to it.
            plain = self._encoders is None
            size = sum(len(m.data) for m in pre_roll if plain or m.stream.encoding == "raw")
            self._writer.hold(size)
            for message in pre_roll:
                self._give(episode, message, held=True)
            self._writer.let_go(size)
        self._open += self._beginning
        self._beginning = []

    def stop(self, discard: bool = False, verdict: str = "", reason: str = "") -> Future[Path]:
        """End the episode after its post-roll; the future gives the final path, or the `CaptureError` that
        prevented it.

        A discarded episode ends at once and goes to ``<root>/.trash``, with the verdict `discard` whatever
        ``verdict`` says. ``reason`` is in words. An episode that a failing disk has ended is answered too.
        """
        check_verdict(verdict)
        with self._lock:
            episode = self._active
            if episode is None:
                last = self._last
                if last is not None and last.file.problem is not None and not last.answered:
                    last.answered = True
                    if verdict or reason:
                        self._say(last, verdict, reason or last.reason)
                    return last.result
                raise CaptureError("no episode is being recorded")
            episode.answered = True
            if discard:
                episode.discard, verdict = True, DISCARDED
            self._end(episode, verdict, reason, 0 if discard else self._post_roll_ns)
            self._active = None
            return episode.result

    def _end(self, episode: Episode, verdict: str, reason: str, post_roll_ns: int) -> None:
        self._follow_clock()
        episode.stopped_ns = time.time_ns()
        episode.end_ns = episode.stopped_ns + post_roll_ns
        self.statistics.episode_ends(episode.id, episode.end_ns)
        if not episode.clock_moves:
            episode.times.judged.end_ns = episode.stopped_ns
        episode.verdict, episode.reason = verdict or episode.verdict, reason or episode.reason
        if verdict or reason:
            self._put_down(episode, said_word(episode.verdict, episode.reason))
        self._longest_s = max(self._longest_s, (episode.end_ns - episode.start_ns) / 1e9)

    def _cut(self, episode: Episode) -> None:
        """End the post-roll now."""
        self._follow_clock()
        episode.end_ns = min(episode.end_ns, time.time_ns())
        self.statistics.episode_ends(episode.id, episode.end_ns)

    def discard_last(self, reason: str = "") -> Future[Path]:
        """Discard the episode at hand or, between two, the last one; the future gives its place in the trash.

        ``reason`` in words. Raises `CaptureError` where there is none.
        """
        with self._lock:
            if self._active is not None:
                return self.stop(discard=True, reason=reason)
            last = self._last
            if last is None:
                raise CaptureError("no episode has been recorded")
            if last in self._open + self._beginning:
                last.discard, last.verdict, last.reason = True, DISCARDED, reason or last.reason
                self._put_down(last, said_word(last.verdict, last.reason))
                self._cut(last)
                return last.result
            last.given_up = True
        return self._completion.discard(last, reason)

    def say(self, verdict: str, reason: str = "") -> Future[str]:
        """The trainer's word on the episode at hand or, between two, on the last one.

        The future gives its id once the word is kept, or the `CaptureError` that prevented it. Raises
        `CaptureError` where there is no episode, or a discarded one.
        """
        check_verdict(verdict)
        with self._lock:
            episode = self._active or self._last
            if episode is None:
                raise CaptureError("no episode has been recorded")
            if episode.discard or episode.given_up:
                raise CaptureError(f"episode {episode.id} is discarded: no word brings it back")
            return self._say(episode, verdict, reason)

    def _say(self, episode: Episode, verdict: str, reason: str) -> Future[str]:
        episode.verdict, episode.reason = verdict, reason or episode.reason
        if episode.recorded:
            return self._completion.say(episode, verdict, reason)
        self._put_down(episode, said_word(verdict, episode.reason))
        kept: Future[str] = Future()
        kept.set_result(episode.id)
        return kept

    def mark_moment(self, label: str) -> tuple[str, int]:
        """Note this moment of the episode at hand; its id and the time (ns). Raises `CaptureError`."""
        with self._lock:
            if self._active is None:
                raise CaptureError("no episode is being recorded")
            moment = Moment(time.time_ns(), label)
            self._active.moments.append(moment)
            self._put_down(self._active, said_moment("moment", moment))
            return self._active.id, moment.time_ns

    def _put_down(self, episode: Episode, said: dict[str, str]) -> None:
        """At once into the file: its closing record comes only at its end, which a kill may prevent."""

        def write() -> None:
            if not episode.handed_over:
                episode.file.add_metadata(SAID_RECORD, said)

        self._writer.submit(write)

    def finish_all(self, timeout_s: float, verdict: str = "", reason: str = "") -> list[str]:
        """End whatever episode there is, without a post-roll, and wait for its file; says what came of each
        that was still open.

        Verdict and reason as in `stop`. The taking thread has to be running.
        """
        with self._lock:
            if self._active is not None:
                self._end(self._active, verdict, reason, post_roll_ns=0)
                self._active = None
            unfinished = self._open + self._beginning
            for episode in unfinished:
                self._cut(episode)
            unfinished += self._closing
            waiting = [(episode.file.active_path, episode.result) for episode in unfinished]
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

    # Completing ---------------------------------------------------------------------------------------------

    def _close(self, episode: Episode) -> None:
        """Everything that belongs to the episode has been taken."""
        self._open.remove(episode)
        self._closing.append(episode)
        if self._encoders is None:
            self._encoded(episode, ())
        else:
            self._encoders.close(episode.file, lambda figures: self._encoded(episode, figures))

    def _encoded(self, episode: Episode, cameras: tuple[CameraFigures, ...]) -> None:
        episode.cameras = cameras
        self._writer.submit(lambda: self._written(episode))

    def _written(self, episode: Episode) -> None:
        """On the writer thread, after everything that belongs to the episode."""
        self._writer.unwatch(episode.file)
        episode.handed_over = True
        self._completion.complete(episode)

    def _completed(self, episode: Episode) -> None:
        self._closing.remove(episode)

    # Queries ------------------------------------------------------------------------------------------------

    def status(self) -> EpisodeStatus:
        """The episode at hand: the one being recorded, else the one being finished, else idle."""
        with self._lock:
            unfinished = self._closing + self._open + self._beginning
            episode = self._active or (unfinished[-1] if unfinished else None)
            backlog_bytes = self._writer.backlog_bytes
            if episode is None:
                return self._idle(backlog_bytes)
            end_ns = min(time.time_ns(), episode.end_ns)
            totals = self.statistics.totals(episode.id)
            return EpisodeStatus(
                state="recording" if episode is self._active else "finishing",
                id=episode.id,
                path=str(episode.file.path),
                duration_s=(end_ns - episode.start_ns) / 1e9,
                messages=sum(entry["written"] for entry in totals.values()),
                lost=sum(entry["lost"] for entry in totals.values()),
                bytes=episode.file.bytes,
                backlog_bytes=backlog_bytes,
                problem=_text(episode.file.problem),
            )

    def _idle(self, backlog_bytes: int) -> EpisodeStatus:
        """Between two episodes; what came of the last one is told until the next start."""
        last = self._last
        if last is None:
            return EpisodeStatus("idle", backlog_bytes=backlog_bytes)
        return EpisodeStatus(
            "idle",
            backlog_bytes=backlog_bytes,
            problem=_text(last.file.problem),
            quality="" if last.quality is None else last.quality.verdict,
            quality_reasons=() if last.quality is None else tuple(last.quality.reasons),
        )

    def fold(self) -> None:
        """Take the times of the episodes at hand into their figures: once a second, by any thread."""
        # A copy in one step, without the lock: the taking thread must not wait for one in the background.
        for episode in list(self._open):
            episode.times.fold()
            episode.alignment.advance()

    def live(self) -> tuple[list[LiveCounts], RecorderLoad]:
        """Every stream and the recorder as a whole at this moment, for `StreamDiagnostics`."""
        with self._lock:
            counts = self.statistics.live([episode.id for episode in self._closing + self._open])
        status = self.status()
        return counts, RecorderLoad(
            status.state, status.backlog_bytes, self.configuration.queue_limit_bytes, problem=status.problem
        )

    def received(self) -> dict[str, int]:
        """Messages received per topic since the start of the recorder."""
        with self._lock:
            result: dict[str, int] = {}
            for counts in self.statistics.publishers:
                if counts.gid != OWN_GID:
                    result[counts.topic] = result.get(counts.topic, 0) + counts.received
            return result

    def unheard(self) -> list[str]:
        """Topics that somebody says to be publishing, but nothing has arrived: not connected yet."""
        with self._lock:
            return self._reports.unheard(self.streams.by_topic)

    def waiting_for_final(self, alive: frozenset[str]) -> list[str]:
        """Publishers that are on the graph and have not given their final counts."""
        with self._lock:
            return self.statistics.waiting_for_final(alive)

    def report(self) -> dict[str, Any]:
        """The run so far: per topic and publisher published, received, lost; the same for every episode."""
        with self._lock:
            self.statistics.close_tails()
            rows = self.statistics.run_table()
            episodes = self._completion.report()
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
            "refused_topics": self.streams.refused_with_messages(),
        }

    def close(self) -> None:
        """End the threads after their queues are worked off. An episode not stopped stays recoverable."""
        if self._encoders is not None:
            self._encoders.stop()
        self._writer.stop()
        self._completion.stop()
        self._opener.shutdown()


def check_verdict(verdict: str) -> None:
    """Raises `CaptureError` where ``verdict`` is none that a person may give."""
    if verdict not in VERDICTS:
        raise CaptureError(f"verdict {verdict!r} is given; {_one_of(VERDICTS)} is expected")


def _text(problem: FileProblem | None) -> str:
    return "" if problem is None else str(problem)


def _one_of(words: tuple[str, ...]) -> str:
    return ", ".join(repr(word) for word in words[:-1]) + f" or {words[-1]!r}"


def _clutches(values: Mapping[str, str]) -> dict[str, str]:
    return {key: value for key, value in values.items() if key.endswith("_clutch")}
