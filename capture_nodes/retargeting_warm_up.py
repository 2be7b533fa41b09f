"""Compiling what a tick runs before anybody depends on its timing."""

from __future__ import annotations

import numpy as np

from retargeting.body_points import BODY_POINTS, SIDES
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter
from retargeting.retargeter_parameters import EngageMode, RetargeterParameters
from retargeting.robot_model import RobotModel
from retargeting.solver import SolverParameters
from retargeting.trainer_size import TrainerSize

_TICK_S = 0.005
_SIZE = TrainerSize(dict.fromkeys(SIDES, 0.3), dict.fromkeys(SIDES, 0.26))


def warm_up(model: RobotModel, solver_parameters: SolverParameters) -> None:
    """Compile (or load from the cache) by a trial of its own: both ways to engage, following, braking.

    First all of a trainer is tracked, fingers included, then head and wrists alone.
    """
    few = {
        "head": np.array([0.0, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0]),
        "left_wrist": np.array([0.3, 0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
        "right_wrist": np.array([0.3, -0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
    }
    rng = np.random.default_rng(0)
    # Nobody looks like this; what matters is that every point is there.
    near = rng.uniform(-0.04, 0.04, (len(BODY_POINTS), 3))
    whole = {
        name: np.array([*(np.array([0.1, 0.0, 1.3]) + place), 0.0, 0.0, 0.0, 1.0])
        for name, place in zip(BODY_POINTS, near, strict=True)
    } | few
    trial = Retargeter(model, RetargeterParameters(size_frames=1), solver_parameters, size=_SIZE)
    trial.observe_joints(model.neutral_positions(), 0.0)
    k = 0
    for mode, poses in ((EngageMode.ABSOLUTE, whole), (EngageMode.RELATIVE, few)):
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
