"""The space that poses are asked in, and where `trainer` is in it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from capture_nodes.sources.openxr.driver import Runtime, RuntimeFailed, failure
from retargeting.frames import (
    Array,
    pose_inverse,
    quaternion_from_rotation_vector,
    rotate,
    yaw_of_direction,
)

_VIEW, _LOCAL, _STAGE, _LOCAL_FLOOR = 1, 2, 3, 1000426000
_EYES_OF_STATURE = 0.936
# A head that looks farther up or down than this does not say where its trainer faces.
_LEAST_AHEAD = 0.3


class BaseSpace:
    """LOCAL_FLOOR is `trainer` itself: on the floor, under and ahead of where the trainer (re-)centred. Of
    STAGE and LOCAL only the vertical is taken: `trainer` is put under the first head that is tracked, facing
    its way.
    """

    def __init__(self, runtime: Runtime, session: Any, stature_m: float) -> None:
        xr = runtime.xr
        try:
            offered = {int(kind) for kind in xr.enumerate_reference_spaces(session)}
            self.kind = next((kind for kind in (_LOCAL_FLOOR, _STAGE, _LOCAL) if kind in offered), None)
            if self.kind is None:
                raise RuntimeFailed("xrEnumerateReferenceSpaces", "neither LOCAL_FLOOR, STAGE nor LOCAL")
            self.handle = self._space(xr, session, self.kind)
            self.view = self._space(xr, session, _VIEW)
        except (xr.XrException, ValueError) as error:
            raise failure("making spaces", error) from error
        self._floor_m = -_EYES_OF_STATURE * stature_m if self.kind == _LOCAL else 0.0
        self._to_trainer: Array | None = None
        self.note = {
            _LOCAL_FLOOR: "LOCAL_FLOOR: where the trainer last centred",
            _STAGE: "STAGE: put under the head that is seen first",
            _LOCAL: f"LOCAL: the floor is taken to lie {-self._floor_m:.2f} m under the headset's start",
        }[self.kind]

    @staticmethod
    def _space(xr: Any, session: Any, kind: int) -> Any:
        info = xr.ReferenceSpaceCreateInfo(
            reference_space_type=xr.ReferenceSpaceType(kind), pose_in_reference_space=xr.Posef()
        )
        return xr.create_reference_space(session, info)

    @property
    def is_trainer(self) -> bool:
        return self.kind == _LOCAL_FLOOR

    def recentred(self) -> None:
        """The runtime has moved the space: `trainer` is put where the trainer stands now."""
        self._to_trainer = None

    def to_trainer(self, head: Array | None) -> Array | None:
        """Transform base to trainer ``(7,)``, None while unknown; head: in the base, axes the trainer's."""
        if self._to_trainer is None and head is not None:
            ahead = rotate(head[3:], [1.0, 0.0, 0.0])
            if math.hypot(ahead[0], ahead[1]) > _LEAST_AHEAD:
                turn = quaternion_from_rotation_vector([0.0, 0.0, float(yaw_of_direction(ahead))])
                place = np.array([head[0], head[1], self._floor_m])
                self._to_trainer = pose_inverse(np.concatenate([place, turn]))
        return self._to_trainer
