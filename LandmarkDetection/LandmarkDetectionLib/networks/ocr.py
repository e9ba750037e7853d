"""Object-contextual representations (Yuan et al., ECCV 2020): each cell looks at the landmarks' regions as a whole."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import BATCH_NORM, CONVOLUTION, DROPOUT
from .unbiased import unbiased_norm


class ObjectAttention(nn.Module):
    """Context of each cell from the descriptions of K regions, by scaled dot products of ``key`` channels."""

    def __init__(self, dims: int, channels: int, key: int) -> None:
        super().__init__()
        self.key = key
        self.query = nn.Sequential(unbiased_norm(dims, channels, key, 1), unbiased_norm(dims, key, key, 1))
        self.keys = nn.Sequential(unbiased_norm(dims, channels, key, 1), unbiased_norm(dims, key, key, 1))
        self.values = unbiased_norm(dims, channels, key, 1)
        self.out = unbiased_norm(dims, key, channels, 1)

    def forward(self, cells: Tensor, regions: Tensor) -> Tensor:
        """Context ``(B, channels, ...)`` of cells ``(B, channels, ...)`` from regions ``(B, channels, K, 1[, 1])``."""
        queries = self.query(cells).flatten(2).transpose(1, 2)
        keys, values = self.keys(regions).flatten(2), self.values(regions).flatten(2)
        weights = torch.softmax(queries @ keys * self.key**-0.5, dim=-1)
        context = (weights @ values.transpose(1, 2)).transpose(1, 2)
        return self.out(context.reshape(len(cells), self.key, *cells.shape[2:]))


class ContextHead(nn.Module):
    """Coarse logits, soft regions from them, context, and final logits.

    Args:
        dims: 2 or 3.
        channels: of the features.
        landmarks: K.
        width: channels of the representation, and ``key`` of the attention.
        dropout: probability of dropping a channel before the last convolution.
    """

    def __init__(
        self, dims: int, channels: int, landmarks: int, width: int = 256, key: int = 128, dropout: float = 0.05
    ) -> None:
        super().__init__()
        kind = CONVOLUTION[dims]
        self.coarse = nn.Sequential(
            kind(channels, channels, 1), BATCH_NORM[dims](channels), nn.ReLU(inplace=True), kind(channels, landmarks, 1)
        )
        self.represent = nn.Sequential(
            kind(channels, width, 3, padding=1), BATCH_NORM[dims](width), nn.ReLU(inplace=True)
        )
        self.attention = ObjectAttention(dims, width, key)
        self.merge = nn.Sequential(unbiased_norm(dims, 2 * width, width, 1), DROPOUT[dims](dropout))
        self.out = kind(width, landmarks, 1)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Final and coarse logits ``(B, K, ...)``."""
        coarse = self.coarse(features)
        cells = self.represent(features)
        shares = torch.softmax(coarse.flatten(2), dim=-1)
        regions = (shares @ cells.flatten(2).transpose(1, 2)).transpose(1, 2)
        regions = regions.reshape(*regions.shape, *[1] * (cells.ndim - 3))
        context = self.attention(cells, regions)
        return self.out(self.merge(torch.cat([context, cells], dim=1))), coarse
