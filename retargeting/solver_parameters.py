"""Weights of the solver's tasks and the shape of the motion towards its goal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retargeting.errors import RetargetingError


@dataclass(frozen=True)
class SolverParameters:
    """Weights of the tasks (metres are the common unit) and the shape of the motion towards the goal.

    goal_average_s: over this time the goal's own velocity is averaged (frames come slower than ticks; their
    beat would shake the joints); settling_time_s: what is left of the distance to the goal closes with this
    time constant, at most as fast as `braking_share` of the acceleration limits can brake it.

    self_collision: keep the robot's links apart. Along a margin the goal is held steady: where a pair is
    nearer than twice `contact_gap_m` above its margin (wholly from `contact_gap_m` on), joints get
    `contact_damping` (m²/rad²).
    lead_time_s: see `retargeting.target_clearance`.
    """

    position_weight: float = 1.0
    orientation_weight_m_rad: float = 0.15
    head_orientation_weight_m_rad: float = 0.05
    elbow_weight_m: float = 0.02
    posture_weight_m_rad: float = 0.006
    waist_posture_weight_m_rad: float = 0.03
    goal_steps: int = 3
    damping: float = 1e-3
    residual_damping: float = 30.0
    goal_average_s: float = 0.007
    settling_time_s: float = 0.025
    braking_share: float = 0.7
    contact_damping: float = 0.1
    contact_gap_m: float = 0.005
    lead_time_s: float = 0.05
    self_collision: bool = False
    branch_recovery: bool = False

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value) or value < 0.0:
                raise RetargetingError(f"solver parameter {name}: {value!r} must be finite and not negative")
        if not 1 <= self.goal_steps <= 100:
            raise RetargetingError(f"solver parameter goal_steps: {self.goal_steps} is outside 1 .. 100")
        if not 0.0 < self.braking_share <= 1.0:
            raise RetargetingError(
                f"solver parameter braking_share: {self.braking_share} must be above 0, at most 1"
            )
        for name in (
            "goal_average_s",
            "settling_time_s",
            "contact_gap_m",
            "lead_time_s",
        ):
            if getattr(self, name) <= 0.0:
                raise RetargetingError(f"solver parameter {name}: {getattr(self, name)} must be above 0")
