"""Node `retargeting`: trainer motion and measured joints in, joint commands out, in every tick."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import replace

from diagnostic_msgs.msg import DiagnosticStatus
from rcl_interfaces.msg import SetParametersResult
from rclpy.parameter import Parameter
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from capture_nodes import topics
from capture_nodes.base_output import BaseOutput
from capture_nodes.command_figures import CommandFigures
from capture_nodes.command_output import CommandOutput
from capture_nodes.kept_trainer import KeptTrainer
from capture_nodes.node_runtime import CaptureNode, run_node
from capture_nodes.resources import robot_description_file
from capture_nodes.retargeting_inputs import RetargetingInputs
from capture_nodes.retargeting_parameters import RetargetingParameters
from capture_nodes.retargeting_report import Joining, clutches, health, joining, mapping
from capture_nodes.retargeting_warm_up import warm_up
from capture_nodes.rumble_output import RumbleOutput
from capture_nodes.schedule import Schedule
from capture_nodes.stamp_clock import StampClock
from capture_nodes.thread_priority import COMMANDS
from retargeting.errors import RetargetingError
from retargeting.retargeter import Retargeter, State
from retargeting.retargeter_parameters import EngageMode
from retargeting.robot_model import load_robot

_KEEP_PERIOD_S = 1.0
# From 6 rad/s at 30 rad/s² it takes 0.2 s.
_BRAKING_TIMEOUT_S = 0.5


class RetargetingNode(CaptureNode):
    def __init__(self) -> None:
        super().__init__("retargeting")
        self._settings = said = self.declare_from(RetargetingParameters)
        self._model = load_robot(robot_description_file(said.robot))
        kept = KeptTrainer(said, self.get_logger())
        solver = said.solver_parameters
        self._retargeter = Retargeter(self._model, said.retargeter_parameters(), solver, size=kept.size)
        self.get_logger().info("preparing the solver (compiled on the first start, some minutes)")
        warm_up(self._model, solver)
        self._lock = threading.Lock()
        self._inputs = RetargetingInputs(self, self._retargeter)
        self._commands = CommandOutput(self, self._model, said.rate_hz)
        self._rumble = RumbleOutput(self)
        base = self._model.description.base
        self._base = None if base is None else BaseOutput(self, base, said.rate_hz)
        self._figures = CommandFigures()
        self._published: Joining | None = None
        self._stop_publisher = self.create_publisher(Bool, topics.EMERGENCY_STOP, topics.latched_qos())
        self.create_service(Trigger, "~/engage", self._on_engage)
        self.create_service(Trigger, "~/release", self._on_release)
        self.create_service(Trigger, "~/recentre", self._on_recentre)
        self.create_service(SetBool, "~/set_emergency_stop", self._on_emergency_stop)
        self.add_on_set_parameters_callback(self._on_parameters)
        self.create_timer(_KEEP_PERIOD_S, lambda: kept.keep(self._retargeter.trainer))
        self._stamps = StampClock(lambda: self.get_clock().now().nanoseconds)
        self._schedule = Schedule(1.0 / said.rate_hz)
        self._thread = self.start_thread("tick", self._run, COMMANDS)

    # ---- services (executor thread)

    def _on_engage(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        with self._lock:
            try:
                self._retargeter.engage(time.monotonic())
                # Already tracking where the trainer pressed the deadman before.
                response.success, response.message = True, self._retargeter.state.value
            except RetargetingError as error:
                response.success, response.message = False, str(error)
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

    def _on_parameters(self, parameters: list[Parameter]) -> SetParametersResult:
        """The engage mode is taken over while the node runs; everything else needs a new start."""
        fixed = [parameter.name for parameter in parameters if parameter.name != "engage_mode"]
        if fixed:
            reason = f"{', '.join(fixed)}: only engage_mode can be set while the node runs; start it anew"
            return SetParametersResult(successful=False, reason=reason)
        for parameter in parameters:
            try:
                replace(self._retargeter.parameters, engage_mode=parameter.value)
            except RetargetingError as error:
                return SetParametersResult(successful=False, reason=str(error))
            with self._lock:
                self._retargeter.set_engage_mode(EngageMode(parameter.value))
        return SetParametersResult(successful=True)

    # ---- the tick (own thread)

    def _run(self) -> None:
        for due_s in self._schedule:
            stamp_ns = self._stamps.stamp(due_s)
            started_s = time.monotonic()
            with self._lock:
                self._inputs.take(stamp_ns, self._stamps.clock_ns)
                waiting = self._settings.auto_engage and self._retargeter.state is State.IDLE
                if waiting and self._retargeter.refusal(started_s) is None:
                    self._retargeter.engage(started_s)
                solving_s = time.perf_counter()
                # As of when it was due: on a busy machine commands come unevenly, their motion does not.
                command = self._retargeter.tick(stamp_ns, due_s)
                solve_s = time.perf_counter() - solving_s
                led, state = self._retargeter.is_led, joining(self._retargeter)
            if command is not None:
                self._commands.publish(command)
                self._rumble.feel(command.stops, due_s)
                self._figures.add(command, solve_s)
            if self._base is not None:
                self._base.step(self._inputs.controls, led, due_s)
            if state != self._published:
                self._publish_change(state)
                self._published = state
            self._figures.add_tick(time.monotonic() - started_s)

    def _publish_change(self, now: Joining) -> None:
        values = {"reason": now.reason, **mapping(self._retargeter), **clutches(now)}
        values["deadman"] = self._retargeter.deadman.mode.value
        stopped = now.state in (State.HOLDING, State.EMERGENCY_STOP)
        level = DiagnosticStatus.WARN if stopped else DiagnosticStatus.OK
        self.publish_state(now.state.value, values, level)
        self.get_logger().info(f"{now.state.value}: {now.reason}")

    # ---- health

    def diagnostics(self) -> Mapping[str, object]:
        return {
            **health(self._retargeter),
            "missed_ticks": self._schedule.missed,
            "rejected_inputs": self._inputs.rejected,
            "silent_wrenches": " ".join(self._inputs.silent_wrenches),
            "real_time_priority": self.real_time_priority,
            **self._figures.take(),
        }

    def _moves(self) -> bool:
        return bool(self._retargeter.solver.v.any()) or (self._base is not None and self._base.is_moving)

    def stop(self) -> None:
        """Brake to a standstill, then end the ticks."""
        with self._lock:
            self._retargeter.release()
        until_s = time.monotonic() + _BRAKING_TIMEOUT_S + (self._base.stopping_s if self._base else 0.0)
        while self._thread.is_alive() and self._moves() and time.monotonic() < until_s:
            self._thread.join(timeout=self._schedule.period_s)
        self._schedule.stop()
        self._thread.join(timeout=1.0)
        self._rumble.end()


def main() -> None:
    run_node(RetargetingNode)


if __name__ == "__main__":
    main()
