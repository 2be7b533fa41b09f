"""A lock that nobody keeps from the others by taking it again at once."""

from __future__ import annotations

import threading
from types import TracebackType


class FairLock:
    """As `threading.RLock`, in a ``with``: the thread that holds it may enter it again.

    Who gives an `RLock` back and wants it again has it before somebody who waits for it has woken. Here the
    one who waits holds the turn meanwhile, which everybody needs to wait.
    """

    def __init__(self) -> None:
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        # Who holds it, and how often: written by that thread only.
        self._owner = 0
        self._depth = 0

    def __enter__(self) -> None:
        me = threading.get_ident()
        if self._owner != me:
            # Nearly always nobody waits.
            if self._turn.locked() or not self._lock.acquire(blocking=False):
                with self._turn:
                    self._lock.acquire()
            self._owner = me
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth:
            self._owner = 0
            self._lock.release()
