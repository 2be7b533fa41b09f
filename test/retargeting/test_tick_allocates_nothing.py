"""A tick runs in memory that was there before: none of it waits for an allocator."""

from __future__ import annotations

import numpy as np
import pytest
from numba.core.runtime import _nrt_python, rtsys

from retargeting.robot_model import RobotModel
from retargeting.solver import Solver, SolverParameters, SolverTargets

TICK_S = 0.005


@pytest.fixture(autouse=True)
def counted():
    _nrt_python.memsys_enable_stats()
    yield
    _nrt_python.memsys_disable_stats()


def allocations_of(work) -> int:
    before = rtsys.get_allocation_stats().alloc
    work()
    return int(rtsys.get_allocation_stats().alloc - before)


@pytest.mark.parametrize("self_collision", [False, True], ids=["plain", "self-collision"])
def test_nothing_is_allocated_from_tick_to_tick(kestrel: RobotModel, self_collision: bool) -> None:
    solver, m = Solver(kestrel, SolverParameters(self_collision=self_collision)), kestrel.body_count
    positions, rotations = solver.layout.site_poses(kestrel.neutral[:m].copy())
    targets = SolverTargets(positions, rotations, np.zeros((2, 3)))
    grippers = kestrel.neutral[m:].copy()
    solver.expect(targets, grippers)
    # numba notes down each array that it is given from outside; that is all there may be.
    arguments = len(targets) + 1

    def follow() -> None:
        solver.follow(targets, grippers, TICK_S)

    for k in range(60):
        # Fast to where the hands meet, and into each other with self-collision.
        positions[:2] += 0.02 * (positions[:2].mean(axis=0) - positions[:2]) + [0.001 * np.sin(k), 0.0, 0.002]
        assert allocations_of(follow) == arguments
        assert k > 30 or allocations_of(lambda: solver.brake(TICK_S)) == 0


def test_what_is_allocated_is_counted() -> None:
    """Else the test above would say nothing."""
    from retargeting.box_qp import BoxQpWork, solve_box_qp

    def solve() -> None:
        work = BoxQpWork.of_size(3)
        solve_box_qp(np.eye(3), np.ones(3), -np.ones(3), np.ones(3), np.zeros(3), work)

    assert allocations_of(solve) > 0
