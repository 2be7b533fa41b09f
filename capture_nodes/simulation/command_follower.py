"""What a drive does with position commands: check, play them back smoothly, and stop by itself.

A command is refused whole, with a counted reason, when it cannot be obeyed safely. Accepted ones are
played back `PLAYBACK_DELAY_S` after their stamps, so that the network's and the sender's unevenness leaves
no trace: the reference is the quadratic B-spline through the commands, whose velocity and acceleration are
those between the commands and never more. Where the next command is too far for that, it is caught up
with inside the acceleration limit; when commands run out, the joints brake within it. Nothing here makes
a step in position.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retargeting.clock_offset import ClockOffset

Array = NDArray[np.float64]
FollowerState = Literal["ready", "holding", "emergency_stop"]

# One and a half periods of 200 Hz that the spline looks ahead, and one for commands that come late.
PLAYBACK_DELAY_S = 0.0125
# A command farther (rad) than this from where the joint is held comes from a wrong start; refused.
LARGEST_JUMP_RAD = 0.8
# Commands farther apart in time than this are not joined to one motion.
_LONGEST_GAP_S = 0.05
# Larger than the acceleration limit of the sender by what an uneven step does to a spline.
_UNEVEN = 3.0
# What is too far is caught up with at up to this part of the velocity limit.
_CATCH_UP_SPEED = 0.5
_CATCH_UP_TIME_S = 0.0225
_SHORTEST_SPAN_S = 0.0025
_LIMIT_TOLERANCE = 1e-6
_SAME_TIME_S = 1e-6


@dataclass(frozen=True)
class Reference:
    """Joint motion asked of the servos at the end of each physics step of a tick, ``(steps, n)`` each."""

    positions: Array
    velocities: Array
    accelerations: Array


@dataclass(frozen=True)
class _Node:
    """Where to be at `due_s` (steady clock): position and velocity ``(n,)``."""

    due_s: float
    position: Array
    velocity: Array


class CommandFollower:
    """Turns commands for `names` into a smooth reference, tick by tick.

    `lower`, `upper`, `velocity`, `acceleration`, `start` are ``(n,)`` in rad, rad/s, rad/s²
    (prismatic joints in m). `may_jump` marks joints whose first command may be anywhere (grippers,
    which stand away from their command while they hold something).
    `offer` and `set_emergency_stop` may be called from another thread than `advance`, under one lock.
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
        self._clock = ClockOffset()
        # The last command, as a node: where and when its position is due.
        self._command = _Node(-np.inf, start.copy(), np.zeros(len(start)))
        self._nodes: deque[_Node] = deque()
        self._position: Array = start.copy()
        self._moving: Array = np.zeros(len(start))
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
            self._nodes.clear()
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
        stamp_ns: int = 0,
    ) -> str:
        """Hand in a command for some or all joints at steady time `now_s`.

        `stamp_ns` is when it was meant to hold, on the sender's clock; 0 takes `now_s`. Velocities (rad/s)
        may be left out; they count for the first command of a motion, later ones have a difference.
        Returns "" where it is taken, else why it was refused.
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
        target = self._command.position.copy()
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
        self._last_accepted_s = now_s
        sent_s = self._clock.sent_s(stamp_ns * 1e-9, now_s) if stamp_ns else now_s
        self._add(
            _Node(
                sent_s + PLAYBACK_DELAY_S,
                np.clip(target, self._lower, self._upper),
                np.clip(moving, -self._velocity, self._velocity),
            )
        )
        return ""

    def _add(self, command: _Node) -> None:
        """Lead the spline on: it passes the middle between two commands at their mean velocity."""
        last, self._command = self._command, command
        gap_s = command.due_s - last.due_s
        node = command
        if 1e-4 < gap_s < _LONGEST_GAP_S:
            # Joints that may jump are caught up with; their difference is no velocity.
            velocity = np.clip((command.position - last.position) / gap_s, -self._velocity, self._velocity)
            node = _Node(last.due_s + 0.5 * gap_s, 0.5 * (last.position + command.position), velocity)
        while self._nodes and self._nodes[-1].due_s >= node.due_s - 1e-4:
            self._nodes.pop()
        self._nodes.append(node)

    def advance(self, now_s: float, step_s: float, steps: int) -> Reference:
        """The reference for the next `steps` physics steps; `now_s` is the steady time they start at."""
        last = self._last_accepted_s
        if self._stopped or (last is not None and now_s - last > self.timeout_s):
            self._nodes.clear()
            self._state = "holding"
        elif self._nodes:
            self._state = "ready"
        size = (steps, len(self.names))
        reference = Reference(np.empty(size), np.empty(size), np.empty(size))
        times = now_s + step_s * np.arange(1, steps + 1)
        done, from_s = 0, now_s
        while done < steps:
            node = self._next_node(from_s, times[-1])
            until_s = np.inf if node is None else node.due_s + _SAME_TIME_S
            count = int(np.searchsorted(times[done:], until_s, side="right"))
            part = slice(done, done + count)
            elapsed = np.asarray(times[part, None] - from_s)
            if node is None:
                self._brake(elapsed, reference, part)
            else:
                node = self._reachable(node, node.due_s - from_s)
                self._lead_to(node, node.due_s - from_s, elapsed, reference, part)
                if done + count < steps or node.due_s <= times[-1] + _SAME_TIME_S:
                    self._position, self._moving, from_s = node.position, node.velocity, node.due_s
                    self._nodes.popleft()
            done += count
        np.clip(reference.positions, self._lower, self._upper, out=reference.positions)
        self._position, self._moving = reference.positions[-1].copy(), reference.velocities[-1].copy()
        if not self._nodes and not self._moving.any():
            # Arrived: commands are compared with where the joints stand from here on.
            held = np.where(self._may_jump, self._command.position, self._position)
            self._command = _Node(self._command.due_s, held, self._moving)
        return reference

    def _next_node(self, now_s: float, end_s: float) -> _Node | None:
        """The node to lead to from `now_s` in a tick until `end_s`; what is due by then is skipped.

        The last one comes late then, at the end of the tick: reached any sooner, each tick would end in
        braking, and commands that are all late would be crept after.
        """
        while len(self._nodes) > 1 and self._nodes[0].due_s <= now_s + _SAME_TIME_S:
            self._nodes.popleft()
        if not self._nodes:
            return None
        node = self._nodes[0]
        if node.due_s <= now_s + _SAME_TIME_S:
            late_s = max(now_s + _SHORTEST_SPAN_S, end_s)
            self._nodes[0] = node = _Node(late_s, node.position, node.velocity)
        return node

    def _reachable(self, node: _Node, span_s: float) -> _Node:
        """The node, joint by joint, or what can be had of it within the acceleration limit."""
        limit = self._acceleration
        ahead: Array = node.position - self._position
        at_start: Array = (6.0 * ahead / span_s - 4.0 * self._moving - 2.0 * node.velocity) / span_s
        at_end: Array = (-6.0 * ahead / span_s + 2.0 * self._moving + 4.0 * node.velocity) / span_s
        far = np.maximum(np.abs(at_start), np.abs(at_end)) > _UNEVEN * limit
        if not far.any():
            return node
        distance: Array = ahead - node.velocity * span_s
        # Braking at half the limit, then fading out so that the end makes no jerk.
        closing: Array = np.minimum(np.sqrt(limit * np.abs(distance)), np.abs(distance) / _CATCH_UP_TIME_S)
        closing = np.minimum(closing, _CATCH_UP_SPEED * self._velocity)
        wanted = np.clip(node.velocity + np.sign(distance) * closing, -self._velocity, self._velocity)
        reached = self._moving + np.clip(wanted - self._moving, -limit * span_s, limit * span_s)
        on_the_way = self._position + 0.5 * (self._moving + reached) * span_s
        return _Node(
            node.due_s, np.where(far, on_the_way, node.position), np.where(far, reached, node.velocity)
        )

    def _lead_to(
        self, node: _Node, span_s: float, elapsed_s: Array, reference: Reference, part: slice
    ) -> None:
        """Fill the steps ``(k, 1)`` after now on the cubic to a node (a parabola where commands are even)."""
        q0, v0, q1, v1 = self._position, self._moving, node.position, node.velocity
        h = elapsed_s / span_s
        reference.positions[part] = (
            (1 + 2 * h) * (1 - h) ** 2 * q0
            + h * (1 - h) ** 2 * span_s * v0
            + h**2 * (3 - 2 * h) * q1
            + h**2 * (h - 1) * span_s * v1
        )
        reference.velocities[part] = (
            6 * h * (h - 1) * (q0 - q1) / span_s + (1 - h) * (1 - 3 * h) * v0 + h * (3 * h - 2) * v1
        )
        reference.accelerations[part] = (
            (12 * h - 6) * (q0 - q1) / span_s**2 + (6 * h - 4) * v0 / span_s + (6 * h - 2) * v1 / span_s
        )

    def _brake(self, elapsed_s: Array, reference: Reference, part: slice) -> None:
        """Fill the steps ``(k, 1)`` after now with braking at the acceleration limit, then rest."""
        v0 = self._moving
        slowing = np.sign(v0) * self._acceleration
        moved = np.minimum(elapsed_s, np.abs(v0) / self._acceleration)
        reference.positions[part] = self._position + v0 * moved - 0.5 * slowing * moved**2
        reference.velocities[part] = np.where(elapsed_s > moved, 0.0, v0 - slowing * moved)
        reference.accelerations[part] = np.where(elapsed_s > moved, 0.0, -slowing)
