"""What the scripted trainer does with a robot: takes the object it sees and brings it to the goal."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import numpy as np

from capture_nodes.errors import CaptureError
from capture_nodes.resources import scene_file
from capture_nodes.simulation.scene import layout_scene, load_scene
from capture_nodes.sources.person import Person
from capture_nodes.sources.script import PickAndPlace, ScriptSource, pick_and_place, stand_ready
from retargeting.frames import Array, pose_compose, pose_inverse
from retargeting.robot_model import RobotModel
from retargeting.trainer_size import measure_trainer
from retargeting.trainer_to_robot import TrainerToRobot

NOT_SAID = (math.nan, math.nan, math.nan)
HAND_RPY_RAD = (0.0, 0.9, 0.0)  # fingers forward and down: the posture that costs the least reach
_DURATION_SPREAD, _LIFT_SPREAD_M = 0.1, 0.03


@dataclass(frozen=True)
class TaskParameters:
    """What may be said about the task; an empty name or nan means: as the scene and the robot have it.

    `scene` is the path of a scene file ("" = config/scene.yaml). `goal_m` is where the object's centre
    belongs, in the robot's root link; `grasp_offset_m` where the object is in the grasping hand's wrist
    axes; it is held `grasp_above_m` above its centre, which keeps the finger tips off the table; `seed` >= 0
    varies duration and lift between repetitions.
    """

    scene: str = ""
    object_name: str = ""
    goal_m: tuple[float, ...] = NOT_SAID
    side: str = "auto"
    hand_rpy_rad: tuple[float, ...] = HAND_RPY_RAD
    grasp_offset_m: tuple[float, ...] = NOT_SAID
    grasp_above_m: float = 0.01
    duration_s: float = 12.0
    seed: int = -1


class ScriptedTask:
    """Plans a pick-and-place for one robot and one person. Raises `CaptureError` on a bad parameter."""

    def __init__(self, model: RobotModel, person: Person, parameters: TaskParameters) -> None:
        self._model = model
        self._person = person
        self._parameters = parameters
        layout = layout_scene(model, load_scene(scene_file(parameters.scene)))
        self.object_name = parameters.object_name or layout.scene.goal_object
        self.goal_m = tuple(
            float(scene if math.isnan(said) else said)
            for said, scene in zip(parameters.goal_m, layout.goal_pose[:3], strict=True)
        )
        self.standing = ScriptSource(stand_ready(person))
        self._frame = self.standing.frame_at(0.0, 1)
        self._mapping = TrainerToRobot(model, measure_trainer(self._frame))
        self._random = np.random.default_rng(parameters.seed) if parameters.seed >= 0 else None
        # Bad parameters are told now, not at the first play; where the object will be is not known yet.
        self._task(np.asarray(self.goal_m))

    def plan(self, object_position_m: Array) -> ScriptSource:
        """The motion that takes the object from where it is, ``(3,)`` in the robot's root.

        Raises `SourceError` where object or goal are out of reach.
        """
        return ScriptSource(pick_and_place(self._person, self._task(object_position_m), self._to_trainer))

    def _to_trainer(self, side: str, wrist_in_robot: Array) -> Array:
        return self._mapping.trainer_wrist_for(self._frame, side, wrist_in_robot)

    def _task(self, object_position_m: Array) -> PickAndPlace:
        said = self._parameters
        side = said.side
        if side == "auto":
            side = "left" if object_position_m[1] > 0.0 else "right"
        x, y, z = (float(value) for value in object_position_m)
        roll, pitch, yaw = said.hand_rpy_rad
        goal_x, goal_y, goal_z = self.goal_m
        above = said.grasp_above_m
        task = PickAndPlace(
            side,
            (x, y, z + above),
            (goal_x, goal_y, goal_z + above),
            (roll, pitch, yaw),
            self._grasp_offset(side),
            duration_s=said.duration_s,
        )
        if self._random is None:
            return task
        return dataclasses.replace(
            task,
            duration_s=task.duration_s * (1.0 + _DURATION_SPREAD * self._random.uniform(-1.0, 1.0)),
            lift_m=task.lift_m + _LIFT_SPREAD_M * self._random.uniform(),
        )

    def _grasp_offset(self, side: str) -> tuple[float, float, float]:
        """As said, else the middle of the hand's tactile pads in the wrist's axes, fingers as in neutral."""
        if not any(math.isnan(value) for value in self._parameters.grasp_offset_m):
            x, y, z = self._parameters.grasp_offset_m
            return (x, y, z)
        pads = [s for name, s in self._model.description.tactile.items() if name.startswith(f"{side}_")]
        if not pads:
            raise CaptureError(
                f"{self._model.name} has no tactile sensor named {side}_…; say where the {side} hand holds "
                f"an object with grasp_offset_m:=[x, y, z]"
            )
        neutral = self._model.neutral_positions()
        links = self._model.link_poses(neutral)
        to_wrist = pose_inverse(self._model.site_pose(f"{side}_wrist", neutral))
        centres = [pose_compose(to_wrist, pose_compose(links[pad.link], pad.pose))[:3] for pad in pads]
        x, y, z = (float(value) for value in np.mean(centres, axis=0))
        return (x, y, z)
