"""Frames are checked all at once: nothing gets through that the check pose by pose would refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from retargeting.body_points import BODY_POINTS
from retargeting.errors import InvalidMotion
from retargeting.motion_frame import LARGEST_DISTANCE_M, MotionFrame

_UPRIGHT = np.array([0.1, 0.2, 0.3, 0.0, 0.0, 0.0, 1.0])
_BAD = [
    (0, np.nan),
    (2, np.inf),
    (1, -np.inf),
    (0, 1.01 * LARGEST_DISTANCE_M),
    (6, 1.01),
    (6, np.nan),
    (3, 0.5),
    (6, 0.0),
]


def frame(count: int) -> dict[str, np.ndarray]:
    return {name: _UPRIGHT.copy() for name in BODY_POINTS[:count]}


@given(st.integers(1, len(BODY_POINTS)), st.data(), st.sampled_from(_BAD))
def test_one_bad_number_anywhere_is_refused_by_name(
    count: int, data: st.DataObject, bad: tuple[int, float]
) -> None:
    poses = frame(count)
    MotionFrame(0, poses)
    name = data.draw(st.sampled_from(list(poses)))
    index, value = bad
    poses[name][index] = value
    with pytest.raises(InvalidMotion, match=name):
        MotionFrame(0, poses)


def test_what_is_at_the_bounds_is_taken() -> None:
    poses = frame(3)
    poses["head"][0] = -LARGEST_DISTANCE_M
    poses["chest"][6] = 1.0 + 0.9e-3
    MotionFrame(0, poses)
    MotionFrame(0, {})


@pytest.mark.parametrize("pose", [np.zeros(6), np.zeros((7, 1)), np.zeros((1, 7)), np.zeros(0)])
def test_a_wrong_shape_is_refused_by_name(pose: np.ndarray) -> None:
    for poses in ({"head": pose}, {**frame(5), "head": pose}):
        with pytest.raises(InvalidMotion, match="head: pose has shape"):
            MotionFrame(0, poses)


def test_an_unknown_point_is_refused_by_name() -> None:
    with pytest.raises(InvalidMotion, match="left_tentacle"):
        MotionFrame(0, {"head": _UPRIGHT, "left_tentacle": _UPRIGHT})
