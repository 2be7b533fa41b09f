"""Reading: typed streams agree with independent decoders, and bad files are named, not traced."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap.writer import CompressionType, Writer
from mcap_ros2.decoder import DecoderFactory

from episodes.bag import read_bag
from episodes.cdr import begins_with_header
from episodes.episode_files import find_episodes
from episodes.errors import EpisodeError


def test_the_fast_decoding_agrees_with_mcap_ros2(good_file: Path) -> None:
    bag = read_bag(good_file)
    expected: dict[str, list[Any]] = {}
    with good_file.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, _, message in reader.iter_decoded_messages():
            expected.setdefault(channel.topic, []).append(message)

    joints = bag.joints("/toy/joint_states")
    theirs = expected["/toy/joint_states"]
    assert joints.names == tuple(theirs[0].name)
    np.testing.assert_array_equal(joints.position, [m.position for m in theirs])
    np.testing.assert_array_equal(joints.velocity, [m.velocity for m in theirs])
    stamps = [m.header.stamp.sec * 10**9 + m.header.stamp.nanosec for m in theirs]
    np.testing.assert_array_equal(joints.stamp_ns, stamps)

    poses = bag.poses("/toy/target/right_wrist")
    last = expected["/toy/target/right_wrist"][-1]
    p, o = last.pose.position, last.pose.orientation
    assert poses.pose[-1].tolist() == [p.x, p.y, p.z, o.x, o.y, o.z, o.w]
    assert poses.frame_id == last.header.frame_id

    wrench = bag.wrenches("/toy/wrench/right_wrist").wrench[7]
    theirs_wrench = expected["/toy/wrench/right_wrist"][7].wrench
    assert wrench[:3].tolist() == [theirs_wrench.force.x, theirs_wrench.force.y, theirs_wrench.force.z]

    causes = bag.causes("/toy/command_cause")
    reference = expected["/toy/command_cause"][3].time_ref
    assert causes.cause_ns[3] == reference.sec * 10**9 + reference.nanosec

    tactile = bag.tactile("/toy/tactile/right_inner")
    image = expected["/toy/tactile/right_inner"][100]
    pressed = np.frombuffer(bytes(image.data), "<f4").reshape(4, 4)
    np.testing.assert_array_equal(tactile.pressure_pa[100], pressed)
    assert pressed.max() == 30_000.0

    transforms = {(t.parent, t.child): t for t in bag.transforms("/tf")}
    for transform in expected["/tf"][50].transforms:
        mine = transforms[transform.header.frame_id, transform.child_frame_id]
        t, r = transform.transform.translation, transform.transform.rotation
        assert mine.pose[50].tolist() == [t.x, t.y, t.z, r.x, r.y, r.z, r.w]


def test_every_message_is_counted_with_its_times(good_file: Path) -> None:
    bag = read_bag(good_file)
    states = bag.stream("/toy/joint_states")
    assert states.count == 400
    assert states.rate_hz == pytest.approx(200.0)
    assert states.sequence.tolist() == list(range(1, 401))
    assert (states.log_ns - states.publish_ns == 1_000_000).all()
    assert states.counts.published == 400
    assert bag.robot == "toy"
    assert bag.episode["versions"] == {"teleop_capture": "0.1.0"}
    assert bag.episode["goal_m"] == [0.55, -0.3, 0.2]
    assert set(bag.attachments) == {"robot.urdf", "robot.yaml"}


def test_large_images_are_read_from_the_file_on_demand(good_file: Path) -> None:
    bag = read_bag(good_file)
    topic = "/toy/camera/wrist/image"
    assert bag.stream(topic).payloads == ()
    found = bag.large_messages(topic, [0, 31])
    pixels = bag.large_image(topic, 31, found[31])
    assert pixels.shape == (120, 160, 3)
    assert pixels[5, 7].tolist() == [10, 7, (5 + 4 * 31) % 256]
    with pytest.raises(EpisodeError, match="contents were not kept"):
        bag.tactile(topic)


@pytest.mark.parametrize("compression", list(CompressionType))
def test_every_compression_is_read(synthetic: Any, tmp_path: Path, compression: CompressionType) -> None:
    path = synthetic.write(tmp_path / "e.mcap", compression)
    assert read_bag(path).stream("/tf").count == 400


def test_joints_in_another_order_are_put_in_the_first_order(
    synthetic: Any, messages: Any, tmp_path: Path
) -> None:
    def reverse(index: int, message: Any) -> Any:
        if index != 5:
            return message
        stamp = messages["start_ns"] + 5 * 5_000_000
        names = tuple(reversed(message.name))
        return messages["joint_state"](stamp, names, message.position[::-1], message.velocity[::-1])

    plain = read_bag(synthetic.write(tmp_path / "a.mcap")).joints("/toy/joint_states")
    synthetic.replace("/toy/joint_states", reverse)
    turned = read_bag(synthetic.write(tmp_path / "b.mcap")).joints("/toy/joint_states")
    np.testing.assert_array_equal(plain.position, turned.position)
    np.testing.assert_array_equal(plain.velocity, turned.velocity)


def test_joints_that_change_are_refused(synthetic: Any, messages: Any, tmp_path: Path) -> None:
    other = messages["joint_state"](messages["start_ns"], ("a", "b"), [0.0, 1.0], [0.0, 0.0])
    synthetic.replace("/toy/joint_states", lambda index, message: other if index == 9 else message)
    bag = read_bag(synthetic.write(tmp_path / "e.mcap"))
    with pytest.raises(EpisodeError, match="changes its joints"):
        bag.joints("/toy/joint_states")


def test_a_missing_topic_names_those_there_are(good_file: Path) -> None:
    with pytest.raises(EpisodeError, match="/toy/joint_commands"):
        read_bag(good_file).joints("/toy/joints")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"#ROSBAG V2.0\n" + bytes(100), "is not an MCAP file"),
        (b"\x89MCAP0\r\n", "is truncated"),
        (b"\x89MCAP0\r\n" + bytes(50), "is truncated"),
        (b"\x89MCAP0\r\n" + b"\x07" * 50 + b"\x89MCAP0\r\n", "is damaged"),
    ],
)
def test_what_is_no_episode_is_named(tmp_path: Path, content: bytes | None, reason: str) -> None:
    path = tmp_path / "e.mcap"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(EpisodeError, match=reason) as caught:
        read_bag(path)
    assert str(path) in str(caught.value)


def test_a_file_still_being_recorded_is_named(good_file: Path, tmp_path: Path) -> None:
    active = tmp_path / "e.mcap.active"
    active.write_bytes(good_file.read_bytes())
    with pytest.raises(EpisodeError, match="still being recorded"):
        read_bag(active)
    with pytest.raises(EpisodeError, match="still being recorded"):
        read_bag(tmp_path / "e.mcap")
    with pytest.raises(EpisodeError, match="1 still being recorded"):
        find_episodes(tmp_path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.5, 0.77, 0.99])
def test_a_file_cut_anywhere_gives_an_error_or_what_is_whole(
    good_file: Path, tmp_path: Path, share: float
) -> None:
    content = good_file.read_bytes()
    path = tmp_path / "cut.mcap"
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(EpisodeError, match="truncated"):
        read_bag(path)
    bag = read_bag(path, allow_incomplete=True)
    assert "whole messages" in bag.incomplete
    whole = read_bag(good_file)
    for topic, stream in bag.streams.items():
        np.testing.assert_array_equal(stream.log_ns, whole.stream(topic).log_ns[: stream.count])


def test_flipped_bytes_are_found(synthetic: Any, tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "e.mcap", CompressionType.NONE)
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 0xFF
    path.write_bytes(bytes(content))
    with pytest.raises(EpisodeError, match="is damaged"):
        read_bag(path)


def test_a_foreign_file_is_read_without_metadata(tmp_path: Path) -> None:
    path = tmp_path / "foreign.mcap"
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("my/Thing", "jsonschema", b"{}")
        channel = writer.register_channel("thing", "json", schema)
        for k in range(3):
            writer.add_message(channel, k, json.dumps({"k": k}).encode(), k)
        writer.finish()
    bag = read_bag(path)
    assert not bag.is_episode
    assert bag.stream("thing").count == 3
    assert bag.stream("thing").stamp_ns is None
    with pytest.raises(EpisodeError, match="cannot tell which robot"):
        bag.topic("joint_states")


def test_messages_that_are_not_of_their_type_do_not_hide_the_rest(
    synthetic: Any, messages: Any, tmp_path: Path
) -> None:
    path = tmp_path / "e.mcap"
    text, _ = messages["store"].generate_msgdef("sensor_msgs/msg/JointState", ros_version=2)
    with path.open("wb") as file:
        writer = Writer(file)
        writer.start()
        schema = writer.register_schema("sensor_msgs/msg/JointState", "ros2msg", text.encode())
        channel = writer.register_channel("/r/joint_states", "cdr", schema)
        writer.add_message(channel, 5, b"\x00\x01\x00\x00\x01", 5)
        writer.finish()
    bag = read_bag(path)
    assert bag.stream("/r/joint_states").malformed
    with pytest.raises(EpisodeError, match="malformed message"):
        bag.joints("/r/joint_states")


def test_counts_of_several_publishers_are_added(synthetic: Any, tmp_path: Path) -> None:
    path = synthetic.write(tmp_path / "e.mcap")
    synthetic.topics["/tf"] = synthetic.topics["/tf"][:-1]
    synthetic.counts["/tf"] = {"published": 400, "lost": 1}
    bag = read_bag(synthetic.write(path))
    counts = bag.stream("/tf").counts
    assert (counts.published, counts.received, counts.lost, counts.publishers) == (400, 399, 1, 1)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ("# a comment\nstd_msgs/Header header # the header\nfloat64 x", True),
        ("uint8 A=1\nstd_msgs/msg/Header header", True),
        ("geometry_msgs/TransformStamped[] transforms\n===\nMSG: std_msgs/Header\n", False),
        ("string data", False),
        ("", False),
    ],
)
def test_headers_are_told_from_the_schema(schema: str, expected: bool) -> None:
    assert begins_with_header(schema) is expected
