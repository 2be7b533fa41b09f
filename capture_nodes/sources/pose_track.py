"""Body points sampled at a constant rate and read at any time in between."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import TypeVar

import numpy as np

from retargeting.frames import Array
from retargeting.motion_frame import Axis, Controls, MotionFrame

_RELEASED = Controls()
Self = TypeVar("Self", bound="PoseTrack")


class PoseTrack:
    """Poses of named body points at a constant rate, interpolated as asked.

    Positions are interpolated linearly, rotations by slerp (Shoemake, SIGGRAPH 1985), whose
    angles are worked out once here. A source that plays a prepared motion derives from it.
    """

    def __init__(
        self,
        names: Sequence[str],
        poses: Array,
        rate_hz: float,
        *,
        axes: Array | None = None,
        loop: bool = False,
    ) -> None:
        """`poses` is ``(samples, points, 7)`` in `trainer`, `axes` ``(samples, len(Axis))`` the controls'."""
        self._names = tuple(names)
        self._rate_hz = rate_hz
        self._last = len(poses) - 1
        self._loop = loop
        self._positions = np.ascontiguousarray(poses[..., :3])
        quaternions = np.ascontiguousarray(poses[..., 3:])
        # q and -q are one rotation: w >= 0 in the first sample, then neighbours on one hemisphere.
        quaternions *= np.where(quaternions[0, :, 3:] < 0.0, -1.0, 1.0)
        flips = np.where(np.sum(quaternions[1:] * quaternions[:-1], axis=-1) < 0.0, -1.0, 1.0)
        quaternions[1:] *= np.cumprod(flips, axis=0)[..., None]
        self._quaternions = quaternions
        cosine = np.sum(quaternions[1:] * quaternions[:-1], axis=-1, keepdims=True)
        chord = np.linalg.norm(quaternions[1:] - quaternions[:-1], axis=-1, keepdims=True)
        # atan2 of chord keeps small angles exact; the floor makes slerp of equal rotations linear.
        self._angle = np.maximum(np.arctan2(chord * np.sqrt(np.maximum(0.0, 1 - chord**2 / 4)), cosine), 1e-6)
        self._inverse_sine = 1.0 / np.sin(self._angle)
        self._axes = axes

    @property
    def names(self) -> tuple[str, ...]:
        """The body points of every frame."""
        return self._names

    @property
    def duration_s(self) -> float:
        return self._last / self._rate_hz

    @property
    def loop(self) -> bool:
        return self._loop

    @property
    def rate_hz(self) -> float:
        """Samples per second held in memory (a multiple of the recording's own rate)."""
        return self._rate_hz

    def poses_at(self, elapsed_s: float) -> Array:
        """Poses ``(points, 7)`` at `elapsed_s`, held at both ends or wrapped where it loops."""
        index, fraction = self._place(elapsed_s)
        poses = np.empty((len(self._names), 7))
        if fraction == 0.0:
            poses[:, :3] = self._positions[index]
            poses[:, 3:] = self._quaternions[index]
            return poses
        angle, inverse = self._angle[index], self._inverse_sine[index]
        before, after = self._positions[index], self._positions[index + 1]
        poses[:, :3] = before + fraction * (after - before)
        poses[:, 3:] = (np.sin((1.0 - fraction) * angle) * inverse) * self._quaternions[index]
        poses[:, 3:] += (np.sin(fraction * angle) * inverse) * self._quaternions[index + 1]
        return poses

    def controls_at(self, elapsed_s: float) -> Controls:
        if self._axes is None:
            return _RELEASED
        index, fraction = self._place(elapsed_s)
        after = min(index + 1, self._last)
        axes = (1.0 - fraction) * self._axes[index] + fraction * self._axes[after]
        return Controls(axes=tuple(axes.tolist()))

    def frame_at(self, elapsed_s: float, stamp_ns: int) -> MotionFrame:
        """The motion frame at `elapsed_s`, stamped `stamp_ns`."""
        poses = dict(zip(self._names, self.poses_at(elapsed_s), strict=True))
        return MotionFrame(stamp_ns, poses, self.controls_at(elapsed_s))

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing is held open: the motion is in memory."""

    def _place(self, elapsed_s: float) -> tuple[int, float]:
        if self._loop and self._last > 0 and elapsed_s > 0.0:
            elapsed_s %= self.duration_s
        place = min(max(elapsed_s * self._rate_hz, 0.0), float(self._last))
        index = int(place)
        return index, place - index


def trigger_axes(left_opening: Array, right_opening: Array) -> Array:
    """Controls' axes ``(samples, len(Axis))`` of hands that open (1) and close (0) on the triggers."""
    axes = np.zeros((len(left_opening), len(Axis)))
    axes[:, Axis.LEFT_TRIGGER] = 1.0 - left_opening
    axes[:, Axis.RIGHT_TRIGGER] = 1.0 - right_opening
    return axes
