"""Points of one image moved to where their heatmaps and the shape prior together have them."""

from __future__ import annotations

import numpy as np

from ..preprocessing.crop import centroid_size
from ..priors import ErrorModel, ShapePrior
from ..priors.solve import diagonal_blocks


def steadied(
    positions: np.ndarray, spacing: np.ndarray, prior: ShapePrior, errors: ErrorModel | None, scatter: float
) -> np.ndarray:
    """Mean of the shape posterior of all points, (n, d) index coordinates.

    Each point is an observation with the covariance that its errors had on images kept out, not with that of its own
    heatmap: one that is sharp by chance would pull all others. Part of these errors are those of the whole, of which no
    shape can tell.

    Args:
        positions: (n, d) index coordinates; returned as they are where one is unknown.
        spacing: (d,) of the image.
        prior, errors: in the orientation of the image; without errors nothing moves.
        scatter: share of the errors' covariance that counts, see `Calibration.scatter`; 0 moves nothing.
    """
    if errors is None or not scatter or not np.isfinite(positions).all():
        return positions
    places = positions * spacing
    covariances = scatter * centroid_size(places) ** 2 * diagonal_blocks(errors.covariance, len(spacing))
    return prior.posterior(places, covariances).positions / spacing
