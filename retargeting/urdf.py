"""Load a URDF into plain records: links, joints, limits, geometry. Standard-library XML only.

What cannot be used is refused with every problem and its line; what is harmless is repaired and
listed in `Urdf.warnings`.
"""

from __future__ import annotations

import math
import xml.parsers.expat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from retargeting.errors import InvalidConfiguration, Problem
from retargeting.frames import pose_from_xyz_rpy

Array = NDArray[np.float64]
JointKind = Literal["revolute", "continuous", "prismatic", "fixed"]
GeometryKind = Literal["box", "cylinder", "sphere", "capsule", "mesh"]

MOVABLE_KINDS = ("revolute", "continuous", "prismatic")

# Rounding of a file's digits: less than simulation adds to every moment of inertia (kg m²).
_INERTIA_TOLERANCE_KG_M2 = 1e-6
# No body has a principal moment above the sum of the others. Files of well-known robots (ANYmal, Go1, PR2)
# do not keep that, by any factor; simulation evens it out, so it is a warning.
_UNEVEN_INERTIA = 1.01


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

    Limits in rad, rad/s, N m (prismatic: m, m/s, N); infinite where the URDF states none.
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
    """A checked kinematic tree. `joints` keeps the file's order; `text` is the file as it was read."""

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


class _TreeBuilder(ElementTree.TreeBuilder):
    """An element tree whose elements remember their line."""

    def __init__(self, parser: xml.parsers.expat.XMLParserType) -> None:
        super().__init__()
        self._parser = parser
        self.lines: dict[int, int] = {}

    def start(self, tag: str, attrs: dict[str, str]) -> ElementTree.Element:
        element = super().start(tag, attrs)
        self.lines[id(element)] = self._parser.CurrentLineNumber
        return element


class _Reader:
    def __init__(self, path: Path, package_paths: Sequence[Path]) -> None:
        self.path = path
        self.package_paths = tuple(package_paths)
        self.problems: list[Problem] = []
        self.warnings: list[UrdfWarning] = []
        self._lines: dict[int, int] = {}

    def parse(self) -> tuple[str, ElementTree.Element]:
        try:
            text = self.path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InvalidConfiguration([Problem(self.path, "file", f"cannot be read: {error}")]) from error
        parser = xml.parsers.expat.ParserCreate()
        builder = _TreeBuilder(parser)
        parser.StartElementHandler = builder.start
        parser.EndElementHandler = builder.end
        parser.CharacterDataHandler = builder.data
        try:
            parser.Parse(text, True)
        except xml.parsers.expat.ExpatError as error:
            message = f"malformed XML: {xml.parsers.expat.ErrorString(error.code)} (column {error.offset})"
            raise InvalidConfiguration([Problem(self.path, f"line {error.lineno}", message)]) from error
        self._lines = builder.lines
        root = builder.close()
        if root.tag != "robot":
            raise InvalidConfiguration(
                [Problem(self.path, f"line {self._lines[id(root)]}", f"<{root.tag}> found, <robot> expected")]
            )
        return text, root

    def problem(self, element: ElementTree.Element, message: str) -> None:
        self.problems.append(Problem(self.path, f"line {self._lines[id(element)]}", message))

    def warn(self, element: ElementTree.Element, what: str, kind: str) -> None:
        self.warnings.append(UrdfWarning(kind, f"line {self._lines[id(element)]}: {what}"))

    def numbers(
        self, element: ElementTree.Element, attribute: str, count: int, default: Sequence[float]
    ) -> tuple[float, ...]:
        text = element.get(attribute)
        if text is None:
            return tuple(default)
        try:
            values = tuple(float(word) for word in text.split())
        except ValueError:
            values = ()
        if len(values) != count or not all(math.isfinite(value) for value in values):
            self.problem(element, f'<{element.tag} {attribute}="{text}">: {count} finite number(s) expected')
            return tuple(default)
        return values

    def number(self, element: ElementTree.Element, attribute: str, default: float) -> float:
        return self.numbers(element, attribute, 1, [default])[0]

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

    def resolve(self, uri: str) -> Path | None:
        """The file behind `package://…`, `file://…` or a path relative to the URDF."""
        if uri.startswith("package://"):
            relative = Path(uri[len("package://") :])
            # The folder of a package may be called otherwise than the package, or be an ancestor.
            roots = [*self.package_paths, *self.path.resolve().parents]
            inner = Path(*relative.parts[1:])
            candidates = [root / relative for root in roots]
            candidates += [root / inner for root in roots if root.name == relative.parts[0]]
        else:
            candidates = [self.path.parent / uri.removeprefix("file://")]
        return next((path for path in candidates if path.is_file()), None)

    def geometry(self, element: ElementTree.Element) -> Geometry | None:
        geometry = element.find("geometry")
        shape = None if geometry is None else next(iter(geometry), None)
        if shape is None:
            self.problem(element, f"<{element.tag}> has no geometry")
            return None
        if shape.tag == "box":
            return Geometry("box", self.numbers(shape, "size", 3, [0.0] * 3))
        if shape.tag in ("cylinder", "capsule"):
            size = (self.number(shape, "radius", 0.0), self.number(shape, "length", 0.0))
            return Geometry("cylinder" if shape.tag == "cylinder" else "capsule", size)
        if shape.tag == "sphere":
            return Geometry("sphere", (self.number(shape, "radius", 0.0),))
        if shape.tag == "mesh":
            uri = shape.get("filename", "")
            mesh = self.resolve(uri)
            if mesh is None:
                self.warn(shape, f"mesh {uri!r}", "not found; a capsule along the link replaces it")
            x, y, z = self.numbers(shape, "scale", 3, [1.0] * 3)
            return Geometry("mesh", (), mesh, uri, (x, y, z))
        self.problem(
            shape, f"unknown geometry <{shape.tag}>: box, cylinder, capsule, sphere or mesh expected"
        )
        return None

    def shapes(
        self, link: ElementTree.Element, tag: str, materials: dict[str, tuple[float, ...]]
    ) -> tuple[Shape, ...]:
        shapes = []
        for element in link.findall(tag):
            geometry = self.geometry(element)
            if geometry is None:
                continue
            if any(value < 0.0 for value in geometry.size_m):
                self.problem(element, f"negative size {geometry.size_m}")
            material = element.find("material")
            rgba = None
            if material is not None:
                color = material.find("color")
                rgba = (
                    self.numbers(color, "rgba", 4, [0.7, 0.7, 0.7, 1.0])
                    if color is not None
                    else materials.get(material.get("name", ""))
                )
            r = None if rgba is None else (rgba[0], rgba[1], rgba[2], rgba[3])
            shapes.append(Shape(geometry, self.origin(element), r))
        return tuple(shapes)

    def link(self, element: ElementTree.Element, materials: dict[str, tuple[float, ...]]) -> Link:
        inertial_element = element.find("inertial")
        inertial = None
        if inertial_element is not None:
            mass = inertial_element.find("mass")
            tensor = inertial_element.find("inertia")
            mass_kg = 0.0 if mass is None else self.number(mass, "value", 0.0)
            entries = (
                {key: 0.0 for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")}
                if tensor is None
                else {
                    key: self.number(tensor, key, 0.0) for key in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
                }
            )
            if mass_kg < 0.0:
                self.problem(inertial_element, f"negative mass {mass_kg} kg")
            matrix = np.array(
                [
                    [entries["ixx"], entries["ixy"], entries["ixz"]],
                    [entries["ixy"], entries["iyy"], entries["iyz"]],
                    [entries["ixz"], entries["iyz"], entries["izz"]],
                ]
            )
            self._check_inertia(inertial_element if tensor is None else tensor, element, matrix)
            inertial = Inertial(mass_kg, self.origin(inertial_element), matrix)
        return Link(
            self.name(element),
            inertial,
            self.shapes(element, "visual", materials),
            self.shapes(element, "collision", materials),
        )

    def _check_inertia(
        self, element: ElementTree.Element, link: ElementTree.Element, inertia_kg_m2: Array
    ) -> None:
        """Moments below 0 are refused; what only a balanced inertia mends is a warning."""
        moments = np.linalg.eigvalsh(inertia_kg_m2)
        name, shown = link.get("name", ""), " ".join(f"{moment:.4g}" for moment in moments)
        smallest, middle, largest = (float(moment) for moment in moments)
        if smallest < -_INERTIA_TOLERANCE_KG_M2:
            self.problem(
                element,
                f"link {name!r}: principal moments of inertia {shown} kg m²: none may be negative; "
                "check the signs and the order of ixx, ixy, ixz, iyy, iyz, izz",
            )
            return
        if largest > _UNEVEN_INERTIA * (smallest + middle) + _INERTIA_TOLERANCE_KG_M2:
            self.warn(
                element,
                f"link {name!r}, principal moments of inertia {shown} kg m²",
                "the largest exceeds the sum of the others, which no body has; simulation evens them out",
            )

    def joint(self, element: ElementTree.Element) -> Joint | None:
        name = self.name(element)
        kind = element.get("type", "")
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
        axis = np.array([1.0, 0.0, 0.0])
        axis_element = element.find("axis")
        if axis_element is not None:
            axis = np.array(self.numbers(axis_element, "xyz", 3, [1.0, 0.0, 0.0]))
            norm = float(np.linalg.norm(axis))
            if norm < 1e-9:
                if kind != "fixed":
                    self.problem(axis_element, f"joint {name!r} has a zero axis")
                axis = np.array([1.0, 0.0, 0.0])
            else:
                axis = axis / norm
        limits = {"lower": -math.inf, "upper": math.inf, "velocity": math.inf, "effort": math.inf}
        limit = element.find("limit")
        if kind != "fixed" and limit is not None:
            for key in limits:
                if kind == "continuous" and key in ("lower", "upper"):
                    continue
                # URDF: a missing lower or upper is 0.
                missing = 0.0 if key in ("lower", "upper") else math.inf
                limits[key] = self.number(limit, key, missing)
        if kind in ("revolute", "prismatic") and limit is None:
            self.problem(element, f"{kind} joint {name!r} has no <limit>")
        if limits["lower"] > limits["upper"] and limit is not None:
            self.problem(limit, f"joint {name!r}: lower {limits['lower']} is above upper {limits['upper']}")
        for key in ("velocity", "effort"):
            if limits[key] <= 0.0:
                self.warn(
                    element, f"joint {name!r}", f"{key} limit {limits[key]:g} means nothing and is ignored"
                )
                limits[key] = math.inf
        mimic_element = element.find("mimic")
        mimic = None
        if mimic_element is not None and kind != "fixed":
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
            axis,
            **limits,
            mimic=mimic,
            damping=0.0 if dynamics is None else max(0.0, self.number(dynamics, "damping", 0.0)),
            friction=0.0 if dynamics is None else max(0.0, self.number(dynamics, "friction", 0.0)),
        )

    def read(self) -> Urdf:
        text, robot = self.parse()
        materials: dict[str, tuple[float, ...]] = {}
        for material in robot.findall("material"):
            color = material.find("color")
            if color is not None:
                materials[material.get("name", "")] = self.numbers(color, "rgba", 4, [0.7, 0.7, 0.7, 1.0])
        links: dict[str, Link] = {}
        for element in robot.findall("link"):
            link = self.link(element, materials)
            if link.name in links:
                self.problem(element, f"link {link.name!r} is defined twice")
            links[link.name] = link
        joints: dict[str, Joint] = {}
        for element in robot.findall("joint"):
            joint = self.joint(element)
            if joint is None:
                continue
            if joint.name in joints:
                self.problem(element, f"joint {joint.name!r} is defined twice")
            for role, link_name in (("parent", joint.parent), ("child", joint.child)):
                if link_name not in links:
                    self.problem(element, f"joint {joint.name!r}: {role} link {link_name!r} does not exist")
            joints[joint.name] = joint
        if not links:
            self.problem(robot, "the robot has no link")
        if self.problems:
            raise InvalidConfiguration(self.problems)
        root = self._check_tree(robot, links, joints)
        self._check_mimics(robot, joints)
        if self.problems:
            raise InvalidConfiguration(self.problems)
        return Urdf(
            robot.get("name", self.path.stem), self.path, text, links, joints, root, tuple(self.warnings)
        )

    def _check_tree(
        self, robot: ElementTree.Element, links: dict[str, Link], joints: dict[str, Joint]
    ) -> str:
        carried: dict[str, str] = {}
        for joint in joints.values():
            if joint.child in carried:
                self.problem(
                    robot,
                    f"link {joint.child!r} has two parents: joints {carried[joint.child]!r}, {joint.name!r}",
                )
            carried[joint.child] = joint.name
        roots = [name for name in links if name not in carried]
        if len(roots) != 1:
            self.problem(robot, f"one root link expected, {len(roots)} found: {roots[:6]}")
            return next(iter(links))
        reached = {roots[0]}
        while True:
            more = {j.child for j in joints.values() if j.parent in reached and j.child not in reached}
            if not more:
                break
            reached |= more
        if len(reached) != len(links):
            self.problem(robot, f"links on a loop of joints: {sorted(set(links) - reached)[:6]}")
        return roots[0]

    def _check_mimics(self, robot: ElementTree.Element, joints: dict[str, Joint]) -> None:
        for joint in joints.values():
            seen = [joint.name]
            follow = joint
            while follow.mimic is not None:
                if follow.mimic.joint not in joints:
                    self.problem(
                        robot, f"joint {follow.name!r} mimics {follow.mimic.joint!r}, which does not exist"
                    )
                    break
                follow = joints[follow.mimic.joint]
                if follow.name in seen:
                    self.problem(
                        robot, f"joints mimic each other in a circle: {' -> '.join([*seen, follow.name])}"
                    )
                    break
                seen.append(follow.name)


def load_urdf(path: Path, package_paths: Sequence[Path] = ()) -> Urdf:
    """Read and check a URDF file.

    `package_paths` are folders in which `package://<name>/…` is looked up, besides every folder
    above the file. Raises `InvalidConfiguration` with every problem, its file and line.
    """
    return _Reader(path, package_paths).read()
