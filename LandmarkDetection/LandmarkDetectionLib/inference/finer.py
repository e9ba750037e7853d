"""Heatmaps of finer cells, and of a volume's heatmaps the part that matters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from ..geometry import Frame
from ..heatmaps import grid_size, mode

FINER = 3
"""Cells along one cell of a network: odd, so that the middle of a cell stays the middle of one.

Cells as coarse as a network's would make regions coarse, and the probability of one would say little of the place.
"""

WINDOW = 8
"""Cells of a network that are kept along each axis of a volume's heatmap."""


def finer(heatmaps: Tensor) -> Tensor:
    """Log-probabilities (n, [FINER * d,] FINER * h, FINER * w), cubic interpolation between the cells of a heatmap.

    Along depth the slices are interpolated after each of them was: cubic interpolation is separable.
    """
    if heatmaps.ndim == 3:
        fine = functional.interpolate(heatmaps[None], scale_factor=FINER, mode="bicubic", align_corners=False)[0]
    else:
        slices = functional.interpolate(heatmaps, scale_factor=FINER, mode="bicubic", align_corners=False)
        columns = slices.flatten(2)[None]
        size = (FINER * columns.shape[2], columns.shape[3])
        fine = functional.interpolate(columns, size=size, mode="bicubic", align_corners=False)[0]
        fine = fine.unflatten(2, slices.shape[2:])
    return torch.log_softmax(fine.flatten(1), dim=-1).view(fine.shape)


def near_modes(heatmaps: Tensor, cells: Tensor, grids: Sequence[Frame]) -> tuple[Tensor, Tensor, tuple[Frame, ...]]:
    """The `WINDOW` cells along each axis about the mode of each heatmap, shifted to stay inside.

    Of the two windows that are equally near, the one on the side of the decoded point is taken.

    Args:
        heatmaps: (n, d, h, w); an axis with fewer cells than that stays as it is.
        cells: (n, 3) decoded points in cells, x first. grids: of each heatmap.
    Returns:
        The heatmaps, the points in their cells, and their grids.
    """
    size = np.array(grid_size(heatmaps, 3))
    kept = np.minimum(size, WINDOW)
    modes = mode(heatmaps, 3)
    starts = (modes - WINDOW // 2 + (cells > modes)).long().numpy()
    starts = np.clip(starts, 0, size - kept)
    cut = [
        heatmap[z : z + kept[2], y : y + kept[1], x : x + kept[0]]
        for heatmap, (x, y, z) in zip(heatmaps, starts.tolist(), strict=True)
    ]
    places = cells - torch.from_numpy(starts).to(cells.dtype)
    frames = tuple(grid.cropped(start, kept.tolist()) for grid, start in zip(grids, starts, strict=True))
    return torch.stack(cut), places, frames
