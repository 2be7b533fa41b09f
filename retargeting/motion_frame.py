"""One instant of the trainer: named poses and the state of triggers and buttons."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import BODY_POINT_SET
from retargeting.errors import InvalidMotion

Array = NDArray[np.float64]

# Nobody is farther than this from where they stand.
LARGEST_DISTANCE_M = 100.0


class Axis(IntEnum):
    """Index into `sensor_msgs/Joy.axes` of `/trainer/buttons`.

    Triggers and squeezes 0..1; sticks -1..1, x to the right and y away from the trainer.
    """

    LEFT_TRIGGER = 0
    RIGHT_TRIGGER = 1
    LEFT_SQUEEZE = 2
    RIGHT_SQUEEZE = 3
    LEFT_STICK_X = 4
    LEFT_STICK_Y = 5
    RIGHT_STICK_X = 6
    RIGHT_STICK_Y = 7


class Button(IntEnum):
    """Index into `sensor_msgs/Joy.buttons` of `/trainer/buttons`."""

    LEFT_PRIMARY = 0
    RIGHT_PRIMARY = 1
    LEFT_SECONDARY = 2
    RIGHT_SECONDARY = 3
    LEFT_STICK = 4
    RIGHT_STICK = 5
    LEFT_MENU = 6
    RIGHT_MENU = 7


@dataclass(frozen=True)
class Controls:
    """Triggers, squeezes, sticks (indexed by `Axis`) and buttons (indexed by `Button`)."""

    axes: tuple[float, ...] = (0.0,) * len(Axis)
    buttons: tuple[int, ...] = (0,) * len(Button)

    def __post_init__(self) -> None:
        if len(self.axes) != len(Axis) or len(self.buttons) != len(Button):
            raise InvalidMotion(
                f"controls have {len(self.axes)} axes and {len(self.buttons)} buttons; "
                f"{len(Axis)} and {len(Button)} are expected"
            )
        if not all(np.isfinite(self.axes)):
            raise InvalidMotion(f"controls have a non-finite axis: {self.axes}")

    def hand_opening(self, side: str) -> float:
        """1 = open hand, 0 = closed, from the side's trigger."""
        trigger = self.axes[Axis.LEFT_TRIGGER if side == "left" else Axis.RIGHT_TRIGGER]
        return 1.0 - min(1.0, max(0.0, trigger))

    def let_go(self) -> Controls:
        """As if nothing were held but the triggers: a hand that has taken something keeps it."""
        return Controls((*self.axes[: Axis.LEFT_SQUEEZE], *(0.0,) * (len(Axis) - Axis.LEFT_SQUEEZE)))


@dataclass(frozen=True)
class MotionFrame:
    """Everything tracked of the trainer at `stamp_ns`.

    `poses` maps body points (`retargeting.body_points`) to ``(7,)`` poses in the `trainer` frame;
    a point that is not tracked is absent. Raises `InvalidMotion` on an unknown point, a wrong
    shape, a non-finite value, a position beyond `LARGEST_DISTANCE_M` or a quaternion that is not of
    norm 1 (to 1e-3).
    """

    stamp_ns: int
    poses: Mapping[str, Array]
    controls: Controls = field(default_factory=Controls)

    def __post_init__(self) -> None:
        if self.poses.keys() <= BODY_POINT_SET and _all_sound(list(self.poses.values())):
            return
        for name, pose in self.poses.items():
            if name not in BODY_POINT_SET:
                raise InvalidMotion(f"unknown body point {name!r} (see retargeting.body_points)")
            if pose.shape != (7,):
                raise InvalidMotion(f"{name}: pose has shape {pose.shape}, (7,) expected")
            if not np.isfinite(pose).all():
                raise InvalidMotion(f"{name}: non-finite pose {pose.tolist()}")
            if np.abs(pose[:3]).max() > LARGEST_DISTANCE_M:
                raise InvalidMotion(
                    f"{name}: position {pose[:3].tolist()} is over {LARGEST_DISTANCE_M:g} m away; "
                    "metres are expected"
                )
            norm = float(pose[3:] @ pose[3:]) ** 0.5
            if abs(norm - 1.0) > 1e-3:
                raise InvalidMotion(f"{name}: quaternion norm is {norm:.6f}, 1 +- 0.001 expected")


def _all_sound(poses: list[Array]) -> bool:
    """Whether nothing is wrong with any pose, all at once: ninety times a second for seventy points."""
    if not poses or any(pose.shape != (7,) for pose in poses):
        return not poses
    table = np.array(poses)
    norms = np.sqrt(np.einsum("ij,ij->i", table[:, 3:], table[:, 3:]))
    # What is not a number is not within bounds either.
    near = bool((np.abs(table[:, :3]) <= LARGEST_DISTANCE_M).all())
    return near and bool((np.abs(norms - 1.0) <= 1e-3).all())
