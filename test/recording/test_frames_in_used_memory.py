"""Frames in memory that is used again: whatever holds one, its bytes reach every file as they were taken."""

from __future__ import annotations

import ctypes
import hashlib
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path

import pytest
from mcap.reader import make_reader

from capture_nodes.message_memory import STEP_BYTES, MessageMemory
from capture_nodes.recording.episode_parts import SplitLimits
from capture_nodes.recording.episode_record import EpisodeFields
from capture_nodes.recording.mcap_file import ChannelDescription, FileOptions
from capture_nodes.recording.recorder import Recorder
from capture_nodes.recording.recorder_configuration import RecorderConfiguration

GID = bytes(range(16))
FIELDS = EpisodeFields(robot="kestrel", skill="lift", simulated=True)
FRAMES, KEPT_S = 240, 0.05


def _settle(recorder: Recorder, results: list[Future[Path]]) -> list[Path]:
    deadline_s = time.monotonic() + 20.0
    while not all(result.done() for result in results) and time.monotonic() < deadline_s:
        with recorder.taking():
            recorder.pass_done()
    return [result.result(timeout=0) for result in results]


def _until_some_is_unused(recorder: Recorder, memory: MessageMemory) -> None:
    deadline_s = time.monotonic() + 20.0
    while not memory.idle_bytes:
        assert time.monotonic() < deadline_s, "nobody lets go of the frames"
        with recorder.taking():
            recorder.pass_done()


@pytest.mark.parametrize("direct", [False, True])
@pytest.mark.parametrize("noise", [False, True])
def test_overlapping_episodes_have_every_frame_bit_for_bit(
    tmp_path: Path, channel: Callable[[str, str], ChannelDescription], direct: bool, noise: bool
) -> None:
    configuration = RecorderConfiguration(
        topics=(),
        min_free_bytes=0,
        direct_bytes_per_s=1.0 if direct else 0.0,
        # Frames without noise go through compression, the others as they are.
        file=FileOptions(flush_s=0.02, chunk_bytes=6 * STEP_BYTES),
        split=SplitLimits(max_bytes=60 * STEP_BYTES),
        pre_roll_s=KEPT_S,
        post_roll_s=KEPT_S,
        tail_s=0.0,
    )
    recorder, memory = Recorder(tmp_path, configuration), MessageMemory(idle_bytes=8 * STEP_BYTES)
    stream = recorder.streams.add(channel("/camera", "sensor_msgs/msg/Image"))
    choose = random.Random(2)
    sums: dict[int, str] = {}
    addresses: set[int] = set()
    results: list[Future[Path]] = []
    try:
        for number in range(1, FRAMES + 1):
            size = choose.choice([STEP_BYTES, STEP_BYTES - 3, STEP_BYTES // 2, 2 * STEP_BYTES])
            content = choose.randbytes(size) if noise else bytes([number % 256]) * size
            address, capacity = memory.lend(size)
            ctypes.memmove(address, content, size)
            sums[number] = hashlib.sha256(content).hexdigest()
            addresses.add(address)
            now_ns = time.time_ns()
            with recorder.taking():
                view = memory.keep(address, capacity, size)
                recorder.take_all(stream, [(view, now_ns - 1000, now_ns, number, GID)])
                del view
                recorder.pass_done()
            if number % 60 == 20:
                recorder.start(FIELDS)
            if number % 60 == 59:
                results.append(recorder.stop())
                # The post-roll of the one and the pre-roll of the other are the same frames.
                recorder.start(FIELDS)
                results.append(recorder.stop())
                _until_some_is_unused(recorder, memory)
        paths = _settle(recorder, results)
    finally:
        recorder.close()
    taken = 0
    for path in paths:
        numbers = []
        for file in sorted(path.parent.glob(f"{path.stem}*.mcap")):
            with file.open("rb") as opened:
                for _, _, message in make_reader(opened, validate_crcs=True).iter_messages():
                    assert hashlib.sha256(message.data).hexdigest() == sums[message.sequence]
                    numbers.append(message.sequence)
        numbers.sort()
        assert numbers == list(range(numbers[0], numbers[-1] + 1)), "none is missing, none is there twice"
        taken += len(numbers)
    assert len(paths) == 8 and taken > FRAMES // 2
    assert len(addresses) < FRAMES, "memory was used again"
