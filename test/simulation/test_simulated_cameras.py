"""The camera node where drawing fails: it ends and says why, whatever the graphics driver raised."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="rclpy is not installed")

ROOT = Path(__file__).resolve().parents[2]
DOMAIN = 61

PROGRAM = """
from capture_nodes import simulated_cameras_node
from capture_nodes.node_runtime import run_node

class BrokenRenderer:
    def __init__(self, *_):
        {failure}

simulated_cameras_node.choose_graphics = lambda: "egl"
simulated_cameras_node.CameraRenderer = BrokenRenderer
run_node(simulated_cameras_node.SimulatedCamerasNode)
"""


@pytest.mark.parametrize(
    ("failure", "expected"),
    [
        ("raise MemoryError('no buffer')", "error: the cameras cannot draw: MemoryError('no buffer')"),
        (
            "raise simulated_cameras_node.CaptureError('install libegl1')",
            "error: install libegl1",
        ),
    ],
)
def test_a_failure_to_draw_ends_the_node(failure: str, expected: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(failure=failure)],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONPATH": str(ROOT)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert ended.returncode == 2, ended.stderr
    assert expected in ended.stderr and "Traceback" not in ended.stderr
