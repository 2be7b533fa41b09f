"""A minimal stand-in for `launch` and `launch_ros` where they are not installed: it records actions."""

from __future__ import annotations

import importlib.util
import sys
import types
from pathlib import Path
from typing import Any

import pytest

# The launch tests share a module.
sys.path.insert(0, str(Path(__file__).resolve().parent))

LAUNCH_FOLDER = Path(__file__).resolve().parents[2] / "launch"


class Recorded:
    """Any action, event or substitution: remembers how it was made."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.arguments = arguments
        self.options = options


def _recorded(name: str) -> type[Recorded]:
    return type(name, (Recorded,), {})


class FakeContext:
    """Launch configurations as `launch` keeps them, text by name; and whether it is shutting down."""

    def __init__(self, values: dict[str, str], is_shutdown: bool = False) -> None:
        self.launch_configurations = values
        self.is_shutdown = is_shutdown
        self.locals = types.SimpleNamespace()


class FakeConfiguration(Recorded):
    def perform(self, context: FakeContext) -> str:
        return context.launch_configurations[self.arguments[0]]


MODULES: dict[str, dict[str, type]] = {
    "launch": {name: _recorded(name) for name in ("Event", "EventHandler", "LaunchDescription")},
    "launch.actions": {
        name: _recorded(name)
        for name in (
            "DeclareLaunchArgument",
            "EmitEvent",
            "IncludeLaunchDescription",
            "OpaqueFunction",
            "RegisterEventHandler",
            "SetEnvironmentVariable",
        )
    },
    "launch.event_handlers": {"OnProcessExit": _recorded("OnProcessExit")},
    "launch.events": {"Shutdown": _recorded("Shutdown")},
    "launch.launch_description_sources": {
        "PythonLaunchDescriptionSource": _recorded("PythonLaunchDescriptionSource")
    },
    "launch.substitutions": {"LaunchConfiguration": FakeConfiguration},
    "launch_ros": {},
    "launch_ros.actions": {"Node": _recorded("Node")},
}


@pytest.fixture
def fake_launch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that loads a launch file against the stand-in."""
    for name, content in MODULES.items():
        module = types.ModuleType(name)
        module.__dict__.update(content)
        monkeypatch.setitem(sys.modules, name, module)

    def load(file_name: str) -> types.ModuleType:
        specification = importlib.util.spec_from_file_location(
            "launch_file_under_test", LAUNCH_FOLDER / file_name
        )
        assert specification is not None and specification.loader is not None
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def make_context() -> type[FakeContext]:
    return FakeContext
