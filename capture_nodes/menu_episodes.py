"""The menu sign of a live trainer starts and ends episodes; what came of it is shown and felt.

Where a session runs, it starts and ends them by the headset's state, and here is told what it makes of the
sign. Else the recorder is called from here.
"""

from __future__ import annotations

import itertools
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from std_srvs.srv import Trigger

from capture_nodes import topics
from capture_nodes.node_runtime import CaptureNode
from capture_nodes.sources.source import LiveSource, TrainerDisplay
from capture_nodes.sources.station_view import menu_view, notice_view, session_answer
from retargeting.body_points import SIDES

# Felt: yes is one short rumble, no a long one.
_YES_S, _NO_S = 0.12, 0.5
_INTENSITY = 0.6
_ANSWER_TIMEOUT_S = 10.0


class MenuEpisodes:
    """`press` from any thread; everything else happens on the node's executor."""

    def __init__(
        self,
        node: CaptureNode,
        robot: str,
        source: LiveSource,
        display: TrainerDisplay | None,
        *,
        session: bool,
    ) -> None:
        self._node, self._source, self._display, self._session = node, source, display, session
        self._numbers = itertools.count(1)
        self._episode = self._retargeting = self._phase = self._reason = ""
        # Until when a start that was asked for may still be answered.
        self._starting_until_s = -math.inf

        def listen(topic: str, take: Callable[[DiagnosticStatus], None]) -> None:
            node.create_subscription(DiagnosticStatus, f"/{robot}/{topic}", take, topics.latched_qos())

        listen("recorder/episode", self._on_episode)
        listen(topics.RETARGETING_STATE, self._on_retargeting)
        if session:
            listen("session/state", self._on_session)
        self._start = node.create_client(Trigger, f"/{robot}/recorder/start")
        self._stop = node.create_client(Trigger, f"/{robot}/recorder/stop")
        self._quiet = node.create_timer(_YES_S, self._still)
        self._quiet.cancel()
        self._pressed = node.create_guard_condition(self._on_press)

    def press(self) -> None:
        """The trainer gave the menu sign."""
        self._pressed.trigger()

    # ---- executor thread

    def _on_episode(self, message: DiagnosticStatus) -> None:
        self._episode = message.message
        self._show(menu_view(self._episode, self._phase if self._session else None))

    def _on_retargeting(self, message: DiagnosticStatus) -> None:
        self._retargeting = message.message

    def _on_session(self, message: DiagnosticStatus) -> None:
        values = {item.key: item.value for item in message.values}
        phase, reason = values.get("phase", ""), values.get("reason", "")
        if reason and reason != self._reason:
            self._tell(False, f"Not started: {reason}")
        elif phase == "recording" and self._phase != phase:
            self._tell(True, f"Recording {values.get('episode', '')} of {values.get('episodes', '')}")
        self._phase, self._reason = phase, reason
        self._show(menu_view(self._episode, phase))

    def _on_press(self) -> None:
        if self._session:
            self._tell(*session_answer(self._phase))
        elif self._episode == "recording":
            self._ask(self._stop, "Episode ended", "Not ended")
        elif time.monotonic() < self._starting_until_s:
            self._tell(False, "Not now: it is being started")
        elif self._retargeting == "emergency_stop":
            self._tell(False, "Not started: the emergency stop is pressed")
        else:
            self._ask(self._start, "Recording", "Not started")

    def _ask(self, client: Any, done: str, refused: str) -> None:
        """Call the recorder; what it answers is shown."""
        if not client.service_is_ready():
            self._tell(False, f"{refused}: no recorder runs here")
            return
        starts = client is self._start
        if starts:
            self._starting_until_s = time.monotonic() + _ANSWER_TIMEOUT_S
        else:
            # Its answer comes when the file is complete.
            self._tell(True, done)

        def answered(call: Any) -> None:
            self._starting_until_s = -math.inf
            answer = call.result()
            if answer is None or not answer.success:
                self._tell(False, f"{refused}: {_reason(answer)}")
            elif starts:
                self._tell(True, done)

        client.call_async(Trigger.Request()).add_done_callback(answered)

    def _tell(self, good: bool, text: str) -> None:
        self._node.get_logger().info(f"menu: {text}")
        self._show(notice_view(next(self._numbers), good, text))
        self._rumble(_INTENSITY)
        self._quiet.timer_period_ns = round(1e9 * (_YES_S if good else _NO_S))
        self._quiet.reset()

    def _still(self) -> None:
        self._quiet.cancel()
        self._rumble(0.0)

    def _rumble(self, intensity: float) -> None:
        for side in SIDES:
            self._source.rumble(side, intensity)

    def _show(self, view: Mapping[str, object]) -> None:
        if self._display is not None:
            self._display.show(view)


def _reason(answer: Any) -> str:
    """Why the recorder refuses, short enough for who wears a headset."""
    if answer is None:
        return "the recorder did not answer"
    if answer.message.startswith("still joining"):
        return "the recorder is still connecting, try again in a moment"
    return str(answer.message)
