"""A motion through the whole retargeting, with an ideal robot, in steps of a tick and without waiting."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.retargeting.command_trace import CommandTrace
from benchmarks.retargeting.motions import Motion
from retargeting.errors import RetargetingError
from retargeting.retargeter import Retargeter, State
from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets, Step

Array = NDArray[np.float64]

# An operator whose engage is refused presses again for so long.
_TRY_ENGAGE_S = 2.0


@dataclass(frozen=True)
class Playback:
    """What was published, one row a tick, and what the solver was asked.

    targets: what the solver got in each tick, led out of the body where it keeps margins, the last ones
    while it held; tracking ``(t,)``: whether the state was TRACKING; tick_s, frame_s: processor time of one
    tick and of taking one motion frame in.
    """

    model: RobotModel
    motion: Motion
    stamps_ns: NDArray[np.int64]
    positions: Array
    targets: tuple[SolverTargets, ...]
    tracking: NDArray[np.bool_]
    start: Array
    nominal_s: float
    forced_exceptions: int
    refused: tuple[str, ...]
    reasons: tuple[str, ...]
    tick_s: Array
    frame_s: Array

    @property
    def steps_s(self) -> Array:
        """min(real, nominal) per tick ``(t,)``."""
        real_s = np.diff(self.stamps_ns) * 1e-9
        return np.concatenate([[self.nominal_s], np.minimum(real_s, self.nominal_s)])

    def trace(
        self,
        collision_margin_m: float,
        label: str,
        exempt_pairs: tuple[tuple[str, str, str], ...] = (),
        own_margins: tuple[tuple[str, str, float], ...] = (),
    ) -> CommandTrace:
        description = self.model.description
        return CommandTrace(
            urdf=description.urdf_file,
            package_paths=description.package_paths,
            joint_names=self.model.joint_names,
            stamps_ns=self.stamps_ns,
            positions=self.positions,
            start=self.start,
            nominal_s=self.nominal_s,
            held=self.model.locked_positions,
            collision_margin_m=collision_margin_m,
            exempt_pairs=exempt_pairs,
            own_margins=own_margins,
            finger_joints=self.model.joint_names[self.model.body_count :],
            label=label,
        )


class _ListeningSolver(Solver):
    """Our solver, keeping the last targets, as it led them."""

    heard: SolverTargets | None = None

    def follow(self, targets: SolverTargets, *others: Any, **named: Any) -> Step:
        step = super().follow(targets, *others, **named)
        self.heard = SolverTargets(*(array.copy() for array in self.led(targets)))
        return step


def play(model: RobotModel, motion: Motion, parameters: SolverParameters | None = None) -> Playback:
    """Play `motion` on a robot that follows perfectly. Raises `RetargetingError` where it never engages."""
    retargeter = Retargeter(model)
    solver = _ListeningSolver(model, parameters)
    retargeter.solver = solver
    nominal_s = 1.0 / retargeter.parameters.rate_hz
    measured = model.neutral_positions()
    start = np.array([measured[name] for name in model.joint_names])
    frames, next_frame = motion.frames, 0
    stamp_ns, end_ns = frames[0].stamp_ns, frames[-1].stamp_ns
    events = list(motion.events)
    refusals: list[str] = []
    reasons: list[tuple[float, str]] = []
    stamps, rows, targets, tracking, tick_s, frame_s = [], [], [], [], [], []
    asking_until_s = -1.0
    tick = 0
    while stamp_ns <= end_ns:
        now_s = stamp_ns * 1e-9
        retargeter.observe_joints(measured, now_s)
        while next_frame < len(frames) and frames[next_frame].stamp_ns <= stamp_ns:
            begin = time.thread_time()
            retargeter.observe_motion(frames[next_frame], now_s)
            frame_s.append(time.thread_time() - begin)
            next_frame += 1
        since_s = (stamp_ns - frames[0].stamp_ns) * 1e-9
        while events and since_s >= events[0][0]:
            _, what = events.pop(0)
            if what == "release":
                retargeter.release()
                asking_until_s = -1.0
            else:
                asking_until_s = since_s + _TRY_ENGAGE_S
        if asking_until_s > 0.0:
            try:
                retargeter.engage(now_s)
                asking_until_s = -1.0
            except RetargetingError as error:
                if since_s > asking_until_s:
                    refusals.append(f"{since_s:.2f} s: {error}")
                    asking_until_s = -1.0
        begin = time.thread_time()
        command = retargeter.tick(stamp_ns, now_s)
        tick_s.append(time.thread_time() - begin)
        reason = f"{retargeter.state.value}: {retargeter.reason}"
        if not reasons or reasons[-1][1] != reason:
            reasons.append((since_s, reason))
        if command is not None and solver.heard is not None:
            stamps.append(stamp_ns)
            rows.append(command.positions)
            targets.append(solver.heard)
            tracking.append(retargeter.state is State.TRACKING)
            measured |= zip(command.joint_names, command.positions.tolist(), strict=True)
        stamp_ns += round(motion.tick_share[tick % len(motion.tick_share)] * nominal_s * 1e9)
        tick += 1
    if not rows:
        raise RetargetingError(
            f"{model.name}, {motion.name}: nothing was commanded ({refusals or retargeter.reason})"
        )
    return Playback(
        model,
        motion,
        np.array(stamps, dtype=np.int64),
        np.array(rows),
        tuple(targets),
        np.array(tracking),
        start,
        nominal_s,
        retargeter.forced_exceptions,
        tuple(refusals),
        tuple(f"{since_s:.2f} s {reason}" for since_s, reason in reasons),
        np.array(tick_s),
        np.array(frame_s),
    )


def play_clean(playback: Playback, parameters: SolverParameters | None = None) -> Playback | None:
    """The same motion without its disturbance, None where it has none."""
    clean = playback.motion.clean
    return None if clean is None else play(playback.model, replace(clean, clean=None), parameters)
