from __future__ import annotations

import errno
import hashlib
import os
import random
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_ros2.decoder import DecoderFactory
from rosbags.rosbag2.storage_mcap import McapReader
from rosbags.typesys import Stores, get_typestore

from capture_nodes.errors import CaptureError
from capture_nodes.recording.episode_record import EpisodeFields, episode_path, new_episode_id
from capture_nodes.recording.mcap_file import (
    Attachment,
    ChannelDescription,
    EpisodeFile,
    FileOptions,
    FileProblem,
    LockedFile,
    Output,
    rename_without_overwriting,
)
from capture_nodes.recording.mcap_writer import Buffer
from capture_nodes.recording.stream_statistics import EpisodeCounts

Channel = Callable[[str, str], ChannelDescription]
JOINTS = "sensor_msgs/msg/JointState"
IMAGE = "sensor_msgs/msg/Image"


class FullDisk:
    """An output that takes `room` bytes and then fails like a full disk, in the middle of a write."""

    def __init__(self, path: Path, room: int, number: int) -> None:
        self._file = LockedFile(path)
        self._room = room
        self._number = number

    def write(self, buffers: Sequence[Buffer], /) -> None:
        data = b"".join(buffers)
        taken = data[: self._room]
        self._room -= len(taken)
        self._file.write([taken])
        if len(taken) < len(data):
            raise OSError(self._number, os.strerror(self._number))

    def truncate(self, size: int, /) -> None:
        self._file.truncate(size)

    def sync_behind(self) -> None:
        self._file.sync_behind()

    def sync(self) -> None:
        self._file.sync()

    def close(self) -> None:
        self._file.close()


class LimitedFile(EpisodeFile):
    def __init__(self, path: Path, room: int, number: int = errno.ENOSPC) -> None:
        super().__init__(path, FileOptions(chunk_bytes=1000))
        self._room, self._number = room, number

    def _open_output(self) -> Output:
        return FullDisk(self.active_path, self._room, self._number)


@pytest.mark.parametrize("compression", ["none", "lz4", "zstd"])
def test_three_readers_agree_on_every_byte(
    tmp_path: Path, channel: Channel, joint_state: Callable[..., bytes], compression: str
) -> None:
    path = tmp_path / "r" / "s" / "e.mcap"
    file = EpisodeFile(path, FileOptions(compression=compression, chunk_bytes=4000))  # type: ignore[arg-type]
    file.open()
    assert file.active_path.exists() and not path.exists()
    file.attach(Attachment("robot.urdf", "application/xml", b"<robot/>"), 5)
    file.add_metadata("episode", {"id": "e", "start_ns": "1"})
    topics = {"/r/joint_states": channel("/r/joint_states", JOINTS), "/r/b": channel("/r/b", JOINTS)}
    rng = np.random.default_rng(3)
    expected = []
    for i in range(300):
        topic = ("/r/joint_states", "/r/b")[int(rng.integers(2))]
        data = joint_state(1_000_000 * i, ["a", "b"], rng.normal(size=2).tolist())
        expected.append((topic, 2_000_000 + 1000 * i, 1_000_000 + 1000 * i, i + 1, data))
        assert file.write(topics[topic], *expected[-1][1:4], data)
        file.flush_if_due()
    assert file.finish() == path
    assert path.exists() and not file.active_path.exists()

    with path.open("rb") as stream:
        reader = make_reader(stream, decoder_factories=[DecoderFactory()], validate_crcs=True)
        assert reader.get_header().profile == "ros2"
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        assert summary.statistics.message_count == len(expected)
        assert len(summary.chunk_indexes) > 3 and len(summary.schemas) == 1
        read = [
            (c.topic, m.log_time, m.publish_time, m.sequence, m.data)
            for s, c, m in reader.iter_messages()
            if (s and s.name, s and s.encoding, c.message_encoding) == (JOINTS, "ros2msg", "cdr")
        ]
        assert read == expected
        decoded = [d.decoded_message for d in reader.iter_decoded_messages(topics=["/r/b"])]
        assert [m.name for m in decoded] == [["a", "b"]] * len(decoded)
        assert [(a.name, a.data) for a in reader.iter_attachments()] == [("robot.urdf", b"<robot/>")]
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
        assert list(metadata) == ["episode", "rosbag2"] and metadata["episode"]["id"] == "e"
    content = path.read_bytes()
    assert (file.size, file.sha256) == (len(content), hashlib.sha256(content).hexdigest())

    independent = McapReader(path)
    independent.open()
    try:
        assert {c.topic for c in independent.connections} == set(topics)
        profile = independent.connections[0].ext.offered_qos_profiles[0]
        assert (profile.depth, profile.reliability.name) == (10, "RELIABLE")
        messages = [(c.topic, t, bytes(data)) for c, t, data in independent.messages(independent.connections)]
        assert messages == [(topic, log_ns, data) for topic, log_ns, _, _, data in expected]
        store = get_typestore(Stores.ROS2_HUMBLE)
        last = store.deserialize_cdr(messages[-1][2], JOINTS)
        assert last.name == ["a", "b"]  # type: ignore[attr-defined]
    finally:
        independent.close()


def test_nothing_is_ever_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    path.write_bytes(b"precious")
    with pytest.raises(FileProblem, match=r"e\.mcap exists already and is not overwritten"):
        EpisodeFile(path).open()
    assert path.read_bytes() == b"precious"
    other = tmp_path / "f.mcap"
    other.with_name("f.mcap.active").write_bytes(b"precious too")
    with pytest.raises(FileProblem, match=r"f\.mcap\.active exists already"):
        EpisodeFile(other).open()
    assert other.with_name("f.mcap.active").read_bytes() == b"precious too"
    # A file that appears between the start and the end wins too, and the recording stays beside it.
    late = EpisodeFile(tmp_path / "g.mcap")
    late.open()
    late.path.write_bytes(b"precious as well")
    with pytest.raises(FileProblem, match=r"complete but cannot become g\.mcap"):
        late.finish()
    assert late.path.read_bytes() == b"precious as well" and late.active_path.exists()
    with pytest.raises(FileExistsError):
        rename_without_overwriting(late.active_path, late.path)


def test_a_folder_that_is_a_file_is_refused_with_a_way_out(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("not a folder")
    with pytest.raises(FileProblem, match=r"cannot record into .*data/kestrel.*`root`"):
        EpisodeFile(blocked / "kestrel" / "e.mcap").open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_is_refused_with_a_way_out(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(FileProblem, match=r"cannot record into .*EACCES.*writable"):
            EpisodeFile(tmp_path / "kestrel" / "e.mcap").open()
    finally:
        tmp_path.chmod(0o700)


@pytest.mark.parametrize(
    ("number", "name", "way_out"),
    [
        (errno.EACCES, "EACCES", "writable for this user"),
        (errno.EROFS, "EROFS", "mount the disk read-write"),
        (errno.ENOSPC, "ENOSPC", "free space"),
    ],
)
def test_a_refused_start_names_folder_and_way_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, name: str, way_out: str
) -> None:
    def refuse(_self: EpisodeFile) -> Output:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(EpisodeFile, "_open_output", refuse)
    with pytest.raises(FileProblem) as caught:
        EpisodeFile(tmp_path / "e.mcap").open()
    assert str(tmp_path) in str(caught.value) and name in str(caught.value) and way_out in str(caught.value)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO])
@pytest.mark.parametrize("room", [20_000, 20_777, 40_123])
def test_a_full_disk_loses_nothing_that_was_written_and_counts_the_rest(
    tmp_path: Path, channel: Channel, room: int, number: int
) -> None:
    from capture_nodes.recording.recovery import recover

    image = channel("/c", IMAGE)
    file = LimitedFile(tmp_path / "e.mcap", room, number)
    file.open()
    counts = EpisodeCounts(before=0)
    # Noise, which no compression makes smaller.
    sent = [random.Random(i).randbytes(500) for i in range(100)]
    for i, data in enumerate(sent):
        file.write(image, 10 + i, i, i + 1, data, counts)
        counts.received += 1
    with pytest.raises(FileProblem, match=r"e\.mcap\.active stopped.*kept and recovered"):
        file.finish()
    assert file.problem is not None and not file.path.exists()
    recovery = recover(file.active_path)
    assert recovery.messages == counts.written == file.messages > 0
    assert counts.written + counts.lost_disk == 100
    with recovery.path.open("rb") as stream:
        kept = [m.data for _, _, m in make_reader(stream, validate_crcs=True).iter_messages()]
    assert kept == sent[: recovery.messages]


def test_episode_ids_are_version_7_and_sort_by_time() -> None:
    ids = [new_episode_id(1_700_000_000_000_000_000 + i * 1_000_000) for i in range(50)]
    assert ids == sorted(ids) and len(set(ids)) == 50
    parsed = uuid.UUID(ids[3])
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == 1_700_000_000_003


def test_the_path_names_robot_skill_and_day() -> None:
    fields = EpisodeFields(robot="kestrel", skill="pick-and-place")
    path = episode_path(Path("/data"), fields, "id", 1_700_000_000_000_000_000)
    assert path == Path("/data/kestrel/pick-and-place/2023-11-14/id.mcap")
    for bad in ("", "../up", "a/b", ".hidden", "sp ace"):
        with pytest.raises(CaptureError, match="cannot name a folder"):
            EpisodeFields(robot="kestrel", skill=bad)
