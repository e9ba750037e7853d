"""Algebra on the matrices of a whole landmark set, by PyTorch where that is loaded, else by NumPy and SciPy.

NumPy's and SciPy's own threads go on spinning after every product or factorization of this size, and the networks of a
correction, which come next, then share the cores with them: three times slower on two cores. PyTorch has one pool of
threads for both. Without PyTorch there is no network to wait; a scene that was saved can still be corrected.
"""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
from scipy import linalg


def product(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """(a, b) times (b, c)."""
    torch = _loaded()
    return left @ right if torch is None else (_tensor(torch, left) @ _tensor(torch, right)).numpy()


def factor(matrix: np.ndarray) -> np.ndarray:
    """Lower Cholesky factor of a symmetric positive definite matrix.

    Raises:
        numpy.linalg.LinAlgError, torch.linalg.LinAlgError: it is not positive definite.
    """
    torch = _loaded()
    return np.linalg.cholesky(matrix) if torch is None else torch.linalg.cholesky(_tensor(torch, matrix)).numpy()


def solve(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What the inverse of the matrix with a Cholesky factor (n, n) makes of ``right``, (n,) or (n, m)."""
    torch = _loaded()
    if torch is None:
        return linalg.cho_solve((lower, True), right)
    columns = _tensor(torch, right).reshape(len(lower), -1)
    return torch.cholesky_solve(columns, _tensor(torch, lower)).numpy().reshape(np.shape(right))


def solve_triangular(lower: np.ndarray, right: np.ndarray) -> np.ndarray:
    """What the inverse of a lower triangular matrix (n, n) makes of ``right`` (n, m)."""
    torch = _loaded()
    if torch is None:
        return linalg.solve_triangular(lower, right, lower=True)
    return torch.linalg.solve_triangular(_tensor(torch, lower), _tensor(torch, right), upper=False).numpy()


def inverse(matrix: np.ndarray) -> np.ndarray:
    """Inverse of a symmetric positive definite matrix, symmetric to the last bit.

    Raises:
        numpy.linalg.LinAlgError, torch.linalg.LinAlgError: it is not positive definite.
    """
    found = solve(factor(matrix), np.eye(len(matrix))) if len(matrix) else np.asarray(matrix)
    return (found + found.T) / 2


def _loaded() -> ModuleType | None:
    """PyTorch, where something else has loaded it: that takes seconds, which a drag does not have."""
    if sys.modules.get("torch") is None:
        return None
    import torch  # waits where another thread is about to load it

    return torch


def _tensor(torch: ModuleType, values: np.ndarray):
    return torch.from_numpy(np.ascontiguousarray(values, dtype=float))
