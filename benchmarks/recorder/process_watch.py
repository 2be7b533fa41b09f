"""What a process costs, read from /proc: processor time with its children, by thread, and memory."""

from __future__ import annotations

import os
import threading
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class CpuSample:
    """At steady time ``at_s``: user and system time (s) since the start; ``threads``: tid -> (name, s)."""

    at_s: float
    cpu_s: float
    user_s: float
    threads: dict[int, tuple[str, float]]


@dataclass(frozen=True)
class CpuUse:
    """Between two samples: processor seconds, and the cores that the threads of each name kept busy."""

    seconds: float
    cpu_s: float
    user_s: float
    cores_by_thread: dict[str, float]

    @property
    def cores(self) -> float:
        return self.cpu_s / self.seconds


def cpu_times(stat: str) -> tuple[float, float]:
    """``(user, system)`` (s) of `/proc/<pid>/stat`, children that were waited for included."""
    # The name in brackets may hold blanks and brackets itself.
    fields = stat[stat.rindex(")") + 2 :].split()
    user, system, children_user, children_system = (int(value) for value in fields[11:15])
    return (user + children_user) * _TICK_S, (system + children_system) * _TICK_S


def sample(pid: int) -> CpuSample:
    """Of a process and its living descendants. Raises `ProcessLookupError` where it has ended."""
    user_s = system_s = 0.0
    threads: dict[int, tuple[str, float]] = {}
    at_s = time.monotonic()
    for process in _with_descendants(pid):
        try:
            user, system = cpu_times(Path(f"/proc/{process}/stat").read_text())
            user_s += user
            system_s += system
            for task in Path(f"/proc/{process}/task").iterdir():
                # A thread may end while it is looked at; the process is known to have used its time.
                with suppress(FileNotFoundError, ProcessLookupError):
                    # Nanoseconds on a processor; the times of `stat` are whole ticks.
                    run_ns = int((task / "schedstat").read_text().split()[0])
                    threads[int(task.name)] = ((task / "comm").read_text().strip(), 1e-9 * run_ns)
        except OSError as error:
            if process == pid:
                raise ProcessLookupError(f"process {pid} has ended") from error
    return CpuSample(at_s, user_s + system_s, user_s, threads)


def use_between(begin: CpuSample, end: CpuSample) -> CpuUse:
    """What was used; threads of one name are added up, names with a number as one (`dds.shm.7411`)."""
    seconds = end.at_s - begin.at_s
    cores: dict[str, float] = {}
    for thread, (name, cpu_s) in end.threads.items():
        used_s = cpu_s - begin.threads.get(thread, ("", 0.0))[1]
        group = name.rstrip("0123456789").rstrip(".:_- ") or name
        cores[group] = cores.get(group, 0.0) + used_s / seconds
    return CpuUse(seconds, end.cpu_s - begin.cpu_s, end.user_s - begin.user_s, cores)


def machine_busy_s() -> float:
    """Processor seconds that the whole machine was busy since its start, stolen time included."""
    user, nice, system, _, _, interrupts, soft, stolen = (
        int(value) for value in Path("/proc/stat").read_text().split()[1:9]
    )
    return (user + nice + system + interrupts + soft + stolen) * _TICK_S


def resident_bytes(pid: int) -> int:
    """Memory of the process that is neither a file nor shared with others."""
    fields = Path(f"/proc/{pid}/statm").read_text().split()
    return (int(fields[1]) - int(fields[2])) * _PAGE_BYTES


def _with_descendants(pid: int) -> list[int]:
    found, left = [pid], [pid]
    while left:
        process = left.pop()
        try:
            tasks = list(Path(f"/proc/{process}/task").iterdir())
        except OSError:
            continue
        children: list[int] = []
        for task in tasks:
            with suppress(OSError):
                children += map(int, (task / "children").read_text().split())
        found += children
        left += children
    return found


@dataclass
class MemoryWatch:
    """Memory of a process once in a while, in a thread of its own, until `stop`."""

    pid: int
    period_s: float = 0.5
    times_s: list[float] = field(default_factory=list)
    bytes: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                resident = resident_bytes(self.pid)
            except OSError:
                return
            self.times_s.append(time.monotonic())
            self.bytes.append(resident)
            if self._ending.wait(self.period_s):
                return

    def stop(self) -> None:
        self._ending.set()
        self._thread.join()


def growth_per_minute(times_s: list[float], values: list[int]) -> float:
    """Slope of a line through the second half of the values, per minute: 0 where memory is flat."""
    half = len(times_s) // 2
    if len(times_s) - half < 3:
        return float("nan")
    slope = np.polyfit(np.array(times_s[half:]) - times_s[half], np.array(values[half:], float), 1)[0]
    return 60.0 * float(slope)
