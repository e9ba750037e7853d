"""Quantiles that keep a promise on images not seen yet: split conformal prediction for several landmarks of an image.

A *score* says how large a region would have to be to hold the truth (`regions.truth_mass`, `regions.ellipse_distance`).
If the scores of the images calibrated on and of a new one are exchangeable, the new one's is at most the
ceil((n + 1) level)-th smallest of n with a probability of at least ``level``, whatever the model (Vovk et al. 2005).

What holds where: landmarks of one image depend on each other, so the *images* (or subjects, where a subject has
several) are the exchangeable unit, and n counts them. `conformal_quantile` holds for one number per image.
`grouped_quantile` holds for a landmark drawn at random from a new image. `landmark_quantiles` takes its weights from
the same images as its size, and `joint_masses` crosses over, so for these the promise holds approximately (to within
1 % in simulations with 40 to 150 images); each single landmark is held as well as its own images can tell. All of it
is about images at large: a film unlike those calibrated on is not covered.
"""

from __future__ import annotations

import math

import numpy as np

HANDFUL = 5
"""A landmark that is known on fewer images has no say of its own."""

_EDGE = 1e-9  # masses this near to 0 and 1 have a finite logit
_ROUNDING = 1e-9
_PARTS = 10


def fewest_images(level: float) -> int:
    """How many images it takes to promise ``level`` with anything less than infinity: 19 for 95 %."""
    return math.ceil(level / (1 - level) - _ROUNDING)


def conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The ceil((n + 1) level)-th smallest of n scores, one per image; NaN does not count.

    Returns:
        Infinity where n is less than `fewest_images`.
    """
    scores = np.sort(np.ravel(scores)[~np.isnan(np.ravel(scores))])
    rank = math.ceil((len(scores) + 1) * level - _ROUNDING)
    return float(scores[rank - 1]) if rank <= len(scores) else math.inf


def grouped_quantile(scores: np.ndarray, level: float) -> float:
    """The same for a landmark drawn at random from each image (Lee, Barber and Willett 2023, hierarchical data).

    Every image weighs 1 / (images + 1), shared by its landmarks; the weight that is left lies at infinity.

    Args:
        scores: (m, n), NaN where unknown; images without any score do not count.
    """
    scores = np.asarray(scores, dtype=float)
    known = ~np.isnan(scores)
    images = int(known.any(axis=1).sum())
    weights = np.broadcast_to(1 / np.maximum(known.sum(axis=1, keepdims=True), 1), scores.shape)[known] / (images + 1)
    order = np.argsort(scores[known], kind="stable")
    place = int(np.searchsorted(np.cumsum(weights[order]), level - _ROUNDING))
    return float(scores[known][order[place]]) if place < len(order) else math.inf


def own_weights(scores: np.ndarray, level: float) -> np.ndarray:
    """How far each landmark's own scores are to be believed against those of all landmarks, (n,) in 0..1.

    Empirical Bayes. If all landmarks were alike, the share of landmark k's n_k scores under the pooled quantile would
    vary from landmark to landmark by chance, with the variance s_k = level (1 - level) / n_k. What it varies beyond
    that, t, is real; the weight that minimises the mean squared error of the share is t / (t + s_k). With few images
    or landmarks of one kind it is near 0, with many images or landmarks that differ near 1. It does not change when
    the scores go through any ascending function. A landmark of fewer than `HANDFUL` scores has the weight 0.
    """
    scores = np.asarray(scores, dtype=float)
    counts = (~np.isnan(scores)).sum(axis=0)
    several = counts >= HANDFUL
    if several.sum() < 2:
        return several.astype(float)
    pooled = np.quantile(scores[~np.isnan(scores)], level, method="inverted_cdf")
    shares = (scores <= pooled).sum(axis=0)[several] / counts[several]
    chance = level * (1 - level) / counts[several]
    beyond = max(float(((shares - shares.mean()) ** 2).sum() / (len(shares) - 1) - chance.mean()), 0.0)
    weights = np.zeros(scores.shape[1])
    weights[several] = beyond / (beyond + chance)
    return weights


def landmark_quantiles(scores: np.ndarray, level: float) -> np.ndarray:
    """Quantile of each landmark's scores, drawn towards that of all landmarks, (n,).

    Landmark k's distribution is taken to be a mixture: `own_weights` of its own scores, the rest from all landmarks.
    The level at which the mixtures are read is the one at which `grouped_quantile` keeps the promise over all
    landmarks. With fewer images than `fewest_images` the greatest scores stand, and the promise does not.

    Args:
        scores: (m, n), NaN where unknown; of any scale, as only their order matters.

    Returns:
        A landmark without any score has the quantile of all; NaN where no landmark has a score.
    """
    scores = np.asarray(scores, dtype=float)
    known = ~np.isnan(scores)
    if not known.any():
        return np.full(scores.shape[1], np.nan)
    values = np.unique(scores[known])
    pooled = np.searchsorted(np.sort(scores[known]), values, side="right") / known.sum()
    mixtures = np.empty((scores.shape[1], len(values)))
    ranks = np.full(scores.shape, np.nan)
    for k, weight in enumerate(own_weights(scores, level)):
        own = np.sort(scores[known[:, k], k])
        mixtures[k] = (1 - weight) * pooled + weight * np.searchsorted(own, values, side="right") / max(len(own), 1)
        ranks[known[:, k], k] = mixtures[k][np.searchsorted(values, scores[known[:, k], k])]
    read = min(grouped_quantile(ranks, level), 1.0)
    places = [np.searchsorted(mixture, read - _ROUNDING) for mixture in mixtures]
    return values[np.minimum(places, len(values) - 1)]


def joint_masses(scores: np.ndarray, masses: np.ndarray, level: float) -> np.ndarray:
    """Masses with which all landmarks of an image are inside with probability ``level``, (n,).

    One number is added to the logits of ``masses``, so that the landmarks keep their proportions: the conformal
    quantile over images of the most that any landmark of the image needs. What an image needs is taken against the
    masses that the other nine tenths of the images give: against masses made from the image itself it would be too
    little (with 40 images by up to 4 % of coverage in simulations). Images of one subject should follow each other.
    With fewer images than `fewest_images` the greatest need stands, and the promise does not.

    A truth of mass 1 is in no region: where a landmark of more images than 1 - ``level`` lies outside its heatmap, the
    promise cannot be kept, and all joint masses are 1.

    Args:
        scores: (m, n) truth masses, NaN where unknown. masses: (n,), `landmark_quantiles` of these scores.
    """
    scores = np.asarray(scores, dtype=float)
    scores = scores[~np.isnan(scores).all(axis=1)]
    if len(scores) < fewest_images(level):
        offset = _needed(scores, masses).max()
    else:
        parts = np.array_split(np.arange(len(scores)), _PARTS)
        others = [landmark_quantiles(np.delete(scores, part, axis=0), level) for part in parts]
        needed = [_needed(scores[part], own) for part, own in zip(parts, others, strict=True)]
        offset = conformal_quantile(np.concatenate(needed), level)
    return 1 / (1 + np.exp(-(_logit(masses) + offset)))


def _needed(scores: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """(m,) what has to be added to the logits of the masses for all truths of an image to be inside."""
    return np.nanmax(np.where(scores >= 1, np.inf, _logit(scores)) - _logit(masses), axis=1)


def _logit(masses: np.ndarray) -> np.ndarray:
    clipped = np.clip(np.asarray(masses, dtype=float), _EDGE, 1 - _EDGE)
    return np.log(clipped / (1 - clipped))
