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
TAKING = 4
SERVING = 3
PICTURES = 2

_RECEIVING, _WATCHDOG = ("dds.shm.", "dds.udp."), "dds.shm.wdog"


def prefer_thread(level: int, thread_id: int = 0) -> bool:
    """Give a thread (the calling one) the real-time priority `level`; False where it is not allowed.

    Raises `ProcessLookupError` where the thread has ended.
    """
    try:
        os.sched_setscheduler(thread_id, os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(level))
    except PermissionError:
        return False
    return True


def prefer_process(*, has_deadline: bool) -> None:
    """Give the threads of this process the real-time priorities they need, where it is allowed.

    Fast DDS's receiving threads (the middleware starts and names them) bring what the ticks wait for. In a
    process with a deadline the other threads rank before pictures too: the ticking thread may have to wait
    for one of them to let go of the interpreter or of a lock. Threads in the background stay there.
    """
    for task in Path("/proc/self/task").iterdir():
        try:
            name, thread_id = (task / "comm").read_text().strip(), int(task.name)
            if name.startswith(_RECEIVING) and name != _WATCHDOG:
                prefer_thread(RECEPTION, thread_id)
            elif has_deadline and os.sched_getscheduler(thread_id) == os.SCHED_OTHER:
                prefer_thread(SERVING, thread_id)
        except OSError:
            # It has ended.
            continue
