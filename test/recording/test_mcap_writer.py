"""The MCAP writer and reader: laws of the format, whatever is written; no damage passes the check."""

from __future__ import annotations

import hashlib
import io
import random
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile, FileOptions, MessageRefused
from capture_nodes.recording.mcap_reader import McapFile, MessageRecord, UnreadableFile
from capture_nodes.recording.mcap_writer import LARGE_BYTES, Buffer, McapWriter, crc32_of_both

CHANNEL = ChannelDescription("/x", "std_msgs/msg/String", "string data\n")


@settings(derandomize=True, max_examples=200)
@given(first=st.binary(max_size=300), second=st.binary(max_size=300))
def test_the_crc_of_two_parts_is_that_of_the_whole(first: bytes, second: bytes) -> None:
    combined = crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second))
    assert combined == zlib.crc32(first + second)


def test_the_crc_of_large_parts() -> None:
    data = random.Random(1).randbytes(5_000_123)
    for cut in (0, 1, 31, 1 << 20, len(data)):
        first, second = data[:cut], data[cut:]
        assert crc32_of_both(zlib.crc32(first), zlib.crc32(second), len(second)) == zlib.crc32(data)


@settings(derandomize=True, max_examples=60)
@given(
    steps=st.lists(
        st.tuples(
            st.integers(0, 2),
            st.integers(0, 2**64 - 1),
            st.integers(0, 2**32 - 1),
            st.one_of(
                st.binary(max_size=200), st.sampled_from([bytes(20_000), random.Random(2).randbytes(20_000)])
            ),
            st.booleans(),
        ),
        max_size=40,
    ),
    compression=st.sampled_from(["none", "lz4", "zstd"]),
)
def test_whatever_is_written_is_read(
    steps: list[tuple[int, int, int, bytes, bool]], compression: str
) -> None:
    written: list[Buffer] = []
    writer = McapWriter(written.extend, profile="ros2", compression=compression)  # type: ignore[arg-type]
    schema = writer.add_schema("std_msgs/msg/String", "ros2msg", b"string data\n")
    channels = [writer.add_channel(f"/x{n}", "cdr", schema, {"n": str(n)}) for n in range(3)]
    expected = []
    for n, time_ns, sequence, data, end in steps:
        chunk = writer.add_message(channels[n], time_ns, time_ns // 2, sequence, data)
        expected.append((f"/x{n}", time_ns, time_ns // 2, sequence, data))
        if end:
            writer.end_chunk(chunk)
    writer.finish()
    content = b"".join(written)
    assert writer.position == len(content) and writer.sha256 == hashlib.sha256(content).hexdigest()
    reader = make_reader(io.BytesIO(content), validate_crcs=True)
    summary = reader.get_summary()
    assert summary is not None and summary.statistics is not None
    assert summary.statistics.message_count == len(steps)
    assert set(summary.channels) == set(channels)
    read = [(c.topic, m.log_time, m.publish_time, m.sequence, m.data) for _, c, m in reader.iter_messages()]
    assert [m[1] for m in read] == sorted(m[1] for m in expected)
    assert sorted(read) == sorted(expected)
    records = list(StreamReader(io.BytesIO(content), validate_crcs=True).records)
    assert sum(type(r).__name__ == "Message" for r in records) == len(steps)


def test_large_messages_are_compressed_only_where_it_pays() -> None:
    writer = McapWriter(lambda buffers: None)
    schema = writer.add_schema("s", "ros2msg", b"")
    noisy, smooth, small = (writer.add_channel(name, "cdr", schema, {}) for name in ("/a", "/b", "/c"))
    grain = random.Random(3).randbytes(2 * LARGE_BYTES)
    assert writer.add_message(noisy, 1, 1, 1, grain) is writer.plain
    assert writer.add_message(smooth, 1, 1, 1, bytes(2 * LARGE_BYTES)) is writer.packed
    assert writer.add_message(small, 1, 1, 1, grain[:100]) is writer.packed
    # Nothing is copied: the very buffer waits to be written.
    assert any(buffer is grain for buffer in writer.plain.buffers)
    # What a camera sees changes, and the next trial finds it.
    chunks = {id(writer.add_message(noisy, 1, 1, 1, bytes(2 * LARGE_BYTES))) for _ in range(200)}
    assert chunks == {id(writer.plain), id(writer.packed)}


def test_what_does_not_fit_is_refused_and_the_file_goes_on(tmp_path: Path) -> None:
    file = EpisodeFile(tmp_path / "e.mcap")
    file.open()
    assert file.write(CHANNEL, 1, 1, 1, b"a")
    surrogate = ChannelDescription("/\ud800", "std_msgs/msg/String", "string data\n")
    for channel, log_ns, publish_ns in (
        (CHANNEL, -1, 1),
        (CHANNEL, 1, -1),
        (CHANNEL, 1 << 64, 1),
        (surrogate, 1, 1),
    ):
        with pytest.raises(MessageRefused):
            file.write(channel, log_ns, publish_ns, 1, b"b")
    assert file.write(CHANNEL, 2, 2, 2, b"c")
    file.finish()
    with McapFile(file.path) as written:
        assert written.check(1 << 30).messages == 2


def _small_file(folder: Path) -> Path:
    file = EpisodeFile(folder / "e.mcap", FileOptions(chunk_bytes=400))
    file.open()
    rng = random.Random(6)
    for n in range(12):
        file.write(CHANNEL, 1000 + n, n, n, b"%04d" % n + (b"." * 90 if n < 6 else rng.randbytes(90)))
    return file.finish()


def test_no_flipped_bit_passes_the_check(tmp_path: Path) -> None:
    path = _small_file(tmp_path)
    content = path.read_bytes()
    with McapFile(path) as whole:
        assert whole.check(1 << 30).messages == 12
    rng = random.Random(7)
    damaged = tmp_path / "damaged.mcap"
    for place in range(len(content)):
        data = bytearray(content)
        data[place] ^= 1 << rng.randrange(8)
        damaged.write_bytes(bytes(data))
        with McapFile(damaged) as file, pytest.raises(UnreadableFile):
            file.check(1 << 30)


def test_salvage_never_invents_nor_repeats(tmp_path: Path) -> None:
    """Random damage of every kind: what comes out was written, once, in order; it never raises."""
    content = _small_file(tmp_path).read_bytes()
    rng = random.Random(9)
    damaged = tmp_path / "damaged.mcap"
    for _ in range(300):
        data = bytearray(content)
        for _ in range(rng.randrange(1, 4)):
            begin = rng.randrange(len(data))
            size = rng.choice([1, 9, 100, 700])
            if rng.random() < 0.3:
                del data[begin : begin + size]
            else:
                new = bytes(size) if rng.random() < 0.5 else rng.randbytes(size)
                data[begin : begin + size] = new
            if len(data) < 2:
                break
        damaged.write_bytes(bytes(data))
        with McapFile(damaged) as file:
            found = [
                (r.sequence, r.log_ns, bytes(r.data[:4]))
                for r in file.salvage()
                if isinstance(r, MessageRecord)
            ]
        assert len(set(found)) == len(found)
        assert set(found) <= {(n, 1000 + n, b"%04d" % n) for n in range(12)}


def test_a_large_file_is_checked_in_bounded_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = EpisodeFile(tmp_path / "e.mcap", FileOptions(chunk_bytes=100_000, check_bytes=10_000_000))
    file.open()
    rng = random.Random(4)
    for n in range(400):
        file.write(CHANNEL, n, n, n, rng.randbytes(50_000))
    file.finish()
    read = [0]
    original = McapFile.read

    def counting(self: McapFile, offset: int, size: int) -> bytes:
        read[0] += size
        return original(self, offset, size)

    monkeypatch.setattr(McapFile, "read", counting)
    with McapFile(file.path) as written:
        for bound in (500_000, 2_000_000, 10_000_000):
            read[0] = 0
            written.check(bound)
            assert bound // 2 < read[0] < bound + 400_000
        read[0] = 0
        written.check(1 << 30)
        assert read[0] > file.size
