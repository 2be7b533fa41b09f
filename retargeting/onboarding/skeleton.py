"""A URDF's moving joints as a tree of points and axes: what geometry and topology can tell."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import pose_apply, pose_from_matrix
from retargeting.kinematics import KinematicTree, build_tree
from retargeting.urdf import MOVABLE_KINDS, Joint, Urdf

Array = NDArray[np.float64]


def travel(joint: Joint) -> tuple[float, float]:
    """Lower and upper position (rad, m); where there is none, half a turn (1 m) each way."""
    far = np.pi if joint.kind != "prismatic" else 1.0
    return (
        joint.lower if math.isfinite(joint.lower) else -far,
        joint.upper if math.isfinite(joint.upper) else far,
    )


def resting(joint: Joint) -> float:
    """0, or the limit next to it."""
    return min(max(0.0, joint.lower), joint.upper)


def middle(joint: Joint) -> float:
    """The middle of the travel; 0 of a joint that turns once around."""
    lower, upper = travel(joint)
    return resting(joint) if upper - lower > 1.9 * np.pi else 0.5 * (lower + upper)


def rounded_inside(joint: Joint, value: float) -> float:
    """A position to four digits, rounded towards the inside where that would leave the limits."""
    short = round(value, 4)
    if short > joint.upper:
        short = math.floor(value * 1e4) / 1e4
    if short < joint.lower:
        short = math.ceil(value * 1e4) / 1e4
    return short


@dataclass(frozen=True)
class Posture:
    """Every link of a skeleton placed in the root: positions ``(n, 3)``, rotations ``(n, 3, 3)``."""

    skeleton: Skeleton
    positions: Array
    rotations: Array

    def origin(self, joint: str) -> Array:
        """Where the joint's frame is ``(3,)``: a point of its axis."""
        return self.link_origin(self.skeleton.urdf.joints[joint].child)

    def axis(self, joint: str) -> Array:
        """Unit vector ``(3,)`` of the joint's axis."""
        entry = self.skeleton.urdf.joints[joint]
        axis: Array = self.rotation(entry.child) @ entry.axis
        return axis

    def link_origin(self, link: str) -> Array:
        position: Array = self.positions[self.skeleton.row[link]]
        return position

    def rotation(self, link: str) -> Array:
        rotation: Array = self.rotations[self.skeleton.row[link]]
        return rotation

    def link_pose(self, link: str) -> Array:
        matrix = np.eye(4)
        matrix[:3, :3], matrix[:3, 3] = self.rotation(link), self.link_origin(link)
        return pose_from_matrix(matrix)

    def in_link(self, link: str, point: Array) -> Array:
        """A point ``(3,)`` of the root in the axes of a link."""
        local: Array = self.rotation(link).T @ (point - self.link_origin(link))
        return local


# Compared by identity: what was computed of one is remembered for it.
@dataclass(frozen=True, eq=False)
class Skeleton:
    """`joints`: names of all moving joints (mimics too), each after the one that carries it."""

    urdf: Urdf
    joints: tuple[str, ...]
    carrier: dict[str, str]
    children: dict[str, tuple[str, ...]]
    tree: KinematicTree
    coordinates: tuple[str, ...]

    @cached_property
    def row(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.tree.names)}

    @cached_property
    def lengths_m(self) -> dict[str, float]:
        """From the origin of the joint before (0 for the first ones) to the joint's own, at rest."""
        rest = self.rest
        return {
            name: float(np.linalg.norm(rest.origin(name) - rest.origin(self.carrier[name])))
            if self.carrier[name]
            else 0.0
            for name in self.joints
        }

    @cached_property
    def carried_links(self) -> dict[str, tuple[str, ...]]:
        """The links fixed to the child link of each moving joint, itself first; "" = the root's."""
        found: dict[str, list[str]] = {"": [self.urdf.root]}
        owner = {self.urdf.root: ""}
        for joint in self.urdf.joints_root_first():
            if joint.kind in MOVABLE_KINDS:
                owner[joint.child] = joint.name
                found[joint.name] = [joint.child]
            else:
                owner[joint.child] = owner[joint.parent]
                found[owner[joint.child]].append(joint.child)
        return {name: tuple(links) for name, links in found.items()}

    @cached_property
    def rest(self) -> Posture:
        """All joints at 0 or at the limit next to it."""
        return self.posture({})

    @cached_property
    def mid(self) -> Posture:
        """All joints in the middle of their travel."""
        return self.posture({name: middle(self.urdf.joints[name]) for name in self.coordinates})

    def posture(self, positions: Mapping[str, float]) -> Posture:
        """The skeleton with joints (rad, m) at `positions`, the others at rest."""
        q = np.array([positions.get(name, resting(self.urdf.joints[name])) for name in self.coordinates])
        return Posture(self, *self.tree.body_poses(q))

    def own(self, joints: Sequence[str]) -> tuple[str, ...]:
        """Those joints that follow no other joint."""
        return tuple(name for name in joints if self.urdf.joints[name].mimic is None)

    def path(self, joint: str) -> tuple[str, ...]:
        """The moving joints from the root to `joint`, itself included."""
        names: list[str] = []
        while joint:
            names.append(joint)
            joint = self.carrier[joint]
        return tuple(reversed(names))

    def subtree(self, joint: str) -> tuple[str, ...]:
        """`joint` and every moving joint it carries."""
        names = [joint]
        for name in names:
            names.extend(self.children[name])
        return tuple(names)

    def body_points(self, joint: str, posture: Posture) -> Array:
        """Points ``(k, 3)`` that tell where the body on `joint` is: its mass, shapes and fixed frames."""
        points = []
        for link in self.carried_links[joint]:
            entry = self.urdf.links[link]
            pose = posture.link_pose(link)
            points.append(pose[:3])
            if entry.inertial is not None and entry.inertial.mass_kg > 0.0:
                points.append(pose_apply(pose, entry.inertial.pose[:3]))
            for shape in (*entry.visuals, *entry.collisions):
                points.append(pose_apply(pose, shape.pose[:3]))
                size = shape.geometry.size_m
                if shape.geometry.kind == "box":
                    half = 0.5 * np.array(size)
                    corners = [half * np.array([a, b, c]) for a in (-1, 1) for b in (-1, 1) for c in (-1, 1)]
                    points.extend(pose_apply(pose, pose_apply(shape.pose, corner)) for corner in corners)
                elif shape.geometry.kind in ("cylinder", "capsule"):
                    ends = [np.array([0.0, 0.0, sign * 0.5 * size[1]]) for sign in (-1, 1)]
                    points.extend(pose_apply(pose, pose_apply(shape.pose, end)) for end in ends)
        return np.array(points)


def build_skeleton(urdf: Urdf) -> Skeleton:
    """The skeleton of a checked URDF."""
    owner = {urdf.root: ""}
    joints: list[str] = []
    carrier: dict[str, str] = {}
    children: dict[str, list[str]] = {"": []}
    for joint in urdf.joints_root_first():
        before = owner[joint.parent]
        if joint.kind not in MOVABLE_KINDS:
            owner[joint.child] = before
            continue
        owner[joint.child] = joint.name
        joints.append(joint.name)
        carrier[joint.name] = before
        children[joint.name] = []
        children[before].append(joint.name)
    coordinates = tuple(name for name in joints if urdf.joints[name].mimic is None)
    tree, _ = build_tree(urdf, coordinates, {})
    return Skeleton(
        urdf,
        tuple(joints),
        carrier,
        {name: tuple(carried) for name, carried in children.items()},
        tree,
        coordinates,
    )
