"""The one thread that touches the disk. The taking thread only appends to its queue."""

from __future__ import annotations

import math
import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from itertools import chain
from typing import NamedTuple, TypeVar

from capture_nodes.recording.camera_encoding import is_chained, stands_alone
from capture_nodes.recording.episode_message import EpisodeMessage, EpisodeMessages
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.stream_statistics import EpisodeCounts

T = TypeVar("T")

# Looking for work costs less than being woken for each of thousands of messages a second.
IDLE_S = 0.01
# How much of the queue a message of priority 0, 1, … may find filled.
SHARES = (0.7, 0.8, 0.9, 1.0)
# The priority of what is never refused nor given up.
ALWAYS = len(SHARES)
# So much of its limit is made free at once where a message has no room: a look through the queue takes time.
GIVEN_UP_AT_ONCE = 0.03


class _Job(NamedTuple):
    topic: str
    run: Callable[[], None]


class WriterThread:
    """Runs messages and jobs in the order they were handed over.

    ``queue_limit_bytes`` bounds what waits for a slow disk; beyond it messages are refused and counted, never
    dropped silently, those of low priority earlier than others (`SHARES`). What waits already gives way to
    what has a higher one: nothing is lost while something lower waits. ``refused`` is told, on this thread,
    the topic and the reason where a message cannot be used. Nothing that goes wrong with one message or file
    ends the thread.
    """

    def __init__(self, queue_limit_bytes: int, refused: Callable[[str, Exception], None]) -> None:
        self._limits = [*(share * queue_limit_bytes for share in SHARES), math.inf]
        self.counting = threading.Lock()
        self._refused = refused
        # Appended to under `counting`.
        self._queue: deque[EpisodeMessage | EpisodeMessages | _Job] = deque()
        # Nothing of a class below this waits.
        self._lowest = ALWAYS
        # Video, by file and topic, that goes on with a keyframe: what was queued last was given up.
        self._cut: set[tuple[EpisodeParts, str]] = set()
        self._bytes_in = 0
        self._bytes_out = 0
        self._held_bytes = 0
        self._files: list[EpisodeParts] = []
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="episode writer", daemon=True)
        self._thread.start()

    @property
    def backlog_bytes(self) -> int:
        return max(0, self._bytes_in - self._bytes_out - self._held_bytes)

    def hold(self, size: int) -> None:
        """Room for ``size`` bytes beside the limit, until `let_go`: for what is in memory anyway."""
        with self.counting:
            self._held_bytes += size

    def let_go(self, size: int) -> None:
        """The end of that room, once everything queued so far is written."""

        def end() -> None:
            with self.counting:
                self._held_bytes -= size

        self.call("", end)

    def put(self, message: EpisodeMessage) -> bool:
        """Queue a message; False, and ``counts.lost_queue`` one more, where nothing gives way to it.

        Called by several threads. What else counts a loss holds `counting` meanwhile.
        """
        priority = message.priority
        with self.counting:
            if (
                self._bytes_in - self._bytes_out - self._held_bytes > self._limits[priority]
                and not self._make_room(priority)
            ) or (self._cut and self._follows_one_given_up(message)):
                message.counts.lost_queue += 1
                return False
            self._bytes_in += len(message.data)
            if priority < self._lowest:
                self._lowest = priority
            self._queue.append(message)
        return True

    def put_all(self, messages: EpisodeMessages) -> bool:
        """Queue several; False, and nothing is done, where some of them might be refused."""
        size, priority = messages.size, messages.priority
        with self.counting:
            if self._bytes_in + size - self._bytes_out - self._held_bytes > self._limits[priority]:
                return False
            self._bytes_in += size
            if priority < self._lowest:
                self._lowest = priority
            self._queue.append(messages)
        return True

    def _make_room(self, priority: int) -> bool:
        """Give up what waits and is of a lower class, until a message of ``priority`` has room (`counting`).

        The lowest first, of each class the newest: they go on being refused until the disk has caught up, so
        the loss has no holes, and video that is left needs nothing that is not.
        """
        if self._lowest >= priority:
            return False
        waiting: list[EpisodeMessage | EpisodeMessages | _Job] = []
        # From the right, where nobody appends now, while the writer thread may go on taking from the left.
        with suppress(IndexError):
            while True:
                waiting.append(self._queue.pop())
        limit = self._limits[priority]
        excess = self._bytes_in - self._bytes_out - self._held_bytes - limit + GIVEN_UP_AT_ONCE * limit
        classes: list[list[EpisodeMessage | EpisodeMessages]] = [[] for _ in self._limits]
        for item in waiting:
            if not isinstance(item, _Job):
                classes[item.priority].append(item)
        given_up: set[int] = set()
        for item in chain.from_iterable(classes[:priority]):
            if excess <= 0:
                break
            given_up.add(id(item))
            excess -= self._give_up(item)
        left = [item for item in waiting if id(item) not in given_up]
        self._queue.extend(reversed(left))
        self._lowest = min((item.priority for item in left if not isinstance(item, _Job)), default=ALWAYS)
        return self._bytes_in - self._bytes_out - self._held_bytes <= limit

    def _give_up(self, item: EpisodeMessage | EpisodeMessages) -> int:
        """Count it as lost; its size."""
        if isinstance(item, EpisodeMessages):
            item.counts.lost_queue += len(item.messages)
            size = item.size
        else:
            item.counts.lost_queue += 1
            size = len(item.data)
            if is_chained(item.channel):
                self._cut.add((item.file, item.channel.topic))
        self._bytes_in -= size
        return size

    def _follows_one_given_up(self, message: EpisodeMessage) -> bool:
        """Whether it cannot be read because what came before it was given up after it was encoded."""
        key = message.file, message.channel.topic
        if key not in self._cut:
            return False
        if stands_alone(message.channel, message.data):
            self._cut.remove(key)
            return False
        return True

    def call(self, topic: str, job: Callable[[], None]) -> None:
        """Queue what is to be done with a message of ``topic``; an exception refuses that message."""
        with self.counting:
            self._queue.append(_Job(topic, job))

    def submit(self, job: Callable[[], T]) -> Future[T]:
        """Queue a job and get its result; runs after everything queued before it, without delay."""
        future: Future[T] = Future()

        def run() -> None:
            try:
                result = job()
            except Exception as error:
                future.set_exception(error)
            else:
                future.set_result(result)

        self.call("", run)
        self._wake.set()
        return future

    def watch(self, file: EpisodeParts) -> None:
        """Flush this file by time from now on (called on the writer thread)."""
        self._files.append(file)

    def unwatch(self, file: EpisodeParts) -> None:
        if file in self._files:
            self._files.remove(file)
        with self.counting:
            self._cut = {key for key in self._cut if key[0] is not file}

    def stop(self) -> None:
        """Work off the queue and end the thread. Files still open stay recoverable."""
        self._stopping.set()
        self._wake.set()
        self._thread.join()
        for file in self._files:
            file.flush()
            file.abandon()

    def _run(self) -> None:
        while True:
            stopping = self._stopping.is_set()
            self._drain()
            for file in self._files:
                try:
                    file.flush_if_due()
                except Exception as error:
                    file.fail(error)
            if stopping and not self._queue:
                return
            self._wake.wait(IDLE_S)
            self._wake.clear()

    def _drain(self) -> None:
        queue = self._queue
        # Bounded by what is there now: flushing by time must not wait for a pause in the stream.
        for _ in range(len(queue)):
            try:
                item = queue.popleft()
            except IndexError:
                # Somebody makes room in it.
                break
            if isinstance(item, EpisodeMessages):
                self._write_small(item)
                continue
            if isinstance(item, _Job):
                try:
                    item.run()
                except Exception as error:
                    self._refused(item.topic, error)
                continue
            file, channel, log_ns, publish_ns, sequence, data, counts, _ = item
            self._write(file, channel, log_ns, publish_ns, sequence, data, counts)
            self._bytes_out += len(data)

    def _write_small(self, item: EpisodeMessages) -> None:
        file, channel, messages, counts, size, _ = item
        if file.write_small(channel, messages, counts, size):
            counts.wrote_all(messages)
        else:
            for log_ns, publish_ns, sequence, data in messages:
                self._write(file, channel, log_ns, publish_ns, sequence, data, counts)
        self._bytes_out += size

    def _write(
        self,
        file: EpisodeParts,
        channel: ChannelDescription,
        log_ns: int,
        publish_ns: int,
        sequence: int,
        data: Buffer,
        counts: EpisodeCounts,
    ) -> None:
        try:
            if file.write(channel, log_ns, publish_ns, sequence, data, counts):
                counts.wrote(log_ns, publish_ns, data)
        except Exception as error:
            counts.lost_disk += 1
            self._refused(channel.topic, error)
