"""The test's side of the test runtime: writes the script, reads what happened. Its twin in C is script.h."""

from __future__ import annotations

import ctypes
import json
import mmap
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ctypes import c_double, c_float, c_int32, c_int64, c_uint32, c_uint64
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
ENVIRONMENT = "TELEOP_TEST_OPENXR_SCRIPT"

EXTENSIONS = (
    "XR_MND_headless",
    "XR_KHR_convert_timespec_time",
    "XR_EXT_hand_tracking",
    "XR_EXT_hand_interaction",
    "XR_FB_body_tracking",
    "XR_BD_body_tracking",
    "XR_BD_controller_interaction",
    "XR_EXT_local_floor",
    "XR_KHR_locate_spaces",
)
PROFILES = ("none", "touch", "index", "vive", "pico 4", "pico neo 3", "hands", "simple")
COMPONENTS = (
    "trigger/value",
    "squeeze/value",
    "squeeze/force",
    "squeeze/click",
    "thumbstick/x",
    "thumbstick/y",
    "thumbstick/click",
    "x/click",
    "y/click",
    "a/click",
    "b/click",
    "menu/click",
    "select/click",
    "trackpad/x",
    "trackpad/y",
    "trackpad/click",
    "pinch_ext/value",
    "pinch_ext/ready_ext",
    "grasp_ext/value",
    "grasp_ext/ready_ext",
)
HAND_JOINTS, FB_JOINTS, BD_JOINTS = 26, 70, 24
VALID, TRACKED = 3, 15
UPRIGHT = (0.0, 0.0, 0.0, 1.0)


class ScriptedPose(ctypes.Structure):
    _fields_ = (
        ("position", c_double * 3),
        ("orientation", c_double * 4),
        ("velocity", c_double * 3),
        ("spin", c_double * 3),
        ("origin_ns", c_int64),
        ("flags", c_uint64),
    )

    def put(
        self,
        position: Sequence[float],
        orientation: Sequence[float] = UPRIGHT,
        *,
        velocity: Sequence[float] = (0.0, 0.0, 0.0),
        spin: Sequence[float] = (0.0, 0.0, 0.0),
        origin_ns: int = 0,
        flags: int = TRACKED,
    ) -> None:
        """OpenXR axes; m and xyzw, m/s and rad/s from `origin_ns` (XrTime) on."""
        self.position[:] = [float(v) for v in position]
        self.orientation[:] = [float(v) for v in orientation]
        self.velocity[:] = [float(v) for v in velocity]
        self.spin[:] = [float(v) for v in spin]
        self.origin_ns, self.flags = origin_ns, flags


class FixedPose(ctypes.Structure):
    _fields_ = (("position", c_double * 3), ("orientation", c_double * 4))

    def put(self, position: Sequence[float], orientation: Sequence[float] = UPRIGHT) -> None:
        self.position[:] = [float(v) for v in position]
        self.orientation[:] = [float(v) for v in orientation]


class ScriptedController(ctypes.Structure):
    _fields_ = (
        ("profile", c_uint32),
        ("components", c_float * len(COMPONENTS)),
        ("padding", c_uint32),
        ("grip", ScriptedPose),
        ("aim", ScriptedPose),
    )

    def press(self, **values: float) -> None:
        """Values by component, `/` written as two underscores: `trigger__value=1.0`."""
        for name, value in values.items():
            self.components[COMPONENTS.index(name.replace("__", "/"))] = value


class ScriptedHand(ctypes.Structure):
    _fields_ = (("active", c_uint32), ("padding", c_uint32), ("joints", ScriptedPose * HAND_JOINTS))


class Script(ctypes.Structure):
    _fields_ = (
        ("sequence", c_uint32),
        ("present", c_uint32),
        ("minor", c_uint32),
        ("extensions", c_uint32),
        ("headset_present", c_uint32),
        ("hands_supported", c_uint32),
        ("fb_supported", c_uint32),
        ("bd_supported", c_uint32),
        ("refused_profiles", c_uint32),
        ("spaces", c_uint32),
        ("focused", c_uint32),
        ("instance_lost", c_uint32),
        ("session_lost", c_uint32),
        ("failure", c_int32),
        ("exits", c_uint32),
        ("recentres", c_uint32),
        ("profile_changes", c_uint32),
        ("fb_active", c_uint32),
        ("bd_active", c_uint32),
        ("fb_skeleton_count", c_uint32),
        ("frozen", c_uint32),
        ("padding", c_uint32),
        ("time_shift_ns", c_int64),
        ("time_origin_ns", c_int64),
        ("time_rate", c_double),
        ("local", FixedPose),
        ("stage", FixedPose),
        ("head", ScriptedPose),
        ("controllers", ScriptedController * 2),
        ("hands", ScriptedHand * 2),
        ("fb", ScriptedPose * FB_JOINTS),
        ("bd", ScriptedPose * BD_JOINTS),
        ("fb_skeleton", FixedPose * FB_JOINTS),
    )


class Happened(ctypes.Structure):
    _fields_ = (
        ("instances_made", c_uint32),
        ("instances_destroyed", c_uint32),
        ("sessions_made", c_uint32),
        ("sessions_begun", c_uint32),
        ("sessions_ended", c_uint32),
        ("state", c_uint32),
        ("syncs", c_uint32),
        ("bad_calls", c_uint32),
        ("suggested", c_uint32),
        ("haptic_applied", c_uint32 * 2),
        ("haptic_stopped", c_uint32 * 2),
        ("haptic_amplitude", c_float * 2),
        ("api_minor", c_uint32),
        ("enabled_extensions", c_uint32),
        ("frozen_calls", c_uint32),
        ("spaces_at_once", c_uint32),
        ("haptic_duration_ns", c_int64 * 2),
        ("located_ns", c_int64),
        ("located_monotonic_ns", c_int64),
    )


class Shared(ctypes.Structure):
    _fields_ = (("script", Script), ("happened", Happened))


STRUCTURES = {
    s.__name__: s for s in (Script, Happened, Shared, ScriptedPose, ScriptedController, ScriptedHand)
}


def compile_runtime(folder: Path) -> Path:
    """Compile the runtime into `folder` and write its manifest; the manifest's path.

    Raises `RuntimeError` with what is missing.
    """
    library = folder / "libteleop_test_openxr.so"
    words = ["-shared", "-fPIC", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fvisibility=hidden"]
    sources = [str(path) for path in sorted(HERE.glob("*.c"))]
    try:
        made = subprocess.run(
            ["cc", *words, "-o", str(library), *sources, "-lm"], capture_output=True, text=True, check=False
        )
    except FileNotFoundError as error:
        raise RuntimeError("there is no C compiler `cc`: apt-get install gcc libc6-dev") from error
    if made.returncode != 0:
        hint = (
            "OpenXR's headers are missing: apt-get install libopenxr-dev\n"
            if "openxr/openxr.h" in made.stderr
            else ""
        )
        raise RuntimeError(f"{hint}cc failed:\n{made.stderr[-3000:]}")
    manifest = folder / "test_runtime.json"
    content = {
        "file_format_version": "1.0.0",
        "runtime": {"name": "teleop_capture test runtime", "library_path": str(library)},
    }
    manifest.write_text(json.dumps(content), encoding="utf-8")
    return manifest


class ScriptedRuntime:
    """The shared script. Written only inside `writing`, so that the runtime never sees half of a change."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.write_bytes(bytes(ctypes.sizeof(Shared)))
        with path.open("r+b") as file:
            self._memory = mmap.mmap(file.fileno(), ctypes.sizeof(Shared))
        self._shared: Any = Shared.from_buffer(self._memory)
        self.script: Any = self._shared.script
        self.happened: Any = self._shared.happened
        with self.writing() as script:
            script.present = script.headset_present = script.focused = script.minor = 1
            script.hands_supported = 1
            script.extensions = (1 << len(EXTENSIONS)) - 1
            script.spaces = 3
            script.time_rate = 1.0
            script.time_origin_ns = time.monotonic_ns()
            script.local.put((0.0, 1.6, 0.0))
            script.stage.put((0.0, 0.0, 0.0))
            script.head.put((0.0, 1.65, 0.0))
            for k, side in enumerate((-1.0, 1.0)):
                script.controllers[k].grip.put((0.2 * side, 1.2, -0.3))
                script.controllers[k].aim.put((0.2 * side, 1.22, -0.35))
                for joint in script.hands[k].joints:
                    joint.put((0.2 * side, 1.2, -0.3))
            for joint in (*script.fb, *script.bd):
                joint.put((0.0, 1.0, 0.0))
            for pose in script.fb_skeleton:
                pose.put((0.0, 1.0, 0.0))

    @contextmanager
    def writing(self) -> Iterator[Any]:
        self.script.sequence += 1
        try:
            yield self.script
        finally:
            self.script.sequence += 1

    def without(self, *extensions: str) -> None:
        with self.writing() as script:
            for name in extensions:
                script.extensions &= ~(1 << EXTENSIONS.index(name))

    def hold(self, left: str, right: str) -> None:
        """What the hands hold from now on, by the names of `PROFILES`."""
        with self.writing() as script:
            for k, name in enumerate((left, right)):
                script.controllers[k].profile = PROFILES.index(name)
            script.profile_changes += 1

    def suggested(self) -> set[str]:
        return {name for k, name in enumerate(PROFILES) if self.happened.suggested >> k & 1}

    def xr_time(self, monotonic_ns: int) -> int:
        """As the runtime converts it, for a rate of 1."""
        return monotonic_ns + int(self.script.time_shift_ns)
