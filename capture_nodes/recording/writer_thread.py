"""The one thread that touches the disk. The taking thread only appends to its queue."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

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


class WriterThread:
    """Runs messages and jobs in the order they were handed over.

    ``queue_limit_bytes`` bounds what waits for a slow disk; beyond it messages are refused and counted, never
    dropped silently, those of low priority earlier than others (`SHARES`). ``refused`` is told, on this
    thread, the topic and the reason where a message cannot be used. Nothing that goes wrong with one message
    or file ends the thread.
    """

    def __init__(self, queue_limit_bytes: int, refused: Callable[[str, Exception], None]) -> None:
        self._limits = [share * queue_limit_bytes for share in SHARES]
        self.counting = threading.Lock()
        self._refused = refused
        self._queue: deque[EpisodeMessage | EpisodeMessages | tuple[str, Callable[[], None]]] = deque()
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

    def put(self, message: EpisodeMessage, priority: int = len(SHARES) - 1) -> bool:
        """Queue a message; False, and ``counts.lost_queue`` one more, where the queue is full for it.

        Called by several threads. What else counts a loss holds `counting` meanwhile.
        """
        with self.counting:
            if self._bytes_in - self._bytes_out - self._held_bytes > self._limits[priority]:
                message.counts.lost_queue += 1
                return False
            self._bytes_in += len(message.data)
        self._queue.append(message)
        return True

    def reserve(self, size: int, priority: int) -> bool:
        """Room for ``size`` bytes, which `put_reserved` follows with; False where some might be refused."""
        with self.counting:
            if self._bytes_in + size - self._bytes_out - self._held_bytes > self._limits[priority]:
                return False
            self._bytes_in += size
            return True

    def put_reserved(self, messages: EpisodeMessages) -> None:
        """Queue what there is room for."""
        self._queue.append(messages)

    def call(self, topic: str, job: Callable[[], None]) -> None:
        """Queue what is to be done with a message of ``topic``; an exception refuses that message."""
        self._queue.append((topic, job))

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

        self._queue.append(("", run))
        self._wake.set()
        return future

    def watch(self, file: EpisodeParts) -> None:
        """Flush this file by time from now on (called on the writer thread)."""
        self._files.append(file)

    def unwatch(self, file: EpisodeParts) -> None:
        if file in self._files:
            self._files.remove(file)

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
            item = queue.popleft()
            if isinstance(item, EpisodeMessages):
                self._write_small(item)
                continue
            if not isinstance(item, EpisodeMessage):
                topic, job = item
                try:
                    job()
                except Exception as error:
                    self._refused(topic, error)
                continue
            file, channel, log_ns, publish_ns, sequence, data, counts = item
            self._write(file, channel, log_ns, publish_ns, sequence, data, counts)
            self._bytes_out += len(data)

    def _write_small(self, item: EpisodeMessages) -> None:
        file, channel, messages, counts, size = item
        if not file.write_small(channel, messages, counts, size):
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
            file.write(channel, log_ns, publish_ns, sequence, data, counts)
        except Exception as error:
            counts.lost_disk += 1
            self._refused(channel.topic, error)
