"""Which device computes: a GPU if there is one that works, else the processor, and why."""

from __future__ import annotations

import torch


def choose_device(wanted: str = "auto") -> tuple[torch.device, str]:
    """Device and a sentence that says why, for people.

    Args:
        wanted: ``auto``, ``cpu`` or ``cuda``. A GPU that is wanted but does not work is replaced by the processor.
    """
    if wanted == "cpu":
        return torch.device("cpu"), "CPU, as chosen."
    if not torch.cuda.is_available():
        return torch.device("cpu"), "CPU: there is no GPU that PyTorch can use."
    name = torch.cuda.get_device_name()
    try:
        # Old cards are listed but have no kernels in this build: only a convolution tells.
        ones = torch.ones(1, 1, 8, 8, device="cuda")
        torch.nn.functional.conv2d(ones, ones[..., :3, :3]).sum().item()
    except RuntimeError as error:
        return torch.device("cpu"), f"CPU: the GPU {name} failed a test ({str(error).splitlines()[0]})."
    return torch.device("cuda"), f"GPU: {name}."
