"""A parametric standing person: where arms, trunk and head are when the hands are somewhere."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from itertools import pairwise

import numpy as np

from capture_nodes.sources.source import SourceError
from retargeting.body_points import SIDES
from retargeting.frames import (
    Array,
    quaternion_from_rotation_matrix,
    quaternion_from_rotation_vector,
    rotate,
    rotation_matrix_from_quaternion,
)

LEAST_STATURE_M, GREATEST_STATURE_M = 1.2, 2.3
# An elbow swings below the line from shoulder to wrist, a little outward and back (Kang et al.,
# ICRA 2005, take the same plane from minimal shoulder effort).
_ELBOW_DOWN, _ELBOW_OUT, _ELBOW_BACK = 1.0, 0.35, 0.3
# The head follows a look by part of the angle, the eyes do the rest.
_LOOK_YAW_SHARE, _LOOK_PITCH_SHARE = 0.4, 0.3
_SHORTEST_FLEXION = 1e-3


@dataclass(frozen=True)
class Person:
    """Segment lengths in metres, from the floor where they are heights.

    The defaults are the mean proportions of Drillis and Contini (1966; Winter 2009, fig. 4.1) at a
    stature of 1.75 m. Raises `SourceError` for a length that no body has.
    """

    shoulder_height_m: float = 1.4315
    shoulder_width_m: float = 0.36
    upper_arm_m: float = 0.3255
    forearm_m: float = 0.2555
    head_height_m: float = 1.638
    chest_height_m: float = 1.26
    pelvis_height_m: float = 0.9275
    hip_width_m: float = 0.18
    knee_height_m: float = 0.49875
    ankle_height_m: float = 0.06825

    def __post_init__(self) -> None:
        problems = []
        for item in fields(self):
            value = getattr(self, item.name)
            if not (math.isfinite(value) and 0.01 <= value <= 3.0):
                problems.append(f"person: {item.name} is {value!r}; 0.01..3 m is expected")
        heights = ("ankle", "knee", "pelvis", "chest", "shoulder", "head")
        for low, high in pairwise(heights):
            below, above = getattr(self, f"{low}_height_m"), getattr(self, f"{high}_height_m")
            if not below < above:
                problems.append(f"person: {low}_height_m {below:g} is not below {high}_height_m {above:g}")
        if problems:
            raise SourceError(*problems)

    @classmethod
    def of_stature(cls, stature_m: float) -> Person:
        """The mean proportions at another stature."""
        if not LEAST_STATURE_M <= stature_m <= GREATEST_STATURE_M:
            raise SourceError(
                f"stature_m:={stature_m:g}: {LEAST_STATURE_M}..{GREATEST_STATURE_M} m is expected"
            )
        scale = stature_m / 1.75
        return cls(**{item.name: scale * float(getattr(cls, item.name)) for item in fields(cls)})

    @property
    def reach_m(self) -> float:
        """From shoulder to wrist, arm stretched."""
        return self.upper_arm_m + self.forearm_m

    def shoulder(self, side: str) -> Array:
        """Shoulder ``(3,)`` in `trainer`, standing upright."""
        y = 0.5 * self.shoulder_width_m
        return np.array([0.0, y if side == "left" else -y, self.shoulder_height_m])

    def ready_wrist(self, side: str) -> Array:
        """Wrist pose ``(7,)`` in `trainer` with the forearm level, palm down, hands before the body."""
        forward = 0.75 * self.forearm_m + 0.2 * self.upper_arm_m
        inward = 0.02 if side == "right" else -0.02
        position = self.shoulder(side) + np.array([forward, inward, -0.92 * self.upper_arm_m])
        return np.concatenate([position, [0.0, 0.0, 0.0, 1.0]])

    def leaned_shoulder(self, side: str, lean_rad: Array) -> Array:
        """Shoulder ``(..., 3)`` with the trunk leaned forward at the pelvis by `lean_rad` ``(...)``."""
        return self._on_trunk(self.shoulder(side), lean_rad)

    def lean_for(self, targets: Mapping[str, Array], most_rad: float, comfortable: float) -> float | None:
        """The least lean (rad) that brings wrists ``(3,)`` into `comfortable` times the reach.

        Where no lean up to `most_rad` does, the one that comes nearest; `None` if even that is out
        of reach.
        """
        leans = np.linspace(0.0, most_rad, 121)
        stretch = np.max(
            [
                np.linalg.norm(target - self.leaned_shoulder(side, leans), axis=-1)
                for side, target in targets.items()
            ],
            axis=0,
        )
        enough = np.flatnonzero(stretch <= comfortable * self.reach_m)
        if len(enough):
            return float(leans[enough[0]])
        nearest = int(np.argmin(stretch))
        return float(leans[nearest]) if stretch[nearest] < self.reach_m else None

    def body(self, wrists: Mapping[str, Array], lean_rad: Array, look_at: Array) -> dict[str, Array]:
        """Every body point ``(samples, 7)`` for wrist poses ``(samples, 7)``, leans and a looked-at point.

        Raises `SourceError` naming the hand and sample where a wrist is out of reach.
        """
        trunk = quaternion_from_rotation_vector(lean_rad[:, None] * np.array([0.0, 1.0, 0.0]))
        upright = np.tile([0.0, 0.0, 0.0, 1.0], (len(lean_rad), 1))

        def standing(x: float, y: float, z: float) -> Array:
            return np.concatenate([np.tile([x, y, z], (len(lean_rad), 1)), upright], axis=-1)

        head = self._on_trunk(np.array([0.0, 0.0, self.head_height_m]), lean_rad)
        points = {
            "head": np.concatenate([head, _look(head, look_at)], axis=-1),
            "chest": np.concatenate(
                [self._on_trunk(np.array([0.0, 0.0, self.chest_height_m]), lean_rad), trunk], axis=-1
            ),
            "pelvis": standing(0.0, 0.0, self.pelvis_height_m),
        }
        for side in SIDES:
            points.update(self._arm(side, wrists[side], self.leaned_shoulder(side, lean_rad)))
            y = 0.5 * self.hip_width_m * (1.0 if side == "left" else -1.0)
            points[f"{side}_hip"] = standing(0.0, y, self.pelvis_height_m)
            points[f"{side}_knee"] = standing(0.0, y, self.knee_height_m)
            points[f"{side}_ankle"] = standing(0.0, y, self.ankle_height_m)
        return points

    def _on_trunk(self, point: Array, lean_rad: Array) -> Array:
        pelvis = np.array([0.0, 0.0, self.pelvis_height_m])
        turn = quaternion_from_rotation_vector(np.asarray(lean_rad)[..., None] * np.array([0.0, 1.0, 0.0]))
        result: Array = pelvis + rotate(turn, point - pelvis)
        return result

    def _arm(self, side: str, wrist: Array, shoulder: Array) -> dict[str, Array]:
        """Two-link inverse kinematics in closed form; the swivel angle is the natural one."""
        sign = 1.0 if side == "left" else -1.0
        upper, fore = self.upper_arm_m, self.forearm_m
        line = wrist[:, :3] - shoulder
        distance = np.linalg.norm(line, axis=-1, keepdims=True)
        worst = int(np.argmax(distance))
        if distance[worst, 0] > self.reach_m:
            raise SourceError(
                f"script: the {side} wrist would be {distance[worst, 0]:.3f} m from the shoulder "
                f"(sample {worst}); the arm reaches {self.reach_m:.3f} m. "
                f"Bring object and goal nearer, or take a taller person"
            )
        least = abs(upper - fore) + _SHORTEST_FLEXION
        worst = int(np.argmin(distance))
        if distance[worst, 0] < least:
            raise SourceError(
                f"script: the {side} wrist would be {distance[worst, 0]:.3f} m from the shoulder "
                f"(sample {worst}); the arm folds to {least:.3f} m. Move object and goal away from the body"
            )
        line = line / distance
        down = np.array([-_ELBOW_BACK, sign * _ELBOW_OUT, -_ELBOW_DOWN])
        swivel = _unit(down - np.sum(down * line, axis=-1, keepdims=True) * line)
        along = (upper**2 - fore**2 + distance**2) / (2.0 * distance)
        aside = np.sqrt(np.maximum(0.0, upper**2 - along**2))
        elbow = shoulder + along * line + aside * swivel
        # The elbow is a hinge: its axis, perpendicular to the plane of the arm, is the shoulder's z.
        hinge = sign * np.cross(line, swivel)
        dorsal = rotation_matrix_from_quaternion(wrist[:, 3:])[..., 2]
        return {
            f"{side}_shoulder": np.concatenate([shoulder, _axes(elbow - shoulder, hinge)], axis=-1),
            f"{side}_elbow": np.concatenate([elbow, _axes(wrist[:, :3] - elbow, dorsal)], axis=-1),
            f"{side}_wrist": wrist,
        }


def _unit(vectors: Array) -> Array:
    result: Array = vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)
    return result


def _axes(x: Array, z: Array) -> Array:
    """Quaternions ``(samples, 4)`` with the given x, and z as near as can be to the given one."""
    x = _unit(x)
    z = _unit(z - np.sum(z * x, axis=-1, keepdims=True) * x)
    return quaternion_from_rotation_matrix(np.stack([x, np.cross(z, x), z], axis=-1))


def _look(head: Array, target: Array) -> Array:
    """Head quaternions that turn part of the way towards a point."""
    x, y, z = np.moveaxis(target - head, -1, 0)
    yaw = _LOOK_YAW_SHARE * np.arctan2(y, x)
    pitch = _LOOK_PITCH_SHARE * np.arctan2(-z, np.hypot(x, y))
    zeros = np.zeros_like(yaw)
    # Rz(yaw) Ry(pitch), written out.
    cy, sy, cp, sp = np.cos(yaw / 2), np.sin(yaw / 2), np.cos(pitch / 2), np.sin(pitch / 2)
    return np.stack([zeros - sy * sp, cy * sp, sy * cp, cy * cp], axis=-1)
