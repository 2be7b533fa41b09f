"""Driving a live source: every frame once, states, rumble, stop."""

from __future__ import annotations

import math
import threading
from collections import deque

import pytest

from capture_nodes.live_frames import LOST_S, LiveFrames
from capture_nodes.sources import registry
from capture_nodes.sources.registry import SourceOptions, check_source, live_source, open_source
from capture_nodes.sources.source import SourceError
from capture_nodes.stamp_clock import StampClock
from retargeting.frames import IDENTITY_POSE
from retargeting.motion_frame import Button, Controls, MotionFrame


class FakeDevice:
    """Gives what it was handed, one entry for each time it is waited for; then says that it is empty."""

    def __init__(self, entries=()):
        self.report = {"device": "made up"}
        self.entries = deque(entries)
        self.now_s = 0.0
        self.empty = lambda: None
        self.felt = []
        self.opened = 0

    def wait_frame(self, timeout_s):
        if not self.entries:
            self.empty()
            return None
        frame = self.entries.popleft()
        self.now_s += 0.011 if frame is not None else timeout_s
        return frame

    def rumble(self, side, intensity):
        self.felt.append((side, intensity))

    def diagnostics(self):
        return {"clock_offset_ms": "0.1"}

    def __enter__(self):
        self.opened += 1
        return self

    def __exit__(self, *_exception):
        self.opened -= 1


def frame(stamp_ns):
    return MotionFrame(stamp_ns, {"head": IDENTITY_POSE})


def driven(entries):
    device = FakeDevice(entries)
    published, told = [], []
    frames = LiveFrames(device, published.append, told.append, lambda: device.now_s)
    device.empty = frames.stop
    frames.run()
    return device, frames, published, told


def test_every_frame_is_passed_on_once_in_order():
    given = [frame(k) for k in range(1, 50)]
    _, frames, published, told = driven([None, *given[:20], None, *given[20:]])
    assert [f.stamp_ns for f in published] == [f.stamp_ns for f in given]
    # One wait in vain is shorter than what counts as lost.
    assert told == ["waiting", "tracking"]
    assert frames.diagnostics() == {
        "state": "tracking", "frames": 49, "losses": 0, "clock_offset_ms": "0.1",
    }  # fmt: skip


def test_a_trainer_who_goes_and_comes_back():
    nothing = [None] * (math.ceil(LOST_S / 0.05) + 1)
    _, frames, published, told = driven([*nothing, frame(1), *nothing, frame(2), *nothing])
    assert told == ["waiting", "tracking", "lost", "tracking", "lost"]
    assert (len(published), frames.losses) == (2, 2)


def test_the_last_frame_given_again_is_passed_on_and_is_nobody():
    nothing = [None] * (math.ceil(LOST_S / 0.05) + 1)
    _, frames, published, told = driven([frame(1), *nothing, frame(1), *nothing])
    assert told == ["waiting", "tracking", "lost"]
    assert (len(published), frames.losses) == (2, 1)


@pytest.mark.parametrize(
    ("hand", "intensity", "felt"),
    [
        (0, 0.5, [("left", 0.5)]),
        (1, 7.0, [("right", 1.0)]),
        (1, -1.0, [("right", 0.0)]),
        (2, 0.5, []),
        (-1, 0.5, []),
        (0, math.nan, []),
        (0, math.inf, []),
    ],
)
def test_rumble_reaches_the_hand_it_is_meant_for(hand, intensity, felt):
    device, frames, _, _ = driven([])
    frames.rumble(hand, intensity)
    assert device.felt == felt


def test_stop_ends_a_thread_that_gets_nothing():
    class Silent(FakeDevice):
        def wait_frame(self, timeout_s):
            waiting.set()
            return None

    waiting = threading.Event()
    frames = LiveFrames(Silent(), lambda _frame: None, lambda _word: None)
    thread = threading.Thread(target=frames.run, daemon=True)
    thread.start()
    assert waiting.wait(10.0)
    frames.stop()
    thread.join(10.0)
    assert not thread.is_alive()


def pressed(stamp_ns):
    buttons = [0] * len(Button)
    buttons[Button.LEFT_MENU] = 1
    return MotionFrame(stamp_ns, {"head": IDENTITY_POSE}, Controls(buttons=tuple(buttons)))


def test_a_repetition_lasts_until_menu_is_pressed():
    device = FakeDevice(
        [pressed(1), frame(2), pressed(3), pressed(4), pressed(5), frame(6), pressed(7), None]
    )
    told = []

    def publish(given):
        if given.stamp_ns == 4:
            assert frames.play() == "until the trainer presses menu"

    frames = LiveFrames(device, publish, told.append, lambda: device.now_s)
    with pytest.raises(SourceError, match="not there"):
        frames.play()
    device.empty = frames.stop
    frames.run()
    # Held through 5, let go at 6, pressed at 7; before `play` menu means nothing.
    assert told == ["waiting", "tracking", "finished"]
    frames.halt()
    assert frames.word == "tracking"


def test_menu_asks_for_a_repetition_where_somebody_plays_them():
    """Pressed once: asked until `play`; while one is played it ends it; a lost trainer asks for nothing."""
    nothing = [None] * (math.ceil(LOST_S / 0.05) + 1)
    # Held from the beginning, it is no sign.
    first = [pressed(1), frame(2), pressed(3), pressed(4), frame(5), frame(6)]
    ended = [pressed(7), frame(8), pressed(9), *nothing]
    device = FakeDevice([*first, *ended, frame(10), frame(11), pressed(12), *nothing])
    told, heard = [], []

    def publish(given):
        if given.stamp_ns == 5:
            assert frames.word == "asked"
            frames.play()
        if given.stamp_ns == 10:
            frames.halt()

    frames = LiveFrames(
        device, publish, told.append, lambda: device.now_s, repeats=True, on_menu=lambda: heard.append(1)
    )
    device.empty = frames.stop
    frames.run()
    # Between the end of one and what comes next nothing is asked for.
    assert told == ["waiting", "tracking", "asked", "tracking", "finished", "tracking", "asked", "lost"]
    assert len(heard) == 4


def test_menu_asks_for_nothing_where_nobody_plays():
    _, frames, _, told = driven([frame(1), frame(2), pressed(3), frame(4)])
    assert told == ["waiting", "tracking"] and frames.word == "tracking"


def test_a_live_source_is_checked_without_opening_it(monkeypatch):
    made = []

    def factory(options, stamps):
        if options.address == "nowhere":
            raise SourceError("address:=nowhere: host:port is expected")
        made.append(FakeDevice())
        return made[-1]

    monkeypatch.setattr(registry, "LIVE_SOURCES", {"suit": factory})
    check_source("suit", SourceOptions())
    assert made[-1].opened == 0
    with pytest.raises(SourceError, match="host:port"):
        check_source("suit", SourceOptions(address="nowhere"))
    with pytest.raises(SourceError, match="Did you mean 'suit'") as caught:
        live_source("suits", SourceOptions(), StampClock(lambda: 0))
    assert "bvh, script, bag, suit" in str(caught.value)
    with pytest.raises(SourceError, match="no line"):
        open_source("script", SourceOptions(address="127.0.0.1:1"))
