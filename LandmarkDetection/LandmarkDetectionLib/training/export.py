"""A trained film model as a bundle: half-precision weights, calibration and figures from films kept out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
import torch
from safetensors.numpy import save_file as save_arrays
from safetensors.torch import save_file
from torch import nn

from ..heatmaps import index_to_cell, log_probabilities
from ..inference.bundle import FORMAT, MODEL_FILE
from ..landmarks import load_schema
from ..networks.fusion import fused
from .calibration import Evidence, fit
from .film_crops import centroid_size
from .film_model import FilmModel
from .likelihood import find_points, upright_crops
from .region_figures import kept_out_presence, presence_figures


def export(model: FilmModel, folder: Path) -> Path:
    """Write the bundle of a trained model."""
    folder.mkdir(parents=True, exist_ok=True)
    members = [f"landmarks-{fold}.safetensors" for fold in range(model.recipe.folds)]
    for fold, name in enumerate(members):
        halve(model.landmark_network(model.out / "student" / f"fold{fold}" / "weights.safetensors"), folder / name)
    halve(model.region_network(model.out / "region" / "all" / "weights.safetensors"), folder / "region.safetensors")
    save_arrays(model.prior().to_tensors(), folder / "shape.safetensors")
    evidence = out_of_fold_evidence(model)
    save_arrays(evidence.error_model().to_tensors(), folder / "errors.safetensors")
    threshold, region = presence_figures(kept_out_presence(model))
    stages = model.recipe.sections
    about = model.recipe["bundle"]
    content = {
        "format": FORMAT,
        "kind": "joint",
        "name": model.recipe.name,
        **{key: about[key].strip() for key in ("version", "title", "description", "licence", "terms")},
        "schema": load_schema(about["schema"]).to_dict(),
        "mirrored_side": about["mirrored_side"],
        "stages": {
            "region": stage(stages["region"], ["region.safetensors"]),
            "landmarks": stage(stages["landmarks"], members),
        },
        "decoding": {},
        "calibration": {"presence_threshold": threshold, **fit(evidence)},
        "prior": "shape.safetensors",
        "errors": "errors.safetensors",
        "figures": {"out_of_fold": landmark_figures(model, evidence) | region},
        "training": {"recipe": model.recipe.path.stem, "data": model.data.name, "calibrated_on": "out-of-fold films"},
        "sha256": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    (folder / MODEL_FILE).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return folder


def stage(section: dict, weights: list[str]) -> dict:
    """A stage as the bundle describes it."""
    return {"network": section["network"], "weights": weights, "plan": section["plan"]}


def halve(network: nn.Module, target: Path) -> None:
    """Weights with the normalizations folded in, in half precision, which is far finer than what training decides."""
    save_file({name: value.half().contiguous() for name, value in fused(network).state_dict().items()}, target)


def sha256(path: Path) -> str:
    """Hash of a file, as ``model.json`` lists it."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


@torch.no_grad()
def out_of_fold_evidence(model: FilmModel) -> Evidence:
    """Heatmaps of every labelled film by the one teacher that has not seen its subject, about what it found itself."""
    parts = []
    for fold in range(model.recipe.folds):
        network = model.trained_teacher(fold)
        films = model.films.select(model.folds == fold)
        images, points = films.batch(torch.arange(len(films)))
        typical = model.films_without(fold).points.mean(0)
        near = find_points(network, images, typical, model.geometry, network.stride, looks=2)
        crops, step, centre = upright_crops(images, near, model.geometry)
        middle = (torch.tensor(model.geometry.size) - 1) / 2
        truth = index_to_cell((points - centre) / step + middle, network.stride)
        share = network.stride * step[:, 0, 0] / centroid_size(points)[:, 0, 0]
        parts.append(Evidence(log_probabilities(network(crops).float()), truth, share))
    return Evidence(*(torch.cat([getattr(part, field) for part in parts]) for field in ("logits", "truth", "share")))


def landmark_figures(model: FilmModel, evidence: Evidence) -> dict:
    """Radial errors of single teachers on films kept out, in pixels of the film."""
    sizes = torch.cat([centroid_size(model.films.points[model.folds == k]) for k in range(model.recipe.folds)])
    errors = (evidence.errors() * sizes[:, 0]).double().numpy()
    films = errors.mean(axis=1)
    return {
        "films": len(films),
        "radial_error_px": {
            "mean": float(films.mean()),
            "median": float(np.median(errors)),
            "p95": float(np.quantile(errors, 0.95)),
        },
    }
