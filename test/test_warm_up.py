"""After the warm-up of the node nothing is compiled any more: that would hold the arms up for a second."""

from __future__ import annotations

import importlib
import pkgutil

import numpy as np
import pytest

import retargeting
from benchmarks.retargeting.motions import SYNTHETIC
from benchmarks.retargeting.playback import play
from capture_nodes.resources import robot_description_file
from capture_nodes.retargeting_warm_up import warm_up
from capture_nodes.sources.person import Person
from retargeting.body_points import FINGERS
from retargeting.motion_frame import MotionFrame
from retargeting.retargeter import Retargeter, RetargeterParameters
from retargeting.robot_model import load_robot
from retargeting.solver import SolverParameters


def compiled_functions() -> dict[str, int]:
    """How often each of the package's compiled functions was compiled, by name."""
    found = {}
    for module in pkgutil.walk_packages(retargeting.__path__, "retargeting."):
        for name, value in vars(importlib.import_module(module.name)).items():
            if hasattr(value, "nopython_signatures"):
                found[f"{module.name}.{name}"] = len(value.nopython_signatures)
    return found


# In the order that finds most: the process is warm for the second robot.
@pytest.mark.parametrize(
    "parameters",
    [SolverParameters(), SolverParameters(branch_recovery=True), SolverParameters(self_collision=True)],
    ids=["plain", "branch recovery", "self-collision"],
)
def test_nothing_is_compiled_after_the_warm_up(parameters: SolverParameters) -> None:
    model = load_robot(robot_description_file("kestrel"))
    warm_up(model, parameters)
    Retargeter(model, RetargeterParameters(), parameters)
    before = compiled_functions()
    person = Person()
    for name in ("fast_reach", "re_engage", "tracking_loss", "glitch", "out_of_bounds"):
        motion = SYNTHETIC[name](person)
        play(model, motion, parameters)
    after = compiled_functions()
    assert {name: count for name, count in after.items() if count != before.get(name, 0)} == {}
    assert len(before) > 30


FEW = {
    "head": np.array([0.0, 0.0, 1.7, 0.0, 0.0, 0.0, 1.0]),
    "left_grip": np.array([0.3, 0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
    "right_grip": np.array([0.3, -0.2, 1.2, 0.0, 0.0, 0.0, 1.0]),
}


def fingers(side: str, wrist: np.ndarray) -> dict[str, np.ndarray]:
    """A straight hand before the wrist, of a person's size."""
    points = {f"{side}_wrist": wrist}
    for k, finger in enumerate(FINGERS):
        for j, joint in enumerate(("metacarpal", "proximal", "intermediate", "distal", "tip")):
            if (finger, joint) != ("thumb", "intermediate"):
                place = wrist[:3] + np.array([0.03 * (j + 1), 0.02 * (k - 2), 0.0])
                points[f"{side}_{finger}_{joint}"] = np.r_[place, wrist[3:]]
    return points


def test_neither_controllers_nor_fingers_compile_anything() -> None:
    model = load_robot(robot_description_file("kestrel"))
    warm_up(model, SolverParameters())
    before = compiled_functions()
    retargeter = Retargeter(model, RetargeterParameters(size_frames=1))
    retargeter.observe_joints(model.neutral_positions(), 0.0)
    with_fingers = FEW | fingers("left", FEW["left_grip"]) | fingers("right", FEW["right_grip"])
    for k, poses in enumerate((FEW, FEW, FEW, with_fingers, with_fingers)):
        now_s = 0.005 * k
        retargeter.observe_motion(MotionFrame(1 + k * 5_000_000, poses), now_s)
        if k == 0:
            retargeter.engage(now_s)
        retargeter.tick(1 + k * 5_000_000, now_s)
    after = compiled_functions()
    assert {name: count for name, count in after.items() if count != before.get(name, 0)} == {}
