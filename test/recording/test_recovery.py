from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from mcap.reader import make_reader

from capture_nodes.recording.episode_record import OPENING_RECORD
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile, FileOptions, FileProblem
from capture_nodes.recording.recovery import NothingToRecover, recover, recover_all

Channel = Callable[[str, str], ChannelDescription]

# Writes forever, saying after each flush how much is on the disk; killed by the test.
WRITER = """
import sys, time
from pathlib import Path
from capture_nodes.recording.episode_message import EpisodeMessage
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile, FileOptions
from capture_nodes.recording.stream_statistics import EpisodeCounts
from capture_nodes.recording.writer_thread import WriterThread
writer = WriterThread(1 << 24, print)
file = EpisodeFile(Path(sys.argv[1]), FileOptions(flush_s=0.02, chunk_bytes=50_000))
channel = ChannelDescription("/x", "std_msgs/msg/String", "string data\\n")
counts = EpisodeCounts(before=0)
def begin():
    file.open()
    file.add_metadata("episode_opening", {"id": "e", "start_ns": "7", "skill": "lift"})
    writer.watch(file)
writer.submit(begin).result()
i = 0
while True:
    writer.put(EpisodeMessage(file, channel, 1000 + i, i, i + 1, b"%08d" % i + b"x" * 300, counts))
    i += 1
    if i % 50 == 0:
        print(file.messages, flush=True)
        time.sleep(0.002)
"""


def _start_writer(path: Path) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, text=True)


def _kill_after(process: subprocess.Popen[str], messages: int) -> int:
    """SIGKILL once that many messages are said to be on the disk; returns the last number said."""
    assert process.stdout is not None
    on_disk = 0
    for line in process.stdout:
        on_disk = int(line)
        if on_disk >= messages:
            break
    process.kill()
    for line in process.stdout:
        on_disk = int(line) if line.strip().isdigit() and line.endswith("\n") else on_disk
    process.wait(10)
    return on_disk


def _read(path: Path) -> tuple[list[int], dict[str, dict[str, str]]]:
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        numbers = [int(m.data[:8]) for _, _, m in reader.iter_messages()]
        assert summary.statistics.message_count == len(numbers)
        return numbers, {m.name: m.metadata for m in reader.iter_metadata()}


def test_a_killed_writer_loses_nothing_that_was_flushed(tmp_path: Path) -> None:
    path = tmp_path / "kestrel" / "lift" / "e.mcap"
    process = _start_writer(path)
    try:
        on_disk = _kill_after(process, 2000)
    finally:
        process.kill()
    reports: list[str] = []
    (recovery,) = recover_all(tmp_path, reports.append)
    assert recovery.path == path and "recovered" in reports[0] and str(path) in reports[0]
    assert [p.name for p in path.parent.iterdir()] == ["e.mcap"]
    numbers, metadata = _read(path)
    assert numbers == list(range(len(numbers))) and len(numbers) >= on_disk >= 2000
    episode = metadata["episode"]
    assert (episode["recovered"], episode["skill"], episode["lost"]) == ("true", "lift", "")
    assert json.loads(episode["topics"]) == {"/x": {"written": len(numbers)}}
    assert recover_all(tmp_path, reports.append) == []


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    process = _start_writer(path)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        reports: list[str] = []
        assert recover_all(tmp_path, reports.append) == [] and reports == []
        with pytest.raises(FileProblem, match="living recorder"):
            recover(path.with_name("e.mcap.active"))
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()


def _cut_file(folder: Path, channel: ChannelDescription, name: str = "e") -> tuple[Path, list[int]]:
    """An abandoned file of 400 messages in chunks of 10; returns it and the offsets after each chunk."""
    file = EpisodeFile(folder / f"{name}.mcap", FileOptions(chunk_bytes=1 << 30))
    file.open()
    file.add_metadata(OPENING_RECORD, {"id": name, "start_ns": "3"})
    ends = []
    for i in range(400):
        file.write(channel, 10 + i, i, i + 1, b"%08d" % i)
        if i % 10 == 9:
            file.flush()
            ends.append(file.active_path.stat().st_size)
    file.abandon()
    return file.active_path, ends


def test_a_cut_at_any_byte_keeps_every_whole_chunk(tmp_path: Path, channel: Channel) -> None:
    active, ends = _cut_file(tmp_path, channel("/x", "std_msgs/msg/String"))
    whole = active.read_bytes()
    rng = random.Random(5)
    for n, size in enumerate([*(rng.randrange(40, len(whole)) for _ in range(25)), ends[0], ends[3] + 1]):
        cut = tmp_path / f"cut{n}" / "e.mcap.active"
        cut.parent.mkdir()
        cut.write_bytes(whole[:size])
        try:
            recovery = recover(cut)
        except NothingToRecover:
            assert size < ends[0]
            continue
        numbers, _ = _read(recovery.path)
        assert numbers == list(range(10 * sum(end <= size for end in ends))) or (
            # The chunk itself may be whole where only its index is cut.
            numbers == list(range(10 * sum(end <= size for end in ends) + 10))
        )


def test_what_comes_after_a_damaged_chunk_is_kept(tmp_path: Path, channel: Channel) -> None:
    active, ends = _cut_file(tmp_path, channel("/x", "std_msgs/msg/String"))
    whole = active.read_bytes()
    # One byte within the content of a chunk; the same within its length; a page that never reached the disk.
    for name, damage in (
        ("content", lambda data: data.__setitem__(ends[4] + 120, data[ends[4] + 120] ^ 0xFF)),
        ("length", lambda data: data.__setitem__(ends[4] + 5, 0xFF)),
        ("zeros", lambda data: data.__setitem__(slice(ends[4], ends[5]), bytes(ends[5] - ends[4]))),
    ):
        data = bytearray(whole)
        damage(data)
        copy = tmp_path / name / "e.mcap.active"
        copy.parent.mkdir()
        copy.write_bytes(bytes(data))
        recovery = recover(copy)
        numbers, metadata = _read(recovery.path)
        assert numbers == [*range(50), *range(60, 400)], name
        assert len(recovery.damage) == 1 and str(ends[4]) in recovery.damage[0]
        assert json.loads(metadata["recovery"]["damage"]) == list(recovery.damage)
        # Where the index behind it can still be read, it tells what is missing.
        assert recovery.lost == ({"/x": 10} if name == "content" else {})


def test_a_kill_during_recovery_loses_nothing(
    tmp_path: Path, channel: Channel, monkeypatch: pytest.MonkeyPatch
) -> None:
    active, _ = _cut_file(tmp_path, channel("/x", "std_msgs/msg/String"))

    class Killed(BaseException):
        pass

    def die(_self: EpisodeFile) -> Path:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(EpisodeFile, "finish", die)
        with pytest.raises(Killed):
            recover(active)
    assert active.exists() and not (tmp_path / "e.mcap").exists()
    recovery = recover(active)
    assert len(_read(recovery.path)[0]) == 400
    # Killed between the new name and the removal of the old file.
    active.write_bytes(b"whatever")
    assert recover(active).messages == 400 and not active.exists()


def test_a_complete_file_only_gets_its_name(tmp_path: Path, channel: Channel) -> None:
    file = EpisodeFile(tmp_path / "e.mcap")
    file.open()
    file.write(channel("/x", "std_msgs/msg/String"), 1, 1, 1, b"%08d" % 0)
    file.add_metadata("episode", {"recovered": "false"})
    os.rename(file.finish(), file.active_path)
    assert recover(file.active_path).messages == 1
    assert _read(tmp_path / "e.mcap")[1]["episode"]["recovered"] == "false"


def test_a_file_without_a_header_is_set_aside(tmp_path: Path) -> None:
    (tmp_path / "e.mcap.active").write_bytes(b"\x89MCAP0\r")
    reports: list[str] = []
    assert recover_all(tmp_path, reports.append) == []
    assert "nothing that can be read" in reports[0]
    assert [p.name for p in tmp_path.iterdir()] == ["e.mcap.active.unreadable"]


def test_a_nonsensical_opening_record_is_no_obstacle(tmp_path: Path, channel: Channel) -> None:
    for n, opening in enumerate(({"start_ns": "x"}, {"expected_hz": "["}, {"expected_hz": "3"}, {"id": ""})):
        file = EpisodeFile(tmp_path / f"{n}.mcap")
        file.open()
        file.add_metadata(OPENING_RECORD, opening)
        file.write(channel("/x", "std_msgs/msg/String"), 5, 5, 1, b"%08d" % 0)
        file.flush()
        file.abandon()
        recovery = recover(file.active_path)
        numbers, metadata = _read(recovery.path)
        assert numbers == [0] and metadata["episode"]["start_ns"] == "5"
