"""What the mapping reads of the trainer at one instant, whoever made it: a source or the input filter."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from retargeting.motion_frame import Controls


class TrackedMotion(Protocol):
    """`poses` ``(7,)`` per tracked body point in `trainer`; `controls` of that instant."""

    @property
    def stamp_ns(self) -> int: ...

    @property
    def poses(self) -> Mapping[str, NDArray[np.float64]]: ...

    @property
    def controls(self) -> Controls: ...
