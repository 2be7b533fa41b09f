"""Turn `requirements/*.in` into the pinned `requirements/*.txt` and measure what they download.

    python setup/lock_requirements.py --python 3.10=PATH --python 3.11=PATH [--measure]

The files are complete: `pip install --no-deps -r FILE` installs them without resolving anything,
which the pip of Debian 12 does not manage in ten minutes for the ROS wheels. Where the oldest
Python needs other versions than the rest, both are pinned with markers. Build-only packages that
the wheels name as run-time dependencies are left out (`NOT_NEEDED`).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

REQUIREMENTS = Path(__file__).resolve().parents[1] / "requirements"
GROUPS = ("demo", "robots", "openxr", "test", "readers", "benchmark")
# What only generates message code (empy has no wheel), and MuJoCo's browser viewer; unless an *.in names it.
NOT_NEEDED = frozenset({"empy", "mujoco-studio", "websockets"})
NOT_NEEDED_PREFIXES = ("ros-ament-cmake-",)


def resolve(python: str, files: list[Path], constraints: Path | None) -> dict[str, str]:
    """Versions of everything that `files` need on one Python."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [python, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed"]
        command += ["--report", str(report)]
        for file in files:
            command += ["-r", str(file)]
        if constraints is not None:
            command += ["-c", str(constraints)]
        subprocess.run(command, check=True)
        installed = json.loads(report.read_text())["install"]
    asked_for = {line.strip() for file in files for line in file.read_text().splitlines()}
    left_out = NOT_NEEDED - asked_for
    versions = {}
    for item in installed:
        name = item["metadata"]["name"].lower().replace("_", "-").replace(".", "-")
        if name not in left_out and not name.startswith(NOT_NEEDED_PREFIXES):
            versions[name] = item["metadata"]["version"]
    return versions


def pinned_lines(oldest: dict[str, str], rest: dict[str, str], split: str) -> list[str]:
    lines = []
    for name in sorted(oldest.keys() | rest.keys()):
        old, new = oldest.get(name), rest.get(name)
        if old == new:
            lines.append(f"{name}=={new}")
            continue
        if old is not None:
            lines.append(f'{name}=={old} ; python_version < "{split}"')
        if new is not None:
            lines.append(f'{name}=={new} ; python_version >= "{split}"')
    return lines


def download_mb(python: str, file: Path) -> int:
    """Megabytes that pip downloads for one file of pins, rounded up."""
    with tempfile.TemporaryDirectory() as folder:
        command = [python, "-m", "pip", "download", "--quiet", "--no-deps"]
        subprocess.run([*command, "--dest", folder, "-r", str(file)], check=True)
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
    return -(-size // 1_000_000)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--python",
        action="append",
        required=True,
        metavar="VERSION=PATH",
        help="the oldest one first, then one for the rest",
    )
    parser.add_argument("--constraints", type=Path, help="versions to keep on the newer Python (pip freeze)")
    parser.add_argument(
        "--measure", action="store_true", help="only measure the downloads of the pins there are"
    )
    arguments = parser.parse_args()
    pythons = dict(item.split("=", 1) for item in arguments.python)
    (_, oldest_path), (split, rest_path) = list(pythons.items())[:2]
    if not arguments.measure:
        known: set[str] = set()
        files: list[Path] = []
        for group in GROUPS:
            files.append(REQUIREMENTS / f"{group}.in")
            oldest = resolve(oldest_path, files, None)
            rest = resolve(rest_path, files, arguments.constraints)
            lines = [line for line in pinned_lines(oldest, rest, split) if line.split("==")[0] not in known]
            known |= oldest.keys() | rest.keys()
            header = (
                f"# Made by `make lock` from {group}.in; install with --no-deps. Edit {group}.in instead."
            )
            (REQUIREMENTS / f"{group}.txt").write_text("\n".join([header, *lines, ""]))
            print(f"{group}.txt: {len(lines)} pins")
    sizes = {group: download_mb(rest_path, REQUIREMENTS / f"{group}.txt") for group in GROUPS}
    text = "".join(f"{group} {size}\n" for group, size in sizes.items())
    (REQUIREMENTS / "download_mb.txt").write_text(text)
    print(text, end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
