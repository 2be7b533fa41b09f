"""The live source `openxr`: frames at a rate of our own from a runtime that may come and go."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TypeVar

from capture_nodes.sources.handed_frames import HandedFrames
from capture_nodes.sources.held_controls import HeldControls
from capture_nodes.sources.openxr.connection import Connection
from capture_nodes.sources.openxr.driver import RuntimeFailed
from capture_nodes.sources.openxr.menu_sign import MenuSign
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.openxr.runtime_thread import RuntimeThread
from capture_nodes.sources.openxr.session import Sample, Session, SessionOver
from capture_nodes.sources.source import SourceError
from capture_nodes.stamp_clock import StampClock
from retargeting.body_points import SIDES
from retargeting.motion_frame import MotionFrame

Self = TypeVar("Self", bound="OpenXrSource")

_RUMBLE_PULSE_S, _RUMBLE_REPEAT_S, _RUMBLE_FORGOTTEN_S = 0.3, 0.15, 1.0
_CLOCK_CHECK_S = 1.0
_RATE_WEIGHT = 0.05
# Some runtimes start a server of theirs when they are opened; nobody can stop the node meanwhile.
_OPENING_S = 4.0
_LEAVING_S = 1.0
_LOOK_S = 0.05
# Why no frames come is asked for before a runtime is given up.
_SILENT_S = 0.05


class OpenXrSource:
    """Asked by a timer, because a headless frame loop is not paced alike by all runtimes.

    While the session has lost the trainer's attention, or nothing is tracked, or the runtime does not answer,
    there are no frames; what was pressed before counts afterwards only once it was let go. Only a thread of
    its own calls into the runtime: one that never comes back from there holds up neither frames' readers nor
    the end.
    """

    def __init__(self, parameters: OpenXrParameters, stamps: StampClock) -> None:
        self._parameters, self._stamps = parameters, stamps
        self._period_s = 1.0 / parameters.rate_hz
        self._connection = Connection(parameters)
        self._thread = RuntimeThread(self._run)
        self._opened = threading.Event()
        self._refused: SourceError | None = None
        self._handed = HandedFrames()
        self._held = HeldControls()
        self._menu = MenuSign()
        self._following = False
        self._failed: RuntimeFailed | None = None
        self._next_s = 0.0
        self._clock_checked_s = 0.0
        self._lock = threading.Lock()
        self._wanted_rumble: dict[str, tuple[float, float]] = {}
        self._rumbling = dict.fromkeys(SIDES, (0.0, 0.0))
        self._frames = self._missed = self._losses = self._freezes = 0
        self._spacing_s, self._longest_gap_s, self._last_frame_s = 0.0, 0.0, 0.0
        self._lost_poses = 0

    def __enter__(self: Self) -> Self:
        self._thread.start()
        self._opened.wait(_OPENING_S)
        if self._refused is not None:
            self._thread.stop(_LEAVING_S)
            raise self._refused
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # A runtime that does not answer even now is left as it is.
        self._thread.stop(_LEAVING_S)

    @property
    def report(self) -> Mapping[str, str]:
        connection, instance = self._connection, self._connection.instance
        session = connection.session
        if instance is None or session is None:
            silence = self._thread.silence(self._parameters.answer_s)
            return {"headset": silence or f"{connection.trouble}; it is tried again"}
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
            left_s = end_s - time.monotonic()
            frame = self._handed.take(min(_LOOK_S, max(0.0, left_s)))
            if frame is None and self._thread.gives_up(self._parameters.answer_s):
                frame = self._handed.open_deadman()
            if self._thread.failure is not None:
                raise self._thread.failure
            if frame is not None or left_s <= _LOOK_S:
                return frame

    # ---- the runtime's thread

    def _run(self) -> None:
        self._held.interrupt()
        self._thread.begin("opening it")
        try:
            self._connection.open_first(time.monotonic())
        except SourceError as error:
            # Nobody waits any more after `_OPENING_S`: then it is tried again as one that has gone.
            self._refused = error
            self._connection.drop(error, time.monotonic())
        self._thread.end(_OPENING_S)
        self._opened.set()
        while self._wait_until_due():
            self._thread.begin("asking for poses")
            sample = self._tick()
            if not self._thread.end(self._parameters.answer_s):
                self._freezes += self._following
                self._lose()
            elif sample is not None:
                self._handed.put(self._frame(sample))
            elif self._following:
                self._lose()
        self._thread.begin("leaving it")
        self._leave()
        self._thread.end(_LEAVING_S)

    def _leave(self) -> None:
        session = self._connection.session
        if session is not None:
            try:
                session.leave()
            except RuntimeFailed as failed:
                # It went before us.
                self._connection.trouble = str(failed)
        self._connection.close()

    def _wait_until_due(self) -> bool:
        """When the runtime is to be asked, at multiples of the period, or to be tried again; False at the
        end."""
        now_s = time.monotonic()
        if self._failed is not None:
            # What is left of it is let go of at once.
            return not self._thread.stopping.is_set()
        if self._connection.session is None:
            self._next_s = 0.0
            return not self._thread.stopping.wait(max(0.0, self._connection.retry_at_s - now_s))
        if self._next_s == 0.0:
            self._next_s = now_s
        elif now_s - self._next_s > self._period_s:
            skipped = int((now_s - self._next_s) / self._period_s)
            self._missed += skipped
            self._next_s += skipped * self._period_s
        if self._next_s > now_s:
            time.sleep(self._next_s - now_s)
        return not self._thread.stopping.is_set()

    def _tick(self) -> Sample | None:
        now_s = time.monotonic()
        if self._failed is not None:
            failed, self._failed = self._failed, None
            willingly = isinstance(failed, SessionOver) and failed.reason == "EXITING"
            self._connection.drop(failed, now_s, willingly=willingly)
            return None
        session = self._connection.open_again(now_s)
        if session is None:
            return None
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
            return None
        if sample is not None:
            self._connection.works()
        return sample

    def _lose(self) -> None:
        """The trainer was lost: what they still hold when they are back counts for nothing."""
        self._following = False
        self._held.interrupt()
        self._last_frame_s = 0.0
        self._handed.lose()

    def _frame(self, sample: Sample) -> MotionFrame:
        if sample.recentred:
            self._held.interrupt()
        self._held.interrupt(sample.taken_up)
        moment_s = 1e-9 * sample.steady_ns
        controls = self._menu.observe(sample.controls, sample.poses, moment_s)
        frame = MotionFrame(self._stamps.stamp(moment_s), sample.poses, self._held.observe(controls))
        self._following = True
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
            "frame_rate_hz": self._frame_rate_hz(),
            "longest_gap_ms": 1e3 * self._longest_gap_s,
            "missed_ticks": self._missed,
            "device_losses": self._losses,
            "freezes": self._freezes,
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

    def _frame_rate_hz(self) -> float:
        """0 as long as none come."""
        last_s, spacing_s = self._last_frame_s, self._spacing_s
        come = last_s > 0.0 and time.monotonic() - last_s <= self._parameters.answer_s
        return 1.0 / spacing_s if come and spacing_s else 0.0

    def _device_words(self, session: Session | None) -> str:
        if silence := self._thread.silence(_SILENT_S):
            return silence
        if session is None:
            return f"no headset: {self._connection.trouble}"
        state = session.state.name.lower().replace("_", " ")
        if not session.tracking:
            return f"not in use ({state})"
        if session.untold:
            state = "the runtime tells no session states"
            return f"in use ({state})" if self._following else f"nothing is tracked ({state})"
        return "in use" if self._following else "in use, but nothing is tracked"
