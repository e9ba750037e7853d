"""How networks take hints: what the user has said about some landmarks, as maps beside the image.

One interface for every backbone: ``encode(image)`` computes what does not depend on the hints, and
``decode(encoded, hints)`` the heatmaps, so that a correction runs the second part only. Hints are maps of
``hint_channels`` channels on a grid of ``hint_stride`` pixels a cell; zeros say nothing.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from .blocks import CONVOLUTION


class HintedNetwork(Protocol):
    """A network that answers to hints; ``hint_channels`` is 0 where it takes none."""

    hint_channels: int
    hint_stride: int

    def encode(self, image: Tensor) -> Tensor: ...

    def decode(self, encoded: Tensor, hints: Tensor | None = None) -> Tensor: ...


class HintFusion(nn.Module):
    """Maps of hints as features to be added to those of the image (Kim et al., MICCAI 2022).

    1x1 convolution to 16 channels, LeakyReLU 0.2, 3x3 convolution, times the absolute value of a learnt scalar that
    begins at 0.05, so that a new network first learns to see.
    """

    def __init__(self, dims: int, channels_in: int, channels_out: int, stride: int = 1, hidden: int = 16) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            CONVOLUTION[dims](channels_in, hidden, 1),
            nn.LeakyReLU(0.2),
            CONVOLUTION[dims](hidden, channels_out, 3, stride=stride, padding=1),
        )
        self.scale = nn.Parameter(torch.tensor(0.05))

    def forward(self, hints: Tensor) -> Tensor:
        return self.scale.abs() * self.layers(hints)


def hint_maps(points: Tensor, size: tuple[int, ...], deviation: float) -> Tensor:
    """Gaussian bumps of height 1 about points ``(B, K, d)`` in cells, shape ``(B, K, [D,] H, W)``; zeros where NaN.

    Args:
        size: cells along x, y[, z].
        deviation: standard deviation in cells.
    """
    maps = torch.ones(points.shape[:2], dtype=points.dtype, device=points.device)
    # A Gaussian is a product over the axes: one line for each, instead of a distance for each cell.
    for axis in reversed(range(len(size))):
        cells = torch.arange(size[axis], dtype=points.dtype, device=points.device)
        line = torch.exp(-0.5 * ((points[..., axis, None] - cells) / deviation).square()).nan_to_num(0.0)
        maps = maps[..., None] * line[(..., *[None] * (maps.ndim - 2), slice(None))]
    return maps
