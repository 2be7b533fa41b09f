"""The joints of both hands (`XR_EXT_hand_tracking`)."""

from __future__ import annotations

import ctypes
from typing import Any

from capture_nodes.sources.openxr.driver import TIME_INVALID, Runtime
from capture_nodes.sources.openxr.joint_array import JointArray
from capture_nodes.sources.openxr.points import HAND_POINT_NAMES, HAND_ROWS, TRACKED, VALID, TrackedPoints
from retargeting.body_points import SIDES

_WRIST = HAND_POINT_NAMES.index("wrist")
_HANDS = {"left": 1, "right": 2}


class Hands:
    """Raises `RuntimeFailed`. A hand whose wrist is not tracked has gone; a finger that is hidden is given as
    far as the runtime vouches for it (valid, be it inferred)."""

    def __init__(self, runtime: Runtime, session: Any) -> None:
        xr = runtime.xr
        self._runtime = runtime
        create = runtime.function(
            "xrCreateHandTrackerEXT",
            xr.Session,
            ctypes.POINTER(xr.HandTrackerCreateInfoEXT),
            ctypes.POINTER(xr.HandTrackerEXT),
        )
        self._locate = runtime.function(
            "xrLocateHandJointsEXT",
            xr.HandTrackerEXT,
            ctypes.POINTER(xr.HandJointsLocateInfoEXT),
            ctypes.POINTER(xr.HandJointLocationsEXT),
        )
        self._info = xr.HandJointsLocateInfoEXT()
        self._trackers: dict[str, tuple[Any, JointArray, Any]] = {}
        for side in SIDES:
            tracker = xr.HandTrackerEXT()
            info = xr.HandTrackerCreateInfoEXT(
                hand=xr.HandEXT(_HANDS[side]), hand_joint_set=xr.HandJointSetEXT(0)
            )
            runtime.check(create(session, info, ctypes.byref(tracker)), "xrCreateHandTrackerEXT")
            joints = JointArray(xr.HandJointLocationEXT, len(HAND_POINT_NAMES))
            locations = xr.HandJointLocationsEXT(joint_locations=joints.structures)
            self._trackers[side] = (tracker, joints, locations)

    def locate(self, base: Any, xr_time: int, points: TrackedPoints) -> None:
        self._info.base_space, self._info.time = base, xr_time
        for side, (tracker, joints, locations) in self._trackers.items():
            code = self._locate(tracker, self._info, ctypes.byref(locations))
            if code == TIME_INVALID:
                continue
            self._runtime.check(code, "xrLocateHandJointsEXT")
            if not locations.is_active or not joints.has(TRACKED)[_WRIST]:
                continue
            joints.poses_into(points.poses[HAND_ROWS[side]])
            points.tracked[HAND_ROWS[side]] = joints.has(VALID)
