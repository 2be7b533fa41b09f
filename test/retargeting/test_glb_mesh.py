"""Binary glTF: coal reads the same corners from the same file; damaged files say why."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import coal
import numpy as np
import pytest

from retargeting.mesh_file import UnreadableMesh, mesh_triangles

CORNERS = np.array([[0, 0, 0], [1, 0, 0], [0, 2, 0], [0, 0, 3], [0.5, 0.5, 0.5], [1, 1, 1]], dtype="<f4")
FACES = np.array([[0, 1, 2], [0, 1, 3], [1, 2, 3], [3, 4, 5]], dtype="<u2")
HALF = float(np.sqrt(0.5))


def glb(nodes: list[dict], *, stride: int = 12, mode: int = 4, extension: str = "") -> bytes:
    padded = np.zeros((len(CORNERS), stride), np.uint8)
    padded[:, :12] = CORNERS.view(np.uint8).reshape(len(CORNERS), 12)
    numbers = padded.tobytes() + FACES.tobytes()
    primitive = {"attributes": {"POSITION": 0}, "indices": 1, "mode": mode}
    if extension:
        primitive["extensions"] = {extension: {}}
    said = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": nodes,
        "meshes": [{"primitives": [primitive]}],
        "buffers": [{"byteLength": len(numbers)}],
        "bufferViews": [
            {"buffer": 0, "byteLength": len(CORNERS) * stride, "byteStride": stride},
            {"buffer": 0, "byteOffset": len(CORNERS) * stride, "byteLength": FACES.nbytes},
        ],
        "accessors": [
            {"bufferView": 0, "componentType": 5126, "count": len(CORNERS), "type": "VEC3",
             "min": CORNERS.min(axis=0).tolist(), "max": CORNERS.max(axis=0).tolist()},
            {"bufferView": 1, "componentType": 5123, "count": FACES.size, "type": "SCALAR"},
        ],
    }  # fmt: skip
    text = json.dumps(said).encode()
    text += b" " * (-len(text) % 4)
    numbers += b"\0" * (-len(numbers) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(numbers), 0x004E4942) + numbers
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def corners_of(points: np.ndarray) -> np.ndarray:
    return np.unique(np.round(points.reshape(-1, 3), 5) + 0.0, axis=0)


@pytest.mark.parametrize("stride", [12, 20])
@pytest.mark.parametrize(
    "nodes",
    [
        [{"mesh": 0}],
        [{"children": [1]}, {"mesh": 0, "rotation": [HALF, 0, 0, HALF], "translation": [1, 2, 3]}],
        [
            {"children": [1]},
            {"children": [2], "scale": [2, 1, 0.5]},
            {"mesh": 0, "translation": [0, 1, 0], "rotation": [0, HALF, 0, HALF]},
        ],
        [{"mesh": 0, "matrix": [0, 1, 0, 0, -1, 0, 0, 0, 0, 0, 1, 0, 4, 5, 6, 1]}],
    ],
)
def test_coal_reads_the_same_corners(tmp_path: Path, nodes: list[dict], stride: int):
    file = tmp_path / "part.glb"
    file.write_bytes(glb(nodes, stride=stride))
    triangles = mesh_triangles(file)
    assert triangles.shape == (4, 3, 3)
    theirs = coal.MeshLoader().load(str(file), np.ones(3)).vertices()
    np.testing.assert_allclose(corners_of(triangles), corners_of(theirs), atol=1e-5)


def test_the_first_node_moves_what_it_carries(tmp_path: Path):
    """coal leaves this one out, as it takes it for a change of axes; the format does not."""
    (tmp_path / "still.glb").write_bytes(glb([{"children": [1]}, {"mesh": 0}]))
    (tmp_path / "moved.glb").write_bytes(glb([{"children": [1], "translation": [1, 2, 3]}, {"mesh": 0}]))
    still, moved = mesh_triangles(tmp_path / "still.glb"), mesh_triangles(tmp_path / "moved.glb")
    np.testing.assert_allclose(moved, still + np.array([1.0, 2.0, 3.0]), atol=1e-6)


def test_strips_and_fans_have_a_triangle_for_each_corner_but_two(tmp_path: Path):
    for mode in (5, 6):
        (tmp_path / "part.glb").write_bytes(glb([{"mesh": 0}], mode=mode))
        assert len(mesh_triangles(tmp_path / "part.glb")) == FACES.size - 2


def test_damaged_files_say_why(tmp_path: Path):
    good = glb([{"mesh": 0}])
    file = tmp_path / "part.glb"
    for content, why in (
        (b"glTF", "not a binary glTF"),
        (good[:-20], "beyond the file"),
        (glb([{"mesh": 3}]), "damaged"),
        (glb([{"children": [0]}]), "circle"),
        (glb([{"mesh": 0}], mode=1), "no triangle"),
        (glb([{"mesh": 0}], extension="KHR_draco_mesh_compression"), "draco_mesh_compression is not read"),
        (good.replace(b'"nodes"', b'"nopes"', 1), "."),
    ):
        file.write_bytes(content)
        with pytest.raises(UnreadableMesh, match=why):
            mesh_triangles(file)
