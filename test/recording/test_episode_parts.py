from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader

from capture_nodes.recording.episode_parts import EpisodeParts, SplitLimits, part_path
from capture_nodes.recording.mcap_file import Attachment, ChannelDescription, EpisodeFile, FileProblem
from capture_nodes.recording.recovery import recover_all
from capture_nodes.recording.stream_statistics import EpisodeCounts
from episodes.rosbag2_folder import episode_files, make_bag_folder

TEXT = "string data\n"
PLAIN = ChannelDescription("/plain", "std_msgs/msg/String", TEXT)
VIDEO = ChannelDescription("/video", "std_msgs/msg/String", TEXT)
LATCHED = ChannelDescription("/latched", "std_msgs/msg/String", TEXT)


def _parts(path: Path, limits: SplitLimits) -> EpisodeParts:
    return EpisodeParts(
        path,
        limits=limits,
        latched=lambda topic: topic == LATCHED.topic,
        begins=lambda channel, data: channel is not VIDEO or bytes(data).startswith(b"K"),
    )


def _read(path: Path) -> tuple[list[tuple[str, int, int, bytes]], dict[str, dict[str, str]]]:
    with path.open("rb") as stream:
        reader = make_reader(stream, validate_crcs=True)
        messages = [(c.topic, m.log_time, m.sequence, m.data) for _, c, m in reader.iter_messages()]
        assert [a.name for a in reader.iter_attachments()] == ["robot.urdf"]
        return messages, {m.name: m.metadata for m in reader.iter_metadata()}


def _record(parts: EpisodeParts, count: int, keyframe_every: int, size: int = 100) -> list[bytes]:
    """`count` messages of two topics at 100 Hz, after two latched ones; the video's payloads in order."""
    parts.open()
    parts.attach(Attachment("robot.urdf", "application/xml", b"<robot/>"), 1)
    parts.add_metadata("episode_opening", {"id": "e"})
    # A window is a publisher's.
    windows = [EpisodeCounts(before=None) for _ in range(2)]
    for n, window in enumerate(windows):
        parts.write(LATCHED, 1000, 1, n + 1, b"latched %d" % n, window)
    video = []
    for n in range(count):
        at = 1_000_000_000 + n * 10_000_000
        parts.write(PLAIN, at, at, n + 1, (b"%06d" % n).ljust(size, b"."))
        keyframe = n % keyframe_every == 0
        video.append((b"K" if keyframe else b"P") + b"%06d" % n)
        parts.write(VIDEO, at + 1, at, n + 1, video[-1])
    return video


@settings(derandomize=True, max_examples=25, deadline=None)
@given(
    count=st.integers(1, 120),
    keyframe_every=st.integers(1, 70),
    max_bytes=st.one_of(st.none(), st.integers(150, 5000)),
    max_s=st.one_of(st.none(), st.floats(0.05, 1.0)),
)
def test_parts_together_are_the_episode_and_each_is_readable_alone(
    tmp_path_factory: pytest.TempPathFactory,
    count: int,
    keyframe_every: int,
    max_bytes: int | None,
    max_s: float | None,
) -> None:
    path = tmp_path_factory.mktemp("p") / "e.mcap"
    parts = _parts(path, SplitLimits(max_bytes, max_s))
    sent_video = _record(parts, count, keyframe_every)
    assert parts.finish() == path and parts.messages == 2 * count + 2
    names = [part.path.name for part in parts.parts]
    assert names == [part_path(path, n + 1).name for n in range(len(names))]
    plain: list[bytes] = []
    video: list[bytes] = []
    for number, name in enumerate(names, 1):
        messages, metadata = _read(path.with_name(name))
        here = [data for topic, _, _, data in messages if topic == "/video"]
        # Decodable alone: what it has of the video begins with a keyframe.
        assert not here or here[0].startswith(b"K")
        plain += [data for topic, _, _, data in messages if topic == "/plain"]
        video += here
        assert {data for topic, *_, data in messages if topic == "/latched"} == {b"latched 0", b"latched 1"}
        assert metadata["episode_opening"] == {"id": "e"}
        if len(names) > 1:
            assert json.loads(metadata["parts"]["files"]) == names
            assert metadata["parts"]["number"] == str(number)
        if number > 1:
            assert json.loads(metadata["part"]["repeated"]) == {"/latched": 2}
    assert [int(data[:6]) for data in plain] == list(range(count))
    assert sorted(video, key=lambda data: data[1:]) == sent_video


def test_a_bag_folder_of_the_parts_is_read_as_one(tmp_path: Path) -> None:
    path = tmp_path / "e.mcap"
    parts = _parts(path, SplitLimits(max_s=0.2))
    _record(parts, 50, 1)
    parts.finish()
    paths = [part.path for part in parts.parts]
    assert len(paths) > 2 and all(list(episode_files(path)) == paths for path in paths)
    bag = make_bag_folder(paths, tmp_path / "bag")
    information = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert information["relative_file_paths"] == [path.name for path in paths]
    assert information["message_count"] == sum(part.messages for part in parts.parts)
    assert information["starting_time"]["nanoseconds_since_epoch"] == parts.parts[0].first_ns == 1000
    assert information["duration"]["nanoseconds"] == max(part.last_ns or 0 for part in parts.parts) - 1000
    with Reader(bag) as reader:
        counts = {c.topic: c.msgcount for c in reader.connections}
        assert counts["/plain"] == counts["/video"] == 50
        read = [int(data[:6]) for c, _, data in reader.messages() if c.topic == "/plain"]
    assert read == list(range(50))


def test_a_killed_split_episode_is_recovered_part_by_part(tmp_path: Path) -> None:
    parts = EpisodeParts(tmp_path / "e.mcap", limits=SplitLimits(max_s=0.2))
    _record(parts, 50, 1)
    parts.flush()
    parts.abandon()
    reports: list[str] = []
    recovered = recover_all(tmp_path, reports.append)
    assert [r.path for r in recovered] == sorted(part.path for part in parts.parts)
    read = [d for r in recovered for topic, _, _, d in _read(r.path)[0] if topic == "/plain"]
    assert sorted(int(d[:6]) for d in read) == list(range(50))


def test_a_disk_that_takes_no_new_file_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = EpisodeParts(tmp_path / "e.mcap", limits=SplitLimits(max_s=0.2))
    open_file: Callable[[EpisodeFile], None] = EpisodeFile.open

    def refuse(self: EpisodeFile) -> None:
        if "part" in self.path.name:
            raise FileProblem("no more files", self.path)
        open_file(self)

    monkeypatch.setattr(EpisodeFile, "open", refuse)
    _record(parts, 50, 1)
    parts.finish()
    assert len(parts.parts) == 1 and parts.refused_split == "no more files"
    assert len(_read(parts.path)[0]) == 102
