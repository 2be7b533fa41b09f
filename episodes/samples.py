"""Streams of one type as arrays, and how one message of each becomes a row."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from episodes import cdr

Array = NDArray[np.float64]
IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class JointSamples:
    """`position`, `velocity`, `effort` are ``(n, joints)``; the latter two NaN where not recorded."""

    names: tuple[str, ...]
    stamp_ns: IntArray
    position: Array
    velocity: Array
    effort: Array


@dataclass(frozen=True)
class PoseSamples:
    """`pose` is ``(n, 7)``, metres and xyzw, in `frame_id`."""

    frame_id: str
    stamp_ns: IntArray
    pose: Array


@dataclass(frozen=True)
class WrenchSamples:
    """`wrench` is ``(n, 6)``: force in N and torque in N m, in `frame_id`."""

    frame_id: str
    stamp_ns: IntArray
    wrench: Array


@dataclass(frozen=True)
class TactileSamples:
    """`pressure_pa` is ``(n, rows, columns)``."""

    frame_id: str
    stamp_ns: IntArray
    pressure_pa: Array


@dataclass(frozen=True)
class CauseSamples:
    """`stamp_ns` are the commands' ticks, `cause_ns` the stamps of the motion frames they follow."""

    stamp_ns: IntArray
    cause_ns: IntArray


@dataclass(frozen=True)
class TransformSamples:
    """All transforms of a TF topic between two frames, `pose` ``(n, 7)`` = `transform_child_to_parent`."""

    parent: str
    child: str
    stamp_ns: IntArray
    pose: Array


def joint_state_row(data: bytes) -> tuple[list[str], Array, Array, Array]:
    """Joint names, positions, velocities, efforts; like the others, `MalformedMessage` for other bytes."""
    return cdr.joint_state(data, cdr.header(data)[2])


def pose_row(data: bytes) -> tuple[float, ...]:
    """Metres and quaternion xyzw of a PoseStamped."""
    return cdr.pose(data, cdr.header(data)[2])


def wrench_row(data: bytes) -> Array:
    """``(6,)``: force (N) and torque (N m) of a WrenchStamped."""
    return cdr.wrench(data, cdr.header(data)[2])


def cause_row(data: bytes) -> int:
    """`time_ref` (ns) of a TimeReference."""
    return cdr.time_reference(data, cdr.header(data)[2])


def tactile_row(data: bytes) -> Array:
    """Pressures ``(rows, columns)`` in Pa of a 32FC1 Image."""
    height, width, encoding, big_endian, step, raw = cdr.image(data, cdr.header(data)[2])
    if encoding != "32FC1" or step < 4 * width or len(raw) < step * height:
        raise cdr.MalformedMessage(
            f"tactile image {width}x{height} {encoding!r}, step {step}, {len(raw)} bytes; 32FC1 expected"
        )
    rows = raw[: step * height].reshape(height, step)[:, : 4 * width]
    values = np.ascontiguousarray(rows).view(">f4" if big_endian else "<f4")
    return values.astype(np.float64)
