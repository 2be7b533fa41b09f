"""The scene in front of a simulated robot: table, objects, goal, as data and as placed for one robot.

All poses are ``(7,)`` in the robot's root link frame (z up), which is also the frame of the physics.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.shapes import lowest_point_m
from retargeting.body_points import SIDES
from retargeting.errors import InvalidConfiguration
from retargeting.frames import quaternion_from_rpy
from retargeting.robot_description import name_problem
from retargeting.robot_model import RobotModel
from retargeting.yaml_file import read_yaml

Array = NDArray[np.float64]
Rgba = tuple[float, float, float, float]
_BOUND = 10.0
# What else of the scene has a name in the physics.
_RESERVED = ("world", "table", "table_board", "floor", "goal")


@dataclass(frozen=True)
class SceneObject:
    """A thing to grasp. Box: `size_m` x, y, z; cylinder: radius, length, standing upright."""

    name: str
    kind: Literal["box", "cylinder"]
    size_m: tuple[float, ...]
    mass_kg: float
    friction: float
    rgba: Rgba
    start_arm_lengths: tuple[float, float]
    random_start_arm_lengths: tuple[float, float]
    random_yaw_rad: float

    @property
    def height_m(self) -> float:
        return self.size_m[-1]


@dataclass(frozen=True)
class SceneDescription:
    """A checked scene file; lengths of and on the table are fractions of the robot's arm length."""

    file: Path
    distance_arm_lengths: float
    below_shoulder_arm_lengths: float
    table_size_arm_lengths: tuple[float, float]
    table_thickness_m: float
    table_rgba: Rgba
    table_friction: float
    objects: tuple[SceneObject, ...]
    goal_object: str
    goal_arm_lengths: tuple[float, float]
    goal_radius_m: float
    goal_rgba: Rgba


class _Reader:
    """Typed access to nested mappings; problems are collected, unknown keys noticed."""

    def __init__(self) -> None:
        self.problems: list[str] = []

    def section(self, parent: Mapping[str, Any], path: str, key: str) -> dict[str, Any]:
        value = parent.get(key)
        if not isinstance(value, dict):
            self.problems.append(f"{path}{key}: a mapping is expected, not {value!r}")
            return {}
        return value

    def number(self, parent: Mapping[str, Any], path: str, key: str, low: float, high: float) -> float:
        return self.vector(parent, path, key, None, low, high)[0]

    def vector(
        self, parent: Mapping[str, Any], path: str, key: str, length: int | None, low: float, high: float
    ) -> tuple[float, ...]:
        value = parent.get(key)
        entries = [value] if length is None else value
        count = 1 if length is None else length
        if (
            not isinstance(entries, list)
            or len(entries) != count
            or not all(isinstance(e, int | float) and not isinstance(e, bool) for e in entries)
        ):
            wanted = "a number" if length is None else f"a list of {length} numbers"
            self.problems.append(f"{path}{key}: {wanted} is expected, not {value!r}")
            return (max(low, 0.0),) * count
        for entry in entries:
            if not (math.isfinite(entry) and low <= entry <= high):
                self.problems.append(f"{path}{key}: {entry} is outside {low:g} .. {high:g}")
        return tuple(float(entry) for entry in entries)

    def rgba(self, parent: Mapping[str, Any], path: str) -> Rgba:
        r, g, b, a = self.vector(parent, path, "rgba", 4, 0.0, 1.0)
        return r, g, b, a

    def refuse_unknown(self, parent: Mapping[str, Any], path: str, known: tuple[str, ...]) -> None:
        for key in parent:
            if key not in known:
                self.problems.append(f"{path}{key}: unknown key; known: {', '.join(known)}")

    def scene_object(self, name: str, value: Any) -> SceneObject:
        path = f"objects.{name}."
        if problem := name_problem(name):
            self.problems.append(f"objects.{name}: {problem}")
        if name in _RESERVED:
            self.problems.append(f"objects.{name}: the name is taken by the scene itself; give another one")
        values = value if isinstance(value, dict) else {}
        kind = values.get("kind")
        if kind not in ("box", "cylinder"):
            self.problems.append(f"{path}kind: {kind!r} is none of box, cylinder")
        start = self.vector(values, path, "start_arm_lengths", 2, -2.0, 2.0)
        spread = self.vector(values, path, "random_start_arm_lengths", 2, 0.0, 1.0)
        known = (
            "kind",
            "size_m",
            "mass_kg",
            "friction",
            "rgba",
            "start_arm_lengths",
            "random_start_arm_lengths",
            "random_yaw_rad",
        )
        self.refuse_unknown(values, path, known)
        return SceneObject(
            name,
            "cylinder" if kind == "cylinder" else "box",
            self.vector(values, path, "size_m", 2 if kind == "cylinder" else 3, 1e-3, 2.0),
            self.number(values, path, "mass_kg", 1e-3, 100.0),
            self.number(values, path, "friction", 0.0, 5.0),
            self.rgba(values, path),
            (start[0], start[1]),
            (spread[0], spread[1]),
            self.number(values, path, "random_yaw_rad", 0.0, math.pi),
        )


def load_scene(file: Path) -> SceneDescription:
    """Read a scene file (`config/scene.yaml`). Raises `CaptureError` listing every problem."""
    try:
        content = read_yaml(file)[1]
    except InvalidConfiguration as error:
        raise CaptureError("\n".join(map(str, error.problems))) from error
    reader = _Reader()
    top = content if isinstance(content, dict) else {}
    table, goal = reader.section(top, "", "table"), reader.section(top, "", "goal")
    objects = [reader.scene_object(str(k), v) for k, v in reader.section(top, "", "objects").items()]
    names = [entry.name for entry in objects]
    goal_object = goal.get("object")
    if goal_object not in names:
        reader.problems.append(f"goal.object: {goal_object!r} is none of {', '.join(names)}")
    reader.refuse_unknown(top, "", ("table", "objects", "goal"))
    reader.refuse_unknown(
        table,
        "table.",
        (
            "distance_arm_lengths",
            "below_shoulder_arm_lengths",
            "size_arm_lengths",
            "thickness_m",
            "rgba",
            "friction",
        ),
    )
    reader.refuse_unknown(goal, "goal.", ("object", "place_arm_lengths", "radius_m", "rgba"))
    depth, width = reader.vector(table, "table.", "size_arm_lengths", 2, 0.01, _BOUND)
    forward, left = reader.vector(goal, "goal.", "place_arm_lengths", 2, -2.0, 2.0)
    scene = SceneDescription(
        file,
        reader.number(table, "table.", "distance_arm_lengths", 0.0, 3.0),
        reader.number(table, "table.", "below_shoulder_arm_lengths", -2.0, 2.0),
        (depth, width),
        reader.number(table, "table.", "thickness_m", 1e-3, 0.5),
        reader.rgba(table, "table."),
        reader.number(table, "table.", "friction", 0.0, 5.0),
        tuple(objects),
        str(goal_object),
        (forward, left),
        reader.number(goal, "goal.", "radius_m", 1e-3, 1.0),
        reader.rgba(goal, "goal."),
    )
    if reader.problems:
        raise CaptureError("\n".join(f"{file}: {problem}" for problem in reader.problems))
    return scene


@dataclass(frozen=True)
class SceneLayout:
    """The scene placed for one robot; heights and poses (m) in the root link's frame.

    `object_poses` are the nominal starts; `goal_pose` is where the goal's object rests when it is
    placed perfectly (its centre, not the disc on the table).
    """

    scene: SceneDescription
    arm_length_m: float
    floor_z_m: float
    table_top_z_m: float
    workspace_centre_m: tuple[float, float]
    object_poses: dict[str, Array]
    goal_pose: Array

    @property
    def table_size_m(self) -> tuple[float, float, float]:
        """Depth, width, thickness."""
        depth, width = self.scene.table_size_arm_lengths
        return depth * self.arm_length_m, width * self.arm_length_m, self.scene.table_thickness_m

    def start_poses(self, generator: np.random.Generator | None = None) -> dict[str, Array]:
        """Where the objects stand: nominal, or drawn from each one's rectangle with `generator`."""
        if generator is None:
            return {name: pose.copy() for name, pose in self.object_poses.items()}
        poses = {}
        for entry in self.scene.objects:
            pose = self.object_poses[entry.name].copy()
            half_sides = self.arm_length_m * np.array(entry.random_start_arm_lengths)
            pose[:2] += generator.uniform(-1.0, 1.0, 2) * half_sides
            pose[3:] = quaternion_from_rpy([0.0, 0.0, entry.random_yaw_rad * generator.uniform(-1.0, 1.0)])
            poses[entry.name] = pose
        return poses


def arm_length_m(model: RobotModel) -> float:
    """Shoulder to elbow to wrist (m), the longer arm. Raises `CaptureError` where sites are missing."""
    neutral = model.neutral_positions()
    lengths = []
    for side in SIDES:
        names = [f"{side}_{part}" for part in ("shoulder", "elbow", "wrist")]
        if all(name in model.description.sites for name in names):
            shoulder, elbow, wrist = (model.site_pose(name, neutral)[:3] for name in names)
            lengths.append(float(np.linalg.norm(elbow - shoulder) + np.linalg.norm(wrist - elbow)))
    if not lengths:
        raise CaptureError(
            f"{model.description.file}: sites: shoulder, elbow and wrist of one side "
            f"are needed to place the table"
        )
    return max(lengths)


def layout_scene(model: RobotModel, scene: SceneDescription) -> SceneLayout:
    """Place the scene for a robot by its arm and shoulders, or by `simulation:` in its robot.yaml.

    There `table_height_m` is the table top above the floor and `table_distance_m` the workspace
    centre ahead of the base link. Raises `CaptureError` where sites are missing or an object is called
    like a link or joint of the robot.
    """
    for entry in scene.objects:
        if entry.name in model.urdf.links or entry.name in model.urdf.joints:
            raise CaptureError(
                f"{scene.file}: objects.{entry.name}: robot {model.name} has a link or joint of that name; "
                "give the object another one"
            )
    neutral = model.neutral_positions()
    poses = model.link_poses(neutral)
    length = arm_length_m(model)
    floor = lowest_point_m(model.urdf, poses)
    shoulders = [
        model.site_pose(f"{side}_shoulder", neutral)
        for side in SIDES
        if f"{side}_shoulder" in model.description.sites
    ]
    wanted = model.description.simulation
    top = float(np.mean([pose[2] for pose in shoulders])) - scene.below_shoulder_arm_lengths * length
    if wanted.table_height_m is not None:
        top = floor + wanted.table_height_m
    distance = scene.distance_arm_lengths * length
    if wanted.table_distance_m is not None:
        distance = wanted.table_distance_m
    base = poses[model.description.base_link]
    x, y = float(base[0]) + distance, float(base[1])

    def resting(place: tuple[float, float], height: float) -> Array:
        return np.array(
            [x + length * place[0], y + length * place[1], top + 0.5 * height, 0.0, 0.0, 0.0, 1.0]
        )

    goal_object = next(entry for entry in scene.objects if entry.name == scene.goal_object)
    return SceneLayout(
        scene,
        length,
        floor,
        top,
        (x, y),
        {entry.name: resting(entry.start_arm_lengths, entry.height_m) for entry in scene.objects},
        resting(scene.goal_arm_lengths, goal_object.height_m),
    )
