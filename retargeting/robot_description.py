"""`robot.yaml`: what a URDF does not say about a robot, read and checked into frozen records.

Every key carries its unit; unknown keys, wrong units and missing values are all listed at once.
The keys are documented in `docs/robots.md`.
"""

from __future__ import annotations

import difflib
import importlib.metadata
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS, SIDES
from retargeting.errors import InvalidConfiguration, Problem
from retargeting.frames import pose_from_xyz_rpy, quaternion_from_rotation_matrix
from retargeting.package_paths import PackagePaths
from retargeting.yaml_file import read_yaml

Array = NDArray[np.float64]

CHAINS = ("waist", "head", "left_arm", "right_arm")
SITES = ("head", *(f"{side}_{part}" for side in SIDES for part in ("shoulder", "elbow", "wrist")))

# ros2_control's joint trajectory controller takes the second, its forward command controllers the third.
COMMAND_INTERFACES = ("joint_state", "joint_trajectory", "float64_multi_array")

# Robots, sensors, cameras and objects name topics, frames and folders.
_NAME = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
# The namespace of the trainer's topics.
_TRAINER = "trainer"

# A length over this in a robot.yaml is millimetres, an angle over a full turn is degrees.
LARGEST_LENGTH_M = 5.0
LARGEST_ANGLE_RAD = 2.0 * math.pi + 1e-9
# Joints that turn more than once end here.
_LARGEST_RANGE_RAD = 2.0 * LARGEST_ANGLE_RAD


def name_problem(name: str) -> str:
    """Why `name` cannot stand in a topic, a frame and a folder, or "" where it can."""
    if _NAME.fullmatch(name):
        return ""
    return f"{name!r} cannot name a topic: letters, digits and '_' are expected, the first a letter"


@dataclass(frozen=True)
class Site:
    """A named frame fixed to a link, `pose` ``(7,)`` in the link.

    Axes of wrists: x along the fingers, z out of the back of the hand (`retargeting.body_points`).
    """

    link: str
    pose: Array


@dataclass(frozen=True)
class GripperJoint:
    """Joint positions (rad or m) of a closed and an open hand."""

    closed: float
    open: float


@dataclass(frozen=True)
class Gripper:
    joints: dict[str, GripperJoint]


@dataclass(frozen=True)
class Finger:
    """A finger of a hand: its pad is a sphere around `tip_position` ``(3,)`` in the link `tip` (m).

    `base`: the link at whose joint the finger begins; "" = the first joint that moves this finger only.
    """

    tip: str
    tip_position: Array
    pad_radius_m: float = 0.008
    base: str = ""


@dataclass(frozen=True)
class BodyAxes:
    """Where the robot faces and where its up is: unit vectors ``(3,)`` in the root link."""

    forward: tuple[float, float, float] = (1.0, 0.0, 0.0)
    up: tuple[float, float, float] = (0.0, 0.0, 1.0)

    @property
    def rotation_body_to_root(self) -> Array:
        """Turns ``(4,)`` x forward, y left, z up into the axes of the root link."""
        forward, up = np.array(self.forward), np.array(self.up)
        return quaternion_from_rotation_matrix(np.stack([forward, np.cross(up, forward), up], axis=1))


@dataclass(frozen=True)
class WrenchSensor:
    """Six-axis sensor in the joint that carries `link`, in `link`'s frame (N, N m).

    It measures what the link and all it carries exert on the arm, weight included.
    """

    link: str


@dataclass(frozen=True)
class TactileSensor:
    """A pad of `rows` x `columns` taxels; `pose`: z out of the pad, the row index grows along x."""

    link: str
    pose: Array
    rows: int
    columns: int
    size_m: tuple[float, float]


@dataclass(frozen=True)
class CameraSensor:
    """A pinhole camera; `pose` has x forward, z up (the optical frame is derived)."""

    link: str
    pose: Array
    width: int
    height: int
    rate_hz: float
    horizontal_fov_rad: float


@dataclass(frozen=True)
class JointLimitOverride:
    """A limit of one joint that differs from the defaults or the URDF, with the reason for it.

    `lower`, `upper` (rad or m) narrow the URDF's range, or state the one it leaves open.
    """

    reason: str
    velocity: float | None = None
    acceleration: float | None = None
    lower: float | None = None
    upper: float | None = None


@dataclass(frozen=True)
class Limits:
    """Caps on the commanded motion; the URDF's own velocity limit applies where it is lower.

    `reason` says why a cap is above the default, which all published figures use.
    """

    velocity_rad_s: float = 6.0
    acceleration_rad_s2: float = 30.0
    velocity_m_s: float = 0.5
    acceleration_m_s2: float = 5.0
    joints: dict[str, JointLimitOverride] = field(default_factory=dict)
    reason: str = ""


@dataclass(frozen=True)
class Safety:
    """`following_error_*`: how far a joint that turns or slides may be from its command."""

    following_error_rad: float = 0.5
    following_error_m: float = 0.05
    wrench_n: float = 150.0
    command_timeout_s: float = 0.1


@dataclass(frozen=True)
class CollisionDescription:
    """Which links keep `margin_m` apart: `ignore` and `check` overrule the automatic choice, by pair."""

    margin_m: float = 0.01
    ignore: tuple[tuple[str, str], ...] = ()
    check: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class SimulationDescription:
    """How the simulated robot is built; `table_*` None = placed by the robot's size.

    `self_contact`: arms and body touch each other; without it only the fingers of one hand do.
    """

    table_height_m: float | None = None
    table_distance_m: float | None = None
    self_contact: bool = False


@dataclass(frozen=True)
class Controller:
    """A controller that is sent commands: `topic` in the robot's namespace, `joints` in its order."""

    topic: str
    joints: tuple[str, ...]


@dataclass(frozen=True)
class CommandInterface:
    """What drives the robot beside `joint_commands`, which is always published.

    `kind`, one of `COMMAND_INTERFACES`: `joint_state` is `joint_commands` itself and has no controllers.
    `time_from_start_s` is when a point of a `joint_trajectory` shall be reached; a controller interpolates
    until then.
    """

    kind: str = "joint_state"
    controllers: dict[str, Controller] = field(default_factory=dict)
    time_from_start_s: float = 0.02


@dataclass(frozen=True)
class MobileBase:
    """A base that is driven by `geometry_msgs/Twist` on `topic` in the robot's namespace; caps of its motion.

    x ahead, y to the left, turning to the left positive; `lateral_m_s` 0: it cannot go sideways.
    """

    topic: str = "cmd_vel"
    linear_m_s: float = 0.5
    lateral_m_s: float = 0.0
    angular_rad_s: float = 0.8
    acceleration_m_s2: float = 0.5
    acceleration_rad_s2: float = 1.0


@dataclass(frozen=True)
class RobotDescription:
    """A checked `robot.yaml`. `file` is where it was read, `urdf_file` the URDF it names."""

    file: Path
    name: str
    urdf_file: Path
    package_paths: tuple[Path, ...]
    base_link: str
    chains: dict[str, tuple[str, ...]]
    sites: dict[str, Site]
    grippers: dict[str, Gripper]
    hands: dict[str, dict[str, Finger]]
    neutral_posture: dict[str, float]
    wrenches: dict[str, WrenchSensor]
    tactile: dict[str, TactileSensor]
    cameras: dict[str, CameraSensor]
    limits: Limits
    safety: Safety
    simulation: SimulationDescription
    command_interface: CommandInterface = field(default_factory=CommandInterface)
    collision: CollisionDescription = field(default_factory=CollisionDescription)
    text: str = field(repr=False, default="")
    xacro_arguments: dict[str, str] = field(default_factory=dict)
    axes: BodyAxes = field(default_factory=BodyAxes)
    base: MobileBase | None = None

    @property
    def camera_rate_hz(self) -> float:
        """Rate of all cameras together, that of the fastest; 0 without cameras."""
        return max((camera.rate_hz for camera in self.cameras.values()), default=0.0)


class _Section:
    """One mapping of the file: typed access that records problems and notices unknown keys."""

    def __init__(self, reader: _Reader, key: str, value: Any) -> None:
        self.reader = reader
        self.key = key
        self.used: set[str] = set()
        if value is None:
            value = {}
        if not isinstance(value, dict):
            reader.problem(key, f"a mapping of keys to values is expected, not {value!r}")
            value = {}
        self.values: dict[str, Any] = {str(k): v for k, v in value.items()}

    def path(self, name: str) -> str:
        return f"{self.key}.{name}" if self.key else name

    def raw(self, name: str) -> Any:
        self.used.add(name)
        return self.values.get(name)

    def section(self, name: str) -> _Section:
        return _Section(self.reader, self.path(name), self.raw(name))

    def sections(self, name: str) -> dict[str, _Section]:
        parent = self.section(name)
        return {key: parent.section(key) for key in parent.values}

    def named_sections(self, name: str) -> dict[str, _Section]:
        """`sections` whose keys become part of topic and frame names."""
        sections = self.sections(name)
        for key, section in sections.items():
            if problem := name_problem(key):
                self.reader.problem(section.key, problem)
        return sections

    def text(self, name: str, default: str | None = None) -> str:
        value = self.raw(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or not value:
            self.reader.problem(self.path(name), f"text is expected, not {value!r}")
            return default or ""
        return value

    def topic(self, name: str, default: str | None = None) -> str:
        topic = self.text(name, default)
        parts = topic.removeprefix("/").split("/")
        if topic and (problem := next((p for p in map(name_problem, parts) if p), None)):
            self.reader.problem(self.path(name), problem)
        return topic

    def flag(self, name: str, default: bool) -> bool:
        value = self.raw(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self.reader.problem(self.path(name), f"true or false is expected, not {value!r}")
            return default
        return value

    def number(self, name: str, default: float | None, low: float, high: float, hint: str = "") -> float:
        value = self.raw(name)
        if value is None and default is not None:
            return default
        return self.check(name, value, low, high, hint)

    def check(self, name: str, value: Any, low: float, high: float, hint: str = "") -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            self.reader.problem(self.path(name), f"a finite number is expected, not {value!r}")
            return low
        if not low <= value <= high:
            extra = f" ({hint})" if hint else ""
            self.reader.problem(self.path(name), f"{value} is outside {low:g} .. {high:g}{extra}")
            return low
        return float(value)

    def optional(self, name: str, low: float, high: float, hint: str = "") -> float | None:
        value = self.raw(name)
        return None if value is None else self.check(name, value, low, high, hint)

    def vector(self, name: str, length: int, limit: float, hint: str) -> tuple[float, ...]:
        value = self.raw(name)
        if value is None:
            return (0.0,) * length
        if not isinstance(value, list) or len(value) != length:
            self.reader.problem(self.path(name), f"a list of {length} numbers is expected, not {value!r}")
            return (0.0,) * length
        return tuple(self.check(name, entry, -limit, limit, hint) for entry in value)

    def pose(self) -> Array:
        xyz = self.vector("xyz_m", 3, LARGEST_LENGTH_M, "is it in millimetres? metres are expected")
        rpy = self.vector("rpy_rad", 3, LARGEST_ANGLE_RAD, "is it in degrees? radians are expected")
        return pose_from_xyz_rpy(xyz, rpy)

    def names(self, name: str) -> tuple[str, ...]:
        value = self.raw(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(entry, str) for entry in value):
            self.reader.problem(self.path(name), f"a list of names is expected, not {value!r}")
            return ()
        return tuple(value)

    def pairs(self, name: str) -> tuple[tuple[str, str], ...]:
        value = self.raw(name)
        if value is None:
            return ()
        fits = isinstance(value, list) and all(
            isinstance(entry, list) and len(entry) == 2 and all(isinstance(part, str) for part in entry)
            for entry in value
        )
        if not fits:
            self.reader.problem(self.path(name), f"a list of [link, link] is expected, not {value!r}")
            return ()
        return tuple((first, second) for first, second in value)

    def refuse_unknown(self) -> None:
        for name in self.values:
            if name not in self.used:
                near = difflib.get_close_matches(name, self.used, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(sorted(self.used))}"
                self.reader.problem(self.path(name), f"unknown key{hint}")


class _Reader:
    def __init__(self, file: Path) -> None:
        self.file = file
        self.problems: list[Problem] = []

    def problem(self, key: str, message: str) -> None:
        self.problems.append(Problem(self.file, key or "file", message))

    def read(self) -> RobotDescription:
        text, content = read_yaml(self.file)
        top = _Section(self, "", content)
        name = top.text("name")
        if name and (problem := name_problem(name)):
            self.problem("name", problem)
        if name == _TRAINER:
            self.problem("name", f"{name!r} is where the trainer's own topics are; name the robot otherwise")
        for note in ("maker", "license", "comment"):
            top.raw(note)
        urdf_file, package_paths, xacro_arguments = self._urdf(top.section("urdf"))
        chains_section = top.section("chains")
        chains = {chain: chains_section.names(chain) for chain in CHAINS}
        chains_section.refuse_unknown()
        description = RobotDescription(
            file=self.file,
            name=name,
            urdf_file=urdf_file,
            package_paths=package_paths,
            base_link=top.text("base_link"),
            chains=chains,
            sites=self._each(top.sections("sites"), self._site),
            grippers=self._each(top.sections("grippers"), self._gripper),
            hands=self._hands(top.section("hands")),
            neutral_posture=self._posture(top.section("neutral_posture_rad")),
            **self._sensors(top.section("sensors")),
            limits=self._limits(top.section("limits")),
            safety=self._safety(top.section("safety")),
            simulation=self._simulation(top.section("simulation")),
            command_interface=self._command_interface(top.section("command_interface")),
            collision=self._collision(top.section("collision")),
            text=text,
            xacro_arguments=xacro_arguments,
            axes=self._axes(top.section("axes")),
            base=None if top.raw("base") is None else self._base(top.section("base")),
        )
        top.refuse_unknown()
        self._check_names(description)
        if self.problems:
            raise InvalidConfiguration(self.problems)
        return description

    def _each(self, sections: Mapping[str, _Section], read: Callable[[_Section], Any]) -> dict[str, Any]:
        records = {}
        for name, section in sections.items():
            records[name] = read(section)
            section.refuse_unknown()
        return records

    def _urdf(self, section: _Section) -> tuple[Path, tuple[Path, ...], dict[str, str]]:
        file, package = section.text("file"), section.raw("package")
        searched = tuple(
            self.file.parent / os.path.expanduser(path) for path in section.names("package_paths")
        )
        for path in searched:
            if not os.path.isdir(path):
                self.problem("urdf.package_paths", f"{path} is no folder")
        arguments = section.section("xacro_arguments")
        xacro_arguments = {key: _as_xacro_writes(value) for key, value in arguments.values.items()}
        section.refuse_unknown()
        packages = PackagePaths(self.file, searched)
        if package is None:
            path = self.file.parent / file
            if file.startswith("package://"):
                path = packages.file(file) or path
            if file and not os.path.isfile(path):
                self.problem("urdf.file", f"{path} does not exist")
            return path, (*searched, self.file.parent), xacro_arguments
        folder, version = self._package(str(package), packages)
        if folder is None:
            return self.file, searched, xacro_arguments
        path = folder / file
        if not os.path.isfile(path):
            self.problem("urdf.file", f"{package} {version} holds no {file}")
        return path, (*searched, *path.parents), xacro_arguments

    def _package(self, name: str, packages: PackagePaths) -> tuple[Path | None, str]:
        """Where the files of a Python or ROS package lie, and its version, which Python packages have."""
        try:
            distribution = importlib.metadata.distribution(name)
        except (importlib.metadata.PackageNotFoundError, ValueError):
            folder = packages.package(name)
            if folder is None:
                self.problem(
                    "urdf.package",
                    f"Python package {name!r} is not installed, and no ROS package of that name is found; "
                    f"install it with: pip install {name}, or name its folder in urdf.package_paths",
                )
            return folder, f"({folder})"
        return Path(str(distribution.locate_file(""))), distribution.version

    @staticmethod
    def _axes(section: _Section) -> BodyAxes:
        given: list[Array] = []
        for name in ("forward", "up"):
            default = getattr(BodyAxes(), name)
            hint = "a unit vector of the root link is expected"
            value = section.vector(name, 3, 1.0, hint) if section.raw(name) is not None else default
            if abs(float(np.linalg.norm(value)) - 1.0) > 1e-3:
                section.reader.problem(section.path(name), f"{list(value)} is not of length 1; {hint}")
                value = default
            given.append(np.array(value))
        section.refuse_unknown()
        forward, up = given
        if abs(float(forward @ up)) > 1e-3:
            section.reader.problem(
                section.path("up"), f"{up.tolist()} is not across forward {forward.tolist()}"
            )
            return BodyAxes()
        return BodyAxes(tuple(forward.tolist()), tuple(up.tolist()))

    @staticmethod
    def _site(section: _Section) -> Site:
        return Site(section.text("link"), section.pose())

    @staticmethod
    def _gripper(section: _Section) -> Gripper:
        joints = {}
        for name, joint in section.sections("joints").items():
            hint = "is it in degrees or millimetres? rad or m are expected"
            closed = joint.number("closed", None, -LARGEST_ANGLE_RAD, LARGEST_ANGLE_RAD, hint)
            opened = joint.number("open", None, -LARGEST_ANGLE_RAD, LARGEST_ANGLE_RAD, hint)
            joints[name] = GripperJoint(closed, opened)
            joint.refuse_unknown()
        if not joints:
            problem = "at least one joint is expected; a hand without joints is no gripper: leave it out"
            section.reader.problem(section.path("joints"), problem)
        return Gripper(joints)

    def _hands(self, section: _Section) -> dict[str, dict[str, Finger]]:
        return {side: self._each(section.sections(side), self._finger) for side in section.values}

    @staticmethod
    def _finger(section: _Section) -> Finger:
        hint = "is it in millimetres? metres are expected"
        return Finger(
            section.text("tip"),
            np.array(section.vector("xyz_m", 3, LARGEST_LENGTH_M, hint)),
            section.number("pad_radius_m", Finger.pad_radius_m, 1e-4, 0.05, hint),
            section.text("base", ""),
        )

    @staticmethod
    def _posture(section: _Section) -> dict[str, float]:
        hint = "is it in degrees? radians are expected"
        return {
            name: section.number(name, None, -LARGEST_ANGLE_RAD, LARGEST_ANGLE_RAD, hint)
            for name in section.values
        }

    def _sensors(self, section: _Section) -> dict[str, Any]:
        sensors = {
            "wrenches": self._each(section.named_sections("wrenches"), self._wrench),
            "tactile": self._each(section.named_sections("tactile"), self._tactile),
            "cameras": self._each(section.named_sections("cameras"), self._camera),
        }
        section.refuse_unknown()
        return sensors

    @staticmethod
    def _wrench(section: _Section) -> WrenchSensor:
        return WrenchSensor(section.text("link"))

    @staticmethod
    def _tactile(section: _Section) -> TactileSensor:
        size = section.vector("size_m", 2, 0.5, "is it in millimetres? metres are expected")
        if min(size) <= 0.0:
            section.reader.problem(section.path("size_m"), f"{list(size)} must be above 0")
        return TactileSensor(
            section.text("link"),
            section.pose(),
            int(section.number("rows", None, 1, 256)),
            int(section.number("columns", None, 1, 256)),
            (size[0], size[1]),
        )

    @staticmethod
    def _camera(section: _Section) -> CameraSensor:
        hint = "is it in degrees? radians are expected"
        return CameraSensor(
            section.text("link"),
            section.pose(),
            int(section.number("width", 320, 16, 4096)),
            int(section.number("height", 240, 16, 4096)),
            section.number("rate_hz", 30.0, 1.0, 240.0),
            section.number("horizontal_fov_rad", 1.2, 0.1, 3.0, hint),
        )

    def _limits(self, section: _Section) -> Limits:
        default = Limits()
        hint = "is it in degrees? radians are expected"
        joints = {}
        for name, joint in section.sections("joints").items():
            joints[name] = JointLimitOverride(
                joint.text("reason"),
                joint.optional("velocity", 1e-3, 50.0, hint),
                joint.optional("acceleration", 1e-2, 1000.0, hint),
                joint.optional("lower", -_LARGEST_RANGE_RAD, _LARGEST_RANGE_RAD, hint),
                joint.optional("upper", -_LARGEST_RANGE_RAD, _LARGEST_RANGE_RAD, hint),
            )
            joint.refuse_unknown()
        limits = Limits(
            section.number("velocity_rad_s", default.velocity_rad_s, 1e-3, 30.0, hint),
            section.number("acceleration_rad_s2", default.acceleration_rad_s2, 1e-2, 300.0, hint),
            section.number("velocity_m_s", default.velocity_m_s, 1e-3, 5.0),
            section.number("acceleration_m_s2", default.acceleration_m_s2, 1e-2, 100.0),
            joints,
            section.text("reason", ""),
        )
        section.refuse_unknown()
        for name in ("velocity_rad_s", "acceleration_rad_s2", "velocity_m_s", "acceleration_m_s2"):
            value, usual = getattr(limits, name), getattr(default, name)
            if value > usual and not limits.reason:
                section.reader.problem(
                    section.path("reason"), f"{name} {value:g} is above {usual:g}; say here why it may be"
                )
        return limits

    @staticmethod
    def _safety(section: _Section) -> Safety:
        default = Safety()
        safety = Safety(
            section.number("following_error_rad", default.following_error_rad, 0.01, math.pi),
            section.number(
                "following_error_m", default.following_error_m, 0.001, 1.0, "is it in millimetres?"
            ),
            section.number("wrench_n", default.wrench_n, 1.0, 5000.0),
            section.number(
                "command_timeout_s", default.command_timeout_s, 0.01, 2.0, "is it in milliseconds?"
            ),
        )
        section.refuse_unknown()
        return safety

    @staticmethod
    def _simulation(section: _Section) -> SimulationDescription:
        height = section.raw("table_height_m")
        distance = section.raw("table_distance_m")
        hint = "is it in millimetres? metres are expected"
        simulation = SimulationDescription(
            None if height is None else section.check("table_height_m", height, -2.0, 3.0, hint),
            None if distance is None else section.check("table_distance_m", distance, 0.0, 3.0, hint),
            section.flag("self_contact", default=False),
        )
        section.refuse_unknown()
        return simulation

    def _command_interface(self, section: _Section) -> CommandInterface:
        default = CommandInterface()
        kind = section.text("kind", default.kind)
        time_from_start_s = section.number(
            "time_from_start_s", default.time_from_start_s, 0.001, 1.0, "is it in milliseconds?"
        )
        interface = CommandInterface(
            kind, self._each(section.sections("controllers"), self._controller), time_from_start_s
        )
        section.refuse_unknown()
        if kind not in COMMAND_INTERFACES:
            self.problem(section.path("kind"), f"{kind!r} is none of {', '.join(COMMAND_INTERFACES)}")
        elif (kind == default.kind) != (not interface.controllers):
            has = "has no controllers" if kind == default.kind else "needs at least one controller"
            self.problem(section.path("controllers"), f"kind {kind} {has}")
        seen: dict[str, str] = {}
        for name, controller in interface.controllers.items():
            key = section.path(f"controllers.{name}")
            if not controller.joints:
                self.problem(f"{key}.joints", "the joints in the controller's order are expected")
            for joint in controller.joints:
                if joint in seen:
                    self.problem(f"{key}.joints", f"joint {joint!r} is already in {seen[joint]}")
                seen[joint] = name
        return interface

    @staticmethod
    def _controller(section: _Section) -> Controller:
        return Controller(section.topic("topic"), section.names("joints"))

    @staticmethod
    def _base(section: _Section) -> MobileBase:
        default = MobileBase()
        hint = "is it in degrees? radians are expected"
        base = MobileBase(
            section.topic("topic", default.topic),
            section.number("linear_m_s", default.linear_m_s, 0.01, 3.0),
            section.number("lateral_m_s", default.lateral_m_s, 0.0, 3.0),
            section.number("angular_rad_s", default.angular_rad_s, 0.01, 6.0, hint),
            section.number("acceleration_m_s2", default.acceleration_m_s2, 0.05, 10.0),
            section.number("acceleration_rad_s2", default.acceleration_rad_s2, 0.05, 20.0, hint),
        )
        section.refuse_unknown()
        return base

    @staticmethod
    def _collision(section: _Section) -> CollisionDescription:
        hint = "is it in millimetres? metres are expected"
        margin_m = section.number("margin_m", CollisionDescription.margin_m, 0.0, 0.2, hint)
        collision = CollisionDescription(margin_m, section.pairs("ignore"), section.pairs("check"))
        section.refuse_unknown()
        for pair in collision.ignore:
            if pair in collision.check or pair[::-1] in collision.check:
                section.reader.problem(section.path("check"), f"{list(pair)} is also in ignore")
        return collision

    def _check_names(self, description: RobotDescription) -> None:
        if not (description.chains["left_arm"] or description.chains["right_arm"]):
            self.problem("chains", "neither left_arm nor right_arm names a joint")
        for side in SIDES:
            for site in (f"{side}_shoulder", f"{side}_wrist"):
                if description.chains[f"{side}_arm"] and site not in description.sites:
                    self.problem("sites", f"{side}_arm is given but the site {site} is not")
        for name in description.sites:
            if name not in SITES:
                self.problem(f"sites.{name}", f"unknown site; known: {', '.join(SITES)}")
        for side in description.grippers:
            if side not in SIDES:
                self.problem(f"grippers.{side}", "left or right is expected")
        for side, fingers in description.hands.items():
            if side not in SIDES:
                self.problem(f"hands.{side}", "left or right is expected")
            elif side not in description.grippers or f"{side}_wrist" not in description.sites:
                self.problem(
                    f"hands.{side}", f"grippers.{side} (the hand's joints) and sites.{side}_wrist are needed"
                )
            if not fingers:
                self.problem(f"hands.{side}", f"no finger is given; known: {', '.join(FINGERS)}")
            for finger in fingers:
                if finger not in FINGERS:
                    self.problem(f"hands.{side}.{finger}", f"unknown finger; known: {', '.join(FINGERS)}")
        if description.base is not None:
            for name, controller in description.command_interface.controllers.items():
                if controller.topic == description.base.topic:
                    key = f"command_interface.controllers.{name}.topic"
                    self.problem("base.topic", f"{controller.topic!r} is also {key}")
        seen: dict[str, str] = {}
        for chain, joints in description.chains.items():
            for joint in joints:
                if joint in seen:
                    self.problem(f"chains.{chain}", f"joint {joint!r} is already in {seen[joint]}")
                seen[joint] = f"chains.{chain}"
        for side, gripper in description.grippers.items():
            for joint in gripper.joints:
                if joint in seen:
                    self.problem(f"grippers.{side}.joints.{joint}", f"the joint is already in {seen[joint]}")
                seen[joint] = f"grippers.{side}"


def _as_xacro_writes(value: Any) -> str:
    """`true` and `false` in small letters; everything else as YAML read it."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def load_robot_description(file: Path) -> RobotDescription:
    """Read a `robot.yaml`. Raises `InvalidConfiguration` with every problem, its file and key.

    Names of links and joints are checked against the URDF by `retargeting.robot_model.load_robot`.
    """
    return _Reader(file).read()
