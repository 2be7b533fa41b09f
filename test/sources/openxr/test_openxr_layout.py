"""The test runtime's own declarations against pyopenxr's and the script's Python side."""

from __future__ import annotations

import ctypes
import json
from pathlib import Path

import pytest
from openxr_script import STRUCTURES

from capture_nodes.sources.openxr.driver import load_pyopenxr
from capture_nodes.sources.openxr.location_table import LocationTable

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
    "SpacesLocateInfo": ("SpacesLocateInfo",),
    "SpaceLocations": ("SpaceLocations",),
    "SpaceLocationData": ("SpaceLocationData", "SpaceLocationDataKHR"),
    "XrHandJointLocationEXT": ("HandJointLocationEXT",),
    "XrHandJointLocationsEXT": ("HandJointLocationsEXT",),
}
_FIELDS = {
    "supportsBodyTracking": ("supports_body_tracking",),
    "jointSet": ("_body_joint_set", "_joint_set"),
    "baseSpace": ("base_space",),
    "spaceCount": ("space_count",),
    "spaces": ("_spaces",),
    "locationCount": ("location_count",),
    "locations": ("_locations",),
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
    assert compared >= 40


def test_newer_numbers_are_those_of_pyopenxr(layout: dict[str, int]) -> None:
    xr = load_pyopenxr()
    types = {key: value for key, value in layout.items() if key.startswith("TYPE_")}
    assert len(types) == 11
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


@pytest.mark.parametrize(
    "name", ["HandJointLocationEXT", "BodyJointLocationFB", "BodyJointLocationBD", "SpaceLocationData"]
)
def test_locations_are_read_where_the_structures_say(name: str) -> None:
    """Field by field through pyopenxr, against the table's view of the same memory."""
    table = LocationTable(5)
    locations = table.structures(getattr(load_pyopenxr(), name), slice(1, 4))
    for k, location in enumerate(locations):
        location._location_flags = 15 - k
        position, rotation = location.pose.position, location.pose.orientation
        position.x, position.y, position.z = k, k + 0.25, k + 0.5
        rotation.x, rotation.y, rotation.z, rotation.w = 10 + k, 20 + k, 30 + k, 40 + k
    assert table.positions[1:4].tolist() == [[k, k + 0.25, k + 0.5] for k in range(3)]
    assert table.rotations[1:4].tolist() == [[10 + k, 20 + k, 30 + k, 40 + k] for k in range(3)]
    assert table.flags.tolist() == [0, 15, 14, 13, 0]
    table.take(slice(4, 5), 7, locations[2].pose)
    assert (table.positions[4] == table.positions[3]).all() and table.flags[4] == 7
    assert (table.rotations[4] == table.rotations[3]).all()


def test_a_structure_of_another_layout_is_refused() -> None:
    with pytest.raises(TypeError, match="SpaceLocation is 56 bytes, not 40"):
        LocationTable(1).structures(load_pyopenxr().SpaceLocation, slice(0, 1))
