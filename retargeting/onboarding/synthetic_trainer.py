"""A made-up trainer for the self-test: both hands draw slow figures in front of the shoulders."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from retargeting.frames import quaternion_from_rotation_vector, quaternion_multiply
from retargeting.motion_frame import Controls, MotionFrame

Array = NDArray[np.float64]

_UPPER_ARM_M, _FOREARM_M, _SHOULDER_M, _HALF_WIDTH_M = 0.30, 0.26, 1.42, 0.19
_ARM_M = _UPPER_ARM_M + _FOREARM_M
PERIOD_S = 4.0
STILL_S = 1.0
DURATION_S = STILL_S + 2.0 * PERIOD_S


def _elbow(shoulder: Array, wrist: Array) -> Array:
    """The elbow ``(3,)`` below the line from shoulder to wrist, of two segments of known length."""
    line = wrist - shoulder
    reach = min(float(np.linalg.norm(line)), 0.999 * _ARM_M)
    along = (_UPPER_ARM_M**2 - _FOREARM_M**2 + reach**2) / (2.0 * reach)
    off = float(np.sqrt(max(0.0, _UPPER_ARM_M**2 - along**2)))
    unit = line / np.linalg.norm(line)
    down = np.array([0.0, 0.0, -1.0])
    down = down - unit * float(unit @ down)
    down = down / max(float(np.linalg.norm(down)), 1e-9)
    elbow: Array = shoulder + along * unit + off * down
    return elbow


def synthetic_frame(time_s: float, stamp_ns: int) -> MotionFrame:
    """The frame at `time_s`: a still second, then figure-eights with bending, turning wrists and grasps."""
    identity = np.array([0.0, 0.0, 0.0, 1.0])
    phase = 2.0 * np.pi * max(0.0, time_s - STILL_S) / PERIOD_S
    poses = {
        "pelvis": np.concatenate([[0.0, 0.0, 0.95], identity]),
        "head": np.concatenate(
            [[0.08, 0.0, 1.68], quaternion_from_rotation_vector([0.0, 0.0, 0.3 * np.sin(0.5 * phase)])]
        ),
    }
    closing = 0.5 - 0.5 * np.cos(phase)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        shoulder = np.array([0.0, sign * _HALF_WIDTH_M, _SHOULDER_M])
        wrist = shoulder + _ARM_M * np.array(
            [
                0.60 + 0.12 * np.sin(phase),
                sign * 0.05 + 0.18 * np.sin(phase),
                -0.30 + 0.20 * np.sin(2.0 * phase),
            ]
        )
        roll = quaternion_from_rotation_vector([-sign * (1.1 - 0.5 * np.sin(phase)), 0.0, 0.0])
        pitch = quaternion_from_rotation_vector([0.0, 0.25 * np.sin(2.0 * phase), 0.0])
        poses[f"{side}_shoulder"] = np.concatenate([shoulder, identity])
        poses[f"{side}_elbow"] = np.concatenate([_elbow(shoulder, wrist), identity])
        poses[f"{side}_wrist"] = np.concatenate([wrist, quaternion_multiply(pitch, roll)])
    axes = (float(closing), float(closing), *([0.0] * 6))
    return MotionFrame(stamp_ns, poses, Controls(axes=axes))
