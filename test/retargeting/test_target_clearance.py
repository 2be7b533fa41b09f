"""Targets led out of the body: only where something is in the way, never by a jump, where a hand can be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.frames import (
    pose_from_matrix,
    quaternion_from_rotation_vector,
    rotation_matrix_from_quaternion,
)
from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets
from retargeting.target_clearance import LEAD_M_S, LEAD_RAD_S, led_pose, rotate_matrix

TICK_S = 0.005
APART = SolverParameters(self_collision=True)


def angle(one: np.ndarray, two: np.ndarray) -> float:
    return float(np.arccos(np.clip(0.5 * (np.trace(one @ two.T) - 1.0), -1.0, 1.0)))


def at_rest(model: RobotModel) -> tuple[Solver, np.ndarray, np.ndarray, np.ndarray]:
    """A solver in the neutral posture, its sites' poses there, and the grippers."""
    solver, m = Solver(model, APART), model.body_count
    positions, rotations = solver.layout.site_poses(model.neutral[:m].copy())
    return solver, positions, rotations, model.neutral[m:].copy()


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), size=st.sampled_from([0.0, 1e-12, 1e-7, 1e-3, 1.0, 3.0]))
def test_a_matrix_and_a_pose_are_turned_alike(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    vector, quaternion = rng.normal(size=3), rng.normal(size=4)
    vector *= size / np.linalg.norm(vector)
    quaternion /= np.linalg.norm(quaternion)
    matrix, out = rotation_matrix_from_quaternion(quaternion), np.empty((3, 3))
    rotate_matrix(vector, matrix, out)
    turn = rotation_matrix_from_quaternion(quaternion_from_rotation_vector(vector))
    np.testing.assert_allclose(out, turn @ matrix, atol=1e-12)
    shift = rng.normal(size=3)
    led = led_pose(np.r_[1.0, 2.0, 3.0, quaternion], np.r_[shift, vector])
    np.testing.assert_allclose(led[:3], shift + np.array([1.0, 2.0, 3.0]), atol=1e-15)
    np.testing.assert_allclose(rotation_matrix_from_quaternion(led[3:]), out, atol=1e-12)


def test_a_target_outside_stays_what_it_is_bit_by_bit(model: RobotModel) -> None:
    solver, positions, rotations, grippers = at_rest(model)
    for k in range(400):
        turn = 2.0 * np.pi * k * TICK_S
        now = positions.copy()
        now[:2] += 0.05 * np.array([1.0 - np.cos(turn), 0.0, np.sin(turn)])
        now[:2, 1] += [0.05, -0.05]
        targets = SolverTargets(now, rotations, np.zeros((2, 3)))
        step = solver.follow(targets, grippers, TICK_S)
        led = solver.led(targets)
        assert step.leads is None
        assert led.positions.tobytes() == now.tobytes() and led.rotations.tobytes() == rotations.tobytes()


def test_no_led_target_jumps_farther_than_its_own(model: RobotModel) -> None:
    solver, positions, rotations, grippers = at_rest(model)
    rng = np.random.default_rng(3)
    goal, now, turns, speed = positions.copy(), positions.copy(), rotations.copy(), 1.0
    before, led_before = None, None
    farthest = 0.0
    for k in range(900):
        if k % 60 == 0:
            goal = np.array([0.05, 0.0, positions[:2, 2].mean()]) + rng.uniform(
                [-0.25, -0.5, -0.5], [0.45, 0.5, 0.5], (3, 3)
            )
            speed = rng.choice([0.5, 2.0, 100.0])
            turns = rotation_matrix_from_quaternion(
                np.array([q / np.linalg.norm(q) for q in rng.normal(size=(3, 4))])
            )
        length = np.linalg.norm(goal - now, axis=1)[:, None]
        now = now + (goal - now) * np.minimum(1.0, speed * TICK_S / np.maximum(length, 1e-9))
        dt = TICK_S * (1.0 if rng.random() < 0.7 else rng.uniform(0.1, 1.0))
        targets = SolverTargets(now.copy(), turns, np.zeros((2, 3)))
        step = solver.follow(targets, grippers, dt)
        led = SolverTargets(*(array.copy() for array in solver.led(targets)))
        assert np.isfinite(led.positions).all() and np.isfinite(led.rotations).all()
        turned = led.rotations @ led.rotations.transpose(0, 2, 1)
        np.testing.assert_allclose(turned, np.tile(np.eye(3), (3, 1, 1)), atol=1e-9)
        if step.leads is not None:
            for s in range(2):
                pose = pose_from_matrix(
                    np.block([[targets.rotations[s], now[s][:, None]], [np.zeros((1, 3)), np.ones((1, 1))]])
                )
                published = led_pose(pose, step.leads[s])
                np.testing.assert_allclose(published[:3], led.positions[s], atol=1e-12)
                assert angle(rotation_matrix_from_quaternion(published[3:]), led.rotations[s]) < 1e-6
        if before is not None and led_before is not None:
            for s in range(2):
                own = np.linalg.norm(now[s] - before.positions[s])
                moved = np.linalg.norm(led.positions[s] - led_before.positions[s])
                assert moved <= own + LEAD_M_S * dt + 1e-9
                turned = angle(led.rotations[s], led_before.rotations[s])
                assert turned <= angle(turns[s], before.rotations[s]) + LEAD_RAD_S * dt + 1e-6
        before, led_before = targets, led
        farthest = max(farthest, float(np.linalg.norm(led.positions - now, axis=1).max()))
    assert farthest > 0.01, "some target must have been inside for this test to say anything"


@pytest.mark.parametrize("side", [0, 1])
def test_a_hand_that_is_asked_into_the_body_is_led_out_and_disturbs_nobody(
    model: RobotModel, side: int
) -> None:
    solver, positions, rotations, grippers = at_rest(model)
    # Most of the way to the line through the base.
    start, inwards = positions.copy(), -0.8 * positions[side] * [1.0, 1.0, 0.0]
    for k in range(1600):
        # In, there for a while, out again.
        share = min(1.0, k * TICK_S / 1.5) if k < 1000 else max(0.0, 1.0 - (k - 1000) * TICK_S / 1.5)
        positions = start.copy()
        positions[side] += share * inwards
        targets = SolverTargets(positions, rotations, np.zeros((2, 3)))
        step = solver.follow(targets, grippers, TICK_S)
        if k == 999:
            assert step.leads is not None and np.linalg.norm(step.leads[1 - side, :3]) < 0.001
            asked, (reached, _) = (
                solver.led(targets).positions,
                solver.layout.site_poses(solver.q[: model.body_count]),
            )
            assert np.linalg.norm(asked[side] - positions[side]) > 0.02
            assert np.linalg.norm(reached[side] - asked[side]) < 0.01
            assert np.linalg.norm(reached[1 - side] - positions[1 - side]) < 0.003
    assert step.leads is None
    reached, _ = solver.layout.site_poses(solver.q[: model.body_count])
    assert np.linalg.norm(reached[:2] - start[:2], axis=1).max() < 0.005


def test_what_one_robot_touches_is_nothing_to_another_in_the_same_program(model: RobotModel) -> None:
    """Two of one size share the room they work in, and each must move as it would alone."""

    def commands(beside: bool) -> np.ndarray:
        other, others, _, _ = at_rest(model)
        solver, positions, rotations, grippers = at_rest(model)
        said = []
        for k in range(400):
            if beside:
                inwards = others.copy()
                inwards[0] -= 0.8 * min(1.0, k / 200) * others[0] * [1.0, 1.0, 0.0]
                touching = other.follow(SolverTargets(inwards, rotations, np.zeros((2, 3))), grippers, TICK_S)
            now = positions.copy()
            now[1, 2] += 0.1 * np.sin(0.05 * k)
            step = solver.follow(SolverTargets(now, rotations, np.zeros((2, 3))), grippers, TICK_S)
            said.append(step.positions.copy())
        assert not beside or touching.leads is not None
        return np.array(said)

    assert commands(beside=True).tobytes() == commands(beside=False).tobytes()
