"""The launch files carry out the plan and nothing else, checked with a stand-in for `launch`."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest

from capture_nodes.station import make_plan
from capture_nodes.station_arguments import StationError, argument_defaults


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
    handlers = [a.arguments[0] for a in actions if type(a).__name__ == "RegisterEventHandler"]
    watched = [h.options["target_action"] for h in handlers if type(h).__name__ == "OnProcessExit"]
    assert watched == nodes
    assert [n.options["additional_env"] for n in nodes] == [dict(p.environment) for p in plan.processes]


@pytest.mark.parametrize(
    ("process", "code", "stopping", "expected"),
    [
        ("session", 0, False, "the session has ended"),
        ("session", 1, False, "session ended with exit code 1; stopping the others"),
        ("recorder", 0, False, "recorder ended with exit code 0; stopping the others"),
        ("retargeting", -9, False, "retargeting was killed by SIGKILL; stopping the others"),
        # What ends while everything is stopped was asked to.
        ("headset", -2, True, None),
        ("headset", 1, True, None),
    ],
)
def test_what_the_end_of_a_process_leads_to(
    fake_launch: Any,
    make_context: Any,
    tmp_path: Path,
    process: str,
    code: int,
    stopping: bool,
    expected: str | None,
) -> None:
    module = fake_launch("station.launch.py")
    context = make_context({**argument_defaults(), "root": str(tmp_path)}, is_shutdown=stopping)
    handlers = [
        a.arguments[0] for a in module.actions_of_plan(context) if type(a).__name__ == "RegisterEventHandler"
    ]
    (on_exit,) = (
        h.options["on_exit"]
        for h in handlers
        if type(h).__name__ == "OnProcessExit" and h.options["target_action"].options["name"] == process
    )
    emitted = [a.options["event"] for a in on_exit(types.SimpleNamespace(returncode=code), context)]
    if expected is None:
        assert emitted == []
        return
    (event,) = emitted
    if type(event).__name__ == "Shutdown":
        assert event.options["reason"] == expected
        return
    (on_failure,) = (h for h in handlers if type(h).__name__ == "EventHandler")
    assert on_failure.options["matcher"](event)
    context.locals.event = event
    (action,) = on_failure.options["entities"]
    with pytest.raises(StationError, match=expected):
        action.options["function"](context)


def test_a_debugger_as_prefix_is_not_hidden(
    fake_launch: Any, make_context: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = fake_launch("station.launch.py")
    monkeypatch.setattr(module.shutil, "which", lambda name: f"/a folder/{name}")
    assert module.guard(make_context({})) == "'/a folder/setpriv' --pdeathsig INT --"
    assert module.guard(make_context({"launch-prefix": "gdb --args"})) is None
    monkeypatch.setattr(module.shutil, "which", lambda name: None)
    assert module.guard(make_context({})) is None


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
