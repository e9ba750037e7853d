"""Similarity transforms between point sets: translation, rotation and scale, never a reflection.

Closed form of Umeyama (IEEE TPAMI 13(4), 1991) with one weight a point, and the generalised Procrustes alignment of
Gower (Psychometrika 40, 1975) built on it. Points are rows, ``d`` is 2 or 3, units are whatever the caller uses as
long as they are the same along every axis.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Similarity:
    """``x -> scale * rotation @ x + translation``."""

    scale: float
    rotation: np.ndarray
    translation: np.ndarray

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., d) carried into the target space."""
        return self.scale * points @ self.rotation.T + self.translation

    def undo(self, points: np.ndarray) -> np.ndarray:
        """Points (..., d) of the target space carried back."""
        return (points - self.translation) @ self.rotation / self.scale

    def apply_covariance(self, covariance: np.ndarray) -> np.ndarray:
        """Covariances (..., d, d) carried into the target space."""
        return self.scale**2 * self.rotation @ covariance @ self.rotation.T

    def undo_covariance(self, covariance: np.ndarray) -> np.ndarray:
        """Covariances (..., d, d) of the target space carried back."""
        return self.rotation.T @ covariance @ self.rotation / self.scale**2


def fit_similarity(source: np.ndarray, target: np.ndarray, weights: np.ndarray | None = None) -> Similarity:
    """The similarity that minimises the weighted sum of ``|target - T(source)|^2`` (Umeyama 1991, eq. 40-42).

    Args:
        source, target: (n, d) points, n >= d.
        weights: (n,) non-negative, not all zero; equal when missing.
    Raises:
        ValueError: the source or the target points all coincide, so that no scale or rotation exists.
    """
    weights = np.ones(len(source)) if weights is None else np.asarray(weights, dtype=float)
    weights = weights / weights.sum()
    source_centre, target_centre = weights @ source, weights @ target
    source_centred, target_centred = source - source_centre, target - target_centre
    left, singular, right = np.linalg.svd((target_centred * weights[:, None]).T @ source_centred)
    signs = np.ones(source.shape[1])
    signs[-1] = 1.0 if np.linalg.det(left) * np.linalg.det(right) > 0 else -1.0
    rotation = (left * signs) @ right
    scale = float(singular @ signs) / max(float(weights @ (source_centred**2).sum(axis=1)), 1e-300)
    if not (np.isfinite(scale) and scale > 0):
        raise ValueError("The points coincide, so that they have neither scale nor rotation.")
    return Similarity(scale, rotation, target_centre - scale * rotation @ source_centre)


def normalised(shape: np.ndarray) -> np.ndarray:
    """The shape(s) (..., n, d) with their centroid at zero and a root-mean-square radius of one."""
    centred = shape - shape.mean(axis=-2, keepdims=True)
    radius = np.sqrt((centred**2).sum(axis=(-2, -1), keepdims=True) / shape.shape[-2])
    if not np.all(radius > 0):
        raise ValueError("A shape whose points all coincide has no size.")
    return centred / radius


def generalised_procrustes(shapes: np.ndarray, iterations: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Mean shape and the shapes in its pose.

    Every shape is carried back by the similarity that takes the mean to it with the least squares, so that its
    difference from the mean is orthogonal to translation, rotation and scale at the mean (see `pose_directions`).

    Args:
        shapes: (m, n, d).
    Returns:
        mean (n, d), centred, root-mean-square radius one; aligned shapes (m, n, d).
    """
    mean = normalised(normalised(shapes).mean(axis=0))
    for _ in range(iterations):
        aligned = np.stack([fit_similarity(mean, shape).undo(shape) for shape in shapes])
        average = normalised(aligned.mean(axis=0))
        # The average has no orientation of its own; without this the mean would creep from round to round.
        average = average @ fit_similarity(average, mean).rotation.T
        change = np.abs(average - mean).max()
        mean = average
        if change < 1e-9:
            break
    return mean, np.stack([fit_similarity(mean, shape).undo(shape) for shape in shapes])


def pose_directions(shape: np.ndarray) -> np.ndarray:
    """Orthonormal basis (n * d, k) of what an infinitesimal similarity does to a centred shape.

    ``k = d + d (d - 1) / 2 + 1``: translations, rotations, scale. Coordinates are point by point (x0, y0, x1, y1, ...).
    """
    count, dims = shape.shape
    columns = [np.tile(axis, count) for axis in np.eye(dims)]
    for first in range(dims):
        for second in range(first + 1, dims):
            generator = np.zeros((dims, dims))
            generator[first, second], generator[second, first] = -1.0, 1.0
            columns.append((shape @ generator.T).ravel())
    columns.append(shape.ravel())
    basis, _ = np.linalg.qr(np.stack(columns, axis=1))
    return basis
