"""The processes of one run: started in a domain of their own, ended in order, never left behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

from capture_nodes.errors import CaptureError

REPOSITORY = Path(__file__).resolve().parents[2]
_END_S = 30.0
_TELLING_S = 0.5


class RunProcesses:
    """Outputs go to ``folder/<name>.log``; ``real_time`` False takes the right to real-time priority away."""

    def __init__(self, folder: Path, environment: Mapping[str, str], real_time: bool) -> None:
        self._folder = folder
        self._environment = dict(environment)
        path = self._environment.get("PYTHONPATH", "")
        self._environment["PYTHONPATH"] = os.pathsep.join([str(REPOSITORY), *([path] if path else [])])
        self._guard = _without_real_time() if not real_time else []
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        self._logs: dict[str, IO[bytes]] = {}

    def start_module(self, name: str, module: str, arguments: Sequence[str], **environment: str) -> int:
        """Start a Python module and answer its process id. ``arguments`` are ROS's."""
        command = [
            sys.executable,
            "-m",
            "benchmarks.recorder.named_threads",
            module,
            "--ros-args",
            *arguments,
        ]
        return self.start(name, command, **environment)

    def start(self, name: str, command: Sequence[str], **environment: str) -> int:
        log = self._logs[name] = (self._folder / f"{name}.log").open("wb")
        self._processes[name] = subprocess.Popen(
            [*self._guard, *command],
            env={**self._environment, **environment},
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        return self._processes[name].pid

    def pid(self, name: str) -> int:
        return self._processes[name].pid

    def check(self) -> None:
        """Raises `CaptureError` where a process has ended that should run."""
        for name, process in self._processes.items():
            if process.poll() is not None:
                raise CaptureError(f"{name} ended with {process.returncode}:\n{self.tail(name)}")

    def tail(self, name: str) -> str:
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(line[:400] for line in lines[-15:])

    def kill(self, name: str) -> None:
        """SIGKILL one process; it may be started again under its name."""
        process = self._processes.pop(name)
        process.kill()
        process.wait()
        self._logs.pop(name).close()

    def where_it_hangs(self, name: str) -> str:
        """What a process of ours writes of its threads when it is asked, the end of its log."""
        self._processes[name].send_signal(signal.SIGQUIT)
        time.sleep(_TELLING_S)
        lines = (self._folder / f"{name}.log").read_text(errors="replace").splitlines()
        return "\n".join(line[:200] for line in lines[-80:])

    def end(self, names: Sequence[str], number: int = signal.SIGINT) -> None:
        """Interrupt processes and wait for them. Raises `CaptureError` where one does not end well."""
        for name in names:
            self._processes[name].send_signal(number)
        deadline_s = time.monotonic() + _END_S
        problems = []
        for name in names:
            process = self._processes.pop(name)
            try:
                process.wait(max(0.1, deadline_s - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                problems.append(f"{name} did not end within {_END_S:g} s")
            self._logs.pop(name).close()
            if process.returncode not in (0, -number) and not problems:
                problems.append(f"{name} ended with {process.returncode}:\n{self.tail(name)}")
        if problems:
            raise CaptureError("\n".join(problems))

    def close(self) -> None:
        """Kill what is still there."""
        for process in self._processes.values():
            process.kill()
            process.wait()
        for log in self._logs.values():
            log.close()
        self._processes.clear()
        self._logs.clear()


def _without_real_time() -> list[str]:
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise CaptureError("--no-real-time needs the program setpriv (util-linux)")
    return [setpriv, "--bounding-set", "-sys_nice", "--"]
