"""Recorded human motions through the retargeting, on every robot: limits always, tracking to a bound."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from capture_nodes.sources.bvh import BvhParameters, BvhSource
from retargeting.frames import quaternion_inverse, quaternion_multiply, rotation_vector_from_quaternion
from retargeting.retargeter import Retargeter, State
from retargeting.robot_model import RobotModel

MOTIONS = sorted((Path(__file__).resolve().parents[3] / "shared" / "motions").glob("*.bvh"))
TICK_S, FRAME_S = 0.005, 1.0 / 90.0
STANDING_S = 2.0
# 95 % of the wrists' commanded errors (m, degrees), on all frames. A long arm has farther to turn.
BOUNDS = {"g1": (0.025, 6.0), "kestrel": (0.040, 9.0)}

pytestmark = pytest.mark.skipif(not MOTIONS, reason="no recorded motions beside the checkout")


@dataclass(frozen=True)
class Run:
    """Commands ``(n, joints)`` of a motion; errors ``(n, 2)`` of both wrists in m and degrees."""

    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]
    position_error_m: NDArray[np.float64]
    orientation_error_deg: NDArray[np.float64]
    state: State


def play(model: RobotModel, motion: Path) -> Run:
    """The whole motion in steps of a tick, on a robot that follows perfectly."""
    source = BvhSource(BvhParameters(motion))
    retargeter = Retargeter(model)
    measured = model.neutral_positions()
    positions, velocities, errors_m, errors_deg = [], [], [], []
    next_frame_s = 0.0
    for k in range(round((STANDING_S + source.duration_s) / TICK_S)):
        now_s, stamp_ns = k * TICK_S, 10**9 + k * 5_000_000
        retargeter.observe_joints(measured, now_s)
        if now_s >= next_frame_s:
            frame = source.frame_at(max(0.0, now_s - STANDING_S), stamp_ns)
            if frame is not None:
                retargeter.observe_motion(frame, now_s)
            next_frame_s += FRAME_S
        if k == 100:
            retargeter.engage(now_s)
        command = retargeter.tick(stamp_ns, now_s)
        if command is None:
            continue
        measured |= zip(command.joint_names, command.positions.tolist(), strict=True)
        positions.append(command.positions)
        velocities.append(command.velocities)
        if now_s < STANDING_S:
            continue
        rows = []
        for site in ("left_wrist", "right_wrist"):
            reached, wanted = model.site_pose(site, measured), command.targets[site]
            turn = rotation_vector_from_quaternion(
                quaternion_multiply(wanted[3:], quaternion_inverse(reached[3:]))
            )
            rows.append((np.linalg.norm(wanted[:3] - reached[:3]), np.degrees(np.linalg.norm(turn))))
        errors_m.append([row[0] for row in rows])
        errors_deg.append([row[1] for row in rows])
    return Run(
        np.array(positions),
        np.array(velocities),
        np.array(errors_m),
        np.array(errors_deg),
        retargeter.state,
    )


@pytest.mark.parametrize("motion", MOTIONS, ids=lambda path: path.stem)
def test_a_recorded_motion_is_followed_within_every_limit(model: RobotModel, motion: Path) -> None:
    run = play(model, motion)
    assert run.state is State.TRACKING
    assert (run.positions >= model.lower - 1e-9).all() and (run.positions <= model.upper + 1e-9).all()
    velocities = np.diff(run.positions, axis=0) / TICK_S
    assert (np.abs(velocities) <= model.velocity + 1e-6).all()
    np.testing.assert_allclose(run.velocities[1:], velocities, atol=1e-9)
    accelerations = np.diff(velocities, axis=0) / TICK_S
    assert (np.abs(accelerations) <= model.acceleration * (1.0 + 1e-6)).all()
    bound_m, bound_deg = BOUNDS[model.name]
    assert np.percentile(run.position_error_m, 95) <= bound_m
    assert np.percentile(run.orientation_error_deg, 95) <= bound_deg
