"""The trainer's sticks as the velocity of a mobile base.

The left stick drives (ahead and aside), the right one turns. Whatever the sticks do, the velocity changes by
no more than the base's acceleration allows, and goes to zero that way when the trainer does not lead the
robot any more. A stick that was pushed before counts only after both were let go.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.bounds import check_bounds
from retargeting.motion_frame import Axis, Controls
from retargeting.robot_description import MobileBase

Array = NDArray[np.float64]


@dataclass(frozen=True)
class BaseDriveParameters:
    """Sticks pushed by less than `deadband` count for nothing; zeros are said for `zeros_s` after a stop."""

    deadband: float = 0.12
    zeros_s: float = 0.5

    def __post_init__(self) -> None:
        bounds = {"deadband": (0.0, 0.9), "zeros_s": (0.0, 10.0)}
        check_bounds(self, bounds, "base drive")


class BaseDrive:
    """`velocity` ``(3,)`` is the base's now: ahead, to the left (m/s), turning to the left (rad/s)."""

    def __init__(
        self, base: MobileBase, longest_step_s: float, parameters: BaseDriveParameters | None = None
    ) -> None:
        """`longest_step_s`: no step changes the velocity by more than this time allows."""
        self.base = base
        self.parameters = parameters or BaseDriveParameters()
        self.velocity = np.zeros(3)
        self._longest_step_s = longest_step_s
        self._now_s: float | None = None
        self._moved_s = -math.inf
        self._armed = False

    @property
    def stopping_s(self) -> float:
        """The longest that a stop takes."""
        base = self.base
        fastest = max(base.linear_m_s, base.lateral_m_s)
        return max(fastest / base.acceleration_m_s2, base.angular_rad_s / base.acceleration_rad_s2)

    def step(self, controls: Controls, led: bool, now_s: float) -> Array | None:
        """The velocity ``(3,)`` to command at `now_s` (steady clock), None where nothing is to be said.

        `led`: whether the trainer leads the robot, see `retargeting.retargeter.Retargeter.is_led`.
        """
        elapsed_s = 0.0 if self._now_s is None else now_s - self._now_s
        dt = min(max(0.0, elapsed_s), self._longest_step_s)
        self._now_s = now_s
        wanted = self._wanted(controls)
        self._armed = led and (self._armed or not wanted.any())
        if not self._armed:
            wanted = np.zeros(3)
        base, velocity = self.base, self.velocity
        velocity[:2] = _towards(velocity[:2], wanted[:2], base.acceleration_m_s2 * dt)
        velocity[2:] = _towards(velocity[2:], wanted[2:], base.acceleration_rad_s2 * dt)
        if velocity.any() or wanted.any():
            self._moved_s = now_s
        return velocity.copy() if now_s - self._moved_s <= self.parameters.zeros_s else None

    def _wanted(self, controls: Controls) -> Array:
        axes, base, deadband = controls.axes, self.base, self.parameters.deadband
        aside, ahead = axes[Axis.LEFT_STICK_X], axes[Axis.LEFT_STICK_Y]
        drive = _share(math.hypot(aside, ahead), deadband)
        right = axes[Axis.RIGHT_STICK_X]
        turn = math.copysign(_share(abs(right), deadband), right)
        pushed = max(math.hypot(aside, ahead), 1e-9)
        return np.array(
            [
                base.linear_m_s * drive * ahead / pushed,
                # Sticks count to the right, velocities to the left.
                -base.lateral_m_s * drive * aside / pushed,
                -base.angular_rad_s * turn,
            ]
        )


def _share(pushed: float, deadband: float) -> float:
    """0 inside the deadband, growing from its edge on, 1 where the stick is all the way."""
    return max(0.0, (min(pushed, 1.0) - deadband) / (1.0 - deadband))


def _towards(now: Array, wanted: Array, most: float) -> Array:
    """From `now` to `wanted`, by a step of at most `most`."""
    step = wanted - now
    length = float(np.linalg.norm(step))
    return wanted if length <= most else now + (most / length) * step
