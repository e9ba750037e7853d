"""Batch normalization folded into the convolution before it: the same function, fewer weights, less time."""

from __future__ import annotations

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .blocks import BATCH_NORM


def fused(network: nn.Module) -> nn.Module:
    """The network, changed in place, in evaluation mode, with every normalization inside its convolution."""
    network.eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for place in range(len(module) - 1):
                if isinstance(module[place + 1], tuple(BATCH_NORM.values())):
                    module[place] = fuse_conv_bn_eval(module[place], module[place + 1])
                    module[place + 1] = nn.Identity()
    return network
