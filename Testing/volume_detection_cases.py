"""Detections in volumes without a network: bells of probability about the landmarks of phantoms, or beside them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.bundle import Bundle, Calibration
from LandmarkDetectionLib.inference.decoding import decode, described
from LandmarkDetectionLib.inference.detection import Detection
from LandmarkDetectionLib.landmarks import load_schema
from LandmarkDetectionLib.phantoms.knee_scene import knee_scene
from LandmarkDetectionLib.phantoms.scan_frames import placed
from LandmarkDetectionLib.phantoms.spine_scene import spine_scene
from LandmarkDetectionLib.priors import ShapePrior

CELL = 4.0
"""Millimeters of a network's cell."""

GRID = 12
"""Cells along each axis of a heatmap before it is cut to a window."""

PERSONS = 4

SCHEMAS = {"knee": "knee-ct", "spine": "spine-ct"}


@dataclass(frozen=True, eq=False)
class Scan:
    """A volume of a phantom without its voxels.

    ``places`` (n, 3) LPS of all landmarks, ``truth`` (n, 3) index coordinates, NaN where out of view.
    """

    name: str
    frame: Frame
    places: np.ndarray
    truth: np.ndarray

    def image(self) -> Image:
        return Image(np.broadcast_to(np.uint8(0), self.frame.size[::-1]), self.frame, self.name)


@cache
def person(anatomy: str, seed: int) -> np.ndarray:
    """(n, 3) LPS of all landmarks of a phantom; a right knee, or a whole column."""
    return (knee_scene(seed) if anatomy == "knee" else spine_scene(seed)).landmarks()


def scan(anatomy: str, seed: int) -> Scan:
    """A field about a part of one of a few phantoms, a little changed; thick slices and left-handed axes among them."""
    random = np.random.default_rng(seed)
    places = person(anatomy, seed % PERSONS)
    places = places + random.normal(0, 1.0, places.shape)
    middle = places[random.integers(len(places))] if anatomy == "spine" else places.mean(axis=0)
    extent = np.array([200.0, 200.0, 160.0 if anatomy == "spine" else random.uniform(60, 130)])
    voxel = np.array([(1.5, 1.5, 1.5), (0.7, 0.7, 3.0), (1.0, 1.2, 2.0)][seed % 3])
    frame = placed(middle, np.rint(extent / voxel), voxel, degrees=random.normal(0, 8, 3))
    frame = frame.flipped(0) if seed % 2 else frame
    truth = frame.to_index(places)
    outside = (truth < -0.5) | (truth > np.array(frame.size) - 0.5)
    return Scan(f"{anatomy}-{seed}.nii.gz", frame, places, np.where(outside.any(axis=1, keepdims=True), np.nan, truth))


@cache
def prior_of(anatomy: str) -> ShapePrior:
    """Of the phantoms with some noise, so that few of them are enough."""
    shapes = np.stack([person(anatomy, number % PERSONS) for number in range(3 * PERSONS)])
    return ShapePrior.fit(shapes + np.random.default_rng(1).normal(0, 2.0, shapes.shape))


def bundle_of(anatomy: str, **calibration) -> Bundle:
    """A bundle of the anatomy without weights."""
    schema = load_schema(SCHEMAS[anatomy])
    count = len(schema.landmarks)
    values = Calibration.neutral(count, 0.0).to_dict() | calibration
    kind = {"knee": "volume_joint", "spine": "volume_column"}[anatomy]
    return Bundle(
        folder=Path("."), kind=kind, name=SCHEMAS[anatomy], version="1.0.0", title=anatomy, description="",
        licence="Apache-2.0", terms="", schema=schema, mirrored_side="left", stages={}, decoding={},
        calibration=Calibration.from_dict(values, count), prior=prior_of(anatomy), errors=None, figures={},
        training={}, sha256="",
    )  # fmt: skip


def bells(points: np.ndarray, deviation: float, random: np.random.Generator) -> tuple[torch.Tensor, list[Frame]]:
    """Log-probabilities (n, d, h, w) of bells of so many mm about points (n, 3) in LPS, and grids about them."""
    logits, grids = [], []
    axis = np.arange(GRID)
    for point in np.nan_to_num(points):
        cell = random.uniform(GRID / 2 - 1.5, GRID / 2 + 0.5, 3)
        grids.append(Frame((GRID,) * 3, point - CELL * cell, CELL * np.eye(3), "calibrated"))
        x, y, z = (((axis - place) * CELL / deviation) ** 2 / 2 for place in cell)
        logits.append(-(x + y[:, None] + z[:, None, None]))
    maps = torch.tensor(np.stack(logits), dtype=torch.float32)
    return torch.log_softmax(maps.flatten(1), 1).view(maps.shape), grids


def detection_of(
    bundle: Bundle,
    image: Image,
    places: np.ndarray,
    absent: np.ndarray,
    seed: int = 0,
    error: float = 2.0,
    said: float = 2.0,
) -> Detection:
    """Landmarks (n, 3) in LPS that are found `error` mm (standard deviation along each axis) beside their places.

    Args:
        absent: (n,) landmarks that are said not to be there.
        said: standard deviation of the heatmaps, mm.
    """
    random = np.random.default_rng(seed)
    maps, grids = bells(places + random.normal(0, error, places.shape), said, random)
    decoded = decode(bundle, image, maps, grids, absent=absent)
    return described(bundle, image, decoded, 0.99)


def detected(bundle: Bundle, case: Scan, seed: int = 0, **how) -> Detection:
    """A scan on which just those landmarks are found that are in view."""
    return detection_of(bundle, case.image(), case.places, np.isnan(case.truth).any(axis=1), seed, **how)


class PhantomDetector:
    """Finds the landmarks of volumes whose truth (n, 3) it was told by their names.

    Where it is confused, it misses one landmark that is in view and makes up one that is not.
    """

    device, device_reason = "cpu", "nothing is computed."

    def __init__(
        self, bundle: Bundle, truths: dict[str, np.ndarray], error: float = 2.0, confused: bool = False
    ) -> None:
        self.bundle, self.truths, self.error, self.confused = bundle, truths, error, confused

    def detect(self, image: Image, side: str = "auto", force: bool = False) -> Detection:
        places = image.frame.to_physical(self.truths[image.name])
        absent = np.isnan(places).any(axis=1)
        if self.confused:
            missed, invented = np.flatnonzero(~absent)[:1], np.flatnonzero(absent)[:1]
            places[invented] = image.frame.to_physical((np.array(image.frame.size) - 1) / 2)
            absent[missed], absent[invented] = True, False
        return detection_of(self.bundle, image, places, absent, len(image.name), self.error)
