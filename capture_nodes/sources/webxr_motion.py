"""Motion frames from what the page sees: axes, points, deadman, and what ends with an interruption."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from capture_nodes.sources.hand_gestures import GestureParameters, HandGestures, HeldFor
from capture_nodes.sources.held_controls import HeldControls
from capture_nodes.sources.webxr_body import BodyAxes
from capture_nodes.sources.webxr_wire import WireFrame
from retargeting.body_points import SIDES
from retargeting.frames import (
    OPENXR_GRIP_AXES,
    ROTATION_OPENXR_TO_TRAINER,
    Array,
    pose_to_trainer,
    quaternion_multiply,
)
from retargeting.motion_frame import Axis, Button, Controls, MotionFrame

_PRESSED = 1.0
_GRIP_AXES = {f"{side}_grip": OPENXR_GRIP_AXES[side] for side in SIDES}


class WebxrMotion:
    """Frame by frame. Used by one thread; times are the station's steady clock."""

    def __init__(self, gestures: GestureParameters | None = None) -> None:
        parameters = gestures or GestureParameters()
        self._gestures = HandGestures(parameters)
        self._held_menu = {side: HeldFor(parameters.menu_s) for side in SIDES}
        self._held = HeldControls()
        self._body = BodyAxes()
        self._held.interrupt()
        self._last: MotionFrame | None = None
        self._seen: set[str] = set()
        # What told of each side's grip or pinch in the frame before: "" nothing did.
        self._telling = dict.fromkeys(SIDES, "")

    @property
    def body_axes(self) -> str:
        """How the axes of the body's points are known (`webxr_body`)."""
        return self._body.convention

    def frame(self, wire: WireFrame, stamp_ns: int, device_s: float) -> MotionFrame | None:
        """The motion frame, None where nothing is tracked; `device_s`: the frame's steady time.

        While the session is not visible, or where its space was moved, the deadman is open.
        """
        poses = tracked_poses(wire, self._guessed(wire), self._body)
        controls = self._controls(wire, poses, device_s)
        if wire.visibility != "visible" or wire.reset:
            self._held.interrupt()
            controls = Controls()
        else:
            self._held.interrupt(self._taken_up(wire, poses))
            controls = self._held.observe(controls)
        if not poses:
            return self.interrupt()
        self._last = MotionFrame(stamp_ns, poses, controls)
        return self._last

    def interrupt(self) -> MotionFrame | None:
        """The session ended or the line is cut: the last poses once more, the deadman open; once."""
        self._held.interrupt()
        last, self._last = self._last, None
        return None if last is None else MotionFrame(last.stamp_ns, last.poses, Controls())

    def forget_device(self) -> None:
        """Another browser may come, whose joints are turned otherwise."""
        self._body.forget()

    def _guessed(self, wire: WireFrame) -> frozenset[str]:
        """Points that were seen and are only guessed now; some headsets say that they guess all of them."""
        self._seen.update(name for name in wire.names if name not in wire.emulated)
        return wire.emulated & self._seen

    def _taken_up(self, wire: WireFrame, poses: Mapping[str, Array]) -> list[str]:
        """The sides that something tells of which did not in the frame before.

        A controller that is not there reads as let go, as does a hand out of sight: that says nothing of it.
        """
        before, self._telling = self._telling, {side: _telling(side, wire, poses) for side in SIDES}
        return [side for side, device in self._telling.items() if device not in ("", before[side])]

    def _controls(self, wire: WireFrame, poses: Mapping[str, Array], now_s: float) -> Controls:
        axes, buttons = list(wire.axes), list(wire.buttons)
        for side in SIDES:
            upper = side.upper()
            gesture = self._gestures.observe(side, poses, now_s)
            if gesture.pinch:
                axes[Axis[f"{upper}_SQUEEZE"]] = _PRESSED
            # No headset gives its menu button to a page: the secondary button, held, is one.
            held = self._held_menu[side].observe(bool(buttons[Button[f"{upper}_SECONDARY"]]), now_s)
            if gesture.menu or held:
                buttons[Button[f"{upper}_MENU"]] = 1
        return Controls(tuple(axes), tuple(buttons))


def _telling(side: str, wire: WireFrame, poses: Mapping[str, Array]) -> str:
    if not {f"{side}_grip", f"{side}_aim"}.isdisjoint(wire.names):
        return "controller"
    return "hand" if {f"{side}_thumb_tip", f"{side}_index_tip"} <= poses.keys() else ""


def tracked_poses(
    wire: WireFrame, left_out: Collection[str] = (), body: BodyAxes | None = None
) -> dict[str, Array]:
    """Body points ``(7,)`` in `trainer`, without those of `left_out`."""
    converted = pose_to_trainer(wire.poses, ROTATION_OPENXR_TO_TRAINER)
    grips = [k for k, name in enumerate(wire.names) if name in _GRIP_AXES]
    if grips:
        axes = np.stack([_GRIP_AXES[wire.names[k]] for k in grips])
        converted[grips, 3:] = quaternion_multiply(converted[grips, 3:], axes)
    poses = {name: pose for name, pose in zip(wire.names, converted, strict=True) if name not in left_out}
    if wire.body_names:
        of_body = (body or BodyAxes()).poses(wire.body_names, wire.body)
        # Hands that are tracked themselves are better known than the body model has them.
        poses |= {name: pose for name, pose in of_body.items() if name not in poses}
    return poses
