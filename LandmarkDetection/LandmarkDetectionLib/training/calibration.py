"""Calibration: what the heatmaps of films kept out of training say about errors, against the errors that were seen."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from scipy.stats import chi2
from torch import Tensor

from ..errors import LandmarkDetectionError
from ..heatmaps import covariance, expected_radial_error, index_to_cell, local_expectation, spatial_cross_entropy
from ..images import read_image
from ..inference.bundle import MODEL_FILE, Bundle
from ..inference.detector import Detector
from ..preprocessing.crop import centroid_size
from ..priors import ErrorModel
from .films import read_labels

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


def gather(detector: Detector, data: Path) -> tuple[Evidence, int]:
    """Evidence from all labelled films of a data set, and the number that the model refused."""
    points, _ = read_labels(data)
    pipeline = detector.pipeline
    logits, truth, share, refused = [], [], [], 0
    for name, known in points.items():
        try:
            image = read_image(data / "images" / name)
            candidates = pipeline.region.candidates(image, lambda: False)
            chosen, _ = pipeline.choose(image, candidates, "auto", force=False)
        except LandmarkDetectionError:
            refused += 1
            continue
        heatmaps, window = pipeline.locate(image, chosen, lambda: False)
        index = window.to_index(image.frame.to_physical(known))
        stride = pipeline.landmarks.stride
        logits.append(heatmaps)
        truth.append(torch.tensor(index_to_cell(index, stride), dtype=torch.float32))
        share.append(stride / centroid_size(index))
    if not logits:
        raise LandmarkDetectionError(f"No image of '{data}' could be used; check that its images fit the model.")
    return Evidence(torch.stack(logits), torch.stack(truth), torch.tensor(share)), refused


def calibrate(folder: Path, data: Path) -> dict[str, float]:
    """Calibrate a bundle in place on a user's labelled films, which should not be those it learnt from."""
    evidence, refused = gather(Detector(Bundle.load(folder)), data)
    values = fit(evidence)
    path = folder / MODEL_FILE
    model = json.loads(path.read_text(encoding="utf-8"))
    model["calibration"] |= values
    model["training"]["calibrated_on"] = f"{data.name}: {len(evidence.share)} films, {refused} refused"
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    return values
