"""Runs N repetitions: reset the scene, engage, record, play the motion, complete the file.

State on `~/state`: `running`, `finished` or `failed`, with `episode`, `episodes`, `id`, `path`,
`phase` and, where it failed, `reason`.
"""

from __future__ import annotations

import time

from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from capture_nodes.engaging import STOPPED, RobotHeld, engage, needs_a_person
from capture_nodes.live_frames import ASKED
from capture_nodes.node_runtime import CaptureNode, run_node
from capture_nodes.peer_nodes import Peer, PeerNodes, SessionFailed, SessionRefused
from capture_nodes.session_parameters import SessionParameters
from capture_nodes.topics import TRAINER_NAMESPACE

# For the robot to settle before the file is closed.
_SETTLE_S = 0.5
_START_AGAIN_S = 0.1


class SessionNode(CaptureNode):
    """The repetitions as one coroutine on the node's executor."""

    def __init__(self) -> None:
        super().__init__("session")
        self._settings = self.declare_from(SessionParameters)
        self._progress: dict[str, object] = {
            "episode": 0,
            "episodes": self._settings.episodes,
            "phase": "starting",
        }
        robot = self.get_namespace().rstrip("/")
        self._robot = Peer(self, f"{robot}/simulated_robot")
        self._retargeting = Peer(self, f"{robot}/retargeting")
        self._recorder = Peer(self, f"{robot}/recorder")
        self._headset = Peer(self, f"{TRAINER_NAMESPACE}/headset")
        peers = [self._robot, self._retargeting, self._recorder, self._headset]
        if self._settings.cameras:
            peers.append(Peer(self, f"{robot}/simulated_cameras"))
        services = {
            "reset": f"{self._robot.name}/reset_scene",
            "engage": f"{self._retargeting.name}/engage",
            "release": f"{self._retargeting.name}/release",
            "start": f"{self._recorder.name}/start",
            "stop": f"{self._recorder.name}/stop",
            "discard": f"{self._recorder.name}/discard",
            "play": f"{self._headset.name}/play",
            "halt": f"{self._headset.name}/halt",
        }
        said = self._settings
        self._peers = PeerNodes(self, peers, services, said.ready_timeout_s, said.answer_timeout_s)
        self._recorder_parameters = AsyncParameterClient(self, self._recorder.name)
        # Once, as soon as there is an executor.
        self._starter = self.create_timer(1e-3, self._begin)
        self._publish("running")

    def _begin(self) -> None:
        self._starter.cancel()
        if self.executor is None:
            raise SessionFailed("the session node was started without an executor")
        self.executor.create_task(self._run)

    # ---- the repetitions

    async def _run(self) -> None:
        try:
            await self._peers.until(
                lambda: not self._peers.silent,
                self._settings.ready_timeout_s,
                lambda: f"{', '.join(self._peers.silent)} did not say that it is ready",
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
        await self._peers.pause(_SETTLE_S)
        self.stop_requested = True

    async def _repeat_until_good(self) -> None:
        """A repetition that ends in a hold is discarded (kept in the trash) and tried again."""
        held = False
        for left in reversed(range(self._settings.attempts)):
            try:
                await self._repeat(again=left > 0, held=held)
                return
            except RobotHeld as error:
                held = True
                self.get_logger().warning(f"repetition discarded and tried again: {error}")

    async def _repeat(self, again: bool, held: bool) -> None:
        await self._make_ready(held)
        deadline = time.monotonic() + self._settings.timeout_s
        self._phase("recording")
        self._progress["id"] = await self._start()
        try:
            await self._play(deadline)
        except RobotHeld as error:
            # Long enough to hear of an emergency stop, which is not for this node to undo.
            await self._peers.pause(_SETTLE_S)
            if again and self._retargeting.word == "holding":
                await self._peers.call("discard")
                raise
            await self._complete(problem=str(error))
            raise SessionFailed(str(error)) from error
        except SessionFailed as error:
            # A repetition that failed is a file too: what happened is in it.
            await self._complete(problem=str(error))
            raise
        await self._peers.pause(_SETTLE_S)
        await self._complete()
        self._phase("completed")
        await self._peers.call("release")

    async def _make_ready(self, held: bool) -> None:
        """Scene set and arms following; a trainer who starts by a sign says when, and again if it fails."""
        said = self._settings
        while True:
            if said.trainer_starts:
                await self._wait_for_trainer()
                # The sign is a person's own asking.
                held = False
            self._phase("resetting")
            await self._peers.call("reset")
            # The trainer stands where the motion begins before the arms follow: nothing jumps when it starts.
            await self._peers.call("halt")
            self._phase("waiting for an engage" if needs_a_person(self._retargeting, held) else "engaging")
            try:
                await engage(self._peers, self._retargeting, said.answer_timeout_s, said.timeout_s, held)
                self._progress.pop("reason", None)
                return
            except SessionFailed as error:
                if not said.trainer_starts:
                    raise
                self.get_logger().warning(str(error))
                self._progress["reason"] = str(error)

    async def _wait_for_trainer(self) -> None:
        """Until the menu sign, however long the trainer rests; one that was given before does not count."""
        changes = self._headset.changes
        await self._peers.call("halt")
        self._phase("waiting")
        await self._peers.until(
            lambda: self._headset.changes > changes and self._headset.word == ASKED,
            float("inf"),
            "no sign of the trainer",
        )
        self._progress.pop("reason", None)

    async def _complete(self, problem: str = "") -> None:
        self._phase("completing")
        if problem:
            call = self._recorder_parameters.set_parameters(
                [Parameter("verdict", value="failure"), Parameter("reason", value=problem)]
            )
            await self._peers.until(
                call.done, self._settings.answer_timeout_s, "the recorder took no verdict"
            )
        self._progress["path"] = await self._peers.call("stop")

    async def _start(self) -> str:
        """Start the episode; again where the recorder is not connected to everything yet."""
        deadline = time.monotonic() + self._settings.answer_timeout_s
        while True:
            try:
                return await self._peers.call("start")
            except SessionRefused:
                if time.monotonic() > deadline:
                    raise
            await self._peers.pause(_START_AGAIN_S)

    async def _play(self, deadline: float) -> None:
        """Play the motion to its end; raises `SessionFailed` where the robot stops following it."""
        changes = self._headset.changes
        await self._peers.call("play")

        def finished() -> bool:
            return self._headset.changes > changes and self._headset.word == "finished"

        await self._peers.until(
            lambda: finished() or self._retargeting.word in STOPPED,
            max(1.0, deadline - time.monotonic()),
            f"{self._headset.name} did not finish the motion",
        )
        if self._retargeting.word in STOPPED:
            raise RobotHeld(f"the robot stopped following: {self._retargeting.problem}")

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
