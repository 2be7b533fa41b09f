"""The trainer's body, where the runtime tracks or infers one: `XR_FB_body_tracking`, `XR_BD_body_tracking`.

Joints of a body are taken where they are valid: a runtime infers much of a body from head and hands and does
not call that tracked. A wrist is what an arm follows: it has to be tracked.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import Any, Protocol

import numpy as np

from capture_nodes.sources.openxr.driver import TIME_INVALID, Runtime
from capture_nodes.sources.openxr.joint_array import JointArray
from capture_nodes.sources.openxr.points import (
    BODY_POINT_NAMES,
    BODY_ROWS,
    FIRST_BODY_ROW,
    TRACKED,
    VALID,
    TrackedPoints,
)
from retargeting.body_points import SIDES
from retargeting.frames import (
    ROTATION_OPENXR_TO_TRAINER,
    Array,
    pose_to_trainer,
    quaternion_from_rotation_matrix,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
)

_FB_COUNT, _BD_COUNT, _BD_FULL_BODY = 70, 24, 2

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
_WRISTS = tuple(f"{side}_wrist" for side in SIDES)


def t_pose_axes(point: str) -> Array:
    """Axes (xyzw) of a body point in a T-pose that faces the trainer's x: arms are out to the sides."""
    side, _, part = point.partition("_")
    if part not in ("shoulder", "elbow", "wrist"):
        return np.array([0.0, 0.0, 0.0, 1.0])
    return quaternion_from_rotation_vector([0.0, 0.0, 0.5 * np.pi if side == "left" else -0.5 * np.pi])


class Body(Protocol):
    """Raises `RuntimeFailed`."""

    name: str

    def locate(self, base: Any, xr_time: int, points: TrackedPoints) -> None: ...


class _JointRows:
    """Which joints of a body go to which rows of the points."""

    def __init__(self, joints: Mapping[str, int]) -> None:
        self.names = tuple(joints)
        self.joints = np.array(list(joints.values()))
        self.rows = np.array([FIRST_BODY_ROW + BODY_POINT_NAMES.index(name) for name in joints])
        self._wrists = np.array([name in _WRISTS for name in joints])

    def give(self, array: JointArray, poses: Array, points: TrackedPoints) -> None:
        array.poses_into(poses)
        valid, tracked = array.has(VALID)[self.joints], array.has(TRACKED)[self.joints]
        points.poses[self.rows] = poses[self.joints]
        points.tracked[self.rows] = valid & (tracked | ~self._wrists)


class FbBody:
    """Upper body, 70 joints. The axes of its joints are read off the runtime's own T-pose."""

    name = "XR_FB_body_tracking"

    def __init__(self, runtime: Runtime, session: Any, points: TrackedPoints) -> None:
        xr = runtime.xr
        self._runtime = runtime
        create = runtime.function(
            "xrCreateBodyTrackerFB",
            xr.Session,
            ctypes.POINTER(xr.BodyTrackerCreateInfoFB),
            ctypes.POINTER(xr.BodyTrackerFB),
        )
        self._locate = runtime.function(
            "xrLocateBodyJointsFB",
            xr.BodyTrackerFB,
            ctypes.POINTER(xr.BodyJointsLocateInfoFB),
            ctypes.POINTER(xr.BodyJointLocationsFB),
        )
        self._skeleton = runtime.function(
            "xrGetBodySkeletonFB", xr.BodyTrackerFB, ctypes.POINTER(xr.BodySkeletonFB)
        )
        self._tracker = xr.BodyTrackerFB()
        info = xr.BodyTrackerCreateInfoFB(body_joint_set=xr.BodyJointSetFB(0))
        runtime.check(create(session, info, ctypes.byref(self._tracker)), "xrCreateBodyTrackerFB")
        self._array = JointArray(xr.BodyJointLocationFB, _FB_COUNT)
        self._locations = xr.BodyJointLocationsFB(joint_locations=self._array.structures)
        self._info = xr.BodyJointsLocateInfoFB()
        self._rows = _JointRows(FB_JOINTS)
        self._poses = np.zeros((_FB_COUNT, 7))
        self._skeleton_seen: int | None = None
        points.tracked[BODY_ROWS] = False

    def locate(self, base: Any, xr_time: int, points: TrackedPoints) -> None:
        self._info.base_space, self._info.time = base, xr_time
        code = self._locate(self._tracker, self._info, ctypes.byref(self._locations))
        if code == TIME_INVALID:
            return
        self._runtime.check(code, "xrLocateBodyJointsFB")
        if not self._locations.is_active:
            return
        if self._skeleton_seen != self._locations.skeleton_changed_count:
            points.own_axes[self._rows.rows] = self._own_axes()
            self._skeleton_seen = self._locations.skeleton_changed_count
        self._rows.give(self._array, self._poses, points)

    def _own_axes(self) -> Array:
        """The points' axes in those of the joints ``(points, 4)``, from the skeleton's T-pose."""
        xr = self._runtime.xr
        joints = (xr.BodySkeletonJointFB * _FB_COUNT)()
        skeleton = xr.BodySkeletonFB(joints=joints)
        code = self._skeleton(self._tracker, ctypes.byref(skeleton))
        self._runtime.check(code, "xrGetBodySkeletonFB")
        poses = np.array(
            [
                [
                    *(getattr(j.pose.position, a) for a in "xyz"),
                    *(getattr(j.pose.orientation, a) for a in "xyzw"),
                ]
                for j in joints
            ]
        )
        poses[:, 3:] /= np.maximum(np.linalg.norm(poses[:, 3:], axis=1, keepdims=True), 1e-9)
        return skeleton_axes(poses)


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


class BdBody:
    """Whole body, 24 joints, whose axes in a T-pose are the runtime's own (x right, y up, z back)."""

    name = "XR_BD_body_tracking"

    def __init__(self, runtime: Runtime, session: Any, points: TrackedPoints) -> None:
        xr = runtime.xr
        self._runtime = runtime
        create = runtime.function(
            "xrCreateBodyTrackerBD",
            xr.Session,
            ctypes.POINTER(xr.BodyTrackerCreateInfoBD),
            ctypes.POINTER(xr.BodyTrackerBD),
        )
        self._locate = runtime.function(
            "xrLocateBodyJointsBD",
            xr.BodyTrackerBD,
            ctypes.POINTER(xr.BodyJointsLocateInfoBD),
            ctypes.POINTER(xr.BodyJointLocationsBD),
        )
        self._tracker = xr.BodyTrackerBD()
        info = xr.BodyTrackerCreateInfoBD(joint_set=xr.BodyJointSetBD(_BD_FULL_BODY))
        runtime.check(create(session, info, ctypes.byref(self._tracker)), "xrCreateBodyTrackerBD")
        self._array = JointArray(xr.BodyJointLocationBD, _BD_COUNT)
        self._locations = xr.BodyJointLocationsBD(joint_locations=self._array.structures)
        self._info = xr.BodyJointsLocateInfoBD()
        self._rows = _JointRows(BD_JOINTS)
        self._poses = np.zeros((_BD_COUNT, 7))
        points.tracked[BODY_ROWS] = False
        points.own_axes[self._rows.rows] = [t_pose_axes(name) for name in self._rows.names]

    def locate(self, base: Any, xr_time: int, points: TrackedPoints) -> None:
        self._info.base_space, self._info.time = base, xr_time
        code = self._locate(self._tracker, self._info, ctypes.byref(self._locations))
        if code == TIME_INVALID:
            return
        self._runtime.check(code, "xrLocateBodyJointsBD")
        self._rows.give(self._array, self._poses, points)
