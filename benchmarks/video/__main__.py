"""CPU, bytes and PSNR of camera encodings: ``python -m benchmarks.video`` (three cameras of 20 s, minutes).

Every setting encodes the same frames, messages in and messages out, and what it wrote is decoded again by
FFmpeg's own decoder. PSNR is over red, green and blue against the frames as recorded, grain included: "dB"
with colours interpolated between their samples, as graphics hardware and `episodes` show them, "plain" with
FFmpeg's fastest conversion, which repeats them.
"""

from __future__ import annotations

import argparse
import io
import json
import struct
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.video.camera_scene import (
    HEAD,
    LEFT_WRIST,
    RIGHT_WRIST,
    SceneParameters,
    camera_frames,
    psnr_db,
)
from capture_nodes.recording.camera_encoding import CameraEncoder, CameraSettings, Encoding
from capture_nodes.recording.camera_image import COMPRESSED_IMAGE, COMPRESSED_VIDEO, IMAGE
from capture_nodes.recording.mcap_file import ChannelDescription
from capture_nodes.recording.video_encoder import VideoParameters, import_av
from episodes.video import rgb_pixels

CAMERAS = {"head": HEAD, "left wrist": LEFT_WRIST, "right wrist": RIGHT_WRIST}
# PSNR of every so many frames: decoding is all, comparing is most of the time.
COMPARED = 5
NO_CAP = 24.0


def settings_table(presets: list[str], crfs: list[float]) -> dict[str, CameraSettings]:
    """The settings that are compared: the default, presets by quality without a cap, and JPEG."""
    table = {"default": CameraSettings()}
    for preset in presets:
        for crf in crfs:
            video = VideoParameters(preset=preset, crf=crf, max_bits_per_pixel=NO_CAP)
            table[f"{preset} {crf:g}"] = CameraSettings(video=video)
    jpeg: Encoding = "jpeg"
    for quality in (75, 90):
        table[f"jpeg {quality}"] = CameraSettings(encoding=jpeg, jpeg_quality=quality)
    return table


@dataclass
class Row:
    """Sums over the frames of one camera under one setting."""

    frames: int = 0
    bytes: int = 0
    cpu_s: float = 0.0
    squared_error: float = 0.0
    plain_squared_error: float = 0.0
    compared: int = 0


def image_message(pixels: NDArray[np.uint8], stamp_ns: int) -> bytes:
    """CDR of an rgb8 Image."""
    height, width, _ = pixels.shape
    head = struct.pack("<4siI", b"\0\1\0\0", stamp_ns // 10**9, stamp_ns % 10**9)
    head += struct.pack("<I8sIII8s", 7, b"camera\0\0", height, width, 5, b"rgb8\0\0\0\0")
    return head + struct.pack("<II", 3 * width, 3 * width * height) + pixels.tobytes()


def video_packet(message: bytes) -> bytes:
    """`data` of a CompressedVideo or CompressedImage of frame "camera"."""
    offset = 24
    if message[28:32] != b"\0\0\0\1":
        (length,) = struct.unpack_from("<I", message, offset)
        offset += 4 + -(-length // 4) * 4
    (length,) = struct.unpack_from("<I", message, offset)
    return message[offset + 4 : offset + 4 + length]


Pair = tuple[NDArray[np.uint8], NDArray[np.uint8]]


def picture_reader(kind: str) -> Callable[[bytes, bool], Pair | None]:
    """Decodes one packet after another; pixels (interpolated, plain) only where asked for."""
    if kind == "jpeg":
        from PIL import Image

        def open_picture(data: bytes, wanted: bool) -> Pair | None:
            picture = np.asarray(Image.open(io.BytesIO(data)))
            return (picture, picture) if wanted else None

        return open_picture
    av = import_av()
    decoder = av.CodecContext.create("h264", "r")
    decoder.thread_count = 1

    def read(data: bytes, wanted: bool) -> Pair | None:
        (frame,) = decoder.decode(av.Packet(data))
        return (rgb_pixels(frame), frame.to_ndarray(format="rgb24")) if wanted else None

    return read


def measure(
    camera: str, scene: SceneParameters, count: int, table: dict[str, CameraSettings]
) -> dict[str, Row]:
    """Every setting on the same frames of one camera."""
    schemas = {COMPRESSED_VIDEO: "-", COMPRESSED_IMAGE: "-"}
    rows = {name: Row() for name in table}
    encoders = {
        name: CameraEncoder(ChannelDescription(f"/{camera}", IMAGE, "-"), setting, schemas)
        for name, setting in table.items()
    }
    readers = {name: picture_reader(setting.encoding) for name, setting in table.items()}
    for index, pixels in enumerate(camera_frames(scene, count, seed=len(camera))):
        message = image_message(pixels, round(index * 1e9 / scene.rate_hz))
        wanted = index % COMPARED == 0
        for name, encoder in encoders.items():
            row = rows[name]
            began = time.thread_time()
            _, data = encoder.encode(message, index)
            row.cpu_s += time.thread_time() - began
            row.frames += 1
            row.bytes += len(data)
            decoded = readers[name](video_packet(bytes(data)), wanted)
            if decoded is not None:
                best, plain = (float(np.mean((p.astype(np.float32) - pixels) ** 2)) for p in decoded)
                row.squared_error += best
                row.plain_squared_error += plain
                row.compared += 1
    for name, encoder in encoders.items():
        if encoder.figures.steps:
            raise SystemExit(f"{name}: {encoder.figures.steps[0]}")
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument(
        "--grain", type=float, default=HEAD.grain, help="sigma of every pixel, in 8-bit steps"
    )
    parser.add_argument("--presets", default="ultrafast,superfast,veryfast,faster")
    parser.add_argument("--crf", default="20.5,22,24")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--json", default="", help="file for the figures")
    arguments = parser.parse_args()
    presets = [name for name in arguments.presets.split(",") if name]
    table = settings_table(presets, [float(text) for text in arguments.crf.split(",") if text])
    with ProcessPoolExecutor(arguments.processes) as pool:
        results = {
            name: pool.submit(
                measure,
                name,
                replace(scene, grain=arguments.grain),
                round(arguments.seconds * scene.rate_hz),
                table,
            )
            for name, scene in CAMERAS.items()
        }
        cameras = {name: future.result() for name, future in results.items()}
    print(f"{'setting':<18}{'ms/frame':>10}{'cores':>8}{'MB':>8}{'dB':>8}{'plain':>8}   per camera: MB, dB")
    figures: list[dict[str, Any]] = []
    for setting in table:
        rows = {camera: results[setting] for camera, results in cameras.items()}
        frames = sum(row.frames for row in rows.values())
        cpu_s = sum(row.cpu_s for row in rows.values())
        megabytes = sum(row.bytes for row in rows.values()) / 1e6
        error = sum(row.squared_error for row in rows.values()) / sum(row.compared for row in rows.values())
        each = {
            name: (row.bytes / 1e6, psnr_db(row.squared_error / row.compared)) for name, row in rows.items()
        }
        cores = cpu_s / (frames / len(rows) / HEAD.rate_hz)
        quality_db = psnr_db(error)
        plain_error = sum(row.plain_squared_error for row in rows.values())
        plain_db = psnr_db(plain_error / sum(row.compared for row in rows.values()))
        print(
            f"{setting:<18}{1e3 * cpu_s / frames:>10.2f}{cores:>8.2f}{megabytes:>8.2f}"
            f"{quality_db:>8.2f}{plain_db:>8.2f}   "
            + "  ".join(f"{name} {size:.2f} {quality:.2f}" for name, (size, quality) in each.items())
        )
        figures.append(
            {
                "setting": setting, "cpu_ms_per_frame": 1e3 * cpu_s / frames, "cores": cores,
                "megabytes": megabytes, "psnr_db": quality_db, "plain_psnr_db": plain_db, "cameras": each,
            }
        )  # fmt: skip
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump(
                {"seconds": arguments.seconds, "grain": arguments.grain, "settings": figures}, file, indent=1
            )


if __name__ == "__main__":
    main()
