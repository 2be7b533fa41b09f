"""Where head and controllers are: all spaces in one call where the runtime has one for it.

A runtime in a process of its own is asked across a socket: one round trip instead of five.
"""

from __future__ import annotations

import ctypes
from typing import Any

from capture_nodes.sources.openxr.base_space import BaseSpace
from capture_nodes.sources.openxr.controllers import Controllers
from capture_nodes.sources.openxr.driver import TIME_INVALID, Runtime
from capture_nodes.sources.openxr.instance import LOCATE_SPACES, System
from capture_nodes.sources.openxr.points import (
    HEAD_ROW,
    ORIENTATION_TRACKED,
    SPACE_ROWS,
    TRACKED,
    VALID,
    TrackedPoints,
)
from retargeting.body_points import CONTROLLER_POINTS


class Spaces:
    """The VIEW space and the action spaces in the base space. Raises `RuntimeFailed`."""

    def __init__(
        self,
        runtime: Runtime,
        session: Any,
        system: System,
        base: BaseSpace,
        controllers: Controllers,
        points: TrackedPoints,
    ) -> None:
        xr = runtime.xr
        self._runtime, self._session, self._base = runtime, session, base
        self._points = points
        # In the order of the table's rows.
        self._handles = [base.view, *(controllers.spaces[name] for name in CONTROLLER_POINTS)]
        self._sides = [name.partition("_")[0] for name in CONTROLLER_POINTS]
        self._at_once: Any = None
        if system.minor_version >= 1 or LOCATE_SPACES in system.extensions:
            self._call = "xrLocateSpaces" if system.minor_version >= 1 else "xrLocateSpacesKHR"
            self._bind_at_once(xr)
        else:
            self._call = "xrLocateSpace"
            self._location = xr.SpaceLocation()
            self._one_told = ctypes.byref(self._location)
            self._one = runtime.function(
                self._call, xr.Space, xr.Space, ctypes.c_int64, ctypes.POINTER(xr.SpaceLocation)
            )
        # A headset that never tracks where it is (three degrees of freedom) may infer it from a neck; of one
        # that did, an inferred place is a lost one.
        points.needs[HEAD_ROW] = VALID | ORIENTATION_TRACKED

    def _bind_at_once(self, xr: Any) -> None:
        count = len(self._handles)
        self._array = (xr.Space * count)(*self._handles)
        self._info = xr.SpacesLocateInfo(space_count=count, spaces=self._array)
        self._info.base_space = self._base.handle
        self._structures = self._points.table.structures(xr.SpaceLocationData, SPACE_ROWS)
        self._locations = xr.SpaceLocations(location_count=count, locations=self._structures)
        self._at_once = self._runtime.function(
            self._call, xr.Session, ctypes.POINTER(xr.SpacesLocateInfo), ctypes.POINTER(xr.SpaceLocations)
        )
        self._told = ctypes.byref(self._info), ctypes.byref(self._locations)

    def locate(self, xr_time: int, holds: dict[str, bool]) -> None:
        """What hangs on a bare hand is no controller: its joints and gestures say more."""
        points = self._points
        if self._at_once is None:
            self._one_by_one(xr_time, holds)
        else:
            self._info.time = xr_time
            code = self._at_once(self._session, *self._told)
            if code == TIME_INVALID:
                points.lose(SPACE_ROWS)
            else:
                self._runtime.check(code, self._call)
        for k, side in enumerate(self._sides, start=1):
            if not holds[side]:
                points.lose(slice(k, k + 1))
        if points.tracks(HEAD_ROW, TRACKED):
            points.needs[HEAD_ROW] = TRACKED

    def _one_by_one(self, xr_time: int, holds: dict[str, bool]) -> None:
        for k, handle in enumerate(self._handles):
            row = slice(k, k + 1)
            if k > 0 and not holds[self._sides[k - 1]]:
                continue
            code = self._one(handle, self._base.handle, xr_time, self._one_told)
            if code == TIME_INVALID:
                self._points.lose(row)
                continue
            self._runtime.check(code, self._call)
            self._points.table.take(row, int(self._location._location_flags), self._location.pose)
