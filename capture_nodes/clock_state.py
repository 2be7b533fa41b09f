"""Whether the station's clock is kept by a time service, and how far off it may be."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

# Linux, <sys/timex.h>.
_TIME_ERROR = 5


class _NtpTime(ctypes.Structure):
    _fields_ = [
        ("seconds", ctypes.c_long),
        ("microseconds", ctypes.c_long),
        ("maximum_error_us", ctypes.c_long),
        ("estimated_error_us", ctypes.c_long),
        ("tai_offset_s", ctypes.c_long),
        ("reserved", ctypes.c_long * 4),
    ]


@dataclass(frozen=True)
class ClockState:
    """`synchronized`: kept by NTP or PTP; errors in seconds, None where the system does not say."""

    synchronized: bool | None = None
    estimated_error_s: float | None = None
    maximum_error_s: float | None = None


def clock_state() -> ClockState:
    """What the kernel says of the system clock (`ntp_gettime`); all None where it says nothing."""
    said = _NtpTime()
    try:
        state = ctypes.CDLL(None).ntp_gettime(ctypes.byref(said))
    except (OSError, AttributeError):
        return ClockState()
    if state < 0:
        return ClockState()
    return ClockState(state != _TIME_ERROR, said.estimated_error_us * 1e-6, said.maximum_error_us * 1e-6)
