"""Oriented windows of a film in one resampling: many small crops, each turned along its vertebra."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional


def pixel_grid(size: tuple[int, int], step: int = 1) -> Tensor:
    """Index coordinates of every ``step``-th pixel from corner to corner, shape ``(rows * columns, 2)``, x first."""
    columns = torch.linspace(0, size[0] - 1, (size[0] - 1) // step + 1)
    rows = torch.linspace(0, size[1] - 1, (size[1] - 1) // step + 1)
    y, x = torch.meshgrid(rows, columns, indexing="ij")
    return torch.stack([x, y], dim=-1).reshape(-1, 2)


def sample_at(images: Tensor, coordinates: Tensor) -> Tensor:
    """Images ``(B, 1, H, W)`` read at index coordinates ``(B, h, w, 2)``; the border is repeated outside."""
    extent = torch.tensor([images.shape[-1], images.shape[-2]], dtype=images.dtype)
    normalised = (2 * coordinates + 1) / extent - 1
    return functional.grid_sample(images, normalised, mode="bilinear", padding_mode="border", align_corners=False)


def vertebra_pose(quads: Tensor, extent: float, width: int) -> tuple[Tensor, Tensor]:
    """Window pixel to film: matrices ``(V, 2, 2)`` for ``(pixel - middle) @ matrix + centre``, centres ``(V, 1, 2)``.

    Args:
        quads: ``(V, 4, 2)`` corners, upper left, upper right, lower left, lower right.
        extent: of the window, in widths of the vertebra.
        width: of the window in pixels.
    """
    across = (quads[:, 1] - quads[:, 0] + quads[:, 3] - quads[:, 2]) / 2
    along = extent / width * across
    down = torch.stack([-along[:, 1], along[:, 0]], dim=-1)
    return torch.stack([along, down], dim=1), quads.mean(dim=1, keepdim=True)


def oriented_crops(image: Tensor, matrix: Tensor, centre: Tensor, size: tuple[int, int]) -> Tensor:
    """Windows ``(V, 1, h, w)`` of one film ``(1, 1, H, W)``."""
    middle = (torch.tensor(size) - 1) / 2
    coordinates = ((pixel_grid(size) - middle) @ matrix + centre).view(1, -1, size[0], 2)
    return sample_at(image, coordinates).view(len(matrix), 1, size[1], size[0])
