"""The state machine around the solver: engage softly, follow, hold, stop. One per robot.

States and what leads from one to the next::

    idle --engage--> engaging --approaches done--> tracking --release--> holding
    engaging, tracking --stale motion, robot does not follow, robot pushes too hard--> holding
    holding --engage--> engaging
    tracking --a wrist jumps, comes back, or is joined--> engaging
    any --emergency stop--> emergency_stop --reset--> holding

In idle nothing was ever commanded. From the first engage on there is a command in every tick: in
holding and emergency_stop it brakes inside the limits and then stands still. While the robot moves,
each arm has a state of its own (`arm_target.ArmState`): an arm whose wrist is lost or whose deadman is let go
comes to rest and holds, the other goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.applied_command import AppliedCommand as AppliedCommand
from retargeting.applied_command import ArmStop
from retargeting.arm_stops import ArmStops
from retargeting.arm_target import ArmState, ArmTarget, angle_between
from retargeting.body_points import SIDES
from retargeting.deadman import Deadman
from retargeting.errors import RetargetingError
from retargeting.gripper_opening import GripperOpening, HandGoals
from retargeting.input_filter import FilteredMotion, InputFilter
from retargeting.input_watch import InputWatch
from retargeting.motion_frame import MotionFrame
from retargeting.pose_blend import split_poses
from retargeting.retargeter_parameters import EngageMode
from retargeting.retargeter_parameters import RetargeterParameters as RetargeterParameters
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import RobotPosture, posture_at_rest, robot_posture
from retargeting.solver import Solver, SolverParameters, SolverTargets, Step
from retargeting.target_track import TargetTrack
from retargeting.trainer_place import TrainerPlacer
from retargeting.trainer_size import TrainerSize, TrainerSizeEstimator
from retargeting.trainer_to_robot import Targets, TrainerToRobot, measure_robot

Array = NDArray[np.float64]

_HEAD_ROW = 2
# Nobody feels a rumble of less than some ticks.
_STOPS_EVERY = 4


class State(Enum):
    IDLE = "idle"
    ENGAGING = "engaging"
    TRACKING = "tracking"
    HOLDING = "holding"
    EMERGENCY_STOP = "emergency_stop"


MOVING_STATES = (State.ENGAGING, State.TRACKING)


class Retargeter:
    """Feeds motion frames and measured joints in, gives one applied command per tick.

    `size`: the trainer's, where it is known; else it is measured. `hands`: what the joints of the
    hands should do; else they open and close by the triggers.
    """

    def __init__(
        self,
        model: RobotModel,
        parameters: RetargeterParameters | None = None,
        solver_parameters: SolverParameters | None = None,
        size: TrainerSize | None = None,
        hands: HandGoals | None = None,
    ) -> None:
        self.model = model
        self.parameters = parameters or RetargeterParameters()
        self.solver = Solver(model, solver_parameters)
        self.state = State.IDLE
        self.reason = "not engaged yet"
        self.engage_mode = EngageMode(self.parameters.engage_mode)
        self.forced_exceptions = 0
        self.ticks = 0
        self.late_ticks = 0
        self.mapping: TrainerToRobot | None = None
        self.transform_trainer_to_robot: Array | None = None
        self.input_filter = InputFilter(self.parameters.input_filter)
        self.deadman = Deadman(self.parameters.deadman)
        self._body = measure_robot(model)
        self._sides = tuple(side for side in SIDES if side in self._body.shoulders)
        self._has_head = bool(model.description.chains["head"])
        self.arms = {side: ArmTarget() for side in self._sides}
        self._head = ArmTarget()
        self._hands = hands or GripperOpening(model)
        self._stops = ArmStops(model, self._body)
        self._watch = InputWatch(model, self.parameters)
        self._placer = TrainerPlacer()
        self._estimator = TrainerSizeEstimator(self.parameters.size_frames)
        if size is not None:
            self._use_size(size)
            self._estimator = TrainerSizeEstimator(size=size, frozen=True)
        self._track: TargetTrack | None = None
        self._motion: FilteredMotion | None = None
        self._newest: Targets | None = None
        self._seen_ns = dict.fromkeys(self._sides, 0)
        self._recentre_wanted = False
        self._last_stamp_ns: int | None = None
        self._stopped: dict[str, tuple[ArmStop, ...]] = {}
        self._openings = np.ones(len(SIDES))
        self._poses, self._directions = np.zeros((3, 7)), np.zeros((2, 3))

    @property
    def size(self) -> TrainerSize | None:
        """The trainer's size as far as it is known; it is frozen when the trainer engages."""
        return None if self.mapping is None else self.mapping.size

    # ---- what comes in

    def observe_motion(self, frame: MotionFrame, now_s: float) -> None:
        """Take a motion frame in that arrived at `now_s` (steady clock).

        Raises `RetargetingError` where the trainer's size makes no sense.
        """
        gap_s = 0.0
        if self._motion is not None:
            gap_s = (frame.stamp_ns - self._motion.stamp_ns) * 1e-9
            if gap_s <= 0.0:
                return
        motion = self.input_filter.filter(frame)
        self._motion = motion
        self._watch.saw_motion(now_s)
        if not self._estimator.frozen:
            size = self._estimator.observe(motion)
            if size is not None and size is not self.size:
                self._use_size(size)
        if self.mapping is None:
            return
        place = self._placer.place(motion, self.mapping.size)
        targets = self.mapping.targets(motion, place)
        self._newest = targets
        for side in targets.wrists:
            self._seen_ns[side] = motion.stamp_ns
        change = self.deadman.observe(motion, frozenset(targets.wrists), now_s)
        if self.state in MOVING_STATES and self._track is not None:
            self._follow_changes(self._track, targets, change.let_go, gap_s, now_s)
            self._track.add(targets, motion.stamp_ns, now_s)
            following = frozenset(side for side, arm in self.arms.items() if not arm.holds)
            self._hands.observe(motion, following)
        pressed = tuple(side for side in change.pressed if side in self.arms)
        if pressed and self.refusal(now_s, pressed) is None:
            self.engage(now_s, pressed)

    def _use_size(self, size: TrainerSize) -> None:
        self.mapping = TrainerToRobot(self.model, size, self._body, self.parameters.mapping)

    def _follow_changes(
        self, track: TargetTrack, targets: Targets, let_go: tuple[str, ...], gap_s: float, now_s: float
    ) -> None:
        """What a new frame changes of who holds and who approaches."""
        for side in let_go:
            if side in self.arms and self.arms[side].state is not ArmState.RELEASED:
                self._rest(side, ArmState.RELEASED, "its deadman was let go")
        reasons = []
        for side in self._sides:
            arm, wrist = self.arms[side], targets.wrists.get(side)
            if wrist is None or arm.state is ArmState.RELEASED:
                continue
            why = ""
            if self._recentre_wanted:
                arm.part()
                why = "re-centred"
            elif arm.state is ArmState.LOST:
                why = f"the {side} wrist is tracked again"
            else:
                why = self._jump(side, wrist, track.newest_poses[SIDES.index(side)], gap_s)
            if why:
                reasons.append(why)
                absolute = self._recentre_wanted or self.engage_mode is EngageMode.ABSOLUTE
                self._approach(side, targets, now_s, absolute=absolute)
        if reasons:
            if targets.head_rotation is not None:
                self._approach_head(targets.head_rotation, self._head.pose, now_s)
            self._say_approaching(now_s, f"{' and '.join(reasons)}; ")
        self._recentre_wanted = False

    def _jump(self, side: str, pose: Array, last: Array, gap_s: float) -> str:
        """What of the trainer was moved in `gap_s` as no arm can, if anything."""
        limits = self.parameters
        distance, angle = float(np.linalg.norm(pose[:3] - last[:3])), angle_between(pose[3:], last[3:])
        if distance > max(limits.jump_m, limits.jump_m_s * gap_s):
            return f"the {side} wrist jumped by {distance:.2f} m"
        if angle > max(limits.jump_rad, limits.jump_rad_s * gap_s):
            return f"the {side} wrist jumped by {angle:.2f} rad"
        return ""

    def observe_joints(self, positions: Mapping[str, float], now_s: float) -> None:
        """Take the robot's measured joints (rad, m) in that arrived at `now_s` (steady clock).

        Raises `RetargetingError` where a commanded joint is missing or not finite.
        """
        self._watch.observe_joints(positions, now_s)

    def observe_wrench(self, sensor: str, force_n: float) -> None:
        """Take a wrist's force (N) in; over the robot's cap the arms hold."""
        cap = self.model.description.safety.wrench_n
        # Not `force_n > cap`: a force that is no number is no reason to go on.
        if self.state in MOVING_STATES and not force_n <= cap:
            self._hold(f"{sensor} pushes with {force_n:.0f} N, over the cap of {cap:g} N")

    # ---- what is asked

    def refusal(self, now_s: float, sides: Iterable[str] | None = None) -> str | None:
        """Why engaging `sides` (all whose deadman is held) is not possible now, None if it is."""
        if self.state is State.EMERGENCY_STOP:
            return "the emergency stop is set; reset it first"
        if (reason := self._watch.refusal(now_s)) is not None:
            return reason
        if self._newest is None:
            return "the trainer is still being measured (arms or head must be tracked)"
        wanted = self._engageable(sides)
        if not wanted:
            return f"no deadman is held ({self.deadman.mode.value})"
        missing = [side for side in wanted if side not in self._newest.wrists]
        if missing:
            return f"the {' and '.join(missing)} wrist is not tracked"
        return None

    def _engageable(self, sides: Iterable[str] | None) -> tuple[str, ...]:
        asked = self._sides if sides is None else tuple(sides)
        return tuple(side for side in asked if side in self.arms and self.deadman.held[side])

    def engage(self, now_s: float, sides: Iterable[str] | None = None) -> None:
        """Start following softly, from the measured joints. Raises `RetargetingError` if it cannot.

        `sides`: these arms only, the other holds; None: all whose deadman is held.
        """
        sides = None if sides is None else tuple(sides)
        reason = self.refusal(now_s, sides)
        targets, measured = self._newest, self._watch.measured
        if reason is not None or targets is None or measured is None or self._motion is None:
            raise RetargetingError(f"cannot engage: {reason}")
        joining = self._engageable(sides)
        if self.state in MOVING_STATES:
            joining = tuple(side for side in joining if self.arms[side].state is ArmState.RELEASED)
        else:
            self._start(measured, self._motion, targets, now_s)
        for side in joining:
            self._approach(side, targets, now_s, absolute=self.engage_mode is EngageMode.ABSOLUTE)
        if joining:
            self._say_approaching(now_s)

    def _start(self, measured: Array, motion: FilteredMotion, targets: Targets, now_s: float) -> None:
        """Let the commands begin, or go on, with every arm holding where it is measured."""
        if self.state is State.IDLE:
            self.forced_exceptions += self.solver.start_from(measured)
        else:
            # Commands are flowing: they may not step to the measured joints, but the search starts there.
            self.solver.reset_goal(measured)
        start = robot_posture(self.solver.layout, measured[: self.model.body_count])
        self._openings[:] = [targets.openings.get(side, 1.0) for side in SIDES]
        self._track = TargetTrack(start.poses, self._openings)
        self._track.add(targets, motion.stamp_ns, now_s)
        self._track.skip_to_newest()
        for k, side in enumerate(SIDES):
            if side in self.arms:
                self.arms[side].hold(start.poses[k], start.directions[k], ArmState.RELEASED, "not engaged")
        self._poses[:], self._directions[:] = start.poses, start.directions
        self._head.hold(start.poses[_HEAD_ROW], np.zeros(3), ArmState.RELEASED, "")
        if targets.head_rotation is not None:
            self._approach_head(targets.head_rotation, start.poses[_HEAD_ROW], now_s)
        self._estimator.freeze()
        if self.mapping is not None:
            place = self._placer.place(motion, self.mapping.size)
            self.transform_trainer_to_robot = self.mapping.transform_trainer_to_robot(motion, place)
        self._watch.engaged()

    def _approach(self, side: str, targets: Targets, now_s: float, *, absolute: bool) -> None:
        """Lead an arm softly from the pose it was asked for last to where the trainer's wrist wants it."""
        arm, wrist = self.arms[side], targets.wrists[side]
        if absolute:
            arm.part()
        else:
            arm.join(wrist, arm.pose)
        limits, wanted = self.parameters, arm.wanted(wrist)
        # A smoothstep's peak speed is 1.5 times its average.
        duration_s = max(
            limits.shortest_approach_s,
            float(np.linalg.norm(wanted[:3] - arm.pose[:3])) / limits.approach_m_s,
            angle_between(wanted[3:], arm.pose[3:]) / limits.approach_rad_s,
        )
        arm.approach(arm.pose, arm.direction, now_s, duration_s, "")

    def _approach_head(self, rotation: Array, start: Array, now_s: float) -> None:
        angle_rad = angle_between(rotation, start[3:]) if self._has_head else 0.0
        duration_s = max(self.parameters.shortest_approach_s, angle_rad / self.parameters.approach_rad_s)
        self._head.approach(start, np.zeros(3), now_s, duration_s, "")

    def _say_approaching(self, now_s: float, why: str = "") -> None:
        parts = [part for part in (*self.arms.values(), self._head) if part.state is ArmState.APPROACHING]
        longest_s = max(part.until_s - now_s for part in parts)
        self._change(State.ENGAGING, f"{why}approaching over {longest_s:.2f} s")

    def recentre(self) -> None:
        """Take where the trainer faces now as straight ahead and drop the clutch's offsets; softly."""
        self._placer.recentre()
        self._recentre_wanted = self.state in MOVING_STATES

    def set_engage_mode(self, mode: EngageMode) -> None:
        """For the next engage. Arms that follow with an offset keep it until then."""
        self.engage_mode = mode

    def release(self) -> None:
        """Stop following: brake and hold."""
        if self.state in MOVING_STATES:
            self._hold("released")

    def set_emergency_stop(self, active: bool) -> None:
        """Latched: brakes at once; after the reset a new engage is needed."""
        if active and self.state is not State.EMERGENCY_STOP:
            self.deadman.require_press()
            self._change(State.EMERGENCY_STOP, "emergency stop")
        elif not active and self.state is State.EMERGENCY_STOP:
            commanded = self._last_stamp_ns is not None
            self._change(State.HOLDING if commanded else State.IDLE, "emergency stop was reset")

    def _hold(self, reason: str) -> None:
        self.deadman.require_press()
        self._change(State.HOLDING, reason)

    def _change(self, state: State, reason: str) -> None:
        if state not in MOVING_STATES:
            for arm in self.arms.values():
                arm.state, arm.reason = ArmState.RELEASED, reason
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
        if self.state in MOVING_STATES:
            fault = self._watch.fault(self.solver.q, now_s)
            if fault is not None:
                self._hold(fault)
            else:
                self._watch_arms()
        step: Step | None = None
        targets: dict[str, Array] = {}
        stops: dict[str, tuple[ArmStop, ...]] = {}
        cause: int | None = None
        age_s: float | None = None
        if self.state in MOVING_STATES and self._track is not None and self._motion is not None:
            try:
                step, targets, stops = self._follow(self._track, now_s, dt)
                cause = self._motion.stamp_ns
                age_s = (stamp_ns - self._track.shown_ns) * 1e-9 + self._smoothing_delay_s(self._motion)
            except RetargetingError as error:
                self._hold(str(error))
        if step is None:
            step = self.solver.brake(dt)
        self.forced_exceptions += step.forced_exceptions
        self._last_stamp_ns = stamp_ns
        return AppliedCommand(
            stamp_ns,
            self.model.joint_names,
            step.positions,
            step.velocities,
            targets,
            cause,
            step.clipped,
            age_s,
            stops,
        )

    def _follow(
        self, track: TargetTrack, now_s: float, dt: float
    ) -> tuple[Step, dict[str, Array], dict[str, tuple[ArmStop, ...]]]:
        track.move_to(now_s)
        for k, side in enumerate(SIDES):
            arm = self.arms.get(side)
            if arm is None:
                continue
            arm.move_to(now_s, track.poses[k], track.directions[k])
            self._poses[k], self._directions[k] = arm.pose, arm.direction
            if not arm.holds:
                self._openings[k] = track.openings[k]
        self._head.move_to(now_s, track.poses[_HEAD_ROW], self._head.direction)
        self._poses[_HEAD_ROW] = self._head.pose
        self._settle()
        positions, rotations = np.empty((3, 3)), np.empty((3, 3, 3))
        split_poses(self._poses, positions, rotations)
        wanted = SolverTargets(positions, rotations, self._directions.copy())
        step = self.solver.follow(wanted, self._hands.positions(self._openings), dt)
        targets = {f"{side}_wrist": self._poses[SIDES.index(side)].copy() for side in self._sides}
        if self._has_head:
            # Only the head's direction is asked for; its place is where the neck puts it.
            targets["head"] = self._poses[_HEAD_ROW].copy()
        if self.ticks % _STOPS_EVERY == 0:
            reached, turned = self.solver.layout.site_poses(self.solver.goal[: self.model.body_count])
            self._stopped = self._stops.of(self.solver.goal, reached, turned, self._poses)
        return step, targets, self._stopped

    def _settle(self) -> None:
        """The state of the whole, from those of the arms."""
        parts = (*self.arms.values(), self._head)
        if any(part.state is ArmState.APPROACHING for part in parts):
            return
        holding = [f"the {side} arm holds: {arm.reason}" for side, arm in self.arms.items() if arm.holds]
        self._change(State.TRACKING, "; ".join(["engaged", *holding]))

    def _watch_arms(self) -> None:
        """Bring arms to rest whose wrists are lost, and hold where none is left."""
        if self._motion is None:
            return
        lost_ns = self.parameters.lost_s * 1e9
        gone_ns = {side: self._motion.stamp_ns - seen_ns for side, seen_ns in self._seen_ns.items()}
        for side, arm in self.arms.items():
            if not arm.holds and gone_ns[side] > lost_ns:
                self._rest(side, ArmState.LOST, f"tracking of the {side} wrist is lost")
        if not all(arm.holds for arm in self.arms.values()):
            return
        lost = [side for side, arm in self.arms.items() if arm.state is ArmState.LOST]
        if not lost:
            self._hold("released: no deadman is held")
        elif min(gone_ns[side] for side in lost) > self.parameters.reacquire_s * 1e9:
            self._hold(f"tracking of the {' and '.join(lost)} wrist is lost")

    def _rest(self, side: str, state: ArmState, reason: str) -> None:
        """Let an arm hold where it comes to rest when it brakes."""
        rest, k = self._rest_posture(), SIDES.index(side)
        self.arms[side].hold(rest.poses[k], rest.directions[k], state, reason)

    def _rest_posture(self) -> RobotPosture:
        model, m = self.model, self.model.body_count
        return posture_at_rest(
            self.solver.layout,
            self.solver.q[:m],
            self.solver.v[:m],
            model.acceleration[:m],
            model.lower[:m],
            model.upper[:m],
        )

    def _smoothing_delay_s(self, motion: FilteredMotion) -> float:
        delays = [
            motion.delays_s.get(f"{side}_wrist", 0.0) for side, arm in self.arms.items() if not arm.holds
        ]
        return max(delays, default=0.0)
