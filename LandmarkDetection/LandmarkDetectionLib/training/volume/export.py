"""A trained volume model as a bundle, calibrated on the split that its recipe names."""

from __future__ import annotations

from pathlib import Path

from ...inference.bundle import Bundle
from ...inference.chain import ChainWeights
from ..calibration.bundle_writing import finish_bundle, halve, write_bundle
from ..calibration.recalibration import Part, calibrated
from ..data.films import read_labels
from .model import VolumeModel
from .presence import presence_figures
from .scans import read_column

WEIGHTS = {"finding": ["finding.safetensors"], "points": ["points.safetensors"]}


def export(model: VolumeModel, folder: Path) -> Path:
    """Write the bundle of a trained model; no network has seen the volumes that it is calibrated on."""
    about = model.recipe["calibration"]
    modalities = read_column(model.data, "modality")
    names = [name for name, own in read_labels(model.data)[1].items() if own == about["split"]]
    bundle = uncalibrated_bundle(model, folder, names)
    names = [name for name in names if modalities[name] in about["modalities"]]
    result = calibrated([Part(bundle, names)], model.data)
    which = f"{len(names)} volumes ({', '.join(about['modalities'])}) of the split {about['split']}"
    finish_bundle(folder, result, which, WEIGHTS)
    return folder


def uncalibrated_bundle(model: VolumeModel, folder: Path, names: list[str]) -> Bundle:
    """The bundle before it knows anything of its errors, with its threshold of presence."""
    folder.mkdir(parents=True, exist_ok=True)
    for stage, files in WEIGHTS.items():
        halve(model.trained(stage), folder / files[0])
    decoding = model.recipe.sections.get("decoding")
    written = (folder, model.recipe, model.kind, model.data.name, model.prior(), WEIGHTS)
    bundle = write_bundle(*written, 0.0, decoding=decoding and vars(ChainWeights(**decoding)))
    others = model.data / model.recipe["data"]["others"]
    threshold, figures = presence_figures(bundle, model.data, names, others, model.recipe["calibration"]["split"])
    return write_bundle(*written, threshold, decoding=bundle.decoding, figures={"finding": figures})
