"""The Gaussian algebra of the shape posterior, in the pose of the mean shape."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .linear import factor, inverse, solve

_UNKNOWN = 1e2  # a variance, in squared radii of the shape, that only an undetermined pose can have


@dataclass(frozen=True, eq=False)
class Posterior:
    """Landmark positions given observations, fixed points and the prior.

    Attributes:
        positions: (n, d), in the unit of the observations.
        joint: (n * d, n * d) covariance of all coordinates, point by point; zero for fixed points.
        scaling: factor, contained in `joint`, by which the user's points have inflated (> 1) or confirmed (< 1) it.
        distance: Mahalanobis distance of `positions` from the mean shape.
        limit: distance beyond which a shape is implausible.
    """

    positions: np.ndarray
    joint: np.ndarray
    scaling: float
    distance: float
    limit: float

    @property
    def covariances(self) -> np.ndarray:
        """(n, d, d) marginal covariance of every point."""
        return diagonal_blocks(self.joint, self.positions.shape[1])

    @property
    def plausibility(self) -> float:
        """1 for the mean shape, 0.5 at the limit, towards 0 beyond."""
        return 1.0 / (1.0 + (self.distance / self.limit) ** 2)

    @property
    def implausible(self) -> bool:
        """Whether the shape is beyond the limit."""
        return self.distance > self.limit


def diagonal_blocks(joint: np.ndarray, dims: int) -> np.ndarray:
    """(n, d, d) blocks on the diagonal of (n * d, n * d)."""
    count = len(joint) // dims
    return joint.reshape(count, dims, count, dims)[np.arange(count), :, np.arange(count), :]


def block_diagonal(blocks: np.ndarray) -> np.ndarray:
    """(n * d, n * d) with the blocks (n, d, d) on its diagonal."""
    count, dims = blocks.shape[:2]
    whole = np.zeros((count, dims, count, dims))
    whole[np.arange(count), :, np.arange(count), :] = blocks
    return whole.reshape(count * dims, count * dims)


@dataclass(frozen=True, eq=False)
class Linearised:
    """A Gaussian prior, independent Gaussian observations and exactly known points, in one linear problem.

    Attributes:
        precision, information: (n * d, n * d) and (n * d,) of prior times observations.
        known: (n * d,) bool, coordinates known exactly.
        placed: (n * d,) their values.
    """

    precision: np.ndarray
    information: np.ndarray
    known: np.ndarray
    placed: np.ndarray

    @classmethod
    def build(cls, mean, prior_precision, seen, seen_precision, fixed, placed) -> Linearised:
        """From mean (n, d), its precision, observations (n, d) with precisions (n, d, d), zero where there is none."""
        information = prior_precision @ mean.ravel() + np.einsum("nij,nj->ni", seen_precision, seen).ravel()
        precision = prior_precision + block_diagonal(seen_precision)
        return cls(precision, information, np.repeat(fixed, mean.shape[1]), placed.ravel())

    def mean(self) -> np.ndarray:
        """(n * d,) posterior mean, the known coordinates as they are."""
        values, free, known = self.placed.copy(), ~self.known, self.known
        if free.any():
            wanted = self.information[free] - self.precision[np.ix_(free, known)] @ self.placed[known]
            values[free] = solve(factor(self.precision[np.ix_(free, free)]), wanted)
        return values

    def covariance(self) -> np.ndarray:
        """(n * d, n * d) posterior covariance, zero where known."""
        covariance, free = np.zeros_like(self.precision), np.ix_(~self.known, ~self.known)
        covariance[free] = inverse(self.precision[free])
        return covariance

    def scaling(self, degrees_of_freedom: float) -> float:
        """``(v + D^2) / (v + p)`` of the known coordinates under the prediction made without them.

        Directions in which nothing was predicted, because the pose was open, count neither in ``D^2`` nor in ``p``.
        """
        known = self.known
        if not known.any():
            return 1.0
        unit = np.eye(len(known))[:, known]
        columns = solve(factor(self.precision), unit)
        innovation = self.placed[known] - columns.T @ self.information
        block = columns[known]
        variances, directions = np.linalg.eigh((block + block.T) / 2)
        predicted = (variances > 0) & (variances < _UNKNOWN)
        squared = ((directions.T @ innovation)[predicted] ** 2 / variances[predicted]).sum()
        return float((degrees_of_freedom + squared) / (degrees_of_freedom + predicted.sum()))


def rotated(joint: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """The joint covariance (n * d, n * d) with every point turned by the (d, d) rotation."""
    dims = len(rotation)
    half = (joint.reshape(-1, dims) @ rotation.T).reshape(joint.shape)
    return (half.T.reshape(-1, dims) @ rotation.T).reshape(joint.shape)
