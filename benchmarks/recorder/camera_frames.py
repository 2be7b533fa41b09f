"""Frames as cameras give them: a scene with edges and texture that moves a little, and grain."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FRAMES = 30
# Of one channel, in steps of 255: a camera indoors.
GRAIN = 2.0
_MOVE_PX = 2


def camera_frames(
    width: int, height: int, count: int = FRAMES, grain: float = GRAIN, seed: int = 7
) -> NDArray[np.uint8]:
    """``(count, height, width, 3)`` rgb8. Shown forth and back they make an endless, even movement."""
    random = np.random.default_rng(seed)
    margin = _MOVE_PX * count
    rows, columns = np.mgrid[0:height, 0 : width + margin].astype(np.float32)
    scene = np.empty((height, width + margin, 3), np.float32)
    for channel in range(3):
        shade = 110.0 + 50.0 * np.sin(columns / (61.0 + 9 * channel)) * np.cos(rows / (47.0 + 5 * channel))
        shade += 18.0 * np.sin(columns / 5.3 + rows / 7.9 + channel)
        scene[..., channel] = shade
    for _ in range(60):
        top, left = random.integers(0, height - 40), random.integers(0, width + margin - 60)
        tall, wide = random.integers(12, 90), random.integers(12, 120)
        scene[top : top + tall, left : left + wide] += random.uniform(-70.0, 70.0, 3).astype(np.float32)
    # Texture that belongs to the scene: it moves with it, unlike the grain.
    scene += random.normal(0.0, 6.0, (height, width + margin, 1)).astype(np.float32)
    frames = np.empty((count, height, width, 3), np.uint8)
    for number in range(count):
        seen = scene[:, _MOVE_PX * number : _MOVE_PX * number + width]
        noise = grain * random.standard_normal((height, width, 3), np.float32)
        np.clip(np.rint(seen + noise), 0, 255, out=frames[number], casting="unsafe")
    return frames


def forth_and_back(number: int, count: int) -> int:
    """Which of ``count`` frames is shown at ``number``: 0 1 2 … count-1 … 2 1 0 1 2 …"""
    if count < 2:
        return 0
    place = number % (2 * count - 2)
    return place if place < count else 2 * count - 2 - place
