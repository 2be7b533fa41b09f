"""What a drive does with position commands: check, interpolate, and stop by itself.

A command is refused whole, with a counted reason, when it cannot be obeyed safely. An accepted one
is approached along a cubic over `INTERPOLATION_S`, so that commands at 200 Hz with some jitter make
a smooth motion; when that runs out without a new command, the joints brake within the acceleration
limit. Nothing here makes a step in position.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
FollowerState = Literal["ready", "holding", "emergency_stop"]

# One and a half command periods at 200 Hz: a command that is late by less leaves no trace.
INTERPOLATION_S = 0.0075
# A command farther (rad) than this from where the joint is held comes from a wrong start; refused.
LARGEST_JUMP_RAD = 0.8
# Smaller distances are caught up with within the acceleration limit, at up to this part of the
# velocity limit. What is due to interpolation and to one late command is no distance.
_CATCH_UP_SPEED = 0.5
_NO_DISTANCE_S = 0.0002  # times the velocity limit
_LATE_COMMAND_S = 0.006
_LIMIT_TOLERANCE = 1e-6


@dataclass(frozen=True)
class Reference:
    """Joint motion asked of the servos at the end of each physics step of a tick, ``(steps, n)`` each."""

    positions: Array
    velocities: Array
    accelerations: Array


@dataclass(frozen=True)
class _Offer:
    target: Array
    velocity: Array


class CommandFollower:
    """Turns commands for `names` into a smooth reference, tick by tick.

    `lower`, `upper`, `velocity`, `acceleration`, `start` are ``(n,)`` in rad, rad/s, rad/s²
    (prismatic joints in m). `may_jump` marks joints whose first command may be anywhere (grippers,
    which stand away from their command while they hold something).
    `offer` and `set_emergency_stop` may be called from another thread than `advance`.
    """

    def __init__(
        self,
        names: Sequence[str],
        lower: Array,
        upper: Array,
        velocity: Array,
        acceleration: Array,
        start: Array,
        may_jump: NDArray[np.bool_],
        timeout_s: float,
    ) -> None:
        self.names = tuple(names)
        self._index = {name: i for i, name in enumerate(self.names)}
        self._lower, self._upper = lower, upper
        self._velocity, self._acceleration = velocity, acceleration
        self._may_jump = may_jump
        self.timeout_s = timeout_s
        self.refusals: Counter[str] = Counter()
        self.last_refusal = ""
        self.accepted = 0
        self._offer: _Offer | None = None
        self._target = start.copy()
        self._position: Array = start.copy()
        self._moving: Array = np.zeros(len(start))
        self._plan_from = (self._position, self._moving)
        self._plan_to = (self._position, self._moving)
        self._plan_elapsed_s = INTERPOLATION_S
        self._last_accepted_s: float | None = None
        self._stopped = False
        self._state: FollowerState = "ready"

    @property
    def state(self) -> FollowerState:
        """`ready` obeys commands, `holding` saw them stop, `emergency_stop` refuses them."""
        return "emergency_stop" if self._stopped else self._state

    @property
    def position(self) -> Array:
        """The reference ``(n,)`` at the end of the last tick."""
        return self._position

    @property
    def velocity(self) -> Array:
        """Its velocity ``(n,)``."""
        return self._moving

    def set_emergency_stop(self, stopped: bool) -> None:
        """Brake and refuse commands until called with False; then the robot holds until commanded."""
        if stopped:
            self._offer = None
        self._stopped = stopped

    def _refuse(self, kind: str, message: str) -> str:
        self.refusals[kind] += 1
        self.last_refusal = message
        return message

    def offer(
        self,
        names: Sequence[str],
        positions: Sequence[float],
        velocities: Sequence[float] | None,
        now_s: float,
    ) -> str:
        """Hand in a command for some or all joints at steady time `now_s`.

        Returns "" where it is taken, else why it was refused. Velocities (rad/s) may be left out.
        """
        if self._stopped:
            return self._refuse("emergency stop", "the emergency stop is set; reset it first")
        count = 0 if velocities is None else len(velocities)
        if len(names) != len(positions) or count not in (0, len(names)):
            return self._refuse(
                "malformed", f"{len(names)} names, {len(positions)} positions, {count} velocities"
            )
        unknown = [name for name in names if name not in self._index]
        if unknown:
            return self._refuse("unknown joint", f"joint {unknown[0]!r} is not commanded on this robot")
        indices = [self._index[name] for name in names]
        target = self._target.copy()
        target[indices] = positions
        moving = np.zeros(len(target))
        if velocities is not None and count:
            moving[indices] = velocities
        if not (np.isfinite(target).all() and np.isfinite(moving).all()):
            return self._refuse("not finite", "a position or velocity is not finite")
        outside = (target < self._lower - _LIMIT_TOLERANCE) | (target > self._upper + _LIMIT_TOLERANCE)
        if outside.any():
            i = int(np.argmax(outside))
            return self._refuse(
                "outside limits",
                f"{self.names[i]}: {target[i]:.4f} is outside {self._lower[i]:.4f} .. {self._upper[i]:.4f}",
            )
        jump = np.where(self._may_jump, 0.0, np.abs(target - self._position))
        if (jump > LARGEST_JUMP_RAD).any():
            i = int(np.argmax(jump))
            return self._refuse(
                "jump",
                f"{self.names[i]}: command {target[i]:.4f} is {jump[i]:.3f} away from "
                f"where the joint is held, {LARGEST_JUMP_RAD} is allowed; start from the measured position",
            )
        self.accepted += 1
        self._target = np.clip(target, self._lower, self._upper)
        self._last_accepted_s = now_s
        limit = self._velocity
        self._offer = _Offer(self._target, np.clip(moving, -limit, limit))
        return ""

    def advance(self, now_s: float, step_s: float, steps: int) -> Reference:
        """The reference for the next `steps` physics steps; `now_s` is the steady time they start at."""
        offer, self._offer = self._offer, None
        last = self._last_accepted_s
        if self._stopped:
            # Start braking at once, and forget what was asked.
            self._plan_from = self._plan_to = (self._position, self._moving)
            self._plan_elapsed_s = INTERPOLATION_S
            self._state = "holding"
        elif offer is not None:
            end = self._approach(offer)
            self._plan_from = (self._position, self._moving)
            self._plan_to = end
            self._plan_elapsed_s = 0.0
            self._state = "ready"
        elif last is not None and now_s - last > self.timeout_s:
            self._state = "holding"
        elapsed: Array = self._plan_elapsed_s + step_s * np.arange(1.0, steps + 1.0)[:, None]
        positions, velocities, accelerations = self._evaluate(elapsed)
        self._plan_elapsed_s += step_s * steps
        self._position, self._moving = positions[-1].copy(), velocities[-1].copy()
        if not self._moving.any() and self._plan_elapsed_s > INTERPOLATION_S:
            # Arrived: commands are compared with where the joints stand from here on.
            self._target = np.where(self._may_jump, self._target, self._position)
        return Reference(positions, velocities, accelerations)

    def _approach(self, offer: _Offer) -> tuple[Array, Array]:
        """Position and velocity to have in `INTERPOLATION_S`: the command's, or on the way to it."""
        span = INTERPOLATION_S
        distance = offer.target - self._position - offer.velocity * span
        limit = self._acceleration
        # Braking at half the limit, then fading out so that the end makes no jerk.
        closing = np.minimum(np.sqrt(limit * np.abs(distance)), np.abs(distance) / (3.0 * span))
        closing = np.minimum(closing, _CATCH_UP_SPEED * self._velocity)
        wanted = np.clip(offer.velocity + np.sign(distance) * closing, -self._velocity, self._velocity)
        reached = self._moving + np.clip(wanted - self._moving, -limit * span, limit * span)
        on_the_way = self._position + 0.5 * (self._moving + reached) * span
        far = np.abs(distance) > _NO_DISTANCE_S * self._velocity + _LATE_COMMAND_S * np.abs(offer.velocity)
        far |= np.abs(self._moving - offer.velocity) > 1.5 * limit * span
        return np.where(far, on_the_way, offer.target), np.where(far, reached, offer.velocity)

    def _evaluate(self, elapsed_s: Array) -> tuple[Array, Array, Array]:
        """The plan at ``(k, 1)`` times since it was made: a cubic, then braking."""
        (q0, v0), (q1, v1) = self._plan_from, self._plan_to
        span = INTERPOLATION_S
        h = np.minimum(elapsed_s / span, 1.0)
        positions = (
            (1 + 2 * h) * (1 - h) ** 2 * q0
            + h * (1 - h) ** 2 * span * v0
            + h**2 * (3 - 2 * h) * q1
            + h**2 * (h - 1) * span * v1
        )
        velocities = 6 * h * (h - 1) * (q0 - q1) / span + (1 - h) * (1 - 3 * h) * v0 + h * (3 * h - 2) * v1
        accelerations = (12 * h - 6) * (q0 - q1) / span**2 + (6 * h - 4) * v0 / span + (6 * h - 2) * v1 / span
        # Hermite cubics overshoot between far ends; the feed-forward of it stays within reason.
        np.clip(accelerations, -2.0 * self._acceleration, 2.0 * self._acceleration, out=accelerations)
        over = elapsed_s - span
        braking = over > 1e-9
        if braking.any():
            stop_time = np.abs(v1) / self._acceleration
            moved = np.clip(over, 0.0, stop_time)
            slowing = np.sign(v1) * self._acceleration
            positions = np.where(braking, q1 + v1 * moved - 0.5 * slowing * moved**2, positions)
            velocities = np.where(braking, v1 - slowing * moved, velocities)
            accelerations = np.where(braking, np.where(over < stop_time, -slowing, 0.0), accelerations)
            velocities = np.where(braking & (over >= stop_time), 0.0, velocities)
        at_limit = (positions < self._lower) | (positions > self._upper)
        velocities = np.where(at_limit, 0.0, velocities)
        return np.clip(positions, self._lower, self._upper), velocities, accelerations
