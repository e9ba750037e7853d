"""What Contour-Hugging Heatmaps learn after the network: temperatures, and the expected error that calls for a review.

The network stays as it is, in evaluation mode: its batch normalization neither sees nor keeps anything of these films
(the original fits in training mode, so that the network that is calibrated is not the one that was trained). One half
of the films fits, the other half tells how well that holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from ...errors import LandmarkDetectionError
from ...evaluation.metrics import summary
from ...heatmaps import expected_radial_error, mode
from ...inference.published.contour_view import ContourPlan
from ...uncertainty.reliability import CHH_EDGES, calibration_error, heatmap_confidence
from ...uncertainty.review import area_under_curve, grouped_correlation, roc, split_by_expected, threshold_at
from ...uncertainty.temperature import fit_temperatures
from .augmentation import only_inside
from .samples import ContourFilms

MEMORY = 256 * 2**20
"""Bytes of heatmaps that are held at once while temperatures are fitted."""

RADII = (2.0, 2.5, 3.0, 4.0)
"""Of the success rates; an error must be smaller."""

WRONG = (2.0, 4.0)
"""Errors beyond which a landmark counts as wrong: in the text of the paper, and in its code."""


@dataclass(frozen=True, eq=False)
class Evidence:
    """What a network says of films, under some temperatures.

    Attributes:
        errors: (N, K) in the unit of the films, NaN where the truth is unknown.
        expected: (N, K) expected radial errors in cells.
        confidence, correct: (n,) of the n landmarks with a known truth, see `heatmap_confidence`.
        cells: (N,) width of a cell in the unit of the films.
    """

    errors: np.ndarray
    expected: np.ndarray
    confidence: np.ndarray
    correct: np.ndarray
    cells: np.ndarray

    @property
    def expected_errors(self) -> np.ndarray:
        """(N, K) expected radial errors in the unit of the films."""
        return self.expected * self.cells[:, None]


@dataclass(frozen=True)
class Calibration:
    """Temperatures (K,), threshold of the expected radial error in cells, where both come from, and figures."""

    temperatures: tuple[float, ...]
    threshold: float
    fitted_on: tuple[str, ...]
    checked_on: tuple[str, ...]
    figures: dict


def calibrate(
    network: nn.Module, plan: ContourPlan, films: ContourFilms, wrong_beyond: float, sensitivity: float
) -> Calibration:
    """Fit on the first half of the films, in their order, and check on the second.

    Args:
        wrong_beyond: error in the unit of the films beyond which a landmark is wrong.
        sensitivity: share of the wrong landmarks that the threshold is to find.

    Raises:
        LandmarkDetectionError: a half has no known landmark.
    """
    half = len(films) // 2
    fitting, checking = films.select(range(half)), films.select(range(half, len(films)))
    if not all(len(part) and torch.isfinite(part.points).all(dim=-1).any() for part in (fitting, checking)):
        raise LandmarkDetectionError("Calibration needs two films or more with known landmarks; name another split.")
    temperatures = fit(network, plan, fitting)
    known = gather(network, plan, fitting, temperatures)
    threshold = threshold_at(known.expected, known.errors > wrong_beyond, sensitivity)
    untempered = gather(network, plan, checking, torch.ones_like(temperatures))
    found = gather(network, plan, checking, temperatures)
    figures = {
        "films": len(checking),
        "unit": films.unit,
        "radial_error": summary(found.errors),
        "success_rate": {f"{r:g}": success_rate(found.errors, r) for r in RADII},
        "ece_percent": {"before": reliabilities(untempered), "after": reliabilities(found)},
        "ere_correlation": grouped_correlation(found.expected_errors, found.errors),
        "auc": {f"{r:g}": area_under_curve(found.expected_errors, found.errors, r) for r in WRONG},
        "review": review_figures(found, threshold, wrong_beyond),
    }
    return Calibration(tuple(temperatures.tolist()), threshold, fitting.names, checking.names, figures)


def fit(network: nn.Module, plan: ContourPlan, films: ContourFilms) -> Tensor:
    """(K,) temperatures, each landmark by itself; a few landmarks at a time, as heatmaps of full size are large."""
    size = films.images.shape[-1], films.images.shape[-2]
    targets = only_inside(films.points, size).round()
    count = targets.shape[1]
    group = max(1, MEMORY // (4 * len(films) * size[0] * size[1]))
    parts = []
    for rows in torch.arange(count).split(group):
        heatmaps = torch.stack([logits[rows] for logits in all_logits(network, plan, films)])
        parts.append(fit_temperatures(heatmaps, targets[:, rows]))
    return torch.cat(parts)


@torch.inference_mode()
def all_logits(network: nn.Module, plan: ContourPlan, films: ContourFilms) -> Iterator[Tensor]:
    """Logits ``(K, H, W)`` of one film after the other, on the processor; the network is in evaluation mode."""
    network.eval()
    device = next(network.parameters()).device
    for row in range(len(films)):
        images, _ = films.batch([row])
        yield network(plan.standardized(images).to(device))[0].float().cpu()


def gather(network: nn.Module, plan: ContourPlan, films: ContourFilms, temperatures: Tensor) -> Evidence:
    """Errors of the best cells, and what the heatmaps divided by the temperatures say of them."""
    errors, expected, confidence, correct = [], [], [], []
    for logits, points, cell in zip(all_logits(network, plan, films), films.points, films.cells, strict=True):
        best = mode(logits)
        scaled = logits / temperatures.to(logits.dtype)[:, None, None]
        errors.append((cell * (best.double() - points).norm(dim=-1)).numpy())
        expected.append(expected_radial_error(scaled, best).double().numpy())
        sure, right = heatmap_confidence(scaled.numpy(), points.numpy())
        confidence.append(sure)
        correct.append(right)
    confidence, correct = np.concatenate(confidence), np.concatenate(correct)
    return Evidence(np.stack(errors), np.stack(expected), confidence, correct, films.cells.numpy())


def success_rate(errors: np.ndarray, radius: float) -> float:
    """Share of the known landmarks with an error below the radius."""
    return float((errors[np.isfinite(errors)] < radius).mean())


def reliabilities(evidence: Evidence) -> dict[str, float | None]:
    """Expected calibration errors in per cent for the bins of the original's code, of its text, and of equal counts."""
    kinds = {"published": CHH_EDGES, "fixed": "fixed", "adaptive": "adaptive"}
    return {name: calibration_error(evidence.confidence, evidence.correct, edges) for name, edges in kinds.items()}


def review_figures(evidence: Evidence, threshold: float, wrong_beyond: float) -> dict:
    """What the threshold finds, and the errors on either side of it; the true error plays no part in the sides."""
    known = np.isfinite(evidence.errors)
    flagged, wrong = evidence.expected[known] > threshold, evidence.errors[known] > wrong_beyond
    curve = roc(evidence.expected, evidence.errors, wrong_beyond)
    return {
        "wrong_beyond": wrong_beyond,
        "wrong": int(wrong.sum()),
        "sensitivity": None if curve is None else float(flagged[wrong].mean()),
        "false_alarms": None if curve is None else float(flagged[~wrong].mean()),
        **split_by_expected(evidence.expected, np.where(known, evidence.errors, np.nan), threshold, RADII),
    }
