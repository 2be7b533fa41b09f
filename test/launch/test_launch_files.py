"""The launch files carry out the plan and nothing else, checked with a stand-in for `launch`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from capture_nodes.station import StationError, argument_defaults, make_plan


def kinds(actions: list[Any]) -> list[str]:
    return [type(action).__name__ for action in actions]


def test_station_declares_every_argument_with_its_default(fake_launch: Any) -> None:
    description = fake_launch("station.launch.py").generate_launch_description()
    (actions,) = description.arguments
    declared = {a.arguments[0]: a.options["default_value"] for a in actions[:-1]}
    assert declared == argument_defaults()
    assert kinds(actions)[-1] == "OpaqueFunction"


def test_station_starts_exactly_the_plan(fake_launch: Any, make_context: Any, tmp_path: Path) -> None:
    values = {**argument_defaults(), "root": str(tmp_path), "episodes": "2"}
    actions = fake_launch("station.launch.py").actions_of_plan(make_context(values))
    plan = make_plan(values)
    nodes = [a for a in actions if type(a).__name__ == "Node"]
    assert [n.options["executable"] for n in nodes] == [p.executable for p in plan.processes]
    assert [n.options["parameters"] for n in nodes] == [[dict(p.parameters)] for p in plan.processes]
    assert [(n.options["namespace"], n.options["name"]) for n in nodes] == [
        (p.namespace, p.node_name) for p in plan.processes
    ]
    assert {n.options["package"] for n in nodes} == {"teleop_capture"}
    variables = {a.arguments for a in actions if type(a).__name__ == "SetEnvironmentVariable"}
    assert variables == set(plan.environment.items())
    # Variables are set before the first process starts, and the end of any process ends the station.
    assert kinds(actions).index("Node") > kinds(actions).index("SetEnvironmentVariable")
    assert kinds(actions).count("RegisterEventHandler") == len(nodes)


def test_bad_arguments_start_nothing(fake_launch: Any, make_context: Any, tmp_path: Path) -> None:
    module = fake_launch("station.launch.py")
    with pytest.raises(StationError, match="unknown robot"):
        module.actions_of_plan(
            make_context({**argument_defaults(), "root": str(tmp_path), "robot": "nobody"})
        )


def test_simulation_is_the_station_without_a_session(fake_launch: Any) -> None:
    description = fake_launch("simulation.launch.py").generate_launch_description()
    (actions,) = description.arguments
    include = actions[-1]
    assert kinds(actions)[-1] == "IncludeLaunchDescription"
    passed = dict(include.options["launch_arguments"])
    assert passed.pop("episodes") == "0"
    assert set(passed) == set(argument_defaults()) - {"episodes"}
    (source,) = include.arguments
    assert Path(source.arguments[0]).name == "station.launch.py"
