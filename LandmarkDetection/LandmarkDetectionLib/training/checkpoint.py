"""Checkpoints of a training run as safetensors and JSON, never pickle; resuming continues bit for bit."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """The state of an optimizer as flat names."""
    state = optimizer.state_dict()["state"]
    return {
        f"optimizer.{index}.{key}": value.contiguous() for index, item in state.items() for key, value in item.items()
    }


def restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Tensor]) -> None:
    """Put the flat names back."""
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith("optimizer."):
            _, index, key = name.split(".", 2)
            state.setdefault(int(index), {})[key] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def save_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer, progress: dict[str, Any]
) -> None:
    """Write ``checkpoint.safetensors`` with ``progress`` in its metadata; a kill never leaves half a file."""
    tensors = optimizer_tensors(optimizer)
    for prefix, module in modules.items():
        tensors |= {f"{prefix}.{name}": value.contiguous() for name, value in module.state_dict().items()}
    part = folder / "checkpoint.part"
    save_file(tensors, part, metadata={"progress": json.dumps(progress)})
    os.replace(part, folder / "checkpoint.safetensors")


def load_checkpoint(
    folder: Path, modules: dict[str, nn.Module], optimizer: torch.optim.Optimizer
) -> dict[str, Any] | None:
    """Restore everything in place and return ``progress``; None when there is no checkpoint."""
    from safetensors import safe_open

    path = folder / "checkpoint.safetensors"
    if not path.exists():
        return None
    tensors = load_file(path)
    for prefix, module in modules.items():
        start = f"{prefix}."
        module.load_state_dict({n.removeprefix(start): v for n, v in tensors.items() if n.startswith(start)})
    restore_optimizer(optimizer, tensors)
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["progress"])
