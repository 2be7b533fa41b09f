"""What is written past the page cache is what was written, whatever the sizes, cuts and ends."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capture_nodes.recording import direct_file
from capture_nodes.recording.direct_file import BLOCK_BYTES, DirectFile, DirectIsRefused
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile, FileOptions
from capture_nodes.recording.mcap_reader import McapFile
from capture_nodes.recording.recovery import recover

CHANNEL = ChannelDescription("/a", "std_msgs/msg/String", "string data\n")


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """On a disk that takes direct writes."""
    made = tmp_path_factory.mktemp("direct")
    try:
        DirectFile(made / "probe").close()
    except DirectIsRefused:
        pytest.skip(f"the file system of {made} takes no direct writes")
    return made


@settings(derandomize=True, max_examples=40, deadline=None)
@given(
    writes=st.lists(st.lists(st.integers(0, 3 * BLOCK_BYTES), max_size=4), max_size=12),
    cuts=st.lists(st.floats(0.0, 1.0), max_size=3),
    small=st.booleans(),
)
def test_a_file_holds_what_was_written(
    folder: Path, writes: list[list[int]], cuts: list[float], small: bool
) -> None:
    path = folder / f"{random.Random(repr((writes, cuts, small))).random()}"
    with pytest.MonkeyPatch.context() as patch:
        # A buffer that is often full.
        patch.setattr(direct_file, "BUFFER_BYTES", 2 * BLOCK_BYTES if small else 64 * BLOCK_BYTES)
        file = DirectFile(path)
        expected = b""
        for number, sizes in enumerate(writes):
            buffers = [bytes([number + 1]) * size for size in sizes]
            file.write(buffers)
            expected += b"".join(buffers)
            if number < len(cuts):
                expected = expected[: round(cuts[number] * len(expected))]
                file.truncate(len(expected))
            # A kill now would leave this; what lies behind it is zeros, less than a block of them.
            there = path.read_bytes()
            assert there[: len(expected)] == expected
            assert not any(there[len(expected) :]) and len(there) - len(expected) < BLOCK_BYTES
        file.sync()
        assert path.read_bytes() == expected
        file.close()
    assert path.read_bytes() == expected
    path.unlink()


def test_an_episode_is_written_directly_and_survives_a_kill(folder: Path) -> None:
    rng = random.Random(1)
    sent = [rng.randbytes(rng.choice([30, 900_000])) for _ in range(40)]
    file = EpisodeFile(folder / "e.mcap", FileOptions(direct=True))
    file.open()
    for number, data in enumerate(sent[:30]):
        file.write(CHANNEL, number, number, number, data)
    file.flush()
    killed = folder / "k.mcap.active"
    killed.write_bytes(file.active_path.read_bytes())
    assert recover(killed).messages == 30
    for number, data in enumerate(sent[30:], 30):
        file.write(CHANNEL, number, number, number, data)
    path = file.finish()
    with McapFile(path) as written:
        written.check(1 << 30)
        assert sum(written.check(1 << 30).counts.values()) == len(sent)
    assert path.stat().st_size == file.size


def test_a_full_disk_leaves_what_was_there_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = folder / "full"
    file = DirectFile(path)
    file.write([b"x" * 10_000])

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", full)
        with pytest.raises(OSError, match="No space left"):
            file.write([b"y" * 10_000_000])
    file.truncate(10_000)
    file.write([b"z" * 5])
    file.sync()
    file.close()
    assert path.read_bytes() == b"x" * 10_000 + b"z" * 5


def test_a_file_system_without_direct_writes_gets_the_usual_ones(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        with pytest.raises(DirectIsRefused):
            DirectFile(folder / "refused")
        assert not (folder / "refused").exists()
        file = EpisodeFile(folder / "usual.mcap", FileOptions(direct=True))
        file.open()
        file.write(CHANNEL, 1, 1, 1, b"data")
        assert McapFile(file.finish()).check(1 << 30).counts
