"""Pictures of the simulated cameras: kinematics only, drawn off screen.

Drawing needs EGL (or OSMesa) and nothing of a display. Which of the two is used is decided in
`choose_graphics`, which has to run before MuJoCo is imported anywhere in the process.
"""

from __future__ import annotations

import ctypes.util
import math
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from capture_nodes.errors import CaptureError

Array = NDArray[np.float64]

_LIBRARIES = {"egl": ("EGL", "libegl1 libegl-mesa0 libgl1-mesa-dri"), "osmesa": ("OSMesa", "libosmesa6")}


def choose_graphics() -> str:
    """Set `MUJOCO_GL` to what this machine has, unless the user chose; returns the choice.

    Software rendering is kept in the calling thread: it leaves the other cores to physics and recording, and
    has the thread's priority. Raises `CaptureError` naming the package to install where neither is there.
    """
    os.environ.setdefault("LP_NUM_THREADS", "0")
    chosen = os.environ.get("MUJOCO_GL", "").lower()
    if chosen not in _LIBRARIES:
        if chosen and chosen not in ("glfw", "glx"):
            raise CaptureError(f"MUJOCO_GL={chosen}: none of {', '.join(_LIBRARIES)}, glfw")
        if chosen:
            return chosen
        chosen = next((k for k, (library, _) in _LIBRARIES.items() if ctypes.util.find_library(library)), "")
    if not chosen:
        raise CaptureError(
            f"no library to draw camera pictures with; install one with: "
            f"sudo apt install {_LIBRARIES['egl'][1]}"
        )
    os.environ["MUJOCO_GL"] = chosen
    if chosen in ("egl", "osmesa"):
        os.environ.setdefault("PYOPENGL_PLATFORM", chosen)
    return chosen


def camera_matrix(width: int, height: int, horizontal_fov_rad: float) -> Array:
    """Pinhole matrix ``(3, 3)``; pixel centres are at whole numbers, square pixels."""
    focal = 0.5 * width / math.tan(0.5 * horizontal_fov_rad)
    return np.array([[focal, 0.0, 0.5 * (width - 1)], [0.0, focal, 0.5 * (height - 1)], [0.0, 0.0, 1.0]])


class CameraRenderer:
    """Draws the cameras of a `PhysicsModel` at ``width x height``.

    Used from one thread only (it owns a graphics context). Raises `CaptureError` where no context
    can be made.
    """

    def __init__(self, physics: Any, width: int, height: int) -> None:
        choose_graphics()
        # Imported late: MuJoCo picks its graphics library when it is first imported.
        import mujoco

        self._mujoco = mujoco
        self.physics = physics
        self.model = physics.mj_model
        self.data = mujoco.MjData(self.model)
        self.width, self.height = width, height
        self.model.vis.global_.offwidth = max(width, int(self.model.vis.global_.offwidth))
        self.model.vis.global_.offheight = max(height, int(self.model.vis.global_.offheight))
        # Without smoothing of edges a picture costs half as much in software.
        quality = self.model.vis.quality
        quality.offsamples = 0
        # Round shapes of fewer faces: a third off the time of a picture.
        quality.numslices, quality.numstacks, quality.numquads = 16, 8, 2
        try:
            self._renderer = mujoco.Renderer(self.model, height=height, width=width)
        except Exception as error:  # the graphics libraries raise errors of many unrelated types
            raise CaptureError(
                f"no picture can be drawn with MUJOCO_GL={os.environ.get('MUJOCO_GL')}: {error}; "
                f"install what is missing with: sudo apt install {_LIBRARIES['egl'][1]}"
            ) from error
        scene = self._renderer.scene
        for flag in (mujoco.mjtRndFlag.mjRND_SHADOW, mujoco.mjtRndFlag.mjRND_REFLECTION):
            scene.flags[flag] = False
        self._options = mujoco.MjvOption()
        for group in range(len(self._options.geomgroup)):
            self._options.geomgroup[group] = 1 if group in (0, 2) else 0
        physics.set_joint_positions(self.data, physics.robot.neutral_positions())
        self._joint_names = {joint.name for joint in physics.joints}

    def pose(self, joints: Mapping[str, float], objects: Mapping[str, Array]) -> None:
        """Take joint positions (rad, m) and object poses ``(7,)`` in the root frame.

        Unknown names are ignored, what is not given stays as it was.
        """
        known = {name: value for name, value in joints.items() if name in self._joint_names}
        self.physics.set_joint_positions(self.data, known)
        for name, pose in objects.items():
            if name in self.physics.object_qpos:
                self.physics.set_object_pose(self.data, name, pose)
        self._mujoco.mj_kinematics(self.model, self.data)
        self._mujoco.mj_camlight(self.model, self.data)

    def render(self, camera: str) -> NDArray[np.uint8]:
        """The picture ``(height, width, 3)`` RGB of a camera of robot.yaml."""
        self._renderer.update_scene(self.data, camera=camera, scene_option=self._options)
        picture: NDArray[np.uint8] = self._renderer.render()
        return picture

    def close(self) -> None:
        self._renderer.close()
