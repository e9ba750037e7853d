"""Data-parallel training under ``torchrun``, as it is: one process for each device, gradients averaged."""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


def start() -> None:
    """Join the process group that ``torchrun`` announced, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")


def rank() -> int:
    """Number of this process; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def replicated(network: nn.Module) -> nn.Module:
    """The network, with gradients averaged over all processes where there are several."""
    return nn.parallel.DistributedDataParallel(network) if distributed.is_initialized() else network
