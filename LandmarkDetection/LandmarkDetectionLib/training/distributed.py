"""Data-parallel training under ``torchrun``, as it is: one process for each device, gradients averaged.

Without ``torchrun`` every function here does nothing.
"""

from __future__ import annotations

import os

import torch
from torch import distributed, nn


def start() -> None:
    """Join the process group that ``torchrun`` announced, if it did."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1 and not distributed.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]) % torch.cuda.device_count())
        # With no backend named, tensors of the processor go through gloo and those of GPUs through nccl.
        distributed.init_process_group()


def stop() -> None:
    """Leave the process group."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def rank() -> int:
    """Number of this process; 0 writes the files."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def replicated(network: nn.Module) -> nn.Module:
    """The network, with gradients averaged over all processes where there are several."""
    if not distributed.is_initialized():
        return network
    # A loss may run the network twice before it looks back, as mixup does: buffers must not be replaced in between.
    return nn.parallel.DistributedDataParallel(network, broadcast_buffers=False)


def average_gradients(criterion: nn.Module | None) -> None:
    """Average what a loss with parameters learns; a network's gradients are averaged as they come."""
    if criterion is None or not distributed.is_initialized():
        return
    for parameter in criterion.parameters():
        distributed.all_reduce(parameter.grad)
        parameter.grad /= distributed.get_world_size()


def agreed(figure: float) -> float:
    """The figure of process 0, so that all processes stop at the same epoch."""
    if not distributed.is_initialized():
        return figure
    shared = torch.tensor(figure, dtype=torch.float64)
    distributed.broadcast(shared, src=0)
    return float(shared)


def wait() -> None:
    """Until all processes are here, and so until process 0 has written its files."""
    if distributed.is_initialized():
        distributed.all_reduce(torch.zeros(1))
