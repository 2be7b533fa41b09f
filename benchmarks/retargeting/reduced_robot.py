"""The part of a robot that the solvers share: commanded joints and what hangs between them and the sites.

Written as a URDF of its own, so that pinocchio and MuJoCo read the very same kinematics.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.errors import RetargetingError
from retargeting.frames import rotation_matrix_from_quaternion
from retargeting.kinematics import joint_offset
from retargeting.robot_model import RobotModel
from retargeting.urdf import Joint

Array = NDArray[np.float64]

# Stands for "no limit": readers of URDF refuse infinity.
_NO_LIMIT_RAD = 1e3


def site_link(site: str) -> str:
    """The link that stands for a site in the reduced URDF."""
    return f"site_{site}"


@dataclass(frozen=True)
class ReducedJoint:
    """A joint between two links; `pose` ``(7,)`` child in parent at zero; `coordinate` -1: fixed."""

    name: str
    parent: str
    child: str
    pose: Array
    axis: Array
    prismatic: bool
    coordinate: int


@dataclass(frozen=True)
class ReducedRobot:
    """`m` coordinates in the order of `names`; limits, `neutral` ``(m,)`` in rad, rad/s, rad/s²."""

    model: RobotModel
    names: tuple[str, ...]
    joints: tuple[ReducedJoint, ...]
    root: str
    sites: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array
    neutral: Array

    def urdf_text(self) -> str:
        """The same as a URDF; every link carries a nominal mass, because MuJoCo asks for one."""
        robot = ElementTree.Element("robot", name=self.model.name)
        compiler = ElementTree.SubElement(ElementTree.SubElement(robot, "mujoco"), "compiler")
        compiler.set("fusestatic", "false")
        for link in (self.root, *(joint.child for joint in self.joints)):
            inertial = ElementTree.SubElement(ElementTree.SubElement(robot, "link", name=link), "inertial")
            ElementTree.SubElement(inertial, "mass", value="1")
            moments = {"ixx": "0.01", "iyy": "0.01", "izz": "0.01", "ixy": "0", "ixz": "0", "iyz": "0"}
            ElementTree.SubElement(inertial, "inertia", moments)
        for joint in self.joints:
            kind = "fixed" if joint.coordinate < 0 else "prismatic" if joint.prismatic else "revolute"
            element = ElementTree.SubElement(robot, "joint", name=joint.name, type=kind)
            ElementTree.SubElement(element, "parent", link=joint.parent)
            ElementTree.SubElement(element, "child", link=joint.child)
            ElementTree.SubElement(
                element, "origin", xyz=_numbers(joint.pose[:3]), rpy=_numbers(_rpy(joint.pose[3:]))
            )
            if joint.coordinate >= 0:
                i = joint.coordinate
                ElementTree.SubElement(element, "axis", xyz=_numbers(joint.axis))
                ElementTree.SubElement(
                    element,
                    "limit",
                    lower=repr(float(self.lower[i])),
                    upper=repr(float(self.upper[i])),
                    velocity=repr(float(self.velocity[i])),
                    effort="1000",
                )
        return ElementTree.tostring(robot, encoding="unicode")


def _numbers(values: Array) -> str:
    return " ".join(repr(float(value)) for value in values)


def _rpy(quaternion: Array) -> Array:
    """Fixed-axis roll, pitch, yaw (rad) of ``(4,)``; at a pitch of 90 degrees the roll is 0."""
    r = rotation_matrix_from_quaternion(quaternion)
    across = float(np.hypot(r[0, 0], r[1, 0]))
    pitch = np.arctan2(-r[2, 0], across)
    if across < 1e-9:
        return np.array([0.0, pitch, np.arctan2(-r[0, 1], r[1, 1])])
    return np.array([np.arctan2(r[2, 1], r[2, 2]), pitch, np.arctan2(r[1, 0], r[0, 0])])


def reduce_robot(model: RobotModel) -> ReducedRobot:
    """Only what moves or carries a site, other joints fixed as the retargeting holds them.

    Raises `RetargetingError` where a joint on the way mimics a commanded one: the peers have no such joint.
    """
    names = model.joint_names[: model.body_count]
    carrier = {joint.child: joint for joint in model.urdf.joints.values()}
    wanted = {model.urdf.root}
    for site in model.description.sites.values():
        link = site.link
        while link not in wanted:
            wanted.add(link)
            link = carrier[link].parent
    joints = [
        _reduced(model, joint, names) for joint in model.urdf.joints_root_first() if joint.child in wanted
    ]
    for name, site in model.description.sites.items():
        joints.append(
            ReducedJoint(
                f"to_{site_link(name)}", site.link, site_link(name), site.pose, np.zeros(3), False, -1
            )
        )
    m = model.body_count
    return ReducedRobot(
        model=model,
        names=names,
        joints=tuple(joints),
        root=model.urdf.root,
        sites=tuple(model.description.sites),
        lower=np.where(np.isfinite(model.lower[:m]), model.lower[:m], -_NO_LIMIT_RAD),
        upper=np.where(np.isfinite(model.upper[:m]), model.upper[:m], _NO_LIMIT_RAD),
        velocity=model.velocity[:m].copy(),
        acceleration=model.acceleration[:m].copy(),
        neutral=model.neutral[:m].copy(),
    )


def _reduced(model: RobotModel, joint: Joint, names: tuple[str, ...]) -> ReducedJoint:
    prismatic = joint.kind == "prismatic"
    if joint.name in names:
        index = names.index(joint.name)
        return ReducedJoint(joint.name, joint.parent, joint.child, joint.pose, joint.axis, prismatic, index)
    pose = joint.pose
    if joint.kind != "fixed":
        leader, multiplier, offset = joint, 1.0, 0.0
        while leader.mimic is not None:
            offset += multiplier * leader.mimic.offset
            multiplier *= leader.mimic.multiplier
            leader = model.urdf.joints[leader.mimic.joint]
        if leader.name in names:
            raise RetargetingError(
                f"{model.name}: {joint.name} mimics the commanded {leader.name}; the peers cannot do that"
            )
        position = multiplier * model.neutral_position(leader.name) + offset
        pose = joint_offset(joint, position)
    return ReducedJoint(joint.name, joint.parent, joint.child, pose, joint.axis, prismatic, -1)
