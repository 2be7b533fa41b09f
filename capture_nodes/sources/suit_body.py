"""The body points of one skeleton frame by frame: what `bvh` does with a file, for a stream."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np

from capture_nodes.sources.bvh_file import BvhFile, BvhJoint
from capture_nodes.sources.bvh_motion import (
    BodyMotion,
    forward_kinematics,
    local_motion,
    rest_axes,
    translation_bases,
)
from capture_nodes.sources.skeleton import read_skeleton, scale_of
from capture_nodes.sources.suit_skeleton import SuitSkeleton
from retargeting.frames import Array


class SuitBody:
    """Poses of a suit's frames in `trainer`, which is placed by the first of them.

    `name` is that of the stream; `first` ``(channels,)`` the values of its first frame. Raises `SourceError`
    where the skeleton cannot be used.
    """

    def __init__(self, name: str, joints: tuple[BvhJoint, ...], first: Array, said: SuitSkeleton) -> None:
        whole = BvhFile(name, joints, 1.0, first[None, :])
        skeleton = read_skeleton(whole, said.joints)
        scale, decision = scale_of(skeleton, name, said.scale_m_per_unit)
        # A stranger's numbers may be anything: what is no pose `MotionFrame` refuses, without a warning here.
        with np.errstate(all="ignore"):
            motion = BodyMotion(whole, skeleton, 1)
            up, up_note = motion.up(said.up_axis)
            self._placement = motion.placement(up, scale)
        self.joints = joints
        self._points = tuple(skeleton.joints)
        self._axes = rest_axes(skeleton)
        # Toes and fingers cost as much as all that is asked for.
        needed = sorted(_with_ancestors(joints, skeleton.joints.values()))
        places = {joint: place for place, joint in enumerate(needed)}
        fewer = tuple(replace(joints[j], parent=places.get(joints[j].parent, -1)) for j in needed)
        self._fewer = BvhFile(name, fewer, 1.0, whole.values)
        self._bases = translation_bases(whole)[needed]
        self._kept = [places[joint] for joint in skeleton.joints.values()]
        named = (f"{point}={joints[joint].name}" for point, joint in skeleton.joints.items())
        self.report: Mapping[str, str] = {
            "scale": decision,
            "up": up_note,
            "floor": self._placement.note,
            "joints": ", ".join(named),
            **skeleton.notes,
        }

    def poses(self, values: Array) -> dict[str, Array]:
        """Pose ``(7,)`` of each body point; `values` ``(channels,)`` of one frame."""
        with np.errstate(all="ignore"):
            rotations, offsets = local_motion(self._fewer, values[None, :], self._bases)
            positions, quaternions = forward_kinematics(self._fewer, rotations, offsets)
            poses = self._placement.poses(positions[0, self._kept], quaternions[0, self._kept], self._axes)
            # A turn of many joints is rounded as many times.
            poses[:, 3:] /= np.linalg.norm(poses[:, 3:], axis=1, keepdims=True)
        return dict(zip(self._points, poses, strict=True))


def _with_ancestors(joints: tuple[BvhJoint, ...], wanted: Iterable[int]) -> set[int]:
    found: set[int] = set()
    for index in wanted:
        joint = index
        while joint >= 0 and joint not in found:
            found.add(joint)
            joint = joints[joint].parent
    return found
