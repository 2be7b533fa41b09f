"""Setting up a machine: what is missing is told or installed, pins are complete, nothing is done twice."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def prepare() -> ModuleType:
    specification = importlib.util.spec_from_file_location("prepare", ROOT / "setup" / "prepare.py")
    assert specification is not None and specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def test_a_missing_library_names_its_package(prepare: ModuleType) -> None:
    assert prepare.missing_system_packages(load=lambda name: True) == []
    absent = {"libGL.so.1", "libOpenGL.so.0"}
    assert prepare.missing_system_packages(load=lambda name: name not in absent) == ["libgl1", "libopengl0"]
    # Another vendor's EGL is as good as Mesa's.
    assert prepare.missing_system_packages(load=lambda name: name != "libEGL_mesa.so.0") == []


def test_the_tests_name_what_they_compile_with(prepare: ModuleType) -> None:
    assert prepare.missing_test_packages(lambda name: True) == []
    assert prepare.missing_test_packages(lambda name: name == "cc") == ["libopenxr-dev", "chromium"]
    assert prepare.missing_test_packages(lambda name: "/" in name) == ["gcc", "libc6-dev", "chromium"]


def test_without_root_the_exact_line_is_printed(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.os, "geteuid", lambda: 1000)
    monkeypatch.setattr(prepare.shutil, "which", lambda name: f"/usr/bin/{name}")
    with pytest.raises(prepare.CannotPrepare) as caught:
        prepare.install_system_packages(["libegl1", "libgl1"])
    assert "\n    sudo apt-get install --no-install-recommends libegl1 libgl1\n" in str(caught.value)


def test_without_apt_the_packages_are_named(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prepare.shutil, "which", lambda name: None)
    with pytest.raises(prepare.CannotPrepare, match="libegl1"):
        prepare.install_system_packages(["libegl1"])


def test_a_python_without_wheels_is_refused(prepare: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare.check_python()
    monkeypatch.setattr(prepare, "NEWEST", (3, 9))
    with pytest.raises(prepare.CannotPrepare, match="make PYTHON="):
        prepare.check_python()


def test_missing_venv_module_is_a_debian_package(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prepare.importlib.util, "find_spec", lambda name: None)
    assert prepare.venv_packages() == [f"python3.{sys.version_info.minor}-venv"]


def test_a_prepared_environment_is_left_alone(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").touch()
    monkeypatch.setattr(prepare, "VENV", tmp_path)
    monkeypatch.setattr(prepare, "installed_groups", lambda: {g: prepare.fingerprint(g) for g in ("demo",)})
    monkeypatch.setattr(prepare.subprocess, "run", lambda *a, **k: pytest.fail(f"set-up work was done: {a}"))
    prepare.prepare("demo")


def test_a_venv_of_another_python_is_made_anew(
    prepare: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """`make PYTHON=python3.12` where .venv works, but with another Python: nothing of the old one counts."""
    venv = tmp_path / ".venv"
    python = venv / "bin" / "python"
    venv_version = "3 9"
    commands: list[list[str]] = []

    def run(command: list[object], **_: object) -> subprocess.CompletedProcess[str]:
        nonlocal venv_version
        words = [str(word) for word in command]
        commands.append(words)
        if words[1:3] == ["-m", "venv"]:
            (venv / "prepared.json").unlink()
            venv_version = f"{sys.version_info.major} {sys.version_info.minor}"
        return subprocess.CompletedProcess(words, 0, f"{venv_version}\n", "")

    python.parent.mkdir(parents=True)
    python.touch()
    monkeypatch.setattr(prepare, "VENV", venv)
    monkeypatch.setattr(prepare, "install_system_packages", lambda packages: None)
    # The group `robots` was installed by the Python asked for, before the other one made .venv anew.
    done = {"demo": "by the other Python", "robots": prepare.fingerprint("robots")}
    (venv / "prepared.json").write_text(json.dumps(done))
    monkeypatch.setattr(prepare.subprocess, "run", run)
    folders = [tmp_path / "node_readers", tmp_path / "web"]
    for folder in folders:
        folder.mkdir()
        (folder / "package-lock.json").touch()
    monkeypatch.setattr(prepare, "NODE_FOLDERS", folders)
    prepare.prepare("test")
    for folder in folders:
        assert any(words[-2:] == ["--prefix", str(folder)] and "ci" in words for words in commands)
        (folder / "node_modules").mkdir()
    assert [sys.executable, "-m", "venv", "--clear", str(venv)] in commands
    installed = [Path(words[-1]).stem for words in commands if "-r" in words]
    assert installed == ["demo", "robots", "openxr", "test"]
    commands.clear()
    prepare.prepare("test")
    assert commands == []
    # The same Python again, with other pins: nothing is made anew.
    (venv / "prepared.json").write_text("{}")
    prepare.prepare("demo")
    assert not any("venv" in words for words in commands)


def test_pins_are_exact_and_sizes_are_kept(prepare: ModuleType) -> None:
    for group in ("demo", "robots", "openxr", "test", "readers", "benchmark"):
        lines = (ROOT / "requirements" / f"{group}.txt").read_text().splitlines()
        pins = [line for line in lines if line and not line.startswith("#")]
        assert pins and all(
            re.match(r"^[a-z0-9-]+==[^\s;]+( ; python_version [<>=]+ \"3\.11\")?$", p) for p in pins
        )
        assert int(prepare.download_mb(group)) > 0


def test_the_makefile_prepares_before_it_runs() -> None:
    result = subprocess.run(["make", "-n", "demo"], cwd=ROOT, capture_output=True, text=True, check=True)
    first, second = result.stdout.split("prepare.py demo")[0:2]
    assert "station" not in first and "capture_nodes.station" in second


def test_package_xml_names_what_the_code_imports() -> None:
    root = ElementTree.parse(ROOT / "package.xml").getroot()
    assert root.get("format") == "3"
    named = {element.text for element in root.iter() if element.tag.endswith("depend")}
    imported: set[str] = set()
    for folder in ("retargeting", "capture_nodes", "episodes"):
        for path in (ROOT / folder).rglob("*.py"):
            imported |= set(
                re.findall(r"^\s*(?:from|import) (\w+_msgs|std_srvs|rclpy)\b", path.read_text(), re.M)
            )
    imported -= {"tf2_msgs"}
    assert imported <= named


def test_every_entry_point_is_there() -> None:
    text = (ROOT / "setup.py").read_text()
    entries = dict(re.findall(r'"(\w+) = ([\w.]+):main"', text))
    assert set(entries) == {
        "headset_node",
        "retargeting_node",
        "simulated_robot_node",
        "simulated_cameras_node",
        "recorder_node",
        "session_node",
        "station",
        "episodes",
        "onboard",
    }
    for module in entries.values():
        path = ROOT / Path(*module.split(".")).with_suffix(".py")
        assert "def main(" in path.read_text()
