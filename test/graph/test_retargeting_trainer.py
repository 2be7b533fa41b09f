"""What the trainer has in hand, over real DDS: deadman, clutch, rumble, the sticks of a mobile base."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy", reason="ROS 2 is not installed")

from retargeting_world import TICK_S, World, check_limits, interrupt, running_node  # noqa: E402

from capture_nodes.resources import robot_description_file  # noqa: E402
from retargeting.motion_frame import Axis  # noqa: E402


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def on_wheels(folder: Path) -> Path:
    """A kestrel with a mobile base."""
    robot = robot_description_file("kestrel")
    (folder / "kestrel.urdf").write_text(robot.with_name("kestrel.urdf").read_text())
    base = "base: {linear_m_s: 0.6, angular_rad_s: 0.9, acceleration_m_s2: 2, acceleration_rad_s2: 3}"
    (folder / "robot.yaml").write_text(f"{robot.read_text()}{base}\n")
    return folder / "robot.yaml"


def check_base(world: World) -> None:
    """From velocity to velocity no more than a tick's worth of the acceleration; the last one is a stop."""
    velocities = np.array(world.velocities)
    steps = np.diff(np.vstack([np.zeros(3), velocities]), axis=0)
    assert np.abs(steps[:, 0]).max() <= 2.0 * TICK_S * 1.001
    assert np.abs(steps[:, 2]).max() <= 3.0 * TICK_S * 1.001
    assert not velocities[:, 1].any() and not velocities[-1].any()


def test_a_squeeze_leads_arms_and_base(world: World, tmp_path: Path) -> None:
    world.has_buttons = world.is_still = True
    arguments = ["-p", "deadman:=squeeze", "-p", f"robot:={on_wheels(tmp_path)}"]
    with running_node(*arguments) as node:
        world.wait_for("idle")
        world.wait(
            lambda: "no deadman is held" in world.call("engage").message, "to be measured, and refused"
        )
        assert world.set_parameter("engage_mode", "relative").successful
        world.wait(lambda: world.values["engage_mode"] == "relative", "the state to tell the mode")
        refused = world.set_parameter("engage_mode", "relativ")
        assert not refused.successful and "one of absolute, relative is expected" in refused.reason
        refused = world.set_parameter("operator", "anna")
        assert not refused.successful and "only engage_mode can be set" in refused.reason
        assert world.commands == [] and world.velocities == []

        world.axes[Axis.LEFT_SQUEEZE] = world.axes[Axis.RIGHT_SQUEEZE] = 1.0
        world.wait_for("tracking", "engaged")
        assert world.call("engage").message == "tracking", "pressing has engaged already"

        world.axes[Axis.LEFT_STICK_Y], world.axes[Axis.RIGHT_STICK_X] = 1.0, -1.0
        full = (0.6, 0.0, 0.9)
        world.wait(lambda: bool(world.velocities) and world.velocities[-1] == full, "the base at full speed")
        world.axes[Axis.LEFT_SQUEEZE] = 0.0
        world.wait(lambda: world.values["left_clutch"] == "released", "the left arm to hold")
        assert world.values["right_clutch"] != "released" and world.velocities[-1] == full
        # Buttons that stay away are let go.
        world.has_buttons = False
        world.wait_for("holding", "no deadman is held")
        world.wait(lambda: world.velocities[-1] == (0.0, 0.0, 0.0), "the base to stop")
        world.wait_for_rest()
        world.wait_for_commands(200)
        said = len(world.velocities)
        world.wait_for_commands(100)
        assert len(world.velocities) == said, "a base that stands is left alone"

        world.has_buttons = True
        world.axes[Axis.LEFT_STICK_Y] = world.axes[Axis.RIGHT_STICK_X] = 0.0
        world.wait_for("tracking")
        world.axes[Axis.LEFT_STICK_Y] = -1.0
        world.wait(lambda: world.velocities[-1][0] == -0.6, "the base to go backwards")
        interrupt(node)
    world.wait(lambda: world.velocities[-1] == (0.0, 0.0, 0.0), "the node to stop the base before it ends")
    check_base(world)
    check_limits(world)


NUMBERS = (
    *(f"{name}_{p}_ms" for p in ("p50", "p99") for name in ("solve", "tick", "motion_to_command")),
    *(f"{name}_{p}_ms" for p in ("p50", "p99") for name in ("newest_motion_age", "shown_motion_age")),
    *("input_delay_p50_ms", "input_delay_p99_ms", "clipped_share", "clearance_m", "collision_limited_share"),
    *("late_ticks", "missed_ticks", "forced_exceptions", "rejected_inputs", "doubted_samples"),
    "tracking_jumps",
)


def test_the_edge_of_reach_is_felt_and_figures_are_told(world: World) -> None:
    world.is_still = True
    with running_node("-p", "self_collision:=true") as node:
        world.wait_for("idle")
        world.wait(lambda: world.call("engage").success, f"engage: {world.states[-3:]}")
        world.wait_for("tracking")
        world.wait_for_commands(100)
        assert world.rumbles == []
        world.pull_m = 1.0
        world.wait(
            lambda: bool(world.rumbles) and world.rumbles[-1][0] == 1.0, f"a rumble: {world.rumbles[-9:]}"
        )
        felt = len(world.rumbles)
        world.wait(lambda: len(world.rumbles) >= felt + 3, "the rumble to be said again")
        # The right hand may be felt too: the robot leans as far as it can.
        assert all(set(said) == {0, 1} and 0.0 <= said[1] <= 1.0 for said in world.rumbles)

        world.pull_m = 0.0
        world.wait(lambda: world.rumbles[-1] == {0: 0.0, 1: 0.0}, "the rumble to end")
        world.wait_for_commands(200)
        silent = [not any(said.values()) for said in world.rumbles]
        assert silent[-1] and not any(a and b for a, b in pairwise(silent)), "its end is said once"

        numbers = world.numbers
        assert all(float(numbers[name]) >= 0.0 for name in NUMBERS), numbers
        for name in NUMBERS:
            if name.endswith("_p50_ms"):
                assert float(numbers[name]) <= float(numbers[name.replace("p50", "p99")])
        assert float(numbers["solve_p50_ms"]) <= float(numbers["tick_p50_ms"])
        assert float(numbers["motion_to_command_p50_ms"]) <= float(numbers["newest_motion_age_p99_ms"])
        assert numbers["state"] == "tracking" and numbers["left_clutch"] == "following"
        assert "clipped_joints" in numbers and "clearance_links" in numbers

        world.pull_m = 1.0
        world.wait(lambda: world.rumbles[-1][0] > 0.5, "the left hand to rumble again")
        interrupt(node)
    world.wait(lambda: not any(world.rumbles[-1].values()), "nothing to rumble on when the node has gone")
    check_limits(world)


def test_an_operator_is_measured_once(world: World, tmp_path: Path) -> None:
    """The size that one node has kept is known to the next before it has seen enough to measure."""
    world.is_still = True
    arguments = ["-p", "operator:=anna", "-p", f"trainer_folder:={tmp_path / 'trainers'}"]
    file = tmp_path / "trainers" / "anna.json"
    with running_node(*arguments) as node:
        world.wait_for("idle")
        assert "left_scale" not in world.values
        world.wait(lambda: world.call("engage").success, "engage")
        world.wait_for("tracking")
        scale = world.values["left_scale"]
        world.wait(file.is_file, "the size to be kept")
        interrupt(node)
    world.has_motion = False
    world.states.clear()
    with running_node(*arguments) as node:
        world.wait_for("idle")
        assert world.values["left_scale"] == scale
        interrupt(node)
    file.write_text("{}")
    world.states.clear()
    with running_node(*arguments) as node:
        world.wait_for("idle")
        assert "left_scale" not in world.values, "a bad file is told, and the trainer measured anew"
        interrupt(node)
    assert file.read_text() == "{}"
