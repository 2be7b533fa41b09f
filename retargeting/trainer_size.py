"""How large a trainer is, measured from the motion itself.

Where shoulders and elbows are tracked, the lengths between them tell it in any posture. Where only head
and hands are, it follows from the height of the head, until the *calibration pose* is held for a moment:
standing upright, both arms stretched out forward or to the sides at shoulder height. What was
measured is refined until it is frozen, at the latest when the trainer engages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.tracked_motion import TrackedMotion

Array = NDArray[np.float64]

# Of body height, for what is not tracked: Drillis & Contini (1966), as in Winter, Biomechanics, fig. 4.1.
UPPER_ARM_SHARE, FOREARM_SHARE, _EYE_SHARE = 0.186, 0.146, 0.936
_SHOULDER_HEIGHT_SHARE, _AVERAGE_STATURE_M = 0.818, 1.75
AVERAGE_SHOULDER_HEIGHT_M = _SHOULDER_HEIGHT_SHARE * _AVERAGE_STATURE_M
AVERAGE_SHOULDER_WIDTH_M = 0.38
_BOUNDS_M = {
    "shoulder_height_m": (0.3, 2.2),
    "shoulder_width_m": (0.15, 0.70),
}
_SHORTEST_ARM_M, _LONGEST_ARM_M = 0.25, 0.90
# The calibration pose: wrists this near to shoulder height, at least this share of the expected reach
# out, and moving by no more than this between frames.
_POSE_HEIGHT_M, _POSE_SHARE, _POSE_STILL_M = 0.25, 0.75, 0.01
# Measurements kept, the newest; enough for a steady median.
_MOST_SAMPLES, _REFINE_EVERY = 450, 15


@dataclass(frozen=True)
class TrainerSize:
    """Lengths of upper arm and forearm per side, height of the standing shoulders, width between them (m)."""

    upper_arm_m: Mapping[str, float]
    forearm_m: Mapping[str, float]
    shoulder_height_m: float = AVERAGE_SHOULDER_HEIGHT_M
    shoulder_width_m: float = AVERAGE_SHOULDER_WIDTH_M

    def __post_init__(self) -> None:
        problems = []
        for side in SIDES:
            lengths = self.upper_arm_m.get(side, math.nan), self.forearm_m.get(side, math.nan)
            arm = sum(lengths)
            if not (min(lengths) > 0.0 and _SHORTEST_ARM_M <= arm <= _LONGEST_ARM_M):
                problems.append(
                    f"the trainer's {side} arm measures {arm:.3f} m; {_SHORTEST_ARM_M} .. {_LONGEST_ARM_M} m "
                    f"is a person's. Is the motion's scale right?"
                )
        for name, (low, high) in _BOUNDS_M.items():
            value = getattr(self, name)
            if not low <= value <= high:
                problems.append(f"the trainer's {name} is {value:.3f}; {low} .. {high} m is a person's")
        if problems:
            raise RetargetingError("\n".join(problems))

    def arm_m(self, side: str) -> float:
        """Shoulder to wrist of the stretched arm."""
        return self.upper_arm_m[side] + self.forearm_m[side]


@dataclass
class TrainerSizeEstimator:
    """Collects frames until the median lengths are settled, and refines them until `freeze`."""

    frames_needed: int = 30
    size: TrainerSize | None = None
    frozen: bool = False
    _samples: dict[str, list[float]] = field(default_factory=dict)
    _count: int = 0
    _wrists: Array | None = None

    def observe(self, motion: TrackedMotion) -> TrainerSize | None:
        """Take one frame in; the size once it is settled. Raises `RetargetingError` on an absurd one."""
        if self.frozen:
            return self.size
        lengths = measured_lengths(motion) | self._pose_lengths(motion)
        if not any(key.endswith("_upper_arm") for key in lengths):
            return self.size
        for key, value in lengths.items():
            samples = self._samples.setdefault(key, [])
            samples.append(value)
            if len(samples) > _MOST_SAMPLES:
                del samples[0]
        self._count += 1
        settled = self._count >= self.frames_needed
        if settled and (self.size is None or self._count % _REFINE_EVERY == 0):
            try:
                self.size = self._median_size()
            except RetargetingError:
                # Whatever was wrong with these frames must not stay among the next ones.
                self._samples, self._count = {}, 0
                raise
        return self.size

    def freeze(self) -> None:
        """Keep the size as it is from now on."""
        self.frozen = self.size is not None

    def _median_size(self) -> TrainerSize:
        median = {key: float(np.median(values)) for key, values in self._samples.items()}
        reached = [f"{side}_reach" for side in SIDES]
        if all(len(self._samples.get(key, ())) >= self.frames_needed for key in reached):
            for side, key in zip(SIDES, reached, strict=True):
                whole = UPPER_ARM_SHARE + FOREARM_SHARE
                median[f"{side}_upper_arm"] = median[key] * UPPER_ARM_SHARE / whole
                median[f"{side}_forearm"] = median[key] * FOREARM_SHARE / whole
        return _size(median)

    def _pose_lengths(self, motion: TrackedMotion) -> dict[str, float]:
        """`{side}_reach` of a frame in the calibration pose, where it is needed; else nothing."""
        head = motion.poses.get("head")
        wrists = [motion.poses.get(f"{side}_wrist") for side in SIDES]
        if head is None or any(wrist is None for wrist in wrists):
            self._wrists = None
            return {}
        if all(f"{side}_{part}" in motion.poses for side in SIDES for part in ("shoulder", "elbow")):
            return {}
        places = np.array([wrist[:3] for wrist in wrists if wrist is not None])
        before, self._wrists = self._wrists, places
        if before is None or np.abs(places - before).max() > _POSE_STILL_M:
            return {}
        stature_m = float(head[2]) / _EYE_SHARE
        middle = np.array([head[0], head[1], _SHOULDER_HEIGHT_SHARE * stature_m])
        if np.abs(places[:, 2] - middle[2]).max() > _POSE_HEIGHT_M:
            return {}
        # Shoulders half their width beside the middle, along the line that the hands span or are parallel
        # to; for either pose, forward or sideways, this is nearest to both hands.
        across = places[0, :2] - places[1, :2]
        length = float(np.linalg.norm(across))
        if length < 0.05:
            return {}
        aside = np.array([*(0.5 * AVERAGE_SHOULDER_WIDTH_M * across / length), 0.0])
        reach = [
            float(np.linalg.norm(place - middle - s * aside))
            for place, s in zip(places, (1, -1), strict=True)
        ]
        expected = _POSE_SHARE * (UPPER_ARM_SHARE + FOREARM_SHARE) * stature_m
        if min(reach) < expected or max(reach) > _LONGEST_ARM_M:
            return {}
        return {f"{side}_reach": value for side, value in zip(SIDES, reach, strict=True)}


def _size(lengths: Mapping[str, float]) -> TrainerSize:
    # They only place what is not tracked: absurd ones (a trainer who sits, a shifted floor) stop nobody.
    trunk = {
        name: min(max(lengths[name.removesuffix("_m")], low), high) for name, (low, high) in _BOUNDS_M.items()
    }
    return TrainerSize(
        {side: lengths[f"{side}_upper_arm"] for side in SIDES},
        {side: lengths[f"{side}_forearm"] for side in SIDES},
        **trunk,
    )


def measured_lengths(motion: TrackedMotion) -> dict[str, float]:
    """What one frame tells (m): `{side}_upper_arm`, `{side}_forearm`, `shoulder_height`, `shoulder_width`.

    Lengths of arms that are not tracked follow from the head's height; empty where not even a head is.
    """
    lengths: dict[str, float] = {}
    head = motion.poses.get("head")
    shoulders = [motion.poses.get(f"{side}_shoulder") for side in SIDES]
    for side in SIDES:
        shoulder, elbow, wrist = (motion.poses.get(f"{side}_{p}") for p in ("shoulder", "elbow", "wrist"))
        if shoulder is not None and elbow is not None and wrist is not None:
            lengths[f"{side}_upper_arm"] = float(np.linalg.norm(elbow[:3] - shoulder[:3]))
            lengths[f"{side}_forearm"] = float(np.linalg.norm(wrist[:3] - elbow[:3]))
        elif head is not None:
            height_m = float(head[2]) / _EYE_SHARE
            lengths[f"{side}_upper_arm"] = UPPER_ARM_SHARE * height_m
            lengths[f"{side}_forearm"] = FOREARM_SHARE * height_m
        else:
            return {}
    left, right = shoulders
    if left is not None and right is not None:
        lengths["shoulder_width"] = float(np.linalg.norm(left[:3] - right[:3]))
        lengths["shoulder_height"] = float(0.5 * (left[2] + right[2]))
    else:
        stature_m = _AVERAGE_STATURE_M if head is None else float(head[2]) / _EYE_SHARE
        lengths["shoulder_height"] = _SHOULDER_HEIGHT_SHARE * stature_m
        lengths["shoulder_width"] = AVERAGE_SHOULDER_WIDTH_M * stature_m / _AVERAGE_STATURE_M
    return lengths


def measure_trainer(motion: TrackedMotion) -> TrainerSize:
    """The size shown by one frame. Raises `RetargetingError` where arms and head are not tracked."""
    lengths = measured_lengths(motion)
    if not lengths:
        raise RetargetingError("neither arms nor head are tracked: the trainer's size cannot be measured")
    return _size(lengths)
