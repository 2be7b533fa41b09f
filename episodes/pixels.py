"""The pixels of image messages."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray

from episodes import cdr

_CHANNELS = {"rgb8": (0, 1, 2), "bgr8": (2, 1, 0), "rgba8": (0, 1, 2), "bgra8": (2, 1, 0), "mono8": (0, 0, 0)}


def decompressed_pixels(data: bytes) -> NDArray[np.uint8]:
    """``(height, width, 3)`` RGB of a JPEG or PNG; `OSError` where it is neither."""
    from PIL import Image as PillowImage  # comes with matplotlib; only pictures need it

    return np.asarray(PillowImage.open(io.BytesIO(data)).convert("RGB"), dtype=np.uint8)


def raw_pixels(
    height: int, width: int, encoding: str, big_endian: bool, step: int, raw: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    """``(height, width, 3)`` RGB of an Image's fields; `MalformedMessage` where they do not fit."""
    order = _CHANNELS.get(encoding)
    if order is None:
        raise cdr.MalformedMessage(f"encoding {encoding!r}; {', '.join(_CHANNELS)} can be shown")
    depth = 1 if encoding == "mono8" else len(encoding) - 1
    if step < width * depth or len(raw) < step * height:
        raise cdr.MalformedMessage(f"{width}x{height} {encoding} does not fit {len(raw)} bytes, step {step}")
    pixels = raw[: step * height].reshape(height, step)[:, : width * depth].reshape(height, width, depth)
    return np.ascontiguousarray(pixels[:, :, list(order)])
