"""The robot as it was when an episode was recorded: from the attached `robot.urdf` and `robot.yaml`.

Limits are derived here again, by code that shares nothing with the solver whose commands they judge.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from episodes.bag import Bag
from episodes.errors import EpisodeError
from episodes.kinematics import KinematicTree, Site, rotation_from_rpy
from retargeting.errors import InvalidConfiguration
from retargeting.yaml_file import parse_yaml

Array = NDArray[np.float64]

URDF_ATTACHMENT = "robot.urdf"
YAML_ATTACHMENT = "robot.yaml"

# The defaults every published figure is measured with (docs/episodes.md).
VELOCITY_CAP_RAD_S = 6.0
ACCELERATION_CAP_RAD_S2 = 30.0
VELOCITY_CAP_M_S = 0.5
ACCELERATION_CAP_M_S2 = 5.0


@dataclass(frozen=True)
class JointLimits:
    """Limits of joints `names`, ``(joints,)`` arrays in rad or m; infinite where there is none."""

    names: tuple[str, ...]
    lower: Array
    upper: Array
    velocity: Array
    acceleration: Array


@dataclass(frozen=True)
class Pad:
    """A tactile pad: the link it is on and the area of one taxel."""

    link: str
    taxel_area_m2: float


@dataclass(frozen=True)
class AttachedModel:
    """`wrenches` maps a force sensor's name to its link; `posture` are joint positions (rad, m)."""

    name: str
    tree: KinematicTree
    sites: Mapping[str, Site]
    pads: Mapping[str, Pad]
    wrenches: Mapping[str, str]
    posture: Mapping[str, float]
    caps: Mapping[str, Any]

    def limits(self, names: tuple[str, ...]) -> JointLimits:
        """Limits of the given joints; raises `EpisodeError` on one the URDF does not have."""
        rows = []
        for name in names:
            joint = self.tree.joints.get(name)
            if joint is None or not joint.moves:
                raise EpisodeError(None, f"joint {name!r} is not a movable joint of {URDF_ATTACHMENT}")
            prismatic = joint.kind == "prismatic"
            own = _mapping(_mapping(self.caps.get("joints")).get(name))
            velocity = own.get("velocity")
            if velocity is None:
                key, default = (
                    ("velocity_m_s", VELOCITY_CAP_M_S)
                    if prismatic
                    else ("velocity_rad_s", VELOCITY_CAP_RAD_S)
                )
                velocity = self.caps.get(key, default)
            acceleration = own.get("acceleration")
            if acceleration is None:
                key, default = (
                    ("acceleration_m_s2", ACCELERATION_CAP_M_S2)
                    if prismatic
                    else ("acceleration_rad_s2", ACCELERATION_CAP_RAD_S2)
                )
                acceleration = self.caps.get(key, default)
            lower, upper = (
                own.get(key, bound) for key, bound in (("lower", joint.lower), ("upper", joint.upper))
            )
            velocity = min(joint.velocity, float(velocity))
            rows.append((float(lower), float(upper), velocity, float(acceleration)))
        table = np.array(rows, dtype=np.float64).reshape(-1, 4)
        return JointLimits(names, table[:, 0], table[:, 1], table[:, 2], table[:, 3])

    def joints_moving(self, links: list[str], commanded: tuple[str, ...]) -> tuple[str, ...]:
        """The commanded joints that move any of the links, in the order of `commanded`."""
        movers = {joint.source for link in links for joint in self.tree.path(link) if joint.moves}
        return tuple(name for name in commanded if name in movers)


def attached_urdf(bag: Bag) -> bytes:
    """The attached URDF: `robot.urdf`, else the only attachment that ends in `.urdf`."""
    names = [name for name in bag.attachments if name.endswith(".urdf")]
    return bag.attachment(names[0] if len(names) == 1 else URDF_ATTACHMENT)


def has_model(bag: Bag) -> bool:
    """Whether a robot is attached."""
    return YAML_ATTACHMENT in bag.attachments and any(name.endswith(".urdf") for name in bag.attachments)


def attached_model(bag: Bag) -> AttachedModel:
    """The robot attached to an episode. Raises `EpisodeError` where it is missing or cannot be read."""
    try:
        tree = KinematicTree(attached_urdf(bag).decode("utf-8"))
        content = parse_yaml(bag.attachment(YAML_ATTACHMENT).decode("utf-8"), Path(YAML_ATTACHMENT))
        if not isinstance(content, dict):
            raise EpisodeError(bag.path, f"{YAML_ATTACHMENT} is no mapping of keys to values")
        sensors = _mapping(content.get("sensors"))
        model = AttachedModel(
            name=str(content.get("name", "")),
            tree=tree,
            sites={name: _site(_mapping(value)) for name, value in _mapping(content.get("sites")).items()},
            pads={name: _pad(_mapping(value)) for name, value in _mapping(sensors.get("tactile")).items()},
            wrenches={
                name: str(_mapping(value)["link"])
                for name, value in _mapping(sensors.get("wrenches")).items()
            },
            posture={
                name: float(value) for name, value in _mapping(content.get("neutral_posture_rad")).items()
            },
            caps=_mapping(content.get("limits")),
        )
    except EpisodeError as error:
        raise error if error.path is not None else EpisodeError(bag.path, error.message) from error
    except (UnicodeDecodeError, InvalidConfiguration) as error:
        words = error.problems[0] if isinstance(error, InvalidConfiguration) else error
        raise EpisodeError(bag.path, f"attached robot files cannot be read: {words}") from error
    except KeyError as error:
        raise EpisodeError(
            bag.path, f"{YAML_ATTACHMENT} lacks the key {error} somewhere it is needed"
        ) from error
    except (TypeError, ValueError) as error:
        raise EpisodeError(bag.path, f"{YAML_ATTACHMENT} has a value of the wrong kind: {error}") from error
    for what, link in [
        *((f"sites.{name}", site.link) for name, site in model.sites.items()),
        *((f"sensors.wrenches.{name}", link) for name, link in model.wrenches.items()),
        *((f"sensors.tactile.{name}", pad.link) for name, pad in model.pads.items()),
    ]:
        if link not in tree.links:
            raise EpisodeError(
                bag.path, f"{YAML_ATTACHMENT}: {what} is on link {link!r}, not in {URDF_ATTACHMENT}"
            )
    return model


def _mapping(value: Any) -> Mapping[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{value!r} where a mapping of keys to values is expected")
    return value


def _vector(value: Any, default: tuple[float, ...]) -> Array:
    vector = np.array(default if value is None else value, dtype=np.float64)
    if vector.shape != (len(default),) or not np.isfinite(vector).all():
        raise ValueError(f"{value!r} where {len(default)} finite numbers are expected")
    return vector


def _site(section: Mapping[str, Any]) -> Site:
    rpy = _vector(section.get("rpy_rad"), (0.0, 0.0, 0.0))
    return Site(
        str(section["link"]), rotation_from_rpy(rpy.tolist()), _vector(section.get("xyz_m"), (0.0, 0.0, 0.0))
    )


def _pad(section: Mapping[str, Any]) -> Pad:
    height, width = _vector(section["size_m"], (math.nan, math.nan))
    taxels = int(section["rows"]) * int(section["columns"])
    if taxels < 1:
        raise ValueError(f"{taxels} taxels")
    return Pad(str(section["link"]), float(height * width) / taxels)
