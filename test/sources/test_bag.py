"""A recorded trainer as a source: what is played, when, and stamped how."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from capture_nodes.sources.bag import BagParameters, BagSource
from capture_nodes.sources.playback import PlaybackState
from capture_nodes.sources.replay import Replay
from capture_nodes.sources.source import SourceError
from retargeting.motion_frame import Axis, Controls, MotionFrame

START_NS = 1_790_000_000_000_000_011
PERIOD_S = 1.0 / 90.0


def recorded(intervals_ns: list[int]) -> list[MotionFrame]:
    stamps = START_NS + np.concatenate([[0], np.cumsum(intervals_ns)]).astype(np.int64)
    frames = []
    for k, stamp_ns in enumerate(stamps.tolist()):
        axes = [0.0] * len(Axis)
        axes[Axis.LEFT_SQUEEZE] = float(k % 2)
        axes[Axis.RIGHT_TRIGGER] = k / 1024.0
        poses = {"head": np.array([0.001 * k, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0])}
        frames.append(MotionFrame(stamp_ns, poses, Controls(tuple(axes))))
    return frames


@pytest.fixture
def bag(record_trainer, tmp_path: Path):
    def make(intervals_ns: list[int], **options) -> BagSource:
        path = tmp_path / f"{len(list(tmp_path.iterdir()))}.mcap"
        return BagSource(BagParameters(record_trainer(path, recorded(intervals_ns)), **options))

    return make


def play_through(replay: Replay, begin_s: float, stamp_of) -> list[tuple[float, MotionFrame]]:
    """Due times and frames from the start on, until the end is held."""
    given_frames = []
    due_s = begin_s
    while replay.state is PlaybackState.PLAYING:
        given_frames.append((due_s, replay.take(due_s, stamp_of)))
        due_s = replay.next_due(due_s)
    return given_frames


@seed(2)
@settings(max_examples=30, derandomize=True)
@given(
    intervals_ns=st.lists(st.integers(1, 700_000_000), min_size=1, max_size=40),
    begin_s=st.floats(0.0, 1e6),
)
def test_relative_timing_is_kept_to_the_nanosecond(
    record_trainer, tmp_path_factory, intervals_ns, begin_s
) -> None:
    frames = recorded(intervals_ns)
    path = record_trainer(tmp_path_factory.mktemp("bag") / "one.mcap", frames)
    source = BagSource(BagParameters(path))
    replay = Replay(source, PERIOD_S)
    replay.play()
    found = play_through(replay, begin_s, lambda due_s: 5_000_000_000 + round(due_s * 1e9))
    offsets = [frame.stamp_ns - START_NS for frame in frames]
    assert [frame.stamp_ns - found[0][1].stamp_ns for _, frame in found] == offsets
    np.testing.assert_allclose([due_s - begin_s for due_s, _ in found], np.array(offsets) * 1e-9, atol=1e-9)
    for (_, played), original in zip(found, frames, strict=True):
        assert played.controls == original.controls
        np.testing.assert_array_equal(played.poses["head"], original.poses["head"])
    # Held afterwards, with stamps that go on.
    held = replay.take(found[-1][0] + PERIOD_S, lambda due_s: 0)
    assert held.stamp_ns > found[-1][1].stamp_ns
    np.testing.assert_array_equal(held.poses["head"], frames[-1].poses["head"])


@pytest.mark.parametrize(("speed", "factor"), [(2.0, 0.5), (0.1, 10.0), (20.0, 0.05)])
def test_faster_and_slower(bag, speed: float, factor: float) -> None:
    intervals = [11_111_111, 11_111_112, 500_000_001, 3_000_000]
    source = bag(intervals, speed=speed)
    exact = np.concatenate([[0], np.cumsum(intervals)]) * factor
    assert np.abs(source.offsets_ns - exact).max() <= 0.5
    assert source.duration_s == pytest.approx(exact[-1] * 1e-9)
    assert source.rate_hz == pytest.approx(4 / source.duration_s)
    assert f"{speed:g} times as fast" in source.report["motion"]


def test_step_by_step_holds_every_frame_until_the_next_step(bag) -> None:
    source = bag([10_000_000] * 3, speed=0.0)
    replay = Replay(source, PERIOD_S)
    clock = iter(range(1_000, 10**9, 1_000))

    def x() -> float:
        frame = replay.take(0.0, lambda due_s: next(clock))
        return round(float(frame.poses["head"][0]) * 1000)

    assert [x(), x()] == [0, 0] and replay.by_steps
    assert replay.step() == "frame 2 of 4, 0.010 s"
    assert [x(), x()] == [1, 1] and replay.state is PlaybackState.PLAYING
    assert replay.next_due(7.0) == pytest.approx(7.0 + PERIOD_S)
    replay.step()
    assert replay.step() == "frame 4 of 4, 0.030 s"
    with pytest.raises(SourceError, match="frame 4 is the last"):
        replay.step()
    assert replay.state is PlaybackState.FINISHED and x() == 3
    replay.play()
    assert x() == 0 and replay.state is PlaybackState.PLAYING
    with pytest.raises(SourceError, match="plays by itself"):
        Replay(bag([1, 1]), PERIOD_S).step()


def test_play_halt_and_loop(bag) -> None:
    replay = Replay(bag([10_000_000, 20_000_000], loop=True), PERIOD_S)
    stamps = []
    due_s = 3.0
    replay.play()
    with pytest.raises(SourceError, match="looped"):
        replay.play()
    for _ in range(7):
        stamps.append(replay.take(due_s, lambda due: round(due * 1e9)).stamp_ns)
        due_s = replay.next_due(due_s)
    assert np.diff(stamps).tolist()[:2] == [10_000_000, 20_000_000]
    assert np.diff(stamps).tolist()[3:5] == [10_000_000, 20_000_000]
    assert min(np.diff(stamps)) > 0
    replay.halt()
    assert replay.state is PlaybackState.READY
    assert replay.take(due_s, lambda due: round(due * 1e9)).poses["head"][0] == 0.0
    once = Replay(bag([10_000_000]), PERIOD_S)
    once.play()
    with pytest.raises(SourceError, match="already playing; frame 1 of 2"):
        once.play()


def test_as_a_plain_source_it_gives_the_newest_frame(bag) -> None:
    source = bag([10_000_000, 500_000_000])
    assert [float(source.frame_at(t, 7).poses["head"][0]) for t in (-1.0, 0.0, 0.0099, 0.01, 0.5, 9.0)] == [
        0.0, 0.0, 0.0, 0.001, 0.001, 0.002,
    ]  # fmt: skip
    assert source.frame_at(0.0, 7).stamp_ns == 7 and source.duration_s == pytest.approx(0.51)


def test_bad_parameters_are_told_together(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        BagParameters(Path(""), speed=100.0)
    assert caught.value.problems == (
        "source:=bag needs file:=<an episode, ….mcap>",
        "speed:=100: 0.05..20 times as fast, or 0 (step by step), is expected",
    )
    with pytest.raises(SourceError, match="loop:=true with speed:=0"):
        BagParameters(tmp_path / "a.mcap", speed=0.0, loop=True)
    with pytest.raises(SourceError, match="no such file"):
        BagSource(BagParameters(tmp_path / "a.mcap"))
