"""The file writer alone: what a message costs, against the writers of others and a plain `write()`.

python -m benchmarks.recorder.writers [--seconds 10] [--folder DIR] [--json FILE]

Every writer gets the very same messages in the same order and writes them to the same disk: the small streams
of the recorder's load (joint states, commands, wrenches, tactile, motion), then large ones (raw camera frames
with grain). CPU time is that of the whole process, threads and system included, the file closed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from capture_nodes.recording.locked_file import LockedFile
from capture_nodes.recording.mcap_file import ChannelDescription, EpisodeFile, FileOptions
from capture_nodes.recording.mcap_writer import COMPRESSIONS, Buffer, Compression, McapWriter
from capture_nodes.recording.message_schemas import ament_prefixes, schema_text

CHUNK_BYTES = 4 * 1024 * 1024
CAMERAS, CAMERA_HZ, CAMERA_SHAPE = 3, 30, (480, 640, 3)
START_NS = 1_700_000_000_000_000_000
JOINTS = tuple(f"{side}_joint_{n:02d}" for side in ("left_arm", "right_arm") for n in range(15))


@dataclass(frozen=True)
class Message:
    topic: str
    type_name: str
    time_ns: int
    data: bytes


@dataclass(frozen=True)
class Row:
    """One writer on one set of messages; `ratio`: bytes of the file per byte of payload."""

    writer: str
    compression: str
    messages: str
    count: int
    cpu_us_per_message: float
    cpu_s_per_gb: float
    ratio: float


# Type and schema text by topic.
Schemas = Mapping[str, tuple[str, str]]
Writer = Callable[[Path, Sequence[Message], Schemas, Compression], None]


# Messages ---------------------------------------------------------------------------------------------------


def _stamp(time_ns: int) -> bytes:
    return np.array([time_ns // 1_000_000_000, time_ns % 1_000_000_000], "<u4").tobytes()


class _Cdr:
    """Just enough of CDR to write the load's messages."""

    def __init__(self) -> None:
        self._data = bytearray(b"\x00\x01\x00\x00")

    def raw(self, data: bytes, alignment: int) -> _Cdr:
        self._data += bytes(-(len(self._data) - 4) % alignment) + data
        return self

    def number(self, value: int) -> _Cdr:
        return self.raw(value.to_bytes(4, "little"), 4)

    def text(self, text: str) -> _Cdr:
        data = text.encode() + b"\0"
        return self.number(len(data)).raw(data, 1)

    def doubles(self, values: Any) -> _Cdr:
        return self.raw(np.asarray(values, "<f8").tobytes(), 8)

    def header(self, time_ns: int, frame: str) -> _Cdr:
        return self.raw(_stamp(time_ns), 4).text(frame)

    def done(self) -> bytes:
        return bytes(self._data)


def _joint_state(time_ns: int, position: Any, velocity: Any, effort: Any) -> bytes:
    cdr = _Cdr().header(time_ns, "").number(len(JOINTS))
    for name in JOINTS:
        cdr.text(name)
    for values in (position, velocity, effort):
        cdr.number(len(values))
        if len(values):
            cdr.doubles(values)
    return cdr.done()


def small_messages(seconds: float) -> list[Message]:
    """The load without its cameras: values move smoothly under sensor noise, as a robot's do."""
    rng = np.random.default_rng(5)
    found: list[Message] = []

    def times(rate_hz: int) -> Iterator[tuple[float, int]]:
        for n in range(round(seconds * rate_hz)):
            yield n / rate_hz, START_NS + n * 1_000_000_000 // rate_hz

    phase = rng.uniform(0, 6, len(JOINTS))
    for t, at in times(500):
        position = np.sin(t + phase) + rng.normal(0, 1e-5, len(JOINTS))
        velocity = np.cos(t + phase) + rng.normal(0, 1e-3, len(JOINTS))
        data = _joint_state(at, position, velocity, rng.normal(0, 0.1, len(JOINTS)))
        found.append(Message("/robot/joint_states", "sensor_msgs/msg/JointState", at, data))
    for t, at in times(200):
        data = _joint_state(at, np.sin(t + phase), np.cos(t + phase), ())
        found.append(Message("/robot/joint_commands", "sensor_msgs/msg/JointState", at, data))
    for site in ("left_wrist", "right_wrist", "left_ankle", "right_ankle"):
        for _, at in times(500):
            data = _Cdr().header(at, f"robot/{site}_sensor").doubles(rng.normal(0, 0.2, 6)).done()
            found.append(Message(f"/robot/wrench/{site}", "geometry_msgs/msg/WrenchStamped", at, data))
    for site in ("left_palm", "right_palm", "left_tip", "right_tip"):
        for _, at in times(100):
            # Sensors count in steps, and most of a pad is not touched.
            field = np.maximum(0, rng.normal(-200, 150, (16, 16))).round(-1).astype("<f4")
            cdr = _Cdr().header(at, f"robot/{site}").number(16).number(16).text("32FC1")
            data = cdr.raw(b"\0", 1).number(64).number(field.nbytes).raw(field.tobytes(), 1).done()
            found.append(Message(f"/robot/tactile/{site}", "sensor_msgs/msg/Image", at, data))
    for t, at in times(90):
        cdr = _Cdr().header(at, "trainer").number(60)
        for n in range(60):
            cdr.text(f"left_body_point_{n:02d}")
        poses = np.sin(t + np.arange(60 * 7)) + rng.normal(0, 1e-4, 60 * 7)
        cdr.number(60).doubles(poses).number(0).number(0)
        found.append(Message("/trainer/motion", "sensor_msgs/msg/MultiDOFJointState", at, cdr.done()))
    return sorted(found, key=lambda message: message.time_ns)


def large_messages(seconds: float) -> list[Message]:
    """Three cameras: texture under grain, ten different frames each, in turn."""
    rng = np.random.default_rng(6)
    rows, columns, colours = CAMERA_SHAPE
    texture = np.kron(rng.integers(40, 200, (rows // 8, columns // 8, colours)), np.ones((8, 8, 1)))
    frames = [
        np.clip(texture + rng.normal(0, 4, CAMERA_SHAPE), 0, 255).astype(np.uint8).tobytes()
        for _ in range(10)
    ]
    found = []
    for n in range(round(seconds * CAMERA_HZ)):
        at = START_NS + n * 1_000_000_000 // CAMERA_HZ
        for camera in range(CAMERAS):
            cdr = _Cdr().header(at, f"camera_{camera}").number(rows).number(columns).text("rgb8")
            cdr.raw(b"\0", 1).number(columns * colours).number(rows * columns * colours)
            data = cdr.raw(frames[(n + camera) % len(frames)], 1).done()
            found.append(Message(f"/robot/camera/{camera}/image", "sensor_msgs/msg/Image", at, data))
    return found


def schemas_of(messages: Sequence[Message]) -> Schemas:
    prefixes = ament_prefixes()
    types = {message.topic: message.type_name for message in messages}
    return {topic: (name, schema_text(name, prefixes)) for topic, name in types.items()}


# Writers ----------------------------------------------------------------------------------------------------


def plain_write(path: Path, messages: Sequence[Message], _: Schemas, __: Compression) -> None:
    """No format at all: each payload in a `write()` of its own."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
    for message in messages:
        os.write(descriptor, message.data)
    os.close(descriptor)


def plain_writev(path: Path, messages: Sequence[Message], _: Schemas, __: Compression) -> None:
    """No format at all: payloads gathered up to the size of a chunk."""
    output = LockedFile(path)
    waiting: list[Buffer] = []
    size = 0
    for message in messages:
        waiting.append(message.data)
        size += len(message.data)
        if size >= CHUNK_BYTES:
            output.write(waiting)
            waiting, size = [], 0
    output.write(waiting)
    output.close()


def ours(path: Path, messages: Sequence[Message], schemas: Schemas, compression: Compression) -> None:
    """`McapWriter`: chunks, indexes and CRCs, no hash and no reading back, as the others have it."""
    output = LockedFile(path)
    writer = McapWriter(output.write, profile="ros2", compression=compression, digest=False)
    channels = {}
    for topic, (name, text) in schemas.items():
        schema = writer.add_schema(name, "ros2msg", text.encode())
        channels[topic] = writer.add_channel(topic, "cdr", schema, {})
    for n, message in enumerate(messages):
        chunk = writer.add_message(channels[message.topic], message.time_ns, message.time_ns, n, message.data)
        if chunk.size >= CHUNK_BYTES:
            writer.end_chunk(chunk)
    writer.finish()
    output.close()


def ours_as_episode(
    path: Path, messages: Sequence[Message], schemas: Schemas, compression: Compression
) -> None:
    """`EpisodeFile`: with SHA-256, fsync and reading back."""
    channels = {topic: ChannelDescription(topic, name, text) for topic, (name, text) in schemas.items()}
    file = EpisodeFile(path, FileOptions(compression=compression, chunk_bytes=CHUNK_BYTES))
    file.open()
    for n, message in enumerate(messages):
        file.write(channels[message.topic], message.time_ns, message.time_ns, n, message.data)
    file.finish()


def mcap_package(path: Path, messages: Sequence[Message], schemas: Schemas, compression: Compression) -> None:
    from mcap.writer import CompressionType, Writer

    kinds = {"none": CompressionType.NONE, "lz4": CompressionType.LZ4, "zstd": CompressionType.ZSTD}
    with path.open("xb") as stream:
        writer = Writer(stream, chunk_size=CHUNK_BYTES, compression=kinds[compression])
        writer.start(profile="ros2", library="")
        channels = {}
        for topic, (name, text) in schemas.items():
            schema = writer.register_schema(name, "ros2msg", text.encode())
            channels[topic] = writer.register_channel(topic, "cdr", schema)
        for n, message in enumerate(messages):
            writer.add_message(channels[message.topic], message.time_ns, message.data, message.time_ns, n)
        writer.finish()


def foxglove_sdk(path: Path, messages: Sequence[Message], schemas: Schemas, compression: Compression) -> None:
    import foxglove
    from foxglove.mcap import MCAPCompression, MCAPWriteOptions

    kinds = {"none": None, "lz4": MCAPCompression.Lz4, "zstd": MCAPCompression.Zstd}
    context = foxglove.Context()
    options = MCAPWriteOptions(compression=kinds[compression], chunk_size=CHUNK_BYTES, profile="ros2")
    with foxglove.open_mcap(path, context=context, writer_options=options):
        channels = {
            topic: foxglove.Channel(
                topic,
                schema=foxglove.Schema(name=name, encoding="ros2msg", data=text.encode()),
                message_encoding="cdr",
                context=context,
            )
            for topic, (name, text) in schemas.items()
        }
        for message in messages:
            channels[message.topic].log(message.data, log_time=message.time_ns)


def rosbags_package(
    path: Path, messages: Sequence[Message], schemas: Schemas, compression: Compression
) -> None:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
    from rosbags.typesys import Stores, get_typestore

    store = get_typestore(Stores.ROS2_JAZZY)
    bag = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
    if compression == "zstd":
        bag.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with bag:
        connections = {
            topic: bag.add_connection(topic, name, typestore=store) for topic, (name, _) in schemas.items()
        }
        for message in messages:
            bag.write(connections[message.topic], message.time_ns, message.data)


WRITERS: dict[str, tuple[Writer, tuple[Compression, ...]]] = {
    "write()": (plain_write, ("none",)),
    "writev()": (plain_writev, ("none",)),
    "ours": (ours, COMPRESSIONS),
    "ours, whole episode": (ours_as_episode, COMPRESSIONS),
    "mcap": (mcap_package, COMPRESSIONS),
    "foxglove-sdk": (foxglove_sdk, COMPRESSIONS),
    "rosbags": (rosbags_package, ("none", "zstd")),
}


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files)


def measure(
    name: str, compression: Compression, kind: str, messages: Sequence[Message], folder: Path, repeat: int
) -> Row:
    """The best of ``repeat`` runs: what disturbs a measurement only ever adds to it."""
    writer, _ = WRITERS[name]
    schemas = schemas_of(messages)
    payload = sum(len(message.data) for message in messages)
    best_s, size = float("inf"), 0
    for _ in range(repeat):
        with tempfile.TemporaryDirectory(dir=folder) as place:
            path = Path(place) / "file.mcap"
            begin_s = time.process_time()
            writer(path, messages, schemas, compression)
            best_s = min(best_s, time.process_time() - begin_s)
            size = _size(path)
    count = len(messages)
    return Row(name, compression, kind, count, best_s / count * 1e6, best_s / payload * 1e9, size / payload)


def table(rows: Sequence[Row]) -> str:
    lines = [
        f"{'writer':<20} {'compression':<12} {'messages':<9} {'µs/message':>11} {'CPU s/GB':>9} {'size':>6}"
    ]
    lines += [
        f"{r.writer:<20} {r.compression:<12} {r.messages:<9} {r.cpu_us_per_message:11.2f} "
        f"{r.cpu_s_per_gb:9.2f} {r.ratio:6.3f}"
        for r in rows
    ]
    return "\n".join(lines)


def versions() -> dict[str, str]:
    found = {}
    for package in ("mcap", "foxglove-sdk", "rosbags", "lz4", "zstandard", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=10.0, help="of the load")
    parser.add_argument("--repeat", type=int, default=3, help="runs of each, of which the best counts")
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    sets = {"small": small_messages(arguments.seconds), "large": large_messages(arguments.seconds)}
    rows = []
    missing = set()
    for kind, messages in sets.items():
        for name, (_, compressions) in WRITERS.items():
            for compression in compressions:
                try:
                    row = measure(name, compression, kind, messages, arguments.folder, arguments.repeat)
                except ImportError as error:
                    missing.add(f"{name} is left out: {error}")
                    continue
                rows.append(row)
    print(table(rows))
    for line in sorted(missing):
        print(line, file=sys.stderr)
    if arguments.json:
        content = {"versions": versions(), "seconds": arguments.seconds, "rows": [asdict(r) for r in rows]}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
