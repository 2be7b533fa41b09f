"""Where what can be made again is kept for this user."""

from __future__ import annotations

import os
from pathlib import Path


def user_cache_folder() -> Path:
    """`$XDG_CACHE_HOME/teleop_capture`, not made by asking. Raises `RuntimeError` where there is no home."""
    return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "teleop_capture"
