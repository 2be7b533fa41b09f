"""The recorder's lock: whoever takes messages without a pause keeps nobody from starting and stopping."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.fair_lock import FairLock
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration

WAIT_S = 30.0
FIELDS = EpisodeFields(robot="kestrel", skill="lift")


def test_who_waits_is_before_who_wants_it_again() -> None:
    lock, entered = FairLock(), []
    inside, done = threading.Event(), threading.Event()

    def wait() -> None:
        assert inside.wait(WAIT_S)
        with lock:
            entered.append("the other")
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    with lock:
        inside.set()
        end_s = time.monotonic() + WAIT_S
        while not lock._turn.locked() and time.monotonic() < end_s:
            pass
    with lock:
        entered.append("the same")
    assert done.wait(WAIT_S) and entered == ["the other", "the same"]
    thread.join()


def test_its_holder_may_enter_again_and_nobody_else_until_all_is_left() -> None:
    lock, held = FairLock(), threading.Event()
    with lock:
        with lock, pytest.raises(ZeroDivisionError), lock:
            1 / 0  # noqa: B018
        thread = threading.Thread(
            target=lambda: lock.__enter__() or held.set() or lock.__exit__(None, None, None)
        )
        thread.start()
        assert not held.is_set()
    assert held.wait(WAIT_S)
    thread.join()


def test_it_counts_as_one_at_a_time() -> None:
    lock, sums = FairLock(), [0]

    def count() -> None:
        for _ in range(2_000):
            with lock, lock:
                before = sums[0]
                sums[0] = before + 1

    threads = [threading.Thread(target=count) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sums[0] == 10_000


def test_a_flood_that_is_taken_without_a_pause_keeps_no_start_and_no_stop_waiting(
    tmp_path: Path, channel: Callable[[str, str], ChannelDescription]
) -> None:
    """The taking thread is in `take_all` nearly all of the time; the file is whole all the same."""
    configuration = RecorderConfiguration(
        topics=(), min_free_bytes=0, pre_roll_s=0.0, post_roll_s=0.0, tail_s=0.0, direct_bytes_per_s=0.0
    )
    recorder = Recorder(tmp_path, configuration)
    stream = recorder.streams.add(channel("/a", "std_msgs/msg/String"))
    ended = threading.Event()
    numbers = [0]

    def take() -> None:
        while not ended.is_set():
            for _ in range(50):
                now_ns = time.time_ns()
                taken = [(bytes(200), now_ns, now_ns, numbers[0] + k, bytes(range(16))) for k in range(1, 65)]
                numbers[0] += len(taken)
                recorder.take_all(stream, taken)
            with recorder.taking():
                recorder.pass_done()

    thread = threading.Thread(target=take)
    thread.start()
    try:
        for _ in range(3):
            recorder.start(FIELDS)
            first = numbers[0]
            while numbers[0] < first + 500:
                recorder.status()
            assert recorder.stop().result(timeout=WAIT_S).exists()
    finally:
        ended.set()
        thread.join()
        recorder.close()
    assert len(recorder.report()["episodes"]) == 3 and recorder.received() == {"/a": numbers[0]}
