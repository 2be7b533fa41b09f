"""Where a trainer's wrists, head and elbows put the robot's.

Each wrist is taken relative to the trainer's own shoulder, in gravity-aligned axes that turn with
the trainer's heading, scaled by the ratio of the arms' reach and added to the robot's shoulder. So
walking and turning move no arm, "down" stays down, and a target is never farther from the robot's shoulder
than its arm is long by more than the trainer's is. Where the trunk is tracked the robot's waist leans and
turns as it does, as far as it can, and takes the shoulders along; else they are where they are in the neutral
posture.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.compiled import compiled
from retargeting.errors import RetargetingError
from retargeting.frames import (
    IDENTITY_POSE,
    pose_compose,
    pose_inverse,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    rotation_vector_from_quaternion,
)
from retargeting.mapping_settings import HAND_SOURCES, MappingSettings
from retargeting.quaternions import multiply, rotate_by, turn_between, turn_by
from retargeting.robot_body import RobotBody, measure_robot
from retargeting.robot_model import RobotModel
from retargeting.swivel import natural_elbow_direction
from retargeting.tracked_motion import TrackedMotion
from retargeting.trainer_place import TrainerPlace, place_trainer
from retargeting.trainer_size import TrainerSize

Array = NDArray[np.float64]

# A robot's arm is used to this share of its reach by a trainer's stretched arm: at full stretch an
# arm is singular and its last centimetres cost the most joint speed.
REACH_SHARE = 0.97

_ELBOWS = {side: f"{side}_elbow" for side in SIDES}
_POINTS = {(side, source): f"{side}_{source}" for side in SIDES for source in HAND_SOURCES}
_OUT = {"left": 1.0, "right": -1.0}


@dataclass(frozen=True)
class Targets:
    """What one motion frame asks of the robot, in its root link.

    wrists: pose ``(7,)`` per tracked side; head_rotation ``(4,)``; elbow_directions ``(3,)`` per side;
    openings: 0 closed .. 1 open per side; waist ``(w,)``: where its joints should be, None where the trunk
    does not tell.
    """

    wrists: dict[str, Array]
    head_rotation: Array | None
    elbow_directions: dict[str, Array]
    openings: dict[str, float]
    waist: Array | None = None


@compiled
def _scale_turn(turn, gain):  # type: ignore[no-untyped-def]
    """Multiply the rotation `turn` ``(4,)`` by `gain`, in place."""
    if gain == 1.0:
        return
    none, whole = np.array([0.0, 0.0, 0.0, 1.0]), np.empty(3)
    turn_between(none, turn, whole)
    turn[:] = none
    turn_by(turn, whole, gain)


@compiled
def _map_arm(  # type: ignore[no-untyped-def]
    wrist, shoulder, elbow, elbow_known, inverse_heading, gain, scale, robot_shoulder, body_to_root,
    out, upper_arm_m, forearm_m, pose, direction,
):  # fmt: skip
    """Fill `pose` ``(7,)`` of the robot's wrist and `direction` ``(3,)`` of its elbow, in its root.

    wrist ``(7,)``, shoulder ``(3,)``, elbow ``(3,)`` or more, in `trainer`; gain: that of the orientation;
    out: 1 for a left arm, -1 for a right one. An elbow that is not known is where it would naturally be;
    False where there is no such place.
    """
    offset, turn = np.empty(3), np.empty(4)
    x, y, z = rotate_by(
        inverse_heading, wrist[0] - shoulder[0], wrist[1] - shoulder[1], wrist[2] - shoulder[2]
    )
    offset[0], offset[1], offset[2] = x, y, z
    x, y, z = rotate_by(body_to_root, scale * x, scale * y, scale * z)
    pose[0], pose[1], pose[2] = robot_shoulder[0] + x, robot_shoulder[1] + y, robot_shoulder[2] + z
    multiply(inverse_heading, wrist[3:], turn)
    _scale_turn(turn, gain)
    multiply(body_to_root, turn, pose[3:])
    if elbow_known:
        x, y, z = elbow[0] - shoulder[0], elbow[1] - shoulder[1], elbow[2] - shoulder[2]
        length = np.sqrt(x * x + y * y + z * z)
        if length <= 1e-3:
            return False
        x, y, z = rotate_by(inverse_heading, x / length, y / length, z / length)
    else:
        if not natural_elbow_direction(out, offset, upper_arm_m, forearm_m, direction):
            return False
        x, y, z = direction[0], direction[1], direction[2]
    direction[0], direction[1], direction[2] = rotate_by(body_to_root, x, y, z)
    return True


@compiled
def _map_trunk(turn, gain, body_to_root, in_root):  # type: ignore[no-untyped-def]
    """Fill `in_root` ``(4,)`` with the trunk's `turn` ``(4,)`` times `gain`, in the axes of the root."""
    scaled, there = turn.copy(), np.empty(4)
    _scale_turn(scaled, gain)
    multiply(body_to_root, scaled, there)
    back = np.array([-body_to_root[0], -body_to_root[1], -body_to_root[2], body_to_root[3]])
    multiply(there, back, in_root)


@compiled
def _map_head(head, inverse_heading, body_to_root, rotation):  # type: ignore[no-untyped-def]
    """Fill `rotation` ``(4,)`` of the robot's head from that of the trainer's ``(4,)``."""
    turn = np.empty(4)
    multiply(inverse_heading, head, turn)
    multiply(body_to_root, turn, rotation)


class TrainerToRobot:
    """The mapping for one trainer (of known size) and one robot; pure, without memory between frames.

    The trainer's forward and up become the robot's (`axes` of `robot.yaml`), wherever its root's x points.

    Where no `place` is given, the trainer is where the frame by itself says (`place_trainer`).
    """

    def __init__(
        self,
        model: RobotModel,
        size: TrainerSize,
        body: RobotBody | None = None,
        settings: MappingSettings | None = None,
    ) -> None:
        self.body = body or measure_robot(model)
        self.size = size
        self._body_to_root = model.description.axes.rotation_body_to_root
        self._root_to_body = quaternion_inverse(self._body_to_root)
        self.settings = settings or MappingSettings()
        self.scale = {
            side: self.settings.position_gain[side] * REACH_SHARE * reach / size.arm_m(side)
            for side, reach in self.body.reach_m.items()
        }

    def targets(self, motion: TrackedMotion, place: TrainerPlace | None = None) -> Targets:
        """The targets of a motion frame; what is not tracked is absent from them."""
        place = place or place_trainer(motion, self.size)
        inverse, to_root, size = place.inverse_heading, self._body_to_root, self.size
        wrists, elbows = {}, {}
        waist, robot_shoulders = self._trunk(place)
        for side, robot_shoulder in robot_shoulders.items():
            wrist, shoulder = self.trainer_wrist(motion, side), place.shoulders.get(side)
            if wrist is None or shoulder is None:
                continue
            pose, direction = np.empty(7), np.empty(3)
            gain, scale = self.settings.orientation_gain[side], self.scale[side]
            elbow = motion.poses.get(_ELBOWS[side])
            known = elbow is not None
            if _map_arm(
                wrist, shoulder, elbow if known else wrist, known, inverse, gain, scale, robot_shoulder,
                to_root, _OUT[side], size.upper_arm_m[side], size.forearm_m[side], pose, direction,
            ):  # fmt: skip
                elbows[side] = direction
            wrists[side] = pose
        head = motion.poses.get("head")
        head_rotation = None
        if head is not None:
            head_rotation = np.empty(4)
            _map_head(head[3:], inverse, to_root, head_rotation)
        openings = {side: motion.controls.hand_opening(side) for side in self.body.shoulders}
        return Targets(wrists, head_rotation, elbows, openings, waist)

    def _trunk(self, place: TrainerPlace) -> tuple[Array | None, dict[str, Array]]:
        """The waist's joints for the trainer's trunk, and where the robot's shoulders are with them."""
        waist, turn, gain = self.body.waist, place.trunk_turn, self.settings.waist_gain
        if waist is None or turn is None or gain == 0.0:
            return None, self.body.shoulders
        in_root = np.empty(4)
        _map_trunk(turn, gain, self._body_to_root, in_root)
        return waist.follow(in_root)

    def trainer_wrist(self, motion: TrackedMotion, side: str) -> Array | None:
        """The wrist ``(7,)`` in `trainer` by the first tracked point of `HAND_SOURCES`; None without."""
        for source in HAND_SOURCES:
            point = motion.poses.get(_POINTS[side, source])
            if point is not None:
                offset = self.settings.wrist_in_point[source][side]
                return point if offset is IDENTITY_POSE else pose_compose(point, offset)
        return None

    def trainer_wrist_for(self, motion: TrackedMotion, side: str, wrist_in_robot: Array) -> Array:
        """The pose ``(7,)`` of the point `{side}_wrist` in `trainer` that asks for `wrist_in_robot` ``(7,)``.

        The inverse of `targets`; `motion` tells where the trainer stands. Raises `RetargetingError`
        where the shoulder is not known.
        """
        place = place_trainer(motion, self.size)
        shoulder = place.shoulders.get(side)
        if shoulder is None or side not in self.scale:
            raise RetargetingError(f"the trainer's {side} shoulder is not known in this frame")
        reached = rotate(self._root_to_body, wrist_in_robot[:3] - self._trunk(place)[1][side])
        offset = reached / self.scale[side]
        turn = quaternion_multiply(self._root_to_body, wrist_in_robot[3:])
        gain = self.settings.orientation_gain[side]
        if gain != 1.0:
            turn = quaternion_from_rotation_vector(rotation_vector_from_quaternion(turn) / gain)
        wrist = np.concatenate(
            [shoulder + rotate(place.heading, offset), quaternion_multiply(place.heading, turn)]
        )
        return pose_compose(wrist, pose_inverse(self.settings.wrist_in_point["wrist"][side]))

    def transform_trainer_to_robot(self, motion: TrackedMotion, place: TrainerPlace | None = None) -> Array:
        """Pose ``(7,)`` of `trainer` in the robot's root: shoulders on shoulders, headings aligned."""
        place = place or place_trainer(motion, self.size)
        inverse = quaternion_multiply(self._body_to_root, quaternion_inverse(place.heading))
        tracked = [side for side in self.body.shoulders if side in place.shoulders]
        if not tracked:
            raise RetargetingError("neither shoulders nor head are tracked: the trainer cannot be placed")
        trainer = np.mean([place.shoulders[side] for side in tracked], axis=0)
        robot = np.mean([self.body.shoulders[side] for side in tracked], axis=0)
        return np.concatenate([robot - rotate(inverse, trainer), inverse])
