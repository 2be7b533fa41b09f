"""A tracker of joints, of a hand or a body: OpenXR's extensions for them differ in their names only."""

from __future__ import annotations

import ctypes
from typing import Any

from capture_nodes.sources.openxr.driver import TIME_INVALID, Runtime
from capture_nodes.sources.openxr.location_table import LocationTable


class JointTracker:
    """`xrCreate<what>Tracker<vendor>` and `xrLocate<what>Joints<vendor>`; joints lie in `rows` of the table.

    joint_set: what the creation is told besides. Raises `RuntimeFailed`.
    """

    def __init__(
        self,
        runtime: Runtime,
        session: Any,
        name: tuple[str, str],
        joint_set: dict[str, Any],
        table: LocationTable,
        rows: slice,
    ) -> None:
        what, vendor = name
        xr = runtime.xr
        kind = getattr(xr, f"{what}Tracker{vendor}")
        create_info = getattr(xr, f"{what}TrackerCreateInfo{vendor}")
        locate_info = getattr(xr, f"{what}JointsLocateInfo{vendor}")
        locations = getattr(xr, f"{what}JointLocations{vendor}")
        create = f"xrCreate{what}Tracker{vendor}"
        self._call = f"xrLocate{what}Joints{vendor}"
        self._runtime = runtime
        self.handle = kind()
        made = runtime.function(create, xr.Session, ctypes.POINTER(create_info), ctypes.POINTER(kind))
        runtime.check(made(session, create_info(**joint_set), ctypes.byref(self.handle)), create)
        self._locate = runtime.function(
            self._call, kind, ctypes.POINTER(locate_info), ctypes.POINTER(locations)
        )
        self._structures = table.structures(getattr(xr, f"{what}JointLocation{vendor}"), rows)
        self.locations = locations(joint_locations=self._structures)
        self._info = locate_info()
        self._told = ctypes.byref(self._info), ctypes.byref(self.locations)
        self._table, self._rows = table, rows

    def locate(self, base: Any, xr_time: int) -> bool:
        """False where the runtime knows nothing of that moment, or tracks none now: its joints are lost."""
        self._info.base_space, self._info.time = base, xr_time
        code = self._locate(self.handle, *self._told)
        if code != TIME_INVALID:
            self._runtime.check(code, self._call)
            # Bodies of one vendor are always active.
            if getattr(self.locations, "is_active", True):
                return True
        self._table.flags[self._rows] = 0
        return False
