"""The result of Contour-Hugging Heatmaps: weights, temperatures, the threshold of review, the recipe, and figures."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path

from safetensors.numpy import save_file

from ...errors import LandmarkDetectionError
from ...inference.published.contour_folder import DESCRIPTION, SHAPES, WEIGHTS
from ...priors import ShapePrior
from ..kneel.result import sha256, write_json
from .calibration import Calibration, calibrate
from .model import ContourModel
from .samples import read_contour_films


def write_result(model: ContourModel, folder: Path) -> Path:
    """Write the folder that `inference.published.contour_folder` reads, with ``figures.json`` and the recipe.

    Raises:
        LandmarkDetectionError: the data set has too few films to calibrate with or to learn shapes from.
    """
    shapes = shape_prior(model)
    calibration = calibrated(model)
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(model.recipe.path, folder / "recipe.toml")
    shutil.copyfile(model.folder / "weights.safetensors", folder / WEIGHTS)
    save_file(shapes.to_tensors(), folder / SHAPES)
    wanted = model.recipe["calibration"]
    content = {
        "name": model.recipe.name,
        "version": model.recipe["version"],
        "terms": model.dataset.terms,
        "schema": model.schema.to_dict(),
        "network": model.recipe["network"],
        "plan": asdict(model.plan),
        "temperatures": list(calibration.temperatures),
        "review": {
            "threshold_cells": calibration.threshold,
            "wrong_beyond": wanted["wrong_beyond"],
            "unit": calibration.figures["unit"],
            "sensitivity": wanted["sensitivity"],
        },
        "calibrated_on": {
            "data": model.dataset.name,
            "split": wanted["split"],
            "films": list(calibration.fitted_on),
        },
        "sha256": {name: sha256(folder / name) for name in (WEIGHTS, SHAPES)},
    }
    write_json(folder / DESCRIPTION, content)
    checked = {"data": model.dataset.name, "split": wanted["split"], "names": list(calibration.checked_on)}
    write_json(folder / "figures.json", {"checked_on": checked, **calibration.figures})
    return folder


def calibrated(model: ContourModel) -> Calibration:
    """Temperatures and threshold from the split that the recipe names."""
    wanted = model.recipe["calibration"]
    films = read_contour_films(model.dataset, wanted["split"], model.plan)
    return calibrate(model.trained(), model.plan, films, wanted["wrong_beyond"], wanted["sensitivity"])


def shape_prior(model: ContourModel) -> ShapePrior:
    """Shapes of the training films: the network does not use them, corrections do.

    Raises:
        LandmarkDetectionError: too few films have all their landmarks.
    """
    try:
        return ShapePrior.fit(model.films.whole_shapes())
    except ValueError as error:
        raise LandmarkDetectionError(
            f"The training films of '{model.dataset.name}' say too little about shapes ({error}); "
            "at least three must have all their landmarks."
        ) from error
