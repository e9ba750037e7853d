"""Interaction-guided gating: hints choose which channels of the features count (Kim et al., MICCAI 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import CONVOLUTION
from .unbiased import enlarged, unbiased_norm


class InteractionGate(nn.Module):
    """A weight between 0 and 1 for each channel, from early features and the maps of the hints.

    Three 3x3 convolutions (strides 2, 1, 1), the maximum over all cells, and two 1x1 convolutions with a sigmoid at the
    end. The maximum lets a single hint speak for the whole image. The gate is at work without hints too. With 256 early
    channels, 68 landmarks and 480 gated channels it has 1,939,952 parameters.

    Args:
        dims: 2 or 3.
        channels: of the early features.
        landmarks: maps of hints K.
        gated: channels that are weighted.
        width: of the convolutions, and ``hidden`` of the bottleneck after the maximum.
    """

    def __init__(
        self, dims: int, channels: int, landmarks: int, gated: int, width: int = 256, hidden: int = 16
    ) -> None:
        super().__init__()
        self.look = nn.Sequential(
            unbiased_norm(dims, channels + landmarks, width, stride=2),
            unbiased_norm(dims, width, width),
            unbiased_norm(dims, width, width),
        )
        self.weigh = nn.Sequential(
            CONVOLUTION[dims](width, hidden, 1),
            nn.ReLU(inplace=True),
            CONVOLUTION[dims](hidden, gated, 1),
            nn.Sigmoid(),
        )

    def forward(self, early: Tensor, hints: Tensor, features: Tensor) -> Tensor:
        """Weighted ``features`` (B, gated, ...), from ``early`` (B, channels, ...) and maps (B, K, ...) of any grid."""
        seen = self.look(torch.cat([early, enlarged(hints, early.shape[2:])], dim=1))
        strongest = seen.amax(dim=tuple(range(2, seen.ndim)), keepdim=True)
        return self.weigh(strongest) * features
