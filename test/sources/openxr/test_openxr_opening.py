"""What is said where something is missing, and what is agreed upon with a runtime."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest
from openxr_script import EXTENSIONS, compile_runtime
from worn_headset import Headset, any_frame, wait_for

from capture_nodes.sources.openxr import driver
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from capture_nodes.sources.registry import SourceOptions, check_source, live_source
from capture_nodes.sources.source import SourceError


class _Importing:
    """Fails the import of pyopenxr in the way that is asked for."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "xr":
            raise self.error


def _import_fails(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    for name in [name for name in sys.modules if name == "xr" or name.startswith("xr.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [_Importing(error), *sys.meta_path])


@pytest.mark.parametrize(
    ("compiler", "package"),
    [
        ("", "apt-get install gcc"),
        ("echo 'fatal error: openxr/openxr.h: No such file' >&2; exit 1", "apt-get install libopenxr-dev"),
    ],
)
def test_what_these_tests_need_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compiler: str, package: str
) -> None:
    """The fixtures fail with it: nothing here is passed over in silence."""
    monkeypatch.setenv("PATH", str(tmp_path))
    if compiler:
        program = tmp_path / "cc"
        program.write_text(f"#!/bin/sh\n{compiler}\n")
        program.chmod(0o755)
    with pytest.raises(RuntimeError, match=package):
        compile_runtime(tmp_path)


def test_nothing_is_imported_until_the_source_is_opened() -> None:
    module = importlib.import_module("capture_nodes.sources.openxr.live")
    assert "xr" not in vars(module)
    check_source("openxr", SourceOptions())


def test_a_missing_pyopenxr_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_fails(monkeypatch, ModuleNotFoundError("No module named 'xr'", name="xr"))
    with pytest.raises(SourceError, match="needs the Python package pyopenxr"):
        driver.load_pyopenxr()


def test_a_missing_dependency_of_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_fails(monkeypatch, ModuleNotFoundError("No module named 'OpenGL'", name="OpenGL"))
    with pytest.raises(SourceError, match="its dependency OpenGL is missing"):
        driver.load_pyopenxr()


def test_a_missing_libgl_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_fails(monkeypatch, AttributeError("'NoneType' object has no attribute 'glGetError'"))

    def no_library(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(driver.ctypes, "CDLL", no_library)
    with pytest.raises(SourceError, match=r"apt-get install libgl1"):
        driver.load_pyopenxr()


def test_another_failure_of_the_import_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    _import_fails(monkeypatch, AttributeError("something else"))
    monkeypatch.setattr(driver.ctypes, "CDLL", lambda name: object())
    with pytest.raises(SourceError, match="something else"):
        driver.load_pyopenxr()


def test_a_runtime_that_is_not_there_is_said(
    headset: Headset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    headset.bad_calls_expected = True
    monkeypatch.setenv("XR_RUNTIME_JSON", str(tmp_path / "nothing.json"))
    with pytest.raises(SourceError, match="no OpenXR runtime answers on this machine"), headset.worn():
        pass


def test_a_runtime_that_does_not_start_is_said(headset: Headset) -> None:
    with headset.writing() as script:
        script.present = 0
    headset.bad_calls_expected = True
    with pytest.raises(SourceError, match=r"XR_RUNTIME_JSON.*ERROR_RUNTIME_UNAVAILABLE"), headset.worn():
        pass


@pytest.mark.parametrize("name", ["XR_MND_headless", "XR_KHR_convert_timespec_time"])
def test_a_runtime_without_what_is_needed_is_refused_by_name(headset: Headset, name: str) -> None:
    headset.runtime.without(name)
    headset.bad_calls_expected = True
    with pytest.raises(SourceError, match=name), headset.worn():
        pass


def test_everything_a_runtime_lacks_is_told_at_once(headset: Headset) -> None:
    headset.runtime.without("XR_MND_headless", "XR_KHR_convert_timespec_time")
    headset.bad_calls_expected = True
    with pytest.raises(SourceError) as told, headset.worn():
        pass
    assert len(told.value.problems) == 2


def test_a_runtime_with_nothing_but_the_least_will_do(headset: Headset) -> None:
    headset.runtime.without(*EXTENSIONS[2:])
    with headset.writing() as script:
        script.minor = 0
    headset.hold("touch", "touch")
    with headset.worn() as source:
        frame = any_frame(source)
        assert source.report["tracks"] == "head and controllers"
        assert source.report["runtime"].endswith("OpenXR 1.0")
        assert headset.runtime.suggested() == {"touch", "index", "vive", "simple"}
    assert set(frame.poses) == {"head", *(f"{s}_{p}" for s in ("left", "right") for p in ("grip", "aim"))}
    assert headset.happened.api_minor == headset.happened.spaces_at_once == 0


@pytest.mark.parametrize("minor", [0, 1])
def test_all_spaces_are_located_in_one_call_where_there_is_one(headset: Headset, minor: int) -> None:
    """With OpenXR 1.1, or the extension that became it."""
    with headset.writing() as script:
        script.minor = minor
    if minor == 1:
        headset.runtime.without("XR_KHR_locate_spaces")
    headset.hold("touch", "touch")
    with headset.worn() as source:
        wait_for(source, lambda frame: "right_aim" in frame.poses)
    assert headset.happened.api_minor == minor
    assert headset.happened.spaces_at_once > 0


def test_bindings_are_suggested_for_every_profile_that_is_known(headset: Headset) -> None:
    with headset.worn() as source:
        any_frame(source)
        assert "refused" not in source.report
        everything = {"touch", "index", "vive", "pico 4", "pico neo 3", "hands", "simple"}
        assert headset.runtime.suggested() == everything
    assert headset.happened.api_minor == 1


def test_an_older_runtime_knows_pico_controllers_by_extension(headset: Headset) -> None:
    with headset.writing() as script:
        script.minor = 0
    with headset.worn() as source:
        any_frame(source)
        assert {"pico 4", "pico neo 3"} <= headset.runtime.suggested()


def test_a_refused_suggestion_is_said_and_the_others_work(headset: Headset) -> None:
    with headset.writing() as script:
        script.refused_profiles = 1 << 1 | 1 << 3
    headset.hold("index", "index")
    with headset.worn() as source:
        frame = any_frame(source)
        assert source.report["refused"] == "touch (ERROR_PATH_UNSUPPORTED), vive (ERROR_PATH_UNSUPPORTED)"
        assert "touch" not in source.report["controllers"]
    assert "left_grip" in frame.poses


def test_the_system_is_asked_and_not_only_the_extensions(headset: Headset) -> None:
    """A runtime may have hand tracking and this headset none; making a tracker would fail."""
    with headset.writing() as script:
        script.hands_supported = 0
        for hand in script.hands:
            hand.active = 1
    with headset.worn() as source:
        frame = any_frame(source)
        assert source.report["tracks"] == "head and controllers"
    assert "left_wrist" not in frame.poses


def test_what_is_there_and_known_is_enabled(headset: Headset) -> None:
    with headset.worn() as source:
        any_frame(source)
    assert headset.happened.enabled_extensions == (1 << len(EXTENSIONS)) - 1


def test_leaving_ends_the_session(headset: Headset) -> None:
    with headset.worn() as source:
        any_frame(source)
    happened = headset.happened
    assert (happened.sessions_begun, happened.sessions_ended) == (1, 1)
    assert (happened.instances_made, happened.instances_destroyed) == (1, 1)


def test_the_validation_layer_would_have_told(headset: Headset) -> None:
    """The positive control: a wrong call, past our source, is in the layer's file."""
    xr = driver.load_pyopenxr()
    instance = xr.create_instance(
        xr.InstanceCreateInfo(
            application_info=xr.ApplicationInfo(application_name="control"),
            enabled_extension_names=["XR_MND_headless"],
        )
    )
    info = xr.SystemGetInfo()
    info.type = 12345
    with pytest.raises((xr.XrException, ValueError)):
        xr.get_system(instance, info)
    xr.destroy_instance(instance)
    assert any("SystemGetInfo" in line for line in headset.validation_errors())
    headset.bad_calls_expected = True


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (SourceOptions(motion="walk.bvh"), "takes no file"),
        (SourceOptions(address="10.0.0.2:80"), "XR_RUNTIME_JSON"),
        (SourceOptions(stature_m=9.0), "stature_m"),
    ],
)
def test_what_it_cannot_take_is_refused(options: SourceOptions, told: str) -> None:
    with pytest.raises(SourceError, match=told):
        live_source("openxr", options, None)  # type: ignore[arg-type]


def test_every_problem_of_its_settings_is_told_at_once() -> None:
    with pytest.raises(SourceError) as told:
        OpenXrParameters(rate_hz=0.0, pinch_closed_m=0.05, pinch_open_m=0.04, retry_first_s=float("nan"))
    assert len(told.value.problems) == 3
