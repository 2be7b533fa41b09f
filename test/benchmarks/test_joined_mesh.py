"""Meshes of several parts: all triangles of all parts, and no other."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pinocchio")
pytest.importorskip("coal")

import coal

from benchmarks.retargeting.check_commands import judge
from benchmarks.retargeting.command_trace import CommandTrace
from benchmarks.retargeting.joined_mesh import is_garbled, joined_mesh

# A small box, and a plate far above it.
BOX = np.array([[x, y, z] for x in (-0.1, 0.1) for y in (-0.1, 0.1) for z in (-0.1, 0.1)], dtype="<f4")
SIDES = [(0, 1, 3, 2), (4, 5, 7, 6), (0, 1, 5, 4), (2, 3, 7, 6), (0, 2, 6, 4), (1, 3, 7, 5)]
FACES = np.array([row for a, b, c, d in SIDES for row in ((a, b, c), (a, c, d))], dtype="<u2")
PLATE = BOX * np.array([1.0, 1.0, 0.01], dtype="<f4") + np.array([0.0, 0.0, 1.0], dtype="<f4")


def glb(parts: list[np.ndarray]) -> bytes:
    """One node, a part for each box of corners ``(8, 3)``, every part with a material of its own."""
    numbers = b"".join(part.astype("<f4").tobytes() for part in parts) + FACES.tobytes()
    said = {
        "asset": {"version": "2.0"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0}],
        "materials": [{"name": str(k)} for k in range(len(parts))],
        "meshes": [
            {
                "primitives": [
                    {"attributes": {"POSITION": k}, "indices": len(parts), "material": k}
                    for k in range(len(parts))
                ]
            }
        ],
        "buffers": [{"byteLength": len(numbers)}],
        "bufferViews": [{"buffer": 0, "byteOffset": 96 * k, "byteLength": 96} for k in range(len(parts))]
        + [{"buffer": 0, "byteOffset": 96 * len(parts), "byteLength": FACES.nbytes}],
        "accessors": [
            {"bufferView": k, "componentType": 5126, "count": 8, "type": "VEC3",
             "min": part.min(axis=0).tolist(), "max": part.max(axis=0).tolist()}
            for k, part in enumerate(parts)
        ] + [{"bufferView": len(parts), "componentType": 5123, "count": FACES.size, "type": "SCALAR"}],
    }  # fmt: skip
    text = json.dumps(said).encode()
    text += b" " * (-len(text) % 4)
    numbers += b"\0" * (-len(numbers) % 4)
    chunks = struct.pack("<II", len(text), 0x4E4F534A) + text
    chunks += struct.pack("<II", len(numbers), 0x004E4942) + numbers
    return struct.pack("<III", 0x46546C67, 2, 12 + len(chunks)) + chunks


def distance_m(mesh, place: list[float]) -> float:
    """From the mesh to a ball of 1 mm at `place`."""
    ball = coal.Transform3s(np.eye(3), np.array(place))
    return float(
        coal.distance(
            mesh, coal.Transform3s.Identity(), coal.Sphere(0.001), ball,
            coal.DistanceRequest(False, False), coal.DistanceResult(),
        )
    )  # fmt: skip


@pytest.mark.parametrize("parts", [[BOX, PLATE], [PLATE, BOX], [BOX, PLATE, BOX * 0.5 + 0.6]])
def test_a_mesh_of_several_parts_has_all_their_triangles_and_no_other(tmp_path: Path, parts: list):
    file = tmp_path / "parts.glb"
    file.write_bytes(glb(parts))
    assert is_garbled(coal.MeshLoader().load(str(file), np.ones(3)))
    mesh = joined_mesh(file, np.ones(3))
    assert mesh.num_tris == 12 * len(parts) and not is_garbled(mesh)
    assert distance_m(mesh, [0.15, 0.0, 0.0]) == pytest.approx(0.049, abs=1e-6)
    assert distance_m(mesh, [0.0, 0.0, 1.05]) == pytest.approx(0.048, abs=1e-6)
    # Half way between them there is nothing.
    assert distance_m(mesh, [0.0, 0.0, 0.4]) > 0.25
    assert joined_mesh(file, np.full(3, 2.0)).vertices()[:, 2].max() == pytest.approx(2.002, abs=1e-6)


def test_a_mesh_of_one_part_is_as_coal_reads_it(tmp_path: Path):
    file = tmp_path / "one.glb"
    file.write_bytes(glb([BOX]))
    assert not is_garbled(coal.MeshLoader().load(str(file), np.ones(3)))


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path):
    (tmp_path / "no.glb").write_bytes(b"glTF but not really")
    with pytest.raises(ValueError, match=r"no\.glb: assimp cannot read it"):
        joined_mesh(tmp_path / "no.glb", np.ones(3))


@pytest.mark.parametrize(("height_m", "met"), [(1.0, True), (0.5, False)])
def test_the_judge_sees_every_part_and_nothing_between(tmp_path: Path, height_m: float, met: bool):
    """A hand is pushed through a body of two parts, a box and a plate above it."""
    (tmp_path / "body.glb").write_bytes(glb([BOX, PLATE]))
    (tmp_path / "robot.urdf").write_text(f"""<robot name="two_parts">
  <link name="body"><collision><geometry><mesh filename="{tmp_path}/body.glb"/></geometry></collision></link>
  <link name="upper"/>
  <link name="hand"><collision><geometry><sphere radius="0.02"/></geometry></collision></link>
  <joint name="push" type="prismatic"><parent link="body"/><child link="upper"/>
    <origin xyz="0 -0.5 {height_m}"/><axis xyz="0 1 0"/>
    <limit lower="0" upper="1" velocity="1" effort="1"/></joint>
  <joint name="turn" type="revolute"><parent link="upper"/><child link="hand"/>
    <axis xyz="0 1 0"/><limit lower="-1" upper="1" velocity="1" effort="1"/></joint>
</robot>""")
    positions = np.stack([np.linspace(0.0, 1.0, 50), np.zeros(50)], axis=1)
    trace = CommandTrace(
        tmp_path / "robot.urdf", (tmp_path,), ("push", "turn"), np.arange(1, 51) * 5_000_000, positions,
        positions[0], 0.005, collision_margin_m=0.01,
    )  # fmt: skip
    judgement = judge(trace, 1)
    assert judgement.notes == [] and judgement.collision_pairs == 1
    assert (judgement.collision > 0) == met
