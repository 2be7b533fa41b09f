"""Which threads run first when the machine is busy.

A robot's tick must not wait for a picture to be rendered. Threads with a deadline ask for real-time
priority, which root and users with an `rtprio` limit may have.
"""

from __future__ import annotations

import os
from pathlib import Path

# Real-time levels (1..99): kernel threads that matter run at 50 and above.
PHYSICS = 20
COMMANDS = 15
MOTION = 10
RECEPTION = 5
PICTURES = 2

_RECEIVING, _WATCHDOG = "dds.shm.", "dds.shm.wdog"


def prefer_thread(level: int) -> bool:
    """Give the calling thread the real-time priority `level`; False where the system does not allow it."""
    try:
        os.sched_setscheduler(0, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(level))
    except PermissionError:
        return False
    return True


def prefer_reception() -> int:
    """Give Fast DDS's receiving threads of this process a real-time priority; how many have it now.

    They are started by the middleware, which names them; what they bring is what the ticks wait for.
    """
    preferred = 0
    for task in Path("/proc/self/task").iterdir():
        try:
            name = (task / "comm").read_text().strip()
            if name.startswith(_RECEIVING) and name != _WATCHDOG:
                flags = os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
                os.sched_setscheduler(int(task.name), flags, os.sched_param(RECEPTION))
                preferred += 1
        except OSError:
            # It has ended, or the system does not allow it.
            continue
    return preferred
