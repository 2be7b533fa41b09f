"""The arrows between the parts of the package, read from the imports; and documented configuration."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROS_PACKAGES = {
    "rclpy",
    "rosidl_runtime_py",
    "ament_index_python",
    "tf2_ros",
    "launch",
    "launch_ros",
    "rcl_interfaces",
    "builtin_interfaces",
}
# Any module of capture_nodes may use these.
SHARED = {"capture_nodes.errors", "capture_nodes.resources", "capture_nodes.stamp_clock"}
PURE = (
    "retargeting",
    "episodes",
    "capture_nodes.sources",
    "capture_nodes.recording",
    "capture_nodes.simulation",
)


def modules() -> list[tuple[str, Path]]:
    found = []
    for package in ("retargeting", "capture_nodes", "episodes"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found.append((".".join(p for p in parts if p != "__init__"), path))
    return found


def imports_of(path: Path, module: str) -> set[str]:
    """Absolute names of everything a file imports, inside functions too."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = module.split(".")[: -node.level]
                base = ".".join([*parents, base]) if base else ".".join(parents)
            names.add(base)
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return names


def part_of(name: str) -> str:
    """`capture_nodes.sources` for its modules, else the top-level package."""
    words = name.split(".")
    if words[0] == "capture_nodes" and len(words) > 1 and words[1] in ("sources", "recording", "simulation"):
        return ".".join(words[:2])
    return words[0]


def wrong_arrows(module: str, imported: set[str]) -> list[str]:
    part = part_of(module)
    allowed = {
        "retargeting": {"retargeting"},
        "episodes": {"episodes", "retargeting"},
        "capture_nodes.sources": {"capture_nodes.sources", "retargeting"},
        "capture_nodes.recording": {"capture_nodes.recording", "retargeting"},
        "capture_nodes.simulation": {"capture_nodes.simulation", "retargeting"},
        "capture_nodes": {
            "capture_nodes",
            "capture_nodes.sources",
            "capture_nodes.recording",
            "capture_nodes.simulation",
            "retargeting",
        },
    }[part]
    wrong = []
    for name in sorted(imported):
        top = name.split(".")[0]
        if part in PURE and (top in ROS_PACKAGES or top.endswith(("_msgs", "_srvs"))):
            wrong.append(f"{module} imports {name}: {part} is pure and never touches ROS")
        if top not in ("retargeting", "capture_nodes", "episodes"):
            continue
        shared = any(name == s or name.startswith(f"{s}.") for s in SHARED) or name == "capture_nodes"
        if part_of(name) not in allowed and not (shared and part.startswith("capture_nodes")):
            wrong.append(f"{module} imports {name}: {part} may import {', '.join(sorted(allowed))}")
    return wrong


@pytest.mark.parametrize(
    ("module", "path"), modules(), ids=lambda value: value if isinstance(value, str) else ""
)
def test_imports_follow_the_arrows(module: str, path: Path) -> None:
    assert wrong_arrows(module, imports_of(path, module)) == []


@pytest.mark.parametrize(
    ("module", "imported"),
    [
        ("retargeting.solver", "rclpy.node"),
        ("retargeting.solver", "sensor_msgs.msg"),
        ("retargeting.solver", "capture_nodes.errors"),
        ("episodes.info", "capture_nodes.recording.mcap_file"),
        ("capture_nodes.sources.bvh", "capture_nodes.simulation.scene"),
        ("capture_nodes.sources.bvh", "capture_nodes.headset_node"),
        ("capture_nodes.recording.mcap_file", "diagnostic_msgs.msg"),
        ("capture_nodes.station", "episodes.cli"),
    ],
)
def test_a_wrong_arrow_is_found(module: str, imported: str) -> None:
    assert wrong_arrows(module, {imported})


def test_the_plan_needs_no_ros() -> None:
    """Launch files and `station --help` import the plan before any ROS is set up."""
    seen: set[str] = set()
    waiting = ["capture_nodes.station"]
    paths = dict(modules())
    while waiting:
        module = waiting.pop()
        if module in seen or module not in paths:
            continue
        seen.add(module)
        tree = ast.parse(paths[module].read_text(encoding="utf-8"))
        for node in tree.body:
            if isinstance(node, ast.ImportFrom) and node.module:
                assert node.module.split(".")[0] not in ROS_PACKAGES, f"{module} imports {node.module}"
                waiting.append(node.module)
    assert "capture_nodes.sources.registry" in seen


@pytest.mark.parametrize("name", ["station.yaml", "recorder.yaml", "scene.yaml", "mapping.yaml"])
def test_every_configuration_key_is_documented_in_place(name: str) -> None:
    """Each top-level key has a comment: in the block above it, behind it, or within it."""
    lines = (ROOT / "config" / name).read_text(encoding="utf-8").splitlines()
    undocumented: list[str] = []
    above = False
    for line in lines:
        if line.startswith("#"):
            above = above or not set(line) <= set("# -")
        elif not line.strip():
            above = False
        elif line[0].isalpha():
            if not above and "#" not in line:
                undocumented.append(line)
        elif "#" in line and undocumented and undocumented[-1].endswith(":"):
            undocumented.pop()
    assert undocumented == []


def test_the_readme_names_every_configuration_file() -> None:
    texts = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    text = "\n".join(path.read_text(encoding="utf-8") for path in texts if path.is_file())
    missing = [path.name for path in sorted((ROOT / "config").iterdir()) if path.name not in text]
    assert missing == []


def test_the_readme_names_every_entry_point_for_users() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8") if (ROOT / "README.md").is_file() else ""
    missing = [
        word for word in ("make demo", "make test", "station robot:=", "episodes info") if word not in text
    ]
    assert missing == []
