"""An OpenXR instance with the extensions a headless trainer needs, and what its system can do."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

from capture_nodes.sources.openxr.driver import Runtime, RuntimeFailed, failure
from capture_nodes.sources.source import SourceError

HEADLESS = "XR_MND_headless"
TIMESPEC = "XR_KHR_convert_timespec_time"
HAND_TRACKING = "XR_EXT_hand_tracking"
HAND_INTERACTION = "XR_EXT_hand_interaction"
FB_BODY = "XR_FB_body_tracking"
BD_BODY = "XR_BD_body_tracking"
BD_CONTROLLER = "XR_BD_controller_interaction"
LOCAL_FLOOR = "XR_EXT_local_floor"
LOCATE_SPACES = "XR_KHR_locate_spaces"

REQUIRED = {
    HEADLESS: "a session without pictures",
    TIMESPEC: "the time of a pose on this machine's clock",
}
OPTIONAL = (HAND_TRACKING, HAND_INTERACTION, FB_BODY, BD_BODY, BD_CONTROLLER, LOCAL_FLOOR, LOCATE_SPACES)

_HEAD_MOUNTED = 1
_NO_RUNTIME = (
    "no OpenXR runtime answers on this machine: start the headset's runtime (Monado: monado-service; WiVRn; "
    "SteamVR …) and make it the active one in its own settings, or name its manifest in XR_RUNTIME_JSON"
)
# The loader's words for: there is none, or it cannot be loaded.
_ABSENT = ("ERROR_RUNTIME_UNAVAILABLE", "ERROR_INITIALIZATION_FAILED", "ERROR_FILE_ACCESS_ERROR")


class RuntimeAbsent(RuntimeFailed):
    """There is no runtime, or it cannot start."""

    def __init__(self, call: str, reason: str) -> None:
        super().__init__(call, reason)
        self.advice = f"{_NO_RUNTIME} ({call}: {reason})"


@dataclass(frozen=True)
class System:
    """hands, fb_body, bd_body: what the *system* says it has, not only the list of extensions."""

    runtime: str
    name: str
    minor_version: int
    extensions: frozenset[str]
    hands: bool
    fb_body: bool
    bd_body: bool


class OpenInstance:
    """An instance and its headset. Raises `SourceError` where the runtime can never do, `RuntimeFailed` where
    it may later (it is not running, the headset is not plugged in).

    `close` destroys it with everything made in it, also after the runtime was lost.
    """

    def __init__(self, xr: Any) -> None:
        offered = _offered(xr)
        self.handle, minor = _create(xr, offered)
        self.runtime = Runtime(xr, self.handle)
        try:
            self.system_id = self._call("xrGetSystem", xr.get_system, self.handle, _headset(xr))
            self.system = self._describe(xr, offered, minor)
        except BaseException:
            self.close()
            raise

    def _call(self, name: str, function: Any, *arguments: Any) -> Any:
        try:
            return function(*arguments)
        except (self.runtime.xr.XrException, ValueError) as error:
            raise failure(name, error) from error

    def _describe(self, xr: Any, offered: frozenset[str], minor: int) -> System:
        said = self._call("xrGetInstanceProperties", xr.get_instance_properties, self.handle)
        version = xr.Version(said.runtime_version)
        # An extension may be there that this headset cannot fill.
        questions = {
            HAND_TRACKING: (xr.SystemHandTrackingPropertiesEXT, "supports_hand_tracking"),
            FB_BODY: (xr.SystemBodyTrackingPropertiesFB, "supports_body_tracking"),
            BD_BODY: (xr.SystemBodyTrackingPropertiesBD, "supports_body_tracking"),
        }
        answers = {
            extension: self._answer(structure(), attribute) if extension in offered else False
            for extension, (structure, attribute) in questions.items()
        }
        system = self._system_properties(None)
        return System(
            runtime=f"{said.runtime_name.decode(errors='replace')} {version}",
            name=system.system_name.decode(errors="replace"),
            minor_version=minor,
            extensions=offered,
            hands=answers[HAND_TRACKING],
            fb_body=answers[FB_BODY],
            bd_body=answers[BD_BODY],
        )

    def _answer(self, question: Any, attribute: str) -> bool:
        self._system_properties(question)
        return bool(getattr(question, attribute))

    def _system_properties(self, chained: Any) -> Any:
        xr = self.runtime.xr
        properties = xr.SystemProperties()
        if chained is not None:
            properties.next = ctypes.cast(ctypes.pointer(chained), ctypes.c_void_p)
        get = self.runtime.function(
            "xrGetSystemProperties", xr.Instance, xr.SystemId, ctypes.POINTER(xr.SystemProperties)
        )
        code = get(self.handle, self.system_id, ctypes.byref(properties))
        self.runtime.check(code, "xrGetSystemProperties")
        return properties

    def close(self) -> None:
        try:
            self.runtime.xr.destroy_instance(self.handle)
        except (self.runtime.xr.XrException, ValueError, RuntimeFailed):
            # A runtime that has gone cannot say so any more; the loader has let go of it.
            return


def _offered(xr: Any) -> frozenset[str]:
    """The extensions that are there of those we know. Raises `SourceError` where a required one is not."""
    try:
        properties = xr.enumerate_instance_extension_properties()
    except (xr.XrException, ValueError) as error:
        told = failure("xrEnumerateInstanceExtensionProperties", error)
        raise RuntimeAbsent(told.call, told.reason) from error
    there = {entry.extension_name.decode(errors="replace") for entry in properties}
    problems = [
        f"the OpenXR runtime has no {name} ({what}): source:=openxr needs one that has it, such as Monado or "
        "WiVRn; the headset's own browser does without (source:=webxr)"
        for name, what in REQUIRED.items()
        if name not in there
    ]
    if problems:
        raise SourceError(*problems)
    return frozenset(name for name in (*REQUIRED, *OPTIONAL) if name in there)


def _create(xr: Any, extensions: frozenset[str]) -> tuple[Any, int]:
    """An instance of the newest version we know and the runtime takes, and its minor version."""
    for minor in (1, 0):
        application = xr.ApplicationInfo(
            application_name="teleop_capture", api_version=xr.Version(1, minor, 0 if minor else 34)
        )
        info = xr.InstanceCreateInfo(application_info=application, enabled_extension_names=sorted(extensions))
        try:
            return xr.create_instance(info), minor
        except (xr.XrException, ValueError) as error:
            told = failure("xrCreateInstance", error)
            if told.reason == "ERROR_API_VERSION_UNSUPPORTED" and minor > 0:
                continue
            if told.reason in _ABSENT:
                raise RuntimeAbsent(told.call, told.reason) from error
            raise told from error
    raise RuntimeFailed("xrCreateInstance", "ERROR_API_VERSION_UNSUPPORTED")


def _headset(xr: Any) -> Any:
    return xr.SystemGetInfo(form_factor=xr.FormFactor(_HEAD_MOUNTED))
