"""How long the disk lasts: looked at by a thread of its own, because a mount that hangs answers nobody."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from capture_nodes.errors import error_text
from capture_nodes.recording.recordings_folder import free_bytes

PERIOD_S = 2.0
# A disk that has not answered for this long is told as hanging.
_ANSWER_S = 10.0

DiskWord = Literal["ok", "low", "unreachable"]


@dataclass(frozen=True)
class DiskState:
    """`problem` says why the disk is not ``ok``; `free_bytes` None where it does not answer."""

    word: DiskWord
    free_bytes: int | None
    problem: str = ""


class DiskWatch:
    """Watches the disk of ``root``; below ``warn_bytes`` it is low."""

    def __init__(self, root: Path, warn_bytes: int, period_s: float = PERIOD_S) -> None:
        self._root, self._warn_bytes, self._period_s = root, warn_bytes, period_s
        self._answered_s = time.monotonic()
        self._free_bytes: int | None = None
        self._problem = ""
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="disk watch", daemon=True)
        self._thread.start()

    def state(self) -> DiskState:
        """As last looked at; never waits for the disk."""
        silent_s = time.monotonic() - self._answered_s
        if silent_s > max(_ANSWER_S, 3 * self._period_s):
            return DiskState(
                "unreachable", None, f"the disk of {self._root} has not answered for {silent_s:.0f} s"
            )
        free = self._free_bytes
        if self._problem or free is None:
            return DiskState("unreachable" if self._problem else "ok", free, self._problem)
        if free < self._warn_bytes:
            left = f"the disk of {self._root} has {free / 1e6:.0f} MB left"
            problem = f"{left}, less than {self._warn_bytes / 1e6:.0f} (disk.warn_free_mb): make room soon"
            return DiskState("low", free, problem)
        return DiskState("ok", free)

    def stop(self) -> None:
        self._ending.set()

    def _run(self) -> None:
        while True:
            try:
                self._free_bytes, self._problem = free_bytes(self._root), ""
            except Exception as error:
                # Whatever a failing disk answers: the next look may find it well again.
                self._free_bytes, self._problem = None, error_text(error)
            self._answered_s = time.monotonic()
            if self._ending.wait(self._period_s):
                return
