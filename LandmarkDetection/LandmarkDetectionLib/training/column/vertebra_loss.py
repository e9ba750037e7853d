"""What the column network learns by: vertebrae, corners, offsets and levels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from ...heatmaps import cell_coordinates, grid_size, splat
from ...networks.vertebra_maps import CORNERS, OFFSET_UNIT, VertebraMaps

_FOCUS, _EASE = 2.0, 4.0  # exponents of the focal loss (Law and Deng, ECCV 2018, equation 1)
_PEAK = 1.2  # cells, standard deviation of the bump around a centre


def vertebra_loss(maps: VertebraMaps, cells: Tensor) -> Tensor:
    """Sum of the four losses for corners ``(B, L * 4, 2)`` in cells, NaN where absent.

    A vertebra counts as present with all of its corners. Centres: focal loss. Corners: spatial cross-entropy, each kind
    over all levels. Offsets: L1. Levels: cross-entropy; both in the nine cells about each centre.
    """
    quads = cells.unflatten(1, (-1, CORNERS))
    centres = quads.mean(dim=2)
    present = torch.isfinite(centres).all(dim=-1)
    if not present.any():
        return focal_loss(maps.centres, centres)
    batch, level = present.nonzero(as_tuple=True)
    size = grid_size(maps.centres, 2)
    steps = torch.tensor([[x, y] for y in (-1, 0, 1) for x in (-1, 0, 1)])
    near = centres[batch, level].round().long()[:, None] + steps
    near = torch.minimum(near.clamp(min=0), torch.tensor(size) - 1)
    at = (batch[:, None], near[..., 1], near[..., 0])
    named = maps.levels.permute(0, 2, 3, 1)[at]
    levels = functional.cross_entropy(named.flatten(0, 1), level.repeat_interleave(len(steps)))
    wanted = quads[batch, level][:, None] - near[:, :, None].to(cells.dtype)
    offsets = maps.offsets.permute(0, 3, 4, 1, 2)[at]
    apart = (offsets - wanted).abs().mean() / OFFSET_UNIT
    return focal_loss(maps.centres, centres) + corner_loss(maps.corners, quads) + levels + 4 * apart


def focal_loss(logits: Tensor, centres: Tensor) -> Tensor:
    """Focal loss of centre logits ``(B, [d,] h, w)`` for centres ``(B, L, dims)`` in cells.

    Cells near a centre weigh less.
    """
    size = grid_size(logits, centres.shape[-1])
    squared = (cell_coordinates(size, centres) - centres[:, :, None]).square().sum(dim=-1)
    bumps = torch.exp(-0.5 * squared / _PEAK**2).nan_to_num(0.0).amax(dim=1).view(logits.shape)
    peaks = torch.zeros_like(logits, dtype=torch.bool)
    batch, level = torch.isfinite(centres).all(dim=-1).nonzero(as_tuple=True)
    nearest = torch.minimum(centres[batch, level].round().long().clamp(min=0), torch.tensor(size) - 1)
    peaks[(batch, *nearest.flip(-1).T)] = True
    probability = torch.sigmoid(logits)
    found = (1 - probability) ** _FOCUS * functional.logsigmoid(logits)
    empty = (1 - bumps) ** _EASE * probability**_FOCUS * functional.logsigmoid(-logits)
    return -torch.where(peaks, found, empty).sum() / peaks.sum().clamp(min=1)


def corner_loss(logits: Tensor, quads: Tensor) -> Tensor:
    """Mean negative log-likelihood of corners ``(B, L, 4, 2)`` under ``(B, 4, h, w)``: one map for all levels."""
    size = grid_size(logits, 2)
    extent = torch.tensor(size, dtype=quads.dtype)
    points = quads.transpose(1, 2)
    inside = ((points >= 0) & (points <= extent - 1)).all(dim=-1)
    targets = splat(torch.where(inside[..., None], points, torch.zeros_like(points)), size)
    losses = -(targets * torch.log_softmax(logits.flatten(2), dim=-1)[:, :, None]).sum(dim=-1)
    return (losses * inside).sum() / inside.sum().clamp(min=1)
