"""The load is what the issue names, its bytes are messages, and the recorder takes its configuration."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml

pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from rosbags.typesys import Stores, get_typestore

from benchmarks.recorder.camera_frames import GRAIN, camera_frames, forth_and_back
from benchmarks.recorder.load import message_maker
from benchmarks.recorder.load_plan import (
    FRAME_BYTES,
    PARTS,
    PRIORITIES,
    Histories,
    LoadStream,
    plan_load,
    priority_of,
    recorder_yaml,
)
from capture_nodes.errors import CaptureError
from capture_nodes.recording.recorder_configuration import load_recorder_configuration
from capture_nodes.resources import config_file
from capture_nodes.topics import stream_qos

STORE = get_typestore(Stores.ROS2_JAZZY)
STAMP_NS = 1_763_000_000_123_456_789


def shipped() -> dict:
    return yaml.safe_load(config_file("recorder.yaml").read_text(encoding="utf-8"))


def by_kind() -> dict[str, LoadStream]:
    return {stream.kind: stream for stream in plan_load()}


def test_the_load_is_the_one_of_the_issue():
    rates: dict[str, list[float]] = {}
    for stream in plan_load():
        rates.setdefault(stream.kind, []).append(stream.rate_hz)
    assert rates == {
        "joint_states": [500.0],
        "joint_commands": [200.0],
        "wrench": [500.0] * 4,
        "tactile": [100.0] * 4,
        "motion": [90.0],
        "camera": [30.0] * 3,
    }


@pytest.mark.parametrize(("scale", "cameras"), [(0.1, 1), (1.0, 3), (2.0, 6), (3.5, 10)])
def test_scale_multiplies_rates_and_the_number_of_cameras(scale: float, cameras: int):
    streams = plan_load(scale)
    assert [s.rate_hz for s in streams if s.kind == "camera"] == [30.0] * cameras
    assert [s.rate_hz for s in streams if s.kind == "joint_states"] == [pytest.approx(500.0 * scale)]
    assert {s.part for s in streams} == set(PARTS)
    assert len({s.topic for s in streams}) == len(streams)


@pytest.mark.parametrize("scale", [0.0, -1.0, 21.0, float("nan")])
def test_a_scale_out_of_bounds_is_refused_with_the_bounds(scale: float):
    with pytest.raises(CaptureError, match=r"scale .* 0.05 to 20"):
        plan_load(scale)


def test_histories_are_those_of_the_nodes_unless_asked_otherwise():
    for stream in plan_load():
        if stream.kind == "camera":
            assert stream.depth == 16_000_000 // FRAME_BYTES
        else:
            assert stream.depth == stream_qos(stream.rate_hz).depth
    longer = {s.kind: s.depth for s in plan_load(1.0, Histories(2.0, 6.0, 1000.0))}
    assert longer == {
        "joint_states": 3000,
        "joint_commands": 1200,
        "wrench": 1000,
        "tactile": 200,
        "motion": 180,
        "camera": 60,
    }


def test_every_topic_has_its_priority_and_none_else_has():
    assert {priority_of(s.topic) for s in plan_load()} == set(PRIORITIES)
    assert all(priority_of(s.topic) == s.priority for s in plan_load())
    with pytest.raises(KeyError):
        priority_of("/diagnostics")


@pytest.mark.parametrize("kind", ["joint_states", "joint_commands", "wrench", "tactile", "motion", "camera"])
def test_bytes_are_messages_to_a_reader_nobody_here_wrote(kind: str):
    stream = by_kind()[kind]
    make = message_maker(stream)
    first, second = make(0, STAMP_NS), make(1, STAMP_NS + 1)
    assert first != second
    assert len(first) == len(second)
    message = STORE.deserialize_cdr(first, stream.type_name)
    assert (message.header.stamp.sec, message.header.stamp.nanosec) == divmod(STAMP_NS, 1_000_000_000)
    if kind in ("joint_states", "joint_commands"):
        assert (
            len(message.name)
            == len(set(message.name))
            == len(message.position)
            == len(message.velocity)
            == 30
        )
        assert len(message.effort) == (30 if kind == "joint_states" else 0)
    elif kind == "motion":
        assert len(message.joint_names) == len(message.transforms) == 60
        assert len(message.twist) == len(message.wrench) == 0
    elif kind == "wrench":
        assert np.isfinite([message.wrench.force.x, message.wrench.torque.z]).all()
    elif kind == "tactile":
        assert (message.height, message.width, message.encoding, message.step) == (16, 16, "32FC1", 64)
        assert np.isfinite(message.data.view("<f4")).all()
    else:
        assert (message.height, message.width, message.encoding) == (480, 640, "rgb8")
        assert message.data.size == FRAME_BYTES
    # Written again by the same reader it is the same, but for padding.
    again = bytes(STORE.serialize_cdr(message, stream.type_name))
    assert again[: len(first)].rstrip(b"\0") == first.rstrip(b"\0")


@pytest.mark.parametrize("count", [1, 2, 5, 30])
def test_frames_forth_and_back_never_jump_and_show_all(count: int):
    shown = [forth_and_back(i, count) for i in range(4 * count)]
    assert set(shown) == set(range(count))
    assert all(abs(a - b) <= 1 for a, b in pairwise(shown))


def test_frames_have_texture_and_fresh_grain():
    still, moved = camera_frames(320, 240, 2, grain=0.0), camera_frames(320, 240, 2)
    grain = moved[0].astype(float) - still[0]
    inside = (still[0] > 20) & (still[0] < 235)
    assert grain[inside].std() == pytest.approx(GRAIN, rel=0.1)
    other = moved[1].astype(float) - still[1]
    assert abs(np.corrcoef(grain.reshape(-1), other.reshape(-1))[0, 1]) < 0.02
    assert np.array_equal(still[1][:, :-2], still[0][:, 2:])
    assert np.abs(np.diff(still[0].astype(float), axis=1)).mean() > 3.0


def test_the_recorder_takes_the_configuration_made_for_the_load(tmp_path: Path):
    streams = plan_load(2.0)
    given = recorder_yaml(shipped(), streams, {"taking.poll_s": 0.002, "file.compression": "none"})
    file = tmp_path / "recorder.yaml"
    file.write_text(yaml.safe_dump(given))
    configuration = load_recorder_configuration(file)
    assert (configuration.poll_s, configuration.file.compression) == (0.002, "none")
    for stream in streams:
        (rule,) = [r for r in configuration.topics if r.matches(stream.topic, "/kestrel")]
        assert (rule.type_name, rule.rate_hz) == (stream.type_name, stream.rate_hz)


def test_an_encoding_goes_to_the_cameras_only_and_what_was_shipped_is_left_alone():
    before = shipped()
    given = recorder_yaml(before, plan_load(), {}, "h264")
    assert before == shipped()
    asked = {topic for topic, rule in given["topics"].items() if rule.get("encoding") == "h264"}
    assert asked == {"camera/{name}/image"}


@pytest.mark.parametrize("key", ["poll_s", "topics.joint_states", "topics"])
def test_a_key_that_is_none_of_a_section_is_refused(key: str):
    with pytest.raises(CaptureError, match=f"--set {key}"):
        recorder_yaml(shipped(), plan_load(), {key: 1})
