"""A headless session: its states, its events, and what is tracked in it at a moment."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from capture_nodes.sources.openxr.bare_hands import BareHand
from capture_nodes.sources.openxr.base_space import BaseSpace
from capture_nodes.sources.openxr.bodies import BD_BODY, FB_BODY, Body
from capture_nodes.sources.openxr.controllers import Controllers, Reading
from capture_nodes.sources.openxr.device_time import DeviceTime
from capture_nodes.sources.openxr.driver import EVENT_UNAVAILABLE, RuntimeFailed, failure
from capture_nodes.sources.openxr.hands import Hands
from capture_nodes.sources.openxr.instance import OpenInstance
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.points import TrackedPoints
from capture_nodes.sources.openxr.spaces import Spaces
from retargeting.body_points import SIDES
from retargeting.frames import Array
from retargeting.motion_frame import Axis, Button, Controls

_MOST_EVENTS = 64
_EVENT_INSTANCE_LOSS, _EVENT_STATE, _EVENT_SPACE_CHANGE, _EVENT_PROFILE = 17, 18, 40, 52
_PRIMARY_STEREO = 2
_STATES_WITHIN_S = 2.0
_BARE = "bare hand"
_AXES = {
    side: tuple(Axis[f"{side.upper()}_{name}"] for name in ("TRIGGER", "SQUEEZE", "STICK_X", "STICK_Y"))
    for side in SIDES
}
_BUTTONS = {
    side: [
        (Button[f"{side.upper()}_{action.upper()}"], action)
        for action in ("primary", "secondary", "stick", "menu")
    ]
    for side in SIDES
}


class State(IntEnum):
    """XrSessionState."""

    UNKNOWN = 0
    IDLE = 1
    READY = 2
    SYNCHRONIZED = 3
    VISIBLE = 4
    FOCUSED = 5
    STOPPING = 6
    LOSS_PENDING = 7
    EXITING = 8


class SessionOver(RuntimeFailed):
    """The runtime or the trainer has ended the session."""


@dataclass(frozen=True)
class Sample:
    """What is tracked at `steady_ns` of the steady clock; recentred: poses do not continue those before;
    taken_up: the sides whose controls come from a device that did not tell them in the sample before."""

    steady_ns: int
    poses: dict[str, Array]
    controls: Controls
    recentred: bool
    taken_up: frozenset[str]


class Session:
    """Raises `RuntimeFailed` wherever the runtime fails, `SessionOver` once it is at its end."""

    def __init__(self, instance: OpenInstance, parameters: OpenXrParameters) -> None:
        self._runtime = instance.runtime
        xr = self._xr = instance.runtime.xr
        system = instance.system
        self.time = DeviceTime(self._runtime)
        try:
            self._handle = xr.create_session(
                instance.handle, xr.SessionCreateInfo(system_id=instance.system_id)
            )
        except (xr.XrException, ValueError) as error:
            raise failure("xrCreateSession", error) from error
        kind = BD_BODY if system.bd_body else FB_BODY if system.fb_body else None
        self.points = TrackedPoints(kind.joints, kind.count) if kind is not None else TrackedPoints()
        self.base = BaseSpace(self._runtime, self._handle, parameters.stature_m)
        self.controllers = Controllers(self._runtime, self._handle, system.extensions, system.minor_version)
        self._spaces = Spaces(self._runtime, self._handle, system, self.base, self.controllers, self.points)
        self._hands = Hands(self._runtime, self._handle, self.points) if system.hands else None
        self._body = Body(self._runtime, self._handle, kind, self.points) if kind is not None else None
        self._bare_hands = {side: BareHand(side, parameters) for side in SIDES}
        self._telling = dict.fromkeys(SIDES, "")
        self.state = State.UNKNOWN
        self._running = self._recentred = self._focused = False
        self._begun_s = 0.0
        function, session = self._runtime.function, xr.Session
        self._poll = function("xrPollEvent", xr.Instance, ctypes.POINTER(xr.EventDataBuffer))
        self._event = xr.EventDataBuffer()
        self._told = ctypes.byref(self._event)
        self._buffer_type = int(self._event._type)
        self._begin = function("xrBeginSession", session, ctypes.POINTER(xr.SessionBeginInfo))
        self._end = function("xrEndSession", session)
        self._request_exit = function("xrRequestExitSession", session)

    @property
    def tracking(self) -> bool:
        """Whether the trainer is in it and nothing else has their attention."""
        return self._running and self._focused

    @property
    def untold(self) -> bool:
        """Whether the runtime tells no states of a headless session (Monado did not before 2024).

        It never leaves READY, and calls every input out of focus although it gives them all.
        """
        return (
            self._running
            and self.state is State.READY
            and time.monotonic() - self._begun_s > _STATES_WITHIN_S
        )

    # ---- events

    def poll(self) -> None:
        """Take all events in and do what they ask for."""
        for _ in range(_MOST_EVENTS):
            # The event before was written over these.
            self._event._type, self._event.next = self._buffer_type, None
            code = self._poll(self._runtime.instance, self._told)
            if code == EVENT_UNAVAILABLE:
                return
            self._runtime.check(code, "xrPollEvent")
            self._take(self._event)

    def _take(self, event: Any) -> None:
        xr = self._xr
        # Not `event.type`: an event of an extension that pyopenxr does not know is no error.
        kind = int(event._type)
        if kind == _EVENT_STATE:
            told = ctypes.cast(ctypes.byref(event), ctypes.POINTER(xr.EventDataSessionStateChanged))
            self._enter(int(told.contents._state))
        elif kind == _EVENT_INSTANCE_LOSS:
            raise SessionOver("event", "INSTANCE_LOSS_PENDING")
        elif kind == _EVENT_PROFILE:
            self.controllers.look_what_is_held()
        elif kind == _EVENT_SPACE_CHANGE:
            change = ctypes.cast(ctypes.byref(event), ctypes.POINTER(xr.EventDataReferenceSpaceChangePending))
            if int(change.contents._reference_space_type) == self.base.kind:
                self._recentred = True
                self.base.recentred()

    def _enter(self, state: int) -> None:
        self.state = State(state) if state in State._value2member_map_ else State.UNKNOWN
        if self.state is State.READY:
            info = self._xr.SessionBeginInfo(
                primary_view_configuration_type=self._xr.ViewConfigurationType(_PRIMARY_STEREO)
            )
            self._runtime.check(self._begin(self._handle, info), "xrBeginSession")
            self._running, self._begun_s = True, time.monotonic()
        elif self.state is State.STOPPING:
            self._running = False
            self._runtime.check(self._end(self._handle), "xrEndSession")
        elif self.state in (State.EXITING, State.LOSS_PENDING):
            self._running = False
            raise SessionOver("session", self.state.name)

    # ---- tracking

    def sample(self) -> Sample | None:
        """What is tracked now; None while nothing is to be followed."""
        if not self._running:
            return None
        self._focused = self.controllers.sync() or self.untold
        if not self._focused:
            self._lose()
            return None
        xr_time, steady_ns = self.time.now()
        readings = {side: self.controllers.read(side) for side in SIDES}
        poses = self._track(xr_time, readings)
        if not poses:
            self._lose()
            return None
        controls = self._controls(readings, poses)
        recentred, self._recentred = self._recentred, False
        return Sample(steady_ns, poses, controls, recentred, self._take_up(readings, poses))

    def _lose(self) -> None:
        for hand in self._bare_hands.values():
            hand.let_go()

    def _track(self, xr_time: int, readings: dict[str, Reading]) -> dict[str, Array]:
        points, base = self.points, self.base.handle
        points.clear()
        self._spaces.locate(xr_time, {side: reading.holds for side, reading in readings.items()})
        if self._hands is not None:
            self._hands.locate(base, xr_time)
        if self._body is not None:
            self._body.locate(base, xr_time)
        if self.base.is_trainer:
            return points.in_trainer()
        to_trainer = self.base.to_trainer(points.head())
        return {} if to_trainer is None else points.in_trainer(to_trainer)

    def _take_up(self, readings: dict[str, Reading], poses: dict[str, Array]) -> frozenset[str]:
        """Inputs that are not told read as let go, which says nothing of the hand: a runtime may know what
        is held only after its first sync, and a controller may drop out and come back."""
        before, self._telling = self._telling, {}
        for side, reading in readings.items():
            told = bool(reading.inputs)
            if not reading.holds:
                told = self._bare_hands[side].told(poses, reading.inputs)
            self._telling[side] = (reading.profile if reading.holds else _BARE) if told else ""
        return frozenset(side for side, device in self._telling.items() if device not in ("", before[side]))

    def _controls(self, readings: dict[str, Reading], poses: dict[str, Array]) -> Controls:
        axes, buttons = [0.0] * len(Axis), [0] * len(Button)
        for side, reading in readings.items():
            inputs = reading.inputs
            squeeze, trigger = inputs.get("squeeze", 0.0), inputs.get("trigger", 0.0)
            if not reading.holds:
                squeeze, trigger = self._bare_hands[side].observe(poses, inputs)
            trigger_axis, squeeze_axis, x_axis, y_axis = _AXES[side]
            axes[trigger_axis], axes[squeeze_axis] = trigger, squeeze
            axes[x_axis], axes[y_axis] = inputs.get("stick_x", 0.0), inputs.get("stick_y", 0.0)
            for button, action in _BUTTONS[side]:
                buttons[button] = int(inputs.get(action, 0.0) > 0.5)
        # A runtime's number that is none presses nothing.
        finite = [min(1.0, max(-1.0, value)) if abs(value) < 2.0 else 0.0 for value in axes]
        return Controls(tuple(finite), tuple(buttons))

    def rumble(self, side: str, intensity: float, duration_s: float) -> None:
        if self.tracking:
            self.controllers.rumble(side, intensity, duration_s)

    def leave(self) -> None:
        """Ask for the end, for the runtime's sake; the instance's end is the session's in any case."""
        if self._running:
            self._runtime.check(self._request_exit(self._handle), "xrRequestExitSession")
            try:
                self.poll()
            except SessionOver:
                return
