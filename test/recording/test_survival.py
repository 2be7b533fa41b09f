"""What is left after kills, power losses and disks that refuse: everything that was promised."""

from __future__ import annotations

import errno
import os
import random
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest
from mcap.reader import make_reader

from capture_nodes.recording import mcap_file
from capture_nodes.recording.mcap_file import (
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileOptions,
    FileProblem,
    LockedFile,
    Output,
)
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.recovery import NothingToRecover, recover, recover_all
from capture_nodes.recording.stream_statistics import EpisodeCounts

LOAD = Path(__file__).with_name("episode_under_load.py")
# As episode_under_load.py writes them: episode, steady time in ns, messages handed over.
ENTRY = struct.Struct("<QQQ")
ENTRIES = 100_000
RECOVER = """
import sys
from pathlib import Path
from capture_nodes.recording.recovery import recover_all
print("ready", flush=True)
recover_all(Path(sys.argv[1]), lambda line: None)
"""
KEPT_UNTIL_NS = 300_000_000
CHANNELS = [ChannelDescription(f"/s{n}", "std_msgs/msg/String", "string data\n") for n in range(3)]


# Kills ------------------------------------------------------------------------------------------------------


def _kill_after(words: Sequence[str], delay_s: float) -> None:
    """Start a Python process, and SIGKILL it that long after it has said that it is ready."""
    process = subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        with suppress(subprocess.TimeoutExpired):
            process.wait(delay_s)
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _handed_over(progress: Path) -> dict[int, int]:
    """By episode, how many messages had been handed over 300 ms before the last step of the killed writer.

    Its own steps are the clock: when the machine let it run is not the file's doing.
    """
    entries = [entry for entry in ENTRY.iter_unpack(progress.read_bytes()) if entry[0]]
    kept: dict[int, int] = {}
    if entries:
        until_ns = entries[-1][1] - KEPT_UNTIL_NS
        for episode, at_ns, count in entries:
            if at_ns <= until_ns:
                kept[episode] = count
    return kept


def _check_episode(path: Path, at_least: int) -> None:
    """Whole for its readers, and every stream without a hole from its first message on."""
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        counts: dict[str, int] = {}
        for _, channel, message in reader.iter_messages():
            counts[channel.topic] = counts.get(channel.topic, 0) + 1
            assert message.sequence == counts[channel.topic] == int(message.data[:8])
        assert summary.statistics.message_count == sum(counts.values()) >= at_least
        assert [a.name for a in reader.iter_attachments()] == ["robot.urdf"]


def _kill_and_recover(folder: Path, seed: int) -> None:
    rng = random.Random(seed)
    folder.mkdir()
    progress = folder / "progress"
    progress.write_bytes(bytes(ENTRIES * ENTRY.size))
    _kill_after([str(LOAD), str(folder), str(progress), str(seed)], rng.uniform(0.0, 2.5))
    for _ in range(rng.randrange(3)):
        _kill_after(["-c", RECOVER, str(folder)], rng.uniform(0.0, 0.3))
    reports: list[str] = []
    recover_all(folder, reports.append)
    kept = _handed_over(progress)
    files = {int(path.stem): path for path in folder.glob("*.mcap")}
    assert {path.name for path in folder.iterdir()} == {p.name for p in files.values()} | {"progress"}, (
        reports
    )
    assert set(kept) <= set(files)
    for episode, path in files.items():
        _check_episode(path, kept.get(episode, 0))


@pytest.mark.parametrize("seed", range(4))
def test_a_kill_at_any_moment_keeps_what_is_older_than_300_ms(tmp_path: Path, seed: int) -> None:
    _kill_and_recover(tmp_path / "episodes", seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 150))
def test_fifty_kills_of_the_whole_file_life(tmp_path: Path, seed: int) -> None:
    _kill_and_recover(tmp_path / "episodes", seed)


# Power ------------------------------------------------------------------------------------------------------


class Unplugged(BaseException):
    """The power goes: not an error that anything could handle."""


class VolatileDisk:
    """Keeps in memory what is written; `durable` is what a disk has after the last sync."""

    def __init__(self, path: Path, operations: int) -> None:
        self.path = path
        self.content = bytearray()
        self.durable = 0
        self._left = operations
        path.touch()

    def _step(self) -> None:
        if self._left == 0:
            raise Unplugged
        self._left -= 1

    def write(self, buffers: Sequence[Buffer], /) -> None:
        self._step()
        self.content += b"".join(buffers)

    def truncate(self, size: int, /) -> None:
        del self.content[size:]

    def sync_behind(self) -> None:
        self._step()
        self.durable = len(self.content)
        # Also for the file's own look at it.
        self.path.write_bytes(self.content)

    def sync(self) -> None:
        self.sync_behind()

    def close(self) -> None:
        """Nothing to let go of."""


class OnDisk(EpisodeFile):
    """An episode on whatever output the test gives it."""

    def __init__(self, path: Path, output: Callable[[Path], Output], options: FileOptions) -> None:
        super().__init__(path, options)
        self._make = output

    def _open_output(self) -> Output:
        return self._make(self.active_path)


def _episode(
    file: EpisodeFile, counts: EpisodeCounts, flushed: Callable[[int], None] = lambda _: None
) -> None:
    """A short episode of small and large messages, numbered; ``flushed`` is told how many are flushed."""
    rng = random.Random(4)
    file.open()
    file.attach(Attachment("robot.urdf", "application/xml", b"<robot/>" * 50), 1)
    file.add_metadata("episode_opening", {"id": "e", "start_ns": "1"})
    for n in range(60):
        size = 20_000 if n % 7 == 0 else 200
        counts.received += 1
        file.write(CHANNELS[n % 3], 1000 + n, n, n // 3 + 1, b"%08d" % n + rng.randbytes(size), counts)
        if n % 5 == 4:
            file.flush_if_due()
            flushed(n + 1)
    file.finish()


def _numbers(path: Path) -> list[int]:
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        numbers = [int(message.data[:8]) for _, _, message in reader.iter_messages()]
        assert summary.statistics.message_count == len(numbers)
        return numbers


# Flush and sync at every look, so that many writes are made.
EAGER = FileOptions(flush_s=0.0, sync_s=0.0, chunk_bytes=3000)


@pytest.mark.parametrize("beyond", ["nothing", "all", "some", "zeros"])
def test_after_a_power_loss_everything_up_to_the_last_sync_is_there(tmp_path: Path, beyond: str) -> None:
    rng = random.Random(beyond)
    for operations in range(2, 60):
        disks: list[VolatileDisk] = []

        def make(path: Path, operations: int = operations, disks: list[VolatileDisk] = disks) -> Output:
            disks.append(VolatileDisk(path, operations))
            return disks[0]

        folder = tmp_path / str(operations)
        file = OnDisk(folder / "e.mcap", make, EAGER)
        synced = [0]

        def flushed(n: int, disks: list[VolatileDisk] = disks, synced: list[int] = synced) -> None:
            if disks[0].durable == len(disks[0].content):
                synced[0] = n

        try:
            _episode(file, EpisodeCounts(before=0), flushed)
        except Unplugged:
            pass
        else:
            continue
        disk = disks[0]
        left = bytes(disk.content[: disk.durable])
        # What was not synced is there or not, page by page, in any order.
        rest = bytes(disk.content[disk.durable :])
        if beyond == "all":
            left += rest
        elif beyond == "zeros":
            left += bytes(len(rest))
        elif beyond == "some":
            pages = [rest[i : i + 512] for i in range(0, len(rest), 512)]
            left += b"".join(page if rng.random() < 0.5 else bytes(len(page)) for page in pages)
        file.active_path.write_bytes(left)
        try:
            recovery = recover(file.active_path)
        except NothingToRecover:
            assert synced[0] == 0
            continue
        numbers = _numbers(recovery.path)
        assert set(range(synced[0])) <= set(numbers)
        assert len(set(numbers)) == len(numbers) == recovery.messages


# Disks that refuse ------------------------------------------------------------------------------------------


class RefusingDisk:
    """A real file whose n-th operation fails after a part of it; `stays`: so do all after it."""

    def __init__(self, path: Path, fails_at: int, number: int, part: float, stays: bool) -> None:
        self._file = LockedFile(path)
        self._left = fails_at
        self._number = number
        self._part = part
        self._stays = stays

    def _fails(self) -> bool:
        self._left -= 1
        return self._left == -1 or (self._left < -1 and self._stays)

    def _error(self) -> OSError:
        return OSError(self._number, os.strerror(self._number))

    def write(self, buffers: Sequence[Buffer], /) -> None:
        if self._fails():
            data = b"".join(buffers)
            self._file.write([data[: int(len(data) * self._part)]])
            raise self._error()
        self._file.write(buffers)

    def truncate(self, size: int, /) -> None:
        if self._stays and self._number == errno.EIO:
            raise self._error()
        self._file.truncate(size)

    def sync_behind(self) -> None:
        if self._fails():
            raise self._error()
        self._file.sync_behind()

    def sync(self) -> None:
        self.sync_behind()

    def close(self) -> None:
        self._file.close()


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize(("part", "stays"), [(0.0, True), (0.6, True), (1.0, False)])
def test_a_disk_that_refuses_at_any_write_loses_no_episode(
    tmp_path: Path, number: int, part: float, stays: bool
) -> None:
    for fails_at in range(1000):
        path = tmp_path / str(fails_at) / "e.mcap"

        def make(active: Path, fails_at: int = fails_at) -> Output:
            return RefusingDisk(active, fails_at, number, part, stays)

        file = OnDisk(path, make, EAGER)
        counts = EpisodeCounts(before=0)
        try:
            _episode(file, counts)
        except FileProblem as error:
            assert os.strerror(number) in str(error)
            assert not path.exists()
        else:
            assert _numbers(path) == list(range(60)) and counts.lost_disk == 0
            break
        if fails_at == 0:
            # Not even the header: the start was refused, and nothing is left lying about.
            assert list(path.parent.iterdir()) == []
            continue
        try:
            recovery = recover(file.active_path)
        except NothingToRecover:
            assert counts.received == counts.lost_disk
            continue
        numbers = _numbers(recovery.path)
        # Written and lost make up everything, and what is said to be written is there.
        assert counts.written + counts.lost_disk == counts.received
        assert len(numbers) == recovery.messages >= counts.written == file.messages
        if part < 1.0 or number != errno.EIO:
            assert recovery.messages == counts.written
        assert [p.name for p in path.parent.iterdir()] == ["e.mcap"]
    else:
        pytest.fail("the episode never got through")
    assert fails_at > 30


def test_a_recovery_onto_a_full_disk_keeps_the_original_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EpisodeFile(tmp_path / "e.mcap", EAGER)
    with monkeypatch.context() as patch:
        # Cut off right before the summary.
        patch.setattr(EpisodeFile, "finish", EpisodeFile.abandon)
        _episode(file, EpisodeCounts(before=0))
    before = file.active_path.read_bytes()
    write, room = LockedFile.write, [100_000]

    def full(self: LockedFile, buffers: Sequence[Buffer], /) -> None:
        room[0] -= sum(map(len, buffers))
        if room[0] < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(self, buffers)

    with monkeypatch.context() as patch:
        patch.setattr(LockedFile, "write", full)
        reports: list[str] = []
        assert recover_all(tmp_path, reports.append) == []
    assert "not recovered, and kept" in reports[0] and "ENOSPC" in reports[0]
    assert [p.name for p in tmp_path.iterdir()] == ["e.mcap.active"]
    assert file.active_path.read_bytes() == before
    assert recover(file.active_path).messages == 60


def test_a_rename_that_is_refused_leaves_a_complete_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = EpisodeFile(tmp_path / "e.mcap")

    def refuse(*_: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patch:
        patch.setattr(mcap_file, "rename_without_overwriting", refuse)
        with pytest.raises(FileProblem, match=r"complete but cannot become e\.mcap.*EROFS"):
            _episode(file, EpisodeCounts(before=0))
    assert recover(file.active_path).messages == 60 and _numbers(file.path) == list(range(60))


def test_a_file_that_does_not_read_back_does_not_get_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A disk that says yes and keeps something else: one byte flips on its way."""
    write = LockedFile.write
    calls = [0]

    def flip(self: LockedFile, buffers: Sequence[Buffer], /) -> None:
        calls[0] += 1
        data = bytearray(b"".join(buffers))
        if calls[0] == 9:
            data[len(data) // 2] ^= 1
        write(self, [bytes(data)])

    monkeypatch.setattr(LockedFile, "write", flip)
    file = EpisodeFile(tmp_path / "e.mcap", EAGER)
    with pytest.raises(FileProblem, match="another CRC"):
        _episode(file, EpisodeCounts(before=0))
    assert not file.path.exists() and file.active_path.exists()
    recovery = recover(file.active_path)
    assert 50 < recovery.messages < 60 and sum(recovery.lost.values()) == 60 - recovery.messages


def test_an_error_of_the_background_sync_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = threading.Event()

    def refuse(_: int) -> None:
        failed.set()
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "fdatasync", refuse)
    file = EpisodeFile(tmp_path / "e.mcap", EAGER)
    with pytest.raises(FileProblem, match="Input/output error"):
        _episode(file, EpisodeCounts(before=0))
    assert failed.is_set() and file.problem is not None
    assert recover(file.active_path).messages == file.messages


def test_a_clock_that_jumps_leaves_the_file_in_order(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    file = EpisodeFile(path, FileOptions(chunk_bytes=2000))
    file.open()
    rng = random.Random(8)
    times = [10**18 + n * 1_000_000 + (-(10**12) if 100 <= n < 150 else 0) for n in range(200)]
    for n, at in enumerate(times):
        file.write(CHANNELS[n % 3], at, at, n, b"%08d" % n + rng.randbytes(30_000 if n % 9 == 0 else 90))
    file.finish()
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        statistics = summary.statistics
        assert (statistics.message_start_time, statistics.message_end_time) == (min(times), max(times))
        read = [(message.log_time, int(message.data[:8])) for _, _, message in reader.iter_messages()]
    assert read == sorted((at, n) for n, at in enumerate(times))
    assert [message[1] for message in read if message[0] >= 10**18] == [*range(100), *range(150, 200)]
