"""The result of an anatomical prior: weights, static atlas, description with hashes, the recipe, and figures."""

from __future__ import annotations

import math
import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.torch import save_file
from torch import nn

from ...priors.anatomy_folder import ATLAS, DECODER, DESCRIPTION, ENCODER, SAE, load_anatomy
from ..kneel.result import sha256, write_json
from .model import AnatomyModel


def write_result(model: AnatomyModel, folder: Path) -> Path:
    """Write the folder that `priors.anatomy_folder.load_anatomy` reads, with ``figures.json`` and the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.recipe.path, folder / "recipe.toml")
    trained = model.trained()
    save_weights(trained.prior.encoder, folder / ENCODER)
    save_weights(trained.prior.decoder, folder / DECODER)
    save_file({"probabilities": trained.atlas.probabilities.contiguous()}, folder / ATLAS)
    if trained.sae is not None:
        save_weights(trained.sae, folder / SAE)
    settings = trained.prior.settings
    inference = {key: value for key, value in vars(settings).items() if key not in ("view", "appearance")}
    content = {
        "name": model.recipe.name,
        "terms": trained.terms,
        "label_names": list(trained.label_names),
        "network": model.shape() | {"labels": len(trained.label_names)},
        "view": asdict(settings.view),
        "appearance": asdict(settings.appearance),
        "inference": inference,
        "closure": dict(trained.closure),
        "sae": model.recipe["sae"]["network"] if trained.sae is not None else None,
        "sha256": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    write_json(folder / DESCRIPTION, content)
    write_json(folder / "figures.json", figures(model, folder))
    return folder


def figures(model: AnatomyModel, folder: Path) -> dict:
    """Every method on the labelled images of each split that the recipe names, and what was learnt from."""
    learnt = model.source.learnt() | {model.source.images: len(model.windows.names)}
    return {"learnt_from": learnt, "unit": model.source.unit, **finite(model.source.figures(load_anatomy(folder)))}


def finite(values: dict) -> dict:
    """The same with null for what is not finite, which JSON cannot hold."""
    return {
        key: finite(value)
        if isinstance(value, dict)
        else (None if isinstance(value, float) and not math.isfinite(value) else value)
        for key, value in values.items()
    }


def save_weights(network: nn.Module, path: Path) -> None:
    save_file({name: value.contiguous() for name, value in network.state_dict().items()}, path)
