"""The result of KNEEL's pipeline: weights of all folds, the recipe, and figures from films kept out."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ...evaluation.metrics import bone_pck, radial_errors, summary
from ...inference.published.kneel import TwoStageKneel, region_view, working_film
from ...inference.published.kneel_folder import DESCRIPTION
from ...landmarks import load_schema
from .model import KneelModel
from .samples import STAGES, KneeFilm


def write_result(model: KneelModel, folder: Path) -> Path:
    """Write the folder that `inference.published.kneel_folder` reads, with ``figures.json`` and the recipe."""
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.recipe.path, folder / "recipe.toml")
    stages = {}
    for stage in STAGES:
        members = []
        for fold in range(model.recipe.folds):
            name = f"{stage}-{fold}.safetensors"
            shutil.copyfile(model.folder(stage, fold) / "weights.safetensors", folder / name)
            mean, deviation = model.statistics(stage, fold)
            members.append({"weights": name, "mean": mean, "deviation": deviation})
        stages[stage] = {"network": model.description(stage), "members": members}
    content = {
        "name": model.recipe.name,
        "plan": asdict(model.plan),
        "flip_averaging": model.recipe["inference"]["flip_averaging"],
        "stages": stages,
        "sha256": {path.name: sha256(path) for path in sorted(folder.glob("*.safetensors"))},
    }
    write_json(folder / DESCRIPTION, content)
    write_json(folder / "figures.json", out_of_fold_figures(model))
    return folder


def write_json(path: Path, content: dict) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def sha256(path: Path) -> str:
    """Hash of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def out_of_fold_figures(model: KneelModel) -> dict:
    """Errors of every film by the networks that have not seen its subject.

    ``true_region``: all landmarks in the region about the true center, as KNEEL cross-validates; ``two_stage``: from
    the film alone; ``center``: the first stage. In mm where every film says its spacing, else in pixels of the film.
    """
    found: dict[str, list[np.ndarray]] = {"true_region": [], "two_stage": [], "center": []}
    spacings: list[np.ndarray | None] = []
    detectors = [model.detector(fold) for fold in range(model.recipe.folds)]
    for knee, fold in zip(model.knees, model.folds, strict=True):
        positions, spacing = located(detectors[fold], knee)
        spacings.append(spacing)
        for name, values in positions.items():
            found[name].append(values)
    millimetres = all(spacing is not None for spacing in spacings)
    scales = np.stack(spacings) if millimetres else np.ones((len(spacings), 2))
    truth = np.stack([knee.points for knee in model.knees])
    center = model.plan.center_landmark
    schema = load_schema(model.recipe["data"]["schema"])
    chains = {bone: [schema.index(name) for name in names] for bone, names in schema.chains.items()}
    figures: dict = {"films": len(truth), "unit": "mm" if millimetres else "px"}
    for name, values in found.items():
        known = truth[:, [center]] if name == "center" else truth
        errors = radial_errors(np.stack(values) * scales[:, None], known * scales[:, None])
        figures[name] = described(errors, chains if name != "center" else {}, figures["unit"])
    return figures


def located(detector: TwoStageKneel, knee: KneeFilm) -> tuple[dict[str, np.ndarray], np.ndarray | None]:
    """Film indices of what is found in one film, and its spacing where that is known."""
    image = knee.image()
    film = working_film(image, knee.side, detector.plan)
    view = region_view(film, knee.points[detector.plan.center_landmark], knee.side, detector.plan)
    result = detector.detect(image, knee.side)[0]
    positions = {
        "true_region": view.to_film(detector.landmark_predictor(view.array[None])[0], film.frame),
        "two_stage": result.positions,
        "center": result.center[None],
    }
    return positions, np.asarray(image.frame.spacing) if image.frame.has_millimetres else None


def described(errors: np.ndarray, chains: Mapping[str, Sequence[int]], unit: str) -> dict:
    """Errors (films, landmarks) as figures; films in which no knee was found are counted, not averaged."""
    figures: dict = {"absent": int((~np.isfinite(errors).any(axis=1)).sum()), "radial_error": summary(errors)}
    return figures | ({"pck": bone_pck(errors, chains, unit)} if chains else {})
