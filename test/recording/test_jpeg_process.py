"""Pictures encoded by a process of their own: the same pictures, its death, and what cannot be encoded."""

from __future__ import annotations

import io
import os
import signal

import numpy as np
import pytest
from PIL import Image as Pillow

from capture_nodes.cdr_template import CdrTemplate, image_template
from capture_nodes.recording.camera_image import UnusableImage, read_image, read_picture
from capture_nodes.recording.jpeg_encoder import encode_jpeg
from capture_nodes.recording.jpeg_process import JpegProcess


def message(encoding: str = "rgb8", stamp_ns: int = 1_700_000_000_123_456_789) -> bytes:
    template = image_template("camera", 48, 64, encoding, 3)
    template.set("data", np.random.default_rng(1).integers(0, 255, 48 * 64 * 3, dtype=np.uint8))
    template.set_stamp(stamp_ns)
    return bytes(template)


def test_the_pictures_are_those_of_the_encoder() -> None:
    encoder = JpegProcess()
    try:
        for quality in (40, 90):
            stamp_ns, jpeg = encoder.encode(message(), quality)
            assert stamp_ns == 1_700_000_000_123_456_789
            assert jpeg == encode_jpeg(read_image(message()), quality)
        with pytest.raises(UnusableImage, match="32FC1"):
            encoder.encode(message("32FC1"), 75)
        with pytest.raises(UnusableImage, match="CDR is expected"):
            encoder.encode(b"nonsense", 75)
        assert Pillow.open(io.BytesIO(encoder.encode(message(), 75)[1])).size == (64, 48)
    finally:
        encoder.close()


def test_one_that_dies_is_started_again_and_an_interrupt_does_not_end_it() -> None:
    encoder = JpegProcess()
    try:
        encoder.encode(message(), 75)
        process = encoder._process
        assert process is not None
        os.kill(process.pid, signal.SIGINT)
        encoder.encode(message(), 75)
        assert encoder._process is process
        os.kill(process.pid, signal.SIGSTOP)
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10.0)
        encoder.encode(message(), 75)
        assert encoder._process is not process
    finally:
        process = encoder._process
        encoder.close()
        encoder.close()
    assert process is not None and process.returncode == 0


def test_compressed_images_are_read() -> None:
    jpeg = encode_jpeg(read_image(message()), 75)
    template = CdrTemplate("camera").string("rgb8; jpeg compressed bgr8").octets("data", len(jpeg))
    template.set("data", np.frombuffer(jpeg, np.uint8))
    template.set_stamp(5_000_000_007)
    picture = read_picture(bytes(template))
    assert (picture.stamp_ns, picture.data, picture.is_jpeg) == (5_000_000_007, jpeg, True)
    assert picture.image_format == "rgb8; jpeg compressed bgr8"
    for damaged in (bytes(template)[:-10], bytes(template)[:20], b"", b"\0\1\0\0", b"abcd" * 9):
        with pytest.raises(UnusableImage):
            read_picture(damaged)
