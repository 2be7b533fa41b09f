"""Work that nobody waits for: run after everybody else, also in a process that has a deadline."""

from __future__ import annotations

import os
import threading

BACKGROUND_NICE = 10


def work_in_background() -> None:
    """Of the calling thread. `SCHED_BATCH` tells it from those that a process with a deadline prefers."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), BACKGROUND_NICE)
