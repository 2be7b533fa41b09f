"""Range, velocity and acceleration of a commanded joint, from the URDF and `robot.yaml`'s `limits`.

What a URDF does not state, or states as a placeholder, `Limits` stands in for: its defaults are the
only default caps there are.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from retargeting.robot_description import JointLimitOverride, Limits
from retargeting.urdf import Joint

_ROUNDING = 1e-9


@dataclass(frozen=True)
class JointCaps:
    """rad/s and rad/s² (prismatic: m/s, m/s²)."""

    velocity: float
    acceleration: float


def joint_caps(joint: Joint, limits: Limits) -> JointCaps:
    """The lower of the URDF's velocity limit and the cap; the URDF knows no acceleration."""
    slides = joint.kind == "prismatic"
    velocity = limits.velocity_m_s if slides else limits.velocity_rad_s
    acceleration = limits.acceleration_m_s2 if slides else limits.acceleration_rad_s2
    override = limits.joints.get(joint.name)
    if override is not None:
        velocity = velocity if override.velocity is None else override.velocity
        acceleration = acceleration if override.acceleration is None else override.acceleration
    return JointCaps(min(joint.velocity, velocity), acceleration)


def states_no_range(joint: Joint) -> bool:
    """Whether the URDF leaves open how far `joint` may go: it turns freely, or cannot leave 0."""
    return joint.kind == "continuous" or joint.lower == joint.upper == 0.0


def range_problem(joint: Joint, override: JointLimitOverride) -> str:
    """Why `override` cannot be the range of `joint`, or "" where it can: it may only narrow the URDF's."""
    lower = joint.lower if override.lower is None else override.lower
    upper = joint.upper if override.upper is None else override.upper
    if not lower < upper:
        return f"lower {lower:g} must be below upper {upper:g}"
    if not states_no_range(joint) and (lower < joint.lower - _ROUNDING or upper > joint.upper + _ROUNDING):
        return f"{lower:g} .. {upper:g} leaves the URDF's {joint.lower:g} .. {joint.upper:g}"
    return ""


def with_range(joint: Joint, override: JointLimitOverride) -> Joint:
    """`joint` within the range of `override`, which has no `range_problem`."""
    return dataclasses.replace(
        joint,
        lower=joint.lower if override.lower is None else override.lower,
        upper=joint.upper if override.upper is None else override.upper,
    )
