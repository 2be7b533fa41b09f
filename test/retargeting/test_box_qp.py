"""The box QP against its optimality conditions and an independent solver."""

from __future__ import annotations

import daqp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from retargeting.box_qp import NOT_POSITIVE_DEFINITE, SOLVED, BoxQpWork, solve_box_qp


def problem(seed: int, size: int):
    rng = np.random.default_rng(seed)
    factor = rng.normal(size=(size + 2, size)) * rng.choice([0.1, 1.0, 10.0], size=size)
    hessian = factor.T @ factor + 1e-3 * np.eye(size)
    gradient = rng.normal(size=size) * rng.choice([0.1, 1.0, 100.0])
    low = -rng.uniform(0.0, 1.0, size) * rng.choice([0.0, 0.01, 1.0], size=size)
    high = rng.uniform(0.0, 1.0, size)
    return hessian, gradient, low, high


def solve(hessian, gradient, low, high, start=None):
    size = len(gradient)
    x = np.zeros(size) if start is None else start.copy()
    return x, solve_box_qp(hessian, gradient, low, high, x, BoxQpWork.of_size(size))


@settings(max_examples=200, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), size=st.integers(1, 24))
def test_the_minimum_keeps_the_optimality_conditions(seed, size):
    hessian, gradient, low, high = problem(seed, size)
    x, status = solve(hessian, gradient, low, high)
    assert status == SOLVED
    assert (x >= low).all() and (x <= high).all()
    slope = hessian @ x + gradient
    scale = np.abs(gradient).max() + np.abs(hessian).max()
    inside = (x > low) & (x < high)
    assert np.abs(slope[inside]).max(initial=0.0) < 1e-9 * scale
    assert (slope[(x == low) & (low < high)] > -1e-9 * scale).all()
    assert (slope[(x == high) & (low < high)] < 1e-9 * scale).all()


@settings(max_examples=100, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**31), size=st.integers(2, 20))
def test_daqp_gives_the_same_answer(seed, size):
    hessian, gradient, low, high = problem(seed, size)
    low = np.minimum(low, high - 1e-6)
    x, _ = solve(hessian, gradient, low, high)
    # daqp takes its constraints A x with bounds; without rows of A the bounds are those of x.
    expected, _, flag, _ = daqp.solve(
        hessian, gradient, np.zeros((0, size)), high.copy(), low.copy(), np.zeros(size, dtype=np.int32),
        primal_tol=1e-12, dual_tol=1e-12, eps_prox=0.0,
    )  # fmt: skip
    assert flag == 1
    np.testing.assert_allclose(x, expected, atol=1e-9)
    cost = 0.5 * x @ hessian @ x + gradient @ x
    assert cost <= 0.5 * expected @ hessian @ expected + gradient @ expected + 1e-9 * (1.0 + abs(cost))


def test_any_start_leads_to_the_same_minimum():
    hessian, gradient, low, high = problem(7, 12)
    expected, _ = solve(hessian, gradient, low, high)
    for start in (low, high, 100.0 * high, np.full(12, -5.0)):
        x, status = solve(hessian, gradient, low, high, start)
        assert status == SOLVED
        np.testing.assert_allclose(x, expected, atol=1e-9)


def test_a_hessian_that_is_not_positive_definite_is_reported():
    _, status = solve(np.zeros((2, 2)), np.ones(2), -np.ones(2), np.ones(2))
    assert status == NOT_POSITIVE_DEFINITE


@pytest.mark.parametrize("size", [1, 5])
def test_an_empty_interior_is_kept(size):
    x, status = solve(np.eye(size), np.ones(size), np.zeros(size), np.zeros(size))
    assert status == SOLVED
    assert (x == 0.0).all()
