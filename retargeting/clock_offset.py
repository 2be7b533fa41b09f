"""Where the stamps of a sender lie on the steady clock, found from when its messages arrive."""

from __future__ import annotations

_WINDOW_S = 1.0
# Quick at first, then so slow that it changes no velocity by more than this part.
_SETTLING_S, _SLEW = 0.5, 0.005
# A larger change is a clock that was set.
_JUMP_S = 0.25


class ClockOffset:
    """Steady time minus stamp of the quickest messages of the last second or two.

    The quickest, because waiting only ever adds; of a while, because one stamp that was wrong must not
    count for ever. It follows in small steps, so that what is placed by it stays even.
    """

    def __init__(self) -> None:
        self._offset_s: float | None = None
        self._start_s = self._bucket_s = self._last_s = 0.0
        self._quickest_s = self._quickest_before_s = 0.0

    def sent_s(self, stamp_s: float, now_s: float) -> float:
        """The steady time of a stamp on the sender's clock, of a message that arrives at `now_s`."""
        arrival_s = now_s - stamp_s
        if self._offset_s is None or abs(arrival_s - self._offset_s) > _JUMP_S:
            self._offset_s = self._quickest_s = self._quickest_before_s = arrival_s
            self._start_s = self._bucket_s = self._last_s = now_s
        if now_s - self._bucket_s > _WINDOW_S:
            self._quickest_before_s, self._quickest_s = self._quickest_s, arrival_s
            self._bucket_s = now_s
        self._quickest_s = min(self._quickest_s, arrival_s)
        wanted_s = min(self._quickest_s, self._quickest_before_s)
        step_s = _SLEW * max(0.0, now_s - self._last_s)
        self._last_s = now_s
        if now_s - self._start_s < _SETTLING_S:
            step_s = abs(wanted_s - self._offset_s)
        self._offset_s += min(max(wanted_s - self._offset_s, -step_s), step_s)
        return stamp_s + self._offset_s
