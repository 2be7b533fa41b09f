"""How long a trainer's arms are, measured from the motion itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.motion_frame import MotionFrame

Array = NDArray[np.float64]

# Of body height, for what is not tracked: Drillis & Contini (1966), as in Winter, Biomechanics, fig. 4.1.
_UPPER_ARM_SHARE, _FOREARM_SHARE, _EYE_SHARE = 0.186, 0.146, 0.936
_SHORTEST_ARM_M, _LONGEST_ARM_M = 0.25, 0.90


@dataclass(frozen=True)
class TrainerSize:
    """Upper arm and forearm lengths (m) per side."""

    upper_arm_m: Mapping[str, float]
    forearm_m: Mapping[str, float]

    def __post_init__(self) -> None:
        for side in SIDES:
            arm = self.arm_m(side)
            if not _SHORTEST_ARM_M <= arm <= _LONGEST_ARM_M:
                raise RetargetingError(
                    f"the trainer's {side} arm measures {arm:.3f} m; {_SHORTEST_ARM_M} .. {_LONGEST_ARM_M} m "
                    f"is a person's. Is the motion's scale right?"
                )

    def arm_m(self, side: str) -> float:
        """Shoulder to wrist of the stretched arm."""
        return self.upper_arm_m[side] + self.forearm_m[side]


@dataclass
class TrainerSizeEstimator:
    """Collects frames until the median lengths are settled, then freezes them.

    Where shoulders or elbows are not tracked the lengths follow from the height of the head.
    """

    frames_needed: int = 30
    _samples: dict[str, list[float]] = field(default_factory=dict)
    _count: int = 0
    size: TrainerSize | None = None

    def observe(self, frame: MotionFrame) -> TrainerSize | None:
        """Take one frame in; the size once it is settled. Raises `RetargetingError` on an absurd one."""
        if self.size is not None:
            return self.size
        lengths = measured_lengths(frame)
        if not lengths:
            return None
        for key, value in lengths.items():
            self._samples.setdefault(key, []).append(value)
        self._count += 1
        if self._count >= self.frames_needed:
            median = {key: float(np.median(values)) for key, values in self._samples.items()}
            try:
                self.size = TrainerSize(
                    {side: median[f"{side}_upper_arm"] for side in SIDES},
                    {side: median[f"{side}_forearm"] for side in SIDES},
                )
            finally:
                self._samples, self._count = {}, 0
        return self.size


def measured_lengths(frame: MotionFrame) -> dict[str, float]:
    """`{side}_upper_arm` and `{side}_forearm` (m) of one frame; empty where not even a head is tracked."""
    lengths: dict[str, float] = {}
    head = frame.poses.get("head")
    for side in SIDES:
        shoulder, elbow, wrist = (frame.poses.get(f"{side}_{p}") for p in ("shoulder", "elbow", "wrist"))
        if shoulder is not None and elbow is not None and wrist is not None:
            lengths[f"{side}_upper_arm"] = float(np.linalg.norm(elbow[:3] - shoulder[:3]))
            lengths[f"{side}_forearm"] = float(np.linalg.norm(wrist[:3] - elbow[:3]))
        elif head is not None:
            height_m = float(head[2]) / _EYE_SHARE
            lengths[f"{side}_upper_arm"] = _UPPER_ARM_SHARE * height_m
            lengths[f"{side}_forearm"] = _FOREARM_SHARE * height_m
        else:
            return {}
    return lengths


def measure_trainer(frame: MotionFrame) -> TrainerSize:
    """The size shown by one frame. Raises `RetargetingError` where arms and head are not tracked."""
    lengths = measured_lengths(frame)
    if not lengths:
        raise RetargetingError("neither arms nor head are tracked: the trainer's size cannot be measured")
    return TrainerSize(
        {side: lengths[f"{side}_upper_arm"] for side in SIDES},
        {side: lengths[f"{side}_forearm"] for side in SIDES},
    )
