"""Labelled films and volumes as a model sees them: the evidence that calibration rests on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...errors import Cancelled, LandmarkDetectionError
from ...images import read_image
from ...inference.bundle import Bundle, Calibration
from ...inference.detection import Detection
from ...inference.detector import Detector
from ...inference.shape_pose import shape_size
from .fitting import Evidence

Progress = Callable[[int, int, str], None]


def uncalibrated(bundle: Bundle) -> Bundle:
    """The same model, saying what its maps say of where it puts the points; what it refuses stays refused."""
    said = bundle.calibration
    neutral = Calibration.neutral(len(bundle.schema.landmarks), said.presence_threshold, said.scatter)
    return replace(bundle, calibration=neutral)


def with_members(bundle: Bundle, **weights: Sequence[str]) -> Bundle:
    """The bundle with some of its files of weights only, for each stage that is named."""
    stages = {name: replace(bundle.stages[name], weights=tuple(files)) for name, files in weights.items()}
    return replace(bundle, stages={**bundle.stages, **stages})


def detections(
    bundle: Bundle, data: Path, names: Sequence[str], progress: Progress = lambda done, total, name: None
) -> Iterator[tuple[str, Detection]]:
    """Name by name what a model finds on some films, never all at once; those that it refuses are left out."""
    detector = Detector(bundle, device="cpu")
    for done, name in enumerate(names):
        progress(done, len(names), name)
        try:
            found = detector.detect(read_image(data / "images" / name))
        except Cancelled:
            raise
        except LandmarkDetectionError:
            continue
        yield name, found


def evidence(
    found: Iterable[tuple[str, Detection]],
    truths: Mapping[str, np.ndarray],
    groups: Mapping[str, str],
    own_spread: bool,
) -> Evidence:
    """Evidence from detections without calibration.

    Args:
        truths: (n, 2 or 3) index coordinates by name, NaN where unknown.
        groups: subject or study by name.
        own_spread: whether the model takes covariances and expected errors from elsewhere than its heatmaps.

    Raises:
        LandmarkDetectionError: nothing was found.
    """
    rows = [(groups[name], *in_cells(detection, truths[name])) for name, detection in found]
    if not rows:
        raise LandmarkDetectionError("No image of the data set could be used; check that its images fit the model.")
    own, logits, truth, places, cell, size, strange, spread, radius = zip(*rows, strict=True)
    return Evidence(
        groups=own,
        logits=torch.stack(logits),
        truth=torch.tensor(np.stack(truth), dtype=torch.float32),
        found=torch.tensor(np.stack(places), dtype=torch.float32),
        cell=np.array(cell),
        size=np.array(size),
        strange=np.stack(strange),
        spread=np.stack(spread) if own_spread else None,
        radius=np.stack(radius) if own_spread else None,
    )


def normalised(logits: np.ndarray) -> torch.Tensor:
    """Log-probabilities (n, h, w) of one film, or (n, d, h, w) of one volume, in half precision."""
    maps = torch.from_numpy(logits)
    return torch.log_softmax(maps.flatten(1), dim=-1).view(maps.shape).half()


def in_cells(detection: Detection, truth: np.ndarray) -> tuple:
    """One image's part of an `Evidence`, in the order of its fields after the group.

    The unit of length is a pixel of a film, and a millimeter in a volume, whose voxels need not be cubes.
    """
    landmarks, heatmaps, prior = detection.landmarks, detection.heatmaps, detection.prior
    frame, dims = landmarks.frame, landmarks.frame.dims
    cell = float(abs(np.linalg.det(heatmaps.frame_of(0).index_map(frame)[:, :-1])) ** (1 / dims))
    steps = np.ones(dims)
    if dims == 3:
        cell, steps = float(heatmaps.frame_of(0).spacing[0]), frame.spacing
    strange = prior.residuals(landmarks.positions * steps, landmarks.covariances * np.outer(steps, steps))
    return (
        normalised(heatmaps.logits),
        heatmaps.cells(frame.to_physical(truth)),
        heatmaps.cells(frame.to_physical(landmarks.positions)),
        cell,
        shape_size(truth * steps, prior),
        strange / cell,
        landmarks.covariances / cell**2,
        landmarks.expected_errors / cell,
    )
