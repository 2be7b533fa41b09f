"""Runs N repetitions: reset the scene, engage, record, play the motion, complete the file.

State on `~/state`: `running`, `finished` or `failed`, with `episode`, `episodes`, `id`, `path`,
`phase` and, where it failed, `reason`.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient
from rclpy.task import Future
from std_srvs.srv import Trigger

from capture_nodes.errors import CaptureError
from capture_nodes.node_runtime import CaptureNode, run_node
from capture_nodes.topics import TRAINER_NAMESPACE, latched_qos

# For the robot to settle before the file is closed.
_SETTLE_S = 0.5
_TICK_S = 0.05
_START_AGAIN_S = 0.1
_ENGAGE_AGAIN_S = 0.3
# States in which the robot does not follow the trainer any more until it is engaged again.
_STOPPED = ("holding", "emergency_stop")


@dataclass(frozen=True)
class SessionParameters:
    """`timeout_s` is for one repetition, `ready_timeout_s` for the other nodes to answer at all.

    A repetition in which the robot goes to a hold is tried `attempts` times. `cameras`: the simulated
    cameras are waited for too.
    """

    robot: str = "kestrel"
    cameras: bool = False
    episodes: int = 1
    attempts: int = 3
    timeout_s: float = 300.0
    ready_timeout_s: float = 60.0
    answer_timeout_s: float = 30.0

    def __post_init__(self) -> None:
        problems = []
        for name in ("episodes", "attempts"):
            if getattr(self, name) < 1:
                problems.append(f"parameter {name}: {getattr(self, name)} is given; 1 or more is expected")
        for name in ("timeout_s", "ready_timeout_s", "answer_timeout_s"):
            value = getattr(self, name)
            if not 0.0 < value < float("inf"):
                problems.append(f"parameter {name}: {value} is given; a finite time above 0 is expected")
        if problems:
            raise CaptureError("\n".join(problems))


class SessionFailed(CaptureError):
    """A repetition that did not come about; names who did not do what."""


class RobotHeld(SessionFailed):
    """The retargeting went to a hold in a repetition that can be tried again."""


class SessionRefused(SessionFailed):
    """A node answered, and said no."""


class SessionNode(CaptureNode):
    """The repetitions as one coroutine on the node's executor; a steady timer wakes it."""

    def __init__(self) -> None:
        super().__init__("session")
        self._settings = self.declare_from(SessionParameters)
        self._progress: dict[str, object] = {
            "episode": 0,
            "episodes": self._settings.episodes,
            "phase": "starting",
        }
        self._states: dict[str, str] = {}
        self._reasons: dict[str, str] = {}
        self._changes: Counter[str] = Counter()
        robot = self.get_namespace().rstrip("/")
        self._robot_node = f"{robot}/simulated_robot"
        self._retargeting_node = f"{robot}/retargeting"
        self._recorder_node = f"{robot}/recorder"
        self._headset_node = f"{TRAINER_NAMESPACE}/headset"
        self._nodes = [self._robot_node, self._retargeting_node, self._recorder_node, self._headset_node]
        if self._settings.cameras:
            self._nodes.append(f"{robot}/simulated_cameras")
        for name in self._nodes:
            self.create_subscription(
                DiagnosticStatus, f"{name}/state", lambda m, n=name: self._on_state(n, m), latched_qos()
            )
        services = {
            "reset": f"{self._robot_node}/reset_scene",
            "engage": f"{self._retargeting_node}/engage",
            "release": f"{self._retargeting_node}/release",
            "start": f"{self._recorder_node}/start",
            "stop": f"{self._recorder_node}/stop",
            "discard": f"{self._recorder_node}/discard",
            "play": f"{self._headset_node}/play",
            "halt": f"{self._headset_node}/halt",
        }
        self._clients_by_key = {key: self.create_client(Trigger, name) for key, name in services.items()}
        self._recorder_parameters = AsyncParameterClient(self, self._recorder_node)
        self._waiting: list[tuple[Callable[[], bool], float, Future[bool]]] = []
        self.create_timer(_TICK_S, self._on_tick)
        self._started = False
        self._publish("running")

    # ---- events

    def _on_state(self, name: str, message: Any) -> None:
        self._states[name] = message.message
        self._reasons[name] = next((item.value for item in message.values if item.key == "reason"), "")
        self._changes[name] += 1

    def _on_tick(self) -> None:
        if not self._started:
            self._started = True
            if self.executor is None:
                raise SessionFailed("the session node was started without an executor")
            self.executor.create_task(self._run)
        now = time.monotonic()
        for item in list(self._waiting):
            condition, deadline, future = item
            if condition() or now > deadline:
                self._waiting.remove(item)
                future.set_result(condition())

    async def _until(
        self, condition: Callable[[], bool], timeout_s: float, what: str | Callable[[], str]
    ) -> None:
        """Wait for a condition; raises `SessionFailed` naming `what` was waited for."""
        future: Future[bool] = Future(executor=self.executor)
        self._waiting.append((condition, time.monotonic() + timeout_s, future))
        if not await future:
            text = what if isinstance(what, str) else what()
            raise SessionFailed(f"{text} within {timeout_s:g} s")

    def _silent(self) -> list[str]:
        return [name for name in self._nodes if name not in self._states]

    async def _call(self, key: str, timeout_s: float | None = None) -> str:
        """Call a service and answer its message; raises `SessionFailed` where it refuses or is silent."""
        client = self._clients_by_key[key]
        name = client.srv_name
        limit = self._settings.answer_timeout_s if timeout_s is None else timeout_s
        await self._until(
            client.service_is_ready, self._settings.ready_timeout_s, f"{name}: the service did not appear"
        )
        call = client.call_async(Trigger.Request())
        await self._until(call.done, limit, f"{name} did not answer")
        response = call.result()
        if not response.success:
            raise SessionRefused(f"{name} refused: {response.message}")
        return str(response.message)

    # ---- the repetitions

    async def _run(self) -> None:
        try:
            await self._until(
                lambda: not self._silent(),
                self._settings.ready_timeout_s,
                lambda: f"{', '.join(self._silent())} did not say that it is ready",
            )
            for number in range(1, self._settings.episodes + 1):
                self._progress = {"episode": number, "episodes": self._settings.episodes}
                await self._repeat_until_good()
            self._progress["phase"] = "done"
            self._publish("finished")
        except SessionFailed as error:
            self.get_logger().error(str(error))
            self._progress["reason"] = str(error)
            self._publish("failed")
            self.exit_code = 1
        # Whoever listens to the state hears it before this process ends and, with it, the station.
        await self._pause(_SETTLE_S)
        self.stop_requested = True

    async def _repeat_until_good(self) -> None:
        """A repetition that ends in a hold is discarded (kept in the trash) and tried again."""
        for left in reversed(range(self._settings.attempts)):
            try:
                await self._repeat(again=left > 0)
                return
            except RobotHeld as error:
                self.get_logger().warning(f"repetition discarded and tried again: {error}")

    async def _repeat(self, again: bool) -> None:
        deadline = time.monotonic() + self._settings.timeout_s
        self._phase("resetting")
        await self._call("reset")
        # The trainer stands where the motion begins before the arms follow: nothing jumps when it starts.
        await self._call("halt")
        self._phase("engaging")
        await self._engage()
        self._phase("recording")
        self._progress["id"] = await self._start()
        try:
            await self._play(deadline)
        except RobotHeld as error:
            # Long enough to hear of an emergency stop, which is not for this node to undo.
            await self._pause(_SETTLE_S)
            if again and self._retargeting_word() == "holding":
                await self._call("discard")
                raise
            await self._complete(problem=str(error))
            raise SessionFailed(str(error)) from error
        except SessionFailed as error:
            # A repetition that failed is a file too: what happened is in it.
            await self._complete(problem=str(error))
            raise
        await self._pause(_SETTLE_S)
        await self._complete()
        self._phase("completed")
        await self._call("release")

    async def _complete(self, problem: str = "") -> None:
        self._phase("completing")
        if problem:
            call = self._recorder_parameters.set_parameters(
                [Parameter("verdict", value="failure"), Parameter("reason", value=problem)]
            )
            await self._until(call.done, self._settings.answer_timeout_s, "the recorder took no verdict")
        self._progress["path"] = await self._call("stop")

    async def _start(self) -> str:
        """Start the episode; again where the recorder is not connected to everything yet."""
        deadline = time.monotonic() + self._settings.answer_timeout_s
        while True:
            try:
                return await self._call("start")
            except SessionRefused:
                if time.monotonic() > deadline:
                    raise
            await self._pause(_START_AGAIN_S)

    async def _engage(self) -> None:
        """Engage until the robot tracks; again where it refuses or goes to a hold on the way there."""
        deadline = time.monotonic() + self._settings.answer_timeout_s
        while True:
            problem = ""
            changes = self._changes[self._retargeting_node]
            word = ""
            try:
                word = await self._call("engage")
            except SessionRefused as error:
                problem = str(error)
            if word == "tracking":
                # The trainer's deadman had engaged it before: no change will tell.
                await self._until(
                    lambda: self._retargeting_word() == "tracking",
                    self._settings.answer_timeout_s,
                    f"{self._retargeting_node} did not say that it tracks",
                )
                return
            if not problem:

                def settled(since: int = changes) -> bool:
                    changed = self._changes[self._retargeting_node] > since
                    return changed and self._retargeting_word() in ("tracking", *_STOPPED)

                try:
                    await self._until(settled, max(1.0, deadline - time.monotonic()), "not engaged")
                except SessionFailed as error:
                    raise SessionFailed(f"{error}: {self._retargeting_problem()}") from error
                if self._retargeting_word() == "tracking":
                    return
                problem = self._retargeting_problem()
            if time.monotonic() > deadline:
                raise SessionFailed(f"not engaged within {self._settings.answer_timeout_s:g} s: {problem}")
            await self._pause(_ENGAGE_AGAIN_S)

    def _retargeting_word(self) -> str:
        return self._states.get(self._retargeting_node, "")

    def _retargeting_problem(self) -> str:
        reason = self._reasons.get(self._retargeting_node) or "no reason given"
        return f"{self._retargeting_node} is {self._retargeting_word()}: {reason}"

    async def _play(self, deadline: float) -> None:
        """Play the motion to its end; raises `SessionFailed` where the robot stops following it."""
        changes = self._changes[self._headset_node]
        await self._call("play")

        def finished() -> bool:
            return (
                self._changes[self._headset_node] > changes and self._states[self._headset_node] == "finished"
            )

        await self._until(
            lambda: finished() or self._retargeting_word() in _STOPPED,
            max(1.0, deadline - time.monotonic()),
            f"{self._headset_node} did not finish the motion",
        )
        if self._retargeting_word() in _STOPPED:
            raise RobotHeld(f"the robot stopped following: {self._retargeting_problem()}")

    async def _pause(self, duration_s: float) -> None:
        end = time.monotonic() + duration_s
        await self._until(lambda: time.monotonic() >= end, 2.0 * duration_s + 1.0, "the pause did not end")

    def _phase(self, phase: str) -> None:
        self._progress["phase"] = phase
        self._publish("running")

    def _publish(self, word: str) -> None:
        level = DiagnosticStatus.ERROR if word == "failed" else DiagnosticStatus.OK
        self.publish_state(word, self._progress, level)


def main() -> None:
    run_node(SessionNode)


if __name__ == "__main__":
    main()
