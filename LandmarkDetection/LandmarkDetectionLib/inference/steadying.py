"""Points of one image moved to where their heatmaps and the shape prior together have them."""

from __future__ import annotations

import numpy as np

from ..preprocessing.crop import centroid_size
from ..priors import ErrorModel, ShapePrior
from ..priors.gaussian import expected_radius
from ..priors.solve import diagonal_blocks

_UNUSUAL = 2.0  # times the usual expected error, from which on a point counts for less


def steadied(
    positions: np.ndarray,
    expected: np.ndarray,
    spacing: np.ndarray,
    prior: ShapePrior,
    errors: ErrorModel | None,
    scatter: float,
) -> np.ndarray:
    """Mean of the shape posterior of all points, (n, d) index coordinates.

    Each point is an observation with the covariance that its errors had on images kept out, not with that of its own
    heatmap: one that is sharp by chance would pull all others. Only a point that is expected to be off by far more
    than it usually is, as beyond the edge of a film, counts for less. Part of these errors are those of the whole, of
    which no shape can tell.

    Args:
        positions: (n, d) index coordinates; returned as they are where one is unknown.
        expected: (n,) expected errors in index units.
        spacing: (d,) of the image.
        prior, errors: in the orientation of the image; without errors nothing moves.
        scatter: share of the errors' covariance that counts, see `Calibration.scatter`; 0 moves nothing.
    """
    if errors is None or not scatter or not np.isfinite(positions).all():
        return positions
    places, unit = positions * spacing, np.sqrt(np.mean(spacing**2))
    usual = centroid_size(places) ** 2 * diagonal_blocks(errors.covariance, len(spacing))
    unusual = np.maximum(1.0, expected * unit / expected_radius(usual) / _UNUSUAL) ** 2
    return prior.posterior(places, scatter * unusual[:, None, None] * usual).positions / spacing
