"""When what is played, and which sources there are."""

from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.sources.person import Person
from capture_nodes.sources.playback import Playback, PlaybackState
from capture_nodes.sources.registry import SOURCES, SourceOptions, open_source
from capture_nodes.sources.script import ScriptSource, reach_and_circle, stand_ready
from capture_nodes.sources.source import SourceError


def wrist(frame):
    return frame.poses["right_wrist"]


@pytest.fixture(scope="module")
def source():
    return ScriptSource(reach_and_circle(Person()))


def test_it_holds_the_first_frame_plays_once_and_holds_the_last(source):
    playback = Playback(source)
    before = playback.frame(100.0, 1)
    assert playback.state is PlaybackState.READY
    np.testing.assert_array_equal(wrist(before), source.poses_at(0.0)[source.names.index("right_wrist")])
    playback.play(101.0)
    middle = playback.frame(103.0, 2)
    assert playback.state is PlaybackState.PLAYING and middle.stamp_ns == 2
    np.testing.assert_array_equal(wrist(middle), source.poses_at(2.0)[source.names.index("right_wrist")])
    after = playback.frame(101.0 + source.duration_s + 5.0, 3)
    assert playback.state is PlaybackState.FINISHED
    end = source.poses_at(source.duration_s)[source.names.index("right_wrist")]
    np.testing.assert_array_equal(wrist(after), end)
    playback.play(200.0)
    assert playback.frame(200.0, 4) is not None and playback.state is PlaybackState.PLAYING


def test_play_is_refused_while_playing(source):
    playback = Playback(source)
    playback.play(0.0)
    with pytest.raises(SourceError, match=r"already playing; 10\.2 s are left"):
        playback.play(2.0)
    playback.play(2.0 + source.duration_s)  # the end is noticed without a frame in between


def test_halt_goes_back_to_the_beginning(source):
    playback = Playback(source)
    playback.play(0.0)
    playback.frame(2.0, 1)
    playback.halt()
    assert playback.state is PlaybackState.READY
    np.testing.assert_array_equal(
        wrist(playback.frame(3.0, 2)), source.poses_at(0.0)[source.names.index("right_wrist")]
    )
    playback.play(4.0)
    assert playback.state is PlaybackState.PLAYING


def test_another_source_can_be_put_in(source):
    playback = Playback(ScriptSource(stand_ready(Person())))
    playback.play(0.0, source)
    assert playback.source is source
    playback.frame(5.0, 1)
    assert playback.state is PlaybackState.PLAYING


def test_a_looped_motion_never_finishes():
    looped = ScriptSource(reach_and_circle(Person()), loop=True)
    playback = Playback(looped)
    playback.play(0.0)
    a = playback.frame(3.0, 1)
    b = playback.frame(3.0 + 5 * looped.duration_s, 2)
    np.testing.assert_allclose(wrist(a), wrist(b), atol=1e-9)
    with pytest.raises(SourceError, match="it is looped"):
        playback.play(1000.0)


def test_every_source_is_a_context_manager_with_a_report():
    with open_source("script", SourceOptions(stature_m=1.6)) as opened:
        assert opened.duration_s > 5.0 and not opened.loop
        assert "arms of 0.53 m" in opened.report["person"]
        frame = opened.frame_at(1.0, 7)
        assert frame is not None and frame.stamp_ns == 7


def test_wrong_choices_name_the_right_ones(tmp_path):
    with pytest.raises(
        SourceError, match=r"unknown source 'bhv'\. Did you mean 'bvh'\? Known sources: bvh, script"
    ):
        open_source("bhv", SourceOptions())
    with pytest.raises(SourceError, match="needs motion:="):
        open_source("bvh", SourceOptions())
    with pytest.raises(SourceError, match="there is no such file"):
        open_source("bvh", SourceOptions(motion=str(tmp_path / "x.bvh")))
    with pytest.raises(SourceError, match="takes no file"):
        open_source("script", SourceOptions(motion="x.bvh"))
    assert set(SOURCES) == {"bvh", "script", "bag"}
