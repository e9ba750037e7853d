"""Gaussian prior over the shape of a landmark set, and its posterior in an image.

Model. A shape in an image is ``T(mean + Q b)``: ``T`` any similarity (flat prior: position, orientation and size say
nothing), ``b ~ N(0, S)`` in the orthogonal complement ``Q`` of the pose directions at the mean (Dryden and Mardia,
Statistical Shape Analysis, 2016, sections 7.4 and 9). Heatmaps add ``z_i ~ N(x_i, C_i)``; points the user has fixed
are known exactly. Linearised at the current pose everything is Gaussian and the posterior is in closed form; three
rounds of linearising make it exact to first order in the deviation from the mean. All of it happens in the pose of the
mean, hence it commutes with every similarity of the image.

How far the fixed points lie from where model and heatmaps expected them, ``D^2`` in ``p`` coordinates, scales the
remaining covariance by ``(v + D^2) / (v + p)``. That is the conditional covariance of a multivariate Student t with
``v + 2`` degrees of freedom written in terms of its covariance (Ding, The American Statistician 70(3), 2016).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from .gaussian import shrunk_covariance, student_excess
from .linear import factor, inverse, product, solve_triangular
from .procrustes import Similarity, fit_similarity, generalised_procrustes, normalised, pose_directions
from .solve import Linearised, Posterior, block_diagonal, diagonal_blocks, rotated

_ROUNDS = 3
_FLAT = 1e-6  # precision of the pose in units of the shape's radius: a standard deviation of a thousand shapes
_FIXED_WEIGHT = 10.0  # of a fixed point in the first guess of the pose, against the surest of the free ones


@dataclass(frozen=True, eq=False)
class ShapePrior:
    """What shapes are likely, whatever their position, orientation and size. Reflections are different shapes.

    Attributes:
        mean: (n, d), centred, root-mean-square radius one.
        covariance: (n * d, n * d) around the mean in the same units, point by point (x0, y0, x1, y1, ...); what it says
            along the pose directions is ignored.
        degrees_of_freedom: of the Student t that describes the training shapes, less two; large means Gaussian.
        limit: Mahalanobis distance that all but a given share of shapes not used for training stay under.
    """

    mean: np.ndarray
    covariance: np.ndarray
    degrees_of_freedom: float
    limit: float

    def __post_init__(self) -> None:
        mean, covariance = np.asarray(self.mean, dtype=float), np.asarray(self.covariance, dtype=float)
        if mean.ndim != 2 or mean.shape[1] not in (2, 3) or covariance.shape != (mean.size, mean.size):
            raise ValueError(f"A mean {mean.shape} and a covariance {covariance.shape} do not make a shape prior.")
        if not (np.isfinite(mean).all() and np.isfinite(covariance).all()):
            raise ValueError("The mean or the covariance of the shape prior is not finite.")
        if not (np.isfinite(self.degrees_of_freedom) and self.degrees_of_freedom > 0 and self.limit > 0):
            raise ValueError("Degrees of freedom and limit of the shape prior must be positive.")
        object.__setattr__(self, "mean", mean)
        object.__setattr__(self, "covariance", covariance)

    @classmethod
    def fit(
        cls, shapes: np.ndarray, groups: Sequence | None = None, quantile: float = 0.995, folds: int = 10
    ) -> ShapePrior:
        """Learns the prior from complete shapes.

        Generalised Procrustes alignment, Ledoit-Wolf covariance of what is left. Degrees of freedom (maximum
        likelihood) and limit (empirical `quantile`) come from shapes held out fold by fold.

        Args:
            shapes: (m, n, d), m >= 3, any isotropic units, each in any pose but none mirrored.
            groups: (m,) subjects; those of one subject are held out together. Every shape its own when missing.
        Raises:
            ValueError: too few shapes or groups, or points that are not finite.
        """
        shapes = np.asarray(shapes, dtype=float)
        if shapes.ndim != 3 or len(shapes) < 3 or not np.isfinite(shapes).all():
            raise ValueError("A shape prior is learnt from three or more complete shapes, an array (m, n, d).")
        names, member = np.unique(np.arange(len(shapes)) if groups is None else np.asarray(groups), return_inverse=True)
        if len(names) < 3:
            raise ValueError("A shape prior is learnt from three or more subjects.")
        # The order of names may follow the disease or the centre, so folds take every k-th subject.
        fold = member % min(folds, len(names))
        distances = np.empty(len(shapes))
        for k in np.unique(fold):
            part = cls._estimate(shapes[fold != k])
            distances[fold == k] = [part.distance(shape) for shape in shapes[fold == k]]
        whole = cls._estimate(shapes)
        excess = student_excess(distances**2, whole._inverse_root.shape[0])
        return cls(whole.mean, whole.covariance, excess, float(np.quantile(distances, quantile)))

    @classmethod
    def _estimate(cls, shapes: np.ndarray) -> ShapePrior:
        """Mean and covariance; degrees of freedom and limit stay without meaning."""
        mean, aligned = generalised_procrustes(shapes)
        complement = _complement(mean)
        samples = (aligned - mean).reshape(len(shapes), -1) @ complement
        return cls(mean, complement @ shrunk_covariance(samples) @ complement.T, 1000.0, 1.0)

    def posterior(
        self,
        positions: np.ndarray,
        covariances: np.ndarray,
        fixed: np.ndarray | None = None,
        fixed_positions: np.ndarray | None = None,
    ) -> Posterior:
        """Where all points are, given what the heatmaps say and what the user has fixed.

        Args:
            positions: (n, d) observed positions in any isotropic unit; a row with NaN is not observed.
            covariances: (n, d, d) of the observations, in that unit squared; ignored where not observed.
            fixed: (n,) bool, points known exactly.
            fixed_positions: (n, d) where these are. When missing, `positions` holds them and fixed points have no
                observation of their own; when given, their own observation counts among what was expected of them.
        Returns:
            The posterior, same unit. Fixed points come back exactly; unobserved ones are filled in.
        Raises:
            ValueError: fewer than d points are observed or fixed, all of them coincide, a fixed one is not finite, a
                covariance is not positive definite, or the arrays do not match the prior.
        """
        positions, covariances, observed, fixed, placed = self._checked(positions, covariances, fixed, fixed_positions)
        pose = self._first_pose(positions, covariances, observed, fixed, placed)
        for _ in range(_ROUNDS):
            seen = np.where(observed[:, None], pose.undo(np.nan_to_num(positions)), 0.0)
            precision = np.zeros_like(covariances)
            precision[observed] = np.linalg.inv(pose.undo_covariance(covariances[observed]))
            problem = Linearised.build(self.mean, self._precision, seen, precision, fixed, pose.undo(placed))
            local, shape = pose, problem.mean().reshape(self.mean.shape)
            pose = fit_similarity(self.mean, local.apply(shape))
        found = local.apply(shape)
        found[fixed] = placed[fixed]
        scaling = problem.scaling(self.degrees_of_freedom)
        joint = scaling * local.scale**2 * rotated(problem.covariance(), local.rotation)
        return Posterior(found, joint, scaling, self.distance(found), self.limit)

    def _checked(self, positions, covariances, fixed, fixed_positions):
        """Arguments of `posterior` as arrays; ValueError where they do not fit together."""
        count, dims = self.mean.shape
        positions = np.array(positions, dtype=float)
        covariances = np.array(covariances, dtype=float)
        fixed = np.zeros(count, dtype=bool) if fixed is None else np.asarray(fixed, dtype=bool)
        placed = positions if fixed_positions is None else np.asarray(fixed_positions, dtype=float)
        if positions.shape != (count, dims) or placed.shape != (count, dims) or fixed.shape != (count,):
            raise ValueError(f"The shape prior is for {count} points in {dims} dimensions.")
        if covariances.shape != (count, dims, dims):
            raise ValueError(f"Covariances must be an array of ({count}, {dims}, {dims}).")
        if not np.isfinite(placed[fixed]).all():
            raise ValueError("A fixed point must have a finite position.")
        observed = np.isfinite(positions).all(axis=1)
        if fixed_positions is None:
            observed &= ~fixed
        used = covariances[observed]
        if not (np.isfinite(used).all() and (np.linalg.eigvalsh(used) > 0).all()):
            raise ValueError("An observed point must have a positive definite covariance.")
        return positions, covariances, observed, fixed, np.where(fixed[:, None], placed, 0.0)

    def _first_pose(self, positions, covariances, observed, fixed, placed) -> Similarity:
        """Weighted Procrustes pose: fixed points count most, then the observed ones by their covariance."""
        count, dims = self.mean.shape
        known = observed | fixed
        if known.sum() < dims:
            raise ValueError(f"At least {dims} points must be observed or fixed to place a shape, not {known.sum()}.")
        weights = np.zeros(count)
        weights[observed] = 1.0 / np.trace(covariances[observed], axis1=1, axis2=2)
        weights[fixed] = _FIXED_WEIGHT * weights[observed & ~fixed].max(initial=0.0) or 1.0
        points = np.where(fixed[:, None], placed, positions)
        return fit_similarity(self.mean[known], points[known], weights[known])

    def distance(self, positions: np.ndarray) -> float:
        """Mahalanobis distance of a complete shape (n, d) from the mean, whatever its pose."""
        positions = np.asarray(positions, dtype=float)
        shape = fit_similarity(self.mean, positions).undo(positions)
        return float(np.linalg.norm(self._inverse_root @ (shape - self.mean).ravel()))

    def residuals(self, positions: np.ndarray, covariances: np.ndarray) -> np.ndarray:
        """How far each point lies from where all others together put it, (n,) in the unit of the positions.

        Of a Gaussian with precision K of all that was observed, the residual left out one at a time is
        ``K_ii^-1 (K d)_i`` (Rasmussen and Williams 2006, equation 5.12, for blocks); the pose is as free as ever.

        Args:
            positions: (n, d) observed positions in any isotropic unit, NaN where there is none.
            covariances: (n, d, d) of the observations, in that unit squared.
        Returns:
            NaN where a point is not observed, or too few others are.
        """
        count, dims = self.mean.shape
        known = np.flatnonzero(np.isfinite(positions).all(axis=1) & np.isfinite(covariances).all(axis=(1, 2)))
        apart = np.full(count, np.nan)
        if len(known) <= dims:
            return apart
        pose = fit_similarity(self.mean[known], positions[known])
        rows = (known[:, None] * dims + np.arange(dims)).ravel()
        observed = pose.undo_covariance(covariances[known])
        precision = inverse(self._spread[np.ix_(rows, rows)] + block_diagonal(observed))
        offsets = (pose.undo(positions[known]) - self.mean[known]).ravel()
        left_out = np.linalg.solve(diagonal_blocks(precision, dims), (precision @ offsets).reshape(-1, dims, 1))
        apart[known] = pose.scale * np.linalg.norm(left_out[..., 0], axis=1)
        return apart

    def plausibility(self, positions: np.ndarray) -> float:
        """1 for the mean shape, 0.5 at the limit, towards 0 beyond; of a complete shape (n, d)."""
        return 1.0 / (1.0 + (self.distance(positions) / self.limit) ** 2)

    def mirrored(self, axis: int = 0) -> ShapePrior:
        """The prior of the same shapes seen in a mirror across `axis`: the other side of the body."""
        signs = np.ones(self.mean.shape[1])
        signs[axis] = -1.0
        flip = np.tile(signs, len(self.mean))
        covariance = self.covariance * flip[:, None] * flip
        return ShapePrior(self.mean * signs, covariance, self.degrees_of_freedom, self.limit)

    def to_tensors(self) -> dict[str, np.ndarray]:
        """Arrays for a safetensors file, float64."""
        return {
            "mean": np.ascontiguousarray(self.mean),
            "covariance": np.ascontiguousarray(self.covariance),
            "degrees_of_freedom": np.array([self.degrees_of_freedom], dtype=float),
            "limit": np.array([self.limit], dtype=float),
        }

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, np.ndarray]) -> ShapePrior:
        """The prior that `to_tensors` described; KeyError names what is missing."""
        return cls(
            np.asarray(tensors["mean"], dtype=float),
            np.asarray(tensors["covariance"], dtype=float),
            float(np.ravel(tensors["degrees_of_freedom"])[0]),
            float(np.ravel(tensors["limit"])[0]),
        )

    @cached_property
    def _inverse_root(self) -> np.ndarray:
        """(k, n * d): whitens the deviation from the mean, blind to the pose directions."""
        complement = _complement(self.mean)
        inner = product(product(complement.T, self.covariance), complement)
        return solve_triangular(factor(inner), complement.T)

    @cached_property
    def _spread(self) -> np.ndarray:
        """(n * d, n * d) covariance of the prior with a pose that may be any."""
        return inverse(self._precision)

    @cached_property
    def _precision(self) -> np.ndarray:
        """(n * d, n * d) precision of the prior, all but zero along the pose directions."""
        basis = pose_directions(normalised(self.mean))
        return product(self._inverse_root.T, self._inverse_root) + _FLAT * basis @ basis.T


def _complement(mean: np.ndarray) -> np.ndarray:
    """Orthonormal basis (n * d, k) of the directions that change the shape and not only its pose."""
    basis = pose_directions(mean)
    full, _ = np.linalg.qr(basis, mode="complete")
    return full[:, basis.shape[1] :]
