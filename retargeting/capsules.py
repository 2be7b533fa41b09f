"""Capsules that enclose what a link collides with.

A capsule is all points within a radius of a segment. Shapes become triangles (round ones as prisms
around them) and balls; since a capsule is convex, it encloses a triangle if it encloses its corners.
Where one capsule would be much larger than what it encloses, the triangles are cut by a plane, each
side gets its own, and so on up to `MOST_PER_LINK`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.compiled import compiled
from retargeting.frames import pose_apply
from retargeting.mesh_file import UnreadableMesh, mesh_triangles
from retargeting.urdf import Link, Shape, Urdf

Array = NDArray[np.float64]

MOST_PER_LINK = 6
# A capsule thinner than this is never cut, and cutting must save this share of its volume.
_THIN_M = 0.03
_SAVED_BY_CUT = 0.08
# Two capsules become one where that takes no more room than this share of both together.
_MERGED_SHARE = 1.0
# Sides of the prism around a round shape.
_SIDES = 24
# The fit sees about so many corners, of them the outermost in so many directions; the radius then all.
_SEEN, _DIRECTIONS = 2000, 160
# What is cut for its own sake (see `Piece`) ends with capsules thinner than this.
_FINEST_M = 0.006
# Around a link without collision geometry: its thickness by its length.
_RADIUS_PER_LENGTH = 0.18
_SHORTEST_LINK_M = 0.02
# Rounding must not leave a corner outside.
_ROUNDING_M = 1e-9


@dataclass(frozen=True)
class Capsule:
    """All points within `radius_m` of the segment `start` .. `end` ``(3,)``, in the frame of `link`."""

    link: str
    start: Array
    end: Array
    radius_m: float

    @property
    def volume_m3(self) -> float:
        return _volume(float(np.linalg.norm(self.end - self.start)), self.radius_m)


@dataclass(frozen=True)
class Solid:
    """Triangles ``(k, 3, 3)`` and balls ``(b, 4)`` (centre, radius) in the link."""

    triangles: Array
    balls: Array

    def corners(self) -> Array:
        """Balls ``(n, 4)`` whose hull is the solid's; a corner has radius 0."""
        points = self.triangles.reshape(-1, 3)
        return np.concatenate([np.c_[points, np.zeros(len(points))], self.balls])


class Piece:
    """A part of a link's collision geometry and the capsule around it; cut in two where asked."""

    def __init__(self, solid: Solid, capsule: Capsule) -> None:
        self.capsule = capsule
        self._solid = solid
        self._halves: tuple[Piece, ...] | None = None if len(solid.triangles) else ()

    def halves(self) -> tuple[Piece, ...]:
        """The two sides of a cut across its longest extent; none where it is too thin, or round."""
        if self._halves is None:
            self._halves = ()
            if not len(self._solid.balls) and self.capsule.radius_m > _FINEST_M:
                points = self._solid.triangles.reshape(-1, 3)
                low, high = points.min(axis=0), points.max(axis=0)
                axis = int(np.argmax(high - low))
                sides = _cut(self._solid.triangles, axis, 0.5 * float(low[axis] + high[axis]))
                if all(len(side) for side in sides):
                    solids = [Solid(side, self._solid.balls) for side in sides]
                    link = self.capsule.link
                    self._halves = tuple(
                        Piece(solid, enclosing_capsule(link, solid.corners())) for solid in solids
                    )
        return self._halves


def link_capsules(urdf: Urdf, link: Link) -> tuple[tuple[Capsule, ...], tuple[str, ...]]:
    """The capsules of `link_pieces`, and its warnings."""
    pieces, warnings = link_pieces(urdf, link)
    return tuple(piece.capsule for piece in pieces), warnings


def link_pieces(urdf: Urdf, link: Link) -> tuple[tuple[Piece, ...], tuple[str, ...]]:
    """The pieces of a link's collision geometry, and a warning per mesh that could not be read.

    A link without collision geometry (or whose mesh is missing) gets a capsule along its length, if it is
    drawn or no link of the robot has collision geometry.
    """
    solids, warnings, missing = [], [], False
    for shape in link.collisions:
        try:
            solid = _solid(shape)
        except UnreadableMesh as error:
            warnings.append(f"link {link.name!r}: {error}; a capsule along the link replaces it")
            missing = True
            continue
        if solid is None:
            missing = True
        else:
            solids.append(solid)
    bare = not link.collisions and (
        bool(link.visuals) or not any(other.collisions for other in urdf.links.values())
    )
    pieces = [Piece(solid, capsule) for solid, capsule in _enclose(link.name, solids)]
    if missing or bare:
        none = Solid(np.zeros((0, 3, 3)), np.zeros((0, 4)))
        pieces += [Piece(none, capsule) for capsule in _along_link(urdf, link.name)]
    return tuple(pieces), tuple(warnings)


def enclosing_capsule(link: str, balls: Array) -> Capsule:
    """A small capsule around balls ``(n, 4)`` (centre, radius), found by search from their main axes."""
    outer = _outermost(balls[:: len(balls) // _SEEN + 1])
    centre = outer[:, :3].mean(axis=0)
    # All three axes also of one or two points; else the full form would make a square of all points.
    axes = np.linalg.svd(outer[:, :3] - centre, full_matrices=len(outer) < 3)[2]
    best, least = np.empty(6), np.inf
    for axis in axes[:2]:
        along = (outer[:, :3] - centre) @ axis
        low, high = float(along.min()), float(along.max())
        thickness = 0.25 * (high - low)
        across = outer[:, :3] - np.outer(along, axis)
        middle = 0.5 * (across.min(axis=0) + across.max(axis=0))
        ends = np.concatenate([middle + (low + thickness) * axis, middle + (high - thickness) * axis])
        volume = _shrink(outer, ends)
        if volume < least:
            best, least = ends, volume
    radius = _radius(balls, best) + _ROUNDING_M
    return Capsule(link, best[:3].copy(), best[3:].copy(), float(radius))


def _volume(length_m: float, radius_m: float) -> float:
    return float(np.pi * radius_m**2 * (length_m + 4.0 / 3.0 * radius_m))


def _directions() -> Array:
    """Evenly spread unit vectors ``(n, 3)`` (a Fibonacci spiral) and the axes."""
    k = np.arange(_DIRECTIONS) + 0.5
    z, turn = 1.0 - 2.0 * k / _DIRECTIONS, np.pi * (1.0 + np.sqrt(5.0)) * k
    ring = np.sqrt(1.0 - z * z)
    return np.concatenate([np.c_[ring * np.cos(turn), ring * np.sin(turn), z], np.eye(3), -np.eye(3)])


_SPREAD = _directions()


def _outermost(balls: Array) -> Array:
    if len(balls) <= len(_SPREAD):
        return np.ascontiguousarray(balls)
    reach = _SPREAD @ balls[:, :3].T + balls[:, 3]
    return np.ascontiguousarray(balls[np.unique(reach.argmax(axis=1))])


@compiled
def _radius(balls, ends):  # type: ignore[no-untyped-def]
    """The radius that encloses balls ``(n, 4)`` around the segment `ends` ``(6,)``."""
    dx, dy, dz = ends[3] - ends[0], ends[4] - ends[1], ends[5] - ends[2]
    squared = dx * dx + dy * dy + dz * dz
    radius = 0.0
    for i in range(balls.shape[0]):
        x, y, z = balls[i, 0] - ends[0], balls[i, 1] - ends[1], balls[i, 2] - ends[2]
        t = 0.0
        if squared > 1e-18:
            t = min(1.0, max(0.0, (x * dx + y * dy + z * dz) / squared))
        x, y, z = x - t * dx, y - t * dy, z - t * dz
        radius = max(radius, np.sqrt(x * x + y * y + z * z) + balls[i, 3])
    return radius


@compiled
def _cost(balls, ends):  # type: ignore[no-untyped-def]
    radius = _radius(balls, ends)
    length = np.sqrt((ends[3] - ends[0]) ** 2 + (ends[4] - ends[1]) ** 2 + (ends[5] - ends[2]) ** 2)
    return np.pi * radius * radius * (length + 4.0 / 3.0 * radius)


@compiled
def _shrink(balls, ends):  # type: ignore[no-untyped-def]
    """Move `ends` ``(6,)`` to the least volume nearby: steps along the coordinates, shrinking; the volume."""
    least = _cost(balls, ends)
    step = 0.3 * _radius(balls, ends)
    smallest = 1e-3 * step
    trial = ends.copy()
    while step > smallest:
        better = False
        # Each end, both together (a shift) and both apart (a stretch), along every axis.
        for mode in range(4):
            for axis in range(3):
                for sign in (-1.0, 1.0):
                    trial[:] = ends
                    if mode != 1:
                        trial[axis] += sign * step
                    if mode != 0:
                        trial[3 + axis] += sign * step * (-1.0 if mode == 3 else 1.0)
                    volume = _cost(balls, trial)
                    if volume < least * (1.0 - 1e-6):
                        least, better = volume, True
                        ends[:] = trial
        if not better:
            step *= 0.5
    return least


def _solid(shape: Shape) -> Solid | None:
    """The shape's surface in the link frame; None for a mesh that was not found or a shape of no size."""
    geometry = shape.geometry
    size, none = geometry.size_m, np.zeros((0, 4))
    if geometry.kind == "mesh":
        if geometry.mesh is None:
            return None
        triangles = mesh_triangles(geometry.mesh) * np.array(geometry.scale)
        return Solid(_placed(shape.pose, triangles), none)
    if not all(value > 0.0 for value in size[:1]) or any(value < 0.0 for value in size):
        return None
    if geometry.kind == "box":
        signs = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], dtype=np.float64)
        corners = 0.5 * signs * np.array(size)
        faces = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
        rows = [row for a, b, c, d in faces for row in ((a, b, c), (a, c, d))]
        return Solid(_placed(shape.pose, corners[np.array(rows)]), none)
    if geometry.kind == "cylinder":
        return Solid(_placed(shape.pose, _prism(size[0], size[1])), none)
    half = 0.5 * size[1] if geometry.kind == "capsule" else 0.0
    centres = np.array([[0.0, 0.0, z] for z in ((-half, half) if half else (0.0,))])
    balls = np.c_[pose_apply(shape.pose, centres), np.full(len(centres), size[0])]
    return Solid(np.zeros((0, 3, 3)), balls)


def _placed(pose: Array, triangles: Array) -> Array:
    return pose_apply(pose, triangles.reshape(-1, 3)).reshape(-1, 3, 3)


def _prism(radius_m: float, length_m: float) -> Array:
    """Triangles of the prism around a cylinder along z."""
    turn = 2.0 * np.pi * np.arange(_SIDES) / _SIDES
    ring = radius_m / np.cos(np.pi / _SIDES) * np.c_[np.cos(turn), np.sin(turn)]
    low, high = np.c_[ring, np.full(_SIDES, -0.5 * length_m)], np.c_[ring, np.full(_SIDES, 0.5 * length_m)]
    low_next, high_next = np.roll(low, -1, axis=0), np.roll(high, -1, axis=0)
    sides = [np.stack([low, low_next, high], axis=1), np.stack([high, high_next, low_next], axis=1)]
    caps = [
        np.stack([np.tile(centre, (_SIDES, 1)), ends, following], axis=1)
        for centre, ends, following in (
            ([0.0, 0.0, -0.5 * length_m], low, low_next),
            ([0.0, 0.0, 0.5 * length_m], high, high_next),
        )
    ]
    return np.concatenate([*sides, *caps])


def _cut(triangles: Array, axis: int, where: float) -> tuple[Array, Array]:
    """The parts of triangles ``(k, 3, 3)`` below and above the plane ``x[axis] = where``."""
    height = triangles[:, :, axis] - where
    above = height > 0.0
    count = above.sum(axis=1)
    below_parts, above_parts = [triangles[count == 0]], [triangles[count == 3]]
    for lonely_above in (False, True):
        rows = np.flatnonzero(count == (1 if lonely_above else 2))
        if not len(rows):
            continue
        lonely = (above[rows] == lonely_above).argmax(axis=1)
        a, b, c = (triangles[rows, (lonely + k) % 3] for k in range(3))
        ha, hb, hc = (height[rows, (lonely + k) % 3] for k in range(3))
        ab = a + (ha / (ha - hb))[:, None] * (b - a)
        ac = a + (ha / (ha - hc))[:, None] * (c - a)
        tip = np.stack([a, ab, ac], axis=1)
        base = np.concatenate([np.stack([ab, b, c], axis=1), np.stack([ab, c, ac], axis=1)])
        (above_parts if lonely_above else below_parts).append(tip)
        (below_parts if lonely_above else above_parts).append(base)
    return np.concatenate(below_parts), np.concatenate(above_parts)


def _enclose(link: str, solids: list[Solid]) -> list[tuple[Solid, Capsule]]:
    parts = [(solid, enclosing_capsule(link, solid.corners())) for solid in solids]
    merging = True
    while merging and len(parts) > 1:
        merging = False
        best: tuple[float, int, int, Solid, Capsule] | None = None
        for i in range(len(parts)):
            for j in range(i + 1, len(parts)):
                one, two = parts[i][0], parts[j][0]
                joined = Solid(
                    np.concatenate([one.triangles, two.triangles]), np.concatenate([one.balls, two.balls])
                )
                capsule = enclosing_capsule(link, joined.corners())
                growth = capsule.volume_m3 / (parts[i][1].volume_m3 + parts[j][1].volume_m3)
                if best is None or growth < best[0]:
                    best = (growth, i, j, joined, capsule)
        if best is not None and (
            best[0] < _MERGED_SHARE or len(parts) > MOST_PER_LINK or best[4].radius_m < _THIN_M
        ):
            _, i, j, joined, capsule = best
            parts = [part for k, part in enumerate(parts) if k not in (i, j)] + [(joined, capsule)]
            merging = True
    # What cannot usefully be cut is not tried again.
    whole: list[tuple[Solid, Capsule]] = []
    while parts and len(parts) + len(whole) < MOST_PER_LINK:
        parts.sort(key=lambda part: part[1].volume_m3)
        solid, capsule = parts.pop()
        halves = _halves(link, solid, capsule)
        if halves is None:
            whole.append((solid, capsule))
        else:
            parts += halves
    return whole + parts


def _halves(link: str, solid: Solid, capsule: Capsule) -> list[tuple[Solid, Capsule]] | None:
    """The two sides of the cut that saves most of the capsule's volume; None if no cut saves enough."""
    if len(solid.balls) or capsule.radius_m < _THIN_M:
        return None
    points = solid.triangles.reshape(-1, 3)
    middle = 0.5 * (points.min(axis=0) + points.max(axis=0))
    best: list[tuple[Solid, Capsule]] | None = None
    least = (1.0 - _SAVED_BY_CUT) * capsule.volume_m3
    for axis in range(3):
        sides = _cut(solid.triangles, axis, float(middle[axis]))
        if not all(len(side) for side in sides):
            continue
        halves = [Solid(side, solid.balls) for side in sides]
        found = [(half, enclosing_capsule(link, half.corners())) for half in halves]
        volume = sum(part[1].volume_m3 for part in found)
        if volume < least:
            best, least = found, volume
    return best


def _along_link(urdf: Urdf, link: str) -> list[Capsule]:
    """A capsule from the link's origin to its farthest child joint, none around a very short link."""
    ends = [joint.pose[:3] for joint in urdf.joints.values() if joint.parent == link]
    end = max(ends, key=lambda p: float(np.linalg.norm(p)), default=np.zeros(3))
    length = float(np.linalg.norm(end))
    if length < _SHORTEST_LINK_M:
        return []
    return [Capsule(link, np.zeros(3), end.copy(), _RADIUS_PER_LENGTH * length)]
