"""Weights of the solver's tasks and the shape of the motion towards its goal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from retargeting.errors import RetargetingError


@dataclass(frozen=True)
class SolverParameters:
    """Weights of the tasks (metres are the common unit) and the shape of the motion towards the goal."""

    position_weight: float = 1.0
    orientation_weight_m_rad: float = 0.15
    head_orientation_weight_m_rad: float = 0.05
    elbow_weight_m: float = 0.02
    posture_weight_m_rad: float = 0.006
    waist_posture_weight_m_rad: float = 0.03
    goal_steps: int = 3
    damping: float = 1e-3
    residual_damping: float = 30.0
    settling_time_s: float = 0.04
    braking_share: float = 0.7
    self_collision: bool = False
    branch_recovery: bool = True

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not np.isfinite(value) or value < 0.0:
                raise RetargetingError(f"solver parameter {name}: {value!r} must be finite and not negative")
        if not 1 <= self.goal_steps <= 100:
            raise RetargetingError(f"solver parameter goal_steps: {self.goal_steps} is outside 1 .. 100")
        if not 0.0 < self.braking_share <= 1.0 or self.settling_time_s <= 0.0:
            raise RetargetingError(
                "solver parameters braking_share and settling_time_s must be above 0, share <= 1"
            )
