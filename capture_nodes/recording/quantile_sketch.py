"""Quantiles of any number of durations in constant memory, within 1 % of the exact ones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]

# A value's bin: its binary exponent and the first six bits of its mantissa, 64 bins for every doubling.
_MANTISSA_BITS = 23
_KEPT_BITS = 6
_SHIFT = _MANTISSA_BITS - _KEPT_BITS
_EXPONENT_BIAS = 127
# Below 2^8 ns a duration counts as none, above 2^42 ns (73 min) as that.
_SMALLEST = 8
_LARGEST = 42
_OFFSET = ((_EXPONENT_BIAS + _SMALLEST) << _KEPT_BITS) - 1
_BINS = ((_LARGEST - _SMALLEST) << _KEPT_BITS) + 1

# How far a quantile may lie from the exact one: half a bin.
RELATIVE_ERROR = 0.5**_KEPT_BITS / 2.0
RESOLUTION_NS = float(1 << _SMALLEST)


class QuantileSketch:
    """A histogram of signed nanoseconds with bins of equal relative width; `low` and `high` are exact."""

    def __init__(self) -> None:
        self._counts = np.zeros(2 * _BINS + 1, dtype=np.int64)
        self.count = 0
        self.low = 0
        self.high = 0

    def fold(self, values_ns: IntArray) -> None:
        """Take in ``(n,)`` more."""
        if not len(values_ns):
            return
        low, high = int(values_ns.min()), int(values_ns.max())
        self.low = low if not self.count else min(self.low, low)
        self.high = high if not self.count else max(self.high, high)
        self.count += len(values_ns)
        bits = np.abs(values_ns).astype(np.float32).view(np.int32) >> _SHIFT
        bins = np.minimum(np.maximum(bits - _OFFSET, 0), _BINS)
        if low < 0:
            bins = np.where(values_ns < 0, -bins, bins)
        self._counts += np.bincount(bins + _BINS, minlength=len(self._counts))

    def quantile(self, share: float) -> float | None:
        """The value (ns) that a share of them does not exceed; None of nothing."""
        if not self.count:
            return None
        rank = min(self.count, max(1, int(np.ceil(share * self.count))))
        at = int(np.searchsorted(np.cumsum(self._counts), rank)) - _BINS
        return float(min(self.high, max(self.low, np.sign(at) * _middle(abs(at)))))


def _middle(index: int) -> float:
    if index == 0:
        return 0.0
    edges = np.array([index + _OFFSET, index + _OFFSET + 1], dtype=np.int32) << _SHIFT
    return float(edges.view(np.float32).astype(np.float64).mean())
