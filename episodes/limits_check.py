"""Does the applied command ever break a position, velocity or acceleration limit?

Measured from the bag's `joint_commands` alone, as the design fixes it::

    h_k = min(stamp_k - stamp_{k-1}, nominal period)
    v_k = (q_k - q_{k-1}) / h_k          from the second command of the file on
    a_k = (v_k - v_{k-1}) / h_k          from the third on

against the limits of the attached URDF and `robot.yaml`. The first command of a file has no
predecessor and gives only a position. A value counts as a violation where it is over its limit by more
than 1e-6 of the limit (position: of the joint's range), which covers rounding and nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.attached_model import JointLimits, attached_model
from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.result import CheckResult
from episodes.samples import JointSamples
from episodes.streams_check import expected_rate_hz

Array = NDArray[np.float64]

RELATIVE_TOLERANCE = 1e-6
DEFAULT_PERIOD_S = 1.0 / 200.0
NAME = "limits"


@dataclass(frozen=True)
class Violations:
    """Of one kind. `worst` is value over limit (position: 1 + excess over range), where and when.

    `worst_*` describe the sample nearest to (or furthest over) its limit even where nothing is violated.
    """

    count: int
    worst_ratio: float
    worst_value: float
    worst_limit: float
    worst_joint: str
    worst_time_ns: int

    def as_json(self, start_ns: int) -> dict[str, Any]:
        return {
            "violations": self.count,
            "worst_ratio": _number(self.worst_ratio),
            "worst_value": _number(self.worst_value),
            "worst_limit": _number(self.worst_limit),
            "worst_joint": self.worst_joint,
            "worst_time_s": (self.worst_time_ns - start_ns) * 1e-9,
        }


@dataclass(frozen=True)
class LimitFigures:
    commands: int
    nominal_period_s: float
    position: Violations
    velocity: Violations
    acceleration: Violations

    @property
    def violations(self) -> int:
        return self.position.count + self.velocity.count + self.acceleration.count


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _violations(
    ratio: Array, over: NDArray[np.bool_], value: Array, limit: Array, names: tuple[str, ...], stamps: Any
) -> Violations:
    if ratio.size == 0:
        return Violations(0, 0.0, 0.0, 0.0, "", int(stamps[0]) if len(stamps) else 0)
    # A NaN is never within a limit, and is the worst there is.
    k, j = divmod(int(np.argmax(np.where(np.isnan(ratio), np.inf, ratio))), ratio.shape[1])
    return Violations(
        int(np.count_nonzero(over)),
        float(ratio[k, j]),
        float(value[k, j]),
        float(np.broadcast_to(limit, value.shape)[k, j]),
        names[j],
        int(stamps[k]),
    )


def measure_limits(commands: JointSamples, limits: JointLimits, nominal_period_s: float) -> LimitFigures:
    """Count the violations in a stream of commands; one joint over one limit at one command is one.

    Raises `EpisodeError` where stamps do not increase (velocities would then mean nothing).
    """
    q, stamps = commands.position, commands.stamp_ns
    step_s = np.diff(stamps).astype(np.float64) * 1e-9
    if np.any(step_s <= 0.0):
        k = int(np.argmax(step_s <= 0.0))
        raise EpisodeError(
            None, f"joint_commands: stamp {int(stamps[k + 1])} does not come after {int(stamps[k])} ns"
        )
    h = np.minimum(step_s, nominal_period_s)[:, None]
    velocity = np.diff(q, axis=0) / h
    acceleration = np.diff(velocity, axis=0) / h[1:]

    span = limits.upper - limits.lower
    span = np.where(np.isfinite(span) & (span > 0.0), span, 1.0)
    excess = np.maximum(limits.lower - q, q - limits.upper) / span
    nearest = np.where(q - limits.lower < limits.upper - q, limits.lower, limits.upper)
    # `not (<=)` rather than `>`: a NaN must count.
    return LimitFigures(
        commands=len(q),
        nominal_period_s=nominal_period_s,
        position=_violations(1.0 + excess, ~(excess <= RELATIVE_TOLERANCE), q, nearest, limits.names, stamps),
        velocity=_over(velocity, limits.velocity, limits.names, stamps[1:]),
        acceleration=_over(acceleration, limits.acceleration, limits.names, stamps[2:]),
    )


def _over(value: Array, cap: Array, names: tuple[str, ...], stamps: Any) -> Violations:
    ratio = np.abs(value) / cap
    return _violations(ratio, ~(ratio <= 1.0 + RELATIVE_TOLERANCE), value, cap, names, stamps)


def nominal_period_s(bag: Bag, rates_hz: Mapping[str, float] | None = None) -> float:
    """The command period: by the given rates, the recorder's metadata, or 200 Hz as the design has it.

    Never by the stamps themselves: on a machine too slow for its rate they would name a longer period
    than the solver was held to.
    """
    rate = expected_rate_hz(bag.stream(bag.topic("joint_commands")), rates_hz)
    return DEFAULT_PERIOD_S if rate is None else 1.0 / rate


def check_limits(bag: Bag, rates_hz: Mapping[str, float] | None = None) -> CheckResult:
    """The limit check of an episode; `rates_hz` as in `nominal_period_s`.

    Raises `EpisodeError` where streams or attachments are unusable.
    """
    topic = bag.topic("joint_commands")
    commands = bag.joints(topic)
    if len(commands.stamp_ns) == 0:
        return CheckResult(NAME, problems=(f"{topic} holds no command",))
    limits = attached_model(bag).limits(commands.names)
    try:
        figures = measure_limits(commands, limits, nominal_period_s(bag, rates_hz))
    except EpisodeError as error:
        raise EpisodeError(bag.path, error.message) from error
    problems = []
    for kind, unit, found in (
        ("position", "rad|m", figures.position),
        ("velocity", "rad/s|m/s", figures.velocity),
        ("acceleration", "rad/s²|m/s²", figures.acceleration),
    ):
        if found.count:
            at = (found.worst_time_ns - bag.start_ns) * 1e-9
            prismatic = attached_model(bag).tree.joints[found.worst_joint].kind == "prismatic"
            problems.append(
                f"{found.count} {kind} violations; worst {found.worst_joint} at {at:.3f} s: "
                f"{found.worst_value:.6g} {unit.split('|')[prismatic]}, limit {found.worst_limit:.6g}"
            )
    return CheckResult(
        NAME,
        problems=tuple(problems),
        figures={
            "violations": figures.violations,
            "commands": figures.commands,
            "joints": len(commands.names),
            "nominal_period_s": figures.nominal_period_s,
            "relative_tolerance": RELATIVE_TOLERANCE,
            "position": figures.position.as_json(bag.start_ns),
            "velocity": figures.velocity.as_json(bag.start_ns),
            "acceleration": figures.acceleration.as_json(bag.start_ns),
        },
    )
