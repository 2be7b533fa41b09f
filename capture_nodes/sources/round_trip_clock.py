"""Where another machine's clock lies on our steady clock, from questions that went there and back."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

# How far two quartz clocks may drift apart, s per s: what an old answer has lost in worth.
_DRIFT = 100e-6
_KEPT = 256
_OLDEST_S = 30.0


@dataclass(frozen=True)
class _Answer:
    offset_s: float
    half_s: float
    asked_s: float


class RoundTripClock:
    """Our steady clock minus theirs. A minimum filter: the quickest round trip of late decides.

    The other's clock was read somewhere within the round trip, so that half of it bounds the error of taking
    the middle, whatever the two ways took; an older answer counts as longer by the drift since. One thread
    takes answers, any may read.
    """

    def __init__(self) -> None:
        self._answers: deque[_Answer] = deque(maxlen=_KEPT)
        # Replaced as a whole, so that who reads in another thread never meets a deque that changes.
        self._best: _Answer | None = None

    def take(self, asked_s: float, their_s: float, answered_s: float) -> None:
        """Asked and answered on our steady clock; what theirs said in between.

        A clock that was set, or another page's, is seen by answers that cannot both be true: only the new
        one is kept.
        """
        half_s = 0.5 * (answered_s - asked_s)
        answer = _Answer(0.5 * (asked_s + answered_s) - their_s, half_s, answered_s)
        while self._answers and answered_s - self._answers[0].asked_s > _OLDEST_S:
            self._answers.popleft()
        for old in self._answers:
            allowed_s = old.half_s + half_s + _DRIFT * (answered_s - old.asked_s)
            if abs(old.offset_s - answer.offset_s) > allowed_s + 1e-3:
                self._answers.clear()
                break
        self._answers.append(answer)
        # Drift since an answer grows alike for all of them: which is best does not change with time.
        self._best = min(self._answers, key=lambda kept: kept.half_s - _DRIFT * kept.asked_s)

    @property
    def known(self) -> bool:
        return self._best is not None

    def steady_s(self, their_s: float) -> float:
        """Our steady time at which theirs was `their_s`."""
        return their_s + self._answer.offset_s

    @property
    def offset_s(self) -> float:
        return self._answer.offset_s

    def uncertainty_s(self, now_s: float) -> float:
        """The bound on the error of `steady_s`."""
        best = self._answer
        return best.half_s + _DRIFT * (now_s - best.asked_s)

    @property
    def round_trip_s(self) -> float:
        return 2.0 * self._answer.half_s

    @property
    def _answer(self) -> _Answer:
        """Raises `RuntimeError` before the first one: ask `known`."""
        best = self._best
        if best is None:
            raise RuntimeError("the other's clock has not answered yet")
        return best
