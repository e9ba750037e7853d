"""Algebra on the matrices of a whole landmark set, by PyTorch.

NumPy's and SciPy's own threads go on spinning after every product or factorization of this size, and the networks of a
correction, which come next, then share the cores with them: three times slower on two cores. PyTorch has one pool of
threads for both.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(a, b) times (b, c)."""
    return (_tensor(left) @ _tensor(right)).numpy()


def factor(matrix: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a symmetric positive definite matrix.

    Raises:
        torch.linalg.LinAlgError: it is not positive definite.
    """
    return torch.linalg.cholesky(_tensor(matrix)).numpy()


def solve(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What the matrix with a Cholesky factor (n, n) takes to ``right``, (n,) or (n, m)."""
    columns = _tensor(right).reshape(len(lower), -1)
    return torch.cholesky_solve(columns, _tensor(lower)).numpy().reshape(np.shape(right))


def solve_triangular(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What a lower triangular matrix (n, n) takes to ``right`` (n, m)."""
    return torch.linalg.solve_triangular(_tensor(lower), _tensor(right), upper=False).numpy()


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix, symmetric to the last bit.

    Raises:
        torch.linalg.LinAlgError: it is not positive definite.
    """
    found = torch.cholesky_inverse(torch.linalg.cholesky(_tensor(matrix))).numpy()
    return (found + found.T) / 2


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(values, dtype=float))
