"""The writers' benchmark compares like with like: every file it times holds what it was given."""

from __future__ import annotations

from collections import Counter
from importlib.util import find_spec
from pathlib import Path

import pytest
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader
from rosbags.typesys import Stores, get_typestore

from benchmarks.recorder.writers import (
    CAMERAS,
    WRITERS,
    large_messages,
    measure,
    schemas_of,
    small_messages,
    table,
)

FORMATS = [name for name in WRITERS if "(" not in name]


def test_the_messages_are_those_of_the_load() -> None:
    small = small_messages(0.2)
    counts = Counter(message.topic for message in small)
    assert [counts[f"/robot/joint_{name}"] for name in ("states", "commands")] == [100, 40]
    assert sum(n for topic, n in counts.items() if "wrench" in topic) == 4 * 100
    assert sum(n for topic, n in counts.items() if "tactile" in topic) == 4 * 20
    assert counts["/trainer/motion"] == 18
    store = get_typestore(Stores.ROS2_JAZZY)
    for message in [*small, *large_messages(0.1)]:
        decoded = store.deserialize_cdr(message.data, message.type_name)
        stamp = decoded.header.stamp  # type: ignore[attr-defined]
        assert stamp.sec * 10**9 + stamp.nanosec == message.time_ns
        assert bytes(store.serialize_cdr(decoded, message.type_name)) == message.data
    assert len({message.topic for message in large_messages(0.1)}) == CAMERAS


@pytest.mark.parametrize("name", FORMATS)
def test_every_writer_writes_everything(tmp_path: Path, name: str) -> None:
    if name == "foxglove-sdk" and find_spec("foxglove") is None:
        pytest.skip("foxglove-sdk comes with `make benchmark` and `make soak`")
    messages = sorted([*small_messages(0.1), *large_messages(0.1)], key=lambda message: message.time_ns)
    writer, compressions = WRITERS[name]
    for compression in compressions:
        path = tmp_path / f"{compression}.mcap"
        writer(path, messages, schemas_of(messages), compression)
        if path.is_dir():
            with Reader(path) as bag:
                read = [(c.topic, at, bytes(data)) for c, at, data in bag.messages()]
        else:
            with path.open("rb") as stream:
                found = make_reader(stream, validate_crcs=True).iter_messages()
                read = [(c.topic, m.log_time, m.data) for _, c, m in found]
        assert sorted(read) == sorted((m.topic, m.time_ns, m.data) for m in messages)


def test_the_table_has_a_line_for_each_row(tmp_path: Path) -> None:
    rows = [measure(name, "none", "small", small_messages(0.05), tmp_path, 1) for name in ("write()", "ours")]
    assert rows[0].ratio == 1.0 and rows[1].ratio > 1.0
    assert all(row.cpu_us_per_message > 0 for row in rows)
    assert len(table(rows).splitlines()) == 3 and list(tmp_path.iterdir()) == []
