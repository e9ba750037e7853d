"""Numbers that say how far predicted landmarks lie from the truth.

Arrays are stacked over images: (m, n, d) positions, (m, n) errors; NaN marks a landmark without truth or without
prediction and never counts. So that a landmark cannot leave a mean by being declared absent, `placed` comes first.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

BOOTSTRAP_SAMPLES = 2000
BOOTSTRAP_SEED = 20190728
WITHIN_PIXELS = (1, 2, 3, 4, 5, 10)
WITHIN_MILLIMETRES = (1, 1.5, 2, 2.5, 3, 4)
KNEEL_RADII = (1, 1.5, 2, 2.5)
OUTLIER_DISTANCE = 10.0


def placed(positions: np.ndarray, size: Sequence[int]) -> np.ndarray:
    """A copy of (n, d) positions with those of absent landmarks in the middle of an image of `size` (x first).

    The middle is the guess of someone who has not looked: to declare a landmark absent that is there costs as much as
    that, and what the film does not show (no truth) costs nothing.
    """
    middle = (np.asarray(size, dtype=float) - 1) / 2
    return np.where(np.isfinite(positions).all(axis=-1, keepdims=True), positions, middle)


def radial_errors(predicted: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """(..., n) Euclidean distances of (..., n, d) positions."""
    return np.linalg.norm(predicted - truth, axis=-1)


def normal_errors(predicted: np.ndarray, truth: np.ndarray, chains: Sequence[Sequence[int]]) -> np.ndarray:
    """(..., n) part of the error across the bone edge, which annotation fixes better than the part along it.

    The edge at a point runs along the chord between its two neighbours of the same chain in the truth (one-sided at
    the ends). Points of no chain, or whose neighbours are unknown, come back as NaN.
    """
    result = np.full(truth.shape[:-1], np.nan)
    error = predicted - truth
    for chain in chains:
        last = len(chain) - 1
        for place, point in enumerate(chain):
            chord = truth[..., chain[min(place + 1, last)], :] - truth[..., chain[max(place - 1, 0)], :]
            length = np.linalg.norm(chord, axis=-1, keepdims=True)
            tangent = np.divide(chord, length, out=np.full_like(chord, np.nan), where=length > 0)
            along = (error[..., point, :] * tangent).sum(axis=-1, keepdims=True) * tangent
            result[..., point] = np.linalg.norm(error[..., point, :] - along, axis=-1)
    return result


def bootstrap_interval(
    errors: np.ndarray, samples: int = BOOTSTRAP_SAMPLES, level: float = 0.95
) -> tuple[float, float]:
    """Percentile interval of the mean of (m, n) errors; whole images are drawn, as their points belong together."""
    present = np.isfinite(errors)
    sums, counts = np.where(present, errors, 0.0).sum(axis=1), present.sum(axis=1)
    rows = np.random.default_rng(BOOTSTRAP_SEED).integers(0, len(errors), size=(samples, len(errors)))
    total, number = sums[rows].sum(axis=1), counts[rows].sum(axis=1)
    means = total[number > 0] / number[number > 0]
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)


def summary(errors: np.ndarray) -> dict | None:
    """Mean, median, 95th percentile and the bootstrap interval of the mean of (m, n) errors; None without any."""
    values = errors[np.isfinite(errors)]
    if values.size == 0:
        return None
    return {
        "mean": float(values.mean()),
        "median": float(np.median(values)),
        "p95": float(np.quantile(values, 0.95)),
        "ci95": list(bootstrap_interval(errors)),
    }


def within(errors: np.ndarray, radii: Sequence[float]) -> dict[str, float] | None:
    """Share of landmarks at most each radius away; None without any landmark."""
    values = errors[np.isfinite(errors)]
    if values.size == 0:
        return None
    return {f"{radius:g}": float((values <= radius).mean()) for radius in radii}


def bone_pck(errors: np.ndarray, chains: Mapping[str, Sequence[int]], unit: str) -> dict:
    """KNEEL's percentage of correct key points: errors are averaged inside a bone first, then compared with radii.

    Both published choices of points are given: the two ends of a bone (cross-validation) and its ends with the middle
    (test). ``std`` is the standard deviation over the bones (one degree of freedom less), as in the paper.
    ``outliers`` is the share of images with any landmark 10 or more units away.
    """
    known = errors[np.isfinite(errors).any(axis=1)]
    worst = np.nanmax(known, axis=1) if len(known) else np.array([])
    result: dict = {"unit": unit, "outliers": float((worst >= OUTLIER_DISTANCE).mean()) if len(worst) else None}
    for name, with_middle in (("ends", False), ("ends_and_middle", True)):
        means = {bone: errors[:, _points(chain, with_middle)].mean(axis=1) for bone, chain in chains.items()}
        shares = {bone: within(mean, KNEEL_RADII) for bone, mean in means.items()}
        radii = {}
        for radius in (f"{radius:g}" for radius in KNEEL_RADII):
            values = [share[radius] for share in shares.values() if share is not None]
            if values:
                spread = float(np.std(values, ddof=1)) if len(values) > 1 else None
                radii[radius] = {"mean": float(np.mean(values)), "std": spread}
        result[name] = {"bones": shares, "radii": radii}
    return result


def _points(chain: Sequence[int], with_middle: bool) -> list[int]:
    return [chain[0], chain[len(chain) // 2], chain[-1]] if with_middle else [chain[0], chain[-1]]
