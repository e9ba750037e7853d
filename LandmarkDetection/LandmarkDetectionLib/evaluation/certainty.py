"""Numbers that say whether the expected errors, the heatmaps and the error ellipses can be believed."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2, rankdata

GROUP = 36
"""Landmarks in one group when expected and true errors are correlated (McCouat and Voiculescu 2022)."""

BINS = 10
REGION_LEVEL = 0.95


def grouped_correlation(expected: np.ndarray, errors: np.ndarray, group: int = GROUP) -> float | None:
    """Pearson correlation of the group means of expected and true errors, groups formed along the expected error.

    Returns:
        None with fewer than three full groups or without any spread.
    """
    expected, errors = _both(expected, errors)
    groups = len(expected) // group
    if groups < 3:
        return None
    order = np.argsort(expected, kind="stable")[: groups * group]
    means = [values[order].reshape(groups, group).mean(axis=1) for values in (expected, errors)]
    if np.ptp(means[0]) == 0 or np.ptp(means[1]) == 0:
        return None
    return float(np.corrcoef(*means)[0, 1])


def area_under_curve(expected: np.ndarray, errors: np.ndarray, radius: float) -> float | None:
    """Area under the ROC curve of "the error is beyond `radius`", told by the expected error; ties count half.

    Returns:
        None when all landmarks, or none, are beyond the radius.
    """
    expected, errors = _both(expected, errors)
    wrong = errors > radius
    positives, negatives = int(wrong.sum()), int((~wrong).sum())
    if not positives or not negatives:
        return None
    ranks = rankdata(expected)[wrong].sum()
    return float((ranks - positives * (positives + 1) / 2) / (positives * negatives))


def calibration_error(confidence: np.ndarray, correct: np.ndarray, bins: int = BINS) -> float | None:
    """Expected calibration error in per cent: bins of equal width up to the greatest confidence, empty ones skipped."""
    confidence, correct = np.asarray(confidence, dtype=float), np.asarray(correct, dtype=float)
    if confidence.size == 0 or confidence.max() <= 0:
        return None
    place = np.minimum((confidence / confidence.max() * bins).astype(int), bins - 1)
    gaps = [abs(correct[place == k].sum() - confidence[place == k].sum()) for k in range(bins)]
    return float(100 * sum(gaps) / confidence.size)


def heatmap_confidence(logits: np.ndarray, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Whether each heatmap's best cell holds the truth, and how sure the heatmap is of it.

    A best cell is right when its centre is closer to the truth than the radius of a disc (ball) of a cell's size.

    Args:
        logits: (n, h, w) or (n, d, h, w).
        cells: (n, 2 or 3) true positions in cells, x first, NaN where unknown.

    Returns:
        (k,) confidence in 0..1 and (k,) booleans for the k landmarks with known truth.
    """
    dims = logits.ndim - 1
    flat = logits.reshape(len(logits), -1).astype(np.float64)
    flat = np.exp(flat - flat.max(axis=1, keepdims=True))
    confidence = flat.max(axis=1) / flat.sum(axis=1)
    mode = np.stack(np.unravel_index(flat.argmax(axis=1), logits.shape[1:]), axis=-1)[:, ::-1]
    radius = np.sqrt(1 / np.pi) if dims == 2 else (3 / (4 * np.pi)) ** (1 / 3)
    known = np.isfinite(cells).all(axis=1)
    distance = np.linalg.norm(mode - cells, axis=1)
    return confidence[known], distance[known] < radius


def regions(
    predicted: np.ndarray, covariances: np.ndarray, truth: np.ndarray, ids: tuple[str, ...], level: float = REGION_LEVEL
) -> tuple[dict | None, dict | None]:
    """Coverage and size of the error ellipses (ellipsoids) that should hold the truth with probability `level`.

    Args:
        predicted, truth: (m, n, d). covariances: (m, n, d, d).

    Returns:
        coverage by landmark, of all, and ``joint`` (all landmarks of an image inside); mean area (volume) likewise,
        in index units.
    """
    dims = predicted.shape[-1]
    known = np.isfinite(truth).all(-1) & np.isfinite(predicted).all(-1) & np.isfinite(covariances).all((-1, -2))
    known &= np.linalg.det(np.where(known[..., None, None], covariances, np.eye(dims))) > 0
    if not known.any():
        return None, None
    safe = np.where(known[..., None, None], covariances, np.eye(dims))
    error = np.where(known[..., None], predicted - truth, 0.0)
    distance = (error * np.linalg.solve(safe, error[..., None])[..., 0]).sum(-1)
    limit = chi2.ppf(level, dims)
    inside = distance <= limit
    unit = np.pi if dims == 2 else 4 / 3 * np.pi
    area = unit * limit ** (dims / 2) * np.sqrt(np.linalg.det(safe))
    whole = known.any(axis=1)
    joint = (inside | ~known).all(axis=1)[whole]
    coverage = {"level": level, "all": float(inside[known].mean()), "joint": float(joint.mean())}
    size = {"all": float(area[known].mean())}
    for k, id in enumerate(ids):
        if known[:, k].any():
            coverage[id] = float(inside[:, k][known[:, k]].mean())
            size[id] = float(area[:, k][known[:, k]].mean())
    return coverage, size


def _both(expected: np.ndarray, errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    expected, errors = np.ravel(expected), np.ravel(errors)
    known = np.isfinite(expected) & np.isfinite(errors)
    return expected[known], errors[known]
