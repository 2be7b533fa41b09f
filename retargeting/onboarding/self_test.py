"""Whether a described robot works: it loads, reaches, and follows motions inside its limits, offline."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.frames import (
    pose_compose,
    quaternion_inverse,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from retargeting.motion_frame import MotionFrame
from retargeting.onboarding.synthetic_trainer import DURATION_S, synthetic_frame
from retargeting.retargeter import Retargeter, State
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel

Array = NDArray[np.float64]

# Seconds of a motion to the frame of that instant (None: not tracked), with a stamp in ns.
Motion = Callable[[float, int], MotionFrame | None]

SYNTHETIC = "synthetic"
_TICK_S, _FRAME_S, _STANDING_S = 0.005, 1.0 / 90.0, 1.0
# Rounding of sums of steps: rad or m, per second and per second squared of it.
_POSITION_SLACK, _VELOCITY_SLACK, _ACCELERATION_SHARE = 1e-9, 1e-6, 1e-6
# A wrist that is farther than this from where it should be, half of the time, is not following.
FOLLOWS_M, FOLLOWS_RAD = 0.05, 0.35


@dataclass(frozen=True)
class MotionResult:
    """One motion on one robot: errors of both wrists (m, rad) after engaging, and broken limits."""

    name: str
    duration_s: float
    ticks: int
    ended: str
    position_violations: int
    velocity_violations: int
    acceleration_violations: int
    error_m: dict[str, float]
    error_p95_m: dict[str, float]
    error_rad: dict[str, float]

    @property
    def violations(self) -> int:
        return self.position_violations + self.velocity_violations + self.acceleration_violations

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong in words; empty where the robot follows inside its limits.

        A recorded motion may ask for more than an arm can reach: only the synthetic one has to be followed.
        """
        found = []
        if self.ended != State.TRACKING.value:
            found.append(f"{self.name}: it ended in {self.ended}")
        if self.violations:
            found.append(
                f"{self.name}: {self.position_violations} position, {self.velocity_violations} velocity and "
                f"{self.acceleration_violations} acceleration limits broken"
            )
        return (*found, *(self.lags if self.name == SYNTHETIC else ()))

    @property
    def lags(self) -> tuple[str, ...]:
        """Wrists that are not where they are asked to be, half of the time."""
        found = []
        for side, error in self.error_m.items():
            if error > FOLLOWS_M:
                found.append(f"{self.name}: the {side} wrist is {error:.3f} m off half of the time")
            if self.error_rad[side] > FOLLOWS_RAD:
                turn = f"{self.error_rad[side]:.2f} rad"
                found.append(f"{self.name}: the {side} hand is {turn} off half of the time")
        return tuple(found)


@dataclass(frozen=True)
class SelfTest:
    """`reach_m` per side; `unlimited`: joints without a position limit; `motions`: what was followed."""

    joints: int
    reach_m: dict[str, float]
    unlimited: tuple[str, ...]
    motions: tuple[MotionResult, ...] = field(default_factory=tuple)

    @property
    def problems(self) -> tuple[str, ...]:
        return tuple(problem for motion in self.motions for problem in motion.problems)

    @property
    def notes(self) -> tuple[str, ...]:
        """Recorded motions that are beyond the robot's reach or speed half of the time."""
        return tuple(lag for motion in self.motions if motion.name != SYNTHETIC for lag in motion.lags)


def follow_motion(model: RobotModel, name: str, motion: Motion, duration_s: float) -> MotionResult:
    """A whole motion through the real retargeter, in steps of a tick, on a robot that follows perfectly."""
    retargeter = Retargeter(model)
    measured = dict(model.neutral_positions())
    commands: list[Array] = []
    errors: dict[str, list[tuple[float, float]]] = {}
    next_frame_s, engaged_s = 0.0, None
    for k in range(round((_STANDING_S + duration_s) / _TICK_S)):
        now_s, stamp_ns = k * _TICK_S, 10**9 + round(k * _TICK_S * 1e9)
        retargeter.observe_joints(measured, now_s)
        if now_s >= next_frame_s:
            frame = motion(max(0.0, now_s - _STANDING_S), stamp_ns)
            if frame is not None:
                retargeter.observe_motion(frame, now_s)
            next_frame_s += _FRAME_S
        if engaged_s is None and retargeter.refusal(now_s) is None:
            retargeter.engage(now_s)
            engaged_s = now_s
        command = retargeter.tick(stamp_ns, now_s)
        if command is None:
            continue
        measured |= zip(command.joint_names, command.positions.tolist(), strict=True)
        commands.append(command.positions)
        if retargeter.state is State.TRACKING and k % 4 == 0:
            _collect(errors, model, measured, command.targets)
    positions = np.array(commands) if commands else np.zeros((1, len(model.joint_names)))
    velocities = np.diff(positions, axis=0) / _TICK_S
    accelerations = np.diff(velocities, axis=0, prepend=np.zeros((1, positions.shape[1]))) / _TICK_S
    outside = (positions < model.lower - _POSITION_SLACK) | (positions > model.upper + _POSITION_SLACK)
    return MotionResult(
        name,
        duration_s,
        len(commands),
        retargeter.state.value,
        int(outside.sum()),
        int((np.abs(velocities) > model.velocity + _VELOCITY_SLACK).sum()),
        int((np.abs(accelerations) > model.acceleration * (1.0 + _ACCELERATION_SHARE) + 1e-6).sum()),
        {side: float(np.median([e[0] for e in rows])) for side, rows in errors.items()},
        {side: float(np.percentile([e[0] for e in rows], 95)) for side, rows in errors.items()},
        {side: float(np.median([e[1] for e in rows])) for side, rows in errors.items()},
    )


def _collect(
    errors: dict[str, list[tuple[float, float]]],
    model: RobotModel,
    measured: Mapping[str, float],
    targets: Mapping[str, Array],
) -> None:
    poses = model.link_poses(measured)
    for side in SIDES:
        site = f"{side}_wrist"
        if site not in targets or not model.description.chains[f"{side}_arm"]:
            continue
        entry, wanted = model.description.sites[site], targets[site]
        reached = pose_compose(poses[entry.link], entry.pose)
        turn = rotation_vector_from_quaternion(
            quaternion_multiply(wanted[3:], quaternion_inverse(reached[3:]))
        )
        errors.setdefault(side, []).append(
            (float(np.linalg.norm(wanted[:3] - reached[:3])), float(np.linalg.norm(turn)))
        )


def run_self_test(model: RobotModel, motions: Mapping[str, tuple[Motion, float]]) -> SelfTest:
    """Reach, limits, the synthetic motion and all given ones (name -> motion and its length in s)."""
    unlimited = tuple(
        name
        for name, lower, upper in zip(model.joint_names, model.lower, model.upper, strict=True)
        if not (np.isfinite(lower) and np.isfinite(upper))
    )
    wanted = {SYNTHETIC: (synthetic_frame, DURATION_S), **motions}
    return SelfTest(
        joints=len(model.joint_names),
        reach_m=measure_robot(model).reach_m,
        unlimited=unlimited,
        motions=tuple(
            follow_motion(model, name, motion, length_s) for name, (motion, length_s) in wanted.items()
        ),
    )
