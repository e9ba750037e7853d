"""Contour-Hugging Heatmaps as a training run leaves them: a folder with weights, temperatures and a threshold."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file as load_arrays
from safetensors.torch import load_file

from ...errors import BundleError
from ...landmarks import LandmarkSchema
from ...priors import ShapePrior
from ..networks import build_network
from .contour import TrainedContour
from .contour_view import ContourPlan

DESCRIPTION = "contour.json"
WEIGHTS = "network.safetensors"
SHAPES = "shape.safetensors"


def is_contour_folder(folder: Path) -> bool:
    """Whether a training run of this kind left its result there."""
    return (folder / DESCRIPTION).is_file()


def load_contour(folder: Path) -> TrainedContour:
    """What a training run left.

    Raises:
        BundleError: a file is missing, or is not the one that was trained, or the description lacks a field.
    """
    if not is_contour_folder(folder):
        raise BundleError(f"'{folder}' holds no Contour-Hugging Heatmaps: it has no {DESCRIPTION}.")
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        check_files(folder, content["sha256"])
        return described(folder, content)
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(f"'{folder / DESCRIPTION}' is damaged ({error}); copy or train the model again.") from error


def check_files(folder: Path, hashes: dict[str, str]) -> None:
    """Refuse weights that are not the ones described.

    Raises:
        BundleError: names the file.
        KeyError: a file has no hash at all.
    """
    for name in (WEIGHTS, SHAPES):
        file = folder / name
        if not file.is_file() or hashlib.sha256(file.read_bytes()).hexdigest() != hashes[name]:
            raise BundleError(f"The file '{name}' in '{folder}' is missing or changed; copy or train it again.")


def described(folder: Path, content: dict) -> TrainedContour:
    """The model of a description whose files are in order.

    Raises:
        KeyError, TypeError, ValueError: a field is missing or makes no sense.
    """
    network = build_network(content["network"])
    network.load_state_dict(load_file(folder / WEIGHTS))
    plan = {key: tuple(value) if isinstance(value, list) else value for key, value in content["plan"].items()}
    schema = LandmarkSchema.from_dict(content["schema"])
    temperatures = np.array(content["temperatures"], dtype=np.float64)
    if temperatures.shape != (len(schema.landmarks),) or not (np.isfinite(temperatures) & (temperatures > 0)).all():
        raise ValueError("there must be one positive temperature for each landmark")
    threshold = content["review"]["threshold_cells"]
    return TrainedContour(
        name=content["name"],
        version=content["version"],
        terms=content["terms"],
        sha256=content["sha256"][WEIGHTS],
        schema=schema,
        network=network.eval(),
        plan=ContourPlan(**plan),
        temperatures=temperatures,
        threshold=None if threshold is None else float(threshold),
        prior=ShapePrior.from_tensors(load_arrays(folder / SHAPES)),
    )
