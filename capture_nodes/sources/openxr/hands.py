"""The joints of both hands (`XR_EXT_hand_tracking`)."""

from __future__ import annotations

from typing import Any

from capture_nodes.sources.openxr.driver import Runtime
from capture_nodes.sources.openxr.joint_tracker import JointTracker
from capture_nodes.sources.openxr.points import HAND_POINT_NAMES, HAND_ROWS, TRACKED, TrackedPoints
from retargeting.body_points import SIDES

_WRIST = HAND_POINT_NAMES.index("wrist")
_HANDS = {"left": 1, "right": 2}


class Hands:
    """Raises `RuntimeFailed`. A hand whose wrist is not tracked has gone."""

    def __init__(self, runtime: Runtime, session: Any, points: TrackedPoints) -> None:
        xr = runtime.xr
        self._points = points
        self._trackers = {
            side: JointTracker(
                runtime,
                session,
                ("Hand", "EXT"),
                {"hand": xr.HandEXT(_HANDS[side]), "hand_joint_set": xr.HandJointSetEXT(0)},
                points.table,
                HAND_ROWS[side],
            )
            for side in SIDES
        }

    def locate(self, base: Any, xr_time: int) -> None:
        for side, tracker in self._trackers.items():
            rows = HAND_ROWS[side]
            if tracker.locate(base, xr_time) and not self._points.tracks(rows.start + _WRIST, TRACKED):
                self._points.lose(rows)
