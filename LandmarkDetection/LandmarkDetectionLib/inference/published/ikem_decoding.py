"""From the heatmaps of interactive networks to cells; three ways, because the published systems differ in it.

Each channel is a probability for itself at every cell (one sigmoid), trained towards a Gaussian of height 1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import torch
from torch import Tensor

from ...errors import LandmarkDetectionError
from ...heatmaps import cell_coordinates, grid_size, mode
from ...networks.hints import hint_maps

Previous = Literal["hinted", "all", "none"]
"""Which of the heatmaps predicted last a network sees again: those of landmarks with a hint, all, or none.

Kim et al. and the student project train with all and test with those of hinted landmarks.
"""

PATCH_RADIUS = 7
"""Cells about the maximum: a patch of 15 x 15."""

SHARPNESS = 10.0
"""Factor of the probabilities before the softmax over the patch."""


def patch_soft_argmax(
    logits: Tensor, dims: int = 2, radius: int = PATCH_RADIUS, sharpness: float = SHARPNESS
) -> Tensor:
    """Expected cell ``(B, K, dims)`` in the patch about the maximum, under a softmax of the probabilities (Kim et al.).

    Only what lies on the grid counts. The result carries gradients.
    """
    size = grid_size(logits, dims)
    extent = torch.tensor(size, device=logits.device)
    offsets = cell_coordinates((2 * radius + 1,) * dims, logits).long() - radius
    cells = mode(logits, dims).long()[..., None, :] + offsets
    inside = ((cells >= 0) & (cells < extent)).all(dim=-1)
    steps = torch.tensor([int(torch.tensor(size[:axis]).prod()) for axis in range(dims)], device=logits.device)
    rows = (torch.minimum(cells.clamp(min=0), extent - 1) * steps).sum(dim=-1)
    values = sharpness * logits.flatten(-dims).gather(-1, rows).sigmoid()
    weights = torch.softmax(values.masked_fill(~inside, -torch.inf), dim=-1)
    return (weights[..., None] * cells.to(weights.dtype)).sum(dim=-2)


def map_expectation(logits: Tensor, dims: int = 2, radius: int = PATCH_RADIUS) -> Tensor:
    """Expected cell over the whole heatmap, each cell weighted by its probability (the student project).

    A faint background draws the point to the middle of the image. ``radius`` is not used.
    """
    weights = logits.sigmoid().flatten(-dims)
    return (weights / weights.sum(dim=-1, keepdim=True)) @ cell_coordinates(grid_size(logits, dims), logits)


def highest_cell(logits: Tensor, dims: int = 2, radius: int = PATCH_RADIUS) -> Tensor:
    """The cell of the maximum (Kim et al.). ``radius`` is not used."""
    return mode(logits, dims)


DECODERS: dict[str, Callable[..., Tensor]] = {
    "argmax": highest_cell,
    "expectation": map_expectation,
    "local": patch_soft_argmax,
}
"""Kim et al., the student project, ours."""


def decoder(name: str) -> Callable[..., Tensor]:
    """The decoder called ``name``.

    Raises:
        LandmarkDetectionError: there is none.
    """
    if name not in DECODERS:
        raise LandmarkDetectionError(f"The decoding '{name}' is not known; choose one of {', '.join(DECODERS)}.")
    return DECODERS[name]


def check_previous(policy: str) -> None:
    """Refuse a policy for the previous heatmaps that does not exist.

    Raises:
        LandmarkDetectionError: names those that do.
    """
    if policy not in get_args(Previous):
        known = ", ".join(get_args(Previous))
        raise LandmarkDetectionError(
            f"The policy '{policy}' for previous heatmaps is not known; choose one of {known}."
        )


def interaction_maps(
    hinted: Tensor, heatmaps: Tensor | None, size: tuple[int, ...], deviation: float, previous: Previous
) -> Tensor:
    """What a network with hints is given beside the image, ``(B, 2K, [D,] H, W)``: heatmaps predicted last, then hints.

    Args:
        hinted: ``(B, K, dims)`` cells, NaN where there is no hint.
        heatmaps: ``(B, K, ...)`` probabilities predicted last, None before the first prediction.
        size: cells along x, y[, z].
        deviation: of the Gaussians, in cells.
        previous: which of the heatmaps are passed on.
    """
    hints = hint_maps(hinted, size, deviation)
    if heatmaps is None or previous == "none":
        return torch.cat([torch.zeros_like(hints), hints], dim=1)
    if previous == "hinted":
        known = torch.isfinite(hinted).all(dim=-1)
        heatmaps = heatmaps * known.view(*known.shape, *[1] * len(size))
    return torch.cat([heatmaps.to(hints.dtype), hints], dim=1)
