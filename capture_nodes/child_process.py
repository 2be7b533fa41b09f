"""A process of a station: started in its own process group, its output taken, ended for certain."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO

from capture_nodes.station import ProcessPlan
from capture_nodes.station_arguments import ParameterValue

# What a node logs at these levels goes to its log file only.
_QUIET = re.compile(r"^(\[(INFO|DEBUG)\]|\s*$)")
_TERMINATE_AFTER_S = 3.0
_TELL_BEFORE_S = 0.2


def command_of(plan: ProcessPlan) -> list[str]:
    """The command line of a process; values are written as YAML, so that a text stays a text."""
    command = [sys.executable, "-m", plan.module, "--ros-args"]
    command += ["-r", f"__ns:={plan.namespace}", "-r", f"__node:={plan.node_name}"]
    for name, value in plan.parameters.items():
        command += ["-p", f"{name}:={_yaml(value)}"]
    return command


def _yaml(value: ParameterValue) -> str:
    if isinstance(value, float):
        mantissa, exponent, power = repr(value).partition("e")
        # YAML takes 1e-07 for a text.
        return f"{mantissa if '.' in mantissa else f'{mantissa}.0'}{exponent}{power}"
    return json.dumps(value, ensure_ascii=False)


class ChildProcess:
    """A running process; `say` gets the lines that a user should see, all lines go to `log_file`."""

    def __init__(
        self, plan: ProcessPlan, environment: Mapping[str, str], log_file: Path, say: Callable[[str], None]
    ) -> None:
        self.plan = plan
        self.log_file = log_file
        self._say = say
        self._log: IO[bytes] = log_file.open("wb")
        # Should the station itself be killed, the kernel interrupts its processes.
        setpriv = shutil.which("setpriv")
        guard = [setpriv, "--pdeathsig", "INT", "--"] if setpriv else []
        self._process = subprocess.Popen(
            [*guard, *command_of(plan)],
            env={**environment, **plan.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self._streams: dict[int, tuple[IO[bytes], bool, bytearray]] = {}
        for stream, shown in ((self._process.stdout, False), (self._process.stderr, True)):
            if stream is not None:
                os.set_blocking(stream.fileno(), False)
                self._streams[stream.fileno()] = (stream, shown, bytearray())
        self._signals: list[tuple[float, signal.Signals]] = []
        self._signals_sent = False

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; minus the signal's number where a signal ended it."""
        return self._process.poll()

    def ending(self) -> str:
        code = self.exit_code
        if code is None:
            return "is running"
        if code < 0:
            return f"was killed by {signal.Signals(-code).name}"
        return f"ended with exit code {code}"

    def take_output(self) -> None:
        """Move what the process has written to its log file and, where it matters, to the user."""
        for descriptor, (stream, shown, rest) in list(self._streams.items()):
            while True:
                try:
                    data = os.read(descriptor, 65536)
                except BlockingIOError:
                    break
                if not data:
                    self._lines(rest + b"\n" if rest else b"", shown)
                    stream.close()
                    del self._streams[descriptor]
                    break
                rest += data
                complete, newline, tail = bytes(rest).rpartition(b"\n")
                self._lines(complete + newline, shown)
                rest[:] = tail

    def _lines(self, data: bytes | bytearray, shown: bool) -> None:
        if not data:
            return
        self._log.write(data)
        if shown:
            for line in data.decode("utf-8", "replace").splitlines():
                # A program interrupted while it starts shows where it was: that is for the log.
                if not _QUIET.match(line) and (not self._signals_sent or "error:" in line.lower()):
                    self._say(f"[{self.plan.name}] {line}")

    def stop(self) -> None:
        """Ask it to end; `escalate` follows up when it does not."""
        if not self._signals_sent:
            now = time.monotonic()
            self._signals = _last_signals(now + self.plan.stop_timeout_s)
            self._send(signal.SIGINT)

    def hurry(self) -> None:
        """Shorten the waiting: SIGTERM now, SIGKILL soon."""
        self._signals = _last_signals(time.monotonic())

    def escalate(self) -> None:
        """Send the next signal where its time has come."""
        while self._signals and self.exit_code is None and time.monotonic() >= self._signals[0][0]:
            _, number = self._signals.pop(0)
            self._say(f"{self.plan.name} does not end by itself; sending {number.name}")
            self._send(number)

    def _send(self, number: signal.Signals) -> None:
        self._signals_sent = True
        if self.exit_code is None:
            self._process.send_signal(number)

    def close(self) -> None:
        """After its end: take the last output, and end whatever it has left in its process group."""
        self.take_output()
        for stream, _, _ in self._streams.values():
            stream.close()
        self._streams.clear()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self._log.close()


def _last_signals(terminate_s: float) -> list[tuple[float, signal.Signals]]:
    """When to send what; at SIGQUIT a node of ours writes into its log what it hangs in."""
    kill_s = terminate_s + _TERMINATE_AFTER_S
    return [
        (terminate_s, signal.SIGTERM),
        (kill_s - _TELL_BEFORE_S, signal.SIGQUIT),
        (kill_s, signal.SIGKILL),
    ]
