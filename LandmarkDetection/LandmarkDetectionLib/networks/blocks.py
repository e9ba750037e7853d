"""Convolution blocks of the KNEEL hourglass (Tiulpin et al., ICCVW 2019), for two and three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

CONVOLUTION = {2: nn.Conv2d, 3: nn.Conv3d}
BATCH_NORM = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}
MAX_POOL = {2: nn.MaxPool2d, 3: nn.MaxPool3d}
GLOBAL_POOL = {2: nn.AdaptiveAvgPool2d, 3: nn.AdaptiveAvgPool3d}
DROPOUT = {2: nn.Dropout2d, 3: nn.Dropout3d}


def convolution(dims: int, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1) -> nn.Module:
    """A convolution with bias that keeps the size of the grid (up to the stride)."""
    return CONVOLUTION[dims](channels_in, channels_out, kernel, stride=stride, padding=kernel // 2)


def convolution_norm(
    dims: int, channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1, relu: bool = True
) -> nn.Sequential:
    """Convolution, batch normalization and, unless a sum follows, ReLU."""
    layers = [convolution(dims, channels_in, channels_out, kernel, stride), BATCH_NORM[dims](channels_out)]
    return nn.Sequential(*layers, nn.ReLU(inplace=True)) if relu else nn.Sequential(*layers)


class SqueezeExcitation(nn.Module):
    """Channel gating by global average (Hu et al. 2018), reduction 16, never below one channel."""

    def __init__(self, dims: int, channels: int, ratio: int = 16) -> None:
        super().__init__()
        hidden = max(1, channels // ratio)
        self.gate = nn.Sequential(
            GLOBAL_POOL[dims](1),
            convolution(dims, channels, hidden, 1),
            nn.ReLU(inplace=True),
            convolution(dims, hidden, channels, 1),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gate(x)


class ResidualBlock(nn.Module):
    """Skip connection around ``body``: identity where the channels agree, else convolution and normalization.

    There is no ReLU after the sum.
    """

    def __init__(
        self, dims: int, channels_in: int, channels_out: int, proj_kernel: int, squeeze_excitation: bool
    ) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.skip = (
            nn.Identity() if same else convolution_norm(dims, channels_in, channels_out, proj_kernel, relu=False)
        )
        self.excite = SqueezeExcitation(dims, channels_out) if squeeze_excitation else nn.Identity()

    def body(self, x: Tensor) -> Tensor:
        """The residual branch, written by each block."""
        raise AssertionError("a residual block defines its own body")

    def forward(self, x: Tensor) -> Tensor:
        return self.excite(self.body(x)) + self.skip(x)


class MultiScaleBlock(ResidualBlock):
    """Hierarchical multi-scale parallel (HMP) residual block (Bulat and Tzimiropoulos 2017; KNEEL figure 3b)."""

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels_out: int,
        proj_kernel: int = 1,
        squeeze_excitation: bool = False,
    ) -> None:
        super().__init__(dims, channels_in, channels_out, proj_kernel, squeeze_excitation)
        half, quarter = channels_out // 2, channels_out // 4
        self.wide = convolution_norm(dims, channels_in, half)
        self.middle = convolution_norm(dims, half, quarter)
        self.narrow = convolution_norm(dims, quarter, channels_out - half - quarter, relu=False)

    def body(self, x: Tensor) -> Tensor:
        wide = self.wide(x)
        middle = self.middle(wide)
        return torch.cat([wide, middle, self.narrow(middle)], dim=1)


class BottleneckBlock(ResidualBlock):
    """Plain bottleneck residual block (KNEEL figure 3a, whose middle width n/2 -> n/2 is misprinted there)."""

    def __init__(
        self,
        dims: int,
        channels_in: int,
        channels_out: int,
        proj_kernel: int = 1,
        squeeze_excitation: bool = False,
    ) -> None:
        super().__init__(dims, channels_in, channels_out, proj_kernel, squeeze_excitation)
        half = channels_out // 2
        self.layers = nn.Sequential(
            convolution_norm(dims, channels_in, half, proj_kernel),
            convolution_norm(dims, half, half),
            convolution_norm(dims, half, channels_out, proj_kernel, relu=False),
        )

    def body(self, x: Tensor) -> Tensor:
        return self.layers(x)


BLOCKS = {"hmp": MultiScaleBlock, "bottleneck": BottleneckBlock}
