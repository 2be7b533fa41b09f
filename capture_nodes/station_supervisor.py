"""Carries out a station's plan: starts the processes, watches them, ends them in order.

Whatever happens, no process and no shared-memory file of this station stays behind: processes run
in groups of their own, get SIGINT, then SIGTERM, then SIGKILL, and the kernel interrupts them
should this process be killed itself.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from types import FrameType
from typing import Any, TextIO

import rclpy
from diagnostic_msgs.msg import DiagnosticStatus
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.signals import SignalHandlerOptions
from std_msgs.msg import Bool

from capture_nodes.child_process import ChildProcess
from capture_nodes.recording.recordings_folder import TRASH
from capture_nodes.shared_memory import dds_files, remove_orphans
from capture_nodes.station import (
    EXIT_BAD_ARGUMENTS,
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PROCESS_DIED,
    ProcessPlan,
    StationPlan,
)
from capture_nodes.station_arguments import StationError
from capture_nodes.station_lock import DomainLock, free_domain_hint
from capture_nodes.station_status import StationStatus, StatusLine
from capture_nodes.topics import EMERGENCY_STOP, latched_qos

# Long enough to discover the nodes of another station on this machine before ours start.
_DISCOVERY_S, _DISCOVERY_LOOKS = 1.2, 50
# How soon the death of a process is seen, and the robot stopped.
_STEP_S = 0.02
_COMING_TO_REST_S = 0.7
_REPORTING_NODE = "recorder"
# How closely a hand follows depends on the robot and the motion too: the table tells it.
_JUDGED = "streams,limits,frames,grasp"


class StationNode(Node):
    """Listens to the states of all nodes of the plan."""

    def __init__(self, plan: StationPlan, status: StationStatus) -> None:
        super().__init__("station", namespace=plan.namespace, enable_rosout=False)
        self._status = status
        self._emergency_stop = self.create_publisher(Bool, EMERGENCY_STOP, latched_qos())
        # Every callback is kept by its subscription.
        for process in plan.processes:
            self.create_subscription(
                DiagnosticStatus,
                f"{process.fully_qualified_name}/state",
                lambda message, name=process.name: self._on_state(name, message),
                latched_qos(),
            )
            if process.name == _REPORTING_NODE:
                self.create_subscription(
                    DiagnosticStatus,
                    f"{process.fully_qualified_name}/episode",
                    self._on_episode,
                    latched_qos(),
                )

    def _on_state(self, name: str, message: Any) -> None:
        values = {item.key: item.value for item in message.values}
        self._status.states[name] = message.message
        self._status.reasons[name] = values.get("reason", "")
        if name == "session":
            self._status.session = values

    def _on_episode(self, message: Any) -> None:
        self._status.episode_state = message.message
        self._status.episode = {item.key: item.value for item in message.values}

    def stop_robot(self) -> None:
        """Set the robot's emergency stop."""
        self._emergency_stop.publish(Bool(data=True))

    def counted_names(self) -> Counter[str]:
        """How many nodes of each fully qualified name are on the graph."""
        return Counter(
            f"{namespace.rstrip('/')}/{name}" for name, namespace in self.get_node_names_and_namespaces()
        )


class Supervisor:
    """Runs one station; `run` answers the exit code.

    `at_the_end` is told that code when only this process's own DDS participant is left to be taken down.
    """

    def __init__(
        self,
        plan: StationPlan,
        output: TextIO | None = None,
        at_the_end: Callable[[int], None] | None = None,
    ) -> None:
        self._plan = plan
        self._at_the_end = at_the_end
        self._status = StationStatus()
        self._line = StatusLine(output if output is not None else sys.stdout)
        self._children: dict[str, ChildProcess] = {}
        self._interrupts = 0
        self._started_ns = 0

    # ---- the whole run

    def run(self) -> int:
        self._dds_files_before = dds_files()
        os.environ.update(self._plan.environment)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in handlers:
            signal.signal(number, self._on_signal)
        try:
            with DomainLock(self._plan.domain_id, f"robot {self._plan.robot}"):
                code = self._run_locked()
        except StationError as error:
            self._say_problems(error)
            code = EXIT_BAD_ARGUMENTS
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
            remove_orphans(self._dds_files_before)
            self._line.close()
        return code

    def _run_locked(self) -> int:
        self._plan.report_path.unlink(missing_ok=True)
        rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
        self._node = StationNode(self._plan, self._status)
        self._executor = SingleThreadedExecutor()
        self._executor.add_node(self._node)
        code = EXIT_BAD_ARGUMENTS
        try:
            code = self._run_and_conclude()
        finally:
            if self._at_the_end is not None:
                self._at_the_end(code)
            self._executor.shutdown()
            self._node.destroy_node()
            rclpy.try_shutdown()
        return code

    def _run_and_conclude(self) -> int:
        try:
            self._refuse_a_second_station()
            code = self._operate()
        except StationError as error:
            self._say_problems(error)
            return EXIT_BAD_ARGUMENTS
        finally:
            self._stop_all()
            # Those of this process are in use until the end.
            remove_orphans(self._dds_files_before)
        return self._conclude(code) if self._children else code

    def _say_problems(self, error: StationError) -> None:
        for problem in error.problems:
            self._line.say(f"station: error: {problem}")

    def _operate(self) -> int:
        """Start, wait until all are ready, and until the session has ended."""
        self._start_all()
        code = self._wait_until_ready()
        if code is not None:
            return code
        plan = self._plan
        if plan.has_session:
            self._line.say(f"all {len(plan.processes)} processes are ready; recording into {plan.root}")
        else:
            self._line.say(
                f"all {len(plan.processes)} processes are ready; no session: Ctrl-C ends the station"
            )
        while True:
            self._step()
            if self._interrupts:
                self._line.say("interrupted; the episode at hand is completed")
                return EXIT_INTERRUPTED
            # Before the session's word: it may only have seen what the death of another led to.
            dead = self._dead()
            if dead:
                self._node.stop_robot()
                self._tell_dead(dead)
                self._watch_the_rest()
                return EXIT_PROCESS_DIED
            state = self._status.states.get("session")
            if state == "finished" or self._session_exit_code() == EXIT_OK:
                return EXIT_OK
            if state == "failed":
                reason = self._status.reasons.get("session", "") or "no reason given"
                self._line.say(f"station: error: the session failed: {reason}")
                return EXIT_FAILED
            self._line.show(self._status.line())

    # ---- start

    def _refuse_a_second_station(self) -> None:
        """A domain where our nodes are on the graph already moves somebody else's robot."""
        planned = {process.fully_qualified_name for process in self._plan.processes}
        deadline = time.monotonic() + _DISCOVERY_S
        looks = 0
        # On a machine that hardly lets this process run, as many looks take longer.
        while time.monotonic() < deadline or looks < _DISCOVERY_LOOKS:
            looks += 1
            self._executor.spin_once(timeout_sec=_STEP_S)
            self._refuse(planned & self._node.counted_names().keys())

    def _refuse_twins(self) -> None:
        """Somebody else's node of the same name that was found only after ours had started."""
        counted = self._node.counted_names()
        self._refuse(
            {p.fully_qualified_name for p in self._plan.processes if counted[p.fully_qualified_name] > 1}
        )

    def _refuse(self, present: Collection[str]) -> None:
        if present:
            raise StationError(
                [
                    f"domain {self._plan.domain_id} has {', '.join(sorted(present))} already: another "
                    "station or a leftover node; stop it, or give this station its own domain, for "
                    f"example domain_id:={free_domain_hint(self._plan.domain_id)}"
                ]
            )

    def _start_all(self) -> None:
        logs = self._plan.root / ".station" / f"logs_domain_{self._plan.domain_id}"
        logs.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._plan.environment}
        self._line.say(
            f"robot {self._plan.robot}, source {self._plan.arguments.source}, domain {self._plan.domain_id}: "
            f"starting {', '.join(p.name for p in self._plan.processes)} (logs in {logs})"
        )
        # The recorder first: it must not miss the first messages of the others.
        for process in reversed(self._plan.processes):
            self._children[process.name] = ChildProcess(
                process, environment, logs / f"{process.name}.log", self._line.say
            )

    def _wait_until_ready(self) -> int | None:
        """None when every node has told its first state; an exit code where that did not come about."""
        started = time.monotonic()
        while True:
            self._step()
            missing = [p for p in self._plan.processes if p.name not in self._status.states]
            if self._interrupts:
                self._line.say("interrupted while starting")
                return EXIT_INTERRUPTED
            dead = self._dead()
            if dead:
                self._tell_dead(dead)
                codes = {child.exit_code for child in dead}
                return EXIT_BAD_ARGUMENTS if codes == {EXIT_BAD_ARGUMENTS} else EXIT_PROCESS_DIED
            if not missing:
                self._refuse_twins()
                return None
            waited_s = time.monotonic() - started
            late = [p for p in missing if waited_s > p.ready_timeout_s]
            if late:
                for process in late:
                    self._line.say(self._not_ready_text(process))
                return EXIT_PROCESS_DIED
            self._line.show(f"waiting for {', '.join(p.name for p in missing)} ({waited_s:.0f} s)")

    def _not_ready_text(self, process: ProcessPlan) -> str:
        return (
            f"station: error: {process.name} ({process.fully_qualified_name}) was not ready within "
            f"{process.ready_timeout_s:g} s; its output is in {self._children[process.name].log_file}; "
            "a slow machine needs ready_timeout_s:=…"
        )

    # ---- while it runs

    def _step(self) -> None:
        self._executor.spin_once(timeout_sec=_STEP_S)
        for child in self._children.values():
            child.take_output()

    def _dead(self) -> list[ChildProcess]:
        """Required processes that ended although nobody asked them to."""
        return [c for c in self._children.values() if c.exit_code is not None and self._needed(c)]

    def _needed(self, child: ChildProcess) -> bool:
        if child.plan.name == "session" and self._status.states.get("session") in ("finished", "failed"):
            return False
        return child.plan.required

    def _session_exit_code(self) -> int | None:
        session = self._children.get("session")
        return None if session is None else session.exit_code

    def _tell_dead(self, dead: Iterable[ChildProcess]) -> None:
        for child in dead:
            child.take_output()
            self._line.say(
                f"station: error: {child.plan.name} {child.ending()}; stopping the others "
                f"(its output is in {child.log_file})"
            )

    def _watch_the_rest(self) -> None:
        """How the robot comes to rest after its emergency stop is still recorded."""
        until = time.monotonic() + _COMING_TO_REST_S
        while time.monotonic() < until and not self._interrupts:
            self._step()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1

    # ---- end

    def _stop_all(self) -> None:
        """All but the recorder first: it hears their final counts, then ends itself."""
        last = [c for c in self._children.values() if c.plan.name == _REPORTING_NODE]
        first = [
            self._children[p.name]
            for p in self._plan.processes
            if p.name in self._children and p.name != _REPORTING_NODE
        ]
        for group in (first, last):
            self._stop(group)
        for child in self._children.values():
            child.close()

    def _stop(self, group: list[ChildProcess]) -> None:
        interrupts = self._interrupts
        for child in group:
            child.stop()
        while any(child.exit_code is None for child in group):
            self._step()
            for child in group:
                child.escalate()
            if self._interrupts > interrupts:
                interrupts = self._interrupts
                for child in group:
                    child.hurry()
            running = [child.plan.name for child in group if child.exit_code is None]
            if running:
                self._line.show(f"stopping {', '.join(running)}")

    def _conclude(self, code: int) -> int:
        """Tell what was recorded; a loss, or an episode that fails its check, is a failure."""
        for child in self._children.values():
            if code == EXIT_OK and child.exit_code not in (0, None):
                self._line.say(
                    f"station: error: {child.plan.name} {child.ending()} (output in {child.log_file})"
                )
                code = EXIT_FAILED
        report = self._read_report()
        if report is None:
            return code
        lost = int(report.get("lost_in_episodes", report.get("lost", 0)))
        self._line.say(
            f"run: {report.get('published', 0):,} messages published, "
            f"{report.get('received', 0):,} received, {report.get('lost', 0):,} lost, "
            f"of these {lost:,} during episodes"
        )
        if lost and code == EXIT_OK:
            self._line.say(f"station: error: {lost} messages were lost during episodes")
            code = EXIT_FAILED
        paths = [Path(e["path"]) for e in report.get("episodes", []) if e.get("path")]
        paths = [path for path in paths if path.is_file() and TRASH not in path.parts]
        if paths and not self._tell_episodes(paths) and code == EXIT_OK:
            code = EXIT_FAILED
        return code

    def _read_report(self) -> dict[str, Any] | None:
        path = self._plan.report_path
        try:
            report = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self._line.say(f"station: warning: the recorder left no report ({path})")
            return None
        except (OSError, ValueError) as error:
            self._line.say(f"station: warning: the recorder's report {path} cannot be read: {error}")
            return None
        return report if isinstance(report, dict) else None

    def _tell_episodes(self, paths: list[Path]) -> bool:
        """The table of the episodes, and their pictures where asked for; false where a check failed."""
        names = [str(path) for path in paths]
        self._line.close()
        good = self._episodes_command("table", *names, shown=True)
        if self._plan.arguments.pictures:
            good = self._episodes_command("picture", *names, shown=True) and good
        return self._episodes_command("check", "--only", _JUDGED, *names, shown=False) and good

    def _episodes_command(self, *words: str, shown: bool) -> bool:
        """Run an `episodes` command; its output is shown always, or only where it fails."""
        result = subprocess.run(
            [sys.executable, "-m", "episodes.cli", *words],
            check=False,
            text=True,
            stdout=None if shown else subprocess.PIPE,
            stderr=None if shown else subprocess.STDOUT,
        )
        if result.returncode == 0:
            return True
        command = " ".join(word for word in words if not word.startswith("/"))
        self._line.say(
            f"{result.stdout or ''}station: error: `episodes {command}` ended with exit code "
            f"{result.returncode}"
        )
        return False
