from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.simulation.shapes import mesh_bounds, primitive_of_bounds

IDENTITY = np.array([0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0])
CORNERS = np.array([[0.0, -1.0, 2.0], [3.0, 0.5, 2.5], [1.0, 0.0, 4.0]])


def test_bounds_of_binary_stl(tmp_path: Path) -> None:
    file = tmp_path / "part.STL"
    triangle = np.zeros(12, dtype="<f4")
    # Normals are no vertices and must not count.
    triangle[:3] = 99.0
    triangle[3:] = CORNERS.reshape(-1)
    file.write_bytes(bytes(80) + struct.pack("<I", 1) + triangle.tobytes() + b"\0\0")
    assert mesh_bounds(file) == ((0.0, -1.0, 2.0), (3.0, 0.5, 4.0))


def test_bounds_of_ascii_stl(tmp_path: Path) -> None:
    file = tmp_path / "part.stl"
    vertices = "\n".join("vertex " + " ".join(map(str, corner)) for corner in CORNERS)
    facet = f"facet normal 99 99 99\nouter loop\n{vertices}\nendloop\nendfacet"
    file.write_text(f"solid part\n{facet}\nendsolid\n")
    assert mesh_bounds(file) == ((0.0, -1.0, 2.0), (3.0, 0.5, 4.0))


@pytest.mark.parametrize("content", [b"", b"<COLLADA/>", b"solid x\nvertex 1 2\n", bytes(84) + b"x"])
def test_unreadable_mesh_has_no_bounds(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "part.dae"
    file.write_bytes(content)
    assert mesh_bounds(file) is None
    assert mesh_bounds(tmp_path / "missing.stl") is None


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_long_box_becomes_capsule_of_the_same_length(axis: int) -> None:
    extent = np.full(3, 0.1)
    extent[axis] = 0.4
    primitive = primitive_of_bounds(-0.5 * extent, 0.5 * extent, IDENTITY, None)
    assert primitive.kind == "capsule"
    corners = primitive.corners()
    assert np.ptp(corners, axis=0) == pytest.approx(extent)


def test_flat_box_stays_box() -> None:
    primitive = primitive_of_bounds([0, 0, 0], [0.2, 0.18, 0.04], IDENTITY, None)
    assert primitive.kind == "box"
    assert primitive.size_m == pytest.approx((0.2, 0.18, 0.04))
    assert primitive.pose[:3] == pytest.approx([0.1, 0.09, 0.02])
