"""The supervisor on real processes over real DDS, with nodes that behave well or badly."""

from __future__ import annotations

import dataclasses
import io
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from capture_nodes.shared_memory import dds_files
from capture_nodes.station import (
    EXIT_BAD_ARGUMENTS,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PROCESS_DIED,
    StationPlan,
    make_plan,
)
from capture_nodes.station_arguments import StationError
from capture_nodes.station_lock import DomainLock
from capture_nodes.station_supervisor import Supervisor

FAKE = Path(__file__).parent / "fake_station"
DOMAIN = 64


class Output(io.StringIO):
    """Collects what a user would read and acts when a text appears."""

    def __init__(self, actions: dict[str, Callable[[], None]] | None = None) -> None:
        super().__init__()
        self._actions = dict(actions or {})

    def write(self, text: str) -> int:
        written = super().write(text)
        for trigger in [t for t in self._actions if t in self.getvalue()]:
            self._actions.pop(trigger)()
        return written


class FakeStation:
    """A plan whose processes are all the fake node; `journal` tells who started and ended, in order."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, domain: int = DOMAIN) -> None:
        monkeypatch.delenv("ROS_DOMAIN_ID", raising=False)
        monkeypatch.setenv(
            "PYTHONPATH", os.pathsep.join([str(FAKE), str(Path(__file__).resolve().parents[2])])
        )
        self.folder = folder
        self.domain = domain
        self.journal_path = folder / "journal"
        self.journal_path.touch()

    def plan(self, stop_timeout_s: float = 5.0, **behaviours: str) -> StationPlan:
        plan = make_plan(
            [f"root:={self.folder}", "episodes:=2", f"domain_id:={self.domain}", "ready_timeout_s:=90"], {}
        )
        processes = []
        for process in plan.processes:
            parameters = {
                "behaviour": behaviours.get(
                    process.name, "finishes" if process.name == "session" else "good"
                ),
                "journal": str(self.journal_path),
            }
            if process.name == "recorder":
                parameters["report_path"] = str(plan.report_path)
            ready = 2.0 if behaviours.get(process.name) == "silent" else process.ready_timeout_s
            processes.append(
                dataclasses.replace(
                    process,
                    module="fake_station_node",
                    parameters=parameters,
                    stop_timeout_s=stop_timeout_s,
                    ready_timeout_s=ready,
                )
            )
        return dataclasses.replace(plan, processes=tuple(processes))

    def run(
        self, plan: StationPlan, actions: dict[str, Callable[[], None]] | None = None, alone: bool = True
    ) -> tuple[int, str]:
        """`alone`: nobody else is on the domain, who could still be using a shared-memory port."""
        before = dds_files()
        output = Output(actions)
        code = Supervisor(plan, output).run()
        assert self.running() == []
        left = {path for path in dds_files() - before if self.is_of_this_domain(path)}
        assert not alone or left == set()
        return code, output.getvalue()

    def is_of_this_domain(self, path: Path) -> bool:
        """Other tests may run meanwhile: only the ports of our domain are certainly ours."""
        digits = "".join(c for c in path.name.partition("port")[2] if c.isdigit())
        return bool(digits) and 7400 + 250 * self.domain <= int(digits) < 7400 + 250 * (self.domain + 1)

    def journal(self, what: str) -> list[str]:
        lines = [line.split() for line in self.journal_path.read_text().splitlines()]
        return [words[0] for words in lines if words[1] == what]

    def running(self) -> list[int]:
        pids = [int(line.split()[2]) for line in self.journal_path.read_text().splitlines()]
        return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


@pytest.fixture
def station(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeStation:
    return FakeStation(tmp_path, monkeypatch)


def interrupt() -> None:
    os.kill(os.getpid(), signal.SIGINT)


def test_a_good_run(station: FakeStation) -> None:
    code, text = station.run(station.plan())
    assert code == EXIT_OK, text
    assert "all 6 processes are ready" in text
    assert "10 messages published, 10 received, 0 lost" in text
    assert station.journal("ended")[-1] == "recorder"
    assert len(station.journal("ended")) == 6


def test_lost_messages_are_a_failure(station: FakeStation) -> None:
    code, text = station.run(station.plan(recorder="loses"))
    assert code == EXIT_FAILED
    assert "1 messages were lost during episodes" in text


def test_a_failed_session_tells_its_reason(station: FakeStation) -> None:
    code, text = station.run(station.plan(session="fails"))
    assert code == EXIT_FAILED
    assert "the session failed: the headset fell off" in text


def test_interrupt_stops_everything_in_order(station: FakeStation) -> None:
    plan = station.plan(session="good")
    code, text = station.run(plan, {"processes are ready": interrupt})
    assert code == EXIT_INTERRUPTED, text
    assert len(station.journal("ended")) == 6
    assert station.journal("ended")[-1] == "recorder"
    assert "10 messages published" in text


def test_interrupt_while_starting(station: FakeStation) -> None:
    code, text = station.run(station.plan(session="good"), {"starting": interrupt})
    assert code == EXIT_INTERRUPTED, text


@pytest.mark.parametrize("name", ["headset", "simulated_robot", "recorder"])
def test_a_killed_process_is_named_and_the_others_end(station: FakeStation, name: str) -> None:
    code, text = station.run(station.plan(session="good", **{name: "dies"}))
    assert code == EXIT_PROCESS_DIED, text
    assert f"station: error: {name} was killed by SIGKILL; stopping the others" in text
    assert len(station.journal("ended")) == 5


def test_a_node_that_never_becomes_ready_is_named(station: FakeStation) -> None:
    code, text = station.run(station.plan(session="good", retargeting="silent"))
    assert code == EXIT_PROCESS_DIED
    assert "retargeting (/kestrel/retargeting) was not ready within 2 s" in text
    assert "headset (" not in text


def test_a_node_that_refuses_its_configuration(station: FakeStation) -> None:
    code, text = station.run(station.plan(session="good", headset="bad_configuration"))
    assert code == EXIT_BAD_ARGUMENTS, text
    assert "headset: error: parameter colour: 'green' is given; red is expected" in text
    assert "headset ended with exit code 2" in text
    assert "Traceback" not in text


def test_a_stubborn_process_is_ended_for_certain(station: FakeStation) -> None:
    started = time.monotonic()
    code, text = station.run(station.plan(stop_timeout_s=0.5, headset="stubborn"))
    assert "headset does not end by itself; sending SIGTERM" in text
    assert "sending SIGKILL" in text
    assert code == EXIT_FAILED
    assert time.monotonic() - started < 60.0


def test_a_second_interrupt_shortens_the_waiting(station: FakeStation) -> None:
    plan = station.plan(stop_timeout_s=300.0, session="good", headset="stubborn")
    code, _ = station.run(plan, {"processes are ready": interrupt, "stopping headset": interrupt})
    assert code == EXIT_INTERRUPTED


def test_a_second_station_on_the_domain_is_refused(station: FakeStation) -> None:
    answers: list[tuple[int, str]] = []

    def second() -> None:
        output = io.StringIO()
        try:
            with DomainLock(station.domain, "robot kestrel"):
                pass
        except StationError as error:
            output.write(str(error))
        answers.append((len(station.journal("started")), output.getvalue()))

    code, _ = station.run(station.plan(), {"processes are ready": second})
    assert code == EXIT_OK
    ((_, text),) = answers
    assert (
        f"domain {station.domain} is taken by another station (process {os.getpid()}, robot kestrel)" in text
    )
    assert f"domain_id:={station.domain + 1}" in text


def test_the_lock_ends_with_its_holder(station: FakeStation) -> None:
    for _ in range(2):
        with DomainLock(station.domain, "robot kestrel"):
            pass


def test_a_leftover_node_on_the_domain_is_found(station: FakeStation, tmp_path: Path) -> None:
    """Somebody else's node of the same name: the graph tells where no lock does."""
    import rclpy
    from rclpy.context import Context
    from rclpy.node import Node

    context = Context()
    rclpy.init(args=[], context=context, domain_id=station.domain)
    leftover = Node("retargeting", namespace="/kestrel", context=context)
    try:
        code, text = station.run(station.plan(), alone=False)
    finally:
        leftover.destroy_node()
        context.shutdown()
    assert code == EXIT_BAD_ARGUMENTS, text
    assert f"domain {station.domain} has /kestrel/retargeting already" in text
    assert station.journal("started") == []
