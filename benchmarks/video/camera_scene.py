"""Camera frames that are as hard to encode as real ones: texture at every scale, motion, grain.

Background and object are "dead leaves": shapes of all sizes (their number falls with the third power of the
radius) that fall upon each other, which has the statistics of natural images and is what cameras' texture
loss is tested with (ISO/TS 19567-2). Each has a rough surface (1/f noise), the lens blurs a little. The
camera swings and turns by fractions of a pixel, the object moves across, and every channel of every pixel of
every frame gets its own Gaussian grain: white, so harder than that of a real camera, whose demosaicing and
denoising correlate neighbours.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Pixels = NDArray[np.uint8]

TEXTURE = 1536
SMALLEST_PX = 4.0
SURFACE = 6.0
LENS_BLUR_PX = 0.7


@dataclass(frozen=True)
class SceneParameters:
    """`swing_px` and `swing_hz` of the camera, `turn_rad` with the same period; grain in steps of 8 bits."""

    width: int = 640
    height: int = 480
    rate_hz: float = 30.0
    contrast: float = 45.0
    swing_px: float = 90.0
    swing_hz: float = 0.12
    turn_rad: float = 0.08
    object_px: float = 90.0
    grain: float = 2.0


# A camera on the head that follows the hands, one on each wrist that moves with them.
HEAD = SceneParameters(swing_px=45.0, swing_hz=0.1, turn_rad=0.03)
LEFT_WRIST = SceneParameters(swing_px=130.0, swing_hz=0.13, turn_rad=0.15)
RIGHT_WRIST = SceneParameters(swing_px=110.0, swing_hz=0.19, turn_rad=0.10)


def natural_texture(size: int, contrast: float, random: np.random.Generator) -> NDArray[np.float32]:
    """``(size, size, 3)``: leaves with grey values of standard deviation ``contrast``, mildly coloured."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :])
    slope = frequency.copy()
    slope[0, 0] = np.inf
    surface = np.fft.irfft2(np.fft.rfft2(random.standard_normal((size, size))) / slope, s=(size, size))
    surface /= surface.std()
    count = 6 * size
    # Radii fall with the third power: as many objects in any range of sizes as the next range has.
    radii = SMALLEST_PX / np.sqrt(random.uniform((SMALLEST_PX / (size / 6.0)) ** 2, 1.0, count))
    grey = 128.0 + contrast * random.standard_normal(count)
    colours = grey[:, None] + 0.35 * contrast * random.standard_normal((count, 3))
    places = random.uniform(0.0, size, (count, 2))
    roughness = random.uniform(0.0, 2.0 * SURFACE, count)
    texture = np.repeat((128.0 + SURFACE * surface)[:, :, None], 3, axis=2)
    _fall(texture, surface, places, radii, colours, roughness)
    lens = np.exp(-2.0 * (np.pi * LENS_BLUR_PX * frequency) ** 2)
    for k in range(3):
        texture[:, :, k] = np.fft.irfft2(np.fft.rfft2(texture[:, :, k]) * lens, s=(size, size))
    return np.ascontiguousarray(np.clip(texture, 8.0, 247.0), dtype=np.float32)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _fall(
    texture: Array, surface: Array, places: Array, radii: Array, colours: Array, roughness: Array
) -> None:
    size = texture.shape[0]
    for index in range(len(radii)):
        radius = radii[index]
        reach = int(radius) + 1
        centre_row, centre_column = int(places[index, 0]), int(places[index, 1])
        # Every third one is a square: straight edges are what people make.
        square = index % 3 == 0
        for down in range(-reach, reach + 1):
            for right in range(-reach, reach + 1):
                if not square and down * down + right * right > radius * radius:
                    continue
                row, column = (centre_row + down) % size, (centre_column + right) % size
                rough = roughness[index] * surface[row, column]
                for k in range(3):
                    texture[row, column, k] = colours[index, k] + rough


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _draw(image: Array, background: Array, thing: Array, pose: Array, thing_at: Array, radius: float) -> None:
    height, width, _ = image.shape
    size = background.shape[0]
    cosine, sine = np.cos(pose[2]), np.sin(pose[2])
    for row in range(height):
        for column in range(width):
            x, y = column - 0.5 * width, row - 0.5 * height
            u = cosine * x - sine * y + pose[0] + 0.5 * size
            v = sine * x + cosine * y + pose[1] + 0.5 * size
            away = np.hypot(x - thing_at[0], y - thing_at[1])
            # One pixel of blend, as a lens gives it.
            share = min(max(radius - away, 0.0), 1.0)
            p, q = int(np.floor(u)) % (size - 1), int(np.floor(v)) % (size - 1)
            a, b = u - np.floor(u), v - np.floor(v)
            s, t = x - thing_at[0] + 0.5 * size, y - thing_at[1] + 0.5 * size
            i, j = int(np.floor(s)) % (size - 1), int(np.floor(t)) % (size - 1)
            c, d = s - np.floor(s), t - np.floor(t)
            for k in range(3):
                behind = (1.0 - b) * ((1.0 - a) * background[q, p, k] + a * background[q, p + 1, k]) + b * (
                    (1.0 - a) * background[q + 1, p, k] + a * background[q + 1, p + 1, k]
                )
                front = (1.0 - d) * ((1.0 - c) * thing[j, i, k] + c * thing[j, i + 1, k]) + d * (
                    (1.0 - c) * thing[j + 1, i, k] + c * thing[j + 1, i + 1, k]
                )
                image[row, column, k] = (1.0 - share) * behind + share * front


def camera_frames(parameters: SceneParameters, count: int, seed: int) -> Iterator[Pixels]:
    """``count`` frames ``(height, width, 3)`` RGB; the same for the same arguments."""
    random = np.random.default_rng(seed)
    background = natural_texture(TEXTURE, parameters.contrast, random)
    thing = natural_texture(TEXTURE // 2, parameters.contrast, random)
    # Of the size of the background, so that one index rule serves both.
    thing = np.tile(thing, (2, 2, 1))
    phases = random.uniform(0.0, 2.0 * np.pi, 5)
    image = np.empty((parameters.height, parameters.width, 3), dtype=np.float32)
    for index in range(count):
        turn = 2.0 * np.pi * parameters.swing_hz * index / parameters.rate_hz
        pose = np.array(
            [
                parameters.swing_px * np.sin(turn + phases[0]),
                0.6 * parameters.swing_px * np.sin(1.3 * turn + phases[1]),
                parameters.turn_rad * np.sin(0.9 * turn + phases[2]),
            ]
        )
        place = np.array(
            [
                0.3 * parameters.width * np.sin(2.1 * turn + phases[3]),
                0.3 * parameters.height * np.sin(1.7 * turn + phases[4]),
            ]
        )
        _draw(image, background, thing, pose, place, parameters.object_px)
        grain = random.standard_normal(image.shape, dtype=np.float32) * np.float32(parameters.grain)
        yield np.clip(np.rint(image + grain), 0, 255).astype(np.uint8)


def psnr_db(squared_error: float) -> float:
    """Peak signal to noise ratio of 8 bits per channel from the mean squared error over all channels."""
    return float("inf") if squared_error == 0.0 else float(10.0 * np.log10(255.0**2 / squared_error))
