from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from capture_nodes.errors import CaptureError
from capture_nodes.simulation import rendering
from capture_nodes.simulation.rendering import camera_matrix, choose_graphics

ROOT = Path(__file__).parents[2]

# In a process of its own, because MuJoCo picks its graphics when it is first imported.
PROGRAM = """
import sys
import numpy as np
from capture_nodes.errors import CaptureError
from capture_nodes.simulation.rendering import CameraRenderer, choose_graphics
try:
    choose_graphics()
except CaptureError as error:
    print(error); sys.exit(77)
from capture_nodes.resources import config_file, robot_description_file
from capture_nodes.simulation.physics_model import build_physics
from capture_nodes.simulation.scene import layout_scene, load_scene
from retargeting.robot_model import load_robot
robot = load_robot(robot_description_file("kestrel"))
layout = layout_scene(robot, load_scene(config_file("scene.yaml")))
renderer = CameraRenderer(build_physics(robot, layout), 160, 120)
pictures = []
for shift in (0.0, 0.1):
    pose = layout.object_poses["cube"].copy()
    pose[1] += shift
    renderer.pose(robot.neutral_positions(), {"cube": pose})
    pictures.append(renderer.render("head").astype(int))
renderer.pose(robot.neutral_positions(), layout.object_poses)
wrist = renderer.render("wrist")
assert wrist.shape == (120, 160, 3) and wrist.dtype == np.uint8
def red(picture):
    rows, columns = np.nonzero((picture[..., 0] > 130) & (picture[..., 1] < 70) & (picture[..., 2] < 70))
    return len(columns), columns.mean() if len(columns) else float("nan")
print(*red(pictures[0]), *red(pictures[1]), pictures[0].std())
renderer.close()
"""


def test_cameras_see_the_cube_move() -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    if result.returncode == 77:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stderr
    first_count, first_column, second_count, second_column, spread = map(float, result.stdout.split())
    assert first_count > 5 and second_count > 5
    # To the robot's left is to the left in its picture.
    assert second_column < first_column - 5
    assert spread > 20.0


def test_camera_matrix_of_a_known_lens() -> None:
    matrix = camera_matrix(320, 240, 2.0 * np.arctan(1.0))
    np.testing.assert_allclose(matrix, [[160, 0, 159.5], [0, 160, 119.5], [0, 0, 1]])


def test_graphics_are_chosen_or_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    monkeypatch.setenv("PYOPENGL_PLATFORM", "osmesa")
    assert choose_graphics() == "osmesa"
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(CaptureError, match="vulkan"):
        choose_graphics()
    monkeypatch.delenv("MUJOCO_GL")
    monkeypatch.setattr(rendering.ctypes.util, "find_library", lambda _name: None)
    with pytest.raises(CaptureError, match="sudo apt install libegl1"):
        choose_graphics()
