"""Properties of rotations and poses, against scipy where it knows the answer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.transform import Rotation

from retargeting import frames

PROFILE = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def numbers(low: float, high: float):
    return st.floats(low, high, allow_nan=False, allow_infinity=False, width=64)


vectors = arrays(np.float64, 3, elements=numbers(-10.0, 10.0))
quaternions = (
    arrays(np.float64, 4, elements=numbers(-1.0, 1.0))
    .filter(lambda q: np.linalg.norm(q) > 1e-3)
    .map(frames.quaternion_normalized)
)
small_rotations = arrays(np.float64, 3, elements=numbers(-1.7, 1.7))  # norm below pi
poses = st.tuples(vectors, quaternions).map(np.concatenate)


def same_rotation(a, b, tolerance=1e-9):
    a, b = np.asarray(a), np.asarray(b)
    np.testing.assert_allclose(np.minimum(np.abs(a - b).max(-1), np.abs(a + b).max(-1)), 0.0, atol=tolerance)


def same_pose(a, b, tolerance=1e-9):
    np.testing.assert_allclose(a[..., :3], b[..., :3], atol=tolerance)
    same_rotation(a[..., 3:], b[..., 3:], tolerance)


@seed(1)
@PROFILE
@given(quaternions, quaternions, quaternions)
def test_quaternions_are_a_group(a, b, c):
    multiply = frames.quaternion_multiply
    same_rotation(multiply(multiply(a, b), c), multiply(a, multiply(b, c)))
    same_rotation(multiply(a, frames.quaternion_inverse(a)), [0, 0, 0, 1])
    same_rotation(multiply(a, [0, 0, 0, 1]), a)
    assert abs(np.linalg.norm(multiply(a, b)) - 1.0) < 1e-12


@seed(2)
@PROFILE
@given(quaternions, quaternions, vectors)
def test_products_and_rotations_are_those_of_scipy(a, b, v):
    ra, rb = Rotation.from_quat(a), Rotation.from_quat(b)
    same_rotation(frames.quaternion_multiply(a, b), (ra * rb).as_quat())
    np.testing.assert_allclose(frames.rotate(a, v), ra.apply(v), atol=1e-12)
    np.testing.assert_allclose(frames.rotation_matrix_from_quaternion(a), ra.as_matrix(), atol=1e-12)


@seed(3)
@PROFILE
@given(quaternions)
def test_rotation_matrices_round_trip(q):
    matrix = frames.rotation_matrix_from_quaternion(q)
    np.testing.assert_allclose(matrix @ matrix.T, np.eye(3), atol=1e-12)
    assert np.linalg.det(matrix) == pytest.approx(1.0)
    back = frames.quaternion_from_rotation_matrix(matrix)
    same_rotation(back, q)
    assert back[3] >= 0.0


@pytest.mark.parametrize("axis", np.vstack([np.eye(3), -np.eye(3), [[0.6, 0.0, -0.8]]]))
@pytest.mark.parametrize("angle", [0.0, 1e-13, 1e-7, 0.1, np.pi / 2, np.pi - 1e-7, np.pi])
def test_logarithm_inverts_the_exponential_at_the_edges(axis, angle):
    q = frames.quaternion_from_rotation_vector(angle * axis)
    matrix = frames.rotation_matrix_from_quaternion(q)
    same_rotation(frames.quaternion_from_rotation_matrix(matrix), q)
    vector = frames.rotation_vector_from_quaternion(q)
    same_rotation(frames.quaternion_from_rotation_vector(vector), q, 1e-12)
    assert np.linalg.norm(vector) == pytest.approx(angle, abs=1e-12)


@seed(4)
@PROFILE
@given(small_rotations, small_rotations)
def test_exponential_and_logarithm(v, w):
    q = frames.quaternion_from_rotation_vector(v)
    same_rotation(q, Rotation.from_rotvec(v).as_quat())
    if np.linalg.norm(v) < np.pi - 1e-6:
        np.testing.assert_allclose(frames.rotation_vector_from_quaternion(q), v, atol=1e-9)
        np.testing.assert_allclose(frames.rotation_vector_from_quaternion(-q), v, atol=1e-9)
    # Broadcasting: the same as one by one.
    both = frames.quaternion_from_rotation_vector(np.stack([v, w]))
    np.testing.assert_array_equal(both[1], frames.quaternion_from_rotation_vector(w))


def skew(v):
    return np.array([[0, -v[2], v[1]], [v[2], 0, -v[0]], [-v[1], v[0], 0]])


@seed(5)
@PROFILE
@given(quaternions, vectors)
def test_rotate_has_the_jacobian_of_a_rotation(q, v):
    """d/dw rotate(exp(w) q, v) at w = 0 is -[R v]x, and d/dv is R."""
    h = 1e-6
    numeric, by_vector = np.empty((3, 3)), np.empty((3, 3))
    for i, step in enumerate(h * np.eye(3)):
        ahead = frames.quaternion_multiply(frames.quaternion_from_rotation_vector(step), q)
        behind = frames.quaternion_multiply(frames.quaternion_from_rotation_vector(-step), q)
        numeric[:, i] = (frames.rotate(ahead, v) - frames.rotate(behind, v)) / (2 * h)
        by_vector[:, i] = (frames.rotate(q, v + step) - frames.rotate(q, v - step)) / (2 * h)
    np.testing.assert_allclose(numeric, -skew(frames.rotate(q, v)), atol=1e-7)
    np.testing.assert_allclose(by_vector, frames.rotation_matrix_from_quaternion(q), atol=1e-7)


@seed(6)
@PROFILE
@given(small_rotations)
def test_the_exponential_has_its_left_jacobian(v):
    """exp(v + h) = exp(J(v) h) exp(v), J from Sola, Deray, Atchuthan (2018), eq. 145."""
    angle = float(np.linalg.norm(v))
    if not 1e-3 < angle < 2.8:
        return
    k = skew(v)
    expected = np.eye(3) + (1 - np.cos(angle)) / angle**2 * k + (angle - np.sin(angle)) / angle**3 * (k @ k)
    h, q = 1e-6, frames.quaternion_from_rotation_vector(v)
    numeric, inverse = np.empty((3, 3)), np.empty((3, 3))
    for i, step in enumerate(h * np.eye(3)):
        ahead = frames.quaternion_from_rotation_vector(v + step)
        left = frames.quaternion_multiply(ahead, frames.quaternion_inverse(q))
        numeric[:, i] = frames.rotation_vector_from_quaternion(left) / h
        moved = frames.quaternion_multiply(frames.quaternion_from_rotation_vector(step), q)
        inverse[:, i] = (frames.rotation_vector_from_quaternion(moved) - v) / h
    np.testing.assert_allclose(numeric, expected, atol=1e-5)
    np.testing.assert_allclose(inverse, np.linalg.inv(expected), atol=1e-4)


@seed(7)
@PROFILE
@given(poses, poses, poses, vectors)
def test_poses_are_a_group_that_acts_on_points(a, b, c, point):
    compose, inverse = frames.pose_compose, frames.pose_inverse
    same_pose(compose(compose(a, b), c), compose(a, compose(b, c)), 1e-8)
    same_pose(compose(a, inverse(a)), frames.IDENTITY_POSE, 1e-8)
    same_pose(inverse(compose(a, b)), compose(inverse(b), inverse(a)), 1e-8)
    np.testing.assert_allclose(
        frames.pose_apply(compose(a, b), point), frames.pose_apply(a, frames.pose_apply(b, point)), atol=1e-8
    )
    product = frames.matrix_from_pose(a) @ frames.matrix_from_pose(b)
    np.testing.assert_allclose(frames.matrix_from_pose(compose(a, b)), product, atol=1e-8)
    same_pose(frames.pose_from_matrix(frames.matrix_from_pose(a)), a)


@seed(8)
@PROFILE
@given(quaternions, quaternions, numbers(0.0, 1.0))
def test_slerp_goes_the_shorter_way_at_constant_speed(a, b, fraction):
    same_rotation(frames.slerp(a, b, 0.0), a)
    same_rotation(frames.slerp(a, b, 1.0), b)
    whole = Rotation.from_quat(b) * Rotation.from_quat(a).inv()
    part = Rotation.from_quat(frames.slerp(a, b, fraction)) * Rotation.from_quat(a).inv()
    assert part.magnitude() == pytest.approx(fraction * whole.magnitude(), abs=1e-7)


@seed(9)
@PROFILE
@given(poses, poses, numbers(0.0, 1.0))
def test_pose_interpolation_meets_its_ends_and_is_straight(a, b, fraction):
    same_pose(frames.pose_interpolate(a, b, 0.0), a)
    same_pose(frames.pose_interpolate(a, b, 1.0), b)
    between = frames.pose_interpolate(a, b, fraction)[:3]
    np.testing.assert_allclose(between, (1 - fraction) * a[:3] + fraction * b[:3], atol=1e-12)


@seed(10)
@PROFILE
@given(arrays(np.float64, 3, elements=numbers(-3.1, 3.1)))
def test_rpy_is_urdfs(rpy):
    same_rotation(frames.quaternion_from_rpy(rpy), Rotation.from_euler("xyz", rpy).as_quat())


@pytest.mark.parametrize("bad", [[0, 0, 0, 0], [0, 0, np.nan, 1], [np.inf, 0, 0, 1], [1e-12, 0, 0, 0]])
def test_a_quaternion_without_direction_is_refused(bad):
    with pytest.raises(ValueError, match="no direction"):
        frames.quaternion_normalized(bad)


def test_world_conversions_map_the_named_axes():
    openxr, bvh = frames.ROTATION_OPENXR_TO_TRAINER, frames.ROTATION_BVH_TO_TRAINER
    for rotation in (openxr, bvh):
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3))
        assert np.linalg.det(rotation) == pytest.approx(1.0)
    np.testing.assert_array_equal(openxr @ [0, 0, -1], [1, 0, 0])  # forward
    np.testing.assert_array_equal(openxr @ [1, 0, 0], [0, -1, 0])  # right
    np.testing.assert_array_equal(openxr @ [0, 1, 0], [0, 0, 1])  # up
    np.testing.assert_array_equal(bvh @ [0, 0, 1], [1, 0, 0])  # forward
    np.testing.assert_array_equal(bvh @ [1, 0, 0], [0, 1, 0])  # left
    np.testing.assert_array_equal(bvh @ [0, 1, 0], [0, 0, 1])  # up


@seed(11)
@PROFILE
@given(poses, poses)
def test_conversion_to_trainer_keeps_relations(a, b):
    for rotation in (frames.ROTATION_OPENXR_TO_TRAINER, frames.ROTATION_BVH_TO_TRAINER):
        whole = frames.pose_to_trainer(frames.pose_compose(a, b), rotation)
        parts = frames.pose_compose(frames.pose_to_trainer(a, rotation), frames.pose_to_trainer(b, rotation))
        same_pose(whole, parts, 1e-8)
        same_pose(frames.pose_to_trainer(frames.IDENTITY_POSE, rotation), frames.IDENTITY_POSE)


@pytest.mark.parametrize("yaw", [-3.0, -0.5, 0.0, 1.0, 3.1])
def test_yaw_of_direction(yaw):
    assert frames.yaw_of_direction([np.cos(yaw), np.sin(yaw), 0.7]) == pytest.approx(yaw)
