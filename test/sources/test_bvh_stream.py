"""A BVH stream taken apart: however it is cut, whatever stands before a frame, whoever sends it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from capture_nodes.sources import bvh_stream
from capture_nodes.sources.bvh_file import MOST_JOINTS, read_bvh
from capture_nodes.sources.bvh_stream import BvhStream, StreamFrame, StreamHeader

HEADER = """HIERARCHY
ROOT Hips
{
OFFSET 0 0 0
CHANNELS 6 Xposition Yposition Zposition Yrotation Xrotation Zrotation
JOINT Spine
{
OFFSET 0 10.5 0
CHANNELS 3 Yrotation Xrotation Zrotation
End Site
{
OFFSET 0 5 0
}
}
}
MOTION
"""
TIMES = "Frames: 3\nFrame Time: 0.008333\n"
ROWS = [[0.5 * k + 0.125 * c for c in range(9)] for k in range(3)]


def row(values: list[float]) -> str:
    return " ".join(repr(value) for value in values)


def all_of(
    stream: BvhStream, data: bytes, sizes: list[int] | None = None
) -> list[StreamHeader | StreamFrame]:
    found = []
    sizes = sizes or [len(data)]
    k = 0
    while data:
        piece, data = data[: sizes[k % len(sizes)]], data[sizes[k % len(sizes)] :]
        found.extend(stream.feed(piece))
        k += 1
    return found


def frames(found: list[StreamHeader | StreamFrame]) -> list[StreamFrame]:
    return [one for one in found if isinstance(one, StreamFrame)]


@seed(4)
@settings(max_examples=60, derandomize=True)
@given(
    sizes=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    end=st.sampled_from(["\n", "\r\n", "||", "||\n", "\r"]),
)
def test_however_it_is_cut_the_frames_are_those_of_the_file(tmp_path_factory, sizes, end) -> None:
    text = HEADER + TIMES + "\n".join(map(row, ROWS)) + "\n"
    file = tmp_path_factory.mktemp("bvh") / "one.bvh"
    file.write_text(text)
    whole = read_bvh(file)
    stream = BvhStream("suit")
    data = (HEADER + TIMES).encode().replace(b"\n", b"\r\n" if end == "\r\n" else b"\n")
    found = all_of(stream, data + "".join(row(r) + end for r in ROWS).encode() + b"\n", sizes)
    headers = [one for one in found if isinstance(one, StreamHeader)]
    assert [(h.joints, h.frame_time_s) for h in headers] == [(whole.joints, 0.008333)]
    np.testing.assert_array_equal([frame.values for frame in frames(found)], whole.values)
    assert stream.counts.refused_lines == 0 and stream.counts.frames == 3


@pytest.mark.parametrize("reference", [False, True])
@pytest.mark.parametrize("displacement", [False, True])
@pytest.mark.parametrize("prefix", ["", "{k} ", "0 Anna "])
def test_forms_of_a_frame(prefix: str, displacement: bool, reference: bool) -> None:
    stream = BvhStream("suit")
    list(stream.feed((HEADER + TIMES).encode()))
    for k, values in enumerate(ROWS):
        sent = list(values)
        if displacement:
            # Six for each joint; that of the second one has no channels of position.
            sent = [*values[:6], 0.0, 10.5, 0.0, *values[6:]]
        if reference:
            sent = [9.0] * 6 + sent
        got = frames(list(stream.feed((prefix.format(k=k + 7) + row(sent) + "||").encode())))
        assert len(got) == 1
        np.testing.assert_array_equal(got[0].values, values)
        assert got[0].number == (k + 7 if prefix == "{k} " else None)


def test_one_actor_is_read() -> None:
    def spoken(actor: str) -> list[float]:
        stream = BvhStream("suit", actor=actor)
        list(stream.feed((HEADER + TIMES).encode()))
        lines = "".join(f"{n} {name} {row([float(n)] * 9)}||" for n, name in ((1, "Anna"), (2, "Bea")) * 2)
        found = frames(list(stream.feed(lines.encode())))
        assert stream.counts.other_actors == 4 - len(found)
        return [frame.values[0] for frame in found]

    assert spoken("") == [1.0, 1.0]
    assert spoken("2") == [2.0, 2.0]
    assert spoken("Bea") == [2.0, 2.0]
    assert spoken("Cora") == []


def test_a_sender_without_a_header_needs_one_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "one.bvh"
    file.write_text(HEADER + TIMES + "\n".join(map(row, ROWS)))
    stream = BvhStream("suit")
    assert list(stream.feed((row(ROWS[0]) + "||").encode())) == []
    assert "line 1: a frame before any HIERARCHY" in stream.counts.problem
    joints = read_bvh(file).joints
    stream = BvhStream("suit", joints)
    found = list(stream.feed((row(ROWS[0]) + "||" + row(ROWS[1]) + "||").encode()))
    assert found[0] == StreamHeader(joints, None) and len(frames(found)) == 2


def test_another_header_begins_anew_and_a_restart_drops_half_a_line() -> None:
    stream = BvhStream("suit")
    list(stream.feed((HEADER + TIMES + row(ROWS[0]) + "\n" + row(ROWS[1])[:20]).encode()))
    stream.restart()
    found = list(stream.feed((row(ROWS[2]) + "\n").encode()))
    np.testing.assert_array_equal(frames(found)[0].values, ROWS[2])
    other = HEADER.replace("CHANNELS 3 Yrotation Xrotation Zrotation", "CHANNELS 1 Yrotation")
    found = list(stream.feed((other + "Frame Time: 0.02\n" + row(ROWS[0][:7]) + "\n").encode()))
    assert isinstance(found[0], StreamHeader) and found[0].frame_time_s == 0.02
    assert len(found[0].joints[1].channels) == 1 and stream.counts.headers == 2
    assert stream.counts.refused_lines == 0


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("1 2 3", "3 words in a frame; 9 values are expected"),
        (row([*ROWS[0][:8], float("nan")]), "value 9 is 'nan', not finite"),
        (row(ROWS[0][:8]) + " 1,5", "'1,5' is not a number (a decimal comma?)"),
        ("x " + row(ROWS[0]), "the frame's number is 'x': a whole number is expected"),
        ("9" * 30 + " " + row(ROWS[0]), "a whole number is expected"),
        ("Frame Time: -1", "above 0 and at most 10 s is expected"),
        ("\x00\xff garbage", "2 words in a frame"),
    ],
)
def test_a_broken_line_is_told_and_the_next_one_is_read(line: str, reason: str) -> None:
    stream = BvhStream("suit")
    list(stream.feed((HEADER + TIMES).encode()))
    data = (line + "\n" + row(ROWS[1]) + "\n").encode("utf-8", "surrogateescape")
    found = frames(list(stream.feed(data)))
    assert len(found) == 1 and stream.counts.refused_lines == 1
    assert stream.counts.problem.startswith("suit, line 19: ") and reason in stream.counts.problem
    assert found[0].line == 20


def test_a_broken_header_is_told_by_its_line() -> None:
    stream = BvhStream("suit")
    list(stream.feed(HEADER.replace("OFFSET 0 10.5 0", "OFFSET 0 ten 0").encode()))
    assert "suit, line 8: Spine: OFFSET y: 'ten' is not a number" in stream.counts.problem
    list(stream.feed((HEADER + row(ROWS[0]) + "\n").encode()))
    assert stream.counts.frames == 1


def test_what_is_too_large_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bvh_stream, "LONGEST_LINE_BYTES", 1000)
    monkeypatch.setattr(bvh_stream, "MOST_HEADER_LINES", 50)
    stream = BvhStream("suit")
    list(stream.feed((HEADER + TIMES).encode()))
    for _ in range(5):
        list(stream.feed(b"1.0 " * 300))
    assert len(stream._rest) <= 2200
    assert "is longer than 1000 bytes" in stream.counts.problem
    found = frames(list(stream.feed(("\n" + row(ROWS[0]) + "\n").encode())))
    assert len(found) == 1
    list(stream.feed(b"HIERARCHY\n" + b"ROOT a\n" * 60))
    assert "the hierarchy does not end" in stream.counts.problem
    monkeypatch.undo()
    deep = "HIERARCHY\nROOT a\n{\nOFFSET 0 0 0\nCHANNELS 0\n" + (
        "JOINT b\n{\nOFFSET 0 1 0\nCHANNELS 0\n" * (MOST_JOINTS + 1)
    )
    list(stream.feed((deep + "}\n" * (MOST_JOINTS + 2) + "MOTION\n").encode()))
    assert f"more than {MOST_JOINTS} joints" in stream.counts.problem


@seed(5)
@settings(max_examples=150, derandomize=True)
@given(data=st.data())
def test_nothing_that_comes_in_ever_raises(data) -> None:
    text = bytearray(
        (HEADER + TIMES + "\n".join(f"{k} {row(r)}" for k, r in enumerate(ROWS)) + "\n").encode()
    )
    for _ in range(data.draw(st.integers(0, 12))):
        place = data.draw(st.integers(0, len(text) - 1))
        kind = data.draw(st.sampled_from(["flip", "cut", "insert"]))
        if kind == "flip":
            text[place] = data.draw(st.integers(0, 255))
        elif kind == "cut":
            del text[place : place + data.draw(st.integers(1, 30))]
        else:
            text[place:place] = data.draw(st.binary(max_size=30))
        if not text:
            break
    stream = BvhStream("suit")
    found = list(stream.feed(bytes(text)))
    for frame in frames(found):
        assert np.isfinite(frame.values).all()
    if stream.counts.refused_lines:
        assert ", line " in stream.counts.problem
    # And whatever it was, a whole stream after it is understood.
    again = list(stream.feed(b"\n||\n" + (HEADER + TIMES + row(ROWS[0]) + "\n").encode()))
    assert len(frames(again)) == 1
