"""The trunk and the limbs of a body: where the tree of joints forks, and what each branch is."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retargeting.errors import RetargetingError
from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.name_signs import WORDS, count
from retargeting.onboarding.skeleton import Skeleton, travel

Array = NDArray[np.float64]
LimbKind = Literal["arm", "leg", "head", "finger", "other"]

# A fork is a hand when all its branches are this short, absolutely (m) and against the limb's own length.
_LONGEST_FINGER_M, _LONGEST_FINGER_SHARE = 0.35, 0.6
_FEWEST_JOINTS_BEFORE_A_HAND = 3
# A limb shorter than this (m) is a finger: onboarding describes robots, not hands alone.
_SHORTEST_ARM_M = 0.16
# A branch this much shorter than the limb that it sits on is a part mounted on it.
_TWIG_SHARE = 0.25
# Jaws open one way only: the shorter side of their travel is at most this share of the longer.
_ONE_SIDED = 0.35


@dataclass(frozen=True)
class Limb:
    """`joints` from the trunk outwards; `hand`: all moving joints beyond them; `trunk`: those before."""

    kind: LimbKind
    joints: tuple[str, ...]
    hand: tuple[str, ...]
    trunk: tuple[str, ...]
    named: bool

    @property
    def first(self) -> str:
        return self.joints[0]

    @property
    def last(self) -> str:
        return self.joints[-1]


# The posture of an arm is found in a time that grows with the square of its joints and more.
_MOST_ARM_JOINTS = 40


@dataclass(frozen=True)
class Limbs:
    """What the tree of joints is made of; `up` ``(3,)`` in the root. `waist` carries the arms."""

    up: Array
    arms: tuple[Limb, ...]
    legs: tuple[Limb, ...]
    head: Limb | None
    waist: tuple[str, ...]
    findings: tuple[Finding, ...]


def _branch_length_m(skeleton: Skeleton, joint: str) -> float:
    """From the fork to the farthest joint of the branch that begins with `joint`, along the joints."""
    lengths = {joint: skeleton.lengths_m[joint]}
    for name in skeleton.subtree(joint)[1:]:
        lengths[name] = lengths[skeleton.carrier[name]] + skeleton.lengths_m[name]
    return max(lengths.values())


def _is_hand(skeleton: Skeleton, joint: str) -> bool:
    path = skeleton.path(joint)
    before_m = sum(skeleton.lengths_m[name] for name in path)
    longest_m = max(_branch_length_m(skeleton, child) for child in skeleton.children[joint])
    # Branches that all move on one command are a hand, however short the arm of a small robot is.
    one_command = len(skeleton.own(skeleton.subtree(joint)[1:])) <= 1
    return (
        len(skeleton.own(path)) >= _FEWEST_JOINTS_BEFORE_A_HAND
        and longest_m < _LONGEST_FINGER_M
        and longest_m < (1.0 if one_command else _LONGEST_FINGER_SHARE) * before_m
    )


def _main_branch(skeleton: Skeleton, joint: str) -> str:
    """The one branch that continues a limb past parts mounted on it, or "" at a real fork."""
    children = skeleton.children[joint]
    if len(skeleton.path(joint)) < _FEWEST_JOINTS_BEFORE_A_HAND:
        return ""
    lengths = {child: _branch_length_m(skeleton, child) for child in children}
    main = max(lengths, key=lambda child: lengths[child])
    mounted = [child for child in children if child != main]
    for child in mounted:
        branch = skeleton.subtree(child)
        if len(branch) > 2 or lengths[child] > _TWIG_SHARE * lengths[main] or count("head", branch):
            return ""
    return main


def _is_jaw(skeleton: Skeleton, joint: str) -> bool:
    """Whether a joint at the very end opens a hand rather than turning it."""
    entry = skeleton.urdf.joints[joint]
    lower, upper = travel(entry)
    short, long = sorted((abs(lower), abs(upper)))
    one_sided = lower * upper >= 0.0 or short <= _ONE_SIDED * long
    if entry.kind == "prismatic":
        return upper - lower < 0.15 and one_sided
    own_words = joint.lower() + " " + entry.child.lower()
    return one_sided and any(word in own_words for word in WORDS["jaw"])


def _split(skeleton: Skeleton) -> list[Limb]:
    limbs: list[Limb] = []

    def close(joints: list[str], hand: Sequence[str], trunk: tuple[str, ...]) -> None:
        joints, hand = list(joints), list(hand)
        while len(joints) > _FEWEST_JOINTS_BEFORE_A_HAND and _is_jaw(skeleton, joints[-1]):
            hand.insert(0, joints.pop())
        # Beyond the last joint with a command of its own nothing turns the hand.
        while joints and skeleton.urdf.joints[joints[-1]].mimic is not None:
            hand.insert(0, joints.pop())
        if joints:
            limbs.append(Limb("other", tuple(joints), tuple(hand), trunk, named=False))

    def walk(joint: str, trunk: tuple[str, ...]) -> None:
        joints = [joint]
        while True:
            children = skeleton.children[joints[-1]]
            if not children:
                close(joints, (), trunk)
                return
            if len(children) == 1:
                joints.append(children[0])
                continue
            if _is_hand(skeleton, joints[-1]):
                close(joints, skeleton.subtree(joints[-1])[1:], trunk)
                return
            main = _main_branch(skeleton, joints[-1])
            if main:
                joints.append(main)
                continue
            for child in children:
                walk(child, (*trunk, *joints))
            return

    for joint in skeleton.children[""]:
        walk(joint, ())
    return limbs


def _names(skeleton: Skeleton, limb: Limb) -> tuple[str, ...]:
    return (*limb.joints, *(skeleton.urdf.joints[name].child for name in limb.joints))


def _named_kind(skeleton: Skeleton, limb: Limb) -> Limb:
    """The limb with the kind its names tell, if they do."""
    names = _names(skeleton, limb)
    own = len(skeleton.own(limb.joints))
    length_m = sum(skeleton.lengths_m[name] for name in limb.joints[1:])
    # A neck may be as short as a finger, and so may a small humanoid's arm.
    short = own >= 3 and length_m < _SHORTEST_ARM_M and not limb.hand and not count("head", names)
    short = short and not count("shoulder", names)
    if short or 2 * count("digit", names) > len(names):
        return replace(limb, kind="finger", named=True)
    arm, leg, head = (count(kind, names) for kind in ("arm", "leg", "head"))
    if leg > arm and leg >= head:
        return replace(limb, kind="leg", named=True)
    if head > arm and own <= 5:
        return replace(limb, kind="head", named=True)
    if arm and (own >= 3 or limb.hand):
        return replace(limb, kind="arm", named=True)
    if count("sensor", names):
        return replace(limb, named=True)
    return limb


def _up(skeleton: Skeleton, limbs: Sequence[Limb]) -> tuple[Array, Finding]:
    """Which way is up: z, unless heads and legs are on another axis."""
    rest = skeleton.rest
    low = [rest.origin(limb.last) for limb in limbs if limb.kind == "leg"]
    high = [rest.origin(limb.last) for limb in limbs if limb.kind == "head"]
    z = np.array([0.0, 0.0, 1.0])
    if not low or not high:
        return z, Finding("up is +z", "the convention (REP-103)", sure=True)
    direction = np.mean(high, axis=0) - np.mean(low, axis=0)
    up, name = nearest_axis(direction)
    return up, Finding(f"up is {name}", "from the legs to the head", sure=True)


def nearest_axis(direction: Array) -> tuple[Array, str]:
    """The root axis nearest to a direction ``(3,)``, and its name."""
    k = int(np.argmax(np.abs(direction)))
    axis = np.zeros(3)
    axis[k] = 1.0 if direction[k] > 0.0 else -1.0
    return axis, f"{'+' if direction[k] > 0.0 else '-'}{'xyz'[k]}"


def _unnamed_kinds(skeleton: Skeleton, limbs: list[Limb], up: Array) -> list[Limb]:
    """Kinds of the limbs whose names tell nothing, by number of joints and place."""
    rest = skeleton.rest
    silent = [limb for limb in limbs if not limb.named]
    long = [limb for limb in silent if len(skeleton.own(limb.joints)) >= 3]
    have_arms = any(limb.kind == "arm" for limb in limbs)
    # Shoulders are above hips.
    ordered = sorted(long, key=lambda limb: -float(up @ rest.origin(limb.first)))
    arms = [] if have_arms else ordered[:2] if len(ordered) != 3 else ordered[:1]
    if len(ordered) == 3 and not have_arms:
        heights = [float(up @ rest.origin(limb.first)) for limb in ordered]
        if heights[0] - heights[1] < heights[1] - heights[2]:
            arms = ordered[:2]
    kinds: dict[str, LimbKind] = {limb.first: "arm" for limb in arms}
    kinds |= {limb.first: "leg" for limb in ordered if limb not in arms and not have_arms}
    have_head = any(limb.kind == "head" for limb in limbs)
    shoulders = arms or [limb for limb in limbs if limb.kind == "arm"]
    top = [limb for limb in silent if limb.first not in kinds and len(skeleton.own(limb.joints)) in (1, 2, 3)]
    if shoulders and top and not have_head:
        highest = max(top, key=lambda limb: float(up @ rest.origin(limb.last)))
        if float(up @ (rest.origin(highest.last) - rest.origin(shoulders[0].first))) > 0.0:
            kinds[highest.first] = "head"
    return [replace(limb, kind=kinds.get(limb.first, limb.kind)) for limb in limbs]


def _lift_to_waist(skeleton: Skeleton, arm: Limb, up: Array) -> tuple[Limb, tuple[str, ...]]:
    """A single arm's leading lift belongs to the trunk: it raises the shoulder."""
    lifts: list[str] = []
    joints = list(arm.joints)
    while len(joints) > 3 and skeleton.urdf.joints[joints[0]].kind == "prismatic":
        if abs(float(skeleton.rest.axis(joints[0]) @ up)) < 0.9:
            break
        lifts.append(joints.pop(0))
    return replace(arm, joints=tuple(joints), trunk=(*arm.trunk, *lifts)), tuple(lifts)


def _numbered_alike(name: str, other: str) -> bool:
    """Whether two names differ in nothing but a number: `right_j0`, `right_j1`."""
    stems = {re.sub(r"\d+", "#", text) for text in (name, other)}
    return len(stems) == 1 and "#" in stems.pop()


def _back_to_the_first(arm: Limb) -> Limb:
    """A single arm that carries a head or a screen on its first joints begins before that fork."""
    joints, trunk = list(arm.joints), list(arm.trunk)
    while trunk and _numbered_alike(trunk[-1], joints[0]):
        joints.insert(0, trunk.pop())
    return replace(arm, joints=tuple(joints), trunk=tuple(trunk))


def find_limbs(skeleton: Skeleton) -> Limbs:
    """Trunk, arms, legs and head. Raises `RetargetingError` where there is no arm."""
    limbs = [_named_kind(skeleton, limb) for limb in _split(skeleton)]
    up, up_finding = _up(skeleton, limbs)
    if len(limbs) == 1 and limbs[0].kind not in ("leg", "finger") and len(limbs[0].joints) >= 3:
        limbs = [replace(limbs[0], kind="arm")]
    else:
        limbs = _unnamed_kinds(skeleton, limbs, up)
    arms = [limb for limb in limbs if limb.kind == "arm"]
    if not arms:
        listed = "; ".join(f"{limb.kind}: {', '.join(limb.joints)}" for limb in limbs) or "none"
        hand = "It looks like a hand alone. " if any(limb.kind == "finger" for limb in limbs) else ""
        raise RetargetingError(
            f"{skeleton.urdf.path}: no arm was found (3 joints or more that are neither leg nor head). {hand}"
            f"Limbs: {listed}. If one of them is an arm, write robot.yaml by hand (docs/robots.md)"
        )
    findings = [up_finding]
    if len(arms) > 2:
        reach = {limb.first: sum(skeleton.lengths_m[name] for name in limb.joints) for limb in arms}
        arms.sort(key=lambda limb: -reach[limb.first])
        findings.append(
            Finding(
                f"arms are {arms[0].first} … and {arms[1].first} …",
                f"the longest of {len(arms)} limbs that could be arms",
                sure=False,
            )
        )
        arms = arms[:2]
    arms = [_back_to_the_first(arm) for arm in arms] if len(arms) == 1 else arms
    lifted = [_lift_to_waist(skeleton, arm, up) for arm in arms] if len(arms) == 1 else []
    if lifted:
        arms = [lifted[0][0]]
    for arm in arms:
        if len(arm.joints) > _MOST_ARM_JOINTS:
            raise RetargetingError(
                f"{skeleton.urdf.path}: the arm {arm.first} … {arm.last} has {len(arm.joints)} joints, "
                f"{_MOST_ARM_JOINTS} at most are looked through; write robot.yaml by hand (docs/robots.md)"
            )
    # What carries all arms; a leg that is the root's own way to the ground is not among it.
    common = [name for name in arms[0].trunk if all(name in arm.trunk for arm in arms)]
    waist = skeleton.own([name for name in common if not count("leg", (name,))])
    heads = [limb for limb in limbs if limb.kind == "head"]
    head = max(heads, key=lambda limb: float(up @ skeleton.rest.origin(limb.last)), default=None)
    for arm in arms:
        why = "names of its joints" if arm.named else f"{len(arm.joints)} joints, neither leg nor head"
        findings.append(Finding(f"{arm.first} … {arm.last} is an arm", why, arm.named or len(limbs) == 1))
    if waist:
        sure = bool(count_trunk(waist)) or len(arms) > 1
        findings.append(Finding(f"waist: {', '.join(waist)}", "they carry all arms", sure))
    if head is not None:
        why = "names of its joints" if head.named else "the highest short limb"
        findings.append(Finding(f"head: {', '.join(head.joints)}", why, head.named))
    return Limbs(
        up,
        tuple(arms),
        tuple(limb for limb in limbs if limb.kind == "leg"),
        head,
        waist,
        tuple(findings),
    )


def count_trunk(names: Sequence[str]) -> int:
    """How many of the names speak of a trunk."""
    words = ("waist", "torso", "trunk", "spine", "lumbar", "thorac", "chest", "lift", "body")
    return sum(any(word in name.lower() for word in words) for name in names)
