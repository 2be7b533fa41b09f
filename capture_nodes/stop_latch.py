"""Which words about the emergency stop set it, and which reset it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple


class Word(NamedTuple):
    """What a publisher (its gid) said; its words are numbered, each higher than the one before."""

    gid: bytes
    number: int
    stop: bool


class StopLatch:
    """True from anybody sets the stop. False resets it only

    - from the last of those who have said True and not yet taken it back, or
    - from the service (`is_service` of a gid), which resets whoever set it.

    So a panel that says False all the time undoes no stop of somebody else.
    """

    def __init__(self, is_service: Callable[[bytes], bool]) -> None:
        self._is_service = is_service
        self._newest: dict[bytes, int] = {}
        self._setters: set[bytes] = set()
        self._is_set = False

    def hear(self, words: Iterable[Word]) -> bool | None:
        """Whether words that came together set (True) or reset (False) the stop; None: neither.

        A word that comes twice counts once. One that sets wins over any reset that came with it: of two that
        speak at once, the careful one.
        """
        was_set, stop = self._is_set, False
        for gid, number, says_stop in sorted(set(words)):
            if number <= self._newest.get(gid, -1):
                continue
            self._newest[gid] = number
            if says_stop:
                self._setters.add(gid)
                self._is_set = stop = True
            elif self._is_set and (gid in self._setters or self._is_service(gid)):
                self._take_back(gid)
        if stop:
            self._is_set = True
            return True
        return False if was_set and not self._is_set else None

    def _take_back(self, gid: bytes) -> None:
        self._setters.discard(gid)
        if self._is_service(gid):
            self._setters.clear()
        self._is_set = bool(self._setters)
