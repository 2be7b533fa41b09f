"""The runtime's clock and this machine's steady clock (`XR_KHR_convert_timespec_time`)."""

from __future__ import annotations

import ctypes
import time

from capture_nodes.sources.openxr.driver import Runtime

_NS = 1_000_000_000
_TRIES = 8


class DeviceTime:
    """XrTime counts from wherever the runtime likes; only the runtime converts it.

    `offset_ns` is XrTime less the steady clock at the last conversion; `uncertainty_ns` the largest
    difference seen when a moment was converted there and back.
    """

    def __init__(self, runtime: Runtime) -> None:
        xr = runtime.xr
        moment, stamp = ctypes.POINTER(xr.timespec), ctypes.POINTER(ctypes.c_int64)
        self._runtime = runtime
        self._to_xr = runtime.function("xrConvertTimespecTimeToTimeKHR", xr.Instance, moment, stamp)
        self._from_xr = runtime.function(
            "xrConvertTimeToTimespecTimeKHR", xr.Instance, ctypes.c_int64, moment
        )
        self._timespec = xr.timespec()
        self._moment = ctypes.byref(self._timespec)
        self._time = ctypes.c_int64()
        self._stamp = ctypes.byref(self._time)
        self.offset_ns = 0
        self.uncertainty_ns = 0
        for _ in range(_TRIES):
            self.check()

    def now(self) -> tuple[int, int]:
        """XrTime and steady time (ns) of one and the same moment."""
        steady_ns = time.monotonic_ns()
        self._timespec.tv_sec, self._timespec.tv_nsec = divmod(steady_ns, _NS)
        code = self._to_xr(self._runtime.instance, self._moment, self._stamp)
        self._runtime.check(code, "xrConvertTimespecTimeToTimeKHR")
        self.offset_ns = self._time.value - steady_ns
        return self._time.value, steady_ns

    def check(self) -> None:
        """Convert a moment there and back."""
        xr_time, steady_ns = self.now()
        code = self._from_xr(self._runtime.instance, xr_time, self._moment)
        self._runtime.check(code, "xrConvertTimeToTimespecTimeKHR")
        back_ns = int(self._timespec.tv_sec) * _NS + int(self._timespec.tv_nsec)
        self.uncertainty_ns = max(self.uncertainty_ns, abs(back_ns - steady_ns))
