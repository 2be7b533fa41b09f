"""The stage between taking and writing that encodes cameras, so that neither of the two does.

Every camera of every file is a lane with its own encoder (`CameraEncoder`): its frames are worked off one
after another, whichever thread does it, so their order is kept; lanes take turns. What is handed over is
bounded by bytes. A camera whose frames wait too long is recorded a step cheaper (faster H.264, JPEG, raw)
until they have not waited for a while (`EncodingPace`); a frame is refused, and counted, only where even that
is not enough.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple
from weakref import WeakSet

from capture_nodes.recording.background import Background
from capture_nodes.recording.camera_encoding import CameraEncoder, CameraFigures, CameraSettings, EncodingStep
from capture_nodes.recording.encoding_pace import BEHIND, EncodingPace
from capture_nodes.recording.episode_message import EpisodeMessage
from capture_nodes.recording.episode_parts import EpisodeParts
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.stream_statistics import EpisodeCounts
from capture_nodes.recording.video_encoder import SOFTWARE

# Large frames fill the queue before any of them has waited for long.
CROWDED = 0.75
# Shares of the longest wait that is allowed: from this on the encoders do not wait behind other programs,
HURRY = 0.5
# and so long after one camera's step up the next may have its own.
RISING = 2.0


# `WriterThread.put`: takes an encoded message, from several threads. False where it refuses, and
# ``counts.lost_queue`` one more.
Sink = Callable[[EpisodeMessage], bool]
Then = Callable[[tuple[CameraFigures, ...]], None]


class _Frame(NamedTuple):
    put_s: float
    message: EpisodeMessage
    held: bool = False

    @property
    def room(self) -> int:
        """What it takes of the queue's."""
        return 0 if self.held else len(self.message.data)


@dataclass
class _Lane:
    file: EpisodeParts
    encoder: CameraEncoder
    pace: EncodingPace
    frames: deque[_Frame] = field(default_factory=deque)
    busy: bool = False


class EncodingThreads:
    """See the module.

    settings: how a camera is recorded, asked once per camera and file. schemas: see `CameraEncoder`.
    told: hears of every step, failed: of a `then` or sink that raised (topic or "", error); both are
    called on an encoding thread and must not block. overload_s: a frame that waited longer for its turn
    takes its camera a step down, and so does a queue that is nearly full (`CROWDED`); both must be above
    what a pre-roll handed over at once needs. counting: the lock under which the sink counts what it
    refuses, so that no count is lost between the two.
    """

    def __init__(
        self,
        sink: Sink,
        settings: Callable[[ChannelDescription], CameraSettings],
        schemas: Mapping[str, str],
        *,
        codec: str = SOFTWARE,
        threads: int = 2,
        queue_limit_bytes: int = 256 * 1024 * 1024,
        overload_s: float = 2.0,
        counting: threading.Lock | None = None,
        told: Callable[[EncodingStep], None] | None = None,
        failed: Callable[[str, Exception], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sink = sink
        self._settings = settings
        self._schemas = schemas
        self._codec = codec
        self._limit = queue_limit_bytes
        self._overload_s = overload_s
        self._told = told
        self._failed = failed
        self._clock = clock
        self._lanes: dict[tuple[EpisodeParts, str], _Lane] = {}
        self._ready: deque[_Lane] = deque()
        self._closing: dict[EpisodeParts, Then] = {}
        self._closed: WeakSet[EpisodeParts] = WeakSet()
        self._bytes = 0
        # One camera at a time is recorded better again: together they may be too much.
        self._rose_s = float("-inf")
        self._stopping = False
        self._changed = threading.Condition()
        self._counting = threading.Lock() if counting is None else counting
        self._threads = [
            threading.Thread(target=self._run, name=f"camera encoder {k + 1}", daemon=True)
            for k in range(threads)
        ]
        for thread in self._threads:
            thread.start()

    def put(self, frame: EpisodeMessage, held: bool = False) -> bool:
        """Queue a frame; False, and ``counts.lost_queue`` one more, where there is no room or it is closed.

        ``held``: it has been in memory within a limit of its own, and takes no room here. Any thread may call
        it; the order of one camera is that of the calls.
        """
        file, channel = frame.file, frame.channel
        waiting = _Frame(self._clock(), frame, held)
        size = waiting.room
        with self._changed:
            lane = self._lanes.get((file, channel.topic))
            shut = self._stopping or file in self._closing or file in self._closed
            if not shut and lane is None:
                lane = self._lanes[file, channel.topic] = self._new_lane(file, channel)
            if not shut and lane is not None and (held or self._bytes + size <= self._limit):
                lane.frames.append(waiting)
                self._bytes += size
                if not lane.busy:
                    lane.busy = True
                    self._ready.append(lane)
                    self._changed.notify()
                return True
        self._refused(frame.counts)
        return False

    def close(self, file: EpisodeParts, then: Then) -> None:
        """No more frames for ``file``; ``then`` is called, on an encoding thread, once all of it are encoded
        and handed to the sink, with what became of each camera."""
        with self._changed:
            if file in self._closing or file in self._closed:
                raise ValueError(f"{file.path.name} is closed already")
            self._closing[file] = then
            self._changed.notify()

    def stop(self) -> None:
        """Work off what waits, call what is to be called, and end the threads."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _new_lane(self, file: EpisodeParts, channel: ChannelDescription) -> _Lane:
        settings = self._settings(channel)
        encoder = CameraEncoder(channel, settings, self._schemas, self._codec, self._told)
        return _Lane(file, encoder, EncodingPace(self._overload_s))

    def _refused(self, counts: EpisodeCounts) -> None:
        with self._counting:
            counts.lost_queue += 1

    def _run(self) -> None:
        # A pre-roll comes all at once: it must not hold up those who make the next pictures.
        background = Background()
        while True:
            with self._changed:
                while True:
                    done = self._take_closed()
                    if done or self._ready:
                        break
                    if self._stopping and not any(lane.busy for lane in self._lanes.values()):
                        self._changed.notify_all()
                        return
                    self._changed.wait()
                lane = self._ready.popleft() if not done else None
                frame = lane.frames.popleft() if lane is not None else None
            for then, figures in done:
                self._call(then, figures)
            if lane is None or frame is None:
                continue
            waited_s = self._clock() - frame.put_s
            if waited_s > HURRY * self._overload_s:
                background.hurry(True)
            elif waited_s < BEHIND * self._overload_s:
                background.hurry(False)
            self._work(lane, frame)
            with self._changed:
                self._bytes -= frame.room
                if lane.frames:
                    self._ready.append(lane)
                else:
                    lane.busy = False
                    if self._closing or self._stopping:
                        self._changed.notify_all()

    def _take_closed(self) -> list[tuple[Then, tuple[CameraFigures, ...]]]:
        """Files that were closed and have nothing waiting nor at work; each is given out once."""
        done = []
        for file in list(self._closing):
            lanes = {key: lane for key, lane in self._lanes.items() if lane.file is file}
            if any(lane.busy for lane in lanes.values()):
                continue
            for key in lanes:
                del self._lanes[key]
            self._closed.add(file)
            done.append((self._closing.pop(file), tuple(lane.encoder.figures for lane in lanes.values())))
        return done

    def _call(self, then: Then, figures: tuple[CameraFigures, ...]) -> None:
        try:
            then(figures)
        except Exception as error:
            self._fail("", error)

    def _work(self, lane: _Lane, frame: _Frame) -> None:
        encoder, message = lane.encoder, frame.message
        started_s = time.thread_time()
        self._pace(lane, frame)
        try:
            channel, data = encoder.encode(message.data, message.log_ns)
            encoder.figures.cpu_s += time.thread_time() - started_s
            written = self._sink(message._replace(channel=channel, data=data))
        except Exception as error:
            self._fail(encoder.figures.topic, error)
            self._refused(message.counts)
            encoder.frame_lost()
        else:
            if not written:
                encoder.frame_lost()

    def _pace(self, lane: _Lane, frame: _Frame) -> None:
        """A step down or up, where how long this frame waited says so."""
        encoder, log_ns, now_s = lane.encoder, frame.message.log_ns, self._clock()
        waited_s = now_s - frame.put_s
        encoder.figures.longest_wait_s = max(encoder.figures.longest_wait_s, waited_s)
        crowded = self._bytes > CROWDED * self._limit
        with self._changed:
            alone = now_s - self._rose_s >= RISING * self._overload_s
            move = lane.pace.move(frame.put_s, now_s, crowded, may_rise=alone and encoder.may_rise)
            if move == "up":
                self._rose_s = now_s
        if move == "up":
            encoder.step_up(f"no frame has waited for {lane.pace.calm_s:g} s", log_ns)
        elif move == "down" and waited_s > self._overload_s:
            reason = f"a frame waited {waited_s:.1f} s, {self._overload_s:g} s are allowed"
            encoder.step_down(f"overload: {reason}", log_ns)
        elif move == "down":
            reason = f"{self._bytes / 1e6:.1f} MB wait, {self._limit / 1e6:.1f} MB have room"
            encoder.step_down(f"overload: {reason}", log_ns)

    def _fail(self, topic: str, error: Exception) -> None:
        if self._failed is not None:
            self._failed(topic, error)
