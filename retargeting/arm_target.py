"""What one arm (or the head) is asked to do: hold, approach softly, or follow the trainer, with a clutch.

The pose that is asked for never steps when the arm begins to approach: it leaves from a given pose on a
smoothstep and is with the trainer at its end. In relative mode a constant offset joins the trainer's
pose to the robot's where they were when the clutch closed, so that there is no way to approach.
"""

from __future__ import annotations

from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import quaternion_inverse, quaternion_multiply
from retargeting.pose_blend import blend_directions, blend_pose, offset_pose, smoothstep

Array = NDArray[np.float64]

_NO_SHIFT, _NO_TURN = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])


class ArmState(Enum):
    RELEASED = "released"
    LOST = "lost"
    APPROACHING = "approaching"
    FOLLOWING = "following"


HOLDING_STATES = (ArmState.RELEASED, ArmState.LOST)


class ArmTarget:
    """One arm's clutch. `pose` ``(7,)`` and `direction` ``(3,)`` are what was asked for last; has_offset:
    whether the clutch is closed.

    They may be rows of larger arrays, which then hold what is asked for, see `show_in`.
    """

    def __init__(self) -> None:
        self.state = ArmState.RELEASED
        self.reason = "not engaged yet"
        self.pose: Array = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
        self.direction: Array = np.zeros(3)
        self._start, self._start_direction = self.pose.copy(), np.zeros(3)
        self._start_s, self._duration_s = 0.0, 1.0
        self._shift, self._turn = _NO_SHIFT, _NO_TURN
        self.has_offset = False
        self._wanted: Array = self.pose.copy()

    @property
    def holds(self) -> bool:
        return self.state in HOLDING_STATES

    @property
    def until_s(self) -> float:
        """When the approach ends."""
        return float(self._start_s + self._duration_s)

    def show_in(self, pose: Array, direction: Array) -> None:
        """From now on keep what is asked for in these arrays ``(7,)`` and ``(3,)``."""
        pose[:], direction[:] = self.pose, self.direction
        self.pose, self.direction = pose, direction

    def hold(self, pose: Array, direction: Array, state: ArmState, reason: str) -> None:
        """Stay at `pose` ``(7,)`` with the elbow in `direction` ``(3,)``."""
        self.pose[:], self.direction[:] = pose, direction
        self.state, self.reason = state, reason

    def join(self, wanted: Array, pose: Array) -> None:
        """Close the clutch: what asks for `wanted` ``(7,)`` now asks for `pose` ``(7,)``."""
        self._shift = pose[:3] - wanted[:3]
        self._turn = quaternion_multiply(quaternion_inverse(wanted[3:]), pose[3:])
        self.has_offset = True

    def part(self) -> None:
        """Drop the offset: the trainer's pose is taken as it is."""
        self._shift, self._turn = _NO_SHIFT, _NO_TURN
        self.has_offset = False

    def approach(self, start: Array, direction: Array, now_s: float, duration_s: float) -> None:
        """Leave `start` ``(7,)`` and the elbow's `direction` ``(3,)``; arrive after `duration_s`."""
        self._start, self._start_direction = start.copy(), direction.copy()
        self.pose[:], self.direction[:] = start, direction
        self._start_s, self._duration_s = now_s, duration_s
        self.state, self.reason = ArmState.APPROACHING, ""

    def wanted(self, pose: Array) -> Array:
        """`pose` ``(7,)`` of the trainer's, with the clutch's offset."""
        if not self.has_offset:
            return pose
        offset_pose(pose, self._shift, self._turn, self._wanted)
        return self._wanted

    def move_to(self, now_s: float, pose: Array, direction: Array) -> None:
        """Set `pose` and `direction` for the time `now_s` from the trainer's ``(7,)`` and ``(3,)``."""
        if self.state is ArmState.APPROACHING:
            share = (now_s - self._start_s) / self._duration_s
            if share < 1.0:
                smooth = smoothstep(share)
                blend_pose(self._start, self.wanted(pose), smooth, self.pose)
                start, end, out = self._start_direction[None], direction[None], self.direction[None]
                blend_directions(start, end, smooth, out)
                return
            self.state, self.reason = ArmState.FOLLOWING, ""
        if self.state is ArmState.FOLLOWING:
            self.pose[:] = self.wanted(pose)
            self.direction[:] = direction
