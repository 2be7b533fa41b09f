"""What the retargeter commanded in one tick, and what kept an arm from where the trainer wants it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.self_collision import Clearance

Array = NDArray[np.float64]


class StopKind(Enum):
    """LIMIT: a joint is at the end of its range; REACH: the target is farther than the arm is long; MARGIN:
    another part of the robot is in the way."""

    LIMIT = "limit"
    REACH = "reach"
    MARGIN = "margin"


@dataclass(frozen=True)
class ArmStop:
    """Why an arm does not get where it is wanted; `detail` names the joint or the links.

    `push`: 0 .. 1, how hard the trainer pushes against it, by how far the hand is from where it is wanted.
    """

    kind: StopKind
    detail: str = ""
    push: float = field(default=1.0, compare=False)


_NO_STOPS: Mapping[str, tuple[ArmStop, ...]] = MappingProxyType({})
_NOT_LED: Mapping[str, float] = MappingProxyType({})


class AppliedCommand(NamedTuple):
    """What was commanded in one tick.

    positions, velocities ``(n,)`` in the order of `joint_names` (rad, rad/s; prismatic m, m/s);
    targets: pose ``(7,)`` per site in the robot's root, as the solver was asked; led_m: how far wrists'
    targets were led out of the robot's body for that, by site, where they were;
    cause_stamp_ns: stamp of the newest motion frame it follows, None while standing still; motion_age_s: how
    long before the command the motion was that the wrists' places in `targets` show, smoothing and the
    way between frames counted; smoothing_delay_s: of that, what smoothing takes; clipped: joints whose limits
    shaped the motion; stops: per side what keeps the wrist from its target, worth a rumble; clearance,
    collision_limited: see `retargeting.solver.Step`.
    """

    stamp_ns: int
    joint_names: tuple[str, ...]
    positions: Array
    velocities: Array
    targets: dict[str, Array]
    cause_stamp_ns: int | None
    clipped: tuple[str, ...]
    motion_age_s: float | None = None
    stops: Mapping[str, tuple[ArmStop, ...]] = _NO_STOPS
    clearance: Clearance | None = None
    collision_limited: bool = False
    smoothing_delay_s: float = 0.0
    led_m: Mapping[str, float] = _NOT_LED
