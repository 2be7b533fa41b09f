from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.simulation.physics_model import build_physics
from capture_nodes.simulation.scene import SceneDescription, layout_scene, load_scene
from retargeting.robot_model import RobotModel


def test_workspace_is_within_reach(robot: RobotModel, scene: SceneDescription) -> None:
    layout = layout_scene(robot, scene)
    neutral = robot.neutral_positions()
    cube, can = layout.object_poses["cube"], layout.object_poses["can"]
    for pose, side in ((cube, "right"), (layout.goal_pose, "right"), (can, "left")):
        shoulder = robot.site_pose(f"{side}_shoulder", neutral)[:3]
        # The hand adds about a fifth to the arm.
        assert np.linalg.norm(pose[:3] - shoulder) < 1.2 * layout.arm_length_m
    assert layout.floor_z_m < layout.table_top_z_m - 0.3
    assert layout.object_poses["cube"][2] == pytest.approx(layout.table_top_z_m + 0.025)


def test_kestrel_stands_as_documented(kestrel: RobotModel, scene: SceneDescription) -> None:
    layout = layout_scene(kestrel, scene)
    assert layout.floor_z_m == pytest.approx(-0.95)
    assert layout.table_top_z_m - layout.floor_z_m == pytest.approx(0.90, abs=0.02)
    assert kestrel.site_pose("left_shoulder", {})[2] + 0.95 == pytest.approx(1.37)


def test_random_starts_stay_in_their_rectangles(kestrel: RobotModel, scene: SceneDescription) -> None:
    layout = layout_scene(kestrel, scene)
    first = [layout.start_poses(np.random.default_rng(5)) for _ in range(2)]
    assert all(np.array_equal(first[0][name], first[1][name]) for name in first[0])
    generator = np.random.default_rng(0)
    places = np.array([layout.start_poses(generator)["cube"] for _ in range(200)])
    cube = next(entry for entry in scene.objects if entry.name == "cube")
    spread = np.abs(places[:, :2] - layout.object_poses["cube"][:2]).max(axis=0)
    half_sides = layout.arm_length_m * np.array(cube.random_start_arm_lengths)
    assert (spread <= half_sides).all() and (spread > 0.9 * half_sides).all()
    # No start lies on the goal.
    assert np.linalg.norm(places[:, :2] - layout.goal_pose[:2], axis=1).min() > 0.05


def test_every_problem_of_a_scene_file_is_listed(tmp_path: Path, scene: SceneDescription) -> None:
    text = scene.file.read_text()
    file = tmp_path / "scene.yaml"
    file.write_text(
        text.replace("mass_kg: 0.15", "mass_kg: heavy")
        .replace("kind: cylinder", "kind: cone")
        .replace("object: cube", "object: cup")
        + "wind: 3\n"
    )
    with pytest.raises(CaptureError) as error:
        load_scene(file)
    message = str(error.value)
    for part in (
        "objects.cube.mass_kg",
        "objects.can.kind: 'cone' is none of box, cylinder",
        "goal.object: 'cup'",
        "wind: unknown key",
    ):
        assert part in message


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("red cube", "objects.red cube: 'red cube' cannot name a topic: letters, digits and '_'"),
        ("2nd", "objects.2nd: '2nd' cannot name a topic"),
        ("table", "objects.table: the name is taken by the scene itself"),
        ("goal", "objects.goal: the name is taken by the scene itself"),
        ("world", "objects.world: the name is taken by the scene itself"),
    ],
)
def test_a_name_that_cannot_be_an_object(
    tmp_path: Path, scene: SceneDescription, name: str, message: str
) -> None:
    file = tmp_path / "scene.yaml"
    file.write_text(scene.file.read_text().replace("  can:", f"  {name}:"))
    with pytest.raises(CaptureError, match="scene.yaml: " + re.escape(message)):
        load_scene(file)


@pytest.mark.parametrize("name", ["left_hand", "left_elbow_pitch"])
def test_an_object_called_like_a_part_of_the_robot(
    tmp_path: Path, kestrel: RobotModel, scene: SceneDescription, name: str
) -> None:
    file = tmp_path / "scene.yaml"
    file.write_text(scene.file.read_text().replace("  can:", f"  {name}:"))
    with pytest.raises(CaptureError, match=f"scene.yaml: objects.{name}: robot kestrel has a link or joint"):
        build_physics(kestrel, layout_scene(kestrel, load_scene(file)))


def test_unreadable_scene_file(tmp_path: Path) -> None:
    with pytest.raises(CaptureError, match="cannot be read"):
        load_scene(tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("[1, 2]")
    with pytest.raises(CaptureError, match="table: a mapping is expected"):
        load_scene(tmp_path / "list.yaml")
