"""Driving a live source: its frames are passed on as they come, and what became of them is told."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping
from enum import Enum

from capture_nodes.sources.source import LiveSource, SourceError
from retargeting.body_points import SIDES
from retargeting.motion_frame import Button, MotionFrame

# How long the frame thread waits before it looks whether it shall stop.
_WAIT_S = 0.05
# Without a frame for this long the trainer is lost; the retargeter holds by then.
LOST_S = 0.1


class LiveState(Enum):
    WAITING = "waiting"
    TRACKING = "tracking"
    LOST = "lost"


# A repetition that the trainer has ended, and one that they ask for.
FINISHED, ASKED = "finished", "asked"
_MENUS = (Button.LEFT_MENU, Button.RIGHT_MENU)


class LiveFrames:
    """`run` is the frame thread: it opens nothing, and ends after `stop`.

    Every frame goes to `publish`, every change of state to `tell`. A repetition lasts from `play` until the
    trainer presses a menu button: then `FINISHED` is told, until the next `play` or `halt`. With `repeats`
    (somebody calls `play`) menu at another time asks for one: `ASKED` is told likewise, until the trainer is
    lost. `on_menu` hears of every press, in the frame thread.
    """

    def __init__(
        self,
        source: LiveSource,
        publish: Callable[[MotionFrame], None],
        tell: Callable[[str], None],
        now_s: Callable[[], float] = time.monotonic,
        *,
        repeats: bool = False,
        on_menu: Callable[[], None] = lambda: None,
    ) -> None:
        self._repeats, self._on_menu = repeats, on_menu
        self._source, self._publish, self._tell, self._now_s = source, publish, tell, now_s
        self._stopped = threading.Event()
        self._last_s, self._last_ns = -math.inf, -1
        self._told = ""
        self._menu = True
        self._playing = self._finished = self._asked = False
        self.state = LiveState.WAITING
        self.frames = 0
        self.losses = 0

    @property
    def word(self) -> str:
        if self._finished:
            return FINISHED
        return ASKED if self._asked else self.state.value

    def run(self) -> None:
        while not self._stopped.is_set():
            if self._told != self.word:
                self._told = self.word
                self._tell(self._told)
            frame = self._source.wait_frame(_WAIT_S)
            if frame is not None:
                self._publish(frame)
                self.frames += 1
                # The last one, given again with an open deadman, is no sign of anybody.
                if frame.stamp_ns != self._last_ns:
                    self._last_ns, self._last_s = frame.stamp_ns, self._now_s()
                    self.state = LiveState.TRACKING
                self._watch_menu(frame)
            elif self.state is LiveState.TRACKING and self._now_s() - self._last_s > LOST_S:
                self.losses += 1
                self.state = LiveState.LOST
                self._asked = False

    def _watch_menu(self, frame: MotionFrame) -> None:
        """What is pressed already when a repetition begins does not end it."""
        pressed = any(frame.controls.buttons[button] for button in _MENUS)
        if pressed and not self._menu:
            if self._playing:
                self._playing, self._finished = False, True
            elif self._repeats and not self._finished:
                self._asked = True
            self._on_menu()
        self._menu = pressed

    def play(self) -> str:
        """A repetition begins; says how long it takes. Raises `SourceError` while nobody is there."""
        if self.state is not LiveState.TRACKING:
            raise SourceError(f"the trainer is not there: {self.state.value}")
        self._finished, self._asked, self._playing = False, False, True
        return "until the trainer presses menu"

    def halt(self) -> None:
        """There is no repetition any more. Nobody live can be halted: the arms stop with the deadman."""
        self._playing = self._finished = self._asked = False

    def rumble(self, hand: int, intensity: float) -> None:
        """Feedback of `hand` 0 (left) or 1 (right); any thread. What no device could do is left out."""
        if 0 <= hand < len(SIDES) and math.isfinite(intensity):
            self._source.rumble(SIDES[hand], min(1.0, max(0.0, intensity)))

    def diagnostics(self) -> Mapping[str, object]:
        return {
            "state": self.word,
            "frames": self.frames,
            "losses": self.losses,
            **self._source.diagnostics(),
        }

    def stop(self) -> None:
        self._stopped.set()
