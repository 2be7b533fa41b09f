"""`episodes bag`: the folder that `ros2 bag` takes, read by `rosbags`, which nobody here wrote."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
import yaml
from mcap.writer import Writer
from rosbags.rosbag2 import Reader

from capture_nodes.recording.episode_parts import EpisodeParts, SplitLimits
from capture_nodes.recording.mcap_file import ChannelDescription
from episodes.cli import main

A, B = (ChannelDescription(topic, "std_msgs/msg/String", "string data\n") for topic in ("/a", "/b"))


def _record(path: Path, count: int, max_s: float | None = None) -> list[tuple[str, int, bytes]]:
    """100 Hz of /a and, from the middle on, /b; what is in all parts together."""
    parts = EpisodeParts(path, limits=SplitLimits(max_s=max_s))
    parts.open()
    sent = []
    for n in range(count):
        at = 1_700_000_000_000_000_000 + n * 10_000_000
        for channel in (A, B) if n >= count // 2 else (A,):
            data = b"\0\1\0\0" + b"%06d" % n
            parts.write(channel, at, at, n, data)
            sent.append((channel.topic, at, data))
    parts.finish()
    assert len(parts.parts) == (1 if max_s is None or not count else round(count / 100 / max_s))
    return sent


def _read(folder: Path) -> list[tuple[str, int, bytes]]:
    with Reader(folder) as reader:
        found = [(c.topic, at, bytes(data)) for c, at, data in reader.messages()]
        assert {c.topic: c.msgcount for c in reader.connections} == {
            topic: sum(name == topic for name, _, _ in found)
            for topic in {c.topic for c in reader.connections}
        }
        assert reader.message_count == len(found)
        if found:
            assert reader.start_time == min(at for _, at, _ in found)
            # Its end is the first moment after the last message.
            assert reader.end_time - 1 == max(at for _, at, _ in found)
    return found


def test_every_episode_of_a_folder_becomes_one_bag_with_all_its_parts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    day, out = tmp_path / "day", tmp_path / "out" / "bags"
    day.mkdir()
    sent = {
        "one": _record(day / "one.mcap", 100),
        "split": _record(day / "split.mcap", 200, 0.5),
        "empty": _record(day / "empty.mcap", 0),
    }
    before = {path.name: path.read_bytes() for path in day.iterdir()}
    assert main(["bag", str(day), "--out", str(out)]) == 0
    captured = capsys.readouterr()
    assert sorted(captured.out.split()) == sorted(str(out / name) for name in sent)
    for name, messages in sent.items():
        assert sorted(_read(out / name)) == sorted(messages)
    assert {path.name: path.read_bytes() for path in day.iterdir()} == before
    split = yaml.safe_load((out / "split" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert split["relative_file_paths"] == ["split.mcap", *(f"split.part{n}.mcap" for n in (2, 3, 4))]
    assert (out / "one" / "one.mcap").samefile(day / "one.mcap")
    assert sorted(path.name for path in out.iterdir()) == sorted(sent)


def test_what_cannot_be_linked_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sent = _record(tmp_path / "e.mcap", 20)

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refuse)
    assert main(["bag", str(tmp_path / "e.mcap"), "--out", str(tmp_path / "out")]) == 0
    copy = tmp_path / "out" / "e" / "e.mcap"
    assert not copy.samefile(tmp_path / "e.mcap") and sorted(_read(copy.parent)) == sorted(sent)


def _foreign(path: Path) -> None:
    with path.open("wb") as stream:
        writer = Writer(stream)
        writer.start()
        writer.finish()


def test_what_is_no_episode_is_named_and_the_others_are_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _record(tmp_path / "a.mcap", 10)
    _record(tmp_path / "b.mcap", 200, 1.0)
    (tmp_path / "b.part2.mcap").unlink()
    _foreign(tmp_path / "c.mcap")
    (tmp_path / "d.mcap").write_bytes((tmp_path / "a.mcap").read_bytes()[:300])
    (tmp_path / "f.mcap.active").write_bytes((tmp_path / "a.mcap").read_bytes())
    files = [*(str(tmp_path / f"{name}.mcap") for name in "abcde"), str(tmp_path / "f.mcap.active")]
    out = tmp_path / "out"
    assert main(["bag", *files, "--out", str(out)]) == 2
    errors = capsys.readouterr().err.splitlines()
    for line, (name, words) in zip(
        errors,
        [
            ("b.mcap", "b.part2.mcap belongs to the episode and is not there"),
            ("c.mcap", "has no record 'rosbag2'"),
            ("d.mcap", "is no complete MCAP file"),
            ("e.mcap", "cannot be read: No such file or directory"),
            ("f.mcap.active", "is still being recorded, or was cut off"),
        ],
        strict=True,
    ):
        assert f"{tmp_path / name}: {words}" in line
    assert [path.name for path in out.iterdir()] == ["a"]
    assert main(["bag", files[0], "--out", str(out)]) == 2
    assert f"{out / 'a'}: exists already and is not overwritten" in capsys.readouterr().err
    blocked = tmp_path / "a.mcap" / "out"
    assert main(["bag", files[0], "--out", str(blocked)]) == 2
    assert "cannot be made" in capsys.readouterr().err
