"""Which way a robot faces and which of its arms is the left one.

No single sign is enough: bases point backwards, names carry no side, cameras are on arms. Every sign
votes for one of the directions that the shoulders leave open, with a weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.onboarding.arm_points import axis_point_near, find_elbow, shoulder_point, wrist_point
from retargeting.onboarding.evidence import Finding, Vote, decide
from retargeting.onboarding.limbs import Limb, Limbs, nearest_axis
from retargeting.onboarding.name_signs import WORDS, side_of
from retargeting.onboarding.skeleton import Skeleton, travel

Array = NDArray[np.float64]

# Of weights: the convention that x points ahead counts 1, sides in the names 4.
_CONVENTION, _NAMES, _SIGHT, _TOES, _FOLDING, _REACH, _BENDING = 1.0, 4.0, 2.0, 2.0, 1.5, 1.5, 1.0
# A travel is one-sided when one end is this much farther than the other.
_UNEVEN = 1.3
# Robots are drawn along their axes; a direction this near to an axis is meant to be it (cosine).
_ALONG_AXIS = 0.94


@dataclass(frozen=True)
class Facing:
    """`forward`, `up` ``(3,)`` unit vectors in the root; `arms` by side."""

    forward: Array
    up: Array
    arms: dict[str, Limb]
    findings: tuple[Finding, ...]

    @property
    def left(self) -> Array:
        left: Array = np.cross(self.up, self.forward)
        return left


def _horizontal(vector: Array, up: Array) -> Array:
    flat: Array = vector - up * float(up @ vector)
    return flat


def _direction_name(direction: Array) -> str:
    axis, name = nearest_axis(direction)
    if float(axis @ direction) > 0.999:
        return name
    return "(" + ", ".join(f"{value:.2f}" for value in direction) + ")"


def _directions(skeleton: Skeleton, limbs: Limbs) -> dict[str, Array]:
    """Where the robot may face: across the line between its shoulders, else along any level axis."""
    up = limbs.up
    if len(limbs.arms) == 2:
        a, b = (
            np.mean([skeleton.rest.origin(name) for name in arm.joints[:3]], axis=0) for arm in limbs.arms
        )
        between = _horizontal(a - b, up)
        if np.linalg.norm(between) > 0.02:
            forward = np.cross(between / np.linalg.norm(between), up)
            axis, _ = nearest_axis(forward)
            if float(axis @ forward) > _ALONG_AXIS:
                forward = axis
            return {_direction_name(sign * forward): sign * forward for sign in (1.0, -1.0)}
    found = {}
    for k in range(3):
        for sign in (1.0, -1.0):
            axis = np.zeros(3)
            axis[k] = sign
            if abs(float(axis @ up)) < 0.5:
                found[_direction_name(axis)] = axis
    return found


def _nearest(directions: dict[str, Array], vector: Array, least: float) -> str:
    """The direction that a vector points along, or "" where it is shorter than `least` or ambiguous."""
    along = {name: float(direction @ vector) for name, direction in directions.items()}
    best = max(along, key=lambda name: along[name])
    return best if along[best] > max(least, 0.5 * float(np.linalg.norm(vector))) else ""


class _Signs:
    """The votes on where a robot faces."""

    def __init__(self, skeleton: Skeleton, limbs: Limbs) -> None:
        self.skeleton, self.limbs = skeleton, limbs
        self.directions = _directions(skeleton, limbs)
        self.votes: list[Vote] = []

    def vote(self, vector: Array, weight: float, reason: str, least: float = 0.0) -> None:
        flat = _horizontal(vector, self.limbs.up)
        choice = _nearest(self.directions, flat, least)
        if choice:
            self.votes.append(Vote(choice, weight, reason))

    def convention(self) -> None:
        for axis in (np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])):
            if _nearest(self.directions, _horizontal(axis, self.limbs.up), 0.5):
                self.vote(axis, _CONVENTION, "the root's x (REP-103)" if axis[0] else "the root's y")
                return

    def named_sides(self, named: Sequence[str]) -> None:
        rest, arms = self.skeleton.rest, self.limbs.arms
        if len(arms) == 2 and sorted(named) == ["left", "right"]:
            base = {
                side: np.mean([rest.origin(n) for n in arm.joints[:3]], axis=0)
                for side, arm in zip(named, arms, strict=True)
            }
            forward = np.cross(base["left"] - base["right"], self.limbs.up)
            self.vote(forward, _NAMES, "left and right in the joints' names")
            return
        legs = {side_of(leg.joints): leg for leg in self.limbs.legs}
        if "left" in legs and "right" in legs:
            apart = rest.origin(legs["left"].first) - rest.origin(legs["right"].first)
            self.vote(np.cross(apart, self.limbs.up), _NAMES, "left and right in the legs' names")

    def sight(self) -> None:
        """Cameras and eyes of head and trunk look ahead (those on arms look at the hand)."""
        rest, head = self.skeleton.rest, self.limbs.head
        owners = [*(head.joints if head else ()), *self.limbs.waist[-1:]]
        pivot = rest.origin(head.first) if head else None
        looks = []
        for owner in owners:
            for link in self.skeleton.carried_links[owner]:
                name = link.lower()
                if not any(word in name for word in WORDS["sight"]):
                    continue
                rotation = rest.rotation(link)
                if "optical" in name:
                    looks.append(rotation[:, 2])
                elif pivot is not None and owner in (head.joints if head else ()):
                    offset = _horizontal(rest.link_origin(link) - pivot, self.limbs.up)
                    if np.linalg.norm(offset) > 0.015:
                        looks.append(offset / np.linalg.norm(offset))
        if looks:
            self.vote(np.mean(looks, axis=0), _SIGHT, "its cameras or eyes", 0.3)

    def toes(self) -> None:
        rest = self.skeleton.rest
        for leg in self.limbs.legs:
            if len(self.skeleton.own(leg.joints)) < 4 or len(self.limbs.legs) > 2:
                continue
            ankle = rest.origin(leg.last)
            toes = [link for link in self.skeleton.carried_links[leg.last] if "toe" in link.lower()]
            if toes:
                self.vote(
                    np.mean([rest.link_origin(t) for t in toes], axis=0) - ankle, _TOES, "its toes", 0.02
                )
                continue
            points = self.skeleton.body_points(leg.last, rest)
            self.vote(points.mean(axis=0) - ankle, 0.5 * _TOES, "its feet", 0.01)

    def bending(self) -> None:
        """Trunks and heads bend ahead farther than back; thighs are raised ahead."""
        up, head = self.limbs.up, self.limbs.head
        for joints, weight, upward, what in (
            (self.limbs.waist, _BENDING, 1.0, "its waist bends that way"),
            (head.joints if head else (), 0.5 * _BENDING, 1.0, "its head nods that way"),
            *((leg.joints[:3], 0.5 * _BENDING, -1.0, "its thighs rise that way") for leg in self.limbs.legs),
        ):
            for joint in self.skeleton.own(joints):
                lower, upper = travel(self.skeleton.urdf.joints[joint])
                if self.skeleton.urdf.joints[joint].kind == "prismatic":
                    continue
                sign = 1.0 if upper > _UNEVEN * -lower else -1.0 if -lower > _UNEVEN * upper else 0.0
                tilt = sign * upward * np.cross(self.skeleton.rest.axis(joint), up)
                if what.startswith("its thighs") and len(self.limbs.legs) > 2:
                    continue
                self.vote(tilt, weight, what, 0.8)

    def folding(self) -> None:
        """Elbows bring the forearm ahead."""
        rest = self.skeleton.rest
        if len(self.limbs.arms) < 2:
            return
        for arm in self.limbs.arms:
            elbow = find_elbow(self.skeleton, arm).elbow
            if elbow is None:
                continue
            lower, upper = travel(self.skeleton.urdf.joints[elbow])
            sign = 1.0 if upper > _UNEVEN * -lower else -1.0 if -lower > _UNEVEN * upper else 0.0
            point = axis_point_near(rest, elbow, shoulder_point(rest, arm, elbow))
            forearm = wrist_point(rest, arm) - point
            length = float(np.linalg.norm(forearm))
            if length > 1e-3:
                swing = sign * np.cross(rest.axis(elbow), forearm / length)
                self.vote(swing, 0.5 * _FOLDING, "its elbows fold that way", 0.6)

    def reach(self, named: Sequence[str]) -> None:
        """An arm on a fixed base stretches ahead in the middle of its travel; one of a body, sideways too."""
        if len(self.limbs.arms) != 1:
            return
        arm, mid = self.limbs.arms[0], self.skeleton.mid
        base = mid.origin(arm.first)
        tip = wrist_point(mid, arm)
        length_m = sum(self.skeleton.lengths_m[name] for name in arm.joints[1:])
        of_a_body = bool(self.limbs.legs) or self.limbs.head is not None or any(named)
        weight = 0.25 * _REACH if of_a_body else _REACH
        self.vote(tip - base, weight, "its arm stretches that way in mid-travel", 0.25 * length_m)


def _single_side(skeleton: Skeleton, arm: Limb, left: Array, named: str) -> tuple[str, Finding]:
    """The side of an arm that is alone."""
    votes = [Vote("right", 1.0, "an arm alone counts as right")]
    if named:
        votes.append(Vote(named, _NAMES, "its joints' names"))
    if arm.trunk:
        length_m = sum(skeleton.lengths_m[name] for name in arm.joints[1:])
        base = skeleton.rest.origin(arm.first) - skeleton.rest.origin(arm.trunk[0])
        off = float(left @ base)
        if abs(off) > 0.15 * length_m:
            votes.append(Vote("left" if off > 0.0 else "right", 1.0, "where it is mounted"))
        mid = skeleton.mid
        reach = float(left @ (wrist_point(mid, arm) - mid.origin(arm.first)))
        if abs(reach) > 0.5 * length_m:
            votes.append(Vote("left" if reach > 0.0 else "right", 1.5, "where it reaches in mid-travel"))
    side, why, sure = decide(votes, {"left": None, "right": None})
    return side, Finding(f"{arm.first} … is the {side} arm", why, sure)


def find_facing(skeleton: Skeleton, limbs: Limbs) -> Facing:
    """Where the robot faces and the arm of each side."""
    named = [side_of((*arm.joints, *arm.hand)) for arm in limbs.arms]
    signs = _Signs(skeleton, limbs)
    signs.convention()
    signs.named_sides(named)
    signs.sight()
    signs.toes()
    signs.bending()
    signs.folding()
    signs.reach(named)
    choice, why, sure = decide(signs.votes, signs.directions)
    forward = signs.directions[choice]
    left = np.cross(limbs.up, forward)
    findings = [Finding(f"it faces {choice}", why, sure)]
    if len(limbs.arms) == 1:
        side, finding = _single_side(skeleton, limbs.arms[0], left, named[0])
        return Facing(forward, limbs.up, {side: limbs.arms[0]}, (*findings, finding))
    rest = skeleton.rest
    a, b = limbs.arms
    apart = np.mean([rest.origin(n) for n in a.joints[:3]], axis=0) - np.mean(
        [rest.origin(n) for n in b.joints[:3]], axis=0
    )
    by_place = ("left", "right") if float(left @ apart) > 0.0 else ("right", "left")
    by_name = tuple(named) if sorted(named) == ["left", "right"] else None
    sides = by_name or by_place
    arms = dict(zip(sides, (a, b), strict=True))
    why = "the names of its joints" if by_name else f"where it faces ({choice})"
    agree = by_name is None or by_name == by_place
    if not agree:
        why += "; but where it faces says the opposite"
    for side in ("left", "right"):
        findings.append(
            Finding(f"{arms[side].first} … is the {side} arm", why, agree and (sure or bool(by_name)))
        )
    return Facing(forward, limbs.up, {side: arms[side] for side in ("left", "right")}, tuple(findings))
