"""Squeeze and trigger of a hand that holds nothing: a pinch is the deadman, a fist closes a gripper."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from capture_nodes.sources.hand_gestures import Touch
from capture_nodes.sources.openxr.parameters import OpenXrParameters
from retargeting.frames import Array

_FIST_TIPS = ("middle_tip", "ring_tip", "little_tip")


class BareHand:
    """One hand's pinch, with hysteresis, and fist. Distances are used where the runtime tells no gestures."""

    def __init__(self, side: str, parameters: OpenXrParameters) -> None:
        self._side, self._parameters = side, parameters
        self._touch = Touch(parameters.pinch_closed_m, parameters.pinch_open_m)
        self.pinched = False

    def observe(self, poses: Mapping[str, Array], inputs: Mapping[str, float]) -> tuple[float, float]:
        """(squeeze, trigger), each 0..1. A hand that is not seen pinches nothing."""
        self.pinched = self._pinches(poses, inputs)
        return float(self.pinched), self._fist(poses, inputs)

    def told(self, poses: Mapping[str, Array], inputs: Mapping[str, float]) -> bool:
        """Whether it is known if it pinches."""
        return "pinch" in inputs or all(f"{self._side}_{tip}_tip" in poses for tip in ("thumb", "index"))

    def let_go(self) -> None:
        self.pinched = self._touch.touching = False

    def _pinches(self, poses: Mapping[str, Array], inputs: Mapping[str, float]) -> bool:
        limits = self._parameters
        if "pinch" in inputs:
            if not inputs.get("pinch_ready", 1.0):
                return False
            return inputs["pinch"] > (limits.pinch_let_go if self.pinched else limits.pinch_press)
        return self._touch.observe(poses.get(f"{self._side}_thumb_tip"), poses.get(f"{self._side}_index_tip"))

    def _fist(self, poses: Mapping[str, Array], inputs: Mapping[str, float]) -> float:
        if "grasp" in inputs:
            return min(1.0, max(0.0, inputs["grasp"])) if inputs.get("grasp_ready", 1.0) else 0.0
        palm = poses.get(f"{self._side}_palm")
        tips = [poses[name] for tip in _FIST_TIPS if (name := f"{self._side}_{tip}") in poses]
        if palm is None or len(tips) < len(_FIST_TIPS):
            return 0.0
        limits = self._parameters
        mean_m = float(np.mean([np.linalg.norm(tip[:3] - palm[:3]) for tip in tips]))
        closed = (limits.fist_open_m - mean_m) / (limits.fist_open_m - limits.fist_closed_m)
        return min(1.0, max(0.0, closed))
