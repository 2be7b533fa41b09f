"""pyopenxr, imported when somebody asks for the source and not before; and calls past its wrappers.

Some of its wrappers cannot work (`locate_hand_joints_ext` and `locate_body_joints_fb` pass no joint array),
and all of them look their function up and make an enum of the result at each call. What is called for every
frame goes to the runtime's function directly.
"""

from __future__ import annotations

import ctypes
import importlib
from collections.abc import Callable
from typing import Any

from capture_nodes.sources.source import SourceError

PACKAGE = "pyopenxr"
_FROM = "requirements/openxr.txt; the Python package index: pip install pyopenxr"

SUCCESS = 0
SESSION_LOSS_PENDING = 3
EVENT_UNAVAILABLE = 4
SESSION_NOT_FOCUSED = 8
TIME_INVALID = -30


class RuntimeFailed(Exception):
    """A call that the runtime answered with an error: the session has to be made anew."""

    def __init__(self, call: str, reason: str) -> None:
        self.call, self.reason = call, reason
        super().__init__(f"{call}: {reason}")


def load_pyopenxr() -> Any:
    """The module `xr`. Raises `SourceError` with what has to be installed."""
    try:
        return importlib.import_module("xr")
    except ModuleNotFoundError as error:
        if error.name == "xr":
            raise SourceError(f"source:=openxr needs the Python package {PACKAGE} ({_FROM})") from error
        raise SourceError(
            f"{PACKAGE} cannot be imported: its dependency {error.name} is missing ({_FROM})"
        ) from error
    except (AttributeError, ImportError, OSError) as error:
        # PyOpenGL, which it imports, fails in many ways where there is no libGL.
        try:
            ctypes.CDLL("libGL.so.1")
        except OSError:
            raise SourceError(
                f"{PACKAGE} cannot be imported without libGL.so.1 (Debian: apt-get install libgl1)"
            ) from error
        raise SourceError(f"{PACKAGE} cannot be imported: {error} (from {_FROM})") from error


class Runtime:
    """The functions of an instance's runtime, by name and with their arguments' types."""

    def __init__(self, xr: Any, instance: Any) -> None:
        self.xr = xr
        self.instance = instance

    def function(self, name: str, *argument_types: Any) -> Callable[..., int]:
        """The result of the function is checked by `check`; raises `RuntimeFailed` where it is not there."""
        pointer = self.xr.PFN_xrVoidFunction()
        code = int(
            self.xr.raw_functions.xrGetInstanceProcAddr(self.instance, name.encode(), ctypes.byref(pointer))
        )
        address = ctypes.cast(pointer, ctypes.c_void_p).value
        if code < 0 or address is None:
            raise RuntimeFailed(name, result_name(self.xr, code))
        # Without errno or the interpreter's lock held: a runtime may take its time.
        return ctypes.CFUNCTYPE(ctypes.c_int, *argument_types)(address)

    def check(self, code: int, call: str) -> int:
        """`code` where it is a success; raises `RuntimeFailed` otherwise."""
        if code < 0 or code == SESSION_LOSS_PENDING:
            raise RuntimeFailed(call, result_name(self.xr, code))
        return code


def result_name(xr: Any, code: int) -> str:
    try:
        return str(xr.Result(code).name)
    except ValueError:
        return f"result {code}"


def failure(call: str, error: Exception) -> RuntimeFailed:
    """What pyopenxr raised for a call, said in OpenXR's words."""
    result = getattr(error, "get_result_enum", lambda: None)()
    return RuntimeFailed(call, result.name if result is not None else f"{type(error).__name__}: {error}")
