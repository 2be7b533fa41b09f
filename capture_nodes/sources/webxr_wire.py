"""The bytes between the headset's page and the station, in both directions (docs/webxr.md).

Little-endian throughout. The page writes the same layout in `capture_nodes/web/wire.js`; both are tested
against the same vectors.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from capture_nodes.sources.source import SourceError
from retargeting.body_points import CENTRAL_POINTS, FINGERS, LIMB_POINTS, SIDES
from retargeting.frames import Array
from retargeting.motion_frame import LARGEST_DISTANCE_M, Button

VERSION = 1
FRAME, PICTURE, PICTURE_SHOWN, PING, PONG, FRAME_TAKEN = 1, 2, 3, 4, 5, 6

# Bit k of the frame's points, and of what is emulated 8 bits above.
SINGLE_POINTS = ("head", "left_grip", "left_aim", "right_grip", "right_aim")
_EMULATED_SHIFT, _HAND_SHIFT, _BODY_BIT = 8, 16, 18
# As WebXR names a hand's joints, from the wrist to the tip of the little finger; the thumb has no
# intermediate joint, and there is no palm.
HAND_JOINTS = (
    "wrist",
    *(
        f"{finger}_{joint}"
        for finger in FINGERS
        for joint in ("metacarpal", "proximal", "intermediate", "distal", "tip")
        if (finger, joint) != ("thumb", "intermediate")
    ),
)
BODY_JOINTS = (*(point for point in CENTRAL_POINTS if point != "head"), *LIMB_POINTS)
VISIBILITIES = ("visible", "visible-blurred", "hidden")
_RESET = 1
LARGEST_FRAME_BYTES = 3000

_HEADER = struct.Struct("<BBBBIdHHI8f")
_POSE_BYTES = 28
_MASK = struct.Struct("<I")
_HAND_BITS = tuple(1 << k for k in range(len(HAND_JOINTS)))
_BODY_BITS = tuple(1 << k for k in range(len(BODY_JOINTS)))
_KNOWN_POINTS = 0b11111 | 0b11111 << _EMULATED_SHIFT | 0b11 << _HAND_SHIFT | 1 << _BODY_BIT
_QUATERNION_TOLERANCE = 1e-3
_HAND_POINTS = {side: tuple(f"{side}_{joint}" for joint in HAND_JOINTS) for side in SIDES}


class WireError(SourceError):
    """A message that is not of the layout, or whose values cannot be."""


@dataclass(frozen=True)
class WireFrame:
    """One XR frame as the page saw it, in WebXR's world (x right, y up, z back) of its `local-floor` space.

    device_ms: the frame's time on the page's `performance` clock. `poses` ``(n, 7)`` of `names`; `body_names`
    ``(m, 7)`` in `body`. `emulated`: names whose position the headset only guesses. `reset`: the space was
    moved since the frame before.
    """

    sequence: int
    device_ms: float
    visibility: str
    reset: bool
    axes: tuple[float, ...]
    buttons: tuple[int, ...]
    names: tuple[str, ...]
    poses: Array
    emulated: frozenset[str] = frozenset()
    body_names: tuple[str, ...] = ()
    body: Array = field(default_factory=lambda: np.zeros((0, 7)))


def message_kind(data: bytes) -> int:
    """The kind of a binary message of the page; raises `WireError` where it is none of ours."""
    if len(data) < 2 or data[0] not in (FRAME, PICTURE_SHOWN, PONG):
        raise WireError(
            f"message of {len(data)} bytes starts with {data[:2].hex()!r}: no kind the page sends"
        )
    if data[1] != VERSION:
        raise WireError(f"message of version {data[1]}, {VERSION} is expected: reload the page")
    return data[0]


def encode_frame(frame: WireFrame) -> bytes:
    """What the page sends for `frame`; its poses become float32."""
    given = dict(zip(frame.names, frame.poses, strict=True))
    points, parts = 0, []
    for k, name in enumerate(SINGLE_POINTS):
        if name in given:
            points |= 1 << k | (name in frame.emulated) << k + _EMULATED_SHIFT
            parts.append(_pose_bytes(given[name]))
    for k, side in enumerate(SIDES):
        parts.extend(_masked(_HAND_POINTS[side], given))
        points |= bool(any(name in given for name in _HAND_POINTS[side])) << k + _HAND_SHIFT
    body = dict(zip(frame.body_names, frame.body, strict=True))
    parts.extend(_masked(BODY_JOINTS, body))
    points |= bool(body) << _BODY_BIT
    buttons = sum(1 << k for k, pressed in enumerate(frame.buttons) if pressed)
    header = _HEADER.pack(
        FRAME,
        VERSION,
        VISIBILITIES.index(frame.visibility),
        _RESET * frame.reset,
        frame.sequence,
        frame.device_ms,
        buttons,
        0,
        points,
        *frame.axes,
    )
    return header + b"".join(parts)


def _masked(names: tuple[str, ...], given: Mapping[str, Array]) -> list[bytes]:
    mask = sum(1 << k for k, name in enumerate(names) if name in given)
    return [_MASK.pack(mask), *(_pose_bytes(given[n]) for n in names if n in given)] if mask else []


def _pose_bytes(pose: Array) -> bytes:
    return np.asarray(pose, dtype="<f4").tobytes()


def decode_frame(data: bytes) -> WireFrame:
    """Raises `WireError` on a wrong length, unknown bits, or a value that is not finite or out of bounds."""
    if len(data) > LARGEST_FRAME_BYTES:
        raise WireError(f"frame of {len(data)} bytes: at most {LARGEST_FRAME_BYTES} are expected")
    if len(data) < _HEADER.size:
        raise WireError(f"frame of {len(data)} bytes: at least {_HEADER.size} are expected")
    _, _, visibility, flags, sequence, device_ms, buttons, zero, points, *axes = _HEADER.unpack_from(data)
    if visibility >= len(VISIBILITIES) or flags & ~_RESET or zero or points & ~_KNOWN_POINTS:
        raise WireError(f"frame {sequence}: unknown bits {visibility:#x}, {flags:#x}, {zero:#x}, {points:#x}")
    if buttons >> len(Button):
        raise WireError(f"frame {sequence}: buttons {buttons:#x}: there are {len(Button)}")
    if not 0.0 <= device_ms < 1e12:
        raise WireError(f"frame {sequence}: device time {device_ms!r} ms")
    if not all(-1.0 <= value <= 1.0 for value in axes):
        raise WireError(f"frame {sequence}: axes {axes}: -1 .. 1 is expected")
    names = [name for k, name in enumerate(SINGLE_POINTS) if points >> k & 1]
    emulated = frozenset(
        name for k, name in enumerate(SINGLE_POINTS) if points >> k + _EMULATED_SHIFT & points >> k & 1
    )
    offset = _HEADER.size
    poses = [_poses(data, sequence, offset, len(names))]
    offset += len(names) * _POSE_BYTES
    for k, side in enumerate(SIDES):
        if points >> k + _HAND_SHIFT & 1:
            mask, offset = _read_mask(data, sequence, offset, len(HAND_JOINTS))
            there = [name for name, bit in zip(_HAND_POINTS[side], _HAND_BITS, strict=True) if mask & bit]
            names += there
            poses.append(_poses(data, sequence, offset, len(there)))
            offset += len(there) * _POSE_BYTES
    body_names: tuple[str, ...] = ()
    body = np.zeros((0, 7))
    if points >> _BODY_BIT & 1:
        mask, offset = _read_mask(data, sequence, offset, len(BODY_JOINTS))
        body_names = tuple(name for name, bit in zip(BODY_JOINTS, _BODY_BITS, strict=True) if mask & bit)
        body = _poses(data, sequence, offset, len(body_names))
        offset += len(body_names) * _POSE_BYTES
    if offset != len(data):
        raise WireError(f"frame {sequence}: {len(data)} bytes, {offset} are expected")
    return WireFrame(
        sequence=sequence,
        device_ms=device_ms,
        visibility=VISIBILITIES[visibility],
        reset=bool(flags & _RESET),
        axes=tuple(axes),
        buttons=tuple(buttons >> k & 1 for k in range(len(Button))),
        names=tuple(names),
        poses=np.concatenate(poses),
        emulated=emulated,
        body_names=body_names,
        body=body,
    )


def _read_mask(data: bytes, sequence: int, offset: int, bits: int) -> tuple[int, int]:
    if offset + _MASK.size > len(data):
        raise WireError(f"frame {sequence}: ends after {len(data)} bytes, before its poses")
    (mask,) = _MASK.unpack_from(data, offset)
    if mask >> bits or not mask:
        raise WireError(f"frame {sequence}: joints {mask:#x}: some of {bits} are expected")
    return mask, offset + _MASK.size


def _poses(data: bytes, sequence: int, offset: int, count: int) -> Array:
    """``(count, 7)``, quaternions normalized."""
    if offset + count * _POSE_BYTES > len(data):
        raise WireError(f"frame {sequence}: ends after {len(data)} bytes, before its poses")
    sent = np.frombuffer(data, "<f4", 7 * count, offset).reshape(count, 7)
    if not np.isfinite(sent).all():
        raise WireError(f"frame {sequence}: a pose is not finite")
    poses = sent.astype(np.float64)
    if count and np.abs(poses[:, :3]).max() > LARGEST_DISTANCE_M:
        raise WireError(f"frame {sequence}: a position is over {LARGEST_DISTANCE_M:g} m away")
    norms = np.sqrt((poses[:, 3:] ** 2).sum(axis=1, keepdims=True))
    if (np.abs(norms - 1.0) > _QUATERNION_TOLERANCE).any():
        raise WireError(f"frame {sequence}: a quaternion's norm is not 1 +- {_QUATERNION_TOLERANCE:g}")
    poses[:, 3:] /= norms
    return poses


_SHORT = struct.Struct("<BBHI")
_PONG = struct.Struct("<BBHId")
_PICTURE = struct.Struct("<BBBBId")


def encode_ping(number: int) -> bytes:
    """A question of the station for the page's clock, answered at once by a pong of the same number."""
    return _SHORT.pack(PING, VERSION, 0, number)


def encode_frame_taken(sequence: int) -> bytes:
    """The newest frame that has arrived: the page holds frames back while none does."""
    return _SHORT.pack(FRAME_TAKEN, VERSION, 0, sequence)


def encode_pong(number: int, page_ms: float) -> bytes:
    return _PONG.pack(PONG, VERSION, 0, number, page_ms)


def decode_pong(data: bytes) -> tuple[int, float]:
    """Number of the ping, and the page's clock in ms when it was answered. Raises `WireError`."""
    if len(data) != _PONG.size:
        raise WireError(f"pong of {len(data)} bytes, {_PONG.size} are expected")
    _, _, _, number, page_ms = _PONG.unpack(data)
    if not 0.0 <= page_ms < 1e12:
        raise WireError(f"pong {number}: the page's clock says {page_ms!r} ms")
    return int(number), float(page_ms)


def encode_picture(camera: str, number: int, captured_s: float, jpeg: bytes) -> bytes:
    """A camera's picture; captured_s on the station's steady clock, which goes out in ms."""
    name = camera.encode("utf-8")[:255]
    return _PICTURE.pack(PICTURE, VERSION, len(name), 0, number, 1e3 * captured_s) + name + jpeg


def decode_picture_shown(data: bytes) -> int:
    """The number of the picture the page has drawn. Raises `WireError`."""
    if len(data) != _SHORT.size:
        raise WireError(f"acknowledgement of {len(data)} bytes, {_SHORT.size} are expected")
    return int(_SHORT.unpack(data)[3])
