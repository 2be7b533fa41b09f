"""Rumble: as strong as the push, never a step, said again while felt, its end said once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.applied_command import ArmStop, StopKind
from retargeting.errors import RetargetingError
from retargeting.rumble import Rumble, RumbleParameters

TICK_S = 0.005
PARAMETERS = RumbleParameters()


def stop(push: float) -> tuple[ArmStop, ...]:
    return (ArmStop(StopKind.REACH, push=0.3 * push), ArmStop(StopKind.MARGIN, "a and b", push))


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1), st.integers(1, 60)), min_size=1, max_size=8))
def test_any_pushes(pushes: list[tuple[float, float, int]]):
    """Intensity stays in 0 .. 1 and changes no faster than allowed; what is said keeps up with it."""
    rumble, now_s = Rumble(), 100.0
    said: dict[str, float] = {"left": 0.0, "right": 0.0}
    said_s, before = -np.inf, dict(rumble.intensity)
    for left, right, ticks in pushes:
        for _ in range(ticks):
            now_s += TICK_S
            told = rumble.feel({"left": stop(left), "right": stop(right)}, now_s)
            for side, now in rumble.intensity.items():
                assert 0.0 <= now <= 1.0
                step = now - before[side]
                assert -TICK_S / PARAMETERS.fall_s - 1e-9 <= step <= TICK_S / PARAMETERS.rise_s + 1e-9
            before = dict(rumble.intensity)
            felt = {side: value if value >= PARAMETERS.least else 0.0 for side, value in before.items()}
            if told is not None:
                assert told == felt
                said, said_s = told, now_s
            elif any(felt.values()):
                # Nothing new was said because it is not much, or because it was said just now.
                assert now_s - said_s < PARAMETERS.repeat_s
                changed = max(abs(felt[side] - said[side]) for side in said)
                assert changed < PARAMETERS.step or now_s - said_s < PARAMETERS.shortest_s
            else:
                assert not any(said.values())
    ends = [rumble.feel({}, now_s + k * TICK_S) for k in range(1, 100)]
    zeros = [told for told in ends if told is not None and not any(told.values())]
    assert len(zeros) == (1 if any(said.values()) else 0)
    assert ends[-1] is None and rumble.end() is None


def test_a_steady_push_is_said_at_the_low_rate():
    rumble = Rumble()
    told = [rumble.feel({"left": stop(0.8)}, 5.0 + k * TICK_S) for k in range(1000)]
    steady = [k for k, values in enumerate(told) if values is not None and k > 100]
    ticks = round(PARAMETERS.repeat_s / TICK_S)
    assert set(np.diff(steady).tolist()) <= {ticks, ticks + 1}
    assert told[steady[0]] == {"left": pytest.approx(0.8), "right": 0.0}
    assert rumble.end() == {"left": 0.0, "right": 0.0}
    assert rumble.end() is None


def test_nothing_is_said_of_nothing():
    rumble = Rumble()
    assert all(rumble.feel({}, k * TICK_S) is None for k in range(1000))
    faint = {"left": stop(0.9 * PARAMETERS.least)}
    assert all(rumble.feel(faint, 5.0 + k * TICK_S) is None for k in range(1000))
    assert rumble.end() is None


@pytest.mark.parametrize("values", [{"rise_s": 0.0}, {"fall_s": float("nan")}, {"step": 2.0, "repeat_s": -1}])
def test_bad_parameters_are_all_named(values: dict[str, float]):
    with pytest.raises(RetargetingError) as caught:
        RumbleParameters(**values)
    assert all(f"rumble {name}: " in str(caught.value) for name in values)
