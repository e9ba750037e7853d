"""What a calibration is worth: cross-validated on the films it was made from, groups kept together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from scipy.stats import chi2

from ...inference.doubt import combined
from ...uncertainty.regions import ellipse_area, ellipse_distance, region_area
from ...uncertainty.reliability import CHH_EDGES, calibration_error, heatmap_confidence
from ...uncertainty.review import area_under_curve, grouped_correlation
from ..data.films import subject_folds
from .fitting import ERRONEOUS, LEVEL, Evidence, fit

FOLDS = 5
SEED = 42


def kept_out_figures(evidence: Evidence, reach: float = np.inf, wrong: float = ERRONEOUS) -> dict:
    """Figures of the films of each fold under the calibration that the other folds give.

    Areas and errors are in pixels of the film; of volumes, volumes and errors are in mm.
    """
    folds = subject_folds(evidence.groups, min(FOLDS, len(set(evidence.groups))), SEED)
    parts = []
    for fold in np.unique(folds):
        values = fit(evidence.select(np.flatnonzero(folds != fold)), reach, wrong)
        parts.append(judged(evidence.select(np.flatnonzero(folds == fold)), values, wrong))
    judgements = {key: np.concatenate([part[key] for part in parts]) for key in parts[0]}
    return {**evidence.figures(), **summarised(judgements, evidence.dims)}


def judged(evidence: Evidence, values: dict, wrong: float = ERRONEOUS) -> dict[str, np.ndarray]:
    """Every landmark (m, n) of films under a calibration that was made without them."""
    known = np.isfinite(evidence.errors)
    temperature = torch.tensor(values["temperature"], dtype=torch.float32)
    spread = evidence.spreads(temperature)
    radius = evidence.radii(torch.tensor(values["error_temperature"], dtype=torch.float32))
    cell = evidence.cell[:, None]
    spread = np.asarray(values["covariance_scale"])[:, None, None] * spread
    spread = np.where(known[..., None, None], spread, np.eye(evidence.dims))
    certainty, truth = values["certainty"], evidence.truth.numpy()
    masses = evidence.needed(temperature)
    limit = chi2.ppf(LEVEL, evidence.dims)

    def area(maps: torch.Tensor, image: int, rows: np.ndarray) -> np.ndarray:
        return region_area(maps.numpy(), certainty.masses[rows])

    def sure(maps: torch.Tensor, image: int, rows: np.ndarray) -> np.ndarray:
        both = np.full((len(rows), 2), np.nan)
        confidence, correct = heatmap_confidence(maps.numpy(), truth[image, rows])
        both[: len(confidence)] = np.stack([confidence, correct], axis=1)
        return both

    confidence, correct = np.moveaxis(evidence.each(temperature, sure, (2,)), -1, 0)
    return {
        "known": known,
        "error": evidence.errors * evidence.size[:, None],
        "wrong": evidence.errors > wrong,
        "expected": cell * calibrated_errors(evidence, radius, values),
        "inside": masses <= certainty.masses,
        "together": masses <= certainty.joint_masses,
        "area": evidence.each(temperature, area) * cell**evidence.dims,
        "in_ellipse": ellipse_distance(evidence.apart, spread) <= limit,
        "ellipse": ellipse_area(spread, limit) * cell**evidence.dims,
        "confidence": confidence,
        "correct": correct,
    }


def calibrated_errors(evidence: Evidence, radius: np.ndarray, values: Mapping) -> np.ndarray:
    """Expected errors (m, n) in cells under a calibration, from those ``radius`` (m, n) of the heatmaps."""
    ceiling = (values["error_ceiling"] * evidence.size / evidence.cell)[:, None]
    scales = np.asarray(values["error_scale"]), np.asarray(values["shape_scale"])
    return combined(radius, evidence.strange, ceiling, *scales)


def summarised(judgement: dict[str, np.ndarray], dims: int = 2) -> dict:
    """Figures over all landmarks of all films or volumes."""
    known = judgement["known"]
    whole = known.any(axis=1)
    inside, in_ellipse = judgement["inside"], judgement["in_ellipse"]
    counted = known.any(axis=0)
    by_landmark = (inside & known)[:, counted].sum(axis=0) / known[:, counted].sum(axis=0)
    seen = np.isfinite(judgement["confidence"])
    confidence, correct = judgement["confidence"][seen], judgement["correct"][seen]
    expected, error = judgement["expected"][known], judgement["error"][known]
    sizes = ("median_area_px2", "median_area_ellipses_px2")
    if dims == 3:
        sizes = ("median_volume_mm3", "median_volume_ellipsoids_mm3")
    return {
        "level": LEVEL,
        "coverage": float(inside[known].mean()),
        "coverage_least_landmark": float(by_landmark.min()),
        "coverage_joint": float((judgement["together"] | ~known).all(axis=1)[whole].mean()),
        "coverage_ellipses": float(in_ellipse[known].mean()),
        sizes[0]: float(np.median(judgement["area"][known])),
        sizes[1]: float(np.nanmedian(judgement["ellipse"][known])),
        "ece": calibration_error(confidence, correct, CHH_EDGES),
        "ece_adaptive": calibration_error(confidence, correct, "adaptive"),
        "ere_correlation": grouped_correlation(expected, error),
        "auc_erroneous": area_under_curve(expected, judgement["wrong"][known].astype(float), 0.5),
    }
