"""Compiling what a tick runs before anybody depends on its timing."""

from __future__ import annotations

import numpy as np

from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter
from retargeting.retargeter_parameters import EngageMode, RetargeterParameters
from retargeting.robot_model import RobotModel
from retargeting.solver import SolverParameters

_TICK_S = 0.005


def warm_up(model: RobotModel, solver_parameters: SolverParameters) -> None:
    """Compile (or load from the cache) by a trial of its own: both ways to engage, following, braking."""
    poses = {
        "head": np.array([0.0, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0]),
        "left_wrist": np.array([0.3, 0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
        "right_wrist": np.array([0.3, -0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
    }
    trial = Retargeter(model, RetargeterParameters(size_frames=1), solver_parameters)
    trial.observe_joints(model.neutral_positions(), 0.0)
    k = 0
    for mode in (EngageMode.ABSOLUTE, EngageMode.RELATIVE):
        trial.set_engage_mode(mode)
        trial.observe_motion(MotionFrame(_stamp_ns(k), poses), k * _TICK_S)
        trial.engage(k * _TICK_S)
        for _ in range(4):
            k += 1
            trial.observe_motion(MotionFrame(_stamp_ns(k), poses), k * _TICK_S)
            trial.tick(_stamp_ns(k), k * _TICK_S)
        trial.release()
        k += 1
        trial.tick(_stamp_ns(k), k * _TICK_S)


def _stamp_ns(tick: int) -> int:
    return 1 + round(tick * _TICK_S * 1e9)
