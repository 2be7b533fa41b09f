"""The one thread that calls into the OpenXR runtime, and whether a call of it comes back."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class RuntimeThread:
    """Runs `work` in a thread of its own; a runtime that is frozen holds up nobody else.

    `work` says before and after its calls that it makes them (`begin`, `end`). The thread goes by the
    source's name, by which the node gives it the priority of frames.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._since_s: float | None = None
        self._doing = ""
        self._given_up = False
        self.stopping = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="openxr", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._work()
        except Exception as error:
            # For whoever waits for frames to raise.
            self.failure = error

    def stop(self, timeout_s: float) -> bool:
        """Ask the work to end; False where it does not: the runtime holds the thread, and keeps it."""
        self.stopping.set()
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    # ---- within the thread

    def begin(self, doing: str) -> None:
        with self._lock:
            self._since_s, self._doing, self._given_up = time.monotonic(), doing, False

    def end(self, longest_s: float) -> bool:
        """After the calls; False where they took longer than that, or were given up by `gives_up`."""
        with self._lock:
            took_s = time.monotonic() - (self._since_s or time.monotonic())
            self._since_s = None
            return not self._given_up and took_s <= longest_s

    # ---- any thread

    def gives_up(self, after_s: float) -> bool:
        """Whether the calls last longer than that: what then still comes of them is out of date."""
        with self._lock:
            if self._since_s is not None and time.monotonic() - self._since_s > after_s:
                self._given_up = True
            return self._since_s is not None and self._given_up

    def silence(self, after_s: float) -> str:
        """ "" or what the runtime has not answered for longer than that, in words."""
        with self._lock:
            silent_s = 0.0 if self._since_s is None else time.monotonic() - self._since_s
            if silent_s <= after_s:
                return ""
            return f"the OpenXR runtime has not answered for {silent_s:.1f} s ({self._doing})"
