"""A camera image as JPEG, as `image_transport`'s compressed plugin publishes it."""

from __future__ import annotations

import io

from capture_nodes.recording.camera_image import Image, UnusableImage

# What the format can hold.
LONGEST_SIDE = 65535
_LAYOUT = {
    "rgb8": ("RGB", "RGB"),
    "bgr8": ("RGB", "BGR"),
    "rgba8": ("RGB", "RGBX"),
    "bgra8": ("RGB", "BGRX"),
    "mono8": ("L", "L"),
}


def jpeg_format(encoding: str) -> str:
    """`CompressedImage.format` of a JPEG made from an image of this encoding."""
    return f"{encoding}; jpeg compressed {'mono8' if encoding == 'mono8' else 'bgr8'}"


def encode_jpeg(image: Image, quality: int) -> bytes:
    """The picture; alpha is left out. Raises `UnusableImage`; any other error is the encoder's."""
    from PIL import Image as Pillow

    rows = image.colour_rows()
    if max(image.width, image.height) > LONGEST_SIDE:
        raise UnusableImage(
            f"image {image.width}x{image.height} is too large for JPEG: its sides are at most {LONGEST_SIDE}"
        )
    mode, raw = _LAYOUT[image.encoding]
    # The message itself, rows with their padding: Pillow copies what it needs.
    picture = Pillow.frombuffer(
        mode,
        (image.width, image.height),
        rows.base if rows.base is not None else rows,
        "raw",
        raw,
        image.step,
        1,
    )
    target = io.BytesIO()
    picture.save(target, "JPEG", quality=quality, subsampling="4:2:0")
    return target.getvalue()
