"""The whole way: a trainer's fingers in, a robot's published joint command out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from trainer_hand import TrainerHand, pinch, smooth_motion, straight

from retargeting.errors import InvalidConfiguration
from retargeting.hand_retargeter import robot_hand
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter, State
from retargeting.retargeter_parameters import RetargeterParameters
from retargeting.robot_model import load_robot

TICK_S, FRAME_S = 0.005, 1.0 / 90.0
G1 = Path(__file__).resolve().parents[3] / "robot_descriptions" / "g1" / "robot.yaml"


def test_the_published_command_pinches_inside_its_limits():
    try:
        model = load_robot(G1)
    except InvalidConfiguration as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    retargeter = Retargeter(model, RetargeterParameters(size_frames=5))
    hands = {side: TrainerHand(side) for side in ("left", "right")}
    turned = [0.0, 0.0, 0.0, 1.0]
    still = {"head": np.array([0.0, 0.0, 1.6, *turned])}
    wrists = {
        side: np.array([0.35, 0.2 if side == "left" else -0.2, 1.15, *turned]) for side in ("left", "right")
    }
    motion = [*[straight()] * 90, *smooth_motion([straight(), pinch("index")], 60), *[pinch("index")] * 90]
    positions, velocities = [], []
    now_s = frame_s = 1.0
    measured = dict(zip(model.joint_names, model.neutral, strict=True))
    for _ in range(int(len(motion) * FRAME_S / TICK_S)):
        now_s += TICK_S
        while frame_s <= now_s:
            posture = motion[min(int((frame_s - 1.0) / FRAME_S), len(motion) - 1)]
            poses = dict(still)
            for side, hand in hands.items():
                poses.update(hand.frame(posture, wrist=wrists[side]).poses)
            retargeter.observe_motion(MotionFrame(int(frame_s * 1e9), poses), now_s)
            frame_s += FRAME_S
        retargeter.observe_joints(measured, now_s)
        if retargeter.state is State.IDLE and retargeter.refusal(now_s) is None:
            retargeter.engage(now_s)
        command = retargeter.tick(int(now_s * 1e9), now_s)
        if command is not None:
            measured = dict(zip(command.joint_names, command.positions, strict=True))
            positions.append(command.positions)
            velocities.append(command.velocities)
    assert retargeter.state is State.TRACKING
    assert retargeter.forced_exceptions == 0
    accelerations = np.diff(velocities, axis=0) / TICK_S
    assert (np.abs(velocities) <= model.velocity + 1e-9).all()
    assert (np.abs(accelerations) <= model.acceleration + 1e-6).all()
    for side in hands:
        hand = robot_hand(model, side)
        q = np.array([measured[name] for name in hand.joint_names])
        assert abs(hand.gaps(q)[hand.fingers.index("index")]) < 1e-3
