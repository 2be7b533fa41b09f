"""Node `retargeting`: trainer motion and measured joints in, joint commands out, in every tick."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from geometry_msgs.msg import PoseStamped, WrenchStamped
from sensor_msgs.msg import JointState, Joy, MultiDOFJointState, TimeReference
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from capture_nodes import topics
from capture_nodes.cdr_template import joint_command_template, pose_template, time_reference_template
from capture_nodes.controller_commands import ControllerCommands
from capture_nodes.emergency_stop import EmergencyStopListener
from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, DrainedGroup, drain, run_node
from capture_nodes.recording.cdr import CdrReader, JointStateReader
from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.schedule import Schedule
from capture_nodes.stamp_clock import StampClock
from capture_nodes.thread_priority import COMMANDS
from retargeting.body_points import SIDES
from retargeting.deadman import DeadmanParameters
from retargeting.errors import InvalidConfiguration, InvalidMotion, RetargetingError
from retargeting.mapping_settings import load_mapping_settings
from retargeting.motion_frame import Controls, MotionFrame
from retargeting.retargeter import AppliedCommand, Retargeter, RetargeterParameters, State
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_model import load_robot
from retargeting.trainer_size import TrainerSize
from retargeting.trainer_store import TrainerStore

# A frame from farther in the future than a late tick explains has another clock.
_LARGEST_LEAD_S = 0.1
_KEEP_PERIOD_S = 1.0
# From 6 rad/s at 30 rad/s² it takes 0.2 s.
_BRAKING_TIMEOUT_S = 0.5


@dataclass(frozen=True)
class Parameters:
    """robot: name or path of a robot.yaml; rate_hz of commands; stale_s: motion older than this holds;
    auto_engage: engage as soon as it is possible, once; engage_mode: absolute or relative; deadman: off,
    squeeze, button or hands, with the button of each controller; mapping: a file as config/mapping.yaml ("":
    that); operator: whose size is kept in trainer_folder ("": measured every time)."""

    robot: str = "kestrel"
    rate_hz: float = 200.0
    stale_s: float = 0.1
    auto_engage: bool = False
    engage_mode: str = "absolute"
    deadman: str = "off"
    deadman_button: str = "primary"
    mapping: str = ""
    operator: str = ""
    trainer_folder: str = "~/.local/share/teleop_capture/trainers"


class RetargetingNode(CaptureNode):
    def __init__(self) -> None:
        super().__init__("retargeting")
        self._settings = self.declare_from(Parameters)
        self._model = load_robot(robot_description_file(self._settings.robot))
        said = self._settings
        mapping = Path(said.mapping).expanduser() if said.mapping else config_file("mapping.yaml")
        settings = RetargeterParameters(
            rate_hz=said.rate_hz,
            stale_s=said.stale_s,
            engage_mode=said.engage_mode,
            deadman=DeadmanParameters(said.deadman, said.deadman_button),
            mapping=load_mapping_settings(mapping),
        )
        self._store = TrainerStore(Path(said.trainer_folder).expanduser())
        kept = self._kept_size()
        self._retargeter = Retargeter(self._model, settings, size=kept)
        self._size_to_keep = bool(said.operator) and kept is None
        self._warm_up()
        self._lock = threading.Lock()
        self._controls = Controls()
        self._early_frames: list[MotionFrame] = []
        self._published_state: tuple[State, str] | None = None
        self._tick_times_s: list[float] = []
        self._latencies_s: list[float] = []
        self._newest_ages_s: list[float] = []
        self._shown_ages_s: list[float] = []
        self._last_cause_ns = 0
        self._rejected_inputs = 0

        rate = self._settings.rate_hz
        self._commands = self.counting_publisher(JointState, topics.JOINT_COMMANDS, topics.stream_qos(rate))
        self._causes = self.counting_publisher(TimeReference, topics.COMMAND_CAUSE, topics.stream_qos(rate))
        chains = self._model.description.chains
        sites = [f"{side}_wrist" for side in SIDES if chains[f"{side}_arm"]]
        if chains["head"]:
            sites.append("head")
        base = f"{self._model.name}/{self._model.urdf.root}"
        self._targets = {
            site: (
                self.counting_publisher(PoseStamped, f"target/{site}", topics.stream_qos(rate)),
                pose_template(base),
            )
            for site in sites
        }
        self._command_template = joint_command_template(self._model.joint_names)
        self._cause_template = time_reference_template(topics.MOTION)
        self._controllers = ControllerCommands(
            self._model, lambda kind, topic: self.counting_publisher(kind, topic, topics.stream_qos(rate))
        )
        self._joint_reader = JointStateReader()
        self._stop_publisher = self.create_publisher(Bool, topics.EMERGENCY_STOP, topics.latched_qos())
        group = DrainedGroup()
        newest = topics.newest_qos()
        self._motion = self._drained(MultiDOFJointState, topics.MOTION, newest, group)
        self._buttons = self._drained(Joy, topics.BUTTONS, newest, group)
        self._joint_states = self._drained(JointState, topics.JOINT_STATES, newest, group)
        self._emergency_stop = EmergencyStopListener(self, group)
        self._wrenches = {
            name: self._drained(WrenchStamped, f"wrench/{name}", newest, group)
            for name in self._model.description.wrenches
        }
        self.create_service(Trigger, "~/engage", self._on_engage)
        self.create_service(Trigger, "~/release", self._on_release)
        self.create_service(SetBool, "~/set_emergency_stop", self._on_emergency_stop)
        self.create_service(Trigger, "~/recentre", self._on_recentre)
        self.create_timer(_KEEP_PERIOD_S, self._keep_size)
        self._stamps = StampClock(lambda: self.get_clock().now().nanoseconds)
        self._schedule = Schedule(1.0 / rate)
        self._thread = self.start_thread("tick", self._run, COMMANDS)

    def _drained(self, message_type: type, topic: str, qos: Any, group: DrainedGroup) -> Any:
        return message_type, self.create_subscription(
            message_type, topic, lambda _message: None, qos, callback_group=group
        )

    def _warm_up(self) -> None:
        """Compile (or load from the cache) what a tick runs, before anybody depends on its timing."""
        self.get_logger().info("preparing the solver (compiled on the first start, up to a minute)")
        poses = {
            "head": np.array([0.0, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0]),
            "left_wrist": np.array([0.3, 0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
            "right_wrist": np.array([0.3, -0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
        }
        trial = Retargeter(self._model, RetargeterParameters(size_frames=1))
        trial.observe_joints(self._model.neutral_positions(), 0.0)
        trial.observe_motion(MotionFrame(1, poses), 0.0)
        trial.engage(0.0)
        for k in range(3):
            trial.tick(1 + k * 5_000_000, k * 0.005)
        trial.release()
        trial.set_engage_mode(EngageMode.RELATIVE)
        trial.engage(0.02)
        for k in range(4, 8):
            trial.observe_motion(MotionFrame(1 + k * 5_000_000, poses), k * 0.005)
            trial.tick(1 + k * 5_000_000, k * 0.005)
        trial.release()
        trial.tick(40_000_001, 0.04)

    def _kept_size(self) -> TrainerSize | None:
        if not self._settings.operator:
            return None
        try:
            return self._store.load(self._settings.operator)
        except InvalidConfiguration as error:
            self.get_logger().warning(f"the trainer is measured anew: {error}")
            return None

    def _keep_size(self) -> None:
        """Once the trainer has engaged (executor thread: a disk may be slow)."""
        trainer = self._retargeter.trainer
        if not (self._size_to_keep and trainer.input.size_is_final and trainer.mapping is not None):
            return
        self._size_to_keep = False
        try:
            file = self._store.save(self._settings.operator, trainer.mapping.size)
            self.get_logger().info(f"the trainer's size is kept in {file}")
        except RetargetingError as error:
            self.get_logger().warning(str(error))

    # ---- services (executor thread)

    def _on_engage(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            try:
                self._retargeter.engage(time.monotonic())
                response.success = True
            except RetargetingError as error:
                response.success = False
                response.message = str(error)
        return response

    def _on_release(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._retargeter.release()
        response.success = True
        return response

    def _on_recentre(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            self._retargeter.recentre()
        response.success = True
        return response

    def _on_emergency_stop(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        with self._lock:
            self._retargeter.set_emergency_stop(request.data)
        self._stop_publisher.publish(Bool(data=request.data))
        response.success = True
        return response

    # ---- the tick (own thread)

    def _run(self) -> None:
        for due_s in self._schedule:
            stamp_ns = self._stamps.stamp(due_s)
            started_s = time.monotonic()
            with self._lock:
                self._take_inputs(stamp_ns)
                waiting = self._settings.auto_engage and self._retargeter.state is State.IDLE
                if waiting and self._retargeter.refusal(started_s) is None:
                    self._retargeter.engage(started_s)
                # As of when it was due: on a busy machine commands come unevenly, their motion does not.
                command = self._retargeter.tick(stamp_ns, due_s)
                state = (self._retargeter.state, self._retargeter.reason)
            if command is not None:
                self._publish(command)
            if state != self._published_state:
                self._publish_change(state)
            self._tick_times_s.append(time.monotonic() - started_s)

    def _take_inputs(self, stamp_ns: int) -> None:
        if (stop := self._emergency_stop.take()) is not None:
            self._retargeter.set_emergency_stop(stop)
        # Each by itself: a bad one never keeps the others from being heard.
        for take in (self._take_motion, self._take_joints, self._take_wrenches):
            try:
                take(stamp_ns)
            except (CaptureError, RetargetingError) as error:
                # Without good input the arms hold.
                self._rejected_inputs += 1
                self.get_logger().warning(f"input refused: {error}", throttle_duration_sec=1.0)

    def _take_motion(self, stamp_ns: int) -> None:
        if (joy := drain(self._buttons[1], Joy)) is not None:
            self._controls = Controls(tuple(joy.axes), tuple(joy.buttons))
        # A tick that comes late may find a frame from after its stamp: the cause of a later one.
        due = [frame for frame in self._early_frames if frame.stamp_ns <= stamp_ns]
        self._early_frames = [frame for frame in self._early_frames if frame.stamp_ns > stamp_ns]
        for frame in due:
            self._retargeter.observe_motion(frame, time.monotonic())
        if (motion := drain(self._motion[1], MultiDOFJointState)) is None:
            return
        # Read after the taking: a time before the frame came would be that of a quicker network.
        now_s = time.monotonic()
        frame = motion_frame(motion, self._controls)
        ahead_s = (frame.stamp_ns - stamp_ns) * 1e-9
        if ahead_s > _LARGEST_LEAD_S:
            raise InvalidMotion(
                f"/trainer/motion is stamped {ahead_s:.3f} s ahead of this machine's clock, "
                f"{_LARGEST_LEAD_S} s are allowed: set the clocks by one another"
            )
        if ahead_s > 0.0:
            self._early_frames.append(frame)
        else:
            self._retargeter.observe_motion(frame, now_s)

    def _take_joints(self, _stamp_ns: int) -> None:
        if (data := drain(self._joint_states[1], JointState, raw=True)) is not None:
            sample = self._joint_reader.read(data)
            positions = dict(zip(sample.names, sample.positions.tolist(), strict=True))
            self._retargeter.observe_joints(positions, time.monotonic())

    def _take_wrenches(self, _stamp_ns: int) -> None:
        for name, (message_type, subscription) in self._wrenches.items():
            if (data := drain(subscription, message_type, raw=True)) is not None:
                self._retargeter.observe_wrench(name, force_of(data))

    def _publish(self, command: AppliedCommand) -> None:
        template = self._command_template
        template.set_stamp(command.stamp_ns)
        template.set("position", command.positions)
        template.set("velocity", command.velocities)
        self._commands.publish(bytes(template))
        self._controllers.publish(command.positions)
        if command.cause_stamp_ns is not None:
            self._cause_template.set_stamp(command.stamp_ns)
            self._cause_template.set_time("time_ref", command.cause_stamp_ns)
            self._causes.publish(bytes(self._cause_template))
            self._take_latency(command, command.cause_stamp_ns)
        for site, pose in command.targets.items():
            publisher, target = self._targets[site]
            target.set_stamp(command.stamp_ns)
            target.set("pose", pose)
            publisher.publish(bytes(target))

    def _take_latency(self, command: AppliedCommand, cause_ns: int) -> None:
        age_s = (command.stamp_ns - cause_ns) * 1e-9
        self._newest_ages_s.append(age_s)
        if cause_ns != self._last_cause_ns:
            # The first command that follows a frame; later ones wait for the next frame, not for us.
            self._last_cause_ns = cause_ns
            self._latencies_s.append(age_s)
        if command.motion_age_s is not None:
            self._shown_ages_s.append(command.motion_age_s)

    def _publish_change(self, state: tuple[State, str]) -> None:
        self._published_state = state
        word, reason = state
        values: dict[str, object] = {"reason": reason, "robot": self._model.name}
        transform = self._retargeter.transform_trainer_to_robot
        if transform is not None:
            values["transform_trainer_to_base"] = " ".join(repr(float(v)) for v in transform)
        mapping = self._retargeter.mapping
        if mapping is not None:
            values |= {f"{side}_scale": f"{scale:.4f}" for side, scale in mapping.scale.items()}
        values |= {f"{side}_clutch": arm.state.value for side, arm in self._retargeter.arms.items()}
        stopped = word in (State.HOLDING, State.EMERGENCY_STOP)
        level = DiagnosticStatus.WARN if stopped else DiagnosticStatus.OK
        self.publish_state(word.value, values, level)
        self.get_logger().info(f"{word.value}: {reason}")

    # ---- health

    def diagnostics(self) -> Mapping[str, object]:
        ticks, self._tick_times_s = self._tick_times_s, []
        latencies, self._latencies_s = self._latencies_s, []
        newest, self._newest_ages_s = self._newest_ages_s, []
        shown, self._shown_ages_s = self._shown_ages_s, []
        numbers: dict[str, object] = {
            "state": self._retargeter.state.value,
            "late_ticks": self._retargeter.late_ticks,
            "missed_ticks": self._schedule.missed,
            "forced_exceptions": self._retargeter.forced_exceptions,
            "rejected_inputs": self._rejected_inputs,
            "doubted_samples": self._retargeter.trainer.input.filter.doubted_samples,
            "tracking_jumps": self._retargeter.trainer.input.filter.jumps,
            "real_time_priority": self.real_time_priority,
        }
        measured = (
            ("tick", ticks),
            ("motion_to_command", latencies),
            ("newest_motion_age", newest),
            ("shown_motion_age", shown),
        )
        for name, samples in measured:
            if samples:
                median, high = np.percentile(samples, [50, 99]) * 1e3
                numbers |= {f"{name}_p50_ms": f"{median:.3f}", f"{name}_p99_ms": f"{high:.3f}"}
        return numbers

    def stop(self) -> None:
        """Brake to a standstill, then end the ticks."""
        with self._lock:
            self._retargeter.release()
        until_s = time.monotonic() + _BRAKING_TIMEOUT_S
        while self._thread.is_alive() and self._retargeter.solver.v.any() and time.monotonic() < until_s:
            self._thread.join(timeout=self._schedule.period_s)
        self._schedule.stop()
        self._thread.join(timeout=1.0)


def force_of(data: bytes) -> float:
    """Norm (N) of the force of a serialized `geometry_msgs/WrenchStamped`. Raises `MalformedMessage`."""
    reader = CdrReader(data)
    reader.stamp_ns()
    reader.string()
    return float(np.linalg.norm(reader.float64_values(6)[:3]))


def motion_frame(message: MultiDOFJointState, controls: Controls) -> MotionFrame:
    """A `/trainer/motion` message as a motion frame. Raises `InvalidMotion` on a bad one."""
    if len(message.joint_names) != len(message.transforms):
        raise InvalidMotion(
            f"/trainer/motion has {len(message.joint_names)} names for {len(message.transforms)} poses"
        )
    poses = {}
    for name, transform in zip(message.joint_names, message.transforms, strict=True):
        t, r = transform.translation, transform.rotation
        poses[name] = np.array([t.x, t.y, t.z, r.x, r.y, r.z, r.w])
    stamp = message.header.stamp
    return MotionFrame(stamp.sec * 1_000_000_000 + stamp.nanosec, poses, controls)


def main() -> None:
    run_node(RetargetingNode)


if __name__ == "__main__":
    main()
