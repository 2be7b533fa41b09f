"""Many different robots: those that are registered and installed, and others like them of other lengths."""

from __future__ import annotations

from dataclasses import replace
from itertools import cycle
from pathlib import Path

import numpy as np

from retargeting.errors import RetargetingError
from retargeting.registered_robots import registered_robots
from retargeting.robot_model import RobotModel, load_robot

# Each link is shorter or longer by up to this share, each by another.
_LARGEST_CHANGE = 0.15


def resized(model: RobotModel, number: int) -> RobotModel:
    """The robot with all distances between its joints changed, at random by `number`; joint ranges stay."""
    rng = np.random.default_rng(number)
    joints = {}
    for name, joint in model.urdf.joints.items():
        pose = joint.pose.copy()
        pose[:3] *= rng.uniform(1.0 - _LARGEST_CHANGE, 1.0 + _LARGEST_CHANGE)
        joints[name] = replace(joint, pose=pose)
    name = f"{model.name}_{number}"
    return replace(
        model,
        urdf=replace(model.urdf, joints=joints),
        description=replace(model.description, name=name),
    )


def different_robots(folder: Path, count: int) -> tuple[RobotModel, ...]:
    """`count` robots: those of `folder` that are usable here, then resized ones of each in turn.

    Raises `RetargetingError` where none is usable.
    """
    found = [load_robot(robot.file) for robot in registered_robots(folder, thorough=True) if robot.usable]
    if not found:
        raise RetargetingError(f"no robot of {folder} is usable; `station robots` tells why")
    models = found[:count]
    for number, model in enumerate(cycle(found), start=1):
        if len(models) >= count:
            break
        models.append(resized(model, number))
    return tuple(models)
