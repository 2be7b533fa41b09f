"""Hands as `onboard` described them: they open, make a fist and pinch with the trainer on any robot."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest
from trainer_hand import TrainerHand, fist, pinch, straight

from retargeting.hand_model import RobotHand
from retargeting.hand_points import BASE, TIP
from retargeting.hand_retargeter import HandRetargeter, robot_hand
from retargeting.registered_robots import registered_robots
from retargeting.robot_description import load_robot_description
from retargeting.robot_model import RobotModel, load_robot

FOLDER = Path(__file__).resolve().parents[3] / "robot_descriptions"
ROBOTS = {robot.name: robot for robot in registered_robots(FOLDER)}
# The longest that counts as one step: slow joints arrive in few frames.
PERIOD_NS, FRAMES = 40_000_000, 120
PINCH = pinch("index")


def hands_in(name: str) -> list[str]:
    """Sides whose fingers the YAML describes, read without the robot's package."""
    text = (FOLDER / name / "robot.yaml").read_text("utf-8")
    after = text.partition("\nhands:\n")[2]
    return [side for side in ("left", "right") if f"\n  {side}:\n" in f"\n{after}"] if after else []


HANDS = [(name, side) for name in ROBOTS for side in hands_in(name)]


@cache
def hand_of(name: str, side: str) -> tuple[RobotModel, RobotHand]:
    if not ROBOTS[name].usable:
        pytest.skip(f"{name}: {ROBOTS[name].state}")
    model = load_robot(ROBOTS[name].file)
    hand = robot_hand(model, side)
    assert hand is not None
    return model, hand


def settled(model: RobotModel, side: str, posture: np.ndarray) -> np.ndarray:
    """The joints of one hand that follows a posture for some seconds."""
    hands, trainer = HandRetargeter(model), TrainerHand(side)
    for k in range(1, FRAMES + 1):
        goal = hands.goal_positions(trainer.frame(posture, k * PERIOD_NS), side)
    return goal


def stretch(hand: RobotHand, q: np.ndarray) -> np.ndarray:
    """How straight the fingers (not the thumb) are: base to tip, by the longest it can be."""
    points = hand.points(q)
    shares = np.linalg.norm(points[:, TIP] - points[:, BASE], axis=1) / hand.reach_m
    return np.array([share for share, f in zip(shares, hand.fingers, strict=True) if f != "thumb"])


def test_there_are_hands_to_try() -> None:
    assert len({name for name, _ in HANDS}) >= 10
    for name in {name for name, _ in HANDS}:
        if ROBOTS[name].usable:
            assert set(load_robot_description(ROBOTS[name].file).hands) == set(hands_in(name))


@pytest.mark.parametrize(("name", "side"), HANDS)
def test_the_yamls_own_postures_are_an_open_hand_and_a_fist(name: str, side: str) -> None:
    _, hand = hand_of(name, side)
    opened, closed = stretch(hand, hand.open), stretch(hand, hand.closed)
    assert opened.min() > 0.9
    assert (closed < 0.87 * opened).all()


@pytest.mark.parametrize(("name", "side"), HANDS)
def test_an_open_hand_opens_and_a_fist_closes(name: str, side: str) -> None:
    model, hand = hand_of(name, side)
    opened, closed = settled(model, side, straight()), settled(model, side, fist())
    assert stretch(hand, opened).min() > 0.9
    assert (stretch(hand, closed) < 0.87 * stretch(hand, opened)).all()
    for q in (opened, closed):
        assert (q >= hand.lower).all() and (q <= hand.upper).all()
    # Fingers curl to the palm, which is opposite to the wrist's z.
    fingers = [k for k, finger in enumerate(hand.fingers) if finger != "thumb"]
    moved = (hand.points(closed) - hand.points(opened))[fingers, TIP]
    assert moved[:, 2].mean() < 0.0


@pytest.mark.parametrize(("name", "side"), HANDS)
def test_a_pinch_brings_the_pads_as_near_as_they_go(name: str, side: str) -> None:
    """Against the nearest of seeded random postures: pads meet where they can."""
    model, hand = hand_of(name, side)
    index = hand.fingers.index("index")
    rng = np.random.default_rng(0)
    moving = hand.moves[index] | hand.moves[hand.fingers.index("thumb")]
    nearest = np.inf
    for _ in range(1000):
        q = np.where(moving, rng.uniform(hand.lower, hand.upper), hand.open)
        nearest = min(nearest, max(0.0, float(hand.gaps(q)[index])))
    reached = float(hand.gaps(settled(model, side, PINCH))[index])
    assert abs(reached) < nearest + 0.003
    assert abs(reached) < 0.5 * float(hand.gaps(settled(model, side, straight()))[index])
