"""A trainer's fingers are as long as their bones, however they bend; mistakes do not count."""

from __future__ import annotations

import numpy as np
import pytest
from trainer_hand import TrainerHand, fist, random_posture, straight

from retargeting.body_points import FINGERS, SIDES
from retargeting.errors import RetargetingError
from retargeting.frames import quaternion_from_rotation_vector
from retargeting.hand_opening import hand_opening
from retargeting.hand_points import bone_length
from retargeting.hand_size import HandSize, HandSizeEstimator
from retargeting.trainer_view import view_of


def finger_points(motion, side):
    """Points ``(5, 4, 3)`` and which fingers are tracked ``(5,)``, as robots see them."""
    arrays, k = view_of(motion).arrays, SIDES.index(side)
    return arrays.fingers[k], arrays.fingers_tracked[k]


@pytest.mark.parametrize("side", ["left", "right"])
def test_points_are_in_the_wrists_axes_wherever_the_wrist_is(side):
    rng = np.random.default_rng(1)
    trainer = TrainerHand(side)
    for _ in range(10):
        posture = random_posture(rng)
        wrist = np.concatenate([rng.normal(size=3), quaternion_from_rotation_vector(rng.normal(size=3))])
        points, tracked = finger_points(trainer.frame(posture, wrist=wrist), side)
        assert tracked.all()
        np.testing.assert_allclose(points, trainer.points(posture), atol=1e-12)
        lengths = [bone_length(finger) for finger in points]
        np.testing.assert_allclose(lengths, trainer.finger_m, atol=1e-12)


def test_a_finger_counts_only_whole_and_with_its_wrist():
    frame = TrainerHand().frame(straight(), fingers=("thumb", "index"))
    assert finger_points(frame, "right")[1].tolist() == [True, True, False, False, False]
    assert not finger_points(frame, "left")[1].any()
    for lost in ("right_index_distal", "right_wrist"):
        poses = {name: pose for name, pose in frame.poses.items() if name != lost}
        points, tracked = finger_points(type(frame)(0, poses), "right")
        assert tracked.tolist() == [lost != "right_wrist", False, False, False, False]
        assert not points[~tracked].any()


def test_the_length_is_the_median_and_then_frozen():
    rng = np.random.default_rng(2)
    trainer, estimator = TrainerHand(scale=1.1), HandSizeEstimator(frames_needed=9)
    noise = [0.0, 1e-4, -1e-4, 2e-4, -2e-4, 3e-4, -3e-4, 5e-3, 4e-3]
    for extra in noise:
        points = trainer.points(random_posture(rng))
        points[:, 3] += extra * (points[:, 3] - points[:, 2]) / np.linalg.norm(
            points[:, 3] - points[:, 2], axis=1, keepdims=True
        )  # fmt: skip
        assert estimator.observe(points, np.ones(5, bool)).all()
    np.testing.assert_allclose(estimator.finger_m, trainer.finger_m + 1e-4, atol=1e-9)
    estimator.observe(1.1 * trainer.points(straight()), np.ones(5, bool))
    np.testing.assert_allclose(estimator.finger_m, trainer.finger_m + 1e-4, atol=1e-9)
    assert set(estimator.size.finger_m) == set(FINGERS)
    again = HandSizeEstimator(size=estimator.size)
    np.testing.assert_array_equal(again.finger_m, estimator.finger_m)


def test_a_finger_of_another_length_is_a_mistake_of_the_tracking():
    trainer, estimator = TrainerHand(), HandSizeEstimator(frames_needed=1)
    estimator.observe(trainer.points(straight()), np.ones(5, bool))
    points = trainer.points(straight())
    points[1, 3] += [0.06, 0.0, 0.0]
    points[2, 1:] = points[2, 0]
    credible = estimator.observe(points, np.ones(5, bool))
    assert credible.tolist() == [True, False, False, True, True]
    np.testing.assert_allclose(estimator.finger_m, trainer.finger_m)


def test_a_bad_first_frame_does_not_decide():
    trainer, estimator = TrainerHand(), HandSizeEstimator(frames_needed=5)
    points = trainer.points(straight())
    points[1, 3] += [0.06, 0.0, 0.0]
    estimator.observe(points, np.ones(5, bool))
    for _ in range(4):
        assert estimator.observe(trainer.points(fist()), np.ones(5, bool)).all()
    np.testing.assert_allclose(estimator.finger_m, trainer.finger_m)


def test_another_person_is_measured_anew():
    small, large = TrainerHand(scale=0.7), TrainerHand(scale=1.2)
    estimator = HandSizeEstimator(frames_needed=4)
    for _ in range(4):
        estimator.observe(small.points(straight()), np.ones(5, bool))
    credible = [estimator.observe(large.points(fist()), np.ones(5, bool)).all() for _ in range(16)]
    assert credible == [False] * 12 + [True] * 4
    np.testing.assert_allclose(estimator.finger_m, large.finger_m)


@pytest.mark.parametrize(
    ("fingers", "message"),
    [
        ({"pinky": 0.07}, "unknown finger 'pinky'; known: thumb"),
        ({"index": 9.3}, "Is the motion's scale right"),
    ],
)
def test_a_size_that_no_person_has_is_refused(fingers, message):
    with pytest.raises(RetargetingError, match=message):
        HandSize(fingers)


def test_opening_goes_from_fist_to_straight_without_a_step():
    trainer, known = TrainerHand(), np.ones(5, bool)
    shares = np.linspace(0.0, 1.0, 400)
    openings = [
        hand_opening(trainer.points((1 - s) * fist() + s * straight()), known, trainer.finger_m)
        for s in shares
    ]
    assert openings[0] == 0.0 and openings[-1] == 1.0
    assert np.abs(np.diff(openings)).max() < 0.02
    assert hand_opening(np.zeros((5, 4, 3)), np.zeros(5, bool), np.zeros(5)) == 1.0
