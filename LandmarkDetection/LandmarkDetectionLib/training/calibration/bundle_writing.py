"""Writes bundles: half-precision weights, and ``model.json`` with the hash of every file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from ...inference.bundle import FORMAT, MODEL_FILE, Bundle, Calibration
from ...landmarks import LandmarkSchema, load_schema
from ...networks.fusion import fused
from ...priors import ErrorModel, ShapePrior
from ..recipe import Recipe
from .recalibration import Calibrated, write_calibration

PRIOR, ERRORS = "shape.safetensors", "errors.safetensors"


def halve(network: nn.Module, target: Path) -> None:
    """Weights with the normalizations folded in, in half precision, which is far finer than what training decides."""
    save_file({name: value.half().contiguous() for name, value in fused(network).state_dict().items()}, target)


def sha256(path: Path) -> str:
    """Hash of a file, as ``model.json`` lists it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def hashes(folder: Path) -> dict[str, str]:
    """Hash of every file of weights in a bundle."""
    return {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))}


def write_bundle(
    folder: Path,
    recipe: Recipe,
    kind: str,
    data: str,
    prior: ShapePrior,
    weights: Mapping[str, list[str]],
    presence_threshold: float,
    decoding: Mapping | None = None,
    figures: Mapping | None = None,
) -> Bundle:
    """A bundle without calibration, from weights that lie in its folder.

    How errors go together is learnt from films on which all landmarks are; volumes seldom show all, so that a bundle
    for them says nothing of it.

    Args:
        kind: what a detector does with it, see `inference.detector.PIPELINES`.
        data: name of the data set it learnt from.
        weights: files of each stage; the recipe's section of that name describes network and plan.
    """
    about = recipe["bundle"]
    schema: LandmarkSchema = load_schema(about["schema"])
    save_arrays(prior.to_tensors(), folder / PRIOR)
    learns_errors = schema.dims == 2
    if learns_errors:
        save_arrays(ErrorModel(np.eye(prior.mean.size)).to_tensors(), folder / ERRORS)
    content = {
        "format": FORMAT,
        "kind": kind,
        "name": recipe.name,
        **{key: about[key].strip() for key in ("version", "title", "description", "licence", "terms")},
        "schema": schema.to_dict(),
        "mirrored_side": about.get("mirrored_side"),
        "stages": {
            name: {"network": recipe[name]["network"], "weights": files, "plan": recipe[name]["plan"]}
            for name, files in weights.items()
        },
        "decoding": decoding or {},
        "calibration": Calibration.neutral(len(schema.landmarks), presence_threshold).to_dict(),
        "prior": PRIOR,
        "errors": ERRORS if learns_errors else None,
        "figures": figures or {},
        "training": {"recipe": recipe.path.stem, "data": data, "calibrated_on": ""},
        "sha256": hashes(folder),
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return Bundle.load(folder)


def finish_bundle(folder: Path, result: Calibrated, calibrated_on: str, shipped: Mapping[str, list[str]]) -> None:
    """Put in what films kept out of training say, and leave only those files that are ``shipped`` with each stage."""
    kept = {PRIOR}.union(*shipped.values())
    if result.errors is not None:
        save_arrays(result.errors.to_tensors(), folder / ERRORS)
        kept.add(ERRORS)
    for path in folder.glob("*.safetensors"):
        if path.name not in kept:
            path.unlink()
    path = folder / MODEL_FILE
    model = json.loads(path.read_text(encoding="utf-8"))
    for name, files in shipped.items():
        model["stages"][name]["weights"] = files
    model["sha256"] = hashes(folder)
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    write_calibration(folder, result, calibrated_on)
