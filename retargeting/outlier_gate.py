"""Which samples of a tracked pose no body can have made.

A sample is in doubt where it is farther from the last good one than a body moves in that time, or
farther from where the last motion led than a body changes its motion. Doubt costs one sample, never
the motion: the next sample decides. Does it go on from the last good one, it is taken, and the sample in
doubt was a glitch. Does it go on from the sample in doubt, the tracking jumped, or the motion was truly
that fast, and it is taken from there. Only samples that fit neither stay in doubt.
"""

from __future__ import annotations

import numpy as np

from retargeting.compiled import compiled
from retargeting.one_euro import turn_between

GOOD, JUMPED, UNLIKELY, IMPOSSIBLE = 0, 1, 2, 3

# Noise of a sample, before anything has moved.
_SLACK_M, _SLACK_RAD = 0.01, 0.1
# A hand moves at up to 4-5 m/s in a throw and turns at up to 25 rad/s; from a fist's impact apart, it is
# not accelerated by more than about 100 m/s².
_FASTEST_M_S, _FASTEST_RAD_S = 6.0, 30.0
_HARDEST_M_S2 = 200.0
# After this long, samples that are in doubt have lost the point, and any place would be near enough.
_LONGEST_GLITCH_S = 0.05


@compiled
def reachable(a, b, dt, turn):  # type: ignore[no-untyped-def]
    """Whether a body part at the pose `a` ``(7,)`` can be at `b` after dt (s); turn ``(3,)``: scratch."""
    distance = 0.0
    for i in range(3):
        distance += (b[i] - a[i]) ** 2
    if np.sqrt(distance) > _SLACK_M + _FASTEST_M_S * dt:
        return False
    angle: float = turn_between(a[3:], b[3:], turn)
    return angle <= _SLACK_RAD + _FASTEST_RAD_S * dt


@compiled
def judge(good, velocity, since_good, doubted, in_doubt, since_doubted, sample, turn):  # type: ignore[no-untyped-def]
    """GOOD, JUMPED, or in doubt for `sample` ``(7,)``: UNLIKELY (too hard a motion) or IMPOSSIBLE (too fast).

    good ``(7,)``: the last good sample, since_good (s) ago, moving at velocity ``(3,)`` (m/s) then;
    doubted ``(7,)``: the sample in doubt after it, where in_doubt, since_doubted (s) ago; turn: scratch.
    """
    if in_doubt:
        if reachable(good, sample, min(since_good, _LONGEST_GLITCH_S), turn):
            return GOOD
        if reachable(doubted, sample, since_doubted, turn):
            return JUMPED
        return IMPOSSIBLE
    if not reachable(good, sample, since_good, turn):
        return IMPOSSIBLE
    beside = 0.0
    for i in range(3):
        beside += (sample[i] - good[i] - velocity[i] * since_good) ** 2
    if np.sqrt(beside) > _SLACK_M + _HARDEST_M_S2 * since_good * since_good:
        return UNLIKELY
    return GOOD
