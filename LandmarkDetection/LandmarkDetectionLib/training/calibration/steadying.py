"""How much the shape prior is to steady the points of a model, decided on films kept out of its training."""

from __future__ import annotations

import numpy as np
import torch

from ...inference.steadying import steadied
from ...priors import ShapePrior
from ..data.films import subject_folds
from .figures import FOLDS, SEED
from .fitting import Evidence

SCATTERS = (0.0, 0.25, 0.5, 1.0)
"""Shares of the errors' covariance that are tried, see `Calibration.scatter`; few, since films are few."""


def best_scatter(evidence: Evidence, prior: ShapePrior) -> float:
    """The share with the least mean error, each fold steadied by the errors of the others; the smallest of equals.

    Args:
        evidence: raw points in cells of one grid, in the orientation of ``prior``.
    """
    folds = subject_folds(evidence.groups, min(FOLDS, len(set(evidence.groups))), SEED)
    uncalibrated = torch.ones(evidence.truth.shape[1])
    sums = dict.fromkeys(SCATTERS, 0.0)
    for fold in np.unique(folds):
        errors = evidence.select(np.flatnonzero(folds != fold)).error_model()
        kept_out = evidence.select(np.flatnonzero(folds == fold))
        truth, share = kept_out.truth.double().numpy(), kept_out.cell / kept_out.size
        seen = list(zip(kept_out.found.double().numpy(), kept_out.radii(uncalibrated), strict=True))
        for scatter in SCATTERS:
            moved = [steadied(points, radii, np.ones(2), prior, errors, scatter) for points, radii in seen]
            sums[scatter] += np.nansum(np.linalg.norm(np.stack(moved) - truth, axis=-1) * share[:, None])
    return min(SCATTERS, key=sums.get)
