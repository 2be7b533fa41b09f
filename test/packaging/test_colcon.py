"""`colcon build` and `colcon test` on the ROS wheels; the installed package works read-only, anywhere."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]
COPIED = (
    "package.xml",
    "setup.py",
    "setup.cfg",
    "pyproject.toml",
    "LICENSE",
    "resource",
    "launch",
    "config",
    "robot_descriptions",
    "retargeting",
    "capture_nodes",
    "episodes",
)
# A test selection that proves the runner works; the whole suite is what `make test` runs already.
TESTS = ("test/conftest.py", "test/station")

pytestmark = [
    pytest.mark.skipif(
        shutil.which("colcon", path=str(Path(sys.executable).parent)) is None,
        reason="colcon is not installed (requirements/test.txt)",
    ),
]


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a copy of the package, built once."""
    folder = tmp_path_factory.mktemp("workspace")
    package = folder / "src" / "teleop_capture"
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info", "*.nbi", "*.nbc")
    for name in (*COPIED, *TESTS):
        source, target = ROOT / name, package / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=ignored)
        else:
            shutil.copy(source, target)
    result = run(folder, "colcon", "build", "--event-handlers", "console_direct+")
    assert result.returncode == 0, result.stdout
    assert "1 package finished" in result.stdout
    return folder


def environment(**more: str) -> dict[str, str]:
    """Of the wheels, and of nothing in the checkout."""
    base = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    prefix = Path(sys.executable).parent
    return {**base, "PATH": f"{prefix}{os.pathsep}{base['PATH']}", "AMENT_PREFIX_PATH": sys.prefix, **more}


def run(folder: Path, *command: str, **more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(**more),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=600,
    )


def installed(workspace: Path) -> tuple[Path, dict[str, str]]:
    """The install folder, and the variables its setup script would set."""
    install = workspace / "install" / "teleop_capture"
    (packages,) = install.glob("lib/python3*/site-packages")
    variables = {
        "PYTHONPATH": str(packages),
        "AMENT_PREFIX_PATH": f"{install}{os.pathsep}{sys.prefix}",
    }
    return install, variables


def test_what_is_installed(workspace: Path) -> None:
    install, _ = installed(workspace)
    share = install / "share" / "teleop_capture"
    for name in ("package.xml", "launch/station.launch.py", "config/station.yaml", "config/fastdds.xml"):
        assert (share / name).is_file(), name
    robots = sorted(path.parent.name for path in share.glob("robot_descriptions/*/robot.yaml"))
    assert robots == sorted(path.parent.name for path in ROOT.glob("robot_descriptions/*/robot.yaml"))
    assert not list(share.rglob("__init__.py"))
    assert (install / "share/ament_index/resource_index/packages/teleop_capture").is_file()
    programs = {path.name for path in (install / "lib" / "teleop_capture").iterdir()}
    assert {"station", "episodes", "session_node", "recorder_node", "headset_node"} <= programs


def test_colcon_test_runs_the_tests(workspace: Path) -> None:
    result = run(
        workspace,
        "colcon",
        "test",
        "--event-handlers",
        "console_direct+",
        "--pytest-args",
        "-p",
        "no:cacheprovider",
    )
    assert result.returncode == 0, result.stdout
    (results,) = workspace.glob("build/teleop_capture/pytest.xml")
    suites = list(ElementTree.parse(results).getroot().iter("testsuite"))
    ran = sum(int(s.get("tests", 0)) - int(s.get("skipped", 0)) for s in suites)
    failed = sum(int(s.get("failures", 0)) + int(s.get("errors", 0)) for s in suites)
    assert failed == 0, result.stdout[-3000:]
    # colcon says nothing when it finds no test.
    assert ran >= 25


def test_the_installed_package_works_read_only_from_anywhere(workspace: Path, tmp_path: Path) -> None:
    install, variables = installed(workspace)
    shutil.move(workspace / "src", workspace / "src_hidden")
    changed = []
    for path in [install, *install.rglob("*")]:
        if not path.is_symlink():
            mode = path.stat().st_mode
            changed.append((path, mode))
            path.chmod(mode & ~(stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH))
    home = tmp_path / "home"
    home.mkdir()
    try:
        for command in (["station", "--help"], ["episodes", "--help"]):
            program = str(install / "lib" / "teleop_capture" / command[0])
            result = run(tmp_path, program, *command[1:], HOME=str(home), **variables)
            assert result.returncode == 0, result.stdout
            assert "usage" in result.stdout
        code = (
            "from capture_nodes.station import make_plan\n"
            "from retargeting.robot_model import load_robot\n"
            f"plan = make_plan(['root:={tmp_path}/episodes'])\n"
            "print(plan.robot_file)\nprint(load_robot(plan.robot_file).joint_names[0])\n"
        )
        result = run(tmp_path, sys.executable, "-c", code, HOME=str(home), **variables)
        assert result.returncode == 0, result.stdout
        assert str(install) in result.stdout
    finally:
        for path, mode in changed:
            path.chmod(mode)
        shutil.move(workspace / "src_hidden", workspace / "src")
