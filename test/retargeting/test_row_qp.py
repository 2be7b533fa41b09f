"""The QP with rows against its optimality conditions and an independent solver."""

from __future__ import annotations

import daqp
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.box_qp import NOT_POSITIVE_DEFINITE, SOLVED, BoxQpWork, solve_box_qp
from retargeting.compiled import compiled
from retargeting.row_qp import INFEASIBLE, RowQpWork
from retargeting.row_qp import solve_row_qp as inside

solve_row_qp = compiled(inside)


def problem(seed: int, size: int, count: int):
    """A random problem with a known feasible point `inside`, some rows exactly tight there."""
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size + 2, size)) * rng.choice([0.1, 1.0, 10.0], size=size)
    hessian = factor.T @ factor + 1e-3 * np.eye(size)
    gradient = rng.normal(size=size) * rng.choice([0.1, 1.0, 100.0])
    low = -rng.uniform(0.0, 1.0, size) * rng.choice([0.0, 0.01, 1.0], size=size)
    high = rng.uniform(1e-6, 1.0, size)
    inside = np.where(rng.random(size) < 0.3, rng.choice([0.0, 1.0], size), rng.random(size))
    inside = low + inside * (high - low)
    rows = rng.normal(size=(count, size)) * (rng.random((count, size)) < 0.6)
    if count > 2:
        rows[-1] = rows[0] * 1.0000001  # nearly the same row twice, as two capsules of a link make
    bounds = rows @ inside - rng.choice([0.0, 0.1], size=count)
    return hessian, gradient, low, high, rows, bounds, inside


def solve(hessian, gradient, low, high, rows, bounds):
    size = len(gradient)
    x = np.zeros(size)
    return x, solve_row_qp(
        hessian, gradient, low, high, rows, bounds, len(bounds), x, RowQpWork.of_size(size, len(bounds))
    )


@settings(max_examples=300, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 24), count=st.integers(1, 12))
def test_the_minimum_is_feasible_and_no_feasible_point_is_lower(seed, size, count):
    hessian, gradient, low, high, rows, bounds, inside = problem(seed, size, count)
    x, status = solve(hessian, gradient, low, high, rows, bounds)
    assert status == SOLVED
    assert (x >= low).all() and (x <= high).all()
    assert (rows @ x - bounds >= -1e-9 * (1.0 + np.linalg.norm(rows, axis=1))).all()
    # Convex: at the minimum no feasible point lies downhill.
    slope = hessian @ x + gradient
    scale = np.abs(gradient).max() + np.abs(hessian).max()
    rng = np.random.default_rng(seed + 1)
    for _ in range(20):
        other = np.clip(inside + rng.normal(size=size) * 0.05, low, high)
        point = other if (rows @ other >= bounds).all() else inside
        assert slope @ (point - x) >= -1e-8 * scale


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), size=st.integers(2, 20), count=st.integers(1, 8))
def test_daqp_gives_the_same_answer(seed, size, count):
    hessian, gradient, low, high, rows, bounds, _ = problem(seed, size, count)
    low = np.minimum(low, high - 1e-6)
    bounds = bounds - 1e-6  # daqp's own tolerance must not decide about feasibility
    x, status = solve(hessian, gradient, low, high, rows, bounds)
    assert status == SOLVED
    upper = np.concatenate([high, np.full(count, 1e30)])
    lower = np.concatenate([low, bounds])
    solution, _, flag, _ = daqp.solve(
        hessian, gradient, rows, upper, lower, np.zeros(size + count, dtype=np.int32),
        primal_tol=1e-12, dual_tol=1e-12,
    )  # fmt: skip
    assert flag == 1
    conditioning = np.linalg.cond(hessian)
    np.testing.assert_allclose(x, solution, atol=1e-9 * max(1.0, 1e-3 * conditioning))
    cost = 0.5 * x @ hessian @ x + gradient @ x
    expected = 0.5 * solution @ hessian @ solution + gradient @ solution
    np.testing.assert_allclose(cost, expected, rtol=1e-9, atol=1e-9)


def test_without_rows_it_is_the_box_problem():
    hessian, gradient, low, high, _, _, _ = problem(3, 9, 1)
    expected = np.zeros(9)
    solve_box_qp(hessian, gradient, low, high, expected, BoxQpWork.of_size(9))
    x, status = solve(hessian, gradient, low, high, np.zeros((0, 9)), np.zeros(0))
    assert status == SOLVED
    np.testing.assert_array_equal(x, expected)


def test_a_row_out_of_reach_is_reported():
    rows = np.array([[1.0, 0.0], [-1.0, 0.0]])
    _, status = solve(np.eye(2), np.zeros(2), -np.ones(2), np.ones(2), rows, np.array([0.5, -0.2]))
    assert status == INFEASIBLE
    _, status = solve(np.eye(2), np.zeros(2), -np.ones(2), np.ones(2), rows[:1], np.array([1.5]))
    assert status == INFEASIBLE


def test_a_hessian_that_is_not_positive_definite_is_reported():
    _, status = solve(np.zeros((2, 2)), np.ones(2), -np.ones(2), np.ones(2), np.ones((1, 2)), np.ones(1))
    assert status == NOT_POSITIVE_DEFINITE
