"""A bundle calibrated anew on a user's own labelled films."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from ..errors import LandmarkDetectionError
from ..heatmaps import index_to_cell
from ..images import read_image
from ..inference.bundle import MODEL_FILE, Bundle
from ..inference.detector import Detector
from ..preprocessing.crop import centroid_size
from . import column_calibration
from .calibration import Evidence, fit
from .films import read_labels


def joint_values(bundle: Bundle, data: Path) -> tuple[dict[str, float], int, int]:
    """Calibration of a model of one joint, and the numbers of films that were used and refused."""
    points, _ = read_labels(data)
    pipeline = Detector(bundle).pipeline
    logits, truth, share, refused = [], [], [], 0
    for name, known in points.items():
        try:
            image = read_image(data / "images" / name)
            candidates = pipeline.region.candidates(image, lambda: False)
            chosen, _ = pipeline.choose(image, candidates, "auto", force=False)
        except LandmarkDetectionError:
            refused += 1
            continue
        heatmaps, window = pipeline.locate(image, chosen, lambda: False)
        index = window.to_index(image.frame.to_physical(known))
        stride = pipeline.landmarks.stride
        logits.append(heatmaps)
        truth.append(torch.tensor(index_to_cell(index, stride), dtype=torch.float32))
        share.append(stride / centroid_size(index))
    if not logits:
        raise LandmarkDetectionError(f"No image of '{data}' could be used; check that its images fit the model.")
    evidence = Evidence(torch.stack(logits), torch.stack(truth), torch.tensor(share))
    return fit(evidence), len(logits), refused


def column_values(bundle: Bundle, data: Path) -> tuple[dict[str, float], int, int]:
    """The same for a spine model."""
    names = list(read_labels(data)[0])
    neutral = replace(bundle, calibration=replace(bundle.calibration, **column_calibration.NEUTRAL))
    evidence = column_calibration.gather(neutral, data, names)
    return evidence.fit(), len(evidence.truth), len(names) - len(evidence.truth)


VALUES = {"joint": joint_values, "column": column_values}


def calibrate(folder: Path, data: Path) -> dict[str, float]:
    """Calibrate a bundle in place on labelled films, which should not be those it learnt from.

    Raises:
        LandmarkDetectionError: no film of the data set can be used.
    """
    bundle = Bundle.load(folder)
    values, used, refused = VALUES[bundle.kind](bundle, data)
    path = folder / MODEL_FILE
    model = json.loads(path.read_text(encoding="utf-8"))
    model["calibration"] |= values
    model["training"]["calibrated_on"] = f"{data.name}: {used} films, {refused} refused"
    path.write_text(json.dumps(model, indent=1) + "\n", encoding="utf-8")
    return values
