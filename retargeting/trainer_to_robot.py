"""Where a trainer's wrists, head and elbows put the robot's.

Each wrist is taken relative to the trainer's own shoulder, in gravity-aligned axes that turn with
the trainer's heading, scaled by the ratio of the arms' reach and added to the robot's shoulder in
its neutral posture. So walking, turning and bending move no arm, "down" stays down, and a target is
never farther from the robot's shoulder than its arm is long by more than the trainer's is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retargeting.body_points import SIDES
from retargeting.errors import RetargetingError
from retargeting.frames import (
    pose_compose,
    quaternion_from_rotation_vector,
    quaternion_inverse,
    quaternion_multiply,
    rotate,
    yaw_of_direction,
)
from retargeting.kinematics import build_tree
from retargeting.motion_frame import MotionFrame
from retargeting.robot_model import RobotModel
from retargeting.trainer_size import TrainerSize

Array = NDArray[np.float64]

# A robot's arm is used to this share of its reach by a trainer's stretched arm: at full stretch an
# arm is singular and its last centimetres cost the most joint speed.
REACH_SHARE = 0.97
# From the eyes to the middle between the shoulders and half the shoulder width, of an average adult,
# where shoulders are not tracked.
_HEAD_TO_SHOULDERS_M = np.array([-0.08, 0.0, -0.26])
_HALF_SHOULDER_WIDTH_M = 0.19


@dataclass(frozen=True)
class RobotBody:
    """A robot's shoulders in its neutral posture ``(3,)`` and the reach (m) of its arms, per side."""

    shoulders: dict[str, Array]
    reach_m: dict[str, float]


def measure_robot(model: RobotModel, samples: int = 4000) -> RobotBody:
    """Shoulders from the sites; reach: the longest distance to the wrist over random postures (seeded)."""
    shoulders, reach = {}, {}
    neutral = model.neutral_positions()
    sites = model.description.sites
    rng = np.random.default_rng(0)
    for side in SIDES:
        chain = model.description.chains[f"{side}_arm"]
        if not chain:
            continue
        if f"{side}_shoulder" not in sites:
            raise RetargetingError(
                f"{model.name}: the site {side}_shoulder is missing in {model.description.file}"
            )
        shoulder = model.site_pose(f"{side}_shoulder", neutral)[:3]
        wrist = sites[f"{side}_wrist"]
        tree, body_of = build_tree(model.urdf, chain, neutral, keep=[wrist.link])
        body, pose = body_of[wrist.link]
        row, offset = tree.index(body), pose_compose(pose, wrist.pose)[:3]
        lower = np.array([max(model.urdf.joints[name].lower, -np.pi) for name in chain])
        upper = np.array([min(model.urdf.joints[name].upper, np.pi) for name in chain])
        longest = 0.0
        for q in rng.uniform(lower, upper, (samples, len(chain))):
            positions, rotations = tree.body_poses(q)
            longest = max(longest, float(np.linalg.norm(positions[row] + rotations[row] @ offset - shoulder)))
        shoulders[side], reach[side] = shoulder, longest
    return RobotBody(shoulders, reach)


@dataclass(frozen=True)
class Targets:
    """What one motion frame asks of the robot, in its root link.

    wrists: pose ``(7,)`` per tracked side; head_rotation ``(4,)``; elbow_directions ``(3,)`` per side;
    openings: 0 closed .. 1 open per side.
    """

    wrists: dict[str, Array]
    head_rotation: Array | None
    elbow_directions: dict[str, Array]
    openings: dict[str, float]


class TrainerToRobot:
    """The mapping for one trainer (of known size) and one robot; pure, without memory between frames.

    The trainer's forward and up become the robot's (`axes` of `robot.yaml`), wherever its root's x points.
    """

    def __init__(self, model: RobotModel, size: TrainerSize, body: RobotBody | None = None) -> None:
        self.body = body or measure_robot(model)
        self.size = size
        self._body_to_root = model.description.axes.rotation_body_to_root
        self.scale = {
            side: REACH_SHARE * reach / size.arm_m(side) for side, reach in self.body.reach_m.items()
        }

    def targets(self, frame: MotionFrame) -> Targets:
        """The targets of a motion frame; what is not tracked is absent from them."""
        heading = trainer_heading(frame)
        inverse = quaternion_multiply(self._body_to_root, quaternion_inverse(heading))
        wrists, elbows = {}, {}
        for side, robot_shoulder in self.body.shoulders.items():
            wrist = frame.poses.get(f"{side}_wrist")
            shoulder = shoulder_position(frame, side, heading)
            if wrist is None or shoulder is None:
                continue
            position = robot_shoulder + self.scale[side] * rotate(inverse, wrist[:3] - shoulder)
            wrists[side] = np.concatenate([position, quaternion_multiply(inverse, wrist[3:])])
            elbow = frame.poses.get(f"{side}_elbow")
            if elbow is not None:
                direction = rotate(inverse, elbow[:3] - shoulder)
                length = float(np.linalg.norm(direction))
                if length > 1e-3:
                    elbows[side] = direction / length
        head = frame.poses.get("head")
        return Targets(
            wrists,
            None if head is None else quaternion_multiply(inverse, head[3:]),
            elbows,
            {side: frame.controls.hand_opening(side) for side in self.body.shoulders},
        )

    def trainer_wrist_for(self, frame: MotionFrame, side: str, wrist_in_robot: Array) -> Array:
        """The wrist pose ``(7,)`` in `trainer` that asks for `wrist_in_robot` ``(7,)``; inverse of `targets`.

        `frame` tells where the trainer stands. Raises `RetargetingError` where the shoulder is not known.
        """
        heading = trainer_heading(frame)
        shoulder = shoulder_position(frame, side, heading)
        if shoulder is None or side not in self.scale:
            raise RetargetingError(f"the trainer's {side} shoulder is not known in this frame")
        offset = (wrist_in_robot[:3] - self.body.shoulders[side]) / self.scale[side]
        turn = quaternion_multiply(heading, quaternion_inverse(self._body_to_root))
        return np.concatenate(
            [shoulder + rotate(turn, offset), quaternion_multiply(turn, wrist_in_robot[3:])]
        )

    def transform_trainer_to_robot(self, frame: MotionFrame) -> Array:
        """Pose ``(7,)`` of `trainer` in the robot's root: shoulders on shoulders, headings aligned."""
        heading = trainer_heading(frame)
        inverse = quaternion_multiply(self._body_to_root, quaternion_inverse(heading))
        found = {side: shoulder_position(frame, side, heading) for side in self.body.shoulders}
        tracked = {side: shoulder for side, shoulder in found.items() if shoulder is not None}
        if not tracked:
            raise RetargetingError("neither shoulders nor head are tracked: the trainer cannot be placed")
        trainer = np.mean(list(tracked.values()), axis=0)
        robot = np.mean([self.body.shoulders[side] for side in tracked], axis=0)
        return np.concatenate([robot - rotate(inverse, trainer), inverse])


def trainer_heading(frame: MotionFrame) -> Array:
    """Rotation ``(4,)`` about gravity to where the trainer faces: by pelvis, else chest, else head."""
    for point in ("pelvis", "chest", "head"):
        pose = frame.poses.get(point)
        if pose is None:
            continue
        forward = rotate(pose[3:], np.array([1.0, 0.0, 0.0]))
        if np.hypot(forward[0], forward[1]) < 0.2:
            # Facing the floor or the ceiling: the left-hand axis still tells the heading.
            left = rotate(pose[3:], np.array([0.0, 1.0, 0.0]))
            forward = np.array([left[1], -left[0], 0.0])
        return quaternion_from_rotation_vector([0.0, 0.0, float(yaw_of_direction(forward))])
    return np.array([0.0, 0.0, 0.0, 1.0])


def shoulder_position(frame: MotionFrame, side: str, heading: Array) -> Array | None:
    """The shoulder ``(3,)`` in `trainer`, from the head where it is not tracked; None without either."""
    shoulder = frame.poses.get(f"{side}_shoulder")
    if shoulder is not None:
        position: Array = shoulder[:3]
        return position
    head = frame.poses.get("head")
    if head is None:
        return None
    offset = _HEAD_TO_SHOULDERS_M + np.array(
        [0.0, _HALF_SHOULDER_WIDTH_M * (1 if side == "left" else -1), 0.0]
    )
    placed: Array = head[:3] + rotate(heading, offset)
    return placed
