"""A person, and a retargeter with a robot that follows perfectly, driven tick by tick for tests."""

from __future__ import annotations

import numpy as np

from retargeting.frames import quaternion_from_rotation_vector, quaternion_multiply
from retargeting.motion_frame import Controls, MotionFrame
from retargeting.retargeter import Retargeter, RetargeterParameters, State
from retargeting.robot_model import RobotModel

TICK_S = 0.005
FRAME_S = 1.0 / 90.0
UNTURNED = np.array([0.0, 0.0, 0.0, 1.0])


def person(
    reach: dict[str, np.ndarray],
    stamp_ns: int,
    trigger: float = 0.0,
    heading_rad: float = 0.0,
    at=(0, 0),
    hand_roll_rad: float = 0.0,
):
    """A person of average size standing at `at`, wrists at `reach` from the shoulders, elbows low."""
    turn = quaternion_from_rotation_vector([0.0, 0.0, heading_rad])
    c, s = np.cos(heading_rad), np.sin(heading_rad)
    matrix = np.array([[c, -s, 0.0], [s, c, 0.0], [0.0, 0.0, 1.0]])
    where = np.array([*at, 0.0], dtype=float)
    poses = {
        "pelvis": np.r_[where + np.array([0.0, 0.0, 1.0]), turn],
        "head": np.r_[where + matrix @ [0.05, 0.0, 1.65], turn],
    }
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = where + matrix @ np.array([0.0, 0.19 * sign, 1.42])
        offset = matrix @ reach[side]
        length = min(np.linalg.norm(offset), 0.559)
        along = offset / np.linalg.norm(offset)
        x = (length**2 + 0.3**2 - 0.26**2) / (2 * length)
        out = np.array([0.0, 0.0, -1.0]) + along[2] * along
        out /= max(np.linalg.norm(out), 1e-6)
        elbow = shoulder + x * along + np.sqrt(max(0.0, 0.3**2 - x * x)) * out
        poses[f"{side}_shoulder"] = np.r_[shoulder, turn]
        poses[f"{side}_elbow"] = np.r_[elbow, turn]
        hand = quaternion_multiply(turn, quaternion_from_rotation_vector([hand_roll_rad, 0.0, 0.0]))
        poses[f"{side}_wrist"] = np.r_[shoulder + length * along, hand]
    axes = [0.0] * 8
    axes[0] = axes[1] = trigger
    return MotionFrame(stamp_ns, poses, Controls(axes=tuple(axes)))


READY = {side: np.array([0.33, 0.0, -0.25]) for side in ("left", "right")}


class Loop:
    """A retargeter with an ideal robot, driven tick by tick; checks every command against the limits."""

    def __init__(self, model: RobotModel, parameters: RetargeterParameters | None = None) -> None:
        self.model = model
        self.retargeter = Retargeter(model, parameters)
        self.measured = model.neutral_positions()
        self.now_s = 10.0
        self.next_frame_s = 10.0
        self.frames = 0
        self.previous: tuple[int, np.ndarray, np.ndarray] | None = None
        self.commands = []

    def run(self, duration_s: float, reach=None, tick_s=lambda: TICK_S, edit=lambda f: f, **arguments):
        end_s = self.now_s + duration_s
        while self.now_s < end_s:
            self.retargeter.observe_joints(self.measured, self.now_s)
            if reach is not None and self.now_s >= self.next_frame_s:
                self.next_frame_s = max(self.next_frame_s + FRAME_S, self.now_s)
                wrists = reach(self.now_s) if callable(reach) else reach
                frame = edit(person(wrists, int(self.now_s * 1e9), **arguments))
                self.retargeter.observe_motion(frame, self.now_s)
            self.tick()
            self.now_s += tick_s()
        return self

    def wrist(self, command, site: str) -> np.ndarray:
        positions = dict(zip(command.joint_names, command.positions.tolist(), strict=True))
        return self.model.site_pose(site, positions)

    def tick(self) -> None:
        command = self.retargeter.tick(int(self.now_s * 1e9), self.now_s)
        if command is None:
            return
        self.commands.append(command)
        model = self.model
        assert (command.positions >= model.lower).all() and (command.positions <= model.upper).all()
        if self.previous is not None:
            stamp_ns, q, v = self.previous
            h = min((command.stamp_ns - stamp_ns) * 1e-9, TICK_S)
            velocity = (command.positions - q) / h
            np.testing.assert_allclose(velocity, command.velocities, atol=1e-6)
            assert (np.abs(velocity) <= model.velocity * (1 + 1e-9) + 1e-9).all()
            assert (np.abs(velocity - v) <= model.acceleration * h * (1 + 1e-6) + 1e-9).all()
            self.previous = (command.stamp_ns, command.positions, velocity)
        else:
            self.previous = (command.stamp_ns, command.positions, np.zeros(len(command.positions)))
        self.measured.update(zip(command.joint_names, command.positions.tolist(), strict=True))


def engaged(model: RobotModel) -> Loop:
    loop = Loop(model).run(0.5, READY)
    assert loop.retargeter.state is State.IDLE
    assert not loop.commands, "nothing may be commanded before the first engage"
    loop.retargeter.engage(loop.now_s)
    return loop.run(2.0, READY)


def without(frame: MotionFrame, *points: str) -> MotionFrame:
    poses = {name: pose for name, pose in frame.poses.items() if name not in points}
    return MotionFrame(frame.stamp_ns, poses, frame.controls)
