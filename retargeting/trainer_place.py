"""Where a trainer's body is: heading and shoulders, from whatever of it is tracked.

The wrists are taken relative to this. Where chest, pelvis or shoulders are tracked they tell it. With a
headset alone it is found from the head, so that looking around does not count as turning: the shoulders hang
on the neck, about which the head turns, and the body's heading follows the head's only as far
as a neck cannot turn. `TrainerPlacer.recentre` takes the direction in which the head looks then.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.frames import (
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    yaw_of_direction,
)
from retargeting.tracked_motion import TrackedMotion
from retargeting.trainer_size import AVERAGE_SHOULDER_HEIGHT_M, TrainerSize

Array = NDArray[np.float64]

# Of an average adult, in m: from the eyes to the middle of the neck's joints (head's axes), from there
# to the middle between the shoulders, and from the chest point there (chest's axes).
_HEAD_TO_NECK = np.array([-0.08, 0.0, -0.12])
_NECK_TO_SHOULDERS = np.array([0.0, 0.0, -0.14])
_CHEST_TO_SHOULDERS = np.array([0.0, 0.0, 0.17])
_HALF_WIDTH_M = 0.19
# Rotation of the neck to a side: 70-80° at the most, 60° with some comfort.
_LARGEST_NECK_TURN_RAD = 1.05
_X, _Y = np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])


@dataclass(frozen=True)
class TrainerPlace:
    """In `trainer`: heading ``(4,)``, a rotation about gravity; shoulders ``(3,)`` of the sides known.

    trunk_turn ``(4,)``: how the chest is turned from upright, in the axes of the heading; None where it is
    not tracked.
    """

    heading: Array
    shoulders: dict[str, Array]
    trunk_turn: Array | None = None

    @cached_property
    def inverse_heading(self) -> Array:
        return quaternion_inverse(self.heading)


def _yaw(pose: Array) -> float:
    forward = rotate(pose[3:], _X)
    if math.hypot(forward[0], forward[1]) < 0.2:
        # Facing the floor or the ceiling: the left-hand axis still tells the heading.
        left = rotate(pose[3:], _Y)
        forward = np.array([left[1], -left[0], 0.0])
    return float(yaw_of_direction(forward))


def _wrapped(angle_rad: float) -> float:
    return (angle_rad + math.pi) % (2.0 * math.pi) - math.pi


def trunk_yaw(motion: TrackedMotion) -> float | None:
    """Heading (rad) of the pelvis, else the chest, else the line of the shoulders; None without."""
    for point in ("pelvis", "chest"):
        pose = motion.poses.get(point)
        if pose is not None:
            return _yaw(pose)
    left, right = (motion.poses.get(f"{side}_shoulder") for side in SIDES)
    if left is None or right is None or math.dist(left[:2], right[:2]) < 0.1:
        return None
    across = left[:3] - right[:3]
    return float(yaw_of_direction([across[1], -across[0], 0.0]))


def shoulder_positions(
    motion: TrackedMotion, heading: Array, size: TrainerSize | None = None
) -> dict[str, Array]:
    """Shoulders ``(3,)`` in `trainer`: as tracked, else from the chest, else from the head, else none."""
    half_width_m, scale = _HALF_WIDTH_M, 1.0
    if size is not None:
        half_width_m = 0.5 * size.shoulder_width_m
        scale = size.shoulder_height_m / AVERAGE_SHOULDER_HEIGHT_M
    found = {}
    chest, head = motion.poses.get("chest"), motion.poses.get("head")
    for side, sign in zip(SIDES, (1.0, -1.0), strict=True):
        shoulder = motion.poses.get(f"{side}_shoulder")
        aside = np.array([0.0, sign * half_width_m, 0.0])
        if shoulder is not None:
            found[side] = shoulder[:3]
        elif chest is not None:
            found[side] = chest[:3] + rotate(chest[3:], scale * _CHEST_TO_SHOULDERS + aside)
        elif head is not None:
            neck = head[:3] + rotate(head[3:], scale * _HEAD_TO_NECK)
            found[side] = neck + rotate(heading, scale * _NECK_TO_SHOULDERS + aside)
    return found


class TrainerPlacer:
    """Places one trainer frame by frame; remembers the heading where only the head is tracked."""

    def __init__(self) -> None:
        self._yaw_rad: float | None = None

    def recentre(self) -> None:
        """Take the heading anew from the next frame."""
        self._yaw_rad = None

    def place(self, motion: TrackedMotion, size: TrainerSize | None = None) -> TrainerPlace:
        """Where the trainer is; without shoulders where not even a head is tracked."""
        yaw_rad = trunk_yaw(motion)
        if yaw_rad is None:
            yaw_rad = self._yaw_by_head(motion)
        self._yaw_rad = yaw_rad
        heading = quaternion_from_rotation_vector([0.0, 0.0, yaw_rad or 0.0])
        chest = motion.poses.get("chest")
        turn = None if chest is None else quaternion_multiply(quaternion_inverse(heading), chest[3:])
        return TrainerPlace(heading, shoulder_positions(motion, heading, size), turn)

    def _yaw_by_head(self, motion: TrackedMotion) -> float | None:
        head = motion.poses.get("head")
        if head is None:
            return self._yaw_rad
        looking_rad = _yaw(head)
        if self._yaw_rad is None:
            return looking_rad
        turned_rad = _wrapped(looking_rad - self._yaw_rad)
        beyond_rad = turned_rad - min(max(turned_rad, -_LARGEST_NECK_TURN_RAD), _LARGEST_NECK_TURN_RAD)
        return _wrapped(self._yaw_rad + beyond_rad)


def place_trainer(motion: TrackedMotion, size: TrainerSize | None = None) -> TrainerPlace:
    """Where the trainer of a single frame is, without memory: the head looks where the body faces."""
    return TrainerPlacer().place(motion, size)
