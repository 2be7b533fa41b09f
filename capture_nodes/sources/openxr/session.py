"""A headless session: its states, its events, and what is tracked in it at a moment."""

from __future__ import annotations

import ctypes
import time
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

from capture_nodes.sources.openxr.bare_hands import BareHand
from capture_nodes.sources.openxr.base_space import BaseSpace
from capture_nodes.sources.openxr.bodies import BdBody, Body, FbBody
from capture_nodes.sources.openxr.controllers import Controllers, Reading
from capture_nodes.sources.openxr.device_time import DeviceTime
from capture_nodes.sources.openxr.driver import EVENT_UNAVAILABLE, TIME_INVALID, RuntimeFailed, failure
from capture_nodes.sources.openxr.hands import Hands
from capture_nodes.sources.openxr.instance import OpenInstance
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.points import (
    CONTROLLER_ROWS,
    HEAD_ROW,
    ORIENTATION_TRACKED,
    TRACKED,
    VALID,
    TrackedPoints,
)
from retargeting.body_points import SIDES
from retargeting.frames import ROTATION_OPENXR_TO_TRAINER, Array, pose_to_trainer
from retargeting.motion_frame import Axis, Button, Controls

_MOST_EVENTS = 64
_EVENT_INSTANCE_LOSS, _EVENT_STATE, _EVENT_SPACE_CHANGE, _EVENT_PROFILE = 17, 18, 40, 52
_PRIMARY_STEREO = 2
_STATES_WITHIN_S = 2.0


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
    """What is tracked at `steady_ns` of the steady clock; recentred: poses do not continue those before."""

    steady_ns: int
    poses: dict[str, Array]
    controls: Controls
    recentred: bool


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
        self.points = TrackedPoints()
        self.base = BaseSpace(self._runtime, self._handle, parameters.stature_m)
        self.controllers = Controllers(self._runtime, self._handle, system.extensions, system.minor_version)
        self._hands = Hands(self._runtime, self._handle) if system.hands else None
        self.body: Body | None = None
        if system.bd_body:
            self.body = BdBody(self._runtime, self._handle, self.points)
        elif system.fb_body:
            self.body = FbBody(self._runtime, self._handle, self.points)
        self._bare_hands = {side: BareHand(side, parameters) for side in SIDES}
        self.state = State.UNKNOWN
        self._running = self._recentred = self._focused = False
        self._begun_s = 0.0
        # A headset that never tracks where it is (three degrees of freedom) may infer it from a neck; of one
        # that did, an inferred place is a lost one.
        self._head_needs = VALID | ORIENTATION_TRACKED
        function, session = self._runtime.function, xr.Session
        self._locate = function(
            "xrLocateSpace", xr.Space, xr.Space, ctypes.c_int64, ctypes.POINTER(xr.SpaceLocation)
        )
        self._location = xr.SpaceLocation()
        self._poll = function("xrPollEvent", xr.Instance, ctypes.POINTER(xr.EventDataBuffer))
        self._event = xr.EventDataBuffer()
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
            self._event.type = self._xr.StructureType.EVENT_DATA_BUFFER
            self._event.next = None
            code = self._poll(self._runtime.instance, ctypes.byref(self._event))
            if self._runtime.check(code, "xrPollEvent") == EVENT_UNAVAILABLE:
                return
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
        return Sample(steady_ns, poses, controls, recentred)

    def _lose(self) -> None:
        for hand in self._bare_hands.values():
            hand.let_go()

    def _track(self, xr_time: int, readings: dict[str, Reading]) -> dict[str, Array]:
        points, base = self.points, self.base.handle
        points.clear()
        if self._locate_space(self.base.view, xr_time, HEAD_ROW, self._head_needs) & TRACKED == TRACKED:
            self._head_needs = TRACKED
        for name, space in self.controllers.spaces.items():
            # What hangs on a bare hand is no controller: its joints and gestures say more.
            if readings[name.partition("_")[0]].holds:
                self._locate_space(space, xr_time, CONTROLLER_ROWS[name], TRACKED)
        if self._hands is not None:
            self._hands.locate(base, xr_time, points)
        if self.body is not None:
            self.body.locate(base, xr_time, points)
        if self.base.is_trainer:
            return points.in_trainer()
        to_trainer = self.base.to_trainer(self._head())
        return {} if to_trainer is None else points.in_trainer(to_trainer)

    def _locate_space(self, space: Any, xr_time: int, row: int, needs: int) -> int:
        """Take a space over as a point where it has the flags it needs; its flags."""
        location = self._location
        code = self._locate(space, self.base.handle, xr_time, ctypes.byref(location))
        if code == TIME_INVALID:
            return 0
        self._runtime.check(code, "xrLocateSpace")
        flags = int(location._location_flags)
        if flags & needs == needs:
            pose = location.pose
            p, q = pose.position, pose.orientation
            self.points.poses[row] = (p.x, p.y, p.z, q.x, q.y, q.z, q.w)
            self.points.tracked[row] = True
        return flags

    def _head(self) -> Array | None:
        if not self.points.tracked[HEAD_ROW]:
            return None
        return pose_to_trainer(self.points.poses[HEAD_ROW], ROTATION_OPENXR_TO_TRAINER)

    def _controls(self, readings: dict[str, Reading], poses: dict[str, Array]) -> Controls:
        axes, buttons = [0.0] * len(Axis), [0] * len(Button)
        for side, reading in readings.items():
            inputs, word = reading.inputs, side.upper()
            squeeze, trigger = inputs.get("squeeze", 0.0), inputs.get("trigger", 0.0)
            if not reading.holds:
                squeeze, trigger = self._bare_hands[side].observe(poses, inputs)
            axes[Axis[f"{word}_TRIGGER"]], axes[Axis[f"{word}_SQUEEZE"]] = trigger, squeeze
            for direction in "xy":
                axes[Axis[f"{word}_STICK_{direction.upper()}"]] = inputs.get(f"stick_{direction}", 0.0)
            for button in ("primary", "secondary", "stick", "menu"):
                buttons[Button[f"{word}_{button.upper()}"]] = int(inputs.get(button, 0.0) > 0.5)
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
