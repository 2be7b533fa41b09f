"""Reads the serialized messages of a trainer: `/trainer/motion` and `/trainer/buttons`."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from capture_nodes.recording.cdr import ENCAPSULATION, HEADER_BYTES, CdrReader, MalformedMessage
from retargeting.motion_frame import Controls

Array = NDArray[np.float64]

_STAMP_BYTES = 8
_POSE_NUMBERS = 7


class MotionSample(NamedTuple):
    """The trainer at `stamp_ns`: `poses` ``(7,)`` by body point, in `frame_id`."""

    stamp_ns: int
    frame_id: str
    poses: dict[str, Array]


class MotionReader:
    """Reads `sensor_msgs/MultiDOFJointState`; points seldom change and are parsed only when they do."""

    def __init__(self) -> None:
        # From behind the stamp to the count of poses.
        self._head = b""
        self._frame_id = ""
        self._names: tuple[str, ...] = ()
        self._poses_at = 0

    def read(self, data: bytes) -> MotionSample:
        """The sample in ``data``. Raises `MalformedMessage`, also where a name has no pose."""
        start, count = HEADER_BYTES + _STAMP_BYTES, len(self._names)
        known = (
            count > 0
            and data[:2] == ENCAPSULATION[:2]
            and data[start : start + len(self._head)] == self._head
            and len(data) >= self._poses_at + 8 * _POSE_NUMBERS * count
        )
        if not known:
            return self._read_anew(data)
        poses = np.frombuffer(data, "<f8", _POSE_NUMBERS * count, self._poses_at).reshape(count, -1)
        return self._sample(CdrReader(data).stamp_ns(), poses)

    def _read_anew(self, data: bytes) -> MotionSample:
        reader = CdrReader(data)
        stamp_ns, frame_id = reader.stamp_ns(), reader.string()
        names = reader.string_sequence()
        count = reader.uint32()
        if count != len(names):
            raise MalformedMessage(f"{len(names)} names for {count} poses")
        head = data[HEADER_BYTES + _STAMP_BYTES : reader.offset]
        poses = reader.float64_values(_POSE_NUMBERS * count).reshape(count, _POSE_NUMBERS)
        self._head, self._frame_id, self._names = head, frame_id, names
        self._poses_at = reader.offset - 8 * _POSE_NUMBERS * count
        return self._sample(stamp_ns, poses)

    def _sample(self, stamp_ns: int, poses: Array) -> MotionSample:
        return MotionSample(stamp_ns, self._frame_id, dict(zip(self._names, poses, strict=True)))


def read_controls(data: bytes) -> tuple[int, Controls]:
    """Stamp (ns) and content of a `sensor_msgs/Joy`. Raises `MalformedMessage` and `InvalidMotion`."""
    reader = CdrReader(data)
    stamp_ns = reader.stamp_ns()
    reader.string()
    axes = tuple(reader.float32_values(reader.uint32()).tolist())
    return stamp_ns, Controls(axes, reader.int32_values(reader.uint32()))
