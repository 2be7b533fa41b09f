"""A recorded trainer read back, against what was put in; and files that cannot be used."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from capture_nodes.recording.recovery import recover
from capture_nodes.recording.trainer_recording import (
    UnusableRecording,
    file_sha256,
    read_trainer_recording,
)
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame

START_NS = 1_790_000_000_123_456_789
POINTS = ("head", "left_wrist", "right_wrist", "left_index_tip", "right_grip")


def trainer(count: int, seed: int = 0) -> list[MotionFrame]:
    """Frames at uneven times, with points that come and go, and controls that change."""
    rng = np.random.default_rng(seed)
    frames = []
    stamp_ns = START_NS
    for _ in range(count):
        quaternions = rng.normal(size=(len(POINTS), 4))
        quaternions /= np.linalg.norm(quaternions, axis=1, keepdims=True)
        poses = {
            name: np.concatenate([rng.uniform(-2.0, 2.0, 3), quaternion])
            for name, quaternion in zip(POINTS, quaternions, strict=True)
            if name == "head" or rng.random() < 0.8
        }
        axes = tuple(float(value) for value in rng.uniform(-1.0, 1.0, len(Axis)).astype(np.float32))
        controls = Controls(axes, tuple(int(value) for value in rng.integers(0, 2, len(Button))))
        frames.append(MotionFrame(stamp_ns, poses, controls))
        stamp_ns += int(rng.integers(1, 40_000_000))
    return frames


def assert_same(found: tuple[MotionFrame, ...], expected: list[MotionFrame]) -> None:
    assert [frame.stamp_ns for frame in found] == [frame.stamp_ns for frame in expected]
    for one, other in zip(found, expected, strict=True):
        assert list(one.poses) == list(other.poses)
        for name, pose in one.poses.items():
            np.testing.assert_array_equal(pose, other.poses[name])
        assert one.controls == other.controls


@seed(1)
@settings(max_examples=15, derandomize=True)
@given(count=st.integers(1, 60), draw=st.integers(0, 1000))
def test_every_frame_comes_back_bit_for_bit(record_trainer, tmp_path_factory, count, draw) -> None:
    frames = trainer(count, draw)
    path = record_trainer(tmp_path_factory.mktemp("bag") / "one.mcap", frames)
    recording = read_trainer_recording(path)
    assert_same(recording.frames, frames)
    assert recording.duration_s == pytest.approx((frames[-1].stamp_ns - START_NS) * 1e-9)
    assert recording.rejected == 0 and recording.expected_hz == {"/trainer/motion": 90.0}


def test_messages_come_with_what_carried_them(record_trainer, trainer_bytes, tmp_path: Path) -> None:
    frames = trainer(5)
    path = record_trainer(tmp_path / "one.mcap", frames, station={"deadman": "squeeze"})
    recording = read_trainer_recording(path)
    assert recording.station == {"deadman": "squeeze"} and recording.episode["skill"] == "wave"
    motions = [m for m in recording.messages if m.channel.topic == "/trainer/motion"]
    assert [m.data for m in motions] == [trainer_bytes(frame)[0] for frame in frames]
    assert [m.log_ns - m.publish_ns for m in motions] == [1000] * 5
    assert [m.sequence for m in motions] == list(range(5))
    assert "MultiDOF" in motions[0].channel.type_name and "twist" in motions[0].channel.schema_text


def test_parts_are_read_together_and_only_from_the_first(record_trainer, tmp_path: Path) -> None:
    frames = trainer(40)
    path = record_trainer(tmp_path / "one.mcap", frames, split_bytes=8_000)
    later = tmp_path / "one.part2.mcap"
    assert later.exists()
    assert_same(read_trainer_recording(path).frames, frames)
    with pytest.raises(UnusableRecording, match=r"later part of an episode; give one\.mcap"):
        read_trainer_recording(later)
    later.unlink()
    with pytest.raises(UnusableRecording, match="cannot be read: No such file"):
        read_trainer_recording(path)


def test_a_frame_that_is_none_is_left_out(record_trainer, tmp_path: Path) -> None:
    frames = trainer(4)
    bad = replace(frames[1], poses=dict(frames[1].poses))
    object.__setattr__(bad, "poses", {"head": np.full(7, np.nan)})
    path = record_trainer(tmp_path / "one.mcap", [frames[0], bad, *frames[2:]])
    recording = read_trainer_recording(path)
    assert recording.rejected == 1
    assert_same(recording.frames, [frames[0], *frames[2:]])


def test_files_that_cannot_be_played_say_why(record_trainer, tmp_path: Path) -> None:
    def refused(path: Path, **options: bool) -> str:
        with pytest.raises(UnusableRecording) as caught:
            read_trainer_recording(path, **options)
        assert str(caught.value).startswith(str(path))
        return caught.value.reason

    frames = trainer(30)
    assert "no such file" in refused(tmp_path / "none.mcap")
    assert "is a folder" in refused(tmp_path)
    (tmp_path / "text.mcap").write_text("not MCAP" * 100)
    assert "does not begin as an MCAP file" in refused(tmp_path / "text.mcap")
    other = record_trainer(tmp_path / "other.mcap", frames, topic="/trainer/else")
    assert "has no /trainer/motion" in refused(other)
    framed = record_trainer(tmp_path / "framed.mcap", frames, frame_id="map")
    assert "in frame 'map'" in refused(framed)
    back = record_trainer(tmp_path / "back.mcap", [*frames[5:], *frames[:5]])
    assert "two trainers, or a clock that was set back" in refused(back)

    active = record_trainer(tmp_path / "cut.mcap", frames, finish=False)
    assert "still being recorded, or was cut off" in refused(active)
    assert "cut.mcap.active is there" in refused(tmp_path / "cut.mcap")
    recover(active)
    assert "was cut off and recovered" in refused(tmp_path / "cut.mcap")
    assert_same(read_trainer_recording(tmp_path / "cut.mcap", recovered=True).frames, frames)

    whole = record_trainer(tmp_path / "whole.mcap", frames).read_bytes()
    for place in range(60, len(whole) // 2, 211):
        damaged = tmp_path / "damaged.mcap"
        damaged.write_bytes(whole[:place] + bytes([whole[place] ^ 0x55]) + whole[place + 1 :])
        try:
            read_trainer_recording(damaged)
        except UnusableRecording as error:
            assert "damaged" in str(error)
    for length in (0, 7, 100, len(whole) // 2, len(whole) - 3):
        (tmp_path / "short.mcap").write_bytes(whole[:length])
        assert "damaged, or no episode" in refused(tmp_path / "short.mcap")


def test_what_is_no_json_is_as_if_it_was_not_said(record_trainer, tmp_path: Path) -> None:
    path = record_trainer(tmp_path / "one.mcap", trainer(2), station=json.loads("[]") or {})
    assert read_trainer_recording(path).station == {}
    assert len(file_sha256(path)) == 64
    with pytest.raises(UnusableRecording, match="cannot be read"):
        file_sha256(tmp_path / "none.mcap")
