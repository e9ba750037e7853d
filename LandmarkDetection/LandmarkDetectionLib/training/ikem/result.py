"""The result of the interactive pipeline: weights and how they are used, the recipe, errors by clicks."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor

from ...inference.published.ikem_folder import DESCRIPTION
from ..kneel.result import sha256, write_json
from .model import IkemModel

CLICKS = 5
"""Corrections of the figures."""


def write_result(model: IkemModel, folder: Path) -> Path:
    """Write the folder that `inference.published.ikem_folder.load_ikem` reads, with ``figures.json`` and the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.recipe.path, folder / "recipe.toml")
    names = []
    for fold in range(model.members):
        names.append(f"network-{fold}.safetensors")
        shutil.copyfile(model.folder(fold) / "weights.safetensors", folder / names[-1])
    content = {
        "name": model.recipe.name,
        "schema": model.schema.name,
        "network": model.recipe["network"],
        "plan": asdict(model.plan),
        "previous": model.interaction.previous,
        "decoding": model.recipe["inference"]["decoding"],
        "sha256": {name: sha256(folder / name) for name in names},
    }
    write_json(folder / DESCRIPTION, content)
    write_json(folder / "figures.json", figures(model))
    return folder


def figures(model: IkemModel) -> dict:
    """Errors in pixels of the films that chose each network's epoch, after 0 to `CLICKS` corrections of the worst."""
    curves = torch.cat([kept_out_curves(model, fold) for fold in range(model.members)], dim=1)
    return {
        "films": curves.shape[1],
        "unit": "px",
        "kept_out": "films that were not learnt from, but chose the epoch",
        "mean_by_clicks": curves.mean(dim=1).tolist(),
        "median_by_clicks": curves.quantile(0.5, dim=1).tolist(),
    }


def kept_out_curves(model: IkemModel, fold: int) -> Tensor:
    """Mean errors ``(CLICKS + 1, N)`` of a fold's films by the network that has not learnt from them."""
    network = model.trained(fold)
    objective, _ = model.objective(fold, "schedule", network.hint_stride)
    return objective.curves(network, objective.kept_out, CLICKS)
