"""A trained spine model as a bundle: half-precision weights, calibration and figures from films kept out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ..inference.bundle import FORMAT, MODEL_FILE, Bundle
from ..priors import ErrorModel, ShapePrior
from .column_calibration import ColumnEvidence, gather, member
from .column_model import ColumnModel
from .export import halve, sha256, stage

_NEUTRAL = {
    "presence_threshold": 0.0,
    "temperature": 1.0,
    "error_scale": 1.0,
    "covariance_scale": 1.0,
    "review_threshold": 1.0,
    "refusal_threshold": 1.0,
}


def export(model: ColumnModel, folder: Path) -> Path:
    """Write the bundle of a trained model, first without calibration, then with what its members say out of fold."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"column-{fold}.safetensors" for fold in range(model.recipe.folds)]
    for fold, name in enumerate(names):
        halve(model.network(fold), folder / name)
    prior = ShapePrior.fit(model.films.points.double().numpy(), groups=model.films.subjects)
    save_file(prior.to_tensors(), folder / "shape.safetensors")
    neutral = ErrorModel(np.eye(prior.mean.size))
    save_file(neutral.to_tensors(), folder / "errors.safetensors")
    write(model, folder, names, _NEUTRAL, {})
    evidence = out_of_fold(model, Bundle.load(folder), names)
    save_file(evidence.error_model().to_tensors(), folder / "errors.safetensors")
    write(model, folder, names, evidence.fit(), {"out_of_fold": evidence.figures()})
    return folder


def out_of_fold(model: ColumnModel, bundle: Bundle, names: list[str]) -> ColumnEvidence:
    """Every training film by the one member that has not seen its study."""
    parts = []
    for fold, name in enumerate(names):
        films = [film for film, k in zip(model.films.names, model.folds, strict=True) if k == fold]
        parts.append(gather(member(bundle, name), model.data, films))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def write(model: ColumnModel, folder: Path, names: list[str], calibration: dict, figures: dict) -> None:
    """The description of the bundle."""
    about = model.recipe["bundle"]
    content = {
        "format": FORMAT,
        "kind": "column",
        "name": model.recipe.name,
        **{key: about[key].strip() for key in ("version", "title", "description", "licence", "terms")},
        "schema": model.schema.to_dict(),
        "mirrored_side": None,
        "stages": {"column": stage(model.recipe["column"], names)},
        "decoding": model.recipe["chain"],
        "calibration": calibration,
        "prior": "shape.safetensors",
        "errors": "errors.safetensors",
        "figures": figures,
        "training": {
            "recipe": model.recipe.path.stem,
            "data": model.data.name,
            "calibrated_on": "out-of-fold films",
        },
        "sha256": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
