"""The KNEEL hourglass network (Tiulpin et al., ICCVW 2019), in two and three dimensions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from .blocks import BLOCKS, DROPOUT, MAX_POOL, convolution, convolution_norm
from .hints import HintFusion

STRIDE = 4
"""Pixels of the input per heatmap cell, along every axis."""

INTERPOLATION = {
    (2, "bilinear"): "bilinear",
    (3, "bilinear"): "trilinear",
    (2, "nearest"): "nearest",
    (3, "nearest"): "nearest",
}

Block = Callable[[int, int], nn.Module]


class HourglassModule(nn.Module):
    """One recursion: blocks at half the resolution around a deeper hourglass, blocks at this one beside them."""

    def __init__(self, block: Block, dims: int, width: int, depth: int, upsample: str, top_skip: bool = True) -> None:
        super().__init__()
        wide, wider = 4 * width, 8 * width
        self.pool = MAX_POOL[dims](2, ceil_mode=True)
        self.lower = nn.Sequential(*(block(wide, wide) for _ in range(3)))
        self.deeper = HourglassModule(block, dims, width, depth - 1, upsample) if depth > 1 else block(wide, wider)
        self.after = block(wider, wider)
        self.upper = (
            nn.Sequential(block(wide, wide), block(wide, wide), block(wide, wider)) if top_skip else None
        )
        self.mode = INTERPOLATION[dims, upsample]

    def forward(self, x: Tensor) -> Tensor:
        low = self.after(self.deeper(self.lower(self.pool(x))))
        if self.upper is None:
            return low
        align = None if self.mode == "nearest" else True
        return self.upper(x) + functional.interpolate(low, size=x.shape[2:], mode=self.mode, align_corners=align)


class Hourglass(nn.Module):
    """Entry convolutions, a recursive hourglass and a mixer, ending in one heatmap of logits for each landmark.

    Args:
        in_channels: channels of the input; KNEEL repeats the gray image three times.
        out_channels: number of landmarks K.
        width: base width N; KNEEL uses 24.
        depth: number of recursions, each halving the grid.
        proj_kernel: 1 as the paper draws the projections and the mixer, 3 as the released code builds them.
        upsample: ``"bilinear"`` (released code) or ``"nearest"`` (paper).
        block: ``"hmp"`` or ``"bottleneck"``.
        squeeze_excitation: gate the channels of every block.
        top_skip: False leaves out the outermost skip and up-sampling, as in the paper's drawing: half the grid.
        dropout: probability of dropping a channel in the mixer.
        hint_channels: maps of hints, on the grid of the heatmaps, that are added to the entry's features; 0 for none.
        dims: 2 or 3.

    The input has shape ``(B, in_channels, [D,] H, W)``, the logits ``(B, K, [D/4,] H/4, W/4)``.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        width: int = 24,
        depth: int = 4,
        proj_kernel: int = 1,
        upsample: str = "bilinear",
        block: str = "hmp",
        squeeze_excitation: bool = False,
        top_skip: bool = True,
        dropout: float = 0.25,
        hint_channels: int = 0,
        dims: int = 2,
    ) -> None:
        super().__init__()
        make = partial(BLOCKS[block], dims, proj_kernel=proj_kernel, squeeze_excitation=squeeze_excitation)
        self.stride = STRIDE if top_skip else 2 * STRIDE
        self.entry = nn.Sequential(
            convolution_norm(dims, in_channels, width, kernel=7, stride=2),
            make(width, 2 * width),
            MAX_POOL[dims](2),
            make(2 * width, 2 * width),
            make(2 * width, 2 * width),
            make(2 * width, 4 * width),
        )
        self.hint_channels, self.hint_stride = hint_channels, STRIDE
        self.fusion = HintFusion(dims, hint_channels, 4 * width) if hint_channels else None
        self.hourglass = HourglassModule(make, dims, width, depth, upsample, top_skip)
        self.mixer = nn.Sequential(
            DROPOUT[dims](dropout),
            convolution_norm(dims, 8 * width, 8 * width, proj_kernel),
            DROPOUT[dims](dropout),
            convolution_norm(dims, 8 * width, 4 * width, proj_kernel),
        )
        self.out = convolution(dims, 4 * width, out_channels, 1)

    def encode(self, image: Tensor) -> Tensor:
        """What does not depend on hints, shape ``(B, 4 * width, ...)`` at a quarter of the resolution."""
        return self.entry(image)

    def features(self, encoded: Tensor, hints: Tensor | None = None) -> Tensor:
        """Features before the heatmaps, shape ``(B, 4 * width, ...)``.

        No hints at all are taken for zeros, which the fusion has learnt to see as such: it adds something even then.
        """
        if self.fusion is not None:
            if hints is None:
                hints = encoded.new_zeros(len(encoded), self.hint_channels, *encoded.shape[2:])
            encoded = encoded + self.fusion(hints)
        return self.mixer(self.hourglass(encoded))

    def decode(self, encoded: Tensor, hints: Tensor | None = None) -> Tensor:
        """Heatmaps from ``encode`` and hints ``(B, hint_channels, ...)`` on the same grid."""
        return self.out(self.features(encoded, hints))

    def forward(self, x: Tensor, hints: Tensor | None = None) -> Tensor:
        return self.decode(self.encode(x), hints)
