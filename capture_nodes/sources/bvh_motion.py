"""Body points of a BVH skeleton from its channels: forward kinematics, and the way into `trainer`.

`trainer` lies on the floor under the pelvis of the first frame; x is where shoulders and hips face
there. The floor is where the feet's lowest point comes to in all but the lowest 2 % of frames
(a foot that sinks in now and then is capture noise). A live stream is placed by its first frame alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from capture_nodes.sources.bvh_file import POSITION_CHANNELS, ROTATION_CHANNELS, BvhFile
from capture_nodes.sources.skeleton import Skeleton
from retargeting.body_points import SIDES
from retargeting.frames import (
    ROTATION_BVH_TO_TRAINER,
    Array,
    quaternion_from_rotation_matrix,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
    yaw_of_direction,
)

_CHUNK_FRAMES = 4096
_FLOOR_QUANTILE = 0.02
_ANKLE_OF_STATURE, _PELVIS_OF_STATURE = 0.039, 0.53

# Rotations that bring the file's upward axis to BVH's +y.
_UP_AXES: Mapping[str, Array] = {
    "y": np.array([0.0, 1.0, 0.0]),
    "z": np.array([0.0, 0.0, 1.0]),
    "x": np.array([1.0, 0.0, 0.0]),
    "-y": np.array([0.0, -1.0, 0.0]),
    "-z": np.array([0.0, 0.0, -1.0]),
    "-x": np.array([-1.0, 0.0, 0.0]),
}
# YAML, and so ROS, reads a bare y as true: with its sign it stays a text.
UP_AXES = ("auto", *(axis if axis.startswith("-") else f"+{axis}" for axis in _UP_AXES))


def is_up_axis(text: str) -> bool:
    """Whether `text` names an upward axis; its plus sign may be left out."""
    return text in UP_AXES or text in _UP_AXES


@dataclass(frozen=True)
class Placement:
    """From the skeleton's own axes and units to `trainer`: turn by `turn` (xyzw), times `scale`, less
    `origin_m`.

    `note` says how the floor was found.
    """

    turn: Array
    scale: float
    origin_m: Array
    note: str

    def poses(self, positions: Array, quaternions: Array, axes: Array) -> Array:
        """Poses ``(…, points, 7)`` in `trainer` of joints in their own axes and units.

        `axes` ``(points, 4)``: of each body point in the rest pose, as quaternions.
        """
        positions = self.scale * rotate(self.turn, positions) - self.origin_m
        turned = quaternion_multiply(self.turn, quaternions)
        return np.concatenate([positions, quaternion_multiply(turned, axes)], axis=-1)


class BodyMotion:
    """Body points of every sample in file axes and units, and the way from there to `trainer`."""

    def __init__(self, file: BvhFile, skeleton: Skeleton, factor: int) -> None:
        self._skeleton = skeleton
        self._points = list(skeleton.joints)
        self._feet = _feet(file, skeleton)
        kept = [*skeleton.joints.values(), *self._feet]
        positions, quaternions = [], []
        frames = len(file.values)
        bases = translation_bases(file)
        for start in range(0, max(1, frames - 1), _CHUNK_FRAMES):
            # One frame of overlap: the samples between two chunks belong to the first.
            rotations, offsets = local_motion(file, file.values[start : start + _CHUNK_FRAMES + 1], bases)
            rotations, offsets = _densified(rotations, factor), _densified_linear(offsets, factor)
            if start + _CHUNK_FRAMES + 1 < frames:
                rotations, offsets = rotations[:-1], offsets[:-1]
            position, quaternion = forward_kinematics(file, rotations, offsets)
            positions.append(position[:, kept])
            quaternions.append(quaternion[:, kept[: len(self._points)]])
        everything = np.concatenate(positions)
        self._positions = everything[:, : len(self._points)]
        self._foot_positions = everything[:, len(self._points) :]
        self._quaternions = np.concatenate(quaternions)

    def _of(self, point: str) -> Array:
        result: Array = self._positions[:, self._points.index(point)]
        return result

    def up(self, asked: str) -> tuple[Array, str]:
        """The file's upward unit vector and how it was found."""
        if asked != "auto":
            axis_name = asked.removeprefix("+")
            return _UP_AXES[axis_name], f"{axis_name} as given"
        top = "head" if "head" in self._points else "chest"
        bottom = self._foot_positions.mean(axis=1) if self._feet else self._of("pelvis")
        rise = (self._of(top) - bottom).mean(axis=0)
        axis = int(np.argmax(np.abs(rise)))
        share = abs(rise[axis]) / max(float(np.linalg.norm(rise)), 1e-12)
        if share < 0.8:
            return _UP_AXES["y"], "y (BVH's usual; the motion does not tell, say it with up_axis:=)"
        name = ("" if rise[axis] > 0 else "-") + "xyz"[axis]
        foot = "feet" if self._feet else "pelvis"
        return _UP_AXES[name], f"{name} (found: the {top} is above the {foot} along it)"

    def placement(self, up: Array, scale: float) -> Placement:
        """Where `trainer` is, by these frames; `up` as found by `up`, `scale` in metres per unit."""
        # The file's own axes may have another upward axis than BVH's y: turn it there the short way.
        to_y = _shortest(up, np.array([0.0, 1.0, 0.0]))
        turn = quaternion_multiply(quaternion_from_rotation_matrix(ROTATION_BVH_TO_TRAINER), to_y)
        yaw = self._heading(turn)
        turn = quaternion_multiply(quaternion_from_rotation_vector([0.0, 0.0, -yaw]), turn)
        pelvis = scale * rotate(turn, self._of("pelvis")[0])
        stature = scale * self._skeleton.stature
        if self._feet:
            lowest = (scale * rotate(turn, self._foot_positions))[..., 2].min(axis=1)
            floor = float(np.quantile(lowest, _FLOOR_QUANTILE))
            note = "lowest point of the feet"
            if len(self._feet) <= len(SIDES):
                floor -= _ANKLE_OF_STATURE * stature
                note = "ankles less their usual height (the feet have no toes)"
        else:
            floor = float(pelvis[2]) - _PELVIS_OF_STATURE * stature
            note = "under a pelvis of usual height (the skeleton has no legs)"
        return Placement(turn, scale, np.array([pelvis[0], pelvis[1], floor]), note)

    def in_trainer(self, placement: Placement) -> Array:
        """Poses ``(samples, points, 7)`` in `trainer`."""
        return placement.poses(self._positions, self._quaternions, rest_axes(self._skeleton))

    def _heading(self, turn: Array) -> float:
        """Where shoulders and hips face in the first frame that tells, rad about the vertical."""
        left = np.zeros((len(self._positions), 3))
        for part in ("shoulder", "hip"):
            if all(f"{side}_{part}" in self._points for side in SIDES):
                across = self._of(f"left_{part}") - self._of(f"right_{part}")
                left += across / np.maximum(np.linalg.norm(across, axis=-1, keepdims=True), 1e-12)
        left = rotate(turn, left)
        left[:, 2] = 0.0
        telling = np.flatnonzero(np.linalg.norm(left, axis=-1) > 0.3)
        if not len(telling):
            return 0.0
        x, y, _ = left[telling[0]]
        return float(yaw_of_direction([y, -x, 0.0]))  # forward = left turned by -90 degrees


def _feet(file: BvhFile, skeleton: Skeleton) -> list[int]:
    """Ankles and everything below them, end sites included; empty without legs."""
    if not skeleton.has_legs:
        return []
    below = {skeleton.joints[f"{side}_ankle"] for side in SIDES}
    for index, joint in enumerate(file.joints):
        if joint.parent in below:
            below.add(index)
    return sorted(below)


def _shortest(a: Array, b: Array) -> Array:
    """Quaternion of the shortest rotation between two unit axes; half a turn about x or z if opposite."""
    axis = np.cross(a, b)
    angle = math.atan2(float(np.linalg.norm(axis)), float(a @ b))
    if np.linalg.norm(axis) < 1e-9:
        axis = np.array([0.0, 0.0, 1.0]) if abs(a[2]) < 0.5 else np.array([1.0, 0.0, 0.0])
    return quaternion_from_rotation_vector(angle * axis / np.linalg.norm(axis))


def rest_axes(skeleton: Skeleton) -> Array:
    """The axes ``(points, 4)`` of a skeleton's body points at rest, as quaternions."""
    return quaternion_from_rotation_matrix(np.stack([skeleton.axes[point] for point in skeleton.joints]))


def translation_bases(file: BvhFile) -> Array:
    """What the position channels of each joint are added to ``(joints, 3)``; see `_translation_base`."""
    return np.array([_translation_base(file, index) for index in range(len(file.joints))])


def local_motion(file: BvhFile, values: Array, bases: Array) -> tuple[Array, Array]:
    """Rotations ``(frames, joints, 4)`` and translations ``(frames, joints, 3)`` relative to the parents.

    `bases` as `translation_bases` has them.
    """
    frames, count = len(values), len(file.joints)
    angles = np.zeros((3, frames, count))
    axes = np.zeros((3, count, 3))
    offsets = np.tile(np.array([joint.offset for joint in file.joints]), (frames, 1, 1))
    for index, joint in enumerate(file.joints):
        turns = 0
        moved = np.zeros((frames, 3))
        for column, channel in enumerate(joint.channels, start=joint.first_channel):
            if channel in ROTATION_CHANNELS:
                angles[turns, :, index] = np.radians(values[:, column])
                axes[turns, index, ROTATION_CHANNELS.index(channel)] = 1.0
                turns += 1
            else:
                moved[:, POSITION_CHANNELS.index(channel)] = values[:, column]
        if any(channel in POSITION_CHANNELS for channel in joint.channels):
            given = np.array([channel in joint.channels for channel in POSITION_CHANNELS])
            offsets[:, index] = np.where(given, bases[index] + moved, np.array(joint.offset))
    rotations = quaternion_from_rotation_vector(angles[0][..., None] * axes[0])
    for turn in (1, 2):
        step = quaternion_from_rotation_vector(angles[turn][..., None] * axes[turn])
        rotations = quaternion_multiply(rotations, step)
    return rotations, offsets


def _translation_base(file: BvhFile, index: int) -> Array:
    """What the position channels of a joint are added to ``(3,)``: nothing, or its OFFSET.

    Nearly all software writes the whole translation, in place of the OFFSET. Some writes, below the
    root, the difference from it: then the values lie nearer to zero than to the OFFSET.
    """
    joint = file.joints[index]
    offset, mean, given = np.array(joint.offset), np.zeros(3), np.zeros(3, dtype=bool)
    for column, channel in enumerate(joint.channels, start=joint.first_channel):
        if channel in POSITION_CHANNELS:
            axis = POSITION_CHANNELS.index(channel)
            given[axis] = True
            mean[axis] = file.values[:, column].mean()
    whole = joint.parent < 0 or np.linalg.norm((mean - offset)[given]) <= np.linalg.norm(mean[given])
    return np.zeros(3) if whole else offset


def _densified(rotations: Array, factor: int) -> Array:
    """`factor` - 1 rotations (slerp) between every two along the first axis."""
    if factor == 1 or len(rotations) < 2:
        return rotations
    turns = quaternion_multiply(quaternion_inverse(rotations[:-1]), rotations[1:])
    step = rotation_vector_from_quaternion(turns)
    dense = np.empty(((len(rotations) - 1) * factor + 1, *rotations.shape[1:]))
    for part in range(factor):
        turn = quaternion_from_rotation_vector(part / factor * step)
        dense[part:-1:factor] = quaternion_multiply(rotations[:-1], turn)
    dense[-1] = rotations[-1]
    return dense


def _densified_linear(values: Array, factor: int) -> Array:
    if factor == 1 or len(values) < 2:
        return values
    dense = np.empty(((len(values) - 1) * factor + 1, *values.shape[1:]))
    for part in range(factor):
        dense[part:-1:factor] = values[:-1] + part / factor * (values[1:] - values[:-1])
    dense[-1] = values[-1]
    return dense


def forward_kinematics(file: BvhFile, rotations: Array, offsets: Array) -> tuple[Array, Array]:
    """Positions ``(samples, joints, 3)`` and rotations ``(samples, joints, 4)`` in file axes."""
    positions, quaternions = np.empty_like(offsets), np.empty_like(rotations)
    for index, joint in enumerate(file.joints):
        if joint.parent < 0:
            positions[:, index], quaternions[:, index] = offsets[:, index], rotations[:, index]
            continue
        turn = quaternions[:, joint.parent]
        positions[:, index] = positions[:, joint.parent] + rotate(turn, offsets[:, index])
        quaternions[:, index] = turn if joint.is_end else quaternion_multiply(turn, rotations[:, index])
    return positions, quaternions
