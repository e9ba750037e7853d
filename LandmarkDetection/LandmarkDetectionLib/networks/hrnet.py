"""HRNet (Wang et al., TPAMI 2020): branches of several resolutions side by side, in two and three dimensions."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .unbiased import enlarged, unbiased_norm


class Residual(nn.Module):
    """``layers`` beside a skip connection, ReLU after the sum; the skip is a 1x1 convolution where channels differ."""

    def __init__(self, dims: int, channels_in: int, channels_out: int, layers: nn.Module) -> None:
        super().__init__()
        same = channels_in == channels_out
        self.skip = nn.Identity() if same else unbiased_norm(dims, channels_in, channels_out, 1, slope=None)
        self.layers = layers

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.layers(x) + self.skip(x))


def basic_block(dims: int, channels: int) -> Residual:
    """Two 3x3 convolutions."""
    layers = nn.Sequential(unbiased_norm(dims, channels, channels), unbiased_norm(dims, channels, channels, slope=None))
    return Residual(dims, channels, channels, layers)


def bottleneck(dims: int, channels_in: int, width: int) -> Residual:
    """1x1, 3x3, 1x1 to four times ``width``."""
    layers = nn.Sequential(
        unbiased_norm(dims, channels_in, width, 1),
        unbiased_norm(dims, width, width),
        unbiased_norm(dims, width, 4 * width, 1, slope=None),
    )
    return Residual(dims, channels_in, 4 * width, layers)


def reduction(dims: int, channels_in: int, channels_out: int, steps: int) -> nn.Sequential:
    """Convolutions of stride 2; only the last one changes the channels and has no ReLU."""
    halvings = [unbiased_norm(dims, channels_in, channels_in, stride=2) for _ in range(steps - 1)]
    return nn.Sequential(*halvings, unbiased_norm(dims, channels_in, channels_out, stride=2, slope=None))


class ParallelModule(nn.Module):
    """Basic blocks in each branch, then every branch receives the sum of all, brought to its resolution and width."""

    def __init__(self, dims: int, widths: Sequence[int], blocks: int) -> None:
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(basic_block(dims, width) for _ in range(blocks))) for width in widths
        )
        self.exchange = nn.ModuleList(
            nn.ModuleList(self.path(dims, widths, source, target) for source in range(len(widths)))
            for target in range(len(widths))
        )

    @staticmethod
    def path(dims: int, widths: Sequence[int], source: int, target: int) -> nn.Module:
        """From one branch to another; enlarging follows the 1x1 convolution."""
        if source == target:
            return nn.Identity()
        if source > target:
            return unbiased_norm(dims, widths[source], widths[target], 1, slope=None)
        return reduction(dims, widths[source], widths[target], target - source)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        own = [branch(x) for branch, x in zip(self.branches, inputs, strict=True)]
        return [
            torch.relu(sum(enlarged(path(x), own[target].shape[2:], True) for path, x in zip(paths, own, strict=True)))
            for target, paths in enumerate(self.exchange)
        ]


class ParallelBranches(nn.Module):
    """Stages of 2, 3, 4 ... branches after ``channels_in`` features; the result is all branches, concatenated.

    Args:
        dims: 2 or 3.
        channels_in: of the features before.
        width: of the first branch; each further one has twice the channels at half the resolution.
        modules: number of modules of each stage; HRNet has 1, 4, 3.
        blocks: basic blocks of each branch of a module.
    """

    def __init__(
        self, dims: int, channels_in: int, width: int = 32, modules: Sequence[int] = (1, 4, 3), blocks: int = 4
    ) -> None:
        super().__init__()
        widths = [width * 2**branch for branch in range(len(modules) + 1)]
        self.channels = sum(widths)
        self.first = unbiased_norm(dims, channels_in, widths[0])
        self.beginnings = nn.ModuleList(
            unbiased_norm(dims, channels_in if branch == 0 else widths[branch], widths[branch + 1], stride=2)
            for branch in range(len(modules))
        )
        self.stages = nn.ModuleList(
            nn.ModuleList(ParallelModule(dims, widths[: stage + 2], blocks) for _ in range(count))
            for stage, count in enumerate(modules)
        )

    def forward(self, x: Tensor) -> Tensor:
        branches = [self.first(x)]
        for stage, (begin, modules) in enumerate(zip(self.beginnings, self.stages, strict=True)):
            branches.append(begin(x if stage == 0 else branches[-1]))
            for module in modules:
                branches = module(branches)
        size = branches[0].shape[2:]
        return torch.cat([enlarged(branch, size, True) for branch in branches], dim=1)
