"""A trained spine model as a bundle: half-precision weights, calibration and figures from films kept out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ..inference.bundle import FORMAT, MODEL_FILE, Bundle
from ..priors import ErrorModel, ShapePrior
from .column_calibration import NEUTRAL, ColumnEvidence, gather, members
from .column_model import HALVES, ColumnModel
from .export import halve, sha256, stage

_UNUSED = {"temperature": 1.0, "refusal_threshold": 1.0}
"""Fields of the calibration that a column has no use for."""


def export(model: ColumnModel, folder: Path) -> Path:
    """Write the bundle of a trained model, first without calibration, then with what its members say out of fold."""
    folder.mkdir(parents=True, exist_ok=True)
    for fold in range(model.recipe.folds):
        halve(model.trained("column", f"fold{fold}"), folder / column_file(fold))
    for half in range(HALVES):
        halve(model.trained("vertebra", f"half{half}"), folder / vertebra_file(half))
    prior = ShapePrior.fit(model.films.points.double().numpy(), groups=model.films.subjects)
    save_file(prior.to_tensors(), folder / "shape.safetensors")
    neutral = ErrorModel(np.eye(prior.mean.size))
    save_file(neutral.to_tensors(), folder / "errors.safetensors")
    write(model, folder, NEUTRAL | {"review_threshold": 1.0}, {})
    evidence = out_of_fold(model, Bundle.load(folder))
    save_file(evidence.error_model().to_tensors(), folder / "errors.safetensors")
    for fold in range(model.recipe["column"]["shipped"], model.recipe.folds):
        (folder / column_file(fold)).unlink()
    write(model, folder, evidence.fit(), {"out_of_fold": evidence.figures()})
    return folder


def column_file(fold: int) -> str:
    """Weights of the column network that has not seen a fold."""
    return f"column-{fold}.safetensors"


def vertebra_file(half: int) -> str:
    """Weights of the vertebra network that has not seen a half of the folds."""
    return f"vertebra-{half}.safetensors"


def out_of_fold(model: ColumnModel, bundle: Bundle) -> ColumnEvidence:
    """Every training film by the one member of each stage that has not seen its study."""
    parts = []
    for fold in range(model.recipe.folds):
        names = [name for name, k in zip(model.films.names, model.folds, strict=True) if k == fold]
        blind = members(bundle, column=column_file(fold), vertebra=vertebra_file(fold % HALVES))
        parts.append(gather(blind, model.data, names))
    whole = parts[0]
    for part in parts[1:]:
        whole = whole.joined(part)
    return whole


def write(model: ColumnModel, folder: Path, calibration: dict, figures: dict) -> None:
    """The description of the bundle."""
    about, shipped = model.recipe["bundle"], model.recipe["column"]["shipped"]
    content = {
        "format": FORMAT,
        "kind": "column",
        "name": model.recipe.name,
        **{key: about[key].strip() for key in ("version", "title", "description", "licence", "terms")},
        "schema": model.schema.to_dict(),
        "mirrored_side": None,
        "stages": {
            "column": stage(model.recipe["column"], [column_file(fold) for fold in range(shipped)]),
            "vertebra": stage(model.recipe["vertebra"], [vertebra_file(half) for half in range(HALVES)]),
        },
        "decoding": model.recipe["chain"],
        "calibration": _UNUSED | calibration | {"presence_threshold": about["presence_threshold"]},
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
