"""A shape of which an image shows a part: how large the whole is, how plausible, and whether it is seen in a mirror."""

from __future__ import annotations

import numpy as np

from ..geometry import Frame
from ..preprocessing.crop import centroid_size
from ..priors import ShapePrior
from ..priors.procrustes import fit_similarity


def is_left_handed(frame: Frame) -> bool:
    """Whether the axes of a volume are a mirror image of LPS; never those of a film, which has no depth."""
    return frame.dims == 3 and bool(np.linalg.det(frame.steps) < 0)


def shape_size(points: np.ndarray, prior: ShapePrior) -> float:
    """Centroid size of a shape, the measure of errors that no image of a larger person and no smaller pixel changes.

    A film shows all of its anatomy or nearly so. A volume may show two vertebrae or all of them, and errors are not
    smaller where more is shown: there it is the size of the whole shape, told by the part that is known.

    Args:
        points: (n, d) isotropic, NaN where unknown. prior: in the same orientation.
    Returns:
        In the unit of the points; NaN where nothing is known.
    """
    known = np.isfinite(points).all(axis=1)
    if not known.any():
        return np.nan
    if points.shape[1] == 2 or known.sum() < 3 or not np.ptp(points[known], axis=0).max() > 0:
        return centroid_size(points)
    return fit_similarity(prior.mean[known], points[known]).scale


def plausibility_of_seen(points: np.ndarray, prior: ShapePrior) -> float:
    """Plausibility (see `ShapePrior.plausibility`) of points (n, d), NaN where absent.

    In a volume, which need not show all, what is absent lies where the rest puts it; in a film a point that is missing
    makes the shape implausible.
    """
    known = np.isfinite(points).all(axis=1)
    if known.all():
        return prior.plausibility(points)
    if points.shape[1] == 2 or known.sum() < 3 or not np.ptp(points[known], axis=0).max() > 0:
        return 0.0
    covariances = np.broadcast_to(np.eye(points.shape[1]), (len(points), points.shape[1], points.shape[1]))
    return prior.plausibility(prior.posterior(points, covariances, known, points).positions)
