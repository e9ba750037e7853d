"""Convolutions without bias before a normalization, and enlarged grids, as the interactive networks have them."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional

from .blocks import BATCH_NORM, CONVOLUTION
from .hourglass import INTERPOLATION


def unbiased_norm(
    dims: int, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, slope: float | None = 0.0
) -> nn.Sequential:
    """Convolution without bias, batch normalization and LeakyReLU of ``slope``: 0 is ReLU, None leaves it out."""
    layers = [
        CONVOLUTION[dims](channels_in, channels_out, kernel, stride=stride, padding=kernel // 2, bias=False),
        BATCH_NORM[dims](channels_out),
    ]
    if slope is not None:
        layers.append(nn.LeakyReLU(slope, inplace=True) if slope else nn.ReLU(inplace=True))
    return nn.Sequential(*layers)


def enlarged(x: Tensor, size: Sequence[int], align_corners: bool = False) -> Tensor:
    """Linear interpolation to ``size``, the spatial shape of a tensor.

    With ``align_corners`` false cell i of stride k stays at index ``k * (i + 0.5) - 0.5``, as everywhere else here.
    """
    if tuple(x.shape[2:]) == tuple(size):
        return x
    mode = INTERPOLATION[x.ndim - 2, "bilinear"]
    return functional.interpolate(x, size=tuple(size), mode=mode, align_corners=align_corners)
