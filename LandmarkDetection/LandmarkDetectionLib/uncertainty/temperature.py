"""Temperatures: how much flatter or steeper each landmark's heatmap has to be for the truth to be likeliest.

Guo et al. (2017), one temperature for each landmark as in Contour-Hugging Heatmaps. Everything else stays as it is: the
logits come from a network in evaluation, nothing is passed back to it, and neither the most probable cell nor the
decoded point (`heatmaps.local_expectation` of the logits themselves) depends on a temperature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from ..heatmaps import grid_size, splat

FEWEST = 10
"""A landmark that is known on fewer images takes the temperature of all landmarks together."""

LIMIT = 3.0
"""Temperatures are looked for from exp(-LIMIT) to exp(LIMIT)."""

_TOLERANCE = 1e-5  # of the logarithm

_POOLED = 3000
"""Heatmaps, about, from which a pooled temperature that others are drawn towards is found; more tell nothing new."""


@torch.no_grad()
def fit_temperatures(logits: Tensor, truth: Tensor, weight: float = 0.0) -> Tensor:
    """Temperature of each landmark, each by itself: the one that makes the known truths likeliest.

    Where each landmark is known on a few images only, its own temperature follows their chance errors, and regions that
    are to hold *all* landmarks of an image, which live on the faintest probabilities, do not. Its logarithm is then
    drawn towards that of all landmarks, which counts as much as ``weight`` images.

    The negative log-likelihood is convex in 1 / T, so log T has one minimum; it is found by Newton steps, or halving
    where a step would leave the interval that must hold it. A truth between cells counts as in `heatmaps.splat`.

    Args:
        logits: (N, K, h, w) or (N, K, d, h, w), untempered.
        truth: (N, K, 2 or 3) in cells, x first; those that are NaN or outside the grid do not count.
        weight: images.

    Returns:
        (K,) positive, float64. With fewer than `FEWEST` truths the pooled temperature; 1 where there are none at all.
    """
    dims = truth.shape[-1]
    extent = torch.tensor(grid_size(logits, dims), dtype=truth.dtype)
    known = ((truth >= 0) & (truth <= extent - 1)).all(dim=-1)
    scarce = (known.sum(dim=0) < FEWEST).tolist()

    def heap(k: int, every: int = 1) -> _Heap:
        rows = known[:, k].nonzero()[:, 0][k % every :: every]
        return _Heap(logits[rows, k], truth[rows, k])

    # One heap at a time: together they may be larger than the memory.
    every = max(1, int(known.sum()) // _POOLED) if weight else 1
    pooled = _minimum([heap(k, every) for k in range(len(scarce))]) if any(scarce) or weight else 1.0
    values = torch.tensor([pooled if few else _minimum([heap(k)]) for k, few in enumerate(scarce)], dtype=torch.float64)
    shares = known.sum(dim=0) / (known.sum(dim=0) + weight) if weight else torch.ones(len(scarce))
    return torch.where(shares < 1, (shares * values.log() + (1 - shares) * math.log(pooled)).exp(), values)


class _Heap:
    """Heatmaps (n, cells) of one landmark with a known truth, relative to their maxima, and their values there (n,)."""

    def __init__(self, logits: Tensor, truth: Tensor) -> None:
        flat = logits.flatten(1).float()
        self.count = len(flat)
        self.values = flat - flat.amax(dim=1, keepdim=True)
        weights = splat(truth, grid_size(logits, truth.shape[-1])).to(flat.dtype)
        self.heights = (weights * self.values).sum(dim=1)

    def slopes(self, log_temperature: float) -> tuple[float, float]:
        """First and second derivative of the negative log-likelihood by the logarithm of the temperature."""
        scale = math.exp(-log_temperature)
        scaled, heights = self.values * scale, self.heights * scale
        probabilities = torch.softmax(scaled, dim=1)
        mean = (probabilities * scaled).sum(dim=1)
        variance = (probabilities * scaled.square()).sum(dim=1) - mean.square()
        first, second = heights - mean, variance + mean - heights
        return float(first.double().sum()), float(second.double().sum())


def _minimum(heaps: Sequence[_Heap]) -> float:
    """The temperature at which the truths of all heaps together are likeliest; 1 where there is none."""
    heaps = [heap for heap in heaps if heap.count]
    if not heaps:
        return 1.0
    low, high, here = -LIMIT, LIMIT, 0.0
    while high - low > _TOLERANCE:
        first, second = map(sum, zip(*(heap.slopes(here) for heap in heaps), strict=True))
        low, high = (low, here) if first > 0 else (here, high)
        step = here - first / second if second > 0 else math.inf
        there = step if low < step < high else (low + high) / 2
        if abs(there - here) < _TOLERANCE:
            break
        here = there
    return math.exp(here)
