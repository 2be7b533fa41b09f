"""The state machine around the solver: engage softly, follow, hold, stop. One per robot.

States and what leads from one to the next::

    idle --engage--> engaging --blend done--> tracking --release--> holding
    engaging, tracking --stale motion, robot does not follow, robot pushes too hard--> holding
    holding --engage--> engaging
    tracking --the trainer's points jump--> engaging
    any --emergency stop--> emergency_stop --reset--> holding

In idle nothing was ever commanded. From the first engage on there is a command in every tick: in
holding and emergency_stop it brakes inside the limits and then stands still.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.frames import (
    pose_from_matrix,
    quaternion_inverse,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from retargeting.motion_frame import MotionFrame
from retargeting.robot_model import RobotModel
from retargeting.self_collision import Clearance
from retargeting.solver import POSE_SITES, Solver, SolverParameters, Step
from retargeting.target_track import TargetTrack
from retargeting.trainer_size import TrainerSizeEstimator
from retargeting.trainer_to_robot import Targets, TrainerToRobot, measure_robot

Array = NDArray[np.float64]


class State(Enum):
    IDLE = "idle"
    ENGAGING = "engaging"
    TRACKING = "tracking"
    HOLDING = "holding"
    EMERGENCY_STOP = "emergency_stop"


MOVING_STATES = (State.ENGAGING, State.TRACKING)


@dataclass(frozen=True)
class RetargeterParameters:
    """Timing of the state machine. The soft approach goes at most at `approach_m_s` on average.

    A wrist that moves between two frames by more than `jump_m` and faster than `jump_m_s`, or turns by
    more than `jump_rad` and faster than `jump_rad_s`, did not move: its tracking jumped.
    """

    rate_hz: float = 200.0
    stale_s: float = 0.1
    approach_m_s: float = 0.4
    approach_rad_s: float = 1.0
    shortest_approach_s: float = 0.5
    size_frames: int = 30
    # A robot may lag for a moment (a contact, a fast swing); longer means that it does not follow.
    following_error_time_s: float = 0.25
    jump_m: float = 0.15
    jump_m_s: float = 8.0
    jump_rad: float = 0.8
    jump_rad_s: float = 30.0

    def __post_init__(self) -> None:
        bounds = {
            "rate_hz": (20.0, 1000.0),
            "stale_s": (0.02, 2.0),
            "approach_m_s": (0.01, 5.0),
            "approach_rad_s": (0.01, 10.0),
            "shortest_approach_s": (0.05, 10.0),
            "size_frames": (1, 10_000),
            "following_error_time_s": (0.0, 5.0),
            "jump_m": (0.0, 10.0),
            "jump_m_s": (0.0, 1000.0),
            "jump_rad": (0.0, 4.0),
            "jump_rad_s": (0.0, 1000.0),
        }
        for name, (low, high) in bounds.items():
            value = getattr(self, name)
            if not (math.isfinite(value) and low <= value <= high):
                raise RetargetingError(f"parameter {name}: {value!r} is outside {low} .. {high}")


@dataclass(frozen=True)
class AppliedCommand:
    """What was commanded in one tick.

    positions, velocities ``(n,)`` in the order of `joint_names` (rad, rad/s; prismatic m, m/s);
    targets: pose ``(7,)`` per site in the robot's root, as the solver was asked;
    cause_stamp_ns: stamp of the newest motion frame it follows, None while standing still;
    clearance, collision_limited: see `retargeting.solver.Step`.
    """

    stamp_ns: int
    joint_names: tuple[str, ...]
    positions: Array
    velocities: Array
    targets: dict[str, Array]
    cause_stamp_ns: int | None
    clipped: tuple[str, ...]
    clearance: Clearance | None = None
    collision_limited: bool = False


class Retargeter:
    """Feeds motion frames and measured joints in, gives one applied command per tick."""

    def __init__(
        self,
        model: RobotModel,
        parameters: RetargeterParameters | None = None,
        solver_parameters: SolverParameters | None = None,
    ) -> None:
        self.model = model
        self.parameters = parameters or RetargeterParameters()
        self.solver = Solver(model, solver_parameters)
        self.state = State.IDLE
        self.reason = "not engaged yet"
        self.forced_exceptions = 0
        self.ticks = 0
        self.late_ticks = 0
        self.mapping: TrainerToRobot | None = None
        self.transform_trainer_to_robot: Array | None = None
        self._body = measure_robot(model)
        self._estimator = TrainerSizeEstimator(self.parameters.size_frames)
        self._track: TargetTrack | None = None
        self._frame: MotionFrame | None = None
        self._frame_arrival_s = -math.inf
        self._measured: Array | None = None
        self._measured_s = -math.inf
        self._last_stamp_ns: int | None = None
        self._engage_s = 0.0
        self._approach_s = 0.0
        self._approach_from = np.zeros((3, 7))
        self._lagging_since_s: float | None = None
        self._sides = tuple(side for side in SIDES if side in self._body.shoulders)
        self._open = np.array([self._gripper_end(name, opened=True) for name in self._gripper_joints()])
        self._closed = np.array([self._gripper_end(name, opened=False) for name in self._gripper_joints()])
        self._gripper_sides = np.array(
            [
                SIDES.index(side)
                for side, gripper in model.description.grippers.items()
                for _ in gripper.joints
            ],
            dtype=np.int64,
        )

    def _gripper_joints(self) -> tuple[str, ...]:
        return self.model.joint_names[self.model.body_count :]

    def _gripper_end(self, joint: str, *, opened: bool) -> float:
        for gripper in self.model.description.grippers.values():
            if joint in gripper.joints:
                ends = gripper.joints[joint]
                return ends.open if opened else ends.closed
        raise RetargetingError(f"{joint!r} is no gripper joint of {self.model.name}")

    # ---- what comes in

    def observe_motion(self, frame: MotionFrame, now_s: float) -> None:
        """Take a motion frame in that arrived at `now_s` (steady clock)."""
        gap_s = 0.0
        if self._frame is not None:
            gap_s = (frame.stamp_ns - self._frame.stamp_ns) * 1e-9
            if gap_s <= 0.0:
                return
        if self.mapping is None:
            size = self._estimator.observe(frame)
            if size is not None:
                self.mapping = TrainerToRobot(self.model, size, self._body)
        self._frame = frame
        self._frame_arrival_s = now_s
        if self.mapping is None or self._track is None:
            return
        targets = self.mapping.targets(frame)
        if self.state in MOVING_STATES and len(targets.wrists) < len(self._sides):
            lost = [side for side in self._sides if side not in targets.wrists]
            self._hold(f"tracking of the {' and '.join(lost)} wrist is lost")
        jump = self._jump(self._track, targets, gap_s) if self.state in MOVING_STATES else ""
        if jump:
            self._approach(self._track.poses.copy(), targets, now_s, f"{jump}; ")
        self._track.add(targets, frame.stamp_ns, now_s)

    def _jump(self, track: TargetTrack, targets: Targets, gap_s: float) -> str:
        """What of the trainer was moved in `gap_s` as no arm can, if anything."""
        limits = self.parameters
        for side, pose in targets.wrists.items():
            last = track.newest_poses[SIDES.index(side)]
            distance, angle = float(np.linalg.norm(pose[:3] - last[:3])), _angle(pose[3:], last[3:])
            if distance > max(limits.jump_m, limits.jump_m_s * gap_s):
                return f"the {side} wrist jumped by {distance:.2f} m"
            if angle > max(limits.jump_rad, limits.jump_rad_s * gap_s):
                return f"the {side} wrist jumped by {angle:.2f} rad"
        return ""

    def observe_joints(self, positions: Mapping[str, float], now_s: float) -> None:
        """Take the robot's measured joints (rad, m) in that arrived at `now_s` (steady clock).

        Raises `RetargetingError` where a commanded joint is missing or not finite.
        """
        try:
            measured = np.array([positions[name] for name in self.model.joint_names])
        except KeyError as error:
            raise RetargetingError(
                f"joint_states lack the joint {error.args[0]!r} of {self.model.name}"
            ) from error
        if not np.isfinite(measured).all():
            raise RetargetingError("joint_states hold a non-finite position")
        self._measured, self._measured_s = measured, now_s

    def observe_wrench(self, sensor: str, force_n: float) -> None:
        """Take a wrist's force (N) in; over the robot's cap the arms hold."""
        cap = self.model.description.safety.wrench_n
        # Not `force_n > cap`: a force that is no number is no reason to go on.
        if self.state in MOVING_STATES and not force_n <= cap:
            self._hold(f"{sensor} pushes with {force_n:.0f} N, over the cap of {cap:g} N")

    # ---- what is asked

    def refusal(self, now_s: float) -> str | None:
        """Why engaging is not possible now, None if it is."""
        if self.state is State.EMERGENCY_STOP:
            return "the emergency stop is set; reset it first"
        if self._measured is None:
            return "no joint_states from the robot yet"
        if now_s - self._measured_s > self.parameters.stale_s:
            return f"joint_states are {now_s - self._measured_s:.2f} s old"
        if self._frame is None:
            return "no /trainer/motion yet"
        if now_s - self._frame_arrival_s > self.parameters.stale_s:
            return f"/trainer/motion is {now_s - self._frame_arrival_s:.2f} s old"
        if self.mapping is None:
            return "the trainer is still being measured (arms or head must be tracked)"
        missing = [side for side in self._sides if side not in self.mapping.targets(self._frame).wrists]
        if missing:
            return f"the {' and '.join(missing)} wrist is not tracked"
        return None

    def engage(self, now_s: float) -> None:
        """Start following softly, from the measured joints. Raises `RetargetingError` if it cannot."""
        reason = self.refusal(now_s)
        if reason is not None or self.mapping is None or self._frame is None or self._measured is None:
            raise RetargetingError(f"cannot engage: {reason}")
        if self.state in MOVING_STATES:
            return
        if self.state is State.IDLE:
            self.forced_exceptions += self.solver.start_from(self._measured)
        else:
            # Commands are flowing: they may not step to the measured joints, but the search starts there.
            self.solver.reset_goal(self._measured)
        m = self.model.body_count
        positions, rotations = self.solver.layout.site_poses(np.ascontiguousarray(self._measured[:m]))
        matrices = np.tile(np.eye(4), (len(POSE_SITES), 1, 1))
        matrices[:, :3, :3], matrices[:, :3, 3] = rotations, positions
        start = pose_from_matrix(matrices)
        targets = self.mapping.targets(self._frame)
        openings = np.array([targets.openings.get(side, 1.0) for side in SIDES])
        self._track = TargetTrack(start, openings, 1.0 / self.parameters.rate_hz)
        self._track.add(targets, self._frame.stamp_ns, now_s)
        self.transform_trainer_to_robot = self.mapping.transform_trainer_to_robot(self._frame)
        self._lagging_since_s = None
        self._approach(start, targets, now_s)

    def _approach(self, start: Array, targets: Targets, now_s: float, why: str = "") -> None:
        """Blend softly from the poses `start` ``(3, 7)`` to where the targets are."""
        limits = self.parameters
        times_s = [limits.shortest_approach_s]
        for side, pose in targets.wrists.items():
            from_pose = start[SIDES.index(side)]
            times_s.append(float(np.linalg.norm(pose[:3] - from_pose[:3])) / limits.approach_m_s)
            times_s.append(_angle(pose[3:], from_pose[3:]) / limits.approach_rad_s)
        if targets.head_rotation is not None and self.model.description.chains["head"]:
            times_s.append(_angle(targets.head_rotation, start[2, 3:]) / limits.approach_rad_s)
        # A smoothstep's peak speed is 1.5 times its average.
        self._approach_s = max(times_s)
        self._approach_from, self._engage_s = start, now_s
        self._change(State.ENGAGING, f"{why}approaching over {self._approach_s:.2f} s")

    def release(self) -> None:
        """Stop following: brake and hold."""
        if self.state in MOVING_STATES:
            self._hold("released")

    def set_emergency_stop(self, active: bool) -> None:
        """Latched: brakes at once; after the reset a new engage is needed."""
        if active and self.state is not State.EMERGENCY_STOP:
            self._change(State.EMERGENCY_STOP, "emergency stop")
        elif not active and self.state is State.EMERGENCY_STOP:
            commanded = self._last_stamp_ns is not None
            self._change(State.HOLDING if commanded else State.IDLE, "emergency stop was reset")

    def _hold(self, reason: str) -> None:
        self._change(State.HOLDING, reason)

    def _change(self, state: State, reason: str) -> None:
        self.state, self.reason = state, reason

    # ---- the tick

    def tick(self, stamp_ns: int, now_s: float) -> AppliedCommand | None:
        """One tick at ROS time `stamp_ns` and steady time `now_s`; None before the first engage.

        The step length is the time since the last command, at most the nominal period.
        """
        if self._last_stamp_ns is None and self.state not in MOVING_STATES:
            return None
        nominal_s = 1.0 / self.parameters.rate_hz
        dt = nominal_s
        if self._last_stamp_ns is not None:
            real_s = (stamp_ns - self._last_stamp_ns) * 1e-9
            if real_s <= 0.1 * nominal_s:
                # Too close to the last command for a meaningful velocity (or the clock was set back).
                return None
            if real_s > 1.5 * nominal_s:
                self.late_ticks += 1
            dt = min(real_s, nominal_s)
        self.ticks += 1
        self._check_inputs(now_s)
        step: Step | None = None
        targets: dict[str, Array] = {}
        cause: int | None = None
        if self.state in MOVING_STATES and self._track is not None and self._frame is not None:
            try:
                step, targets = self._follow(self._track, now_s, dt)
                cause = self._frame.stamp_ns
            except RetargetingError as error:
                self._hold(str(error))
        if step is None:
            step = self.solver.brake(dt)
        self.forced_exceptions += step.forced_exceptions
        self._last_stamp_ns = stamp_ns
        return AppliedCommand(
            stamp_ns, self.model.joint_names, step.positions, step.velocities, targets, cause, step.clipped,
            step.clearance, step.collision_limited,
        )  # fmt: skip

    def _follow(self, track: TargetTrack, now_s: float, dt: float) -> tuple[Step, dict[str, Array]]:
        wanted, openings = track.at(now_s)
        if self.state is State.ENGAGING:
            share = (now_s - self._engage_s) / self._approach_s
            if share >= 1.0:
                self._change(State.TRACKING, "engaged")
            else:
                smooth = share * share * (3.0 - 2.0 * share)
                wanted = track.blend_from(self._approach_from, smooth, wanted)
        grippers = self._closed + openings[self._gripper_sides] * (self._open - self._closed)
        step = self.solver.follow(wanted, grippers, dt)
        targets = {f"{side}_wrist": track.poses[SIDES.index(side)].copy() for side in self._sides}
        if self.model.description.chains["head"]:
            # Only the head's direction is asked for; its place is where the neck puts it.
            targets["head"] = track.poses[2].copy()
        return step, targets

    def _check_inputs(self, now_s: float) -> None:
        if self.state not in MOVING_STATES:
            return
        age_s = now_s - self._frame_arrival_s
        if age_s > self.parameters.stale_s:
            self._hold(f"/trainer/motion is stale: the newest frame is {age_s * 1e3:.0f} ms old")
            return
        if self._measured is None:
            return
        age_s = now_s - self._measured_s
        if age_s > self.parameters.stale_s:
            self._hold(f"joint_states are stale: the newest are {age_s * 1e3:.0f} ms old")
            return
        error = np.abs(self._measured - self.solver.q)[: self.model.body_count]
        worst = int(np.argmax(error))
        cap = self.model.description.safety.following_error_rad
        if error[worst] <= cap:
            self._lagging_since_s = None
        elif self._lagging_since_s is None:
            self._lagging_since_s = now_s
        elif now_s - self._lagging_since_s > self.parameters.following_error_time_s:
            self._hold(
                f"{self.model.joint_names[worst]} is {error[worst]:.2f} rad away from its command, "
                f"over the cap of {cap:g} rad"
            )


def _angle(a: Array, b: Array) -> float:
    """Angle (rad) between the orientations `a` and `b` ``(4,)``."""
    turn = rotation_vector_from_quaternion(quaternion_multiply(a, quaternion_inverse(b)))
    return float(np.linalg.norm(turn))
