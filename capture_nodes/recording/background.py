"""Work that nobody waits for: run after everybody else, also in a process that has a deadline."""

from __future__ import annotations

import contextlib
import os
import threading

BACKGROUND_NICE = 10


def work_in_background() -> None:
    """Of the calling thread. `SCHED_BATCH` tells it from those that a process with a deadline prefers."""
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    # A process that was begun with less (`nice -n 19`) may not take more.
    _set_nice(max(BACKGROUND_NICE, _nice()))


class Background:
    """The calling thread works in the background, until it hurries: then like any other, where it may."""

    def __init__(self) -> None:
        self._usual = _nice()
        work_in_background()
        self._nice = _nice()
        self._hurried = False

    def hurry(self, wanted: bool) -> None:
        if wanted != self._hurried:
            self._hurried = wanted
            # A rank that was given away may only be taken back by who has the right to it.
            with contextlib.suppress(PermissionError):
                _set_nice(self._usual if wanted else self._nice)


def _nice() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def _set_nice(value: int) -> None:
    os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), value)
