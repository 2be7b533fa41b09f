"""An array of joint locations that the runtime fills, read by numpy where it lies."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import Array


class JointArray:
    """`count` structures of any of OpenXR's joint locations: flags, then a pose of floats (xyzw, xyz)."""

    def __init__(self, structure: Any, count: int) -> None:
        self.count = count
        self.structures = (structure * count)()
        layout = np.dtype(
            {
                "names": ["flags", "rotation", "position"],
                "formats": ["<u8", ("<f4", 4), ("<f4", 3)],
                "offsets": [
                    structure._location_flags.offset,
                    structure.pose.offset,
                    structure.pose.offset + 16,
                ],
                "itemsize": ctypes.sizeof(structure),
            }
        )
        view = np.frombuffer(self.structures, dtype=layout)
        self.flags: NDArray[np.uint64] = view["flags"]
        self._rotations, self._positions = view["rotation"], view["position"]

    def has(self, flags: int) -> NDArray[np.bool_]:
        """Joints ``(count,)`` with all of these flags."""
        result: NDArray[np.bool_] = (self.flags & np.uint64(flags)) == flags
        return result

    def poses_into(self, poses: Array) -> None:
        """Poses ``(count, 7)``, position before rotation."""
        poses[:, :3] = self._positions
        poses[:, 3:] = self._rotations
