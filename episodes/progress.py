"""One line on stderr for work that takes longer than two seconds."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

Progress = Callable[[float], None]


class ProgressLine:
    """Shows ``label  42 %`` once two seconds have passed: an updating line on a terminal, else every 25 %."""

    def __init__(self, label: str, stream: TextIO | None = None, after_s: float = 2.0) -> None:
        self._label = label
        self._stream = sys.stderr if stream is None else stream
        self._due = time.monotonic() + after_s
        self._shown = -1
        self._terminal = self._stream.isatty()

    def __call__(self, share: float) -> None:
        percent = int(100 * min(1.0, max(0.0, share)))
        if not self._terminal:
            percent -= percent % 25
        if percent == self._shown or time.monotonic() < self._due:
            return
        self._shown = percent
        text = f"{self._label} {percent:3d} %"
        self._stream.write(f"\r\x1b[K{text}" if self._terminal else f"{text}\n")
        self._stream.flush()

    def close(self) -> None:
        """Wipe the line from the terminal."""
        if self._terminal and self._shown >= 0:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


def no_progress(share: float) -> None:
    """Show nothing."""
