from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap_ros2._dynamic import generate_dynamic  # the decoder behind mcap_ros2.decoder

from capture_nodes.errors import CaptureError
from capture_nodes.recording.cdr import (
    CdrReader,
    JointSample,
    JointStateReader,
    MalformedMessage,
    read_child_frames,
    read_status,
    read_status_array,
)
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.tf_stream import TF_TYPE, TfStream, TransformTemplate
from retargeting.frames import pose_compose, rotation_matrix_from_quaternion
from retargeting.robot_model import RobotModel

Channel = Callable[[str, str], ChannelDescription]


def _decode(channel: Channel, type_name: str, data: bytes) -> object:
    text = channel("/x", type_name).schema_text
    return generate_dynamic(type_name, text)[type_name](data)


def _poses(message: object) -> dict[tuple[str, str], np.ndarray]:
    result = {}
    for t in message.transforms:  # type: ignore[attr-defined]
        v, r = t.transform.translation, t.transform.rotation
        result[(t.header.frame_id, t.child_frame_id)] = np.array([v.x, v.y, v.z, r.x, r.y, r.z, r.w])
    return result


def test_joint_states_read_back_as_serialized(joint_state: Callable[..., bytes]) -> None:
    reader = JointStateReader()
    for stamp_ns, names, positions in (
        (1_700_000_000_123_456_789, ["a", "bb", "ccc"], [0.1, -2.0, 3.5]),
        (1_700_000_000_223_456_789, ["a", "bb", "ccc"], [0.2, -2.5, 4.5]),
        (5, ["other"], [1.0]),
        (6, ["longer_name_than_before", "x"], [1.0, np.pi]),
        (7, [], []),
        (8, ["a", "bb", "ccc"], [9.0, 8.0, 7.0]),
    ):
        sample = reader.read(joint_state(stamp_ns, names, positions))
        assert (sample.stamp_ns, list(sample.names)) == (stamp_ns, names)
        np.testing.assert_array_equal(sample.positions, positions)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=120), cut=st.integers(0, 200))
def test_no_bytes_break_the_readers(joint_state: Callable[..., bytes], data: bytes, cut: int) -> None:
    whole = joint_state(1, ["left", "right"], [1.0, 2.0])
    reader = JointStateReader()
    reader.read(whole)
    for raw in (data, b"\0\1\0\0" + data, whole[:cut]):
        for read in (
            reader.read,
            JointStateReader().read,
            read_status,
            read_status_array,
            read_child_frames,
        ):
            try:
                read(raw)
            except MalformedMessage:
                continue


def test_big_endian_is_refused() -> None:
    with pytest.raises(MalformedMessage, match="little-endian"):
        CdrReader(b"\0\0\0\0\0\0\0\1")


def test_statuses_read_back(
    diagnostic_status: Callable[..., bytes], final_counts: Callable[..., bytes]
) -> None:
    status = read_status(diagnostic_status("/r/retargeting", "engaging", {"key": "wert ä", "b": ""}))
    assert (status.name, status.message, status.values) == (
        "/r/retargeting",
        "engaging",
        {"key": "wert ä", "b": ""},
    )
    (array,) = read_status_array(final_counts("/r/x", {"/t": "12 ab"}))
    assert (array.name, array.hardware_id, array.values) == ("/r/x: published", "final", {"/t": "12 ab"})


@settings(max_examples=40, deadline=None)
@given(
    names=st.lists(st.tuples(st.text(max_size=9), st.text(max_size=9)), max_size=6),
    # `builtin_interfaces/Time` has signed seconds.
    stamp_ns=st.integers(-(2**31) * 1_000_000_000, 2**31 * 1_000_000_000 - 1),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_template_decodes_to_what_went_in(
    channel: Channel, names: list[tuple[str, str]], stamp_ns: int, seed: int
) -> None:
    names = [(a.replace("\0", ""), b.replace("\0", "")) for a, b in names]
    poses = np.random.default_rng(seed).normal(size=(len(names), 7))
    message = _decode(channel, TF_TYPE, TransformTemplate(names).message(stamp_ns, poses))
    children = frozenset(child for _, child in names)
    assert read_child_frames(TransformTemplate(names).message(stamp_ns, poses)) == children
    assert [(t.header.frame_id, t.child_frame_id) for t in message.transforms] == names  # type: ignore[attr-defined]
    for t, pose in zip(message.transforms, poses, strict=True):  # type: ignore[attr-defined]
        assert t.header.stamp.sec * 1_000_000_000 + t.header.stamp.nanosec == stamp_ns
        v, r = t.transform.translation, t.transform.rotation
        assert [v.x, v.y, v.z, r.x, r.y, r.z, r.w] == pose.tolist()


def test_every_link_ends_up_where_the_robot_model_puts_it(channel: Channel, kestrel: RobotModel) -> None:
    stream = TfStream(kestrel)
    rng = np.random.default_rng(7)
    for _ in range(5):
        q = {name: float(rng.uniform(-0.5, 0.5)) for name in kestrel.movable_joint_names}
        sample = JointSample(10, tuple(q), np.array(list(q.values())))
        edges = _poses(_decode(channel, TF_TYPE, stream.message(sample)))
        edges |= _poses(_decode(channel, TF_TYPE, stream.static_message(9)))
        parent_of = {child: parent for parent, child in edges}
        for link, expected in kestrel.link_poses(q).items():
            frame = f"kestrel/{link}"
            pose = np.array([0.0, 0, 0, 0, 0, 0, 1])
            while frame != stream.root_frame:
                pose = pose_compose(edges[(parent_of[frame], frame)], pose)
                frame = parent_of[frame]
            np.testing.assert_allclose(pose[:3], expected[:3], atol=1e-12)
            np.testing.assert_allclose(
                rotation_matrix_from_quaternion(pose[3:]),
                rotation_matrix_from_quaternion(expected[3:]),
                atol=1e-12,
            )


def _edges(channel: Channel, stream: TfStream) -> list[tuple[str, str]]:
    """(parent, child) of everything a stream writes."""
    messages = (stream.message(JointSample(10, (), np.empty(0))), stream.static_message(9))
    return [edge for data in messages if data for edge in _poses(_decode(channel, TF_TYPE, data))]


def test_one_tree_holds_links_sensors_and_trainer(channel: Channel, kestrel: RobotModel) -> None:
    urdf, description = kestrel.urdf, kestrel.description
    stream = TfStream(kestrel)
    edges = _edges(channel, stream)
    children = [child for _, child in edges]
    assert len(children) == len(set(children)), "a frame has two parents"
    assert {parent for parent, _ in edges} - set(children) == {stream.root_frame}
    for name in description.cameras:
        assert f"kestrel/{name}_camera_optical" in children
    for name in description.tactile:
        assert f"kestrel/{name}_tactile" in children
    assert "trainer" in children
    assert {f"kestrel/{link}" for link in urdf.links} <= {*children, stream.root_frame}


def test_the_optical_frame_looks_forward_with_y_down(channel: Channel, kestrel: RobotModel) -> None:
    static = _poses(_decode(channel, TF_TYPE, TfStream(kestrel).static_message(0)))
    for name, camera in kestrel.description.cameras.items():
        optical = static[(f"kestrel/{camera.link}", f"kestrel/{name}_camera_optical")]
        rotation = rotation_matrix_from_quaternion(optical[3:])
        body = rotation_matrix_from_quaternion(camera.pose[3:])
        np.testing.assert_allclose(rotation[:, 2], body[:, 0], atol=1e-12)
        np.testing.assert_allclose(rotation[:, 1], -body[:, 2], atol=1e-12)


def test_the_trainer_is_joined_and_bad_words_change_nothing(channel: Channel, kestrel: RobotModel) -> None:
    stream = TfStream(kestrel)
    sample = JointSample(10, (), np.empty(0))
    edge = (stream.root_frame, "trainer")
    assert _poses(_decode(channel, TF_TYPE, stream.message(sample)))[edge].tolist() == [0, 0, 0, 0, 0, 0, 1]
    stream.set_trainer_transform("1 2 3 0 0 0 2")
    for text in ("", "1 2 3", "1 2 3 0 0 0 x", "1 2 3 0 0 0 0", "nan 0 0 0 0 0 1"):
        with pytest.raises(CaptureError, match="transform_trainer_to_base"):
            stream.set_trainer_transform(text)
    assert _poses(_decode(channel, TF_TYPE, stream.message(sample)))[edge].tolist() == [1, 2, 3, 0, 0, 0, 1]


def test_a_joint_without_a_value_stays(channel: Channel, kestrel: RobotModel) -> None:
    stream = TfStream(kestrel)
    name = kestrel.movable_joint_names[0]
    first = stream.message(JointSample(10, (name, "unknown_joint"), np.array([0.2, 1.0])))
    again = stream.message(JointSample(10, ("unknown_joint", name), np.array([1.0, np.nan])))
    assert first == again


def test_frames_that_others_publish_are_left_out(channel: Channel, kestrel: RobotModel) -> None:
    stream = TfStream(kestrel)
    edges = _edges(channel, stream)
    stream.leave_out(["trainer/head", "kestrel/nothing_of_ours"])
    assert _edges(channel, stream) == edges
    camera = f"kestrel/{next(iter(kestrel.description.cameras))}_camera_optical"
    moving = next(child for _, child in edges if child.startswith("kestrel/"))
    stream.leave_out([moving])
    stream.leave_out([camera])
    assert _edges(channel, stream) == [edge for edge in edges if edge[1] not in (moving, camera)]
    stream.leave_out([child for _, child in edges])
    assert stream.message(JointSample(10, (), np.empty(0))) == stream.static_message(9) == b""
