"""The session as a real process; every node it talks to is played here, with a will of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from diagnostic_msgs.msg import DiagnosticStatus, KeyValue  # noqa: E402
from rcl_interfaces.msg import SetParametersResult  # noqa: E402
from rcl_interfaces.srv import SetParameters  # noqa: E402
from rclpy.context import Context  # noqa: E402
from rclpy.executors import SingleThreadedExecutor  # noqa: E402
from std_srvs.srv import Trigger  # noqa: E402

from capture_nodes.topics import latched_qos  # noqa: E402

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 51
TIMEOUT_S = 60.0
RETARGETING, RECORDER = "/kestrel/retargeting", "/kestrel/recorder"
SERVICES = {
    "/kestrel/simulated_robot": ("reset_scene",),
    RETARGETING: ("engage", "release"),
    RECORDER: ("start", "stop", "discard"),
    "/trainer/headset": ("play", "halt"),
}
# What is asked for in one repetition that goes well.
WELL = ["reset_scene", "halt", "engage", "start", "play", "stop", "release"]
Answer = tuple[bool, str]


class Peers:
    """All services answer yes; `answers` says what else an answer, or its consequence, is."""

    def __init__(self) -> None:
        self.context = Context()
        rclpy.init(context=self.context, domain_id=DOMAIN)
        self.node = rclpy.create_node("peers", context=self.context)
        self.executor = SingleThreadedExecutor(context=self.context)
        self.executor.add_node(self.node)
        self.called: list[str] = []
        self.deadman = "squeeze"
        self.verdicts: list[str] = []
        self.answers: dict[str, Callable[[int], Answer]] = {"engage": self.tracks, "play": self.finishes}
        self._states = {
            name: self.node.create_publisher(DiagnosticStatus, f"{name}/state", latched_qos())
            for name in SERVICES
        }
        for name, services in SERVICES.items():
            for service in services:
                self.node.create_service(
                    Trigger, f"{name}/{service}", lambda _, answer, s=service: self._answer(s, answer)
                )
            self.tell(name, "idle")
        self.node.create_service(SetParameters, f"{RECORDER}/set_parameters", self._on_parameters)

    def _answer(self, service: str, response: Any) -> Any:
        self.called.append(service)
        answer = self.answers.get(service, lambda _: (True, service))
        response.success, response.message = answer(self.called.count(service))
        return response

    def _on_parameters(self, request: Any, response: Any) -> Any:
        self.verdicts += [parameter.value.string_value for parameter in request.parameters]
        response.results = [SetParametersResult(successful=True) for _ in request.parameters]
        return response

    def tell(self, name: str, word: str, reason: str = "") -> None:
        values = {"reason": reason, "deadman": self.deadman}
        self._states[name].publish(
            DiagnosticStatus(message=word, values=[KeyValue(key=k, value=v) for k, v in values.items()])
        )

    def tracks(self, _time: int) -> Answer:
        self.tell(RETARGETING, "engaging")
        self.tell(RETARGETING, "tracking")
        return True, "engaging"

    def finishes(self, _time: int) -> Answer:
        self.tell("/trainer/headset", "finished")
        return True, ""

    def run(self, *arguments: str) -> tuple[int, str]:
        """A session against these peers, to its end."""
        environment = {**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)}
        environment.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        command = [sys.executable, "-m", "capture_nodes.session_node", "--ros-args", "-r", "__ns:=/kestrel"]
        process = subprocess.Popen([*command, *arguments], env=environment, stderr=subprocess.PIPE, text=True)
        deadline = time.monotonic() + TIMEOUT_S
        try:
            while process.poll() is None:
                assert time.monotonic() < deadline, self.called
                self.executor.spin_once(timeout_sec=0.02)
            return process.returncode, process.communicate()[1]
        finally:
            if process.poll() is None:
                process.kill()
                process.communicate()

    def close(self) -> None:
        self.executor.shutdown()
        self.node.destroy_node()
        rclpy.try_shutdown(context=self.context)


@pytest.fixture
def peers() -> Iterator[Peers]:
    peers = Peers()
    yield peers
    peers.close()


def test_repetitions_in_order(peers: Peers) -> None:
    code, text = peers.run("-p", "episodes:=2")
    assert code == 0, text
    assert peers.called == WELL * 2


def test_a_trainer_who_engaged_by_the_deadman_is_not_waited_for(peers: Peers) -> None:
    """The state was told before, and does not change by engaging."""
    peers.tell(RETARGETING, "tracking")
    peers.answers["engage"] = lambda _: (True, "tracking")
    code, text = peers.run()
    assert code == 0, text
    assert peers.called == WELL


def test_engaging_is_tried_again(peers: Peers) -> None:
    def reluctant(time: int) -> Answer:
        if time == 1:
            return False, "no deadman is held (squeeze)"
        if time == 2:
            peers.tell(RETARGETING, "engaging")
            peers.tell(RETARGETING, "holding", "released: no deadman is held")
            return True, "engaging"
        return peers.tracks(time)

    peers.answers["engage"] = reluctant
    code, text = peers.run()
    assert code == 0, text
    assert peers.called == [*WELL[:2], *["engage"] * 3, *WELL[3:]]


def test_engaging_that_never_works_names_the_reason(peers: Peers) -> None:
    peers.answers["engage"] = lambda _: (False, "no deadman is held (squeeze)")
    code, text = peers.run("-p", "answer_timeout_s:=1.0")
    assert code == 1
    assert "not engaged within 1 s" in text and "no deadman is held (squeeze)" in text
    assert "start" not in peers.called


def test_a_hold_is_discarded_and_tried_again(peers: Peers) -> None:
    def interrupted(time: int) -> Answer:
        if time > 1:
            return peers.finishes(time)
        peers.tell(RETARGETING, "holding", "/trainer/motion is stale")
        return True, ""

    peers.answers["play"] = interrupted
    code, text = peers.run()
    assert code == 0, text
    assert peers.called == [*WELL[:5], "discard", *WELL] and peers.verdicts == []


def test_after_a_hold_hands_are_engaged_by_a_person_only(peers: Peers) -> None:
    """Hands in view have nothing to press: a program that engaged them would move the arms by itself."""
    peers.deadman = "hands"

    def interrupted(time: int) -> Answer:
        if time > 1:
            return peers.finishes(time)
        peers.tell(RETARGETING, "holding", "/trainer/motion is stale")
        return True, ""

    def somebody_engages(time: int) -> Answer:
        if time == 2:
            peers.node.create_timer(0.3, lambda: peers.tell(RETARGETING, "tracking", "engaged"))
        return True, ""

    peers.answers["play"] = interrupted
    # The last that the session asks for before it needs the arms to follow.
    peers.answers["halt"] = somebody_engages
    peers.tell(RETARGETING, "idle")
    code, text = peers.run()
    assert code == 0, text
    assert peers.called.count("engage") == 1, "the first time, before anything went wrong"
    assert peers.called == [*WELL[:5], "discard", *(word for word in WELL if word != "engage")]


def test_a_hold_that_nobody_engages_again_is_named(peers: Peers) -> None:
    peers.deadman = "hands"

    def held(_time: int) -> Answer:
        peers.tell(RETARGETING, "engaging")
        peers.tell(RETARGETING, "holding", "/trainer/motion is stale")
        return True, "engaging"

    peers.answers["engage"] = held
    code, text = peers.run("-p", "timeout_s:=1.0")
    assert code == 1
    assert "stale; nobody engaged the hands again (call /kestrel/retargeting/engage" in text
    assert peers.called.count("engage") == 1 and "start" not in peers.called


def test_the_last_attempt_that_is_held_is_a_failure_on_file(peers: Peers) -> None:
    def interrupted(_time: int) -> Answer:
        peers.tell(RETARGETING, "holding", "/trainer/motion is stale")
        return True, ""

    peers.answers["play"] = interrupted
    code, text = peers.run("-p", "attempts:=1")
    assert code == 1 and "/trainer/motion is stale" in text
    assert peers.called == [*WELL[:5], "stop"]
    assert peers.verdicts[0] == "failure" and "/trainer/motion is stale" in peers.verdicts[1]


class Asking(Peers):
    """A trainer who gives the menu sign as soon as the session waits for it; what it does is kept."""

    def __init__(self) -> None:
        super().__init__()
        self.phases: list[str] = []
        self.reasons: list[str] = []
        self.node.create_subscription(
            DiagnosticStatus, "/kestrel/session/state", self._on_session, latched_qos()
        )

    def _on_session(self, message: Any) -> None:
        values = {item.key: item.value for item in message.values}
        phase = values.get("phase", "")
        if self.phases[-1:] != [phase]:
            self.phases.append(phase)
        if "reason" in values:
            self.reasons.append(values["reason"])
        if phase == "waiting":
            self.tell("/trainer/headset", "asked")


def test_a_trainer_starts_each_repetition_by_a_sign() -> None:
    """One that engaging did not come of is waited for again, with the reason; an old sign starts nothing."""
    peers = Asking()
    try:
        peers.tell("/trainer/headset", "asked")
        # All tries of the first time.
        refused = iter([(False, "no deadman is held (squeeze)")] * 3)
        peers.answers["engage"] = lambda time: next(refused, None) or peers.tracks(time)
        code, text = peers.run(
            "-p", "episodes:=2", "-p", "trainer_starts:=true", "-p", "answer_timeout_s:=0.5"
        )
        assert code == 0, text
    finally:
        peers.close()
    ready = ["waiting", "resetting", "engaging"]
    ends = ["recording", "completing", "completed"]
    assert peers.phases == ["starting", *ready, *ready, *ends, *ready, *ends, "done"]
    assert any("no deadman is held (squeeze)" in reason for reason in peers.reasons)
    assert [service for service in peers.called if service in ("start", "play")] == ["start", "play"] * 2
    assert peers.called[:2] == ["halt", "reset_scene"]
