"""Expected errors: what a heatmap says of its own landmark, and what the other landmarks say of it."""

from __future__ import annotations

import numpy as np

from ..priors import ShapePrior
from .bundle import Calibration
from .shape_pose import shape_size


def bounded(said: np.ndarray, ceiling: np.ndarray | float) -> np.ndarray:
    """Expected errors that bend towards a ceiling, ``said / (1 + (said / ceiling)^4)^(1/4)``; both in one unit.

    However flat a heatmap, a landmark is not far: it is in the window that an earlier stage or its neighbors chose.
    """
    return said / (1 + (said / ceiling) ** 4) ** 0.25


def combined(
    said: np.ndarray,
    strange: np.ndarray,
    ceiling: np.ndarray | float,
    error_scale: np.ndarray | float,
    shape_scale: np.ndarray | float,
) -> np.ndarray:
    """Expected errors (..., n) from what heatmaps and other landmarks say, in the unit of both; see `Calibration`."""
    return np.hypot(error_scale * bounded(said, ceiling), shape_scale * np.nan_to_num(strange))


def expected_errors(
    said: np.ndarray,
    positions: np.ndarray,
    covariances: np.ndarray,
    spacing: np.ndarray,
    prior: ShapePrior,
    calibration: Calibration,
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated expected errors (n,) in index units; and the same without a ceiling.

    The latter are those of a film that may be of other anatomy, where no window is known to hold a landmark.
    A landmark that is where the others would not have it is likelier to be wrong, however sharp its heatmap.

    Args:
        said: (n,) expected errors in index units by the model itself, not calibrated.
        positions: (n, d) index coordinates, NaN where absent; covariances: (n, d, d) likewise.
        spacing: (d,) of the image.
        prior: in the orientation of the image.
    """
    unit = np.sqrt(np.mean(spacing**2))
    strange = prior.residuals(positions * spacing, covariances * np.outer(spacing, spacing)) / unit
    ceiling = calibration.error_ceiling
    if np.isfinite(ceiling):
        ceiling *= shape_size(positions * spacing, prior) / unit
    scales = np.asarray(calibration.error_scale), np.asarray(calibration.shape_scale)
    return combined(said, strange, ceiling, *scales), combined(said, strange, np.inf, *scales)
