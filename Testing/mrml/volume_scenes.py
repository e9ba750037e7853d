"""Volumes of phantoms in the scene, and detections drawn from their truth: a spine of 154 points, a knee of 15."""

from __future__ import annotations

import functools

import numpy as np
import slicer.util
from LandmarkDetectionLib.geometry import Frame
from LandmarkDetectionLib.inference.detection import Detection, Heatmaps
from LandmarkDetectionLib.inference.session import Session
from LandmarkDetectionLib.landmarks import LandmarkSet, load_schema
from LandmarkDetectionLib.mrml.following import FOLLOWING
from LandmarkDetectionLib.mrml.markups import create_markups
from LandmarkDetectionLib.mrml.volumes import volume_image
from LandmarkDetectionLib.phantoms.knee_scene import knee_scene
from LandmarkDetectionLib.phantoms.scan_frames import placed
from LandmarkDetectionLib.phantoms.volumes import make_knee_volume, make_spine_volume
from LandmarkDetectionLib.priors import ShapePrior

LPS = np.array([-1.0, -1.0, 1.0])
SCHEMAS = {"spine": "spine-ct", "knee": "knee-ct"}
WINDOW, CELL = 24, 1.5
"""Cells along each axis of a heatmap, and their length in mm."""


@functools.cache
def spine_phantom():
    """A lumbar spine (L1 to L5 and neighbors) in even voxels of 5 mm."""
    return make_spine_volume(24, "ct", "lumbar", spacing=5.0, metal=False)


@functools.cache
def knee_phantom():
    """A right knee, all 15 points in view, in voxels of 3 mm."""
    points = knee_scene(10, "right", False).landmarks()
    middle = (points.min(axis=0) + points.max(axis=0)) / 2
    return make_knee_volume(10, "ct", "right", frame=placed(middle, (42, 42, 40), (3.0, 3.0, 3.0)), metal=False)


@functools.cache
def prior(anatomy: str) -> ShapePrior:
    """A prior about the person of the phantom: stretched, bent, noisy. Real models learn from many persons."""
    phantom = spine_phantom() if anatomy == "spine" else knee_phantom()
    points = phantom.scene.landmarks()
    points = points - points.mean(axis=0)
    along = points[:, 2:] / np.abs(points[:, 2]).max()
    random = np.random.default_rng(6)
    shapes = [
        points * random.normal(1.0, 0.05, 3)
        + along**2 * random.normal(0.0, 8.0, 3)
        + random.normal(0, 0.7, points.shape)
        for _ in range(40)
    ]
    return ShapePrior.fit(np.stack(shapes), folds=3)


def add_volume(phantom, name: str, ijk_to_ras: np.ndarray | None = None):
    """A volume node with the voxels of a phantom, where its frame says unless a matrix (4, 4) is given."""
    if ijk_to_ras is None:
        ijk_to_ras = np.eye(4)
        ijk_to_ras[:3, :3] = phantom.frame.steps * LPS[:, None]
        ijk_to_ras[:3, 3] = phantom.frame.origin * LPS
    return slicer.util.addVolumeFromArray(phantom.voxels.copy(), ijk_to_ras, name)


def truth_detection(frame: Frame, anatomy: str, heatmaps: bool = True, name: str | None = None) -> Detection:
    """A detection at the true landmarks of the phantom, in any frame of its volume node in the world.

    Covariances are ellipsoids of 1 to 2.5 mm, longest along the body; what the volume does not show is absent.
    """
    phantom = {"spine": spine_phantom, "knee": knee_phantom}[anatomy]()
    schema = load_schema(SCHEMAS[anatomy])
    assert schema.ids == phantom.ids
    positions = frame.to_index(phantom.physical())
    there = np.isfinite(positions).all(axis=1)
    to_index = np.linalg.inv(frame.steps)
    sizes = np.linspace(1.0, 2.0, len(positions))[:, None, None]
    millimeters = sizes**2 * np.diag([1.0, 1.0, 1.5]) ** 2
    covariances = to_index @ millimeters @ to_index.T
    errors = sizes[:, 0, 0] * 1.8 / np.sqrt(np.mean(frame.spacing**2))
    threshold = float(np.quantile(errors[there], 0.8))
    covariances[~there], errors[~there] = np.nan, np.nan
    statuses = np.where(there, np.where(errors > threshold, "review", "predicted"), "absent")
    source = f"{name or SCHEMAS[anatomy]} 0.1.0"
    landmarks = LandmarkSet(schema, frame, positions, covariances, errors, tuple(statuses), (source,) * len(positions))
    return Detection(
        bundle_name=name or SCHEMAS[anatomy],
        bundle_version="0.1.0",
        bundle_sha256="0" * 64,
        image_name=f"{anatomy}.nrrd",
        landmarks=landmarks,
        side="right" if anatomy == "knee" else None,
        side_probability=0.97 if anatomy == "knee" else None,
        presence=0.99,
        prior=prior(anatomy),
        heatmaps=drawn_heatmaps(landmarks, millimeters) if heatmaps else None,
        review_threshold=threshold,
    )


def drawn_heatmaps(landmarks: LandmarkSet, covariances: np.ndarray) -> Heatmaps:
    """A window of `WINDOW` cells along L, P and S about each landmark; flat where it is absent.

    Args:
        landmarks: where the modes are.
        covariances: (n, 3, 3) mm squared, LPS.
    """
    physical = landmarks.physical()
    middle = (WINDOW - 1) / 2
    axis = (np.arange(WINDOW) - middle) * CELL
    offsets = np.stack(np.meshgrid(axis, axis, axis, indexing="ij")[::-1], axis=-1)
    logits, frames = np.zeros((len(physical), WINDOW, WINDOW, WINDOW), np.float32), []
    for row, point in enumerate(physical):
        there = np.isfinite(point).all()
        origin = (point if there else landmarks.frame.origin) - middle * CELL
        frames.append(Frame((WINDOW,) * 3, origin, np.eye(3) * CELL, "calibrated"))
        if there:
            logits[row] = -0.5 * np.einsum("...i,ij,...j->...", offsets, np.linalg.inv(covariances[row]), offsets)
    return Heatmaps(logits, tuple(frames))


def follow_truth(volume, anatomy: str, **options):
    """Detect the truth in a volume node and follow it as the panel does; returns the markups node."""
    taken = volume_image(volume)
    detection = truth_detection(taken.image.frame, anatomy, **options)
    node = create_markups(volume, detection, taken.placement)
    FOLLOWING.begin(node, Session(detection))
    return node


def world_points(node) -> np.ndarray:
    """(n, 3) world RAS of all points, NaN where one has no position."""
    points = np.full((node.GetNumberOfControlPoints(), 3), np.nan)
    for row in range(len(points)):
        if node.GetNthControlPointPositionStatus(row) == node.PositionDefined:
            node.GetNthControlPointPositionWorld(row, points[row])
    return points


@functools.cache
def loose_prior() -> ShapePrior:
    """15 points that hang together loosely; fitted in no time."""
    random = np.random.default_rng(4)
    return ShapePrior.fit(random.normal(size=(15, 3)) * 5 + random.normal(size=(30, 15, 3)), folds=3)


def detection_at(frame: Frame, lps: np.ndarray) -> Detection:
    """A detection of the 15 points of a knee at any places (15, 3) in the world, LPS mm; for what needs no phantom."""
    count = len(lps)
    landmarks = LandmarkSet(
        load_schema("knee-ct"),
        frame,
        frame.to_index(lps),
        np.tile(np.eye(3), (count, 1, 1)),
        np.ones(count),
        ("predicted",) * count,
        ("drawn 1.0.0",) * count,
    )
    return Detection("drawn", "1.0.0", "0" * 64, "box.nrrd", landmarks, "left", 0.9, 0.9, loose_prior(), None)
