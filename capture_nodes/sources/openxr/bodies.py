"""The trainer's body, where a runtime tracks or infers one (`XR_FB_body_tracking`, `XR_BD_body_tracking`)."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from capture_nodes.sources.openxr.driver import Runtime
from capture_nodes.sources.openxr.joint_tracker import JointTracker
from capture_nodes.sources.openxr.points import TrackedPoints
from retargeting.frames import (
    ROTATION_OPENXR_TO_TRAINER,
    Array,
    pose_to_trainer,
    quaternion_from_rotation_matrix,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
)

_BD_FULL_BODY = 2

FB_JOINTS: Mapping[str, int] = {
    "head": 7,
    "chest": 5,
    "pelvis": 1,
    "left_shoulder": 10,
    "left_elbow": 11,
    "left_wrist": 19,
    "right_shoulder": 15,
    "right_elbow": 16,
    "right_wrist": 45,
}
BD_JOINTS: Mapping[str, int] = {
    "head": 15,
    "chest": 9,
    "pelvis": 0,
    "left_shoulder": 16,
    "left_elbow": 18,
    "left_wrist": 20,
    "left_hip": 1,
    "left_knee": 4,
    "left_ankle": 7,
    "right_shoulder": 17,
    "right_elbow": 19,
    "right_wrist": 21,
    "right_hip": 2,
    "right_knee": 5,
    "right_ankle": 8,
}


@dataclass(frozen=True)
class BodyKind:
    """A vendor's body: its joint of each body point, how many joints it has, and which set is asked for.

    own_t_pose: it hands out the T-pose that the axes of its joints are read off; otherwise they are, in a
    T-pose, the runtime's own (x right, y up, z back).
    """

    vendor: str
    joints: Mapping[str, int]
    count: int
    own_t_pose: bool


FB_BODY = BodyKind("FB", FB_JOINTS, 70, own_t_pose=True)
BD_BODY = BodyKind("BD", BD_JOINTS, 24, own_t_pose=False)


def t_pose_axes(point: str) -> Array:
    """Axes (xyzw) of a body point in a T-pose that faces the trainer's x: arms are out to the sides."""
    side, _, part = point.partition("_")
    if part not in ("shoulder", "elbow", "wrist"):
        return np.array([0.0, 0.0, 0.0, 1.0])
    return quaternion_from_rotation_vector([0.0, 0.0, 0.5 * np.pi if side == "left" else -0.5 * np.pi])


class Body:
    """Raises `RuntimeFailed`."""

    def __init__(self, runtime: Runtime, session: Any, kind: BodyKind, points: TrackedPoints) -> None:
        xr = runtime.xr
        self._runtime, self._points = runtime, points
        joint_set = (
            {"body_joint_set": xr.BodyJointSetFB(0)}
            if kind is FB_BODY
            else {"joint_set": xr.BodyJointSetBD(_BD_FULL_BODY)}
        )
        name = "Body", kind.vendor
        self._tracker = JointTracker(runtime, session, name, joint_set, points.table, points.body_rows)
        self._skeleton_seen: int | None = None
        self._skeleton = None
        if kind.own_t_pose:
            self._skeleton = runtime.function(
                "xrGetBodySkeletonFB", xr.BodyTrackerFB, ctypes.POINTER(xr.BodySkeletonFB)
            )
        else:
            points.set_body_axes(np.array([t_pose_axes(point) for point in kind.joints]))

    def locate(self, base: Any, xr_time: int) -> None:
        if not self._tracker.locate(base, xr_time) or self._skeleton is None:
            return
        changes = int(self._tracker.locations.skeleton_changed_count)
        if self._skeleton_seen != changes:
            self._points.set_body_axes(skeleton_axes(self._t_pose(self._skeleton)))
            self._skeleton_seen = changes

    def _t_pose(self, skeleton_of: Any) -> Array:
        """The runtime's own T-pose ``(70, 7)``, position and rotation in OpenXR axes."""
        xr = self._runtime.xr
        joints = (xr.BodySkeletonJointFB * FB_BODY.count)()
        skeleton = xr.BodySkeletonFB(joints=joints)
        code = skeleton_of(self._tracker.handle, ctypes.byref(skeleton))
        self._runtime.check(code, "xrGetBodySkeletonFB")
        poses = np.array([np.frombuffer(j.pose, "<f4", 7) for j in joints], dtype=np.float64)
        poses = np.hstack([poses[:, 4:], poses[:, :4]])
        poses[:, 3:] /= np.maximum(np.linalg.norm(poses[:, 3:], axis=1, keepdims=True), 1e-9)
        return poses


def skeleton_axes(poses: Array) -> Array:
    """`FB_JOINTS`' points' axes ``(points, 4)`` in those of their joints, from a T-pose ``(70, 7)``.

    Which way the T-pose faces is read off it: up from the hips to the head, left from shoulder to shoulder.
    """
    in_trainer = pose_to_trainer(poses, ROTATION_OPENXR_TO_TRAINER)
    place = in_trainer[:, :3]
    up = place[FB_JOINTS["head"]] - place[FB_JOINTS["pelvis"]]
    left = place[FB_JOINTS["left_shoulder"]] - place[FB_JOINTS["right_shoulder"]]
    up_length, forward = np.linalg.norm(up), np.cross(left, up)
    facing = np.array([0.0, 0.0, 0.0, 1.0])
    if up_length > 1e-3 and np.linalg.norm(forward) > 1e-3:
        z, x = up / up_length, forward / np.linalg.norm(forward)
        facing = quaternion_from_rotation_matrix(np.stack([x, np.cross(z, x), z], axis=-1))
    wanted = np.stack([quaternion_multiply(facing, t_pose_axes(point)) for point in FB_JOINTS])
    has = in_trainer[list(FB_JOINTS.values()), 3:]
    return quaternion_multiply(quaternion_inverse(has), wanted)
