"""Forward kinematics and Jacobians of a URDF over many configurations at once.

Written apart from `retargeting`, whose commands are checked with it: a mistake there must not hide
here. Arrays lead with the configurations: ``q`` is ``(n, joints)``, rotations ``(n, 3, 3)``,
positions ``(n, 3)``; metres and radians, everything in the root link's frame.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from episodes.errors import EpisodeError

Array = NDArray[np.float64]
MOVABLE = ("revolute", "continuous", "prismatic")


@dataclass(frozen=True)
class TreeJoint:
    """A joint of the URDF: `rotation`, `position` place it in its parent; `axis` is a unit vector in it.

    A mimic joint follows `source` (else its own name) with `multiplier` and `offset`.
    """

    name: str
    kind: str
    parent: str
    child: str
    rotation: Array
    position: Array
    axis: Array
    lower: float
    upper: float
    velocity: float
    source: str
    multiplier: float
    offset: float

    @property
    def moves(self) -> bool:
        return self.kind in MOVABLE


@dataclass(frozen=True)
class Site:
    """A named frame on a link: `rotation` ``(3, 3)`` and `position` ``(3,)`` in the link."""

    link: str
    rotation: Array
    position: Array


@dataclass(frozen=True)
class Placement:
    """Where a frame is: `rotation` ``(n, 3, 3)``, `position` ``(n, 3)`` in the root link."""

    rotation: Array
    position: Array


def rotation_from_rpy(rpy: Sequence[float]) -> Array:
    """URDF's fixed-axis roll, pitch, yaw (rad): ``Rz(yaw) Ry(pitch) Rx(roll)``."""
    (cr, cp, cy), (sr, sp, sy) = np.cos(rpy), np.sin(rpy)
    return np.array(
        [
            [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
            [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
            [-sp, cp * sr, cp * cr],
        ]
    )


def rotation_from_quaternion(xyzw: Array) -> Array:
    """Rotations ``(n, 3, 3)`` of quaternions ``(n, 4)`` of any length above zero."""
    x, y, z, w = np.moveaxis(xyzw / np.linalg.norm(xyzw, axis=-1, keepdims=True), -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def rotation_vector(rotation: Array) -> Array:
    """Rotation vectors ``(..., 3)`` of rotations ``(..., 3, 3)``: axis times angle in [0, pi]."""
    skew = 0.5 * np.stack(
        [
            rotation[..., 2, 1] - rotation[..., 1, 2],
            rotation[..., 0, 2] - rotation[..., 2, 0],
            rotation[..., 1, 0] - rotation[..., 0, 1],
        ],
        axis=-1,
    )
    sine = np.linalg.norm(skew, axis=-1)
    cosine = 0.5 * (np.trace(rotation, axis1=-2, axis2=-1) - 1.0)
    angle = np.arctan2(sine, cosine)
    small = sine < 1e-8
    result: Array = skew * np.where(small, 1.0, angle / np.where(small, 1.0, sine))[..., None]
    half_turn = small & (cosine < 0.0)
    if np.any(half_turn):
        # At half a turn R + I = 2 a a^T: its largest column shows the axis.
        outer = rotation[half_turn] + np.eye(3)
        column = np.argmax(np.einsum("nii->ni", outer), axis=-1)
        axis = outer[np.arange(len(outer)), :, column]
        result[half_turn] = np.pi * axis / np.linalg.norm(axis, axis=-1, keepdims=True)
    return result


def rotation_angle(rotation: Array) -> Array:
    """Angle (rad) of rotations ``(..., 3, 3)``, exact for small ones."""
    angle: Array = np.linalg.norm(rotation_vector(rotation), axis=-1)
    return angle


def _numbers(text: str | None, default: tuple[float, ...]) -> Array:
    return np.array(default if text is None else [float(word) for word in text.split()], dtype=np.float64)


class KinematicTree:
    """The joints of a URDF, root first.

    Raises `EpisodeError` on text that is no URDF with one root.
    """

    def __init__(self, urdf_text: str) -> None:
        try:
            robot = ElementTree.fromstring(urdf_text)
            joints = [_read_joint(element) for element in robot.findall("joint")]
        except (ElementTree.ParseError, ValueError, AttributeError, KeyError) as error:
            raise EpisodeError(None, f"robot.urdf cannot be read: {error}") from error
        self.links = tuple(element.get("name", "") for element in robot.findall("link"))
        children = {joint.child for joint in joints}
        roots = [link for link in self.links if link not in children]
        if len(roots) != 1 or len(children) != len(joints):
            raise EpisodeError(None, f"robot.urdf is no tree: root links {roots}, {len(joints)} joints")
        self.root = roots[0]
        by_name = {joint.name: joint for joint in joints}
        self.joints: Mapping[str, TreeJoint] = {joint.name: _followed(joint, by_name) for joint in joints}
        self.carrier: Mapping[str, TreeJoint] = {joint.child: joint for joint in self.joints.values()}

    def path(self, link: str) -> list[TreeJoint]:
        """The joints from the root to a link, root first."""
        joints: list[TreeJoint] = []
        while link != self.root:
            joint = self.carrier.get(link)
            if joint is None:
                raise EpisodeError(None, f"robot.urdf has no link {link!r}")
            if len(joints) > len(self.joints):
                raise EpisodeError(None, f"robot.urdf has a loop of joints at link {link!r}")
            joints.append(joint)
            link = joint.parent
        return joints[::-1]

    def place(self, links: Sequence[str], names: Sequence[str], q: Array) -> dict[str, Placement]:
        """Where links are, joints `names` at `q` ``(n, len(names))``; other joints stand at zero."""
        placements, _ = self._walk(links, names, q)
        return {link: placements[link] for link in links}

    def place_sites(self, sites: Mapping[str, Site], names: Sequence[str], q: Array) -> dict[str, Placement]:
        """Where sites are."""
        placements, _ = self._walk([site.link for site in sites.values()], names, q)
        return {name: _at(placements[site.link], site) for name, site in sites.items()}

    def jacobians(
        self, sites: Mapping[str, Site], names: Sequence[str], q: Array
    ) -> dict[str, tuple[Placement, Array]]:
        """Site placements and Jacobians ``(n, 6, len(names))``: velocity over angular velocity, root axes."""
        placements, axes = self._walk([site.link for site in sites.values()], names, q)
        column = {name: k for k, name in enumerate(names)}
        result = {}
        for name, site in sites.items():
            at = _at(placements[site.link], site)
            jacobian = np.zeros((len(q), 6, len(names)))
            for joint in self.path(site.link):
                k = column.get(joint.source)
                if k is None or not joint.moves:
                    continue
                axis, origin = axes[joint.name]
                if joint.kind == "prismatic":
                    jacobian[:, :3, k] += joint.multiplier * axis
                else:
                    jacobian[:, :3, k] += joint.multiplier * np.cross(axis, at.position - origin)
                    jacobian[:, 3:, k] += joint.multiplier * axis
            result[name] = (at, jacobian)
        return result

    def _walk(
        self, links: Sequence[str], names: Sequence[str], q: Array
    ) -> tuple[dict[str, Placement], dict[str, tuple[Array, Array]]]:
        count = len(q)
        column = {name: k for k, name in enumerate(names)}
        placements = {self.root: Placement(np.broadcast_to(np.eye(3), (count, 3, 3)), np.zeros((count, 3)))}
        axes: dict[str, tuple[Array, Array]] = {}
        for link in links:
            for joint in self.path(link):
                if joint.child in placements:
                    continue
                parent = placements[joint.parent]
                rotation = parent.rotation @ joint.rotation
                position = parent.position + parent.rotation @ joint.position
                if joint.moves:
                    k = column.get(joint.source)
                    value = joint.offset + joint.multiplier * (np.zeros(count) if k is None else q[:, k])
                    axis = rotation @ joint.axis
                    axes[joint.name] = (axis, position)
                    if joint.kind == "prismatic":
                        position = position + value[:, None] * axis
                    else:
                        rotation = rotation @ _turn(joint.axis, value)
                placements[joint.child] = Placement(rotation, position)
        return placements, axes


def _at(placement: Placement, site: Site) -> Placement:
    return Placement(
        placement.rotation @ site.rotation, placement.position + placement.rotation @ site.position
    )


def _turn(axis: Array, angle: Array) -> Array:
    """Rotations ``(n, 3, 3)`` about one axis (Rodrigues)."""
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    sine, versine = np.sin(angle)[:, None, None], (1.0 - np.cos(angle))[:, None, None]
    result: Array = np.eye(3) + sine * cross + versine * (cross @ cross)
    return result


def _followed(joint: TreeJoint, joints: Mapping[str, TreeJoint]) -> TreeJoint:
    """A mimic joint of a mimic joint, made to follow the one that is commanded."""
    source, multiplier, offset = joint.source, joint.multiplier, joint.offset
    for _ in joints:
        leader = joints.get(source)
        if leader is None:
            raise EpisodeError(
                None, f"robot.urdf: joint {joint.name!r} mimics {source!r}, which does not exist"
            )
        if leader.source == leader.name:
            break
        source = leader.source
        offset += multiplier * leader.offset
        multiplier *= leader.multiplier
    return replace(joint, source=source, multiplier=multiplier, offset=offset)


def _read_joint(element: ElementTree.Element) -> TreeJoint:
    name, kind = element.attrib["name"], element.attrib["type"]
    origin, axis, limit, mimic = (element.find(tag) for tag in ("origin", "axis", "limit", "mimic"))
    parent, child = element.find("parent"), element.find("child")
    if parent is None or child is None:
        raise ValueError(f"joint {name!r} has no parent or child")
    at: Mapping[str, str] = {} if origin is None else origin.attrib
    direction = _numbers(None if axis is None else axis.get("xyz"), (1.0, 0.0, 0.0))
    norm = float(np.linalg.norm(direction))
    bounds: Mapping[str, str] = {} if limit is None else limit.attrib
    free = kind == "continuous" or limit is None
    velocity = float(bounds.get("velocity", "inf"))
    return TreeJoint(
        name=name,
        kind=kind,
        parent=parent.attrib["link"],
        child=child.attrib["link"],
        rotation=rotation_from_rpy(_numbers(at.get("rpy"), (0.0, 0.0, 0.0)).tolist()),
        position=_numbers(at.get("xyz"), (0.0, 0.0, 0.0)),
        axis=direction / norm if norm > 1e-9 else np.array([1.0, 0.0, 0.0]),
        lower=-math.inf if free else float(bounds.get("lower", "0")),
        upper=math.inf if free else float(bounds.get("upper", "0")),
        # A limit of zero (or less) is no limit: such a joint could not move at all.
        velocity=velocity if velocity > 0.0 else math.inf,
        source=name if mimic is None else mimic.attrib["joint"],
        multiplier=1.0 if mimic is None else float(mimic.get("multiplier", "1")),
        offset=0.0 if mimic is None else float(mimic.get("offset", "0")),
    )
