"""Looking at a process and at a growing file from outside, on cases whose answer is known."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer

from benchmarks.recorder.file_watch import FileWatch, read_content
from benchmarks.recorder.process_watch import (
    CpuSample,
    cpu_times,
    growth_per_minute,
    machine_busy_s,
    resident_bytes,
    sample,
    use_between,
)

TICKS_HZ = os.sysconf("SC_CLK_TCK")


def test_times_are_found_behind_a_name_with_brackets_and_blanks_children_included():
    stat = "71 (a) S (b 3) R 1 1 1 0 -1 4194560 10 0 0 0 150 50 7 3 20 0 4 0 99 0 0"
    assert cpu_times(stat) == (157 / TICKS_HZ, 53 / TICKS_HZ)


def test_what_this_process_burns_is_seen():
    before, busy_s, own_s = sample(os.getpid()), machine_busy_s(), time.process_time()
    while time.process_time() - own_s < 0.3:
        sum(range(1000))
    use = use_between(before, sample(os.getpid()))
    assert use.cpu_s == pytest.approx(time.process_time() - own_s, abs=0.05)
    assert sum(use.cores_by_thread.values()) == pytest.approx(use.cores, abs=0.05 / use.seconds)
    assert machine_busy_s() - busy_s > 0.2
    assert resident_bytes(os.getpid()) > 1_000_000


def test_threads_of_one_name_are_one_and_new_ones_count_from_their_start():
    begin = CpuSample(10.0, 5.0, 4.0, {1: ("python", 1.0), 2: ("dds.shm.7411", 2.0)})
    threads = {1: ("python", 1.5), 2: ("dds.shm.7411", 2.5), 3: ("dds.shm.7413", 0.5), 4: ("dds.ev.27", 0.2)}
    use = use_between(begin, CpuSample(12.0, 6.7, 5.0, threads))
    assert use.cores == pytest.approx(0.85)
    assert use.cores_by_thread == pytest.approx({"python": 0.25, "dds.shm": 0.5, "dds.ev": 0.1})


def test_a_process_that_is_no_more_is_told():
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    with pytest.raises(ProcessLookupError, match=str(pid)):
        sample(pid)


def test_growth_is_that_of_the_second_half():
    times_s = [0.5 * i for i in range(100)]
    filling = [min(i, 30) * 1_000_000 for i in range(100)]
    assert growth_per_minute(times_s, filling) == pytest.approx(0.0, abs=1e-3)
    assert growth_per_minute(times_s, [1000 * i for i in range(100)]) == pytest.approx(120_000.0)
    assert np.isnan(growth_per_minute([0.0, 1.0], [1, 2]))


@pytest.mark.parametrize("compression", list(CompressionType))
def test_every_message_has_the_time_at_which_its_chunk_was_there(
    tmp_path: Path, compression: CompressionType
):
    path = tmp_path / "whole.mcap"
    ends: list[int] = []
    with path.open("wb") as stream:
        writer = Writer(stream, chunk_size=1 << 40, compression=compression)
        writer.start()
        schema = writer.register_schema("a/msg/B", "ros2msg", b"")
        channels = [writer.register_channel(t, "cdr", schema) for t in ("/kestrel/joint_states", "/other")]
        for chunk in range(4):
            for i in range(10):
                number = 10 * chunk + i
                if number != 17:
                    data = bytes(100) + os.urandom(7)
                    writer.add_message(channels[0], 1000 + number, data, 1000 * number, sequence=number + 1)
            writer.add_message(channels[1], 900, b"x", 0, sequence=chunk)
            writer.flush()
            ends.append(stream.tell())
        writer.finish()
    watch = FileWatch(tmp_path, "nothing")
    watch.stop()
    # At first a part of chunk 0 only; 1 and 2 at one look, 3 at the last one.
    watch.sizes = [60, ends[0], ends[2], path.stat().st_size]
    watch.times_ns = [10_000, 200_000, 300_000, 400_000]
    content = read_content(path, watch)
    assert content.messages == {"/kestrel/joint_states": 39, "/other": 4}
    assert content.bytes["/kestrel/joint_states"] == 39 * 107
    assert content.missing == {"/kestrel/joint_states": 1, "/other": 0}
    assert content.last_log_ns == 1039
    seen = [200_000] * 10 + [300_000] * 19 + [400_000] * 10
    published = [1000 * n for n in range(40) if n != 17]
    expected = 1e-9 * (np.array(seen) - np.array(published))
    assert content.latency_s["/kestrel/joint_states"] == pytest.approx(expected)


def test_a_file_is_followed_until_it_gets_its_name(tmp_path: Path):
    (tmp_path / "old.active").write_bytes(b"not this one")
    watch = FileWatch(tmp_path, "**/*.active")
    active = tmp_path / "folder" / "new.active"
    active.parent.mkdir()
    deadline_s = time.monotonic() + 10.0
    with active.open("wb") as stream:
        stream.write(bytes(100))
        stream.flush()
        while 100 not in watch.sizes:
            assert time.monotonic() < deadline_s, watch
    before_ns = time.time_ns()
    active.rename(active.with_suffix(".mcap"))
    while not watch.gone_ns:
        assert time.monotonic() < deadline_s, watch
    watch.stop()
    assert watch.path == active
    assert before_ns - 20_000_000 <= watch.gone_ns <= time.time_ns()
