"""What stops an arm: margins count for the arm whose link is at it, and pushing harder is felt more."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from driven_robot import READY, Loop

from retargeting.applied_command import StopKind
from retargeting.arm_stops import ArmStops
from retargeting.retargeter import Retargeter
from retargeting.robot_body import measure_robot
from retargeting.robot_model import RobotModel
from retargeting.robot_posture import robot_posture
from retargeting.self_collision import Clearance
from retargeting.solver import Solver, SolverParameters


class Judge:
    """`ArmStops` in the neutral posture, with the left hand wanted aside by some metres."""

    def __init__(self, model: RobotModel) -> None:
        self._stops = ArmStops(model, measure_robot(model))
        self._goal = model.neutral.copy()
        layout = Solver(model).layout
        self._poses = robot_posture(layout, self._goal[: model.body_count]).poses
        self._reached = layout.site_poses(self._goal[: model.body_count])

    def push(self, aside_m: float, clearance: Clearance | None, limited: bool = False) -> dict[str, float]:
        wanted = self._poses.copy()
        wanted[0, 1] += aside_m
        stops = self._stops.of(self._goal, *self._reached, wanted, clearance, limited)
        return {
            side: max((stop.push for stop in found if stop.kind is StopKind.MARGIN), default=0.0)
            for side, found in stops.items()
        }


def hand_link(model: RobotModel, side: str) -> str:
    return model.description.sites[f"{side}_wrist"].link


def test_a_margin_is_felt_by_the_arm_that_is_at_it(model: RobotModel):
    judge, margin_m = Judge(model), model.description.collision.margin_m
    left, right = hand_link(model, "left"), hand_link(model, "right")
    root = model.urdf.root
    for links, sides in (((left, root), {"left"}), ((root, right), set()), ((root, root), set())):
        assert set(judge.push(0.06, Clearance(margin_m, links))) == sides
    both = Clearance(margin_m, (left, right))
    assert set(judge.push(0.0, both, limited=True)) == {"left", "right"}
    assert judge.push(0.06, both).keys() == {"left"}, "the right hand is where it is wanted"
    for clearance in (None, Clearance(0.05, None)):
        assert judge.push(0.06, clearance, limited=True) == {}
    assert judge.push(0.0, Clearance(margin_m, (left, root))) == {}


def test_the_push_grows_smoothly_with_depth_and_nearness(kestrel: RobotModel):
    judge, margin_m = Judge(kestrel), kestrel.description.collision.margin_m
    links = hand_link(kestrel, "left"), kestrel.urdf.root
    depths = np.arange(0.0, 0.2, 1e-3)
    by_depth = [judge.push(d, Clearance(margin_m, links)).get("left", 0.0) for d in depths]
    above = np.arange(0.03, -0.005, -1e-4)
    by_nearness = [judge.push(0.2, Clearance(margin_m + a, links)).get("left", 0.0) for a in above]
    for pushes in (by_depth, by_nearness):
        steps = np.diff(pushes)
        assert pushes[0] == 0.0 and pushes[-1] == 1.0
        assert steps.min() >= 0.0 and steps.max() < 0.03


def test_a_joint_that_turns_for_ever_is_never_at_its_end(kestrel: RobotModel):
    for_ever = np.full(len(kestrel.lower), np.inf)
    model = replace(kestrel, lower=-for_ever, upper=for_ever)
    with np.errstate(all="raise"):
        stops = ArmStops(model, measure_robot(kestrel))
    layout = Solver(kestrel).layout
    poses = robot_posture(layout, kestrel.neutral[: kestrel.body_count]).poses
    reached = layout.site_poses(kestrel.neutral[: kestrel.body_count])
    aside = poses.copy()
    aside[0, 1] += 0.05
    assert stops.of(kestrel.neutral, *reached, aside) == {}


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_hand_pressed_against_the_body_is_stopped_by_the_margin(kestrel: RobotModel, side: str):
    loop = Loop(kestrel)
    loop.retargeter = Retargeter(kestrel, solver_parameters=SolverParameters(self_collision=True))
    loop.run(0.5, READY)
    loop.retargeter.engage(loop.now_s)
    loop.run(1.5, READY)
    assert loop.commands[-1].stops == {}
    sign = 1.0 if side == "left" else -1.0
    # Into the middle of the body.
    inside = {**READY, side: np.array([0.0, -0.19 * sign, -0.3])}

    def pressing(now_s: float) -> dict[str, np.ndarray]:
        share = min(1.0, (now_s - 12.0) / 1.5)
        return {s: READY[s] + share * (inside[s] - READY[s]) for s in READY}

    loop.run(2.5, pressing)
    last = loop.commands[-1]
    margins = [stop for stop in last.stops.get(side, ()) if stop.kind is StopKind.MARGIN]
    assert margins and margins[0].push > 0.5, (last.stops, last.clearance)
    assert set(last.stops) == {side}
    pushes = [
        max((s.push for s in c.stops.get(side, ()) if s.kind is StopKind.MARGIN), default=0.0)
        for c in loop.commands
    ]
    assert max(pushes[:300]) == 0.0
