"""The live source `openxr`: frames at a rate of our own from a runtime that may come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TypeVar

from capture_nodes.sources.held_controls import HeldControls
from capture_nodes.sources.openxr.connection import Connection
from capture_nodes.sources.openxr.driver import RuntimeFailed
from capture_nodes.sources.openxr.menu_sign import MenuSign
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.session import Sample, Session, SessionOver
from capture_nodes.stamp_clock import StampClock
from retargeting.body_points import SIDES
from retargeting.motion_frame import Controls, MotionFrame

Self = TypeVar("Self", bound="OpenXrSource")

_RUMBLE_PULSE_S, _RUMBLE_REPEAT_S, _RUMBLE_FORGOTTEN_S = 0.3, 0.15, 1.0
_CLOCK_CHECK_S = 1.0
_RATE_WEIGHT = 0.05


class OpenXrSource:
    """Asked by a timer, because a headless frame loop is not paced alike by all runtimes.

    While the session has lost the trainer's attention, or nothing is tracked, there are no frames; what was
    pressed before counts afterwards only once it was let go.
    """

    def __init__(self, parameters: OpenXrParameters, stamps: StampClock) -> None:
        self._parameters, self._stamps = parameters, stamps
        self._period_s = 1.0 / parameters.rate_hz
        self._connection = Connection(parameters)
        self._held = HeldControls()
        self._menu = MenuSign()
        self._last: MotionFrame | None = None
        self._failed: RuntimeFailed | None = None
        self._next_s = 0.0
        self._clock_checked_s = 0.0
        self._lock = threading.Lock()
        self._wanted_rumble: dict[str, tuple[float, float]] = {}
        self._rumbling = dict.fromkeys(SIDES, (0.0, 0.0))
        self._frames = self._missed = self._losses = 0
        self._spacing_s, self._longest_gap_s, self._last_frame_s = 0.0, 0.0, 0.0
        self._lost_poses = 0

    def __enter__(self: Self) -> Self:
        self._connection.open_first(time.monotonic())
        self._held.interrupt()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._connection.session
        if session is not None:
            try:
                session.leave()
            except RuntimeFailed as failed:
                # It went before us.
                self._connection.trouble = str(failed)
        self._connection.close()

    @property
    def report(self) -> Mapping[str, str]:
        connection, instance = self._connection, self._connection.instance
        session = connection.session
        if instance is None or session is None:
            return {"headset": f"{connection.trouble}; it is tried again"}
        system = instance.system
        what = {"hands": system.hands, "body (BD)": system.bd_body, "body (FB)": system.fb_body}
        told = {
            "runtime": f"{system.runtime}, OpenXR 1.{system.minor_version}",
            "headset": system.name,
            "tracks": ", ".join(["head and controllers", *(name for name, there in what.items() if there)]),
            "space": session.base.note,
            "controllers": ", ".join(session.controllers.suggested) or "none that the runtime knows",
            "clock": f"XrTime is the steady clock {session.time.offset_ns:+d} ns, within "
            f"{session.time.uncertainty_ns} ns",
        }
        refused = session.controllers.refused
        if refused:
            told["refused"] = ", ".join(f"{name} ({reason})" for name, reason in refused.items())
        return told

    # ---- frames

    def wait_frame(self, timeout_s: float) -> MotionFrame | None:
        end_s = time.monotonic() + timeout_s
        while True:
            now_s = time.monotonic()
            due_s = self._due_s(now_s)
            if due_s > end_s:
                time.sleep(max(0.0, end_s - now_s))
                return None
            if due_s > now_s:
                time.sleep(due_s - now_s)
            frame = self._tick()
            if frame is not None:
                return frame

    def _due_s(self, now_s: float) -> float:
        """When the runtime is to be asked, at multiples of the period, or to be tried again."""
        if self._connection.session is None:
            self._next_s = 0.0
            return self._connection.retry_at_s
        if self._next_s == 0.0:
            self._next_s = now_s
        elif now_s - self._next_s > self._period_s:
            skipped = int((now_s - self._next_s) / self._period_s)
            self._missed += skipped
            self._next_s += skipped * self._period_s
        return self._next_s

    def _tick(self) -> MotionFrame | None:
        now_s = time.monotonic()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            willingly = isinstance(failed, SessionOver) and failed.reason == "EXITING"
            self._connection.drop(failed, now_s, willingly=willingly)
            return None
        session = self._connection.open_again(now_s)
        if session is None:
            return self._open_deadman()
        self._next_s += self._period_s if self._next_s else 0.0
        try:
            session.poll()
            sample = session.sample()
            self._feel(session, now_s)
            if now_s - self._clock_checked_s > _CLOCK_CHECK_S:
                self._clock_checked_s = now_s
                session.time.check()
        except RuntimeFailed as failed:
            self._losses += 1
            self._lost_poses += session.points.unusable
            # Letting go of a runtime takes its time: the deadman opens first.
            self._failed = failed
            return self._open_deadman()
        if sample is None:
            return self._open_deadman()
        self._connection.works()
        return self._frame(sample)

    def _open_deadman(self) -> MotionFrame | None:
        """Once after the trainer was lost: their last poses, stamped as they were, with nothing pressed."""
        last, self._last = self._last, None
        if last is None:
            return None
        self._held.interrupt()
        self._last_frame_s = 0.0
        return MotionFrame(last.stamp_ns, last.poses, Controls())

    def _frame(self, sample: Sample) -> MotionFrame:
        if sample.recentred:
            self._held.interrupt()
        moment_s = 1e-9 * sample.steady_ns
        stamp_ns = self._stamps.stamp(moment_s)
        controls = self._menu.observe(sample.controls, sample.poses, moment_s)
        frame = MotionFrame(stamp_ns, sample.poses, self._held.observe(controls))
        self._last = frame
        self._frames += 1
        if self._last_frame_s:
            gap_s = moment_s - self._last_frame_s
            self._longest_gap_s = max(self._longest_gap_s, gap_s)
            self._spacing_s += (gap_s - self._spacing_s) * (_RATE_WEIGHT if self._spacing_s else 1.0)
        self._last_frame_s = moment_s
        return frame

    # ---- haptics

    def rumble(self, side: str, intensity: float) -> None:
        with self._lock:
            self._wanted_rumble[side] = (min(1.0, max(0.0, intensity)), time.monotonic())

    def _feel(self, session: Session, now_s: float) -> None:
        """In pulses longer than the time between them: none goes on long after its runtime has lost us."""
        with self._lock:
            wanted = dict(self._wanted_rumble)
        for side, (intensity, said_s) in wanted.items():
            if now_s - said_s > _RUMBLE_FORGOTTEN_S:
                intensity = 0.0
            felt, felt_s = self._rumbling[side]
            if intensity != felt or (intensity > 0.0 and now_s - felt_s > _RUMBLE_REPEAT_S):
                session.rumble(side, intensity, _RUMBLE_PULSE_S)
                self._rumbling[side] = (intensity, now_s)

    # ---- health

    def diagnostics(self) -> Mapping[str, object]:
        connection = self._connection
        session, instance = connection.session, connection.instance
        found: dict[str, object] = {
            "device": self._device_words(session),
            "frame_rate_hz": 1.0 / self._spacing_s if self._spacing_s else 0.0,
            "longest_gap_ms": 1e3 * self._longest_gap_s,
            "missed_ticks": self._missed,
            "device_losses": self._losses,
            "connections": connection.opened,
        }
        if session is not None and instance is not None:
            found["runtime"] = instance.system.runtime
            found["clock_offset_ms"] = 1e-6 * session.time.offset_ns
            found["clock_uncertainty_ms"] = 1e-6 * session.time.uncertainty_ns
            found["unusable_poses"] = self._lost_poses + session.points.unusable
            for side, held in session.controllers.held.items():
                found[f"{side}_device"] = held or "none"
        return found

    def _device_words(self, session: Session | None) -> str:
        if session is None:
            return f"no headset: {self._connection.trouble}"
        state = session.state.name.lower().replace("_", " ")
        if not session.tracking:
            return f"not in use ({state})"
        if session.untold:
            state = "the runtime tells no session states"
            return f"in use ({state})" if self._last is not None else f"nothing is tracked ({state})"
        return "in use" if self._last is not None else "in use, but nothing is tracked"
