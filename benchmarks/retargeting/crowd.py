"""Many robots fed by one motion on one core: does a round of all fit into one frame of the headset?

python -m benchmarks.retargeting.crowd [--motion NAME|FILE.bvh] [--fingers] [--self-collision] [--json FILE]

In each round every robot takes its measured joints and the frame in and gives a command; what the trainer's
part of that costs (`TrainerInput`) is spent once. The robots follow perfectly.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.retargeting.different_robots import different_robots
from benchmarks.retargeting.figures import percentiles
from benchmarks.retargeting.finger_motion import with_fingers
from benchmarks.retargeting.motions import (
    ENGAGE_S,
    FRAME_RATE_HZ,
    STANDING_S,
    SYNTHETIC,
    Motion,
)
from capture_nodes.sources.source import SourceError
from retargeting.applied_command import AppliedCommand
from retargeting.errors import RetargetingError
from retargeting.retargeter import Retargeter, State
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets, Step
from retargeting.trainer_input import TrainerInput

# The solver's share is measured in rounds of its own: looking at the clock twice per robot costs too.
_SHARE_EVERY = 4


class _TimedSolver(Solver):
    """Our solver; `spent_s` adds up while it is listened to."""

    listening, spent_s = False, 0.0

    def follow(self, targets: SolverTargets, gripper_positions: Any, dt: float) -> Step:
        if not _TimedSolver.listening:
            return super().follow(targets, gripper_positions, dt)
        begin_s = time.thread_time()
        step = super().follow(targets, gripper_positions, dt)
        _TimedSolver.spent_s += time.thread_time() - begin_s
        return step


class Crowd:
    """Robots that follow one trainer, each with its own measured joints."""

    def __init__(self, models: Sequence[RobotModel], parameters: SolverParameters | None = None) -> None:
        trainer, timing = TrainerInput(), RetargeterParameters(rate_hz=FRAME_RATE_HZ)
        self.robots = []
        for model in models:
            robot = Retargeter(model, timing, parameters, trainer=trainer)
            robot.solver = _TimedSolver(model, parameters)
            self.robots.append(robot)
        self.measured = [model.neutral_positions() for model in models]

    def round(self, frame: Any) -> list[AppliedCommand | None]:
        """One frame in and one command out, for each robot; None where nothing was ever engaged."""
        stamp_ns, now_s = frame.stamp_ns, frame.stamp_ns * 1e-9
        commands = []
        for robot, joints in zip(self.robots, self.measured, strict=True):
            robot.observe_joints(joints, now_s)
            robot.observe_motion(frame, now_s)
            commands.append(robot.tick(stamp_ns, now_s))
        return commands

    def follow(self, commands: Sequence[AppliedCommand | None]) -> None:
        """Let the robots be where they were commanded to be."""
        for joints, command in zip(self.measured, commands, strict=True):
            if command is not None:
                joints |= zip(command.joint_names, command.positions.tolist(), strict=True)

    def engage(self, now_s: float) -> None:
        """Engage those that can and have not."""
        for robot in self.robots:
            if robot.state is State.IDLE and robot.refusal(now_s) is None:
                robot.engage(now_s)


def crowd(
    models: Sequence[RobotModel], motion: Motion, parameters: SolverParameters | None = None
) -> dict[str, Any]:
    """Times (s) of a round, from when all are engaged and have stood until the motion ends.

    `processor_s` of the process, `wall_s`, and of the first the share of the solver. `fits` where the median
    round takes no longer than a frame of processor time. Raises `RetargetingError` where a robot did not
    follow every frame or never moved.
    """
    everybody = Crowd(models, parameters)
    processor_s: list[float] = []
    wall_s: list[float] = []
    solver_shares: list[float] = []
    low = [np.full(len(model.joint_names), np.inf) for model in models]
    high = [-positions for positions in low]
    # As `capture_nodes.node_runtime` does before a node runs.
    gc.collect()
    gc.freeze()
    try:
        for number, frame in enumerate(motion.frames):
            since_s = (frame.stamp_ns - motion.frames[0].stamp_ns) * 1e-9
            _TimedSolver.listening, _TimedSolver.spent_s = number % _SHARE_EVERY == 0, 0.0
            begin_s, begin_wall_s = time.process_time(), time.perf_counter()
            commands = everybody.round(frame)
            spent_s, spent_wall_s = time.process_time() - begin_s, time.perf_counter() - begin_wall_s
            everybody.follow(commands)
            if since_s > ENGAGE_S:
                everybody.engage(frame.stamp_ns * 1e-9)
            if since_s <= STANDING_S:
                continue
            _check_followed(everybody, commands, frame.stamp_ns)
            for k, command in enumerate(commands):
                if command is not None:
                    np.minimum(low[k], command.positions, out=low[k])
                    np.maximum(high[k], command.positions, out=high[k])
            if _TimedSolver.listening:
                solver_shares.append(_TimedSolver.spent_s / spent_s)
            else:
                processor_s.append(spent_s)
                wall_s.append(spent_wall_s)
    finally:
        _TimedSolver.listening = False
        gc.unfreeze()
    for model, least, most in zip(models, low, high, strict=True):
        if not (most - least).max() > 1e-3:
            raise RetargetingError(f"{model.name} was commanded to stand still through all of {motion.name}")
    figures = percentiles(np.array(processor_s))
    return {
        "motion": motion.name,
        "robots": len(models),
        "joints": sum(len(model.joint_names) for model in models),
        "different_models": len({model.name for model in models}),
        "with_fingers": sum(bool(model.description.hands) for model in models),
        "self_collision": (parameters or SolverParameters()).self_collision,
        "rounds": len(processor_s),
        "processor_s": figures,
        "wall_s": percentiles(np.array(wall_s)),
        "solver_share": float(np.median(solver_shares)),
        "frame_s": 1.0 / FRAME_RATE_HZ,
        "fits": figures["median"] <= 1.0 / FRAME_RATE_HZ,
    }


def _check_followed(everybody: Crowd, commands: Sequence[AppliedCommand | None], stamp_ns: int) -> None:
    for robot, command in zip(everybody.robots, commands, strict=True):
        if command is None or command.cause_stamp_ns != stamp_ns:
            raise RetargetingError(
                f"{robot.model.name} does not follow the trainer: {robot.state.value}, {robot.reason}"
            )


def describe(found: dict[str, Any]) -> str:
    """The figures of `crowd` in lines of text."""
    lines = [
        f"{found['robots']} robots ({found['different_models']} models, {found['joints']} joints, "
        f"{found['with_fingers']} with fingers) fed by {found['motion']}, self-collision "
        f"{'on' if found['self_collision'] else 'off'}, {found['rounds']} rounds; "
        f"a frame is {1e3 * found['frame_s']:.1f} ms"
    ]
    for what in ("processor", "wall"):
        figures = found[f"{what}_s"]
        lines.append(
            f"  {what + ' time':14s} median {1e3 * figures['median']:.2f} ms, "
            f"p95 {1e3 * figures['p95']:.2f} ms, p99 {1e3 * figures['p99']:.2f} ms"
        )
    lines.append(f"  the solver takes {100.0 * found['solver_share']:.0f} % of it")
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    # The benchmark as a whole takes this file in.
    from benchmarks.retargeting.__main__ import ROBOTS, chosen_motions, shortened

    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.retargeting.crowd",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--count", type=int, default=100, metavar="N", help="robots")
    parser.add_argument(
        "--motion", default="figure_eight", metavar="NAME|FILE.bvh", help=f"of {', '.join(SYNTHETIC)}"
    )
    parser.add_argument("--fingers", action="store_true", help="track fingers too, that open and close")
    parser.add_argument("--seconds", type=float, default=STANDING_S + 10.0, metavar="S", help="of the motion")
    parser.add_argument(
        "--self-collision", action=argparse.BooleanOptionalAction, default=SolverParameters.self_collision
    )
    parser.add_argument("--json", type=Path, metavar="FILE")
    given = parser.parse_args(arguments)
    try:
        (motion,) = chosen_motions([given.motion])
        motion = shortened(motion, given.seconds)
        if given.count < 1:
            raise RetargetingError(f"--count {given.count}: at least one robot is expected")
        models = different_robots(ROBOTS, given.count)
        found = crowd(
            models,
            with_fingers(motion) if given.fingers else motion,
            SolverParameters(self_collision=given.self_collision),
        )
    except (RetargetingError, SourceError) as error:
        print(f"crowd: error: {error}", file=sys.stderr)
        return 2
    print(describe(found))
    if given.json:
        given.json.write_text(json.dumps(found, indent=1) + "\n")
    return 0 if found["fits"] else 1


if __name__ == "__main__":
    sys.exit(main())
