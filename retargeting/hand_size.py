"""How long a trainer's fingers are, measured from the motion itself.

Bones do not stretch: the sum of a finger's bones is its length however it is bent. The median of the
first frames is taken, finger by finger, then frozen; later frames whose finger measures otherwise are
mistakes of the tracking, unless they go on: then it is somebody else's finger, and measured anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import FINGERS
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.hand_points import bone_length

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# Children to very large hands (Greiner, Hand Anthropometry of U.S. Army Personnel, 1991, with margin).
SHORTEST_FINGER_M, LONGEST_FINGER_M = 0.035, 0.17
# A finger that measures this much more or less than it did is mistaken for something else.
LARGEST_DEVIATION = 0.3
# As many mistakes without a break, in lengths of the measurement, are none.
_MISTAKEN_MEASUREMENTS = 3


@dataclass(frozen=True)
class HandSize:
    """Lengths (m) of one hand's fingers from base joint to tip along the bones, by name (`FINGERS`)."""

    finger_m: Mapping[str, float]

    def __post_init__(self) -> None:
        for finger, length in self.finger_m.items():
            if finger not in FINGERS:
                raise RetargetingError(f"unknown finger {finger!r}; known: {', '.join(FINGERS)}")
            if not SHORTEST_FINGER_M <= length <= LONGEST_FINGER_M:
                raise RetargetingError(
                    f"the trainer's {finger} measures {length:.3f} m; {SHORTEST_FINGER_M} .. "
                    f"{LONGEST_FINGER_M} m is a person's. Is the motion's scale right?"
                )


class HandSizeArrays(NamedTuple):
    """finger_m ``(5,)``: the lengths so far, 0 of a finger that was never seen; samples ``(5, frames)``, of
    which counts ``(5,)`` are there; mistakes ``(5,)``: how many there were without a break."""

    finger_m: Array
    samples: Array
    counts: NDArray[np.int64]
    mistakes: NDArray[np.int64]


class HandSizeEstimator:
    """Measures one hand over `frames_needed` frames per finger, or takes a size that is known."""

    def __init__(self, frames_needed: int = 30, size: HandSize | None = None) -> None:
        if frames_needed < 1:
            raise RetargetingError(f"frames_needed: {frames_needed} must be at least 1")
        count = len(FINGERS)
        self.arrays = HandSizeArrays(
            np.zeros(count),
            np.zeros((count, frames_needed)),
            np.zeros(count, dtype=np.int64),
            np.zeros(count, dtype=np.int64),
        )
        if size is not None:
            for finger, length in size.finger_m.items():
                self.finger_m[FINGERS.index(finger)] = length
                self.arrays.counts[FINGERS.index(finger)] = frames_needed

    @property
    def finger_m(self) -> Array:
        """The lengths so far ``(5,)`` (m), 0 for a finger that was never seen."""
        return self.arrays.finger_m

    @property
    def size(self) -> HandSize:
        """The fingers whose length is frozen (all of them, none at first)."""
        frozen = self.arrays.counts == self.arrays.samples.shape[1]
        return HandSize({f: float(self.finger_m[i]) for i, f in enumerate(FINGERS) if frozen[i]})

    def observe(self, points: Array, tracked: BoolArray) -> BoolArray:
        """Take one frame's points ``(5, 4, 3)`` in; which of the `tracked` ``(5,)`` fingers are credible."""
        credible: BoolArray = np.empty(len(FINGERS), dtype=np.bool_)
        measure_fingers(self.arrays, points, tracked, credible)
        return credible


@compiled
def measure_fingers(arrays, points, tracked, credible):  # type: ignore[no-untyped-def]
    """See `HandSizeEstimator.observe`: fill `credible` ``(5,)``, take the lengths of those in."""
    finger_m, samples, counts, mistakes = arrays
    frames = samples.shape[1]
    for f in range(points.shape[0]):
        length = bone_length(points[f])
        credible[f] = tracked[f] and SHORTEST_FINGER_M <= length <= LONGEST_FINGER_M
        if not credible[f]:
            continue
        if counts[f] == frames and abs(length - finger_m[f]) > LARGEST_DEVIATION * finger_m[f]:
            mistakes[f] += 1
            if mistakes[f] <= _MISTAKEN_MEASUREMENTS * frames:
                credible[f] = False
                continue
            counts[f] = 0
        mistakes[f] = 0
        if counts[f] < frames:
            samples[f, counts[f]] = length
            counts[f] += 1
            finger_m[f] = np.median(samples[f, : counts[f]])
