"""A parametric human hand: bones of an average adult, joint angles inside human limits.

A posture is ``(5, 4)`` rad in the order of `FINGERS`: the thumb's metacarpal flexion and abduction,
proximal and distal flexion; the fingers' knuckle flexion and abduction, intermediate and distal flexion.
"""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import least_squares

from retargeting.body_points import FINGERS
from retargeting.frames import (
    pose_apply,
    quaternion_from_rotation_vector,
    rotation_matrix_from_quaternion,
)
from retargeting.motion_frame import Axis, Controls, MotionFrame

LOWER = np.array([[-0.3, -0.4, 0.0, -0.1]] + [[-0.3, -0.3, 0.0, 0.0]] * 4)
UPPER = np.array([[0.7, 0.6, 0.9, 1.2]] + [[1.5, 0.3, 1.8, 1.2]] * 4)
# Right hand, axes of the wrist: x along the fingers, y to the thumb, z out of the back.
BASES = np.array(
    [
        [0.022, 0.022, -0.012],
        [0.092, 0.024, 0.0],
        [0.095, 0.004, 0.003],
        [0.088, -0.014, 0.0],
        [0.080, -0.031, -0.004],
    ]
)
BONES = np.array(
    [
        [0.046, 0.034, 0.028],
        [0.045, 0.026, 0.022],
        [0.050, 0.030, 0.023],
        [0.046, 0.028, 0.023],
        [0.036, 0.020, 0.020],
    ]
)
# Where the thumb points and bends to at zero.
THUMB_POINTS, THUMB_BENDS = np.array([0.75, 0.5, -0.35]), np.array([0.0, -0.8, -0.6])
WRIST = np.array([0.3, -0.2, 1.1, *quaternion_from_rotation_vector([0.4, -0.3, 0.9])])


def _turn(axis, angle):
    return rotation_matrix_from_quaternion(quaternion_from_rotation_vector(angle * np.asarray(axis)))


def _thumb_axes():
    x = THUMB_POINTS / np.linalg.norm(THUMB_POINTS)
    z = -(THUMB_BENDS - (THUMB_BENDS @ x) * x)
    z /= np.linalg.norm(z)
    return np.stack([x, np.cross(z, x), z], axis=1)


class TrainerHand:
    def __init__(self, side="right", scale=1.0):
        self.side, self.scale = side, scale
        self.mirror = np.array([1.0, 1.0 if side == "right" else -1.0, 1.0])

    @property
    def finger_m(self):
        return self.scale * BONES.sum(axis=1)

    def points(self, posture):
        """``(5, 4, 3)``: base, middle, distal and tip of every finger in the wrist's axes."""
        points = np.zeros((5, 4, 3))
        for f in range(5):
            flexion, abduction, middle, distal = posture[f]
            rotation = _thumb_axes() if f == 0 else np.eye(3)
            rotation = rotation @ _turn([0, 0, 1], abduction) @ _turn([0, 1, 0], flexion)
            points[f, 0] = BASES[f]
            for bone, angle in enumerate((0.0, middle, distal)):
                rotation = rotation @ _turn([0, 1, 0], angle)
                points[f, bone + 1] = points[f, bone] + rotation @ np.array([BONES[f, bone], 0.0, 0.0])
        return self.scale * points * self.mirror

    def frame(self, posture, stamp_ns=0, fingers=FINGERS, trigger=0.0, points=(), wrist=WRIST):
        """A motion frame with the `fingers` of this hand and further `points`, all at `wrist`."""
        where = pose_apply(wrist, self.points(posture))
        poses = {f"{self.side}_wrist": wrist, **{name: wrist for name in points}}
        for f, finger in enumerate(FINGERS):
            if finger not in fingers:
                continue
            names = ("metacarpal", "proximal", "distal", "tip")
            if finger != "thumb":
                names = ("proximal", "intermediate", "distal", "tip")
            for j, name in enumerate(names):
                poses[f"{self.side}_{finger}_{name}"] = np.concatenate([where[f, j], wrist[3:]])
        axes = [0.0] * len(Axis)
        axes[Axis.LEFT_TRIGGER if self.side == "left" else Axis.RIGHT_TRIGGER] = trigger
        return MotionFrame(stamp_ns, poses, Controls(tuple(axes)))


def straight():
    return np.zeros((5, 4))


def spread():
    posture = np.zeros((5, 4))
    posture[:, 1] = [0.5, 0.25, 0.08, -0.12, -0.28]
    return posture


def fist():
    posture = np.array([[0.5, 0.0, 0.6, 0.7]] + [[1.4, 0.0, 1.7, 0.9]] * 4)
    return posture


def pinch(finger, distance_m=0.012):
    """Thumb and `finger` meet, the other fingers stay half open; solved for the distance of the tips."""
    f, hand = FINGERS.index(finger), TrainerHand()
    posture = np.array([[0.2, 0.1, 0.4, 0.3]] + [[0.3, 0.0, 0.3, 0.2]] * 4)
    rows = [0, f]
    start = np.array([[0.3, 0.1, 0.5, 0.4], [0.8, 0.0, 0.9, 0.4]])

    def residual(x):
        posture[rows] = x.reshape(2, 4)
        points = hand.points(posture)
        gap = np.linalg.norm(points[f, 3] - points[0, 3]) - distance_m
        return np.concatenate([[1e3 * gap], 0.1 * (x - start.ravel())])

    result = least_squares(residual, start.ravel(), bounds=(LOWER[rows].ravel(), UPPER[rows].ravel()))
    posture[rows] = result.x.reshape(2, 4)
    return posture


def random_posture(rng):
    return rng.uniform(LOWER, UPPER)


def smooth_motion(postures, frames_between):
    """Postures ``(m, 5, 4)`` joined by smoothsteps: continuous in position and velocity."""
    motion = []
    for before, after in itertools.pairwise(postures):
        for share in np.arange(frames_between) / frames_between:
            motion.append(before + share * share * (3.0 - 2.0 * share) * (after - before))
    return [*motion, postures[-1]]
