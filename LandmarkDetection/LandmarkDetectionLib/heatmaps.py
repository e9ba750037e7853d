"""From heatmap logits to probabilities, coordinates, covariances and expected radial errors.

One convention holds throughout: index 0 is the centre of the first pixel, and the cell i of a heatmap of stride k lies
at index ``k * (i + 0.5) - 0.5``. Coordinates are x first; tensors are ``(..., [D,] H, W)``, rows last but one.
"""

from __future__ import annotations

import torch
from torch import Tensor

RELATIVE_FLOOR = 0.05
"""Cells below this share of the maximum do not count for the expected radial error (McCouat and Voiculescu 2022)."""

SPLAT_VARIANCE = 1 / 6
"""Mean variance, in cells squared, that `splat` adds along each axis."""

SMALLEST_VARIANCE = 1 / 100
"""No landmark is known to better than a tenth of a cell (standard deviation)."""


def cell_to_index(cell: Tensor | float, stride: int) -> Tensor | float:
    """Index coordinate in the image of a (fractional) heatmap cell."""
    return stride * (cell + 0.5) - 0.5


def index_to_cell(index: Tensor | float, stride: int) -> Tensor | float:
    """Fractional heatmap cell of an index coordinate in the image."""
    return (index + 0.5) / stride - 0.5


def grid_size(logits: Tensor, dims: int) -> tuple[int, ...]:
    """Number of cells along x, y[, z]."""
    return tuple(reversed(logits.shape[-dims:]))


def log_probabilities(logits: Tensor, dims: int = 2, temperature: Tensor | float = 1.0) -> Tensor:
    """Log of the probability of each cell: a softmax over all cells of a channel, stable for any logits."""
    return torch.log_softmax((logits / temperature).flatten(-dims), dim=-1).view(logits.shape)


def cell_coordinates(size: tuple[int, ...], like: Tensor) -> Tensor:
    """Coordinates of all cells, shape ``(cells, dims)``, x first, in the order of a flattened heatmap."""
    axes = [torch.arange(n, dtype=like.dtype, device=like.device) for n in reversed(size)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flip(-1).reshape(-1, len(size))


def soft_argmax(logits: Tensor, dims: int = 2, beta: float = 1.0) -> Tensor:
    """Expected cell over the whole heatmap, shape ``(..., dims)`` in cells (KNEEL's decoder, beta = 1)."""
    probabilities = torch.softmax(beta * logits.flatten(-dims), dim=-1)
    return probabilities @ cell_coordinates(grid_size(logits, dims), logits)


def normalised_soft_argmax(logits: Tensor, dims: int = 2, beta: float = 1.0) -> Tensor:
    """Soft-argmax as a share of the extent, ``(cell + 0.5) / cells``: 0 and 1 are the outer edges of the grid."""
    size = torch.tensor(grid_size(logits, dims), dtype=logits.dtype, device=logits.device)
    return (soft_argmax(logits, dims, beta) + 0.5) / size


def mode(logits: Tensor, dims: int = 2) -> Tensor:
    """The most probable cell, shape ``(..., dims)``, as floating point; no temperature moves it."""
    best = logits.flatten(-dims).argmax(dim=-1)
    return cell_coordinates(grid_size(logits, dims), logits)[best]


def local_expectation(logits: Tensor, dims: int = 2, radius: float = 4.0) -> Tensor:
    """Expected cell within ``radius`` cells (per axis) of the mode, shape ``(..., dims)`` in cells.

    Far cells cannot pull the point towards the centre of the image, as they do in a whole-map expectation.
    """
    cells = cell_coordinates(grid_size(logits, dims), logits)
    near = ((cells - mode(logits, dims)[..., None, :]).abs() <= radius).all(dim=-1)
    probabilities = torch.softmax(logits.flatten(-dims).masked_fill(~near, -torch.inf), dim=-1)
    return probabilities @ cells


def covariance(logits: Tensor, point: Tensor, dims: int = 2, temperature: Tensor | float = 1.0) -> Tensor:
    """Second moment of the heatmap about ``point`` (cells), shape ``(..., dims, dims)``, in cells squared.

    A network that learnt from `splat` targets spreads a point over its neighboring cells, which adds the variance
    f (1 - f) of the position f between two cells, 1/6 on average. That is taken off; what is left is at least
    ``SMALLEST_VARIANCE`` along every axis.
    """
    probabilities = log_probabilities(logits, dims, temperature).flatten(-dims).exp()
    offsets = cell_coordinates(grid_size(logits, dims), logits) - point[..., None, :]
    moment = torch.einsum("...c,...ci,...cj->...ij", probabilities, offsets, offsets)
    values, vectors = torch.linalg.eigh(moment - SPLAT_VARIANCE * torch.eye(dims, dtype=logits.dtype))
    return (vectors * values.clamp(min=SMALLEST_VARIANCE)[..., None, :]) @ vectors.transpose(-1, -2)


def expected_radial_error(
    logits: Tensor, point: Tensor, dims: int = 2, temperature: Tensor | float = 1.0, floor: float = RELATIVE_FLOOR
) -> Tensor:
    """Expected distance to ``point`` in cells, shape ``(...)``: equation 5 of Contour-Hugging Heatmaps.

    Only cells above ``floor`` times the maximum count, renormalized.
    """
    probabilities = log_probabilities(logits, dims, temperature).flatten(-dims).exp()
    kept = probabilities * (probabilities > floor * probabilities.amax(dim=-1, keepdim=True))
    distances = (cell_coordinates(grid_size(logits, dims), logits) - point[..., None, :]).norm(dim=-1)
    return (kept * distances).sum(dim=-1) / kept.sum(dim=-1)


def splat(points: Tensor, size: tuple[int, ...]) -> Tensor:
    """Multilinear weights of the cells around each point, shape ``(..., cells)``; sums to 1 inside the grid.

    The expectation over the weights is the point itself, so a likelihood on them teaches sub-cell positions.
    """
    weights = torch.ones(*points.shape[:-1], 1, dtype=points.dtype, device=points.device)
    for axis in reversed(range(len(size))):
        cells = torch.arange(size[axis], dtype=points.dtype, device=points.device)
        along = (1 - (points[..., axis, None] - cells).abs()).clamp(min=0)
        weights = (weights[..., :, None] * along[..., None, :]).flatten(-2)
    return weights


def spatial_cross_entropy(logits: Tensor, points: Tensor, dims: int = 2) -> Tensor:
    """Mean negative log-likelihood of ``points`` (cells, shape ``(B, K, dims)``) under the heatmaps ``(B, K, ...)``.

    NaN points and points outside the grid do not count; if none counts, the loss is 0.
    """
    size = grid_size(logits, dims)
    extent = torch.tensor(size, dtype=points.dtype, device=points.device)
    inside = ((points >= 0) & (points <= extent - 1)).all(dim=-1)
    target = splat(torch.where(inside[..., None], points, torch.zeros_like(points)), size).to(logits.dtype)
    losses = -(target * log_probabilities(logits, dims).flatten(-dims)).sum(dim=-1)
    return (losses * inside).sum() / inside.sum().clamp(min=1)
