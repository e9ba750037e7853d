"""How both interactive networks begin: image and hints meet at half the resolution (Kim et al., MICCAI 2022)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .hints import HintFusion
from .unbiased import unbiased_norm


class HintStem(nn.Module):
    """Image to half the resolution, plus the fused hints, to a quarter.

    Hints are 2K maps on the pixels of the image: the K heatmaps predicted last, then K Gaussians at what the user has
    said. Zeros say nothing, and no hints at all are taken for zeros, which the fusion has learnt to see as such.

    Args:
        dims: 2 or 3.
        in_channels: of the image.
        landmarks: K.
        width: channels after the stem.
    """

    def __init__(self, dims: int, in_channels: int, landmarks: int, width: int = 64) -> None:
        super().__init__()
        self.hint_channels = 2 * landmarks
        self.image = unbiased_norm(dims, in_channels, width, stride=2)
        self.fusion = HintFusion(dims, self.hint_channels, width, stride=2)
        self.meet = unbiased_norm(dims, width, width, stride=2)

    def encode(self, image: Tensor) -> Tensor:
        """What does not depend on the hints, ``(B, width, ...)`` at half the resolution."""
        return self.image(image)

    def full_hints(self, encoded: Tensor, hints: Tensor | None) -> Tensor:
        """The hints, or zeros on the pixels of an image whose sides are even."""
        if hints is not None:
            return hints
        size = [2 * n for n in encoded.shape[2:]]
        return torch.zeros(len(encoded), self.hint_channels, *size, dtype=encoded.dtype, device=encoded.device)

    def forward(self, encoded: Tensor, hints: Tensor) -> Tensor:
        """Features ``(B, width, ...)`` at a quarter of the resolution."""
        return self.meet(encoded + self.fusion(hints))
