"""Triangles of a mesh file: STL (binary or ASCII), Wavefront OBJ, COLLADA, binary glTF."""

from __future__ import annotations

import struct
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray

from retargeting.errors import RetargetingError
from retargeting.glb_mesh import glb_triangles

Array = NDArray[np.float64]

READABLE = (".stl", ".obj", ".dae", ".glb")


class UnreadableMesh(RetargetingError):
    """A mesh file that is missing, damaged or of a format that is not read."""


def mesh_triangles(path: Path) -> Array:
    """Corners ``(k, 3, 3)`` of the triangles in the file's own unit. Raises `UnreadableMesh`.

    COLLADA: the transforms of the scene's nodes are applied, its unit and up axis are not, as the
    loaders that robot files are written for do.
    """
    suffix = path.suffix.lower()
    if suffix not in READABLE:
        raise UnreadableMesh(f"{path}: mesh format {suffix!r} is not read; known: {', '.join(READABLE)}")
    try:
        data = path.read_bytes()
        triangles = {".stl": _stl, ".obj": _obj, ".dae": _dae, ".glb": glb_triangles}[suffix](data)
    except OSError as error:
        raise UnreadableMesh(f"{path}: cannot be read: {error}") from error
    except (ValueError, TypeError, LookupError, ElementTree.ParseError) as error:
        raise UnreadableMesh(f"{path}: damaged {suffix} file: {error}") from error
    if not len(triangles):
        raise UnreadableMesh(f"{path}: no triangle found")
    if not np.isfinite(triangles).all():
        raise UnreadableMesh(f"{path}: a corner is not finite")
    return triangles


def _stl(data: bytes) -> Array:
    """80 bytes header, a count, then 50 bytes per triangle (normal first); else the ASCII form."""
    if len(data) >= 84:
        count = struct.unpack_from("<I", data, 80)[0]
        if len(data) == 84 + 50 * count:
            rows = np.frombuffer(data, np.uint8, offset=84).reshape(count, 50)
            triangles: Array = rows[:, 12:48].copy().view("<f4").reshape(-1, 3, 3).astype(np.float64)
            return triangles
    if not data.lstrip().startswith(b"solid"):
        raise ValueError("neither a binary nor an ASCII STL")
    lines = (line.split() for line in data.decode("ascii", "replace").splitlines())
    corners = [[float(v) for v in words[1:4]] for words in lines if words[:1] == ["vertex"]]
    return np.array(corners, dtype=np.float64).reshape(-1, 3, 3)


def _obj(data: bytes) -> Array:
    """Faces of any size as fans; indices count from 1, negative ones from the end."""
    vertices: list[list[float]] = []
    triangles: list[tuple[int, int, int]] = []
    for line in data.decode("utf-8", "replace").splitlines():
        words = line.split()
        if words[:1] == ["v"]:
            vertices.append([float(v) for v in words[1:4]])
        elif words[:1] == ["f"]:
            corners = [int(word.split("/")[0]) for word in words[1:]]
            face = [i - 1 if i > 0 else len(vertices) + i for i in corners]
            if min(face) < 0:
                raise ValueError(f"a face names vertex {min(corners)}")
            triangles += [(face[0], face[k], face[k + 1]) for k in range(1, len(face) - 1)]
    result: Array = np.array(vertices, dtype=np.float64).reshape(-1, 3)[
        np.array(triangles, dtype=np.int64).reshape(-1, 3)
    ]
    return result


def _numbers(element: ElementTree.Element | None) -> Array:
    return np.array([] if element is None else (element.text or "").split(), dtype=np.float64)


class _Collada:
    def __init__(self, data: bytes) -> None:
        self.root = ElementTree.fromstring(data)
        for element in self.root.iter():
            element.tag = element.tag.rpartition("}")[2]
        self.by_id = {e.get("id", ""): e for e in self.root.iter() if e.get("id")}

    def referred(self, reference: str) -> ElementTree.Element:
        return self.by_id[reference.removeprefix("#")]

    def geometry(self, geometry: ElementTree.Element) -> Array:
        parts = [np.zeros((0, 3, 3))]
        for primitive in geometry.iter():
            if primitive.tag not in ("triangles", "polylist", "polygons", "trifans", "tristrips"):
                continue
            inputs = primitive.findall("input")
            vertex = next(e for e in inputs if e.get("semantic") == "VERTEX")
            stride = 1 + max(int(e.get("offset", "0")) for e in inputs)
            points = self.positions(self.referred(vertex.get("source", "")))
            indices = [_numbers(p).astype(np.int64).reshape(-1, stride) for p in primitive.findall("p")]
            faces = [p[:, int(vertex.get("offset", "0"))] for p in indices]
            if primitive.tag == "triangles":
                chosen = np.concatenate([np.zeros(0, np.int64), *faces]).reshape(-1, 3)
            else:
                if primitive.tag == "polylist":
                    counts = _numbers(primitive.find("vcount")).astype(np.int64)
                    faces = list(np.split(faces[0], np.cumsum(counts)[:-1])) if len(counts) else []
                # A strip's corners go round in turns; for its surface the order does not matter.
                strip = primitive.tag == "tristrips"
                rows = [
                    (face[k - 1 if strip else 0], face[k], face[k + 1])
                    for face in faces
                    for k in range(1, len(face) - 1)
                ]
                chosen = np.array(rows, dtype=np.int64).reshape(-1, 3)
            parts.append(points[chosen])
        return np.concatenate(parts)

    def positions(self, vertices: ElementTree.Element) -> Array:
        entry = next(e for e in vertices.findall("input") if e.get("semantic") == "POSITION")
        source = self.referred(entry.get("source", ""))
        values = _numbers(source.find("float_array"))
        accessor = source.find("technique_common/accessor")
        stride = 3 if accessor is None else int(accessor.get("stride", "3"))
        return values.reshape(-1, stride)[:, :3]

    def node(self, node: ElementTree.Element, above: Array) -> list[Array]:
        matrix = above
        parts = []
        for child in node:
            values = _numbers(child)
            own = np.eye(4)
            if child.tag == "matrix":
                own = values.reshape(4, 4)
            elif child.tag == "translate":
                own[:3, 3] = values
            elif child.tag == "scale":
                own[:3, :3] = np.diag(values)
            elif child.tag == "rotate":
                own[:3, :3] = _rotation(values[:3], float(np.radians(values[3])))
            else:
                continue
            matrix = matrix @ own
        for child in node:
            if child.tag == "instance_geometry":
                triangles = self.geometry(self.referred(child.get("url", "")))
                parts.append(triangles @ matrix[:3, :3].T + matrix[:3, 3])
            elif child.tag == "instance_controller":
                skin = self.referred(child.get("url", "")).find("skin")
                if skin is not None:
                    triangles = self.geometry(self.referred(skin.get("source", "")))
                    parts.append(triangles @ matrix[:3, :3].T + matrix[:3, 3])
            elif child.tag == "node":
                parts += self.node(child, matrix)
            elif child.tag == "instance_node":
                parts += self.node(self.referred(child.get("url", "")), matrix)
        return parts

    def triangles(self) -> Array:
        instance = self.root.find("scene/instance_visual_scene")
        if instance is None:
            scenes = self.root.findall("library_visual_scenes/visual_scene")[:1]
        else:
            scenes = [self.referred(instance.get("url", ""))]
        parts = [np.zeros((0, 3, 3))]
        for scene in scenes:
            for node in scene.findall("node"):
                parts += self.node(node, np.eye(4))
        return np.concatenate(parts)


def _rotation(axis: Array, angle_rad: float) -> Array:
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    result: Array = np.eye(3) + np.sin(angle_rad) * cross + (1.0 - np.cos(angle_rad)) * cross @ cross
    return result


def _dae(data: bytes) -> Array:
    return _Collada(data).triangles()
