"""How long the first command takes: in a new process, with nothing compiled, then with numba's cache."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

_PROGRAM = """
import sys, time
from pathlib import Path
import numpy as np
begin = time.perf_counter()
from retargeting.robot_model import load_robot
from retargeting.solver import Solver, SolverTargets
model = load_robot(Path(sys.argv[1]))
solver = Solver(model)
solver.start_from(model.neutral)
positions, rotations = solver.layout.site_poses(model.neutral[: model.body_count].copy())
targets = SolverTargets(positions + 0.1, rotations, np.array([[0.0, 0.0, -1.0]] * 2))
solver.follow(targets, model.neutral[model.body_count :], 0.005)
print(time.perf_counter() - begin)
"""


def first_command_s(robot_yaml: Path) -> tuple[float, float]:
    """(compiling, from the cache), each with the imports. Raises `RuntimeError` where the program fails."""
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"NUMBA_CACHE_DIR": folder}
        times = []
        for _ in range(2):
            result = subprocess.run(
                [sys.executable, "-c", _PROGRAM, str(robot_yaml)],
                env=environment,
                capture_output=True,
                text=True,
                cwd=Path(__file__).resolve().parents[2],
            )
            if result.returncode != 0:
                raise RuntimeError(f"the first command of {robot_yaml} failed:\n{result.stderr[-1500:]}")
            times.append(float(result.stdout.split()[-1]))
    return times[0], times[1]
