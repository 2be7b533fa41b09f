"""Shoulder, elbow and wrist of an arm, from where its joint axes run.

Link frames lie where a maker's drawing put them; axes do not lie. The shoulder is the point nearest
to the axes before the elbow, the wrist the point of the last axis nearest to the axis before it, and
the elbow the joint that folds the arm: the one whose axis is far from both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.limbs import Limb
from retargeting.onboarding.skeleton import Posture, Skeleton, travel

Array = NDArray[np.float64]

# A joint named "elbow" needs this much less of a fold to be one.
_NAME_BONUS = 1.5
# An elbow stands off the line from shoulder to wrist by at least this share of the arm's length.
_LEAST_FOLD_SHARE = 0.12
_SAMPLES = 12


@dataclass(frozen=True)
class ArmPoints:
    """`elbow` is None where the arm has none (a telescope)."""

    elbow: str | None
    before: tuple[str, ...]
    finding: Finding


def point_near_axes(origins: Sequence[Array], axes: Sequence[Array], weights: Sequence[float]) -> Array:
    """The point ``(3,)`` with the least weighted sum of squared distances to lines; near their origins
    where they leave it open."""
    matrix, right = np.zeros((3, 3)), np.zeros(3)
    for origin, axis, weight in zip(origins, axes, weights, strict=True):
        across = weight * (np.eye(3) - np.outer(axis, axis)) + 1e-6 * np.eye(3)
        matrix += across
        right += across @ origin
    point: Array = np.asarray(np.linalg.solve(matrix, right), dtype=np.float64)
    return point


def distance_to_axis(point: Array, origin: Array, axis: Array) -> float:
    return float(np.linalg.norm(np.cross(point - origin, axis)))


def axis_point_near(posture: Posture, joint: str, point: Array) -> Array:
    """The point ``(3,)`` of a joint's axis that is nearest to `point`."""
    origin, axis = posture.origin(joint), posture.axis(joint)
    near: Array = origin + axis * float(axis @ (point - origin))
    return near


def _turning(skeleton: Skeleton, joints: Sequence[str]) -> list[str]:
    return [name for name in joints if skeleton.urdf.joints[name].kind != "prismatic"]


def _centre(posture: Posture, joints: Sequence[str], joint: str) -> Array:
    """Where the axes of `joints` meet; along what they leave open, near the axis of `joint`."""
    names = [*joints, joint]
    weights = [1.0] * len(joints) + [1e-2]
    return point_near_axes([posture.origin(n) for n in names], [posture.axis(n) for n in names], weights)


def shoulder_point(posture: Posture, arm: Limb, elbow: str | None) -> Array:
    """The shoulder ``(3,)`` in a posture: where the last three axes before the elbow meet."""
    skeleton = posture.skeleton
    joints = list(arm.joints)
    before = _turning(skeleton, joints[: joints.index(elbow)] if elbow else joints[:1])[-3:]
    if not before:
        return posture.origin(arm.first)
    return _centre(posture, before, elbow or before[-1])


def wrist_point(posture: Posture, arm: Limb) -> Array:
    """The wrist ``(3,)`` in a posture: the point of the last axis nearest to the axis before it."""
    joints = _turning(posture.skeleton, arm.joints)
    if not joints:
        return posture.origin(arm.last)
    last = joints[-1]
    origin, axis = posture.origin(last), posture.axis(last)
    for other in reversed(joints[:-1]):
        across = np.cross(axis, posture.axis(other))
        if np.linalg.norm(across) > 0.2:
            return point_near_axes([origin, posture.origin(other)], [axis, posture.axis(other)], [1e4, 1.0])
    return origin


def find_elbow(skeleton: Skeleton, arm: Limb) -> ArmPoints:
    """The joint that folds the arm, and the joints before it."""
    joints = arm.joints
    turning = _turning(skeleton, joints)
    rng = np.random.default_rng(0)
    ranges = [travel(skeleton.urdf.joints[name]) for name in joints]
    folds = dict.fromkeys(turning[1:-1], 0.0)
    for _ in range(_SAMPLES):
        positions = {name: rng.uniform(*ends) for name, ends in zip(joints, ranges, strict=True)}
        posture = skeleton.posture(positions)
        for joint in folds:
            k = turning.index(joint)
            shoulder = _centre(posture, turning[max(0, k - 3) : k], joint)
            wrist = _centre(posture, turning[k + 1 : k + 4], joint)
            line = posture.origin(joint), posture.axis(joint)
            fold = min(distance_to_axis(shoulder, *line), distance_to_axis(wrist, *line))
            folds[joint] += fold / _SAMPLES
    length_m = sum(skeleton.lengths_m[name] for name in joints[1:])
    named = [name for name in folds if "elb" in f"{name} {skeleton.urdf.joints[name].child}".lower()]
    scores = {name: fold * (_NAME_BONUS if name in named else 1.0) for name, fold in folds.items()}
    best = max(scores, key=lambda name: scores[name], default=None)
    if best is None or folds[best] < _LEAST_FOLD_SHARE * length_m:
        return ArmPoints(None, joints, Finding("no elbow", "no joint folds the arm", sure=best is None))
    others = max((fold for name, fold in folds.items() if name != best), default=0.0)
    sure = folds[best] > 1.5 * others or best in named
    why = f"its axis is {folds[best]:.2f} m off shoulder and wrist"
    why += f" (the next joint's {others:.2f} m)" if others else ""
    if best in named:
        why += ", and its name"
    elif named:
        sure, why = False, f"{why}; but {named[0]} is called elbow"
    return ArmPoints(best, joints[: joints.index(best)], Finding(f"elbow: {best}", why, sure))
