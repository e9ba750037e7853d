"""How the errors of a model go together: what one landmark's error tells of the others'.

A model that puts one landmark too high usually puts its neighbors too high as well; heatmaps, one for each landmark, do
not say so. The covariance of the errors on images kept out of training does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from .gaussian import shrunk_covariance
from .linear import factor, product, solve

_EXACT = 1e-9  # of the mean variance, added where a matrix is solved with
_OWN = 12.0
"""Squared Mahalanobis distance beyond which an error is taken to be a point's own; 99 % of the errors of the knee model
on films kept out are smaller."""


@dataclass(frozen=True, eq=False)
class ErrorModel:
    """Covariance (n * d, n * d) of all errors, point by point, in units of the centroid size squared."""

    covariance: np.ndarray

    @classmethod
    def fit(cls, errors: np.ndarray, sizes: np.ndarray) -> ErrorModel:
        """From errors (m, n, d) on images kept out and the centroid sizes (m,) in the same unit; Ledoit-Wolf."""
        relative = errors / np.asarray(sizes)[:, None, None]
        return cls(shrunk_covariance(relative.reshape(len(relative), -1)))

    def mirrored(self, dims: int, axis: int = 0) -> ErrorModel:
        """The errors of the same model seen in a mirror across `axis`: the other side of the body."""
        signs = np.ones(dims)
        signs[axis] = -1.0
        flip = np.tile(signs, len(self.covariance) // dims)
        return ErrorModel(self.covariance * flip[:, None] * flip)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Arrays for a safetensors file, float64."""
        return {"covariance": np.ascontiguousarray(self.covariance)}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> ErrorModel:
        """The model that `to_tensors` described; KeyError names what is missing."""
        return cls(np.asarray(tensors["covariance"], dtype=float))


@dataclass(frozen=True, eq=False)
class Conditioned:
    """Errors after some of them became known.

    Attributes:
        shift: (n, d), what the others move by.
        joint: (n * d, n * d) covariance of what is left; zero where known.
        squared: Mahalanobis distance squared of what was learnt, and `count`, the number of its coordinates.
    """

    shift: np.ndarray
    joint: np.ndarray
    squared: float
    count: int


def condition(joint: np.ndarray, rows: np.ndarray, apart: np.ndarray, dims: int) -> Conditioned:
    """A zero-mean Gaussian over all points given that of some: ``V_ap V_pp^-1 apart``, ``V - V_ap V_pp^-1 V_pa``.

    A point that is farther off than its variance allows has an error of its own, of which the others have no share: its
    block of ``V_pp`` is enlarged until the distance is as great as it may be.

    Args:
        joint: V, (n * d, n * d).
        rows: (k,) points that are known.
        apart: (k, d) how far each lies from where it was expected.
    """
    known = (np.asarray(rows)[:, None] * dims + np.arange(dims)).ravel()
    block = joint[np.ix_(known, known)]
    block = block + _EXACT * np.trace(block) / max(len(known), 1) * np.eye(len(known))
    for k, offset in enumerate(np.asarray(apart)):
        at = np.ix_(*[range(k * dims, (k + 1) * dims)] * 2)
        own = joint[np.ix_(*[known[k * dims : (k + 1) * dims]] * 2)]
        distance = float(offset @ np.linalg.solve(own + _EXACT * np.trace(own) * np.eye(dims), offset))
        block[at] += max(distance / _OWN - 1.0, 0.0) * own
    lower = factor(block)
    gain = solve(lower, joint[known]).T
    shift = gain @ apart.ravel()
    left = joint - product(gain, joint[known])
    left = (left + left.T) / 2
    left[known], left[:, known] = 0.0, 0.0
    squared = float(apart.ravel() @ solve(lower, apart.ravel()))
    return Conditioned(shift.reshape(-1, dims), left, squared, len(known))
