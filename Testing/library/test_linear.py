"""Matrices of a landmark set, by PyTorch or without it: the numbers of SciPy, and arguments that stay as they were."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch
from LandmarkDetectionLib.priors.linear import _loaded, factor, inverse, product, solve, solve_triangular
from scipy import linalg


@pytest.fixture(params=["PyTorch", "NumPy"])
def backend(request, monkeypatch):
    """With PyTorch as it is here, and as on a machine that has none."""
    if request.param == "NumPy":
        monkeypatch.setitem(sys.modules, "torch", None)
    assert (_loaded() is None) == (request.param == "NumPy")


@pytest.fixture(params=[0, 1, 7, 136])
def matrices(request, backend):
    generator = np.random.default_rng(request.param)
    half = generator.normal(size=(request.param, 2 * request.param + 1))
    return half @ half.T, generator.normal(size=(request.param, 3))


def test_factor_and_solutions_are_those_of_scipy(matrices):
    matrix, right = matrices
    if len(matrix) == 0:
        return
    lower = factor(matrix)
    np.testing.assert_allclose(lower, linalg.cholesky(matrix, lower=True), atol=1e-9)
    np.testing.assert_allclose(solve(lower, right), linalg.solve(matrix, right, assume_a="pos"), atol=1e-8)
    np.testing.assert_allclose(solve(lower, right[:, 0]), linalg.solve(matrix, right[:, 0], assume_a="pos"), atol=1e-8)
    triangular = linalg.solve_triangular(lower, right, lower=True)
    np.testing.assert_allclose(solve_triangular(lower, right), triangular, atol=1e-8)


def test_inverse_is_symmetric_to_the_last_bit(matrices):
    matrix, right = matrices
    found = inverse(matrix)
    np.testing.assert_array_equal(found, found.T)
    np.testing.assert_allclose(product(found, matrix), np.eye(len(matrix)), atol=1e-7)


def test_arguments_may_be_views_and_are_not_changed(backend):
    matrix = np.arange(12.0).reshape(3, 4)
    before = matrix.copy()
    np.testing.assert_array_equal(product(matrix[::-1], matrix.T[:, ::2]), before[::-1] @ before.T[:, ::2])
    np.testing.assert_array_equal(matrix, before)


def test_a_matrix_that_is_not_positive_definite_is_an_error(backend):
    for broken in (factor, inverse):
        with pytest.raises((np.linalg.LinAlgError, torch.linalg.LinAlgError)):
            broken(np.diag([1.0, -1.0]))
