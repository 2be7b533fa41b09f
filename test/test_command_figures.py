"""The figures of the last second of commands, as `/diagnostics` tells them."""

from __future__ import annotations

import numpy as np
import pytest

from capture_nodes.command_figures import CommandFigures
from retargeting.applied_command import AppliedCommand
from retargeting.self_collision import Clearance

NONE = np.zeros(0)
TICK_NS = 5_000_000


def command(k: int, **values: object) -> AppliedCommand:
    """The k-th of commands every 5 ms; frames come every 20 ms, 3 ms before the first that follows."""
    stamp_ns = 1_000_000_000 + k * TICK_NS
    cause_ns = stamp_ns - k % 4 * TICK_NS - 3_000_000
    known = {"cause_stamp_ns": cause_ns, "motion_age_s": 0.02, "smoothing_delay_s": 0.004}
    known = {**known, "clipped": (), **values}
    return AppliedCommand(stamp_ns, (), NONE, NONE, {}, **known)  # type: ignore[arg-type]


def test_a_frame_counts_once_and_a_command_always() -> None:
    figures = CommandFigures()
    for k in range(400):
        figures.add(command(k), solve_s=1e-4 * (1 + (k >= 396)))
        figures.add_tick(2e-4)
    values = figures.take()
    assert values["motion_to_command_p50_ms"] == values["motion_to_command_p99_ms"] == "3.000"
    assert values["newest_motion_age_p50_ms"] == "10.500" and values["newest_motion_age_p99_ms"] == "18.000"
    assert values["shown_motion_age_p50_ms"] == "20.000" and values["input_delay_p99_ms"] == "4.000"
    assert values["solve_p50_ms"] == "0.100" and float(str(values["solve_p99_ms"])) > 0.1
    assert values["tick_p50_ms"] == "0.200"
    assert "clearance_m" not in values, "nobody looked"


def test_a_frame_that_spans_two_windows_is_not_counted_again() -> None:
    figures = CommandFigures()
    figures.add(command(0), 1e-4)
    figures.take()
    for k in (1, 2, 3):
        figures.add(command(k), 1e-4)
    assert "motion_to_command_p50_ms" not in figures.take()


def test_limits_and_margins() -> None:
    figures = CommandFigures()
    near = Clearance(0.011, ("left_hand", "torso"))
    for k in range(100):
        figures.add(
            command(
                k,
                clipped=("elbow", "wrist") if k < 10 else ("elbow",) if k < 25 else (),
                clearance=near if k == 50 else Clearance(0.05, None),
                collision_limited=k == 50,
                led_m={"left_wrist": 0.03, "right_wrist": 0.02} if k == 50 else {},
            ),
            1e-4,
        )
    values = figures.take()
    assert values["clipped_share"] == "0.250" and values["clipped_joints"] == "elbow 0.250 wrist 0.100"
    assert (values["clearance_m"], values["clearance_links"]) == ("0.0110", "left_hand torso")
    assert values["collision_limited_share"] == "0.010" and values["led_m"] == "0.0300"
    figures.add(command(0, clearance=Clearance(0.05, None)), 1e-4)
    values = figures.take()
    assert (values["clearance_m"], values["clearance_links"]) == ("0.0500", "")
    assert values["led_m"] == "0.0000"


@pytest.mark.parametrize("ticks", [0, 3])
def test_without_commands_nothing_is_told_of_them(ticks: int) -> None:
    figures = CommandFigures()
    for _ in range(ticks):
        figures.add_tick(1e-3)
    assert set(figures.take()) == ({"tick_p50_ms", "tick_p99_ms"} if ticks else set())
    figures.add(command(0, cause_stamp_ns=None, motion_age_s=None), 1e-4)
    assert set(figures.take()) == {"solve_p50_ms", "solve_p99_ms", "clipped_share", "clipped_joints"}
