"""Shoulder, elbow and wrist of an arm, from where its joint axes run.

Link frames lie where a maker's drawing put them; axes do not lie. The shoulder is the point nearest
to the axes before the elbow, the wrist the point of the last axis nearest to the axis before it, and
the elbow the joint that folds the arm: the one whose axis is far from both. Arms may end early: where
only a roll follows the elbow the wrist is at that joint, where nothing does, at the forearm's end.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import pose_apply
from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.finger_pads import shape_points
from retargeting.onboarding.limbs import Limb
from retargeting.onboarding.skeleton import Posture, Skeleton, travel

Array = NDArray[np.float64]

# A joint named "elbow" needs this much less of a fold to be one.
_NAME_BONUS = 1.5
# An elbow stands off the line from shoulder to wrist by at least this share of the arm's length.
_LEAST_FOLD_SHARE = 0.12
_SAMPLES = 12
_SINE_OF_PARALLEL = 0.2
# An arm whose elbow is its last joint has at most as many: three for the shoulder, a roll, the elbow.
_MOST_TO_ELBOW = 5
# A roll joint this near (m) to the elbow's axis is part of the elbow, not of the wrist.
_LEAST_FOREARM_M = 0.04
# What a roll joint carries is this near to its axis, by its distance along it.
_ROLLS_OFF_SHARE = 0.6
_HAND_FRAMES = ("hand", "wrist", "palm", "ee_", "_ee", "tool", "gripper", "end_effector")
# Where nothing marks it, the wrist is this far along a forearm that is drawn with its hand.
_WRIST_OF_FOREARM = 0.75


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


def _parallel(posture: Posture, joint: str, other: str) -> bool:
    return float(np.linalg.norm(np.cross(posture.axis(joint), posture.axis(other)))) <= _SINE_OF_PARALLEL


def _end_of_forearm(posture: Posture, arm: Limb, start: Array) -> Array:
    """Where an arm without a wrist ends ``(3,)``: at its hand's frame, else the end of its last body."""
    skeleton = posture.skeleton
    links = skeleton.carried_links[arm.last][1:]
    named = [link for link in links if any(word in link.lower() for word in _HAND_FRAMES)]
    points = [posture.link_origin(link) for link in named]
    points += [posture.origin(joint) for joint in arm.hand if skeleton.carrier[joint] == arm.last]
    if not points:
        body = skeleton.body_points(arm.last, posture)
        drawn = [
            pose_apply(posture.link_pose(link), shape_points(shape))
            for link in skeleton.carried_links[arm.last]
            for shape in (skeleton.urdf.links[link].collisions or skeleton.urdf.links[link].visuals)
        ]
        everything = np.concatenate([body, *drawn])
        far = everything[int(np.argmax(np.linalg.norm(everything - start, axis=1)))]
        # Without shapes the mark is the middle of the forearm's mass.
        share = _WRIST_OF_FOREARM if any(map(len, drawn)) else 2.0 * _WRIST_OF_FOREARM
        end: Array = start + share * (far - start)
        return end
    middle: Array = np.mean(points, axis=0)
    return middle


def _beyond_elbow(posture: Posture, arm: Limb, elbow: str) -> Array | None:
    """The wrist ``(3,)`` of an arm with no joint, or only rolls, beyond its elbow; None of any other."""
    joints = _turning(posture.skeleton, arm.joints)
    after = joints[joints.index(elbow) + 1 :]
    origin, axis = posture.origin(elbow), posture.axis(elbow)
    if not after:
        return _end_of_forearm(posture, arm, origin)
    if not all(_parallel(posture, joint, after[-1]) for joint in after) or _parallel(
        posture, after[-1], elbow
    ):
        return None
    last = posture.origin(after[-1])
    end = _end_of_forearm(posture, arm, last)
    off_roll = distance_to_axis(end, last, posture.axis(after[-1]))
    beyond_m = float(np.linalg.norm(end - last))
    if beyond_m > _LEAST_FOREARM_M and off_roll > _ROLLS_OFF_SHARE * beyond_m:
        # It swings what is beyond it instead of rolling it: the elbow comes after `elbow`.
        return None
    if distance_to_axis(last, origin, axis) > _LEAST_FOREARM_M:
        return last
    return _end_of_forearm(posture, arm, origin)


def wrist_point(posture: Posture, arm: Limb) -> Array:
    """The wrist ``(3,)`` in a posture: the point of the last axis nearest to the axis before it."""
    joints = _turning(posture.skeleton, arm.joints)
    if not joints:
        return posture.origin(arm.last)
    elbow = find_elbow(posture.skeleton, arm).elbow
    beyond = None if elbow is None else _beyond_elbow(posture, arm, elbow)
    if beyond is not None:
        return beyond
    last = joints[-1]
    origin, axis = posture.origin(last), posture.axis(last)
    for other in reversed(joints[:-1]):
        if not _parallel(posture, last, other):
            return point_near_axes([origin, posture.origin(other)], [axis, posture.axis(other)], [1e4, 1.0])
    return origin


def _folds(skeleton: Skeleton, arm: Limb, candidates: Sequence[str]) -> dict[str, float]:
    """How far (m) the axis of each candidate is from shoulder and wrist, the nearer; over random postures."""
    turning = _turning(skeleton, arm.joints)
    rng = np.random.default_rng(0)
    ranges = [travel(skeleton.urdf.joints[name]) for name in arm.joints]
    folds = dict.fromkeys(candidates, 0.0)
    for _ in range(_SAMPLES):
        positions = {name: rng.uniform(*ends) for name, ends in zip(arm.joints, ranges, strict=True)}
        posture = skeleton.posture(positions)
        for joint in folds:
            k = turning.index(joint)
            shoulder = _centre(posture, turning[max(0, k - 3) : k], joint)
            wrist = _beyond_elbow(posture, arm, joint)
            if wrist is None:
                wrist = _centre(posture, turning[k + 1 : k + 4], joint)
            line = posture.origin(joint), posture.axis(joint)
            fold = min(distance_to_axis(shoulder, *line), distance_to_axis(wrist, *line))
            folds[joint] += fold / _SAMPLES
    return folds


# Asked for anew by everything that needs an elbow or a wrist; a robot has two arms.
@lru_cache(maxsize=8)
def find_elbow(skeleton: Skeleton, arm: Limb) -> ArmPoints:
    """The joint that folds the arm, and the joints before it."""
    joints = arm.joints
    turning = _turning(skeleton, joints)
    length_m = sum(skeleton.lengths_m[name] for name in joints[1:])
    folds = _folds(skeleton, arm, turning[1:-1])
    if (
        max(folds.values(), default=0.0) < _LEAST_FOLD_SHARE * length_m
        and 3 <= len(turning) <= _MOST_TO_ELBOW
    ):
        # The arm of a small humanoid may end in its elbow.
        folds |= _folds(skeleton, arm, turning[-1:])
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


def wrist_finding(skeleton: Skeleton, arm: Limb) -> tuple[str, bool]:
    """Why the wrist is where it is, and whether that is sure."""
    joints = _turning(skeleton, arm.joints)
    elbow = find_elbow(skeleton, arm).elbow
    if elbow is not None and elbow == joints[-1]:
        return "at the end of the forearm: no joint follows the elbow", False
    if elbow is not None and _beyond_elbow(skeleton.rest, arm, elbow) is not None:
        return "at its last joint: only a roll follows the elbow", True
    return ("where the last axis passes the one before it" if len(joints) > 1 else "its last joint"), True
