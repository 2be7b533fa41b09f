"""The test runtime, or a failure that says what is missing: no OpenXR test is passed over in silence."""

from __future__ import annotations

from pathlib import Path

import pytest
from openxr_script import compile_runtime

from capture_nodes.sources.openxr.driver import load_pyopenxr
from capture_nodes.sources.source import SourceError


def compiled_runtime(folder: Path) -> Path:
    """The manifest of the runtime, compiled into `folder`."""
    try:
        load_pyopenxr()
        return compile_runtime(folder)
    except (SourceError, RuntimeError) as error:
        pytest.fail(f"the OpenXR tests cannot run: {error}", pytrace=False)
