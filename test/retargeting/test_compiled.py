"""Compiled code is read from the disk only while nothing it was made of has changed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import retargeting.cache_folder
import retargeting.compiled
from retargeting.compiled import compiled, compiled_inside
from retargeting.packed import pack

_RULE = "from retargeting.compiled import {how}\n\n\n@{how}\ndef limit():\n    return {limit}\n"
_CALLER = """
from retargeting.compiled import compiled
from retargeting.rule import limit


@compiled
def twice():
    return 2.0 * limit()
"""


@pytest.fixture(params=["compiled", "compiled_inside"])
def how(request: pytest.FixtureRequest) -> str:
    """What the function that is called is marked with."""
    return str(request.param)


@pytest.fixture
def package(tmp_path: Path, how: str) -> Path:
    """A package with a function that calls one of another file."""
    folder = tmp_path / "retargeting"
    folder.mkdir()
    for module in (retargeting.compiled, retargeting.cache_folder):
        shutil.copy(module.__file__, folder)
    (folder / "__init__.py").write_text("")
    (folder / "rule.py").write_text(_RULE.format(how=how, limit=3.0))
    (folder / "caller.py").write_text(_CALLER)
    return folder


def run(folder: Path, **environment: str) -> tuple[float, int]:
    """What `twice` gives in a new process, and how often it was found compiled."""
    program = "from retargeting.caller import twice; print(twice(), sum(twice.stats.cache_hits.values()))"
    known = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=known | {"PYTHONPATH": str(folder.parent)} | environment,
        cwd=folder.parent,
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = result.stdout.split()
    return float(value), int(hits)


def test_a_change_of_a_function_that_is_called_is_noticed(package: Path, how: str) -> None:
    assert run(package) == (6.0, 0)
    assert run(package) == (6.0, 1)
    (package / "rule.py").write_text(_RULE.format(how=how, limit=5.0))
    assert run(package) == (10.0, 0)


def test_a_named_folder_is_used_and_old_states_leave_it(package: Path, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    old, young = cache / "retargeting-0123", cache / "retargeting-4567"
    for folder in (old, young):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    assert run(package, NUMBA_CACHE_DIR=str(cache)) == (6.0, 0)
    assert run(package, NUMBA_CACHE_DIR=str(cache)) == (6.0, 1)
    assert not old.exists() and young.exists()
    assert not list(package.glob("__pycache__/retargeting-*"))


@compiled_inside
def _half(value):
    return 0.5 * value


@compiled
def _quarter(value):
    return _half(_half(value))


def test_what_is_compiled_inside_is_the_same_in_python() -> None:
    assert _quarter(3.0) == 0.25 * 3.0 == _half(_half(3.0))
    assert not hasattr(_half, "nopython_signatures")


@compiled
def _add(packed, value):
    values, more = packed.content
    for i in range(values.shape[0]):
        values[i] += value * more[0]
    return values.sum()


def test_a_packed_array_is_the_array_itself() -> None:
    values = np.array([1.0, 2.0])
    packed = pack((values, (2.0, 7)))
    assert _add(packed, 10.0) == 43.0
    values[0] = 0.0
    assert _add(packed, 0.0) == 22.0
    np.testing.assert_array_equal(values, [0.0, 22.0])
