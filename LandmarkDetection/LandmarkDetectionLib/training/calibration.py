"""Calibration: what the heatmaps of films kept out of training say about errors, against the errors that were seen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import chi2
from torch import Tensor

from ..heatmaps import covariance, expected_radial_error, local_expectation, spatial_cross_entropy
from ..priors import ErrorModel

ERRONEOUS = 0.1
"""A landmark counts as wrong when it is off by more than this share of the centroid size (2.5 mm on a usual knee)."""


REGION = 0.95
"""The ellipses of this probability hold that share of the films calibrated on."""

REFUSAL_MARGIN = 1.8
"""A film is refused when its mean expected error is this many times the largest among the films calibrated on."""


@dataclass(frozen=True)
class Evidence:
    """Heatmaps of films that the network did not learn from, with the truth.

    ``logits`` (N, K, h, w); ``truth`` (N, K, 2) in cells; ``share`` (N,), length of a cell as a share of the centroid
    size. Landmarks whose truth is NaN do not count.
    """

    logits: Tensor
    truth: Tensor
    share: Tensor

    def errors(self) -> Tensor:
        """Radial errors ``(N, K)`` as shares of the centroid size."""
        return (local_expectation(self.logits) - self.truth).norm(dim=-1) * self.share[:, None]

    def error_model(self) -> ErrorModel:
        """How the errors go together; films with an unknown landmark do not count."""
        apart = (local_expectation(self.logits) - self.truth).double().numpy()
        whole = np.isfinite(apart).all(axis=(1, 2))
        return ErrorModel.fit(apart[whole], 1 / self.share[whole].double().numpy())

    def expected_errors(self, temperature: float) -> Tensor:
        """Expected radial errors ``(N, K)`` by the heatmaps, in the same unit."""
        found = local_expectation(self.logits)
        return expected_radial_error(self.logits, found, temperature=temperature) * self.share[:, None]


def fit_temperature(evidence: Evidence) -> float:
    """The temperature under which the truth is likeliest (Guo et al. 2017, for heatmaps); one for all landmarks."""

    def cost(logarithm: float) -> float:
        return float(spatial_cross_entropy(evidence.logits / float(np.exp(logarithm)), evidence.truth))

    return float(np.exp(minimize_scalar(cost, bounds=(-1.5, 1.5), method="bounded").x))


def threshold_at(expected: np.ndarray, wrong: np.ndarray, sensitivity: float = 0.5) -> float:
    """The highest expected error that still flags a share ``sensitivity`` of the wrong landmarks (CHH, section 2.3)."""
    if not wrong.any():
        return float(expected.max())
    return float(np.quantile(expected[wrong], 1 - sensitivity))


def fit(evidence: Evidence) -> dict[str, float]:
    """The values of a `Calibration` that heatmaps decide."""
    known = torch.isfinite(evidence.truth).all(dim=-1)
    temperature = fit_temperature(evidence)
    found = local_expectation(evidence.logits)
    spread = covariance(evidence.logits, found, temperature=temperature)[known]
    apart = (found - evidence.truth)[known]
    distances = torch.einsum("ni,nij,nj->n", apart, torch.linalg.inv(spread), apart).double().numpy()
    expected = evidence.expected_errors(temperature)[known].double().numpy()
    errors = evidence.errors()[known].double().numpy()
    scale = float(errors.mean() / expected.mean())
    return {
        "temperature": temperature,
        "error_scale": scale,
        "covariance_scale": float(np.quantile(distances, REGION) / chi2.ppf(REGION, apart.shape[1])),
        "review_threshold": threshold_at(scale * expected, errors > ERRONEOUS),
        "refusal_threshold": REFUSAL_MARGIN * float((scale * evidence.expected_errors(temperature)).mean(dim=1).max()),
    }
