"""An end that nothing can prevent.

Fast DDS 3.2 may lock up while a participant is taken down: its event thread waits for the discovery's lock in
`PDP::set_next_announcement_interval`, and who holds that waits for the event thread in
`TimedEvent::recreate_timer`. rclpy holds the interpreter meanwhile, so neither a signal handler nor a thread
of Python gets to run.
"""

from __future__ import annotations

import ctypes
import os
import sys
from typing import NoReturn

_SIGEV_THREAD, _CLOCK_MONOTONIC = 2, 1


class _SigEvent(ctypes.Structure):
    """`struct sigevent` of 64-bit Linux, 64 bytes."""

    _fields_ = (
        ("value", ctypes.c_uint64),
        ("signo", ctypes.c_int),
        ("notify", ctypes.c_int),
        ("function", ctypes.c_void_p),
        ("attributes", ctypes.c_void_p),
        ("padding", ctypes.c_uint8 * 32),
    )


class _TimeSpec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _TimerSpec(ctypes.Structure):
    _fields_ = (("interval", _TimeSpec), ("value", _TimeSpec))


def exit_at_once(code: int) -> NoReturn:
    """End this process without taking anything down; standard output and error are flushed."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def exit_within(seconds: float, code: int) -> None:
    """End this process with exit code ``code`` if it still runs after ``seconds``, whatever it hangs in.

    The C library's own timer calls `_exit`. Everything that matters has to be done before; standard output
    and error are flushed here. Where the system has no such timers nothing happens.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        library = ctypes.CDLL(None, use_errno=True)
        create, settime, leave = library.timer_create, library.timer_settime, library._exit
    except (OSError, AttributeError):
        return
    event = _SigEvent(
        value=code & 0xFF,
        notify=_SIGEV_THREAD,
        function=ctypes.cast(leave, ctypes.c_void_p).value,
    )
    timer = ctypes.c_void_p()
    if create(_CLOCK_MONOTONIC, ctypes.byref(event), ctypes.byref(timer)) != 0:
        return
    whole = int(seconds)
    at = _TimeSpec(whole, round((seconds - whole) * 1e9))
    settime(timer, 0, ctypes.byref(_TimerSpec(_TimeSpec(0, 0), at)), None)
