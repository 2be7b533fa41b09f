"""What moves a robot's hand or gripper: fingers, trigger, or nothing; never faster than its joints may."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import robot_hands
from trainer_hand import TrainerHand, fist, pinch, random_posture, smooth_motion, straight

from retargeting.body_points import FINGERS
from retargeting.errors import InvalidConfiguration, RetargetingError
from retargeting.frames import pose_apply, pose_inverse
from retargeting.hand_model import build_robot_hand
from retargeting.hand_retargeter import HandRetargeter, robot_hand
from retargeting.robot_description import Finger
from retargeting.robot_model import load_robot
from retargeting.trainer_view import view_of

PERIOD_NS = 11_111_111
SIDE = "right"


@pytest.fixture
def model(tmp_path):
    return load_robot(robot_hands.made_robot(tmp_path))


class Run:
    """Feeds frames every period to a retargeter that starts from the open hand."""

    def __init__(self, model, trainer=None):
        self.model, self.trainer = model, trainer or TrainerHand(SIDE)
        self.hands = HandRetargeter(model)
        self.stamp_ns = 0
        ends = model.description.grippers[SIDE].joints.values()
        self.open, self.closed = (np.array([getattr(e, k) for e in ends]) for k in ("open", "closed"))

    def feed(self, posture, **keywords):
        self.stamp_ns += keywords.pop("after_ns", PERIOD_NS)
        return self.hands.goal_positions(self.trainer.frame(posture, self.stamp_ns, **keywords), SIDE)

    def settle(self, posture, frames=90, **keywords):
        for _ in range(frames):
            goal = self.feed(posture, **keywords)
        return goal


def test_fingers_move_the_fingers(model):
    hand = robot_hand(model, SIDE)
    run = Run(model)
    goal = run.settle(fist())
    np.testing.assert_allclose(
        (hand.points(goal) - hand.points(goal)[:, :1]),
        run.trainer.points(fist()) - run.trainer.points(fist())[:, :1],
        atol=2e-3,
    )
    goal = run.settle(pinch("index"))
    assert abs(hand.gaps(goal)[1]) < 2e-4


def test_no_goal_moves_faster_than_its_joint_whatever_changes(model):
    rng = np.random.default_rng(6)
    run = Run(model)
    velocity = model.velocity[model.body_count :]
    before, posture = run.feed(straight()), straight()
    for _ in range(400):
        if rng.random() < 0.3:
            posture = random_posture(rng)
        fingers = [f for f in FINGERS if rng.random() < 0.7]
        after_ns = int(rng.integers(1, 60_000_000))
        goal = run.feed(
            posture,
            fingers=fingers if rng.random() < 0.8 else (),
            points=("right_grip",) if rng.random() < 0.2 else (),
            trigger=float(rng.random()),
            after_ns=after_ns,
        )
        period_s = min(max(after_ns * 1e-9, 0.001), 0.040)
        assert (np.abs(goal - before) <= velocity * period_s + 1e-12).all()
        assert (goal >= model.lower[1:]).all() and (goal <= model.upper[1:]).all()
        before = goal


def test_without_fingers_the_trigger_closes(model):
    run = Run(model)
    for trigger in (0.0, 0.4, 1.0):
        goal = run.settle(straight(), fingers=(), trigger=trigger)
        np.testing.assert_allclose(goal, run.open + trigger * (run.closed - run.open), atol=1e-9)


def test_the_trigger_is_followed_between_frames_once_it_is_reached(model):
    run = Run(model)
    run.hands.observe(view_of(run.trainer.frame(straight(), 1, fingers=(), trigger=1.0)), (SIDE,))
    on_its_way = run.hands.positions(np.array([1.0, 0.5]))
    assert np.abs(on_its_way - run.open).max() <= 6.0 / 90.0 + 1e-9
    run.stamp_ns = 1
    run.settle(straight(), fingers=(), trigger=1.0)
    np.testing.assert_allclose(
        run.hands.positions(np.array([1.0, 0.25])), run.closed + 0.25 * (run.open - run.closed), atol=1e-12
    )


def test_between_frames_the_goals_go_straight(model):
    run = Run(model)
    before, after = run.settle(fist(), frames=3), run.feed(fist())
    for share in (0.0, 0.3, 1.0):
        np.testing.assert_allclose(
            run.hands.positions(np.zeros(2), share), before + share * (after - before), atol=1e-12
        )


def test_a_side_that_is_not_followed_keeps_its_goal(model):
    run = Run(model)
    goal = run.settle(fist())
    run.hands.observe(view_of(run.trainer.frame(straight(), run.stamp_ns + PERIOD_NS)), ("left",))
    for share in (0.0, 0.5, 1.0):
        np.testing.assert_array_equal(run.hands.positions(np.zeros(2), share), goal)
    run.hands.observe(view_of(run.trainer.frame(straight(), run.stamp_ns + 2 * PERIOD_NS)), (SIDE,))
    assert np.abs(run.hands.positions(np.zeros(2)) - goal).max() > 0.05


def test_a_lost_hand_holds_unless_a_controller_is_taken_up(model):
    run = Run(model)
    grasp = run.settle(pinch("index"))
    # The trigger of a hand without a controller says nothing: nobody drops an object by it.
    np.testing.assert_array_equal(run.settle(straight(), frames=10, fingers=(), trigger=0.0), grasp)
    goal = run.settle(straight(), fingers=(), points=("right_grip",), trigger=1.0)
    np.testing.assert_allclose(goal, run.closed, atol=1e-9)
    np.testing.assert_allclose(run.settle(pinch("index")), grasp, atol=0.05)


def test_a_lost_finger_holds_and_the_others_go_on(model):
    run = Run(model)
    start = run.settle(straight())
    goal = run.settle(fist(), fingers=[f for f in FINGERS if f != "middle"])
    moved = dict(zip(run.hands.joint_names, goal - start, strict=True))
    assert max(abs(d) for name, d in moved.items() if name.startswith("middle")) < 0.02
    assert moved["index_middle"] > 1.0 and moved["ring_middle"] > 1.0


def test_thumb_and_index_alone_pinch(model):
    run = Run(model)
    start = run.hands.goal_positions(run.trainer.frame(straight(), 0, fingers=()), SIDE)
    goal = run.settle(pinch("index"), fingers=("thumb", "index"))
    assert abs(robot_hand(model, SIDE).gaps(goal)[1]) < 2e-4
    others = np.array([not n.startswith(("thumb", "index")) for n in run.hands.joint_names])
    np.testing.assert_array_equal(goal[others], start[others])


def test_the_start_is_where_the_hand_is(model):
    run = Run(model)
    measured = 0.5 * (model.lower + model.upper)[1:]
    run.hands.start_from(measured)
    goal = run.feed(straight())
    assert np.abs(goal - measured).max() <= 6.0 / 90.0 + 1e-9


def test_frames_out_of_order_change_nothing(model):
    run = Run(model)
    goal = run.settle(fist(), frames=5)
    run.stamp_ns -= 3 * PERIOD_NS
    np.testing.assert_array_equal(run.feed(straight()), goal)


def test_a_goal_that_was_handed_out_stays_what_it_was(model):
    run = Run(model)
    goal = run.feed(fist())
    copy = goal.copy()
    run.settle(fist(), frames=5)
    np.testing.assert_array_equal(goal, copy)
    goal[:] = 7.0
    assert np.abs(run.feed(fist())).max() < 3.0


def test_a_gripper_follows_the_opening_of_the_hand(tmp_path):
    model = load_robot(robot_hands.made_robot(tmp_path, hands=False))
    run = Run(model)
    assert robot_hand(model, SIDE) is None
    for posture in (fist(), pinch("index", 0.010)):
        np.testing.assert_allclose(run.settle(posture), run.closed, atol=1e-9)
        np.testing.assert_allclose(run.settle(straight()), run.open, atol=1e-9)


def test_sizes_are_measured_and_can_be_given(model):
    run = Run(model, TrainerHand(SIDE, scale=1.2))
    run.settle(straight(), frames=40)
    sizes = run.hands.sizes
    assert list(sizes) == [SIDE]
    np.testing.assert_allclose([sizes[SIDE].finger_m[f] for f in FINGERS], run.trainer.finger_m)
    assert HandRetargeter(model, sizes=sizes).sizes == sizes


def test_wrong_sides_and_starts_are_refused(model):
    hands = HandRetargeter(model)
    with pytest.raises(RetargetingError, match="no gripper or hand is described for 'left'"):
        hands.goal_positions(TrainerHand("left").frame(straight()), "left")
    for start in (np.zeros(3), np.full(20, np.nan)):
        with pytest.raises(RetargetingError, match="20 finite positions are expected"):
            hands.start_from(start)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("    thumb:", "    thum:", r"hands\.right\.thum: unknown finger; known: thumb, index"),
        ("tip: index_distal_link", "tip: index_dstal_link", "link 'index_dstal_link' is not in made.urdf"),
        ("tip: index_distal_link", "tip: 7", r"hands\.right\.index\.tip: text is expected"),
        ("pad_radius_m: 0.006", "pad_radius_m: 6", "is it in millimetres"),
        ("pad_radius_m: 0.006", "pad_radius: 0.006", "did you mean 'pad_radius_m'"),
        ("pad_radius_m: 0.006", "base: palms", "link 'palms' is not in"),
        ("hands:\n  right:", "hands:\n  up:", r"hands\.up: left or right is expected"),
        ("hands:\n  right:", "hands:\n  left:", r"hands\.left: grippers\.left .* are needed"),
        ("hands:\n  right:", "hands:\n  right: {}\nx:", r"hands\.right: no finger is given"),
    ],
)
def test_a_mistake_in_the_hands_gives_one_clear_line(tmp_path, old, new, message):
    file = robot_hands.made_robot(tmp_path)
    assert old in file.read_text()
    file.write_text(file.read_text().replace(old, new, 1))
    with pytest.raises(InvalidConfiguration, match=message):
        load_robot(file)


def test_a_finger_that_nothing_moves_is_refused(model):
    description = model.description
    gripper, wrist = description.grippers[SIDE], description.sites["right_wrist"]
    with pytest.raises(
        RetargetingError, match=r"hands\.right\.index: no joint of grippers\.right moves .*'palm'"
    ):
        build_robot_hand(model.urdf, SIDE, gripper, {"index": Finger("palm", np.zeros(3))}, wrist, {})
    on_finger = description.sites["right_wrist"].__class__("index_distal_link", wrist.pose)
    with pytest.raises(RetargetingError, match="is moved by a joint of grippers"):
        build_robot_hand(model.urdf, SIDE, gripper, description.hands[SIDE], on_finger, {})


def test_a_hand_without_a_thumb_has_no_gap(tmp_path):
    hand = robot_hands.made_hand(tmp_path, counts=(0, 3, 3, 3, 3))
    with pytest.raises(RetargetingError, match="has no thumb"):
        hand.gaps(hand.open)


def test_the_points_are_where_the_urdf_puts_them(model):
    """The wrist's own axes, with the arm anywhere: forward kinematics of the whole robot agrees."""
    hand = robot_hand(model, SIDE)
    rng = np.random.default_rng(3)
    for _ in range(10):
        q = rng.uniform(hand.lower, hand.upper)
        poses = model.link_poses(
            {"arm": float(rng.uniform(-1, 1)), **dict(zip(hand.joint_names, q, strict=True))}
        )
        for k, finger in enumerate(hand.fingers):
            entry = model.description.hands[SIDE][finger]
            tip = pose_apply(poses[entry.tip], entry.tip_position)
            np.testing.assert_allclose(
                pose_apply(pose_inverse(poses["palm"]), tip), hand.points(q)[k, 3], atol=1e-9
            )


@pytest.mark.parametrize("side", ["left", "right"])
def test_the_hands_of_the_robot_that_ships_pinch_and_close(side):
    file = Path(__file__).resolve().parents[3] / "robot_descriptions" / "g1" / "robot.yaml"
    try:
        model = load_robot(file)
    except InvalidConfiguration as error:
        if "is not installed" in str(error):
            pytest.skip(str(error))
        raise
    hand, hands, trainer = robot_hand(model, side), HandRetargeter(model), TrainerHand(side)
    motion = [*smooth_motion([straight(), pinch("index")], 60), *[pinch("index")] * 60]
    for i, posture in enumerate(motion):
        goal = hands.goal_positions(trainer.frame(posture, i * PERIOD_NS), side)
    assert abs(hand.gaps(goal)[hand.fingers.index("index")]) < 1e-3
