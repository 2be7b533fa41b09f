"""Hands follow a trainer's: exactly where they are alike, pinches closed where they can be, no jump."""

from __future__ import annotations

import numpy as np
import pytest
import robot_hands
import trainer_hand
from scipy.optimize import least_squares
from trainer_hand import TrainerHand, fist, pinch, random_posture, smooth_motion, spread, straight

from retargeting.body_points import FINGERS
from retargeting.errors import RetargetingError
from retargeting.hand_points import BASE, TIP
from retargeting.hand_solver import _CLEARANCE, _DIRECTION, _VECTOR, HandParameters, HandSolver

ALL = np.ones(5, dtype=bool)
RATE_HZ, JOINT_RAD_S = 90.0, 6.0
PINCHES = {finger: pinch(finger) for finger in FINGERS[1:]}
# Which pads can meet the thumb's: by 3000 random postures, or by having done so.
TOUCHING = {
    "allegro": ("index", "middle", "ring"),
    "hey5": ("index", "middle", "ring"),
    "g1": ("index", "middle"),
    "fourier12": ("index", "middle"),
    "fourier6": ("index", "middle"),
    "inspire": ("index",),
    "f5d6": ("index", "middle"),
    "icub_mk3": ("index", "middle", "little"),
    "romeo": ("middle",),
}


def follow(solver, trainer, postures, known=ALL, limited=True):
    """Joint positions ``(m, n)`` after each of the postures, as a retargeter would move them."""
    reach = np.full(len(solver.q), JOINT_RAD_S / RATE_HZ) if limited else None
    path = []
    for posture in postures:
        solver.solve(trainer.points(posture), known, trainer.finger_m, reach)
        path.append(solver.q.copy())
    return np.array(path)


def settled(hand, posture, via=()):
    trainer, solver = TrainerHand(hand.side), HandSolver(hand)
    follow(solver, trainer, smooth_motion([straight(), *via, posture], 45))
    follow(solver, trainer, [posture] * 20)
    return solver.q


@pytest.fixture
def alike(tmp_path):
    return robot_hands.made_hand(tmp_path)


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
@pytest.mark.parametrize("posture", [straight, spread, fist])
def test_a_hand_like_the_trainers_does_exactly_what_the_trainer_does(tmp_path, side, scale, posture):
    hand = robot_hands.made_hand(tmp_path, side, scale=scale)
    trainer = TrainerHand(side)
    points = hand.points(settled(hand, posture()))
    np.testing.assert_allclose(points, scale * trainer.points(posture()), atol=2e-3 * scale)


def test_the_size_of_the_trainers_hand_does_not_matter(alike):
    reached = []
    for scale in (0.75, 1.0, 1.3):
        trainer, solver = TrainerHand(scale=scale), HandSolver(alike)
        follow(solver, trainer, smooth_motion([straight(), fist()], 45))
        reached.append(solver.q)
    np.testing.assert_allclose(reached[0], reached[1], atol=0.1)
    np.testing.assert_allclose(reached[2], reached[1], atol=0.1)


@pytest.mark.parametrize(
    ("counts", "shared"),
    [((1, 1, 1, 1, 1), True), ((1, 1, 1, 1, 1), False), ((2, 2, 2, 0, 0), False), ((4, 5, 5, 5, 5), False)],
    ids=["2 joints", "5 joints", "3 fingers of 2", "24 joints"],
)
def test_any_number_of_joints_stays_inside_its_limits(tmp_path, counts, shared):
    hand = robot_hands.made_hand(tmp_path, counts=counts, shared=shared)
    assert len(hand.joint_names) == (2 if shared else sum(counts))
    rng = np.random.default_rng(4)
    trainer, solver = TrainerHand(), HandSolver(hand)
    for _ in range(60):
        solver.solve(trainer.points(random_posture(rng)), ALL, trainer.finger_m)
        assert (solver.q >= hand.lower).all() and (solver.q <= hand.upper).all()
    opened, closed = settled(hand, straight()), settled(hand, fist())
    stretch = [np.linalg.norm(hand.points(q)[1, TIP] - hand.points(q)[1, BASE]) for q in (opened, closed)]
    assert stretch[0] > 0.97 * hand.reach_m[1] and stretch[1] < 0.6 * hand.reach_m[1]


def test_the_mimics_of_a_shared_joint_are_all_in_the_gradient(tmp_path):
    hand = robot_hands.made_hand(tmp_path, counts=(1, 1, 1, 1, 1), shared=True)
    _check_gradient(hand)


def test_the_gradient_is_that_of_the_cost(alike):
    _check_gradient(alike)


def _check_gradient(hand):
    """Central differences of a cost written anew in numpy, at random joints and goals."""
    rng = np.random.default_rng(7)
    solver, trainer = HandSolver(hand), TrainerHand(hand.side)
    for posture in (random_posture(rng), PINCHES["index"], fist()):
        solver.start_from(hand.open)
        solver.solve(trainer.points(posture), ALL, trainer.finger_m)
        q = rng.uniform(hand.lower, hand.upper)
        step = 1e-6
        slope = [
            (_cost(solver, q + step * e) - _cost(solver, q - step * e)) / (2.0 * step) for e in np.eye(len(q))
        ]
        _, gradient = _model(solver, q)
        np.testing.assert_allclose(gradient, slope, rtol=1e-5, atol=1e-7)


def _model(solver, q):
    from retargeting import hand_solver

    n = len(q)
    hessian, gradient = np.empty((n, n)), np.empty(n)
    cost = hand_solver._goal_model(q, solver.hand.tree.arrays, solver._goals, solver._work, hessian, gradient)
    return cost, gradient


def _residuals(solver, q):
    hand = solver.hand
    positions, rotations = hand.tree.body_poses(q)
    ends = positions[solver._goals.bodies] + np.einsum(
        "geij,gej->gei", rotations[solver._goals.bodies], solver._goals.positions
    )
    residuals = [solver.parameters.posture_weight_m_rad * (q - hand.open)]
    for kind, weight, target, (start, end) in zip(
        solver._goals.kinds, solver._goals.weights, solver._goals.targets, ends, strict=True
    ):
        apart = end - start
        length = np.linalg.norm(apart)
        if kind == _VECTOR:
            residuals.append(weight * (apart - target))
        elif length > 1e-6:
            if kind == _DIRECTION:
                residuals.append(weight * (apart / length - target))
            else:
                missing = length - target[0]
                residuals.append([weight * (min(missing, 0.0) if kind == _CLEARANCE else missing)])
    return np.concatenate(residuals)


def _cost(solver, q):
    return 0.5 * float((_residuals(solver, q) ** 2).sum())


@pytest.mark.parametrize("posture", [spread(), fist(), PINCHES["index"]], ids=["spread", "fist", "pinch"])
def test_what_is_found_is_a_minimum_by_another_solver(alike, posture):
    """scipy's bounded least squares, started there, finds nothing better."""
    trainer, solver = TrainerHand(), HandSolver(alike)
    follow(solver, trainer, smooth_motion([straight(), posture], 45))
    cost = [solver.solve(trainer.points(posture), ALL, trainer.finger_m) for _ in range(60)][-1]
    assert cost == pytest.approx(_cost(solver, solver.q), rel=1e-9)
    better = least_squares(
        lambda q: _residuals(solver, q), solver.q, bounds=(alike.lower - 1e-9, alike.upper + 1e-9), xtol=1e-12
    )
    assert cost <= better.cost * 1.01 + 1e-9


@pytest.mark.parametrize("finger", FINGERS[1:])
@pytest.mark.parametrize("scale", [0.7, 1.0, 1.5])
def test_a_pinch_closes_exactly(tmp_path, finger, scale):
    hand = robot_hands.made_hand(tmp_path, scale=scale)
    gap = hand.gaps(settled(hand, PINCHES[finger]))[hand.fingers.index(finger)]
    assert abs(gap) < 2e-4


def test_a_pinch_opens_as_the_trainer_opens_it(alike):
    """Near contact the gap between the pads is that of the trainer's fingers, not a scaled one."""
    trainer, solver = TrainerHand(), HandSolver(alike)
    for millimetres in (12, 15, 17, 19, 21):
        posture = pinch("index", 1e-3 * millimetres)
        follow(solver, trainer, [posture] * 30)
        expected = max(0.0, 1e-3 * millimetres - solver.parameters.pinch_m)
        assert alike.gaps(solver.q)[1] == pytest.approx(expected, abs=1e-3)


def test_two_joints_are_enough_for_a_pinch(tmp_path):
    hand = robot_hands.made_hand(tmp_path, counts=(1, 1, 1, 1, 1), shared=True)
    assert abs(hand.gaps(settled(hand, PINCHES["index"]))[1]) < 1e-3


@pytest.mark.parametrize("name", robot_hands.HANDS)
def test_a_real_hand_pinches_where_it_can(name):
    hand = robot_hands.load_hand(name)
    for finger in TOUCHING[name.split()[0]]:
        gap = hand.gaps(settled(hand, PINCHES[finger]))[hand.fingers.index(finger)]
        assert abs(gap) < 1e-3, f"{finger}: {1e3 * gap:.2f} mm"


@pytest.mark.parametrize("name", [*robot_hands.HANDS, "made"])
def test_a_real_hand_opens_closes_and_never_jumps(name, tmp_path):
    """A finger straightens to its reach and curls; no joint goes faster than a motor could."""
    hand = robot_hands.made_hand(tmp_path) if name == "made" else robot_hands.load_hand(name)
    trainer, solver = TrainerHand(hand.side), HandSolver(hand)
    follow(solver, trainer, [straight()])
    postures = [straight(), spread(), straight(), fist(), straight(), PINCHES["index"], straight()]
    path = follow(solver, trainer, smooth_motion(postures, 60))
    steps = np.abs(np.diff(path, axis=0))
    if solver.recoveries == 0:
        assert steps.max() <= JOINT_RAD_S / RATE_HZ + 1e-12
    assert (path >= hand.lower).all() and (path <= hand.upper).all()
    if "romeo" in name:
        return  # One joint moves all: its fingers' straight is a compromise.
    index = hand.fingers.index("index")
    opened, closed = (hand.points(path[i])[index] for i in (0, 180))
    assert np.linalg.norm(opened[TIP] - opened[BASE]) > 0.9 * hand.reach_m[index]
    assert np.linalg.norm(closed[TIP] - closed[BASE]) < 0.8 * hand.reach_m[index]
    # Curled to the palm, not to the back of the hand.
    assert closed[TIP, 2] < opened[TIP, 2]


def test_twice_the_frames_make_half_the_steps(alike):
    """What a jump would not do."""
    largest = []
    for frames in (60, 120):
        trainer, solver = TrainerHand(), HandSolver(alike)
        follow(solver, trainer, [straight()])
        motion = smooth_motion([straight(), fist(), PINCHES["index"], spread(), PINCHES["little"]], frames)
        path = follow(solver, trainer, motion, limited=False)
        assert solver.recoveries == 0
        largest.append(np.abs(np.diff(path, axis=0)).max())
    assert largest[1] < 0.65 * largest[0]


def test_both_sides_do_the_same(tmp_path):
    reached = []
    for side in ("left", "right"):
        (tmp_path / side).mkdir()
        hand = robot_hands.made_hand(tmp_path / side, side, counts=(3, 3, 3, 3, 3))
        reached.append(settled(hand, PINCHES["index"]))
    np.testing.assert_allclose(reached[0], reached[1], atol=1e-3)


def test_joints_of_unknown_fingers_stay(alike):
    trainer, solver = TrainerHand(), HandSolver(alike)
    start = 0.5 * (alike.lower + alike.upper)
    solver.start_from(start)
    known = np.array([True, True, False, False, False])
    follow(solver, trainer, smooth_motion([straight(), PINCHES["index"]], 30), known, limited=False)
    held = ~alike.moves[:2].any(axis=0)
    np.testing.assert_array_equal(solver.q[held], start[held])
    assert abs(alike.gaps(solver.q)[1]) < 2e-4


def test_points_that_coincide_do_no_harm(alike):
    solver = HandSolver(alike)
    for points in (np.zeros((5, 4, 3)), np.ones((5, 4, 3))):
        for _ in range(3):
            assert np.isfinite(solver.solve(points, ALL, TrainerHand().finger_m))
        assert np.isfinite(solver.q).all()


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"tip_weight": -1.0}, "tip_weight: -1.0 must be finite"),
        ({"pinch_weight": np.nan}, "pinch_weight"),
        ({"steps": 0}, "steps: 0 is outside 1 .. 1000"),
        ({"pinch_far_m": 0.01}, "pinch_m 0.015 < pinch_far_m 0.01"),
        ({"damping": 0.0}, "damping: 0.0 must be above 0"),
    ],
)
def test_parameters_are_checked(changed, message):
    with pytest.raises(RetargetingError, match=message):
        HandParameters(**changed)


def test_the_trainers_postures_are_human():
    for posture in (straight(), spread(), fist(), *PINCHES.values()):
        assert (posture >= trainer_hand.LOWER - 1e-9).all() and (posture <= trainer_hand.UPPER + 1e-9).all()
