"""A whole body inferred from a URDF: everything `robot.yaml` needs, with the reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import (
    pose_compose,
    pose_from_matrix,
    pose_inverse,
)
from retargeting.onboarding.arm_points import (
    axis_point_near,
    find_elbow,
    shoulder_point,
    wrist_finding,
    wrist_point,
)
from retargeting.onboarding.end_effectors import EndEffector, find_end_effector, hand_side
from retargeting.onboarding.evidence import Finding
from retargeting.onboarding.facing import Facing, find_facing
from retargeting.onboarding.limbs import Limb, find_limbs
from retargeting.onboarding.name_signs import WORDS
from retargeting.onboarding.neutral_posture import HandGoal, bring_hand
from retargeting.onboarding.skeleton import Posture, Skeleton, build_skeleton
from retargeting.robot_description import Site
from retargeting.urdf import Urdf

Array = NDArray[np.float64]

# The neutral posture: where the wrist is from the shoulder, in arm lengths.
_AHEAD, _DOWN, _OUT = 0.55, 0.35, 0.05
# Where an arm hangs on its shoulder, its upper arm points down; an arm on a table stands on it.
_UPPER_ARM_AHEAD = 0.3
_OFF_M = 0.05


@dataclass(frozen=True)
class Arm:
    """One arm: the joints driven, its named points, what it ends in. `length_m`: shoulder to wrist."""

    joints: tuple[str, ...]
    elbow_joint: str | None
    shoulder: Site
    elbow: Site | None
    wrist: Site
    length_m: float
    hand: EndEffector
    findings: tuple[Finding, ...]


@dataclass(frozen=True)
class Body:
    """What was found. `neutral_posture`: joint positions (rad, m) where they differ from rest."""

    skeleton: Skeleton
    forward: Array
    up: Array
    waist: tuple[str, ...]
    head_joints: tuple[str, ...]
    head: Site | None
    arms: dict[str, Arm]
    neutral_posture: dict[str, float]
    findings: tuple[Finding, ...]

    @property
    def neutral(self) -> Posture:
        return self.skeleton.posture(self.neutral_posture)

    def site_position(self, site: Site, posture: Posture) -> Array:
        """Where a site is ``(3,)`` in the root."""
        position: Array = posture.link_origin(site.link) + posture.rotation(site.link) @ site.pose[:3]
        return position


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit


def _axes(x: Array, z_hint: Array) -> Array:
    """Columns x, y, z ``(3, 3)`` with z as near to `z_hint` as x leaves it."""
    z = z_hint - x * float(x @ z_hint)
    if np.linalg.norm(z) < 1e-6:
        z = np.eye(3)[int(np.argmin(np.abs(x)))]
        z = z - x * float(x @ z)
    z = _unit(z)
    return np.stack([x, np.cross(z, x), z], axis=1)


def _site(posture: Posture, link: str, point: Array, axes: Array) -> Site:
    """A frame fixed to a link, placed at a point and along axes of the root."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = axes, point
    return Site(link, pose_compose(pose_inverse(posture.link_pose(link)), pose_from_matrix(matrix)))


def _back_of_hand(
    hand: EndEffector, outward: Array | None, up: Array, forward: Array
) -> tuple[Array, Finding]:
    """Out of the back of the hand ``(3,)`` in the root, at rest."""
    x = hand.pointing
    if hand.back is not None:
        return hand.back, Finding("back of the hand", "opposite to where the fingers curl", sure=True)
    hints = [up, forward] if outward is None else [outward, up]
    natural = next((hint for hint in hints if abs(float(hint @ x)) < 0.75), hints[-1])
    natural = _unit(natural - x * float(natural @ x))
    if hand.jaw_line is None:
        why = "nothing on the hand tells it; taken as a relaxed arm's (outwards, or up)"
        return natural, Finding("back of the hand", why, sure=False)
    flat = _unit(np.cross(x, hand.jaw_line))
    # Jaws open to both sides alike: which of the two faces is the back is a choice.
    along = float(flat @ natural)
    if abs(along) < 0.2:
        along = float(flat @ (up if abs(float(up @ x)) < 0.75 else forward))
    why = "across the line the jaws open along; of its two faces the one nearer to a relaxed arm's back"
    return (flat if along >= 0.0 else -flat), Finding("back of the hand", why, sure=True)


def _limb_axes(direction: Array, left: Array) -> Array:
    """Axes of a shoulder or elbow: x along the segment, z up when the arm is stretched forward."""
    x = _unit(direction)
    hint = np.cross(x, left)
    return _axes(x, hint if np.linalg.norm(hint) > 1e-6 else np.array([0.0, 0.0, 1.0]))


class _ArmBuilder:
    """Points, hand and neutral posture of one arm."""

    def __init__(self, skeleton: Skeleton, facing: Facing, side: str, limb: Limb) -> None:
        self.skeleton, self.facing, self.side, self.limb = skeleton, facing, side, limb
        self.points = find_elbow(skeleton, limb)
        self.hand = find_end_effector(skeleton, limb)
        self.alone = len(facing.arms) == 1
        self.outward = facing.left * (1.0 if side == "left" else -1.0)
        outward = None if self.alone else self.outward
        self.back, self.back_finding = _back_of_hand(self.hand, outward, facing.up, facing.forward)
        self.link = skeleton.urdf.joints[limb.last].child
        self.hand_axes_at_rest = _axes(self.hand.pointing, self.back)

    def elbow_point(self, posture: Posture) -> Array | None:
        elbow = self.points.elbow
        if elbow is None:
            return None
        shoulder = shoulder_point(posture, self.limb, elbow)
        between = 0.5 * (shoulder + wrist_point(posture, self.limb))
        return axis_point_near(posture, elbow, between)

    def length_m(self, posture: Posture) -> float:
        shoulder = shoulder_point(posture, self.limb, self.points.elbow)
        wrist, elbow = wrist_point(posture, self.limb), self.elbow_point(posture)
        if elbow is None:
            return float(np.linalg.norm(wrist - shoulder))
        return float(np.linalg.norm(elbow - shoulder) + np.linalg.norm(wrist - elbow))

    def neutral(self) -> tuple[dict[str, float], Finding]:
        """Joint positions with the hand before the shoulder, fingers ahead."""
        skeleton, limb, facing = self.skeleton, self.limb, self.facing
        rest = skeleton.rest
        shoulder = shoulder_point(rest, limb, self.points.elbow)
        length = self.length_m(rest)
        forward, up = facing.forward, facing.up
        down = 0.0 if self.alone and not limb.trunk else _DOWN
        position = shoulder + length * (_AHEAD * forward - down * up + _OUT * self.outward)
        back = up if self.alone else _unit(self.outward + 0.3 * up)
        elbow = self.elbow_point(rest)
        rises = up if self.alone and not limb.trunk else -up
        elbow_goal = shoulder + 0.5 * length * _unit(rises + _UPPER_ARM_AHEAD * forward + 0.3 * self.outward)
        elbow_link = self.link if elbow is None else skeleton.urdf.joints[str(self.points.elbow)].child
        goal = HandGoal(
            link=self.link,
            local_wrist=rest.in_link(self.link, wrist_point(rest, limb)),
            local_axes=rest.rotation(self.link).T @ self.hand_axes_at_rest,
            position=position,
            axes=_axes(forward, back),
            elbow_link=elbow_link,
            local_elbow=rest.in_link(elbow_link, wrist_point(rest, limb) if elbow is None else elbow),
            elbow=position if elbow is None else elbow_goal,
        )
        found, off_m = bring_hand(skeleton, skeleton.own(limb.joints), goal)
        what = f"neutral posture: {self.side} wrist {_AHEAD:.2f} arm lengths ahead of the shoulder"
        return found, Finding(what, f"found to {1000.0 * off_m:.0f} mm inside the limits", off_m < _OFF_M)

    def build(self, neutral: Posture) -> Arm:
        limb, facing, skeleton = self.limb, self.facing, self.skeleton
        shoulder = shoulder_point(neutral, limb, self.points.elbow)
        wrist, elbow = wrist_point(neutral, limb), self.elbow_point(neutral)
        upper = self.points.before[-1] if self.points.elbow else limb.first
        toward = elbow if elbow is not None else wrist
        apart = toward - shoulder
        shoulder_axes = _limb_axes(apart if np.linalg.norm(apart) > 1e-3 else facing.forward, facing.left)
        hand_axes = neutral.rotation(self.link) @ skeleton.rest.rotation(self.link).T @ self.hand_axes_at_rest
        elbow_site = None
        if elbow is not None:
            link = skeleton.urdf.joints[str(self.points.elbow)].child
            elbow_site = _site(neutral, link, elbow, _limb_axes(wrist - elbow, facing.left))
        hand_findings = tuple(
            replace(finding, what=f"{self.side}: {finding.what}")
            for finding in (self.points.finding, *self.hand.findings, self.back_finding)
        )
        return Arm(
            joints=skeleton.own(limb.joints),
            elbow_joint=self.points.elbow,
            shoulder=_site(neutral, skeleton.urdf.joints[upper].child, shoulder, shoulder_axes),
            elbow=elbow_site,
            wrist=_site(neutral, self.link, wrist, hand_axes),
            length_m=self.length_m(neutral),
            hand=self.hand,
            findings=hand_findings,
        )


def _head(skeleton: Skeleton, facing: Facing, head: Limb | None, waist: tuple[str, ...]) -> Site | None:
    """A frame on the head that looks ahead; between its eyes where it has some."""
    rest = skeleton.rest
    owner = head.last if head is not None else waist[-1] if waist else ""
    links = skeleton.carried_links[owner]
    axes = _axes(facing.forward, facing.up)
    eyes = [link for link in links if any(word in link.lower() for word in WORDS["sight"])]
    if head is None:
        named = [link for link in links if "head" in link.lower() and "camera" not in link.lower()]
        if not named:
            return None
        points = [skeleton.urdf.links[named[0]].inertial]
        centre = points[0].pose[:3] if points[0] is not None else np.zeros(3)
        return _site(rest, named[0], rest.link_origin(named[0]) + rest.rotation(named[0]) @ centre, axes)
    link = skeleton.urdf.joints[head.last].child
    point = (
        np.mean([rest.link_origin(eye) for eye in eyes], axis=0)
        if eyes
        else skeleton.body_points(head.last, rest).mean(axis=0)
    )
    return _site(rest, link, point, axes)


def _side_by_thumb(skeleton: Skeleton, facing: Facing) -> Facing:
    """A single arm whose names say nothing takes the side of its hand, where that has a thumb."""
    if len(facing.arms) != 1:
        return facing
    ((side, limb),) = facing.arms.items()
    thumb = hand_side(find_end_effector(skeleton, limb))
    if not thumb:
        return facing
    last = facing.findings[-1]
    if thumb == side:
        agreed = Finding(last.what, f"{last.why}; its hand has a {side} hand's thumb", sure=True)
        return replace(facing, findings=(*facing.findings[:-1], agreed))
    if "names" in last.why:
        doubted = Finding(last.what, f"{last.why}; but its hand has a {thumb} hand's thumb", sure=False)
        return replace(facing, findings=(*facing.findings[:-1], doubted))
    found = Finding(f"{limb.first} … is the {thumb} arm", f"its hand has a {thumb} hand's thumb", sure=True)
    return replace(facing, arms={thumb: limb}, findings=(*facing.findings[:-1], found))


def infer_body(urdf: Urdf, *, find_posture: bool = True) -> Body:
    """Everything about a robot's body that geometry, topology and names together tell.

    Without `find_posture` (most of the time it takes) the neutral posture is the
    joints' rest. Raises `RetargetingError` where no arm is found.
    """
    skeleton = build_skeleton(urdf)
    limbs = find_limbs(skeleton)
    facing = _side_by_thumb(skeleton, find_facing(skeleton, limbs))
    builders = {side: _ArmBuilder(skeleton, facing, side, limb) for side, limb in facing.arms.items()}
    posture: dict[str, float] = {}
    findings = [*limbs.findings, *facing.findings]
    for builder in builders.values():
        if find_posture:
            positions, finding = builder.neutral()
            posture |= positions
            findings.append(finding)
        posture |= {own: opened for own, (_, opened) in builder.hand.joints.items() if abs(opened) > 1e-9}
    neutral = skeleton.posture(posture)
    arms = {side: builder.build(neutral) for side, builder in builders.items()}
    for side, arm in arms.items():
        findings.extend(arm.findings)
        wrist = f"{side} wrist: on {arm.wrist.link}, the last link before the hand"
        findings.append(Finding(wrist, *wrist_finding(skeleton, builders[side].limb)))
    return Body(
        skeleton=skeleton,
        forward=facing.forward,
        up=facing.up,
        waist=limbs.waist,
        head_joints=skeleton.own(limbs.head.joints) if limbs.head is not None else (),
        head=_head(skeleton, facing, limbs.head, limbs.waist),
        arms=arms,
        neutral_posture=posture,
        findings=tuple(findings),
    )
