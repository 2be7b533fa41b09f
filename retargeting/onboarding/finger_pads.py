"""Where a finger ends and how thick it is there: the sphere that stands for its pad.

A maker's tip frame may be on the nail, on the pad or beyond the end; the surface of the last link is where
the finger really is. Its outermost slice tells the thickness, and the sphere of that thickness fits in it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import pose_apply
from retargeting.mesh_file import UnreadableMesh, mesh_triangles
from retargeting.onboarding.skeleton import Posture, Skeleton
from retargeting.robot_description import Finger
from retargeting.urdf import Shape

Array = NDArray[np.float64]

# A pad is read off this part of the last bone, at most so thick (m).
_SLICE_SHARE, _SLICE_M = 0.3, 0.010
_THINNEST_M, _THICKEST_M = 0.003, 0.012
# A last bone shorter than this (m) says nothing; one longer is no finger's, but in another unit.
_SHORTEST_M, _LONGEST_M = 0.006, 0.15
# A part after the last joint without shape or frame is about as long as the one before it.
_LIKE_THE_ONE_BEFORE, _LONGER_THAN_BEFORE = 0.8, 2.0
_ROUNDS = 3


@dataclass(frozen=True)
class FingerPad:
    """A sphere around `position` ``(3,)`` of the link `link`; `measured`: on its surface, not guessed."""

    link: str
    position: Array
    radius_m: float
    why: str
    measured: bool


def shape_points(shape: Shape) -> Array:
    """Points ``(k, 3)`` of a shape's surface in its link; none of a mesh that cannot be read."""
    geometry, size = shape.geometry, shape.geometry.size_m
    corners = np.array([[x, y, z] for x in (-1.0, 1.0) for y in (-1.0, 1.0) for z in (-1.0, 1.0)])
    if geometry.kind == "mesh":
        if geometry.mesh is None:
            return np.zeros((0, 3))
        try:
            points = mesh_triangles(geometry.mesh).reshape(-1, 3) * np.array(geometry.scale)
        except UnreadableMesh:
            return np.zeros((0, 3))
    elif geometry.kind == "box":
        points = corners * 0.5 * np.array(size)
    elif geometry.kind == "sphere":
        points = np.concatenate([np.eye(3), -np.eye(3)]) * size[0]
    else:
        half = 0.5 * size[1] + (size[0] if geometry.kind == "capsule" else 0.0)
        points = corners * np.array([size[0], size[0], half])
    placed: Array = pose_apply(shape.pose, points)
    return placed


def _surface(skeleton: Skeleton, joint: str, posture: Posture) -> Array:
    """Points ``(k, 3)`` of the body on a joint, in the root: of what collides, else of what is drawn."""
    for kind in ("collisions", "visuals"):
        parts = [
            pose_apply(posture.link_pose(link), shape_points(shape))
            for link in skeleton.carried_links[joint]
            for shape in getattr(skeleton.urdf.links[link], kind)
        ]
        points = np.concatenate([np.zeros((0, 3)), *parts])
        if len(points):
            return points
    return np.zeros((0, 3))


def _unit(vector: Array) -> Array:
    unit: Array = vector / np.linalg.norm(vector)
    return unit


def _measured(points: Array, origin: Array, axis: Array, toward: Array) -> tuple[Array, float] | None:
    """Centre ``(3,)`` and radius of the pad at the end of `points`; None where they do not make a finger."""
    for _ in range(_ROUNDS):
        toward = toward - axis * float(axis @ toward)
        if np.linalg.norm(toward) < 1e-6:
            return None
        along = _unit(toward)
        ahead = (points - origin) @ along
        length = float(ahead.max())
        if not _SHORTEST_M < length < _LONGEST_M:
            return None
        end = points[ahead > length - min(_SLICE_M, _SLICE_SHARE * length)]
        toward = 0.5 * (end.min(axis=0) + end.max(axis=0)) - origin
    across = np.stack([axis, np.cross(axis, along)])
    sides = (end - origin) @ across.T
    low, high = sides.min(axis=0), sides.max(axis=0)
    radius = float(np.clip(0.5 * (high - low).min(), _THINNEST_M, _THICKEST_M))
    radius = min(radius, 0.5 * length)
    centre = origin + (length - radius) * along + 0.5 * (low + high) @ across
    return centre, radius


def find_pad(skeleton: Skeleton, joint: str) -> FingerPad:
    """The pad of the finger whose last joint is `joint`."""
    rest = skeleton.rest
    origin, axis = rest.origin(joint), rest.axis(joint)
    links = skeleton.carried_links[joint]
    link = links[0]
    named = [name for name in links if "tip" in name.lower()]
    frames = named or links
    frame = max(frames, key=lambda name: float(np.linalg.norm(rest.link_origin(name) - origin)))
    offset = rest.link_origin(frame) - origin
    points = _surface(skeleton, joint, rest)
    if len(points):
        middle = points.mean(axis=0) - origin
        toward = offset if named and np.linalg.norm(offset) > _SHORTEST_M else middle
        found = _measured(points, origin, axis, toward)
        if found is not None:
            centre, radius = found
            why = f"the end of its surface, {2000.0 * radius:.0f} mm thick there"
            return FingerPad(link, rest.in_link(link, centre), radius, why, measured=True)
    if np.linalg.norm(offset) > _SHORTEST_M:
        return FingerPad(frame, np.zeros(3), Finger.pad_radius_m, f"the frame {frame}", measured=bool(named))
    # The origin of a mesh that is missing may be anywhere: only marks about where a bone can end count.
    before = origin - rest.origin(skeleton.carrier[joint])
    longest = min(_LONGEST_M, max(_LONGER_THAN_BEFORE * float(np.linalg.norm(before)), _SHORTEST_M))
    points = skeleton.body_points(joint, rest)
    far = np.linalg.norm(points - origin, axis=1)
    near = np.where(far < longest, far, 0.0)
    tip = points[int(np.argmax(near))]
    why = "its farthest mark; no surface can be read"
    if near.max() < _SHORTEST_M:
        tip = origin + _LIKE_THE_ONE_BEFORE * before
        why = "as long as the part before it; no surface can be read"
    return FingerPad(link, rest.in_link(link, tip), Finger.pad_radius_m, why, measured=False)
