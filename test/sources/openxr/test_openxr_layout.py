"""The test runtime's own declarations against pyopenxr's and the script's Python side."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import pytest
from openxr_script import STRUCTURES

from capture_nodes.sources.openxr.driver import load_pyopenxr
from capture_nodes.sources.openxr.joint_array import JointArray

# Structure of the test runtime: pyopenxr's, and the names of its fields.
_TWINS = {
    "BodyJointLocation": ("BodyJointLocationFB", "BodyJointLocationBD"),
    "SystemBodyTrackingProperties": ("SystemBodyTrackingPropertiesFB", "SystemBodyTrackingPropertiesBD"),
    "BodyTrackerCreateInfo": ("BodyTrackerCreateInfoFB", "BodyTrackerCreateInfoBD"),
    "BodyJointsLocateInfo": ("BodyJointsLocateInfoFB", "BodyJointsLocateInfoBD"),
    "BodySkeletonJointFB": ("BodySkeletonJointFB",),
    "BodySkeletonFB": ("BodySkeletonFB",),
    "BodyJointLocationsFB": ("BodyJointLocationsFB",),
    "BodyJointLocationsBD": ("BodyJointLocationsBD",),
    "XrHandJointLocationEXT": ("HandJointLocationEXT",),
    "XrHandJointLocationsEXT": ("HandJointLocationsEXT",),
}
_FIELDS = {
    "supportsBodyTracking": ("supports_body_tracking",),
    "jointSet": ("_body_joint_set", "_joint_set"),
    "baseSpace": ("base_space",),
    "joints": ("_joints",),
    "jointLocations": ("_joint_locations",),
    "jointLocationCount": ("joint_location_count",),
    "skeletonChangedCount": ("skeleton_changed_count",),
}


@pytest.fixture(scope="module")
def layout(manifest: Path) -> dict[str, int]:
    content = json.loads(manifest.read_text(encoding="utf-8"))
    library = ctypes.CDLL(content["runtime"]["library_path"])
    name, value, found = ctypes.create_string_buffer(128), ctypes.c_uint64(), {}
    while library.test_runtime_layout(len(found), name, ctypes.c_size_t(128), ctypes.byref(value)):
        found[name.value.decode()] = value.value
    return found


def test_newer_structures_are_laid_out_as_in_pyopenxr(layout: dict[str, int]) -> None:
    xr = load_pyopenxr()
    compared = 0
    for key, value in layout.items():
        structure, _, field = key.partition(".")
        for twin in _TWINS.get(structure, ()):
            kind = getattr(xr, twin)
            if not field:
                assert ctypes.sizeof(kind) == value, key
            else:
                attribute = next(name for name in _FIELDS.get(field, (field,)) if hasattr(kind, name))
                assert getattr(kind, attribute).offset == value, key
            compared += 1
    assert compared >= 30


def test_newer_numbers_are_those_of_pyopenxr(layout: dict[str, int]) -> None:
    xr = load_pyopenxr()
    types = {key: value for key, value in layout.items() if key.startswith("TYPE_")}
    assert len(types) == 9
    for key, value in types.items():
        assert xr.StructureType[key.removeprefix("TYPE_")] == value
    assert layout["REFERENCE_SPACE_LOCAL_FLOOR"] == xr.ReferenceSpaceType.LOCAL_FLOOR
    assert xr.Result.ERROR_RUNTIME_UNAVAILABLE == -51


def test_the_script_is_laid_out_alike_in_both_languages(layout: dict[str, int]) -> None:
    compared = 0
    for key, value in layout.items():
        structure, _, field = key.partition(".")
        kind = STRUCTURES.get(structure)
        if kind is not None:
            assert (getattr(kind, field).offset if field else ctypes.sizeof(kind)) == value, key
            compared += 1
    assert compared >= 15


@pytest.mark.parametrize("name", ["HandJointLocationEXT", "BodyJointLocationFB", "BodyJointLocationBD"])
def test_joints_are_read_where_the_structures_say(name: str) -> None:
    """Field by field through pyopenxr, against the array's view of the same memory."""
    import numpy as np

    structure = getattr(load_pyopenxr(), name)
    array = JointArray(structure, 3)
    for k in range(3):
        joint = array.structures[k]
        joint._location_flags = 15 - k
        position, rotation = joint.pose.position, joint.pose.orientation
        position.x, position.y, position.z = k, k + 0.25, k + 0.5
        rotation.x, rotation.y, rotation.z, rotation.w = 10 + k, 20 + k, 30 + k, 40 + k
    poses = np.zeros((3, 7))
    array.poses_into(poses)
    expected = [[k, k + 0.25, k + 0.5, 10 + k, 20 + k, 30 + k, 40 + k] for k in range(3)]
    assert np.array_equal(poses, expected)
    assert array.has(15).tolist() == [True, False, False]
    assert array.has(3).tolist() == [True, False, False]
    assert array.has(8).tolist() == [True, True, True]
