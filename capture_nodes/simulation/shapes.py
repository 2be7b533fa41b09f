"""Primitive shapes for links: as the URDF has them, or fitted where it has a mesh.

Meshes are slow to render and collide, so each is replaced by a primitive of its bounding box, read
from the STL file; where the file cannot be read, by a capsule along the link.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import pose_apply, pose_compose
from retargeting.urdf import Geometry, Link, Shape, Urdf

Array = NDArray[np.float64]
PrimitiveKind = Literal["box", "cylinder", "sphere", "capsule"]

# A bounding box this flat is better a box than a capsule.
_FLAT_RATIO = 1.6
_SMALLEST_RADIUS_M = 0.008
_RADIUS_PER_LENGTH = 0.18
_SPHERE_WITHOUT_GEOMETRY_M = 0.02


@dataclass(frozen=True)
class Primitive:
    """A shape in its link's frame. `size_m` as in `retargeting.urdf.Geometry`; `pose` ``(7,)``."""

    kind: PrimitiveKind
    size_m: tuple[float, ...]
    pose: Array
    rgba: tuple[float, float, float, float] | None = None

    @property
    def half_extents_m(self) -> Array:
        """Half the bounding box ``(3,)`` in its own axes; a capsule's length is without its caps."""
        if self.kind == "box":
            return 0.5 * np.array(self.size_m)
        radius = self.size_m[0]
        if self.kind == "sphere":
            return np.full(3, radius)
        caps = radius if self.kind == "capsule" else 0.0
        return np.array([radius, radius, 0.5 * self.size_m[1] + caps])

    def corners(self) -> Array:
        """Corners ``(8, 3)`` of the bounding box, in the link frame."""
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
        return pose_apply(self.pose, signs * self.half_extents_m)


@lru_cache(maxsize=256)
def mesh_bounds(path: Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Lowest and highest corner (in the file's unit) of a binary or ASCII STL; None if it is neither."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    vertices = _binary_stl_vertices(data)
    if vertices is None:
        vertices = _ascii_stl_vertices(data)
    if vertices is None or not len(vertices) or not np.isfinite(vertices).all():
        return None
    return tuple(map(float, vertices.min(axis=0))), tuple(map(float, vertices.max(axis=0)))


def _binary_stl_vertices(data: bytes) -> Array | None:
    """Vertices ``(n, 3)``: 80 bytes header, a count, then 50 bytes per triangle (normal first)."""
    if len(data) < 84:
        return None
    count = struct.unpack_from("<I", data, 80)[0]
    if len(data) != 84 + 50 * count:
        return None
    rows = np.frombuffer(data, np.uint8, offset=84).reshape(count, 50)
    vertices: Array = rows[:, 12:48].copy().view("<f4").reshape(-1, 3).astype(np.float64)
    return vertices


def _ascii_stl_vertices(data: bytes) -> Array | None:
    if not data.lstrip().startswith(b"solid"):
        return None
    try:
        lines = (line.split() for line in data.decode("ascii", "replace").splitlines())
        rows = [[float(v) for v in words[1:4]] for words in lines if words[:1] == ["vertex"]]
    except ValueError:
        return None
    return np.array(rows) if all(len(row) == 3 for row in rows) else None


def primitive_of_bounds(
    low: Iterable[float], high: Iterable[float], pose: Array, rgba: tuple[float, float, float, float] | None
) -> Primitive:
    """A capsule along the longest side of a bounding box, or a box where that is flat.

    `low`, `high` are opposite corners (m) in the frame whose pose in the link is `pose`.
    """
    lowest, highest = np.array(list(low)), np.array(list(high))
    extent = np.maximum(highest - lowest, 2.0 * _SMALLEST_RADIUS_M)
    order = np.argsort(extent)
    small, middle, large = (float(extent[i]) for i in order)
    centre = 0.5 * (lowest + highest)
    if middle / small > _FLAT_RATIO and large / middle < _FLAT_RATIO:
        placed = pose_compose(pose, np.concatenate([centre, [0.0, 0.0, 0.0, 1.0]]))
        return Primitive("box", tuple(map(float, extent)), placed, rgba)
    radius = 0.25 * (small + middle)
    length = max(large - 2.0 * radius, 1e-3)
    axis = np.zeros(3)
    axis[order[2]] = 1.0
    placed = pose_compose(pose, np.concatenate([centre, _rotation_z_to(axis)]))
    return Primitive("capsule", (radius, length), placed, rgba)


def _rotation_z_to(direction: Array) -> Array:
    """Quaternion xyzw of the shortest rotation of +z to a unit `direction`."""
    if direction[2] < -1.0 + 1e-9:
        return np.array([1.0, 0.0, 0.0, 0.0])
    q = np.array([-direction[1], direction[0], 0.0, 1.0 + direction[2]])
    unit: Array = q / np.linalg.norm(q)
    return unit


def _fitted(shape: Shape, fallback: Primitive) -> Primitive:
    bounds = None if shape.geometry.mesh is None else mesh_bounds(shape.geometry.mesh)
    if bounds is None:
        return Primitive(fallback.kind, fallback.size_m, fallback.pose, shape.rgba)
    scaled = np.sort(np.array(bounds) * np.array(shape.geometry.scale), axis=0)
    return primitive_of_bounds(scaled[0], scaled[1], shape.pose, shape.rgba)


def _along_link(urdf: Urdf, link: str) -> Primitive:
    """A capsule from the link's origin to its farthest child joint; a small sphere without one."""
    ends = [joint.pose[:3] for joint in urdf.joints.values() if joint.parent == link]
    end = max(ends, key=lambda p: float(np.linalg.norm(p)), default=np.zeros(3))
    length = float(np.linalg.norm(end))
    if length < 2.0 * _SPHERE_WITHOUT_GEOMETRY_M:
        radius = _SPHERE_WITHOUT_GEOMETRY_M
        return Primitive("sphere", (radius,), np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0]))
    radius = max(_SMALLEST_RADIUS_M, _RADIUS_PER_LENGTH * length)
    pose = np.concatenate([0.5 * end, _rotation_z_to(end / length)])
    return Primitive("capsule", (radius, max(length - 2.0 * radius, 1e-3)), pose)


def _plain(geometry: Geometry, shape: Shape) -> Primitive:
    kind = geometry.kind
    if kind == "mesh":
        raise ValueError("a mesh is not a primitive")
    return Primitive(kind, geometry.size_m, shape.pose, shape.rgba)


def _primitives(urdf: Urdf, link: str, shapes: tuple[Shape, ...]) -> tuple[Primitive, ...]:
    result = []
    for shape in shapes:
        if shape.geometry.kind == "mesh":
            result.append(_fitted(shape, _along_link(urdf, link)))
        elif all(value > 0.0 for value in shape.geometry.size_m):
            result.append(_plain(shape.geometry, shape))
    return tuple(result)


def collision_primitives(urdf: Urdf, link: Link) -> tuple[Primitive, ...]:
    """What the link collides with: its collision shapes, meshes replaced."""
    return _primitives(urdf, link.name, link.collisions)


def visual_primitives(urdf: Urdf, link: Link) -> tuple[Primitive, ...]:
    """What is drawn of the link: its visual shapes (else its collision shapes), meshes replaced."""
    return _primitives(urdf, link.name, link.visuals or link.collisions)


def lowest_point_m(urdf: Urdf, link_poses: dict[str, Array]) -> float:
    """Height (m, in the root link's frame) of the lowest corner of any shape: where the floor is."""
    heights = [0.0]
    for name, link in urdf.links.items():
        for primitive in collision_primitives(urdf, link) or visual_primitives(urdf, link):
            heights.append(float(pose_apply(link_poses[name], primitive.corners())[:, 2].min()))
    return min(heights)
