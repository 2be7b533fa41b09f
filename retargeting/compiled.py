"""`compiled`: numba's `njit`, kept on disk, with a cache that no change of this package outlives.

numba looks at the file of a function only, not at those of the functions it calls and takes in; after an
update of the package it could run an old limit inside a function whose own file did not change. So each
state of the package's compiled files has a folder of its own.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba
from numba.core import config
from numba.extending import register_jitable

from retargeting.cache_folder import user_cache_folder

_PREFIX = "retargeting-"
_KEPT_S = 7 * 24 * 3600.0


def _state_of_sources() -> str:
    """A name that changes when any file with compiled functions does."""
    digest = hashlib.sha256()
    for file in sorted(Path(__file__).parent.rglob("*.py")):
        content = file.read_bytes()
        if b"@compiled" in content:
            digest.update(content)
    return digest.hexdigest()[:16]


def _cache_folder() -> Path:
    """Below `NUMBA_CACHE_DIR`, else beside the bytecode, else in the user's cache."""
    beside = Path(__file__).parent / "__pycache__"
    if config.CACHE_DIR:
        base = Path(config.CACHE_DIR)
    elif os.access(beside if beside.is_dir() else beside.parent, os.W_OK):
        base = beside
    else:
        base = user_cache_folder()
    return base / f"{_PREFIX}{_state_of_sources()}"


def _remove_outlived(current: Path) -> None:
    """Folders of earlier states; not young ones, which another process may be running from."""
    for folder in current.parent.glob(f"{_PREFIX}*"):
        if folder != current and folder.is_dir() and time.time() - folder.stat().st_mtime > _KEPT_S:
            shutil.rmtree(folder, ignore_errors=True)


_FOLDER = _cache_folder()
if not _FOLDER.is_dir():
    _remove_outlived(_FOLDER)


def compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call for its types of arguments (later processes: read from the cache)."""
    folder, config.CACHE_DIR = config.CACHE_DIR, str(_FOLDER)
    try:
        return numba.njit(cache=True)(function)
    finally:
        config.CACHE_DIR = folder


def compiled_inside(function: Callable[..., Any]) -> Any:
    """Compile as a part of the compiled functions that call it, and kept with them; in Python it is Python.

    A function that Python may call gets a wrapper that looks at every array of every argument: for what takes
    many of them that is most of what is compiled.
    """
    return register_jitable(no_cfunc_wrapper=True)(function)
