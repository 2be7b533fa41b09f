"""When a camera is recorded cheaper because its encoder does not keep up, and when better again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Move = Literal["", "down", "up"]

# A step up is tried after so long without a wait; after one that did not hold, twice as long, and so on.
CALM_S = 10.0
LONGEST_CALM_S = 160.0
# Between two steps down where there is hardly room for more.
HASTE_S = 0.25
# Of the longest wait that is allowed: above it the encoders are behind, though not overloaded.
BEHIND = 0.125


@dataclass
class EncodingPace:
    """Of one camera in one file. Not thread-safe; all times in seconds of one steady clock.

    overload_s: a frame that waited longer for its turn takes the camera a step down, and so does one that was
    put after that and waited longer still; less than that means that the cheaper encoding catches up.
    """

    overload_s: float
    calm_s: float = CALM_S
    _stepped_s: float = float("-inf")
    _waited_s: float = 0.0
    _rose_s: float = float("-inf")
    _calm_since_s: float = float("-inf")

    def move(self, put_s: float, now_s: float, crowded: bool, may_rise: bool) -> Move:
        """What a frame says that was put at ``put_s`` and has its turn at ``now_s``.

        crowded: too much waits. may_rise: a step up is there to be taken.
        """
        waited_s = now_s - put_s
        if waited_s > self.overload_s or crowded:
            self._calm_since_s = now_s
            if crowded:
                # The next frames would be lost before one that was put after the last step has its turn.
                soon = put_s <= self._stepped_s and now_s - self._stepped_s < HASTE_S
            else:
                # What was put before the last step says nothing about how the cheaper encoding keeps up.
                soon = put_s <= self._stepped_s or waited_s <= self._waited_s
            if soon:
                return ""
            held = now_s - self._rose_s >= self.calm_s
            self.calm_s = CALM_S if held else min(2.0 * self.calm_s, LONGEST_CALM_S)
            self._stepped_s, self._waited_s = now_s, waited_s
            return "down"
        if waited_s > BEHIND * self.overload_s:
            self._calm_since_s = now_s
            return ""
        self._waited_s = 0.0
        if may_rise and now_s - self._calm_since_s >= self.calm_s:
            self._calm_since_s = self._stepped_s = self._rose_s = now_s
            return "up"
        return ""
