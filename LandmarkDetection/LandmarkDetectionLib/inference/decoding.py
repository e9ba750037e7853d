"""A landmark from its own heatmap and from what the other landmarks say about it.

The two are independent sources, so their probabilities multiply. What the others say is a Gaussian *message* that
contains everything but the landmark's own heatmap, which would otherwise count twice (the cavity distribution of
expectation propagation; Minka, UAI 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..geometry import Frame
from ..priors import Posterior
from ..priors.gaussian import expected_radius
from .detection import Heatmaps

_WINDOW = 3  # cells on either side of the mode over which the local expectation runs
_FINER = 4  # parts of a cell at which the product is evaluated near the mode
_PEAK_SHARE = 0.01  # cells below this share of the peak belong to the softmax's floor, not to the landmark


@dataclass(frozen=True, eq=False)
class Decoded:
    """position (d,), covariance (d, d) and expected radius (a length), in the unit of the message."""

    position: np.ndarray
    covariance: np.ndarray
    radius: float


def log_softmax(logits: np.ndarray) -> np.ndarray:
    """(n, ...) log-probabilities, each landmark over all of its cells."""
    flat = logits.reshape(len(logits), -1).astype(float)
    flat = flat - flat.max(axis=1, keepdims=True)
    return (flat - np.log(np.exp(flat).sum(axis=1, keepdims=True))).reshape(logits.shape)


class HeatmapGrid:
    """Heatmaps as log-probabilities over points of the image, in isotropic units (index times spacing).

    Args:
        heatmaps: of n landmarks.
        frame: of the image.
    """

    def __init__(self, heatmaps: Heatmaps, frame: Frame) -> None:
        affine = heatmaps.frame.index_map(frame)
        self.matrix = frame.spacing[:, None] * affine[:, :-1]
        self.offset = frame.spacing * affine[:, -1]
        self.size = np.asarray(heatmaps.frame.size)
        self.log_probabilities = log_softmax(heatmaps.logits)
        self.cells = np.stack(np.unravel_index(np.arange(self.size.prod()), self.size[::-1])[::-1], axis=1)
        self.points = self.cells @ self.matrix.T + self.offset
        self.cell_covariance = self.matrix @ self.matrix.T / 12

    def moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean (n, d) and covariance (n, d, d) of each heatmap without its floor, no smaller than that of one cell."""
        probabilities = np.exp(self.log_probabilities.reshape(len(self.log_probabilities), -1))
        probabilities[probabilities < _PEAK_SHARE * probabilities.max(axis=1, keepdims=True)] = 0
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        means = probabilities @ self.points
        apart = self.points - means[:, None]
        return means, np.einsum("nc,nci,ncj->nij", probabilities, apart, apart) + self.cell_covariance

    def decode(self, index: int, mean: np.ndarray, precision: np.ndarray) -> Decoded:
        """Landmark `index` under its heatmap times a Gaussian message.

        The mode of the product is found over all cells, the position is the expectation over a window around it in
        which the heatmap is interpolated, so that a message sharper than a cell is not rounded to it. A message from
        outside the grid meets no evidence and is taken as it is.

        Args:
            mean: (d,); precision: (d, d), may be singular where the others say nothing.
        """
        cell = np.linalg.solve(self.matrix, mean - self.offset)
        inside = ((cell >= -0.5) & (cell <= self.size - 0.5)).all()
        if not inside and np.linalg.eigvalsh(precision)[0] > 0:
            return _gaussian(mean, np.linalg.inv(precision))
        log_product = self.log_probabilities[index].ravel() + _log_gaussian(self.points, mean, precision)
        mode = self.cells[np.argmax(log_product)]
        near, near_weights = self._window(index, mode, mean, precision)
        position = near_weights @ near
        weights = np.exp(log_product - log_product.max())
        weights[weights < _PEAK_SHARE] = 0
        far = (weights > 0) & (np.abs(self.cells - mode) > _WINDOW).any(axis=1)
        share = 1.0 - weights[far].sum() / weights.sum()
        apart = np.concatenate([near, self.points[far]]) - position
        weights = np.concatenate([share * near_weights, weights[far] / weights.sum()])
        covariance = (apart * weights[:, None]).T @ apart + self.cell_covariance / _FINER**2
        return Decoded(position, covariance, float(weights @ np.linalg.norm(apart, axis=1)))

    def _window(self, index: int, mode: np.ndarray, mean: np.ndarray, precision: np.ndarray):
        """Points (c, d) and normalised product (c,) on a window of fine cells around a mode given in cells."""
        steps = np.arange(-_WINDOW * _FINER, _WINDOW * _FINER + 1) / _FINER
        axes = [(mode[k] + steps)[np.abs(mode[k] + steps - (size - 1) / 2) <= (size - 1) / 2]
                for k, size in enumerate(self.size)]  # fmt: skip
        values = self.log_probabilities[index]
        for axis, coordinates in enumerate(axes):
            values = _interpolated(values, coordinates, axis=values.ndim - 1 - axis)
        grid = np.stack(np.meshgrid(*axes[::-1], indexing="ij")[::-1], axis=-1).reshape(-1, len(mode))
        points = grid @ self.matrix.T + self.offset
        logarithm = values.ravel() + _log_gaussian(points, mean, precision)
        weights = np.exp(logarithm - logarithm.max())
        return points, weights / weights.sum()


def messages(posterior: Posterior, positions: np.ndarray, precisions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What all others say about each landmark: the posterior with the landmark's own observation divided out.

    Args:
        positions: (n, d) observations that entered the posterior; precisions: (n, d, d), zero where there is none.
    Returns:
        means (n, d) and precisions (n, d, d), before the scaling of the posterior; rows of fixed points mean nothing.
    """
    dims = positions.shape[1]
    covariances = posterior.covariances / posterior.scaling
    fixed = np.einsum("nii->n", covariances) <= 0
    marginal = np.linalg.inv(np.where(fixed[:, None, None], np.eye(dims), covariances))
    information = np.einsum("nij,nj->ni", marginal, posterior.positions)
    information -= np.einsum("nij,nj->ni", precisions, positions)
    eigenvalues, vectors = np.linalg.eigh(marginal - precisions)
    # In exact arithmetic the difference is positive definite; a sharp heatmap can leave nothing but rounding.
    floor = 1e-9 * np.linalg.eigvalsh(marginal)[:, -1:]
    precision = (vectors * np.maximum(eigenvalues, floor)[:, None, :]) @ vectors.swapaxes(1, 2)
    return np.linalg.solve(precision, information[..., None])[..., 0], precision


def _gaussian(mean: np.ndarray, covariance: np.ndarray) -> Decoded:
    return Decoded(mean, covariance, float(expected_radius(covariance)))


def _log_gaussian(points: np.ndarray, mean: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """(c,) log-density up to a constant."""
    apart = points - mean
    return -0.5 * ((apart @ precision) * apart).sum(axis=1)


def _interpolated(values: np.ndarray, coordinates: np.ndarray, axis: int) -> np.ndarray:
    """Linear interpolation of `values` along `axis` at cell coordinates inside the grid."""
    lower = np.minimum(coordinates.astype(int), max(values.shape[axis] - 2, 0))
    upper = np.minimum(lower + 1, values.shape[axis] - 1)
    share = (coordinates - lower).reshape([-1 if k == axis else 1 for k in range(values.ndim)])
    return np.take(values, lower, axis) * (1 - share) + np.take(values, upper, axis) * share
