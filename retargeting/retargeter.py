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

import math
import zlib
from collections.abc import Iterable, Mapping
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from retargeting.applied_command import AppliedCommand as AppliedCommand
from retargeting.applied_command import ArmStop
from retargeting.arm_stops import ArmStops
from retargeting.arm_target import ArmState, ArmTarget
from retargeting.body_points import SIDES
from retargeting.body_targets import BodyTargets
from retargeting.deadman import Deadman
from retargeting.errors import RetargetingError
from retargeting.hand_goals import HandGoals
from retargeting.hand_retargeter import HandRetargeter
from retargeting.input_watch import InputWatch
from retargeting.motion_frame import Controls, MotionFrame
from retargeting.quaternions import angle_between
from retargeting.retargeter_parameters import EngageMode
from retargeting.retargeter_parameters import RetargeterParameters as RetargeterParameters
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import posture_at_rest, robot_posture
from retargeting.solver import SENSED, Solver, SolverParameters, Step
from retargeting.target_clearance import led_pose
from retargeting.trainer_input import TrainerInput
from retargeting.trainer_reader import TrainerReader
from retargeting.trainer_size import TrainerSize
from retargeting.trainer_to_robot import Targets, TrainerToRobot

Array = NDArray[np.float64]

# Nobody feels a rumble of less than some ticks.
_STOPS_EVERY = 4
# A command this near (rad, m) to where it should come is there.
_JOINED = 1e-3


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
    hands should do; else they follow the trainer's fingers where the robot has some and they are
    tracked, and open and close by the triggers where not. `trainer`: shared by robots that follow the same
    trainer (`size` and what `parameters` say of the input are then its own).
    """

    def __init__(
        self,
        model: RobotModel,
        parameters: RetargeterParameters | None = None,
        solver_parameters: SolverParameters | None = None,
        size: TrainerSize | None = None,
        hands: HandGoals | None = None,
        trainer: TrainerInput | None = None,
    ) -> None:
        self.model = model
        self.parameters = said = parameters or RetargeterParameters()
        self.solver = Solver(model, solver_parameters)
        self.state = State.IDLE
        self.reason = "not engaged yet"
        self.engage_mode = EngageMode(self.parameters.engage_mode)
        self.forced_exceptions = 0
        self.ticks = 0
        self.late_ticks = 0
        self.transform_trainer_to_robot: Array | None = None
        body = measure_robot(model)
        self.arms = {side: ArmTarget() for side in SIDES if side in body.shoulders}
        trainer = trainer or TrainerInput(self.parameters.input_filter, self.parameters.size_frames, size)
        self.trainer = TrainerReader(model, body, self.parameters.mapping, trainer)
        self.deadman = Deadman(self.parameters.deadman)
        self._targets: BodyTargets | None = None
        self._hands = hands or HandRetargeter(model)
        self._stops = ArmStops(model, body)
        self._stopped: dict[str, tuple[ArmStop, ...]] = {}
        # Robots that share a core take turns.
        self._stops_turn = zlib.crc32(model.name.encode()) % _STOPS_EVERY
        self._watch = InputWatch(model, self.parameters)
        self._recentre_wanted = False
        self._last_stamp_ns: int | None = None
        self._join_at = model.neutral.copy()
        # Since the emergency stop: whether the command has come to rest, and what was moved by hand.
        self._stands, self._moved = False, np.zeros(len(model.joint_names), dtype=np.bool_)
        speed = [
            said.approach_m_s if model.urdf.joints[name].kind == "prismatic" else said.approach_rad_s
            for name in model.joint_names
        ]
        self._lead = np.array(speed) * self.solver.parameters.settling_time_s

    @property
    def mapping(self) -> TrainerToRobot | None:
        """How the trainer is mapped to the robot; None until the trainer is measured."""
        return self.trainer.mapping

    @property
    def is_led(self) -> bool:
        """Whether the trainer leads the robot now: it moves, and a deadman is held."""
        return self.state in MOVING_STATES and any(self.deadman.held.values())

    # ---- what comes in

    def observe_motion(self, frame: MotionFrame, now_s: float) -> None:
        """Take a motion frame in that arrived at `now_s` (steady clock).

        Raises `RetargetingError` where the trainer's size makes no sense.
        """
        gap_s = self.trainer.observe(frame)
        if gap_s is None:
            return
        self._watch.saw_motion(now_s)
        motion, targets = self.trainer.motion, self.trainer.targets
        if motion is None or targets is None:
            return
        change = self.deadman.observe(motion, self.trainer.in_view, now_s)
        if change.let_go:
            self._let_go(change.let_go)
        if self.state in MOVING_STATES and self._targets is not None:
            self._follow_changes(self._targets, targets, gap_s, now_s)
            self._targets.track.add(targets, motion.stamp_ns, now_s)
            self._hands.observe(self.trainer.input.view, self._targets.following())
        if not change.pressed:
            return
        pressed = tuple(side for side in change.pressed if side in self.arms)
        if pressed and (refusal := self.refusal(now_s, pressed)) is not None:
            self.reason = f"{' and '.join(pressed)} deadman was pressed, but: {refusal}"
        elif pressed:
            self.engage(now_s, pressed)

    def observe_controls(self, controls: Controls) -> None:
        """Take in what the trainer holds, also where no frame comes any more: letting go counts at once."""
        self._let_go(self.deadman.hear(controls))

    def _let_go(self, sides: Iterable[str]) -> None:
        if self.state not in MOVING_STATES or self._targets is None:
            return
        for side in sides:
            if side in self.arms and self.arms[side].state is not ArmState.RELEASED:
                self._rest(self._targets, side, ArmState.RELEASED, "its deadman was let go")

    def _follow_changes(self, body: BodyTargets, targets: Targets, gap_s: float, now_s: float) -> None:
        """Lead arms softly to where a new frame wants them other than by going on."""
        limits = self.parameters
        jump_m = max(limits.jump_m, limits.jump_m_s * gap_s)
        jump_rad = max(limits.jump_rad, limits.jump_rad_s * gap_s)
        if not (self._recentre_wanted or body.has_lost or body.track.has_jumped(targets, jump_m, jump_rad)):
            return
        reasons: list[str] = []
        turned = False
        for side, wrist in targets.wrists.items():
            arm = self.arms[side]
            if arm.state is ArmState.RELEASED:
                continue
            if self._recentre_wanted:
                why = "re-centred"
            elif arm.state is ArmState.LOST:
                why = f"the {side} wrist is tracked again"
            else:
                why = _jump(side, wrist, body.track.newest_poses[SIDES.index(side)], jump_m, jump_rad)
            if why and why not in reasons:
                reasons.append(why)
                # Whatever moved the wrists may have moved where the trainer faces.
                turned = turned or arm.state is not ArmState.LOST
            if why:
                absolute = self._recentre_wanted or self.engage_mode is EngageMode.ABSOLUTE
                body.approach(side, targets, now_s, absolute=absolute)
        turned_rad = body.trunk_turned_rad(targets)
        if turned_rad > jump_rad:
            reasons.append(f"head or trunk jumped by {turned_rad:.2f} rad")
            turned = True
        if reasons:
            if turned:
                body.approach_trunk(targets, now_s)
            self._say_approaching(body, now_s, f"{' and '.join(reasons)}; ")
        self._recentre_wanted = False

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
        if self.state not in MOVING_STATES and (outside := self._watch.outside()):
            return f"{'; '.join(outside)}: bring the robot inside them, or mend its joint_states or limits"
        if self.trainer.targets is None:
            return "the trainer is still being measured (arms or head must be tracked)"
        wanted = self._engageable(sides)
        if not wanted:
            return f"no deadman is held ({self.deadman.mode.value})"
        missing = [side for side in wanted if side not in self.trainer.targets.wrists]
        if missing:
            return f"the {' and '.join(missing)} wrist is not tracked"
        return None

    def _engageable(self, sides: Iterable[str] | None) -> tuple[str, ...]:
        asked = self.arms if sides is None else sides
        return tuple(side for side in asked if side in self.arms and self.deadman.held[side])

    def engage(self, now_s: float, sides: Iterable[str] | None = None) -> None:
        """Start following softly, from the measured joints. Raises `RetargetingError` if it cannot.

        `sides`: these arms only, the other holds; None: all whose deadman is held.
        """
        sides = None if sides is None else tuple(sides)
        if sides is None and self.state is not State.EMERGENCY_STOP and self._watch.refusal(now_s) is None:
            self.deadman.ask(self.trainer.in_view)
        reason = self.refusal(now_s, sides)
        targets, measured = self.trainer.targets, self._watch.measured
        if reason is not None or targets is None or measured is None:
            raise RetargetingError(f"cannot engage: {reason}")
        body, why = self._targets, ""
        if self.state not in MOVING_STATES or body is None:
            first = self.state is State.IDLE
            if not first and self._is_away(now_s):
                self._begin_joining(measured)
                return
            forced = self.forced_exceptions
            body = self._targets = self._start(measured, targets, now_s)
            if self.forced_exceptions > forced:
                why = f"{'; '.join(self._watch.outside(SENSED))}: commands begin at the limit; "
            if first and self.solver.starts_inside:
                pairs = ", ".join(
                    f"{one} - {other}" for one, other in dict.fromkeys(self.solver.starts_inside)
                )
                why += f"the robot starts inside its collision margin ({pairs}), these come no nearer; "
        joining = [side for side in self._engageable(sides) if self.arms[side].state is ArmState.RELEASED]
        for side in joining:
            body.approach(side, targets, now_s, absolute=self.engage_mode is EngageMode.ABSOLUTE)
        if joining:
            self._say_approaching(body, now_s, why)

    def _is_away(self, now_s: float) -> bool:
        """Whether the robot stands farther from the command than one that follows it."""
        away = self._watch.away(self.solver.q, now_s)
        return away is not None and bool((away > 1.0).any())

    def _begin_joining(self, measured: Array) -> None:
        """Let the command come to where the robot stands now, before any arm approaches anything.

        It may not step there; and to where the robot is by then it is not led, or one that gives way to its
        load would be led down.
        """
        near = self._watch.measured_near(self.solver.q)
        self._join_at = measured if near is None else near
        self._targets = None
        self._change(State.ENGAGING, "the command comes to where the robot stands")

    def _join(self, now_s: float, dt: float) -> Step | None:
        """A tick of that; then the arms engage whose deadman is held. None: it cannot go on, and holds."""
        held = self._engageable(None)
        if (reason := self.refusal(now_s, held)) is not None:
            self._hold(reason)
            return None
        step = self._come_to(self._join_at, dt)
        if step is not None:
            return step
        if self._is_away(now_s):
            self._hold("the robot moved while its command came to it: let it stand still and engage again")
            return None
        self.engage(now_s, held)
        return None

    def _come_to(self, positions: Array, dt: float) -> Step | None:
        """Bring the body's joints softly nearer to `positions` ``(n,)``; None where they are there."""
        away = np.clip(positions, self.model.lower, self.model.upper) - self.solver.q
        away[self.model.body_count :] = 0.0
        if (np.abs(away) < _JOINED).all():
            return None
        return self.solver.brake(dt, self.solver.q + np.clip(away, -self._lead, self._lead))

    def _start(self, measured: Array, targets: Targets, now_s: float) -> BodyTargets:
        """Let the commands begin, or go on, with every arm holding where it is measured."""
        if self.state is State.IDLE:
            self.forced_exceptions += self.solver.start_from(measured)
        else:
            # Commands are flowing: they may not step to the measured joints, but the search starts there.
            near = self._watch.measured_near(self.solver.q)
            measured = measured if near is None else near
            self.solver.reset_goal(measured)
        self.trainer.input.freeze_size()
        self.transform_trainer_to_robot = self.trainer.transform_trainer_to_robot()
        self._watch.engaged()
        self._recentre_wanted = False
        start = robot_posture(self.solver.layout, measured[: self.model.body_count])
        has_head = bool(self.model.description.chains["head"])
        stamp_ns = 0 if self.trainer.motion is None else self.trainer.motion.stamp_ns
        waist = measured[: len(self.model.description.chains["waist"])]
        if self.trainer.body.waist is None:
            waist = waist[:0]
        body = BodyTargets(self.arms, has_head, self.parameters, start, waist, targets, stamp_ns, now_s)
        self.solver.expect(body.for_solver, self._hands.positions(body.openings))
        return body

    def _say_approaching(self, body: BodyTargets, now_s: float, why: str = "") -> None:
        longest_s = (body.approaching_until_s or now_s) - now_s
        self._change(State.ENGAGING, f"{why}approaching over {longest_s:.2f} s")

    def recentre(self) -> None:
        """Take where the trainer faces now as straight ahead and drop the clutch's offsets; softly."""
        self.trainer.input.recentre()
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
            self._stands, self._moved[:] = False, False
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
        step: Step | None = None
        if self.state is State.ENGAGING and self._targets is None:
            step = self._join(now_s, dt)
        elif self.state in MOVING_STATES:
            fault = self._watch.fault(self.solver.q, now_s)
            if fault is not None:
                self._hold(fault)
            elif self._targets is not None:
                self._watch_arms(self._targets)
        elif self.state is State.EMERGENCY_STOP:
            step = self._attend(now_s, dt)
        targets: dict[str, Array] = {}
        cause: int | None = None
        age_s: float | None = None
        smoothing_s = 0.0
        led_m: dict[str, float] = {}
        body = self._targets
        if self.state in MOVING_STATES and body is not None and self.trainer.motion is not None:
            try:
                step = self._follow(body, now_s, dt)
                targets = body.by_site()
                led_m = self._lead_targets(targets, step)
                following = body.following()
                if following:
                    cause = self.trainer.motion.stamp_ns
                smoothing_s = self.trainer.smoothing_delay_s(following)
                age_s = (stamp_ns - body.track.shown_ns) * 1e-9 + smoothing_s
            except RetargetingError as error:
                self._hold(str(error))
        if step is None:
            step = self.solver.brake(dt)
        if self.state not in MOVING_STATES or body is None:
            self._stopped = {}
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
            self._stopped,
            step.clearance,
            step.collision_limited,
            smoothing_s,
            led_m,
        )

    def _attend(self, now_s: float, dt: float) -> Step | None:
        """In the emergency stop nothing obeys: the command that stands goes where the robot is moved by hand.

        So that it does not go back by itself when the stop is reset.
        """
        self._stands = self._stands or not self.solver.v.any()
        away = self._watch.away(self.solver.q, now_s)
        measured = self._watch.measured_near(self.solver.q)
        if not self._stands or away is None or measured is None:
            return None
        self._moved |= away > 1.0
        return self._come_to(np.where(self._moved, measured, self.solver.q), dt)

    def _follow(self, body: BodyTargets, now_s: float, dt: float) -> Step:
        body.move_to(now_s)
        if not body.is_approaching:
            self.state, self.reason = State.TRACKING, "engaged"
            for side in body.holding():
                self.reason += f"; the {side} arm holds: {self.arms[side].reason}"
        step = self.solver.follow(body.for_solver, self._hands.positions(body.openings), dt)
        if self.ticks % _STOPS_EVERY == self._stops_turn:
            goal = self.solver.goal
            reached, turned = self.solver.layout.site_poses(goal[: self.model.body_count])
            self._stopped = self._stops.of(
                goal, reached, turned, body.poses, step.clearance, step.collision_limited
            )
        return step

    def _lead_targets(self, targets: dict[str, Array], step: Step) -> dict[str, float]:
        """Replace wrists' targets by what the solver led them to; how far that is (m), by site."""
        led_m: dict[str, float] = {}
        if step.leads is None:
            return led_m
        for side in self.arms:
            lead, site = step.leads[SIDES.index(side)], f"{side}_wrist"
            if lead.any():
                targets[site] = led_pose(targets[site], lead)
                led_m[site] = math.hypot(*lead[:3].tolist())
        return led_m

    def _watch_arms(self, body: BodyTargets) -> None:
        """Bring arms to rest whose wrists are lost, and hold where none is left."""
        following = body.following()
        lost = [side for side in following if self.trainer.unseen_s(side) > self.parameters.lost_s]
        for side in lost:
            self._rest(body, side, ArmState.LOST, f"tracking of the {side} wrist is lost")
        if len(lost) < len(following):
            return
        lost = [side for side, arm in self.arms.items() if arm.state is ArmState.LOST]
        if not lost:
            self._hold("released: no deadman is held")
        elif min(self.trainer.unseen_s(side) for side in lost) > self.parameters.reacquire_s:
            self._hold(f"tracking of the {' and '.join(lost)} wrist is lost")

    def _rest(self, body: BodyTargets, side: str, state: ArmState, reason: str) -> None:
        """Let an arm hold where it comes to rest when it brakes."""
        model, m = self.model, self.model.body_count
        q, v, acceleration = self.solver.q[:m], self.solver.v[:m], model.acceleration[:m]
        rest = posture_at_rest(self.solver.layout, q, v, acceleration, model.lower[:m], model.upper[:m])
        body.rest(side, rest, state, reason)


def _jump(side: str, pose: Array, last: Array, jump_m: float, jump_rad: float) -> str:
    """By how much a wrist was moved between two frames, where that is more than an arm can; else nothing."""
    # Not `way_between`: nobody calls it by itself before, it would be compiled when a wrist first jumps.
    distance, angle = math.dist(pose[:3], last[:3]), angle_between(pose[3:], last[3:])
    if distance > jump_m:
        return f"the {side} wrist jumped by {distance:.2f} m"
    return f"the {side} wrist jumped by {angle:.2f} rad" if angle > jump_rad else ""
