"""Closed-form joints of arms: exact where the axes meet, every branch, inside the limits, else a reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.arm_seed import MOST_CANDIDATES, ArmGeometry, arm_candidates, arm_geometry, robot_arms
from retargeting.errors import InvalidConfiguration
from retargeting.frames import quaternion_from_rotation_matrix, quaternion_from_rotation_vector, rotate
from retargeting.kinematics import KinematicTree, TreeArrays
from retargeting.robot_model import load_robot
from retargeting.robot_tasks import robot_tasks
from retargeting.solver_parameters import SolverParameters

REPOSITORY = Path(__file__).resolve().parents[2]
HALF_TURN = np.full(7, np.pi)


def synthetic(
    rng: np.random.Generator, shoulder: int, wrist: int
) -> tuple[KinematicTree, tuple[int, np.ndarray, np.ndarray], tuple[int, np.ndarray]]:
    """An arm on a tilted carrier whose axes meet exactly, at odd angles, with an elbow beside the line."""
    n = shoulder + 1 + wrist
    axes = rng.normal(size=(n, 3))
    axes /= np.linalg.norm(axes, axis=1, keepdims=True)
    for k in range(1, n):
        # Square to the one before, or nearly: every orientation can be reached.
        beside = axes[k] - (axes[k] @ axes[k - 1]) * axes[k - 1]
        axes[k] = beside / np.linalg.norm(beside)
    offsets = np.zeros((n, 3))
    offsets[0] = rng.uniform(-0.3, 0.3, 3)
    across = np.cross(axes[shoulder], rng.normal(size=3))
    offsets[shoulder] = 0.3 * across / np.linalg.norm(across) + 0.02 * axes[shoulder]
    across = np.cross(axes[shoulder], rng.normal(size=3))
    offsets[shoulder + 1] = 0.26 * across / np.linalg.norm(across)
    carrier = rotation(rng.normal(size=3))
    tree = KinematicTree(
        ("root", *(f"link{k}" for k in range(n))),
        TreeArrays(
            parents=np.arange(-1, n),
            offset_positions=np.vstack([rng.normal(size=3), offsets]),
            offset_rotations=np.array([carrier, *[np.eye(3)] * n]),
            axes=np.vstack([[1.0, 0.0, 0.0], axes]),
            prismatic=np.zeros(n + 1, dtype=np.bool_),
            coordinates=np.arange(-1, n),
            multipliers=np.ones(n + 1),
            biases=np.zeros(n + 1),
        ),
    )
    hand = (n, rng.uniform(-0.1, 0.1, 3), rotation(rng.normal(size=3)))
    return tree, hand, (shoulder + 1, np.zeros(3))


def rotation(vector: np.ndarray) -> np.ndarray:
    return np.array([rotate(quaternion_from_rotation_vector(vector), axis) for axis in np.eye(3)]).T


def posed(
    tree: KinematicTree, arm: ArmGeometry, hand: tuple[int, np.ndarray, np.ndarray], q: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Position and rotation ``(3, 3)`` of the hand in the arm's carrier."""
    positions, rotations = tree.body_poses(q)
    base = rotations[arm.carrier]
    position = positions[hand[0]] + rotations[hand[0]] @ hand[1]
    return base.T @ (position - positions[arm.carrier]), base.T @ rotations[hand[0]] @ hand[2]


def candidates_at(tree, arm, hand, elbow, q, lower, upper, swivel=0.0, near=None):
    """The candidates for the pose of q with its own elbow direction, and what was cut off them."""
    position, turn = posed(tree, arm, hand, q)
    positions, rotations = tree.body_poses(q)
    base = rotations[arm.carrier]
    at = base.T @ (positions[elbow[0]] + rotations[elbow[0]] @ elbow[1] - positions[arm.carrier])
    n = len(arm.coordinates)
    found, excess = np.empty((MOST_CANDIDATES, n)), np.empty((MOST_CANDIDATES, n))
    missed = np.empty(MOST_CANDIDATES)
    near = q[arm.coordinates] if near is None else near
    count = arm_candidates(
        arm, position, quaternion_from_rotation_matrix(turn), at - arm.shoulder, swivel, near, lower, upper,
        found, excess, missed,
    )  # fmt: skip
    return found[:count], excess[:count], missed[:count]


def pose_error(tree, arm, hand, q, candidate) -> float:
    other = q.copy()
    other[arm.coordinates] = candidate
    here, there = posed(tree, arm, hand, q), posed(tree, arm, hand, other)
    return max(np.abs(here[0] - there[0]).max(), np.abs(here[1] - there[1]).max())


@pytest.mark.parametrize(("shoulder", "wrist"), [(3, 3), (2, 3)])
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31))
def test_every_candidate_has_the_pose_and_one_is_the_posture(shoulder: int, wrist: int, seed: int):
    rng = np.random.default_rng(seed)
    tree, hand, elbow = synthetic(rng, shoulder, wrist)
    n = shoulder + 1 + wrist
    arm, reason = arm_geometry(tree, np.arange(n), hand, elbow)
    assert arm is not None, reason
    assert arm.shoulder_axes == shoulder and arm.offset_m < 1e-9
    q = rng.uniform(-np.pi, np.pi, n)
    wide = 2 * HALF_TURN[:n]
    for swivel in (0.0, 0.7):
        found, excess, missed = candidates_at(tree, arm, hand, elbow, q, -wide, wide, swivel)
        assert len(found) == MOST_CANDIDATES and not excess.any()
        if shoulder == 3:
            assert missed.max() < 1e-9
        # Two shoulder axes do not bring every bend of the elbow to the wanted place.
        there = found[missed < 1e-9]
        assert max(pose_error(tree, arm, hand, q, candidate) for candidate in there) < 1e-9
        if swivel == 0.0 or shoulder == 2:
            assert np.abs(there - q).max(axis=1).min() < 1e-6


def usable(name: str):
    try:
        return load_robot(REPOSITORY / "robot_descriptions" / name / "robot.yaml")
    except InvalidConfiguration as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise


@pytest.mark.parametrize(
    "name", ["kestrel", "icub", "romeo", "simple_humanoid", "talos_left_arm", "anymal_kinova"]
)
def test_an_arm_whose_axes_meet_is_exact_inside_its_limits(name: str):
    model = usable(name)
    layout = robot_tasks(model, SolverParameters())
    tasks = layout.arrays
    rng = np.random.default_rng(7)
    m = model.body_count
    for k, side in enumerate(("left", "right")):
        if side not in robot_arms(model, layout):
            continue
        arm, reason = robot_arms(model, layout)[side]
        assert arm is not None and arm.offset_m < 1e-3, reason
        lower, upper = model.lower[arm.coordinates], model.upper[arm.coordinates]
        hand = (int(tasks.site_bodies[k]), tasks.site_positions[k], tasks.site_rotations[k])
        elbow = (int(tasks.to_bodies[k]), tasks.to_positions[k])
        for _ in range(100):
            q = model.neutral[:m].copy()
            q[arm.coordinates] = rng.uniform(np.maximum(lower, -np.pi), np.minimum(upper, np.pi))
            if not _bent(layout.tree, arm, hand, elbow, q):
                continue
            found, excess, missed = candidates_at(layout.tree, arm, hand, elbow, q, lower, upper)
            assert (found >= lower).all() and (found <= upper).all()
            inside = (excess.max(axis=1) < 1e-9) & (missed < 1e-9)
            assert inside.any()
            worst = max(pose_error(layout.tree, arm, hand, q, c) for c in found[inside])
            assert worst < max(1e-9, 20.0 * arm.offset_m)
            assert np.abs(found - q[arm.coordinates]).max(axis=1).min() < max(1e-6, 100.0 * arm.offset_m)


def _bent(tree, arm, hand, elbow, q) -> bool:
    """Whether the elbow is beside the line from shoulder to wrist: only then it has a direction."""
    positions, rotations = tree.body_poses(q)
    at = positions[elbow[0]] + rotations[elbow[0]] @ elbow[1]
    shoulder = positions[arm.carrier] + rotations[arm.carrier] @ arm.shoulder
    wrist = positions[hand[0]] + rotations[hand[0]] @ (hand[1] + hand[2] @ arm.hand_offset)
    line = (wrist - shoulder) / np.linalg.norm(wrist - shoulder)
    return float(np.linalg.norm(np.cross(line, at - shoulder))) > 1e-3


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), far=st.floats(0.0, 5.0))
def test_out_of_reach_and_outside_the_limits_candidates_stay_inside_them(seed: int, far: float):
    """Whatever is asked for: finite joints inside the limits, and the excess says what was cut off."""
    rng = np.random.default_rng(seed)
    tree, hand, elbow = synthetic(rng, 3, 3)
    arm, _ = arm_geometry(tree, np.arange(7), hand, elbow)
    assert arm is not None
    lower = rng.uniform(-2.5, 0.0, 7)
    upper = lower + rng.uniform(0.1, 7.0, 7)
    found, excess = np.empty((MOST_CANDIDATES, 7)), np.empty((MOST_CANDIDATES, 7))
    turn = quaternion_from_rotation_vector(rng.normal(size=3))
    position, direction = arm.shoulder + far * rng.normal(size=3), rng.normal(size=3)
    near = rng.uniform(lower, upper)
    count = arm_candidates(
        arm, position, turn, direction, 0.0, near, lower, upper, found, excess, np.empty(8)
    )
    assert np.isfinite(found[:count]).all() and (excess[:count] >= 0.0).all()
    assert (excess[:count] <= np.pi + 1e-9).all()
    assert (found[:count] >= lower).all() and (found[:count] <= upper).all()
    # Where nothing is said to be cut off, it is the joint of the arm without limits, but for whole turns.
    free, none = np.empty_like(found), np.empty_like(excess)
    wide = np.full(7, 100.0)
    arm_candidates(arm, position, turn, direction, 0.0, near, -wide, wide, free, none, np.empty(8))
    turns = (found[:count] - free[:count]) / (2.0 * np.pi)
    kept = excess[:count] == 0.0
    np.testing.assert_allclose(turns[kept], np.round(turns[kept]), atol=1e-9)


@pytest.mark.parametrize("place", [np.zeros(3), np.array([0.0, 0.0, 0.56]), np.array([0.0, 0.0, -0.04])])
def test_where_nothing_is_unique_the_candidates_are_finite(place: np.ndarray):
    """The wrist in the shoulder, a stretched arm, and the elbow wanted along the arm."""
    tree, hand, elbow = synthetic(np.random.default_rng(3), 3, 3)
    arm, _ = arm_geometry(tree, np.arange(7), hand, elbow)
    assert arm is not None
    found, excess = np.empty((MOST_CANDIDATES, 7)), np.empty((MOST_CANDIDATES, 7))
    for direction in (np.zeros(3), place):
        count = arm_candidates(
            arm, arm.shoulder + place, np.array([0.0, 0.0, 0.0, 1.0]), direction, 0.0, np.zeros(7),
            -HALF_TURN, HALF_TURN, found, excess, np.empty(MOST_CANDIDATES),
        )  # fmt: skip
        assert np.isfinite(found[:count]).all()


def test_arms_of_another_layout_say_why():
    rng = np.random.default_rng(0)
    tree, hand, elbow = synthetic(rng, 3, 3)
    arm, reason = arm_geometry(tree, np.arange(5), hand, elbow)
    assert arm is None and "5 joints" in reason
    arrays = tree.arrays
    sliding = arrays._replace(prismatic=np.arange(8) == 4)
    assert arm_geometry(KinematicTree(tree.names, sliding), np.arange(7), hand, elbow) == (
        None, "a joint of the arm slides",
    )  # fmt: skip
    followed = arrays._replace(coordinates=np.array([-1, 0, 1, 2, 3, 4, 5, 5]))
    assert "mimicked" in arm_geometry(KinematicTree(tree.names, followed), np.arange(7), hand, elbow)[1]
    offset = arrays.offset_positions.copy()
    offset[2] += 0.5 * np.cross(arrays.axes[1], arrays.axes[2])
    apart = arrays._replace(offset_positions=offset)
    arm, reason = arm_geometry(KinematicTree(tree.names, apart), np.arange(7), hand, elbow)
    assert arm is None and "beside the shoulder or the wrist" in reason
    axes = arrays.axes.copy()
    axes[2] = axes[1]
    parallel = arrays._replace(axes=axes)
    assert "parallel" in arm_geometry(KinematicTree(tree.names, parallel), np.arange(7), hand, elbow)[1]
