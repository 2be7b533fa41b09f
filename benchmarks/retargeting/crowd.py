"""Many robots fed by one motion on one core: does a round of all fit into one frame of the headset?"""

from __future__ import annotations

import gc
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from benchmarks.retargeting.figures import percentiles
from benchmarks.retargeting.motions import ENGAGE_S, FRAME_RATE_HZ, Motion
from retargeting.retargeter import Retargeter, State
from retargeting.robot_model import RobotModel
from retargeting.trainer_input import TrainerInput


def crowd(models: Sequence[RobotModel], motion: Motion, count: int = 100, frames: int = 90) -> dict[str, Any]:
    """Processor time (s) of one round: each of `count` robots takes one frame in and gives one command.

    Robots are `models` in turn. Rounds begin when all are tracking; `fits` where the median round takes
    no longer than a frame.
    """
    trainer = TrainerInput()
    robots = [Retargeter(models[k % len(models)], trainer=trainer) for k in range(count)]
    measured = [robot.model.neutral_positions() for robot in robots]
    rounds_s: list[float] = []
    # As `capture_nodes.node_runtime` does before a node runs.
    gc.collect()
    gc.freeze()
    for frame in motion.frames:
        now_s = frame.stamp_ns * 1e-9
        since_s = (frame.stamp_ns - motion.frames[0].stamp_ns) * 1e-9
        if len(rounds_s) >= frames:
            break
        tracking = all(robot.state is State.TRACKING for robot in robots)
        spent = 0.0
        for robot, joints in zip(robots, measured, strict=True):
            begin = time.thread_time()
            robot.observe_joints(joints, now_s)
            robot.observe_motion(frame, now_s)
            command = robot.tick(frame.stamp_ns, now_s)
            spent += time.thread_time() - begin
            if command is not None:
                joints |= zip(command.joint_names, command.positions.tolist(), strict=True)
            elif since_s > ENGAGE_S and robot.refusal(now_s) is None:
                robot.engage(now_s)
        if tracking:
            rounds_s.append(spent)
    figures = percentiles(np.array(rounds_s))
    return {
        "robots": count,
        "different_models": len({model.name for model in models}),
        "rounds": len(rounds_s),
        "round_s": figures,
        "frame_s": 1.0 / FRAME_RATE_HZ,
        "fits": figures["median"] <= 1.0 / FRAME_RATE_HZ,
    }
