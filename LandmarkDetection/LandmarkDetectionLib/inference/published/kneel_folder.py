"""KNEEL as a training run leaves it: a folder with the weights of all folds and how they are used."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from safetensors.torch import load_file

from ...errors import BundleError
from ..networks import build_network
from .fold_ensemble import FoldEnsemble, FoldModel
from .kneel import KneelPlan, TwoStageKneel

DESCRIPTION = "kneel.json"


def load_kneel(folder: Path, device: str | torch.device = "cpu") -> TwoStageKneel:
    """Both stages with the mean of all folds.

    Raises:
        BundleError: a file is missing, or is not the one that was trained.
    """
    path = folder / DESCRIPTION
    if not path.is_file():
        raise BundleError(f"'{folder}' holds no trained KNEEL: it has no {DESCRIPTION}.")
    content = json.loads(path.read_text(encoding="utf-8"))
    for name, expected in content["sha256"].items():
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != expected:
            raise BundleError(f"The weights '{name}' in '{folder}' are missing or changed; copy or train them again.")
    predictors = [
        FoldEnsemble([fold_model(folder, stage["network"], member) for member in stage["members"]], flips, device)
        for stage, flips in ((content["stages"][name], content["flip_averaging"]) for name in ("low_cost", "high_cost"))
    ]
    plan = {key: tuple(value) if isinstance(value, list) else value for key, value in content["plan"].items()}
    return TwoStageKneel(*predictors, KneelPlan(**plan))


def fold_model(folder: Path, description: dict, member: dict) -> FoldModel:
    """One fold's network with the statistics of its films."""
    network = build_network(description)
    network.load_state_dict(load_file(folder / member["weights"]))
    return FoldModel(network, member["mean"], member["deviation"], description["in_channels"])
