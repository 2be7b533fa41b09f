"""A headset that the tests script: our own OpenXR runtime behind the wheel's loader and validation."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "openxr_runtime")]

from compiled_runtime import compiled_runtime  # noqa: E402
from openxr_script import ENVIRONMENT, ScriptedRuntime  # noqa: E402
from worn_headset import LAYER, Headset  # noqa: E402

from capture_nodes.sources.openxr.driver import load_pyopenxr  # noqa: E402


@pytest.fixture(scope="session")
def manifest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled_runtime(tmp_path_factory.mktemp("openxr_runtime"))


@pytest.fixture
def headset(manifest: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Headset]:
    xr = load_pyopenxr()
    # Its own layers are found once this path is set.
    monkeypatch.setenv("XR_API_LAYER_PATH", os.environ.get("XR_API_LAYER_PATH", ""))
    monkeypatch.delenv("XR_API_LAYER_PATH")
    xr.api_layer.expose_packaged_api_layers()
    monkeypatch.setenv("XR_ENABLE_API_LAYERS", LAYER)
    monkeypatch.setenv("XR_CORE_VALIDATION_EXPORT_TYPE", "text")
    monkeypatch.setenv("XR_CORE_VALIDATION_FILE_NAME", str(tmp_path / "validation.txt"))
    monkeypatch.setenv("XR_RUNTIME_JSON", str(manifest))
    monkeypatch.setenv(ENVIRONMENT, str(tmp_path / "script"))
    worn = Headset(ScriptedRuntime(tmp_path / "script"), tmp_path / "validation.txt")
    yield worn
    if not worn.bad_calls_expected:
        assert worn.validation_errors() == []
        assert worn.happened.bad_calls == 0
    assert worn.happened.instances_made == worn.happened.instances_destroyed
