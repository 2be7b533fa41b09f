"""A node that is given arguments it cannot use: one clear line per problem and exit code 2."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 60


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["-p", "goal_m:=3"], "parameter goal_m: 3 is given, a list such as [1.0, 2.0] is expected"),
        (["-p", "goal_m:=here"], "parameter goal_m: 'here' is given, a list"),
        (["-p", "seed:=[1, 2]"], "parameter seed: [1, 2] is given, a whole number is expected"),
        (
            ["-p", "source"],
            "ROS cannot start with these arguments: Couldn't parse parameter override rule: '-p source'",
        ),
        (
            ["-r", "__node:=a-b"],
            "ROS cannot start with these arguments: Couldn't parse remap rule: '-r __node:=a-b'",
        ),
        (["--nonsense"], "ROS cannot start with these arguments: ['--nonsense']"),
        (
            ["--params-file", "/nowhere.yaml"],
            "ROS cannot start with these arguments: Couldn't parse params file",
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_unusable_arguments_are_told_in_one_line(arguments: list[str], expected: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "capture_nodes.headset_node", "--ros-args", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert "Traceback" not in ended.stderr
    # Besides what rcl logs by itself.
    (line,) = [line for line in ended.stderr.splitlines() if not line.startswith("[ERROR]")]
    assert line.startswith("headset_node: error: ") and expected in line and "/project/" not in line
