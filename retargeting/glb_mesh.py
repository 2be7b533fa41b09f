"""Triangles of a binary glTF 2.0 file (`.glb`): a header, a chunk of JSON and one of numbers.

The JSON describes scenes of nodes with meshes; a mesh's primitives name accessors, which are strided views
of the second chunk. Compressed geometry and files beside the file are not read.
"""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import rotation_matrix_from_quaternion

Array = NDArray[np.float64]

_MAGIC, _JSON, _NUMBERS = 0x46546C67, 0x4E4F534A, 0x004E4942
_KINDS = {5120: "<i1", 5121: "<u1", 5122: "<i2", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC3": 3}
_TRIANGLES, _STRIP, _FAN = 4, 5, 6


def glb_triangles(data: bytes) -> Array:
    """Corners ``(k, 3, 3)``, nodes' transforms applied. Raises `ValueError`, `KeyError`, `IndexError`."""
    return np.concatenate([np.zeros((0, 3, 3)), *_Glb(data).triangles()])


class _Glb:
    def __init__(self, data: bytes) -> None:
        if len(data) < 12 or struct.unpack_from("<II", data)[:2] != (_MAGIC, 2):
            raise ValueError("not a binary glTF 2 file")
        chunks: dict[int, bytes] = {}
        at = 12
        while at + 8 <= len(data):
            length, kind = struct.unpack_from("<II", data, at)
            chunks.setdefault(kind, data[at + 8 : at + 8 + length])
            at += 8 + length
        self._said: dict[str, Any] = json.loads(chunks[_JSON])
        self._numbers = chunks.get(_NUMBERS, b"")

    def triangles(self) -> list[Array]:
        scenes, nodes = self._said.get("scenes", []), self._said.get("nodes", [])
        if scenes:
            roots = scenes[self._said.get("scene", 0)].get("nodes", [])
        else:
            carried = {child for node in nodes for child in node.get("children", [])}
            roots = [k for k in range(len(nodes)) if k not in carried]
        return [part for root in roots for part in self._node(root, np.eye(4), 0)]

    def _node(self, index: int, above: Array, depth: int) -> list[Array]:
        if depth > len(self._said["nodes"]):
            raise ValueError("nodes carry each other in a circle")
        node = self._said["nodes"][index]
        placed = above @ _transform(node)
        parts = []
        if "mesh" in node:
            for primitive in self._said["meshes"][node["mesh"]]["primitives"]:
                parts.append(self._primitive(primitive) @ placed[:3, :3].T + placed[:3, 3])
        for child in node.get("children", []):
            parts += self._node(child, placed, depth + 1)
        return parts

    def _primitive(self, primitive: dict[str, Any]) -> Array:
        compressed = [name for name in primitive.get("extensions", {}) if "compression" in name]
        if compressed:
            raise ValueError(f"{compressed[0]} is not read")
        points = self._accessor(primitive["attributes"]["POSITION"]).astype(np.float64)
        if "indices" in primitive:
            corners = self._accessor(primitive["indices"])[:, 0].astype(np.int64)
        else:
            corners = np.arange(len(points))
        mode = primitive.get("mode", _TRIANGLES)
        if mode == _TRIANGLES:
            chosen = corners[: len(corners) // 3 * 3].reshape(-1, 3)
        elif mode == _STRIP:
            chosen = np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1)
        elif mode == _FAN:
            chosen = np.stack([np.full(len(corners) - 2, corners[0]), corners[1:-1], corners[2:]], axis=1)
        else:
            # Points and lines have no surface.
            chosen = np.zeros((0, 3), dtype=np.int64)
        triangles: Array = points[chosen]
        return triangles

    def _accessor(self, index: int) -> NDArray[Any]:
        """Rows ``(count, width)``."""
        accessor = self._said["accessors"][index]
        if "sparse" in accessor or "bufferView" not in accessor:
            raise ValueError("sparse accessors are not read")
        view = self._said["bufferViews"][accessor["bufferView"]]
        if "uri" in self._said["buffers"][view["buffer"]]:
            raise ValueError("numbers in a file beside it are not read")
        width, kind = _WIDTHS[accessor["type"]], np.dtype(_KINDS[accessor["componentType"]])
        start = int(view.get("byteOffset", 0)) + int(accessor.get("byteOffset", 0))
        stride = int(view.get("byteStride", 0)) or width * kind.itemsize
        count = int(accessor["count"])
        if count < 1:
            return np.zeros((0, width), kind)
        if start < 0 or start + (count - 1) * stride + width * kind.itemsize > len(self._numbers):
            raise ValueError("an accessor reaches beyond the file")
        rows: NDArray[Any] = np.ndarray(
            (count, width), kind, self._numbers, start, (stride, kind.itemsize)
        ).copy()
        return rows


def _transform(node: dict[str, Any]) -> Array:
    if "matrix" in node:
        # Column by column.
        matrix: Array = np.array(node["matrix"], dtype=np.float64).reshape(4, 4).T
        return matrix
    own = np.eye(4)
    turn = np.array(node.get("rotation", [0.0, 0.0, 0.0, 1.0]), dtype=np.float64)
    own[:3, :3] = rotation_matrix_from_quaternion(turn / np.linalg.norm(turn))
    own[:3, :3] *= np.array(node.get("scale", [1.0, 1.0, 1.0]), dtype=np.float64)
    own[:3, 3] = node.get("translation", [0.0, 0.0, 0.0])
    return own
