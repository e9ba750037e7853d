"""UNet that takes hints, the student variant of interactive keypoint estimation, in two and three dimensions."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .blocks import BATCH_NORM, CONVOLUTION, MAX_POOL
from .gating import InteractionGate
from .hint_stem import HintStem
from .unbiased import enlarged, unbiased_norm

TRANSPOSED = {2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}

SLOPE = 0.01
"""Of the LeakyReLU."""


def double_convolution(dims: int, channels_in: int, channels_out: int) -> nn.Sequential:
    """Two 3x3 convolutions, each normalized and followed by LeakyReLU."""
    return nn.Sequential(
        unbiased_norm(dims, channels_in, channels_out, slope=SLOPE),
        unbiased_norm(dims, channels_out, channels_out, slope=SLOPE),
    )


class Up(nn.Module):
    """Twice the resolution by a transposed convolution, beside the features of that resolution."""

    def __init__(self, dims: int, channels_in: int, channels_out: int) -> None:
        super().__init__()
        self.enlarge = TRANSPOSED[dims](channels_in, channels_out, 2, stride=2)
        self.merge = double_convolution(dims, 2 * channels_out, channels_out)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return self.merge(torch.cat([skip, enlarged(self.enlarge(x), skip.shape[2:])], dim=1))


class HintUNet(nn.Module):
    """Hint stem to a quarter of the resolution, a UNet of ``depth`` levels on it, gate, head, and enlargement.

    With 3 input channels and 68 landmarks it has 32,548,261 parameters, those of the published network.

    Args:
        in_channels: channels of the image; the papers repeat the gray values three times.
        out_channels: number of landmarks K.
        width: channels at a quarter of the resolution; they double with each level.
        depth: levels below that.
        gate: False leaves out the interaction-guided gating.
        gate_width: of the gate's convolutions.
        dims: 2 or 3.

    Images ``(B, in_channels, [D,] H, W)`` and hints ``(B, 2K, [D,] H, W)`` (see `HintStem`) give logits
    ``(B, K, [D,] H, W)``; without hints the sides of the image must be even.
    """

    hint_stride = 1

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 68,
        width: int = 64,
        depth: int = 4,
        gate: bool = True,
        gate_width: int = 256,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.landmarks = out_channels
        self.stem = HintStem(dims, in_channels, out_channels, width)
        self.hint_channels = self.stem.hint_channels
        widths = [width * 2**level for level in range(depth + 1)]
        self.pool = MAX_POOL[dims](2)
        self.down = nn.ModuleList(double_convolution(dims, n, 2 * n) for n in widths[:-1])
        self.up = nn.ModuleList(Up(dims, 2 * n, n) for n in reversed(widths[:-1]))
        self.gate = InteractionGate(dims, width, out_channels, width, gate_width) if gate else None
        self.head = nn.Sequential(
            CONVOLUTION[dims](width, width, 1),
            BATCH_NORM[dims](width),
            nn.LeakyReLU(SLOPE, inplace=True),
            CONVOLUTION[dims](width, out_channels, 1),
        )

    def encode(self, image: Tensor) -> Tensor:
        """What does not depend on hints, ``(B, width, ...)`` at half the resolution."""
        return self.stem.encode(image)

    def decode(self, encoded: Tensor, hints: Tensor | None = None) -> Tensor:
        """Logits on the pixels of the image."""
        hints = self.stem.full_hints(encoded, hints)
        levels = [self.stem(encoded, hints)]
        for down in self.down:
            levels.append(down(self.pool(levels[-1])))
        x = levels.pop()
        early = levels[0]
        for up in self.up:
            x = up(x, levels.pop())
        if self.gate is not None:
            x = self.gate(early, hints[:, self.landmarks :], x)
        return enlarged(self.head(x), hints.shape[2:])

    def forward(self, image: Tensor, hints: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(image), hints)
