"""Where a trainer's wrists, head and elbows put the robot's.

Each wrist is taken relative to the trainer's own shoulder, in gravity-aligned axes that turn with
the trainer's heading, scaled by the ratio of the arms' reach and added to the robot's shoulder. So
walking and turning move no arm, "down" stays down, and a target is never farther from the robot's shoulder
than its arm is long by more than the trainer's is. Where the trunk is tracked the robot's waist leans and
turns as it does, as far as it can, and takes the shoulders along; else they are where they are in the neutral
posture.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.box_qp import SOLVED
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
from retargeting.packed import bind, pack
from retargeting.quaternions import multiply, rotate_by, turn_between, turn_by
from retargeting.robot_body import RobotBody, measure_robot
from retargeting.robot_model import RobotModel
from retargeting.robot_waist import follow_trunk
from retargeting.swivel import natural_elbow_direction
from retargeting.tracked_motion import TrackedMotion
from retargeting.trainer_place import TrainerPlace, place_trainer
from retargeting.trainer_size import TrainerSize
from retargeting.trainer_view import ROWS, TrainerView, view_of

Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

# A robot's arm is used to this share of its reach by a trainer's stretched arm: at full stretch an
# arm is singular and its last centimetres cost the most joint speed.
REACH_SHARE = 0.97

_OUT = np.array([1.0, -1.0])  # A left arm's and a right arm's way out.
_ELBOWS = np.array([ROWS[f"{side}_elbow"] for side in SIDES])
_SOURCES = np.array([[ROWS[f"{side}_{source}"] for source in HAND_SOURCES] for side in SIDES])
_HEAD = ROWS["head"]
_HEAD_ROW, _WAIST = 2, 3


class TargetArrays(NamedTuple):
    """See `Targets`."""

    poses: Array
    directions: Array
    openings: Array
    waist: Array
    known: BoolArray


class Targets:
    """What one motion frame asks of the robot, in its root link.

    poses ``(3, 7)`` in the order of `retargeting.robot_tasks.POSE_SITES`, of the head the rotation alone;
    directions ``(2, 3)`` of the elbows, zero where not known; openings ``(2,)``: 0 closed .. 1 open; waist
    ``(w,)``: where its joints should be; known ``(4,)``: whether left wrist, right wrist, head and waist are.
    `packed` is what compiled code takes (`TargetArrays`). At first nothing is known.
    """

    def __init__(self, waist_joints: int = 0) -> None:
        self.poses, self.directions = np.tile(IDENTITY_POSE, (3, 1)), np.zeros((2, 3))
        self.openings, self.waist = np.ones(2), np.zeros(waist_joints)
        self.known = np.zeros(4, dtype=np.bool_)
        arrays = TargetArrays(self.poses, self.directions, self.openings, self.waist, self.known)
        self.packed: Any = pack(arrays)

    @property
    def wrists(self) -> dict[str, Array]:
        """Pose ``(7,)`` of each side that is known."""
        return {side: self.poses[k] for k, side in enumerate(SIDES) if self.known[k]}

    @property
    def elbow_directions(self) -> dict[str, Array]:
        """Direction ``(3,)`` of each side that is known."""
        return {side: self.directions[k] for k, side in enumerate(SIDES) if self.directions[k].any()}

    @property
    def head_rotation(self) -> Array | None:
        """``(4,)``; None where it is not known."""
        return self.poses[_HEAD_ROW, 3:] if self.known[_HEAD_ROW] else None

    @property
    def has_waist(self) -> bool:
        """Whether the trunk tells where the waist's joints should be."""
        return bool(self.known[_WAIST])


class MappingArrays(NamedTuple):
    """One trainer and one robot, rows by side: has_arm ``(2,)``, shoulders ``(2, 3)`` of the robot where they
    are now; scale, orientation_gain, upper_arm_m, forearm_m ``(2,)``; wrist_in_point ``(2, s, 7)`` for each
    of `HAND_SOURCES`, of which `at_wrist` ``(2, s)`` are the identity. body_to_root ``(4,)``; waist_gain;
    neutral_shoulders ``(2, 3)``; wrist ``(7,)``, turn ``(4,)``: room."""

    body_to_root: Array
    has_arm: BoolArray
    shoulders: Array
    scale: Array
    orientation_gain: Array
    upper_arm_m: Array
    forearm_m: Array
    wrist_in_point: Array
    at_wrist: BoolArray
    waist_gain: float
    neutral_shoulders: Array
    wrist: Array
    turn: Array


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


@compiled
def _find_wrist(mapping, trainer, k, wrist):  # type: ignore[no-untyped-def]
    """Fill `wrist` ``(7,)`` of side k by the first tracked of `HAND_SOURCES`; False where none is."""
    for s in range(_SOURCES.shape[1]):
        row = _SOURCES[k, s]
        if not trainer.tracked[row]:
            continue
        point = trainer.poses[row]
        if mapping.at_wrist[k, s]:
            wrist[:] = point
        else:
            offset = mapping.wrist_in_point[k, s]
            x, y, z = rotate_by(point[3:], offset[0], offset[1], offset[2])
            wrist[0], wrist[1], wrist[2] = point[0] + x, point[1] + y, point[2] + z
            multiply(point[3:], offset[3:], wrist[3:])
        return True
    return False


@compiled
def _map_frame(packed, view, targets):  # type: ignore[no-untyped-def]
    """Fill packed `TargetArrays` but for the waist from packed `TrainerArrays`, by packed `MappingArrays`."""
    mapping, trainer, asked = packed.content, view.content, targets.content
    inverse, wrist = trainer.inverse_heading, mapping.wrist
    for k in range(_OUT.shape[0]):
        asked.known[k] = False
        asked.directions[k] = 0.0
        if not mapping.has_arm[k]:
            continue
        asked.openings[k] = trainer.openings[k]
        if not trainer.shoulders_known[k] or not _find_wrist(mapping, trainer, k, wrist):
            continue
        asked.known[k] = True
        row, direction = _ELBOWS[k], asked.directions[k]
        if not _map_arm(
            wrist, trainer.shoulders[k], trainer.poses[row], trainer.tracked[row], inverse,
            mapping.orientation_gain[k], mapping.scale[k], mapping.shoulders[k], mapping.body_to_root,
            _OUT[k], mapping.upper_arm_m[k], mapping.forearm_m[k], asked.poses[k], direction,
        ):  # fmt: skip
            direction[:] = 0.0
    asked.known[_HEAD_ROW] = trainer.tracked[_HEAD]
    if trainer.tracked[_HEAD]:
        _map_head(trainer.poses[_HEAD, 3:], inverse, mapping.body_to_root, asked.poses[_HEAD_ROW, 3:])


@compiled
def _lean(packed, waist, view, targets):  # type: ignore[no-untyped-def]
    """Fill the waist of packed `TargetArrays` and where the shoulders are with it; the status of the search.

    packed `MappingArrays`, a packed `RobotWaist`, packed `TrainerArrays`.
    """
    mapping, trainer, asked = packed.content, view.content, targets.content
    asked.known[_WAIST] = trainer.trunk_known[0] and mapping.waist_gain != 0.0
    if not asked.known[_WAIST]:
        mapping.shoulders[:] = mapping.neutral_shoulders
        return SOLVED
    _map_trunk(trainer.trunk_turn, mapping.waist_gain, mapping.body_to_root, mapping.turn)
    return follow_trunk(waist, mapping.turn, asked.waist, mapping.shoulders)


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
        self._neutral_shoulders: Array = np.zeros((len(SIDES), 3))
        for k, side in enumerate(SIDES):
            self._neutral_shoulders[k] = self.body.shoulders.get(side, np.zeros(3))
        settings = self.settings
        offsets = [[settings.wrist_in_point[source][side] for source in HAND_SOURCES] for side in SIDES]

        def by_side(values: Mapping[str, float]) -> Array:
            return np.array([values.get(side, 1.0) for side in SIDES])

        self._arrays = MappingArrays(
            self._body_to_root,
            np.array([side in self.body.shoulders for side in SIDES]),
            self._neutral_shoulders.copy(),
            by_side(self.scale),
            by_side(settings.orientation_gain),
            by_side(size.upper_arm_m),
            by_side(size.forearm_m),
            np.array(offsets),
            np.array([[offset is IDENTITY_POSE for offset in row] for row in offsets]),
            float(settings.waist_gain),
            self._neutral_shoulders,
            np.empty(7),
            np.empty(4),
        )
        self._packed = pack(self._arrays)

    def no_targets(self) -> Targets:
        """Room for what `fill` finds."""
        return Targets(0 if self.body.waist is None else len(self.body.waist.neutral))

    def targets(self, motion: TrackedMotion, place: TrainerPlace | None = None) -> Targets:
        """The targets of a motion frame; what is not tracked is not known."""
        targets = self.no_targets()
        self.fill(view_of(motion, place or place_trainer(motion, self.size)), targets)
        return targets

    def fill(self, view: TrainerView, targets: Targets) -> None:
        """Fill the targets of what the view shows of the trainer."""
        self.filling(view, targets)()

    def filling(self, view: TrainerView, targets: Targets) -> Callable[[], None]:
        """What fills these targets of what this view shows, again and again."""
        waist = self.body.waist
        fill = bind(_map_frame, (self._packed, view.packed, targets.packed))
        if waist is None:
            return fill
        lean = bind(_lean, (self._packed, waist.packed, view.packed, targets.packed))
        check, turn = waist.check, self._arrays.turn

        def lean_and_fill() -> None:
            status = lean()
            if status:
                check(status, turn)
            fill()

        return lean_and_fill

    def _shoulders(self, place: TrainerPlace) -> Array:
        """Where the robot's shoulders ``(2, 3)`` are with the trainer's trunk as it is."""
        waist = self.body.waist
        shoulders: Array = self._neutral_shoulders.copy()
        if waist is not None and place.trunk_turn is not None and self.settings.waist_gain != 0.0:
            in_root = np.empty(4)
            _map_trunk(place.trunk_turn, self.settings.waist_gain, self._body_to_root, in_root)
            waist.fill(in_root, np.empty(len(waist.neutral)), shoulders)
        return shoulders

    def trainer_wrist_for(self, motion: TrackedMotion, side: str, wrist_in_robot: Array) -> Array:
        """The pose ``(7,)`` of the point `{side}_wrist` in `trainer` that asks for `wrist_in_robot` ``(7,)``.

        The inverse of `targets`; `motion` tells where the trainer stands. Raises `RetargetingError`
        where the shoulder is not known.
        """
        place = place_trainer(motion, self.size)
        shoulder = place.shoulders.get(side)
        if shoulder is None or side not in self.scale:
            raise RetargetingError(f"the trainer's {side} shoulder is not known in this frame")
        reached = rotate(self._root_to_body, wrist_in_robot[:3] - self._shoulders(place)[SIDES.index(side)])
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
