"""Everything that is located for a frame, in one piece of memory that the runtime fills and numpy reads."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
from numpy.typing import NDArray

_ROW_BYTES = 40
_LAYOUT = np.dtype(
    {
        "names": ["flags", "rotation", "position"],
        "formats": ["<u8", ("<f4", 4), ("<f4", 3)],
        "offsets": [0, 8, 24],
        "itemsize": _ROW_BYTES,
    }
)


class LocationTable:
    """`count` rows of flags and a pose of floats.

    All of OpenXR's arrays of locations (spaces, hand joints, bodies of either vendor) have such rows.
    """

    def __init__(self, count: int) -> None:
        self._memory = bytearray(_ROW_BYTES * count)
        view = np.frombuffer(self._memory, dtype=_LAYOUT)
        self.flags: NDArray[np.uint64] = view["flags"]
        self.rotations: NDArray[np.float32] = view["rotation"]
        self.positions: NDArray[np.float32] = view["position"]

    def structures(self, structure: Any, rows: slice) -> Any:
        """An array of pyopenxr's `structure` that lies in these rows."""
        if ctypes.sizeof(structure) != _ROW_BYTES:
            raise TypeError(f"{structure.__name__} is {ctypes.sizeof(structure)} bytes, not {_ROW_BYTES}")
        return (structure * (rows.stop - rows.start)).from_buffer(self._memory, _ROW_BYTES * rows.start)

    def take(self, rows: slice, flags: int, pose: Any) -> None:
        """Write one row (`rows` is of one) that the runtime has put elsewhere."""
        self.flags[rows] = flags
        self.rotations[rows] = np.frombuffer(pose, "<f4", 4)
        self.positions[rows] = np.frombuffer(pose, "<f4", 3, 16)
