"""Load a URDF (or the xacro file it comes from) into plain records: links, joints, limits, geometry.

What cannot be used is refused with every problem and its line; what is harmless is repaired and
listed in `Urdf.warnings`. Which is which stands in `docs/robots.md`.
"""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from retargeting.errors import InvalidConfiguration, Problem
from retargeting.frames import pose_compose, pose_from_xyz_rpy, quaternion_from_rotation_vector
from retargeting.package_paths import PackagePaths
from retargeting.xacro_file import expand_xacro, uses_xacro
from retargeting.xml_document import parse_xml, read_xml

Array = NDArray[np.float64]
JointKind = Literal["revolute", "continuous", "prismatic", "fixed"]
GeometryKind = Literal["box", "cylinder", "sphere", "capsule", "mesh"]

MOVABLE_KINDS = ("revolute", "continuous", "prismatic")

# Rounding of a file's digits: less than simulation adds to every moment of inertia (kg m²).
_INERTIA_TOLERANCE_KG_M2 = 1e-6
# No body has a principal moment above the sum of the others. Files of well-known robots (ANYmal, Go1, PR2)
# do not keep that, by any factor; simulation evens it out, so it is a warning.
_UNEVEN_INERTIA = 1.01

# A velocity limit from here on (rad/s, m/s) was never measured: files say 50, 100, 1000, 1e9.
PLACEHOLDER_VELOCITY = 50.0
# Limits beyond are degrees or millimetres, or stand for none.
_LARGEST_TURN_RAD = 4.0 * math.pi + 0.1
_LARGEST_SLIDE_M = 10.0
# Files write the largest number there is for a range without an end.
_ENDLESS = 1e30
# Metres, radians, kilograms, ratios: no robot's, and squares of it still are numbers.
_LARGEST_NUMBER = 1e9
# More than the rounding of an axis's digits.
_AXIS_TOLERANCE = 0.01
# Where a follower's own limits leave less than this of its leader's range, they are the wrong ones.
_SMALLEST_SHARE_OF_RANGE = 0.05
_CAP_APPLIES = "the cap of robot.yaml's limits applies"
_SEPARATING_COMMA = re.compile(r",(?=\s)")
# Problems that come with a guess at the name that was meant.
_HINTS = 20
_INFINITE = ("inf", "infinity")
_INERTIA_ENTRIES = ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")


@dataclass(frozen=True)
class Geometry:
    """A shape's geometry; cylinders and capsules lie along z.

    `size_m`: box full x, y, z; cylinder and capsule radius, length; sphere radius; mesh empty.
    `mesh` is the resolved file or None where it was not found (`mesh_uri` keeps what was asked).
    """

    kind: GeometryKind
    size_m: tuple[float, ...] = ()
    mesh: Path | None = None
    mesh_uri: str = ""
    scale: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Shape:
    """A visual or collision shape, `pose` ``(7,)`` in the link frame."""

    geometry: Geometry
    pose: Array
    rgba: tuple[float, float, float, float] | None = None


@dataclass(frozen=True)
class Inertial:
    """Mass and inertia ``(3, 3)`` about the centre of mass, in the axes of `pose` ``(7,)``."""

    mass_kg: float
    pose: Array
    inertia_kg_m2: Array


@dataclass(frozen=True)
class Link:
    name: str
    inertial: Inertial | None
    visuals: tuple[Shape, ...]
    collisions: tuple[Shape, ...]


@dataclass(frozen=True)
class Mimic:
    """This joint's position is ``multiplier * position(joint) + offset``."""

    joint: str
    multiplier: float = 1.0
    offset: float = 0.0


@dataclass(frozen=True)
class Joint:
    """`pose` ``(7,)`` is the child in the parent at zero; `axis` ``(3,)`` is a unit vector in the child.

    Limits in rad, rad/s, N m (prismatic: m, m/s, N); infinite where the URDF states none that means
    anything. A revolute or prismatic joint whose range is not stated has the range 0 .. 0.
    The leader of a mimic never mimics itself, and its range and velocity keep its followers within theirs.
    """

    name: str
    kind: JointKind
    parent: str
    child: str
    pose: Array
    axis: Array
    lower: float = -math.inf
    upper: float = math.inf
    velocity: float = math.inf
    effort: float = math.inf
    mimic: Mimic | None = None
    damping: float = 0.0
    friction: float = 0.0


@dataclass(frozen=True)
class UrdfWarning:
    """One harmless thing that was repaired: `place` in the file and which `kind` of thing it is."""

    kind: str
    place: str

    def __str__(self) -> str:
        return f"{self.place}: {self.kind}"


@dataclass(frozen=True)
class Urdf:
    """A checked kinematic tree. `joints` keeps the file's order.

    `text` is the URDF as it was read: after xacro, and with what was mended in attributes that every
    reader needs (numbers, mimics).
    """

    name: str
    path: Path
    text: str
    links: dict[str, Link]
    joints: dict[str, Joint]
    root: str
    warnings: tuple[UrdfWarning, ...]

    def warning_lines(self) -> tuple[str, ...]:
        """One line for each kind of warning: the first place, and how many more there are."""
        lines = []
        for kind in dict.fromkeys(warning.kind for warning in self.warnings):
            places = [warning.place for warning in self.warnings if warning.kind == kind]
            more = f" (and {len(places) - 1} more)" if len(places) > 1 else ""
            lines.append(f"{self.path}: {places[0]}{more}: {kind}")
        return tuple(lines)

    def joints_root_first(self) -> Iterator[Joint]:
        """Every joint, each after the joint that carries its parent."""
        children: dict[str, list[Joint]] = {}
        for joint in self.joints.values():
            children.setdefault(joint.parent, []).append(joint)
        pending = list(reversed(children.get(self.root, [])))
        while pending:
            joint = pending.pop()
            yield joint
            pending.extend(reversed(children.get(joint.child, [])))


class _Reader:
    def __init__(self, path: Path, package_paths: Sequence[Path], xacro_arguments: Mapping[str, str]) -> None:
        self.path = path
        self.problems: list[Problem] = []
        self.warnings: list[UrdfWarning] = []
        self.mended = False
        self._joint_elements: dict[str, ElementTree.Element] = {}
        self._link_elements: dict[str, ElementTree.Element] = {}
        self._where = ""
        self.document = read_xml(path)
        self.packages = PackagePaths(path, package_paths)
        self._check_root(xacro_arguments)

    def _check_root(self, xacro_arguments: Mapping[str, str]) -> None:
        """Refuse what is no robot; replace what uses xacro by what it expands to."""
        root = self.document.root
        if root.tag != "robot":
            self.problem(root, f"<{root.tag}> found, <robot> expected")
            raise InvalidConfiguration(self.problems)
        for line, what in self.document.repairs:
            self.warnings.append(UrdfWarning(what, f"line {line}"))
        if uses_xacro(self.path, root):
            text, said = expand_xacro(self.path, self.packages, xacro_arguments)
            self.warnings += [UrdfWarning(line, "xacro") for line in said]
            self.document = parse_xml(self.path, text.encode("utf-8"))
            self._where = " after xacro"

    def place(self, element: ElementTree.Element) -> str:
        return f"line {self.document.line(element)}{self._where}"

    def problem(self, element: ElementTree.Element, message: str) -> None:
        self.problems.append(Problem(self.path, self.place(element), message))

    def warn(self, element: ElementTree.Element, what: str, kind: str) -> None:
        self.warnings.append(UrdfWarning(kind, f"{self.place(element)}: {what}"))

    def numbers(
        self,
        element: ElementTree.Element,
        attribute: str,
        count: int,
        default: Sequence[float] | None,
        largest: float = _LARGEST_NUMBER,
    ) -> tuple[float, ...]:
        """The attribute's numbers; a missing one is `default`, or a problem where that is None."""
        text = element.get(attribute)
        fallback = (0.0,) * count if default is None else tuple(default)
        if text is None:
            if default is None:
                self.problem(element, f"<{element.tag}> has no {attribute}")
            return fallback
        values = _parsed(text, count)
        if not values and (values := _parsed(_SEPARATING_COMMA.sub(" ", text), count)):
            self.warn(element, f'<{element.tag} {attribute}="{text}">', "commas between numbers are left out")
            element.set(attribute, _SEPARATING_COMMA.sub(" ", text))
            self.mended = True
        if not values:
            self.problem(element, f'<{element.tag} {attribute}="{text}">: {count} finite number(s) expected')
            return fallback
        if max(abs(value) for value in values) > largest:
            self.problem(element, f'<{element.tag} {attribute}="{text}">: at most ±{largest:g} expected')
            return fallback
        return values

    def number(
        self,
        element: ElementTree.Element,
        attribute: str,
        default: float | None,
        largest: float = _LARGEST_NUMBER,
    ) -> float:
        return self.numbers(element, attribute, 1, None if default is None else [default], largest)[0]

    def name(self, element: ElementTree.Element, attribute: str = "name") -> str:
        name = element.get(attribute, "").strip()
        if not name:
            self.problem(element, f"<{element.tag}> has no {attribute}")
        return name

    def origin(self, element: ElementTree.Element) -> Array:
        origin = element.find("origin")
        if origin is None:
            return pose_from_xyz_rpy([0.0] * 3, [0.0] * 3)
        return pose_from_xyz_rpy(
            self.numbers(origin, "xyz", 3, [0.0] * 3), self.numbers(origin, "rpy", 3, [0.0] * 3)
        )

    def colour(self, element: ElementTree.Element) -> tuple[float, float, float, float] | None:
        values = _parsed(element.get("rgba", ""), 4)
        if not values:
            self.warn(element, f'<color rgba="{element.get("rgba", "")}">', "no colour; it is left out")
            return None
        return (values[0], values[1], values[2], values[3])

    def geometry(self, element: ElementTree.Element) -> Geometry | None:
        geometry = element.find("geometry")
        shape = None if geometry is None else next(iter(geometry), None)
        if shape is None:
            self.warn(element, f"<{element.tag}>", "no geometry in it; it is left out")
            return None
        if shape.tag == "mesh":
            uri = shape.get("filename", "")
            mesh = self.packages.file(uri)
            if mesh is None:
                self.warn(shape, f"mesh {uri!r}", "not found; a capsule along the link replaces it")
            x, y, z = self.numbers(shape, "scale", 3, [1.0] * 3)
            return Geometry("mesh", (), mesh, uri, (x, y, z))
        size: tuple[float, ...]
        kind: GeometryKind
        if shape.tag == "box":
            kind, size = "box", self.numbers(shape, "size", 3, None)
        elif shape.tag in ("cylinder", "capsule"):
            kind = "cylinder" if shape.tag == "cylinder" else "capsule"
            size = (self.number(shape, "radius", None), self.number(shape, "length", None))
        elif shape.tag == "sphere":
            kind, size = "sphere", (self.number(shape, "radius", None),)
        else:
            choices = "box, cylinder, capsule, sphere or mesh"
            self.problem(shape, f"unknown geometry <{shape.tag}>: {choices} expected")
            return None
        if min(size) < 0.0:
            self.problem(shape, f"<{shape.tag}> has a negative size: {size}")
        elif min(size) == 0.0:
            self.warn(shape, f"<{shape.tag}>", "size 0; it is left out")
            return None
        return Geometry(kind, size)

    def shapes(
        self,
        link: ElementTree.Element,
        tag: str,
        materials: Mapping[str, tuple[float, float, float, float] | None],
    ) -> tuple[Shape, ...]:
        shapes = []
        for element in link.findall(tag):
            geometry = self.geometry(element)
            if geometry is None:
                continue
            material = element.find("material")
            rgba = None
            if material is not None:
                color = material.find("color")
                named = materials.get(material.get("name", ""))
                rgba = named if color is None else self.colour(color)
            shapes.append(Shape(geometry, self.origin(element), rgba))
        return tuple(shapes)

    def link(
        self,
        element: ElementTree.Element,
        materials: Mapping[str, tuple[float, float, float, float] | None],
    ) -> Link:
        inertial = element.find("inertial")
        return Link(
            self.name(element),
            None if inertial is None else self.inertial(inertial, element.get("name", "")),
            self.shapes(element, "visual", materials),
            self.shapes(element, "collision", materials),
        )

    def inertial(self, element: ElementTree.Element, link: str) -> Inertial:
        mass, tensor = element.find("mass"), element.find("inertia")
        mass_kg = 0.0 if mass is None else self.number(mass, "value", 0.0)
        if mass_kg < 0.0:
            self.problem(element, f"link {link!r}: negative mass {mass_kg} kg")
        xx, xy, xz, yy, yz, zz = (
            0.0 if tensor is None else self.number(tensor, entry, 0.0) for entry in _INERTIA_ENTRIES
        )
        inertia = np.array([[xx, xy, xz], [xy, yy, yz], [xz, yz, zz]])
        inertia = self._possible_inertia(element if tensor is None else tensor, link, inertia)
        return Inertial(mass_kg, self.origin(element), inertia)

    def _possible_inertia(self, element: ElementTree.Element, link: str, inertia_kg_m2: Array) -> Array:
        """No moment below 0; a balanced inertia, which simulation makes of it, mends the rest."""
        moments, axes = np.linalg.eigh(inertia_kg_m2)
        shown = " ".join(f"{moment:.4g}" for moment in moments)
        smallest, middle, largest = (float(moment) for moment in moments)
        if smallest < -_INERTIA_TOLERANCE_KG_M2:
            self.warn(
                element,
                f"link {link!r}, principal moments of inertia {shown} kg m²",
                "none may be negative and simulation takes 0; check the order and signs of ixx, ixy …",
            )
            mended: Array = axes @ np.diag(np.maximum(moments, 0.0)) @ axes.T
            return mended
        if largest > _UNEVEN_INERTIA * (smallest + middle) + _INERTIA_TOLERANCE_KG_M2:
            self.warn(
                element,
                f"link {link!r}, principal moments of inertia {shown} kg m²",
                "the largest exceeds the sum of the others, which no body has; simulation evens them out",
            )
        return inertia_kg_m2

    def joint(self, element: ElementTree.Element) -> Joint | None:
        name = self.name(element)
        kind = element.get("type", "").strip()
        if kind in ("floating", "planar"):
            self.warn(element, f"joint {name!r}", f"a {kind} joint is treated as fixed")
            kind = "fixed"
        if kind not in (*MOVABLE_KINDS, "fixed"):
            choices = ", ".join((*MOVABLE_KINDS, "fixed"))
            self.problem(element, f"joint {name!r} has type {kind!r}; {choices} expected")
            return None
        parent, child = element.find("parent"), element.find("child")
        if parent is None or child is None:
            self.problem(element, f"joint {name!r} needs <parent> and <child>")
            return None
        moves = kind != "fixed"
        limits = self.limits(element, name, kind) if moves else {}
        mimic_element = element.find("mimic")
        mimic = None
        if mimic_element is not None and moves:
            mimic = Mimic(
                self.name(mimic_element, "joint"),
                self.number(mimic_element, "multiplier", 1.0),
                self.number(mimic_element, "offset", 0.0),
            )
        dynamics = element.find("dynamics")
        return Joint(
            name,
            kind,  # type: ignore[arg-type]
            self.name(parent, "link"),
            self.name(child, "link"),
            self.origin(element),
            self.axis(element, name) if moves else np.array([1.0, 0.0, 0.0]),
            **limits,
            mimic=mimic,
            damping=self._loss(dynamics, "damping", name),
            friction=self._loss(dynamics, "friction", name),
        )

    def axis(self, joint: ElementTree.Element, name: str) -> Array:
        element = joint.find("axis")
        default = np.array([1.0, 0.0, 0.0])
        if element is None:
            return default
        axis: Array = np.array(self.numbers(element, "xyz", 3, (1.0, 0.0, 0.0), math.inf))
        # A length that overflows or underflows says nothing of the direction.
        largest = float(np.abs(axis).max())
        if largest < 1e-9:
            self.problem(element, f"joint {name!r} has a zero axis")
            return default
        length = largest * float(np.linalg.norm(axis / largest))
        if abs(length - 1.0) > _AXIS_TOLERANCE:
            self.warn(element, f"joint {name!r}", "an axis that is no unit vector is made one")
        axis = axis / largest
        return axis / float(np.linalg.norm(axis))

    def _loss(self, dynamics: ElementTree.Element | None, attribute: str, joint: str) -> float:
        value = 0.0 if dynamics is None else self.number(dynamics, attribute, 0.0)
        if value < 0.0 and dynamics is not None:
            self.warn(dynamics, f"joint {joint!r}", f"negative {attribute} means nothing and is ignored")
        return max(0.0, value)

    def limits(self, joint: ElementTree.Element, name: str, kind: str) -> dict[str, float]:
        """lower, upper, velocity, effort as `Joint` has them."""
        element = joint.find("limit")
        lower, upper = self._range(joint, element, name, kind)
        limits = {"lower": lower, "upper": upper}
        for key, otherwise in (("velocity", _CAP_APPLIES), ("effort", "simulation takes one of its own")):
            text = None if element is None else element.get(key)
            if element is None or text is None:
                self.warn(
                    joint if element is None else element, f"joint {name!r}", f"no {key} limit; {otherwise}"
                )
                limits[key] = math.inf
                continue
            # "inf" is a way of stating none; anything else that is not finite is a problem.
            value = (
                math.inf
                if text.strip().lstrip("+").lower() in _INFINITE
                else self.number(element, key, 0.0, math.inf)
            )
            if value <= 0.0 or value > _ENDLESS:
                self.warn(element, f"joint {name!r}", f"{key} limit {value:g} means nothing and is ignored")
                value = math.inf
            elif key == "velocity" and value >= PLACEHOLDER_VELOCITY:
                self.warn(
                    element,
                    f"joint {name!r}, velocity limit {value:g}",
                    f"{PLACEHOLDER_VELOCITY:g} and more is a placeholder and is ignored; {_CAP_APPLIES}",
                )
                value = math.inf
            limits[key] = value
        return limits

    def _range(
        self, joint: ElementTree.Element, element: ElementTree.Element | None, name: str, kind: str
    ) -> tuple[float, float]:
        stated = element is not None and not (element.get("lower") is None and element.get("upper") is None)
        if kind == "continuous":
            if element is not None and stated:
                self.warn(
                    element,
                    f"joint {name!r}",
                    "lower and upper of a continuous joint mean nothing and are ignored",
                )
            return -math.inf, math.inf
        if element is None or not stated:
            self.warn(
                joint if element is None else element,
                f"joint {name!r}",
                f"a {kind} joint without lower and upper cannot leave 0; "
                "state them here or in robot.yaml's limits.joints, or say continuous",
            )
            return 0.0, 0.0
        # URDF: a missing lower or upper is 0.
        lower, upper = (self.number(element, key, 0.0, math.inf) for key in ("lower", "upper"))
        if lower > upper:
            self.problem(element, f"joint {name!r}: lower {lower} is above upper {upper}")
        largest, unit = (
            (_LARGEST_SLIDE_M, "millimetres") if kind == "prismatic" else (_LARGEST_TURN_RAD, "degrees")
        )
        if max(abs(lower), abs(upper)) > largest:
            self.warn(
                element, f"joint {name!r}, {lower:g} .. {upper:g}", f"very large limits; are they in {unit}?"
            )
        lower, upper = (
            math.copysign(math.inf, end) if abs(end) > _ENDLESS else end for end in (lower, upper)
        )
        return lower, upper

    def read(self) -> Urdf:
        robot = self.document.root
        materials = {
            material.get("name", ""): self.colour(color)
            for material in robot.findall("material")
            if (color := material.find("color")) is not None
        }
        links: dict[str, Link] = {}
        for element in robot.findall("link"):
            link = self.link(element, materials)
            if link.name in links:
                self._twice(element, "link", link.name, self._link_elements[link.name])
            links.setdefault(link.name, link)
            self._link_elements.setdefault(link.name, element)
        joints: dict[str, Joint] = {}
        for element in robot.findall("joint"):
            joint = self.joint(element)
            if joint is None:
                continue
            if joint.name in joints:
                self._twice(element, "joint", joint.name, self._joint_elements[joint.name])
            if joint.name in links:
                self.warn(
                    element, f"joint {joint.name!r}", "a link has the same name; each is found among its kind"
                )
            for role, link_name in (("parent", joint.parent), ("child", joint.child)):
                if link_name and link_name not in links:
                    message = f"joint {joint.name!r}: {role} link {link_name!r} does not exist"
                    self.problem(element, message + self._did_you_mean(link_name, links))
            joints.setdefault(joint.name, joint)
            self._joint_elements.setdefault(joint.name, element)
        if not links:
            self.problem(robot, "the robot has no link")
        if self.problems:
            raise InvalidConfiguration(self.problems)
        root = self._check_tree(links, joints)
        self._resolve_mimics(joints)
        if self.problems:
            raise InvalidConfiguration(self.problems)
        self._fit_leaders(joints)
        text = ElementTree.tostring(robot, encoding="unicode") if self.mended else self.document.text
        name = robot.get("name", "") or self.path.name.partition(".")[0]
        return Urdf(name, self.path, text, links, joints, root, tuple(self.warnings))

    def _did_you_mean(self, name: str, known: Mapping[str, object]) -> str:
        if len(self.problems) > _HINTS:  # looking for names that are near is slow
            return ""
        near = difflib.get_close_matches(name, list(known)[:1000], n=1)
        return f"; did you mean {near[0]!r}?" if near else ""

    def _twice(self, element: ElementTree.Element, what: str, name: str, first: ElementTree.Element) -> None:
        if name:
            self.problem(element, f"{what} {name!r} is defined twice, first in {self.place(first)}")

    def _check_tree(self, links: dict[str, Link], joints: dict[str, Joint]) -> str:
        """The root link; several roots, two parents and loops are problems."""
        carried: dict[str, Joint] = {}
        for joint in joints.values():
            element = self._joint_elements[joint.name]
            if joint.parent == joint.child:
                self.problem(element, f"joint {joint.name!r} joins link {joint.child!r} to itself")
            if joint.child in carried:
                other = carried[joint.child]
                self.problem(
                    element,
                    f"link {joint.child!r} has two parents: joints {other.name!r} "
                    f"({self.place(self._joint_elements[other.name])}), {joint.name!r}",
                )
            carried.setdefault(joint.child, joint)
        if self.problems:
            return ""
        roots = [name for name in links if name not in carried]
        if len(roots) > 1:
            named = ", ".join(f"{name!r} ({self.place(self._link_elements[name])})" for name in roots[:6])
            self.problem(
                self._link_elements[roots[1]],
                f"one root link expected, {len(roots)} found: {named}; join them with fixed joints",
            )
            return ""
        children: dict[str, list[str]] = {}
        for joint in joints.values():
            children.setdefault(joint.parent, []).append(joint.child)
        reached, pending = set(roots), list(roots)
        while pending:
            found = children.get(pending.pop(), [])
            reached.update(found)
            pending += found
        lost = next((name for name in links if name not in reached), None)
        if lost is not None:
            self._loop(carried[lost], carried)
            return ""
        return roots[0]

    def _loop(self, joint: Joint, carried: Mapping[str, Joint]) -> None:
        """The problem of a loop, which every way up from a link that no root carries ends in."""
        way: dict[str, Joint] = {}
        while joint.name not in way:
            way[joint.name] = joint
            joint = carried[joint.parent]
        names = [*list(way)[list(way).index(joint.name) :], joint.name]
        self.problem(
            self._joint_elements[joint.name],
            f"joints form a loop, upwards: {_way(names)}; a tree is expected, leave one out",
        )

    def _resolve_mimics(self, joints: dict[str, Joint]) -> None:
        """Every mimic then names a movable joint that is no mimic itself."""
        direct: dict[str, Mimic] = {}
        for joint in joints.values():
            if joint.mimic is not None and (leader := self._leader(joint, joint.mimic.joint, joints)):
                direct[joint.name] = dataclasses.replace(joint.mimic, joint=leader)
        resolved: dict[str, Mimic] = {}
        for name in direct:
            way: dict[str, None] = {}
            while name in direct and name not in resolved and name not in way:
                way[name] = None
                name = direct[name].joint
            if name in way:
                circle = [*list(way)[list(way).index(name) :], name]
                self.problem(
                    self._mimic_element(name), f"joints mimic each other in a circle: {_way(circle)}"
                )
                resolved.update((follower, direct[follower]) for follower in way)
                continue
            for follower in reversed(way):
                mimic = direct[follower]
                if mimic.joint in resolved:
                    self.warn(
                        self._mimic_element(follower),
                        f"joint {follower!r}",
                        "it mimics a mimic; it follows the joint at the end of that row",
                    )
                    before = resolved[mimic.joint]
                    factor, shift = mimic.multiplier * before.multiplier, mimic.multiplier * before.offset
                    mimic = Mimic(before.joint, factor, shift + mimic.offset)
                if max(abs(mimic.multiplier), abs(mimic.offset)) > _LARGEST_NUMBER:
                    self.problem(
                        self._mimic_element(follower), f"joint {follower!r}: factors of that row too large"
                    )
                resolved[follower] = mimic
        if self.problems:
            return
        for name, mimic in resolved.items():
            if joints[mimic.joint].kind == "fixed":
                self.warn(
                    self._mimic_element(name), f"joint {name!r}", "it mimics a fixed joint and is fixed, too"
                )
                joints[name] = _fixed_at(joints[name], mimic.offset)
            else:
                joints[name] = dataclasses.replace(joints[name], mimic=mimic)

    def _mimic_element(self, joint: str) -> ElementTree.Element:
        element = self._joint_elements[joint].find("mimic")
        return self._joint_elements[joint] if element is None else element

    def _leader(self, joint: Joint, wanted: str, joints: dict[str, Joint]) -> str:
        """The joint that `joint` mimics, or "" after a problem."""
        element = self._mimic_element(joint.name)
        if wanted == joint.name:
            self.problem(element, f"joint {joint.name!r} mimics itself, a circle of one")
            return ""
        if wanted in joints:
            return wanted
        # A macro's prefix that was forgotten in <mimic>: left_q2 mimics q1 of left_q1.
        prefixed = [name for name in joints if name.endswith(wanted) and wanted and name != joint.name]
        prefixed = [name for name in prefixed if joint.name.startswith(name.removesuffix(wanted))]
        if len(prefixed) == 1:
            self.warn(
                element,
                f"joint {joint.name!r}",
                f"it mimics {wanted!r}, which does not exist; with its own prefix it does, and follows that",
            )
            element.set("joint", prefixed[0])
            self.mended = True
            return prefixed[0]
        message = f"joint {joint.name!r} mimics {wanted!r}, which does not exist"
        self.problem(element, message + self._did_you_mean(wanted, joints))
        return ""

    def _fit_leaders(self, joints: dict[str, Joint]) -> None:
        """Narrow and slow leaders so that no follower leaves its own limits."""
        stated = {name: (joint.lower, joint.upper) for name, joint in joints.items()}
        for name, joint in list(joints.items()):
            if joint.mimic is None:
                continue
            element, multiplier, offset = (
                self._mimic_element(name),
                joint.mimic.multiplier,
                joint.mimic.offset,
            )
            if multiplier == 0.0:
                # It stands still, whatever its leader does.
                if not joint.lower - 1e-6 <= offset <= joint.upper + 1e-6:
                    self._ignore_limits(joints, name)
                continue
            leader = joints[joint.mimic.joint]
            fastest = joint.velocity / abs(multiplier)
            if fastest < leader.velocity - 1e-9:
                self.warn(
                    element, f"joint {name!r}", "the joint it mimics is slowed to keep its velocity limit"
                )
                leader = dataclasses.replace(leader, velocity=fastest)
            ends = sorted(((joint.lower - offset) / multiplier, (joint.upper - offset) / multiplier))
            lower, upper = max(ends[0], leader.lower), min(ends[1], leader.upper)
            if max(lower - leader.lower, leader.upper - upper) > 1e-6:
                whole = stated[leader.name][1] - stated[leader.name][0]
                # A leader without limits of its own takes whatever its followers leave.
                smallest = _SMALLEST_SHARE_OF_RANGE * whole if math.isfinite(whole) else 0.0
                if upper > lower and upper - lower >= smallest:
                    self.warn(
                        element, f"joint {name!r}", "the joint it mimics is narrowed to keep its limits"
                    )
                    leader = dataclasses.replace(leader, lower=lower, upper=upper)
                else:
                    self._ignore_limits(joints, name)
            joints[leader.name] = leader

    def _ignore_limits(self, joints: dict[str, Joint], follower: str) -> None:
        self.warn(
            self._mimic_element(follower),
            f"joint {follower!r}",
            "its limits do not fit those of the joint it mimics and are ignored",
        )
        joints[follower] = dataclasses.replace(joints[follower], lower=-math.inf, upper=math.inf)


def _parsed(text: str, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or () where the text holds anything else."""
    words = text.split()
    if len(words) != count or "_" in text:  # Python alone reads 1_000
        return ()
    try:
        values = tuple(float(word) for word in words)
    except ValueError:
        return ()
    return values if all(math.isfinite(value) for value in values) else ()


def _way(names: Sequence[str]) -> str:
    shown = names if len(names) <= 9 else [*names[:4], f"… {len(names) - 8} more …", *names[-4:]]
    return " -> ".join(shown)


def _fixed_at(joint: Joint, position: float) -> Joint:
    motion = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
    if joint.kind == "prismatic":
        motion[:3] = position * joint.axis
    else:
        motion[3:] = quaternion_from_rotation_vector(position * joint.axis)
    return Joint(joint.name, "fixed", joint.parent, joint.child, pose_compose(joint.pose, motion), joint.axis)


def load_urdf(
    path: Path, package_paths: Sequence[Path] = (), xacro_arguments: Mapping[str, str] | None = None
) -> Urdf:
    """Read and check a URDF file, or one that uses xacro (which gets `xacro_arguments`).

    `package_paths` are folders in which `package://<name>/…` is looked up, besides the places that
    `retargeting.package_paths` names. Raises `InvalidConfiguration` with every problem, its file and line.
    """
    return _Reader(path, package_paths, xacro_arguments or {}).read()
