"""A robot ready for use: URDF and `robot.yaml`, checked against each other and flattened to arrays."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retargeting.arm_sites import arm_site_problems
from retargeting.errors import InvalidConfiguration, Problem, RetargetingError
from retargeting.frames import pose_compose, pose_from_matrix
from retargeting.joint_caps import joint_caps, range_problem, with_range
from retargeting.joint_limits import JointLimits
from retargeting.kinematics import KinematicTree, build_tree
from retargeting.robot_description import CHAINS, RobotDescription, load_robot_description
from retargeting.urdf import MOVABLE_KINDS, Urdf, load_urdf

Array = NDArray[np.float64]


@dataclass(frozen=True)
class RobotModel:
    """Everything known of a robot.

    `joint_names` are the commanded joints: the chains waist, head, left arm, right arm, then the
    grippers' (`body_count` of them belong to the chains). `lower`, `upper`, `velocity`,
    `acceleration`, `neutral` are ``(n,)`` in rad, rad/s, rad/s² (prismatic joints in m). The joints of
    `urdf` have the ranges of `robot.yaml` where it states them.
    """

    description: RobotDescription
    urdf: Urdf
    joint_names: tuple[str, ...]
    body_count: int
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    neutral: Array

    @property
    def name(self) -> str:
        return self.description.name

    @cached_property
    def limits(self) -> JointLimits:
        """Those of all commanded joints, as compiled code takes them."""
        return JointLimits(self.lower, self.upper, self.velocity, self.acceleration)

    @cached_property
    def movable_joint_names(self) -> tuple[str, ...]:
        """Every joint with a position of its own (no mimics), commanded or not, in URDF order."""
        return tuple(j.name for j in self.urdf.joints.values() if j.kind in MOVABLE_KINDS and j.mimic is None)

    @cached_property
    def locked_positions(self) -> dict[str, float]:
        """Positions of the joints that are not commanded (legs, wheels): held there."""
        return {
            name: self.neutral_position(name)
            for name in self.movable_joint_names
            if name not in self.joint_names
        }

    def neutral_position(self, joint_name: str) -> float:
        """The resting position (rad or m) from `robot.yaml`, else 0 brought within the limits."""
        joint = self.urdf.joints[joint_name]
        wanted = self.description.neutral_posture.get(joint_name, 0.0)
        return min(max(wanted, joint.lower), joint.upper)

    @cached_property
    def full_tree(self) -> KinematicTree:
        """All links over `movable_joint_names`."""
        return build_tree(self.urdf, self.movable_joint_names, {})[0]

    def link_poses(self, positions: Mapping[str, float]) -> dict[str, Array]:
        """Poses ``(7,)`` of every link in the root link for joint positions by name (rad, m).

        Joints that are not given are at their neutral position. Raises `RetargetingError` on an
        unknown name.
        """
        unknown = [name for name in positions if name not in self.urdf.joints]
        if unknown:
            raise RetargetingError(f"robot {self.name} has no joint {unknown[0]!r}")
        q = np.array(
            [
                positions[name] if name in positions else self.neutral_position(name)
                for name in self.movable_joint_names
            ]
        )
        matrices = np.zeros((len(self.full_tree.names), 4, 4))
        matrices[:, :3, 3], matrices[:, :3, :3] = self.full_tree.body_poses(q)
        poses = pose_from_matrix(matrices)
        return dict(zip(self.full_tree.names, poses, strict=True))

    def site_pose(self, site: str, positions: Mapping[str, float]) -> Array:
        """Pose ``(7,)`` of a site of `robot.yaml` in the root link, see `link_poses`."""
        entry = self.description.sites[site]
        return pose_compose(self.link_poses(positions)[entry.link], entry.pose)

    def neutral_positions(self) -> dict[str, float]:
        return {name: self.neutral_position(name) for name in self.movable_joint_names}


def load_robot(robot_yaml: Path) -> RobotModel:
    """Read `robot.yaml` and the URDF it names, check them together and flatten the limits.

    Raises `InvalidConfiguration` listing every problem of both files.
    """
    description = load_robot_description(robot_yaml)
    urdf = load_urdf(description.urdf_file, description.package_paths, description.xacro_arguments)
    problems: list[Problem] = []

    def problem(key: str, message: str) -> None:
        problems.append(Problem(robot_yaml, key, message))

    def check_link(key: str, link: str) -> None:
        if link not in urdf.links:
            problem(key, f"link {link!r} is not in {urdf.path.name}")

    def check_joint(key: str, name: str, within_limits: tuple[float, ...] = ()) -> None:
        joint = urdf.joints.get(name)
        if joint is None or joint.kind == "fixed":
            reason = "is not in" if joint is None else "is fixed in"
            problem(key, f"joint {name!r} {reason} {urdf.path.name}")
            return
        if joint.mimic is not None:
            problem(key, f"joint {name!r} mimics {joint.mimic.joint!r} and cannot be commanded itself")
        for value in within_limits:
            if not joint.lower - 1e-9 <= value <= joint.upper + 1e-9:
                problem(key, f"{value} is outside the limits {joint.lower:g} .. {joint.upper:g} of {name!r}")

    ranged = dict(urdf.joints)
    for name, override in description.limits.joints.items():
        check_joint(f"limits.joints.{name}", name)
        if name not in ranged or (override.lower is None and override.upper is None):
            continue
        if reason := range_problem(ranged[name], override):
            problem(f"limits.joints.{name}", reason)
        else:
            ranged[name] = with_range(ranged[name], override)
    urdf = replace(urdf, joints=ranged)
    check_link("base_link", description.base_link)
    for chain in CHAINS:
        for name in description.chains[chain]:
            check_joint(f"chains.{chain}", name)
    for section, entries in (
        ("sites", description.sites),
        ("sensors.wrenches", description.wrenches),
        ("sensors.tactile", description.tactile),
        ("sensors.cameras", description.cameras),
    ):
        for key, entry in entries.items():
            check_link(f"{section}.{key}.link", entry.link)
    for side, fingers in description.hands.items():
        for key, finger in fingers.items():
            check_link(f"hands.{side}.{key}.tip", finger.tip)
            if finger.base:
                check_link(f"hands.{side}.{key}.base", finger.base)
    for side, gripper in description.grippers.items():
        for name, ends in gripper.joints.items():
            check_joint(f"grippers.{side}.joints.{name}", name, (ends.closed, ends.open))
    for name, value in description.neutral_posture.items():
        check_joint(f"neutral_posture_rad.{name}", name, (value,))
    for key in ("ignore", "check"):
        for pair in getattr(description.collision, key):
            for link in pair:
                check_link(f"collision.{key}", link)
    for key, message in arm_site_problems(description, urdf):
        problem(key, message)
    body = [name for chain in CHAINS for name in description.chains[chain]]
    grippers = [name for gripper in description.grippers.values() for name in gripper.joints]
    names = (*body, *grippers)
    for key, controller in description.command_interface.controllers.items():
        for name in controller.joints:
            if name not in names:
                where = f"command_interface.controllers.{key}.joints"
                problem(where, f"joint {name!r} is in no chain and no gripper, so it is never commanded")
    if problems:
        raise InvalidConfiguration(problems)

    joints = [urdf.joints[name] for name in names]
    caps = [joint_caps(joint, description.limits) for joint in joints]
    model = RobotModel(
        description=description,
        urdf=urdf,
        joint_names=names,
        body_count=len(body),
        lower=np.array([joint.lower for joint in joints]),
        upper=np.array([joint.upper for joint in joints]),
        velocity=np.array([cap.velocity for cap in caps]),
        acceleration=np.array([cap.acceleration for cap in caps]),
        neutral=np.array(
            [
                min(max(description.neutral_posture.get(joint.name, 0.0), joint.lower), joint.upper)
                for joint in joints
            ]
        ),
    )
    if not all(math.isfinite(value) for value in model.neutral):
        raise RetargetingError(f"{robot_yaml}: the neutral posture is not finite")
    return model
