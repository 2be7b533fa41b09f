"""Guided calibration: a made-up person who holds the poses is measured; bad poses are refused."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, seed, settings
from hypothesis import strategies as st

from retargeting.calibration import (
    INSTRUCTIONS,
    STEPS,
    Calibration,
    CalibrationParameters,
    CalibrationStep,
)
from retargeting.errors import RetargetingError
from retargeting.motion_frame import Axis, Controls, MotionFrame

RATE_HZ = 30.0
UPRIGHT = np.array([0.0, 0.0, 0.0, 1.0])


class Body:
    """A person of a stature, facing `heading`, standing at `place`; arms are straight lines."""

    def __init__(
        self, stature_m: float = 1.75, heading: float = 0.0, place=(0.0, 0.0), arms=(1.0, 1.0)
    ) -> None:
        self.forward = np.array([np.cos(heading), np.sin(heading), 0.0])
        self.left = np.array([-np.sin(heading), np.cos(heading), 0.0])
        at = np.array([*place, 0.0])
        self.head = at + np.array([0.0, 0.0, 0.936 * stature_m]) + 0.05 * self.forward
        middle = at + np.array([0.0, 0.0, 0.818 * stature_m])
        self.shoulders = {s: middle + sign * 0.19 * self.left for s, sign in (("left", 1.0), ("right", -1.0))}
        reach = (0.186 + 0.146) * stature_m
        self.reach = dict(zip(("left", "right"), (reach * arms[0], reach * arms[1]), strict=True))

    def wrists(self, step: CalibrationStep) -> dict[str, np.ndarray]:
        found = {}
        for side, sign in (("left", 1.0), ("right", -1.0)):
            direction = {
                CalibrationStep.STAND: np.array([0.0, 0.0, -1.0]),
                CalibrationStep.DOWN: np.array([0.0, 0.0, -1.0]),
                CalibrationStep.OUT: sign * self.left,
                CalibrationStep.FORWARD: self.forward,
                CalibrationStep.PINCH: 0.6 * self.forward,
            }[step]
            found[side] = self.shoulders[side] + self.reach[side] * direction
        return found

    def frame(
        self, k: int, step: CalibrationStep, jitter_m=0.0, rng=None, *, hands=True, trunk=False
    ) -> MotionFrame:
        def pose(at: np.ndarray) -> np.ndarray:
            shake = np.zeros(3) if rng is None else rng.normal(0.0, jitter_m, 3)
            return np.concatenate([at + shake, UPRIGHT])

        poses = {"head": pose(self.head)}
        for side, at in self.wrists(step).items():
            poses[f"{side}_wrist"] = pose(at)
            if hands:
                gap = 0.012 if step is CalibrationStep.PINCH else 0.09
                poses[f"{side}_thumb_tip"] = np.concatenate([at, UPRIGHT])
                poses[f"{side}_index_tip"] = np.concatenate([at + np.array([gap, 0.0, 0.0]), UPRIGHT])
            if trunk:
                poses[f"{side}_shoulder"] = pose(self.shoulders[side])
                poses[f"{side}_elbow"] = pose(self.shoulders[side] + 0.55 * (at - self.shoulders[side]))
        return MotionFrame(1 + round(k / RATE_HZ * 1e9), poses)


def lead(
    body: Body, calibration: Calibration, change=lambda step, frame: frame, **how
) -> list[CalibrationStep]:
    """Hold whatever pose is asked for, until it ends; the steps that were asked for."""
    asked: list[CalibrationStep] = []
    for k in range(20_000):
        if calibration.ended:
            return asked
        step = calibration.step
        if not asked or asked[-1] is not step:
            asked.append(step)
        calibration.observe(change(step, body.frame(k, step, **how)), k / RATE_HZ)
    raise AssertionError("it never ended")


@seed(8)
@settings(max_examples=25, derandomize=True)
@given(
    stature_m=st.floats(1.45, 2.05),
    heading=st.floats(-np.pi, np.pi),
    place=st.tuples(st.floats(-2.0, 2.0), st.floats(-2.0, 2.0)),
    trunk=st.booleans(),
)
def test_whoever_it_is_and_wherever_they_stand_they_are_measured(stature_m, heading, place, trunk) -> None:
    body = Body(stature_m, heading, place)
    calibration = Calibration()
    assert lead(body, calibration, jitter_m=0.002, rng=np.random.default_rng(9), trunk=trunk) == list(STEPS)
    result = calibration.result()
    for side in ("left", "right"):
        assert result.size.arm_m(side) == pytest.approx(body.reach[side], abs=0.004)
        assert result.pinch_m[side] == pytest.approx(0.012)
        share = 0.55 if trunk else 0.186 / 0.332
        if not trunk:
            assert result.size.upper_arm_m[side] == pytest.approx(share * body.reach[side], abs=0.004)
    assert result.size.shoulder_width_m == pytest.approx(0.38, abs=0.006)
    assert result.size.shoulder_height_m == pytest.approx(0.818 * stature_m, abs=0.004)
    assert result.head_height_m == pytest.approx(0.936 * stature_m, abs=0.002)
    assert result.largest_residual_m < 0.004
    off = np.angle(np.exp(1j * (result.heading_rad - heading)))
    assert abs(off) < 0.01
    assert ("tracked" in result.bones) == trunk


def test_a_suit_without_fingers_has_no_pinch() -> None:
    calibration = Calibration()
    assert lead(Body(), calibration, hands=False) == list(STEPS[:-1])
    assert calibration.result().pinch_m == {}


def test_triggers_pinch_too() -> None:
    calibration = Calibration()

    def controllers(step: CalibrationStep, frame: MotionFrame) -> MotionFrame:
        axes = [0.0] * len(Axis)
        if step is CalibrationStep.PINCH:
            axes[Axis.LEFT_TRIGGER] = axes[Axis.RIGHT_TRIGGER] = 1.0
        grips = {f"{side}_grip": frame.poses[f"{side}_wrist"] for side in ("left", "right")}
        return MotionFrame(frame.stamp_ns, {**frame.poses, **grips}, Controls(tuple(axes)))

    assert lead(Body(), calibration, controllers, hands=False) == list(STEPS)
    assert calibration.result().pinch_m == {}


def test_nobody_moves_while_a_pose_is_held() -> None:
    calibration = Calibration(CalibrationParameters(hold_s=1.0))
    body = Body()
    for k in range(15):
        calibration.observe(body.frame(k, CalibrationStep.STAND), k / RATE_HZ)
    assert 0.4 < calibration.held < 0.55
    moved = Body(place=(0.1, 0.0))
    calibration.observe(moved.frame(15, CalibrationStep.STAND), 15 / RATE_HZ)
    assert calibration.held < 0.05 and calibration.hint == "keep still"
    assert calibration.step is CalibrationStep.STAND


@pytest.mark.parametrize(
    ("wrong", "at", "hint"),
    [
        (CalibrationStep.STAND, CalibrationStep.OUT, "raise the left hand"),
        (CalibrationStep.OUT, CalibrationStep.DOWN, "lower the left hand"),
        (CalibrationStep.FORWARD, CalibrationStep.OUT, "stretch the arms farther out to the sides"),
        (CalibrationStep.OUT, CalibrationStep.FORWARD, "bring the hands nearer together"),
    ],
)
def test_another_pose_is_not_taken_for_the_one_asked_for(wrong, at, hint) -> None:
    body = Body()
    calibration = Calibration(CalibrationParameters(timeout_s=5.0))
    for k in range(20_000):
        if calibration.ended:
            break
        step = calibration.step
        calibration.observe(body.frame(k, wrong if step is at else step), k / RATE_HZ)
    assert hint in calibration.refusal and calibration.refusal.startswith(at.value)
    with pytest.raises(RetargetingError, match=hint):
        calibration.result()


def test_what_is_no_good_is_refused_with_every_reason() -> None:
    bent = Calibration()

    def change(step: CalibrationStep, frame: MotionFrame) -> MotionFrame:
        if step is not CalibrationStep.FORWARD:
            return frame
        poses = dict(frame.poses)
        poses["left_wrist"] = poses["left_wrist"] + np.array([-0.06, 0.16, 0.14, 0, 0, 0, 0])
        return MotionFrame(frame.stamp_ns, poses)

    lead(Body(), bent, change)
    with pytest.raises(RetargetingError, match=r"forward left: the hand was 0\.\d+ m from where"):
        bent.result()
    unequal = Calibration()
    lead(Body(arms=(1.1, 1.0)), unequal)
    with pytest.raises(RetargetingError, match=r"the arms measure 0\.6\d+ m \(left\) and 0\.581 m \(right\)"):
        unequal.result()
    swapped = Calibration()

    def exchange(step: CalibrationStep, frame: MotionFrame) -> MotionFrame:
        poses = dict(frame.poses)
        poses["left_wrist"], poses["right_wrist"] = poses["right_wrist"], poses["left_wrist"]
        return MotionFrame(frame.stamp_ns, poses)

    lead(Body(), swapped, exchange)
    with pytest.raises(RetargetingError, match="left and right are exchanged"):
        swapped.result()


def test_what_is_not_tracked_or_not_on_the_floor_is_told() -> None:
    calibration = Calibration()
    with pytest.raises(RetargetingError, match="stand: not held yet"):
        calibration.result()
    frame = Body().frame(0, CalibrationStep.STAND)
    calibration.observe(MotionFrame(1, {"head": frame.poses["head"]}), 0.0)
    assert calibration.hint == "not tracked: left_wrist, right_wrist"
    low = {point: pose - np.array([0, 0, 1.2, 0, 0, 0, 0]) for point, pose in frame.poses.items()}
    calibration.observe(MotionFrame(2, low), 0.1)
    assert "the head is 0.44 m above the floor" in calibration.hint
    assert set(INSTRUCTIONS) == set(STEPS)
    with pytest.raises(RetargetingError, match="hold_s"):
        CalibrationParameters(hold_s=0.0)
