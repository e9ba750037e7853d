"""The bones of a film on request: a label map on its grid, and which landmarks have left the edge of their bone.

The landmarks tell where to look, the anatomical prior (`priors.anatomical`) draws what the gray values show there. It
knows the bones near the joint line only: a band of a fifth of the tibial width above and below it.

That a landmark lies off the edge is a note, and does not change the review flag of the detection: most errors run along
the edge, where this does not see them. What `benchmarks/contour_flags.py` measured stands in `benchmarks/README.md`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import LandmarkDetectionError
from ..geometry import Frame
from ..images import Image, require_film
from ..landmarks import LandmarkSet
from ..preprocessing.crop import centroid_size
from ..preprocessing.resample import sample
from ..priors import ShapePrior
from ..priors.anatomy_segmentation import Segmentation
from ..priors.anatomy_view import TIBIA_POINTS
from ..priors.procrustes import fit_similarity
from .bone_model import BoneModel, find_bone_model
from .detection import Detection

LABELS = {"femur": 1, "tibia": 2}
"""Values of the label map; 0 is everything else, also what of a bone lies beyond the band about the joint."""

FEWEST = 6
"""Landmarks that must have a position, to tell where the knee is."""


@dataclass(frozen=True, eq=False)
class BoneSegmentation:
    """The bones of one film.

    Attributes:
        model: name and version.
        labels: (h, w) uint8, see `LABELS`, on the grid `frame` of the image.
        distances: (n,) from each landmark to the edge of its bone in index units, NaN where the landmark is absent,
            infinite where the bone was not found.
        limits: (n,) in index units.
        flagged: ids of the landmarks beyond their limit.
        drawn: the label probabilities in their own window, with the plausibility of shape and gray values.
        notes: sentences for the user.
    """

    model: str
    labels: np.ndarray
    frame: Frame
    distances: np.ndarray
    limits: np.ndarray
    flagged: tuple[str, ...]
    drawn: Segmentation
    notes: tuple[str, ...]


def segment(detection: Detection, image: Image, model: BoneModel | None = None) -> BoneSegmentation:
    """Draw the bones about the joint of a film.

    Args:
        detection: in this film; its landmarks as they are now, corrections included.
        image: the film.
        model: the one for these landmarks by default.

    Raises:
        LandmarkDetectionError: the detection is of another image or of landmarks that no model is for, or too few
            landmarks have a position.
        BundleError: the model is missing or damaged.
    """
    require_film(image)
    landmarks = detection.landmarks
    if model is None:
        model = find_bone_model(landmarks.schema.name)
    if landmarks.schema.name != model.schema:
        raise LandmarkDetectionError(
            f"The model '{model.name}' needs landmarks of '{model.schema}'; detect these first."
        )
    if landmarks.frame.size != image.frame.size:
        raise LandmarkDetectionError(f"The landmarks do not belong to '{image.name}'; detect them in this image first.")
    spacing = image.frame.spacing
    where = expected_positions(landmarks.positions * spacing, detection.prior) / spacing
    view = model.prior.settings.view
    window = view.window_about(image.frame, image.frame.to_physical(where), mirrored=detection.side == "left")
    found = model.prior.look(image, window)
    unit = float(np.sqrt(np.mean(spacing**2)))
    distances = edge_distances(found, image.frame.to_physical(landmarks.positions)) / unit
    limits = model.limits * centroid_size(where * spacing) / unit
    beyond = np.flatnonzero(np.nan_to_num(distances, nan=0.0) > limits)
    return BoneSegmentation(
        model=f"{model.name} {model.version}",
        labels=label_map(found, image.frame),
        frame=image.frame,
        distances=distances,
        limits=limits,
        flagged=tuple(landmarks.schema.ids[row] for row in beyond),
        drawn=found,
        notes=sentences(landmarks, image.frame, found, distances, beyond),
    )


def expected_positions(points: np.ndarray, prior: ShapePrior) -> np.ndarray:
    """The mean shape ``(n, 2)`` laid over the landmarks that have a position: one that is far off hardly moves it.

    Args:
        points: (n, 2), the same length along both axes, NaN where absent.
        prior: in the orientation of the image.

    Raises:
        LandmarkDetectionError: too few landmarks have a position.
    """
    known = np.isfinite(points).all(axis=1)
    if known.sum() < FEWEST:
        raise LandmarkDetectionError(f"The bones are looked for about the landmarks; place at least {FEWEST} of them.")
    return fit_similarity(prior.mean[known], points[known]).apply(prior.mean)


def edge_distances(found: Segmentation, points: np.ndarray) -> np.ndarray:
    """Distance ``(16,)`` of landmarks ``(16, 3)`` in LPS from the joint line of their bone; NaN stays NaN."""
    parts = {"tibia": points[:TIBIA_POINTS], "femur": points[TIBIA_POINTS:]}
    distances = np.concatenate([found.distances(bone, values) for bone, values in parts.items()])
    return np.where(np.isfinite(points).all(axis=1), distances, np.nan)


def label_map(found: Segmentation, frame: Frame) -> np.ndarray:
    """(h, w) uint8, see `LABELS`: the pixels where a bone is likelier than all else."""
    labels = np.zeros(frame.size[::-1], dtype=np.uint8)
    # A rim of zeros: nothing is known of the bones beyond the window.
    window = found.window.cropped((-1, -1), (found.window.size[0] + 2, found.window.size[1] + 2))
    corners = [(x, y) for x in (0, window.size[0] - 1) for y in (0, window.size[1] - 1)]
    reach = frame.to_index(window.to_physical(corners))
    first = np.clip(np.floor(reach.min(axis=0)).astype(int), 0, frame.size)
    last = np.clip(np.ceil(reach.max(axis=0)).astype(int) + 1, 0, frame.size)
    if (last <= first).any():
        return labels
    grid = frame.cropped(first, last - first)
    part = labels[first[1] : last[1], first[0] : last[0]]
    for bone, value in LABELS.items():
        likely = sample(Image(np.pad(found.bone(bone), 1), window, bone), grid)
        part[likely > 0.5] = value
    return labels


def sentences(
    landmarks: LandmarkSet, frame: Frame, found: Segmentation, distances: np.ndarray, beyond: np.ndarray
) -> tuple[str, ...]:
    """What the user should know: bones that were not found, and landmarks off the edge."""
    missing = [bone for bone in LABELS if len(found.line(bone)) == 0]
    notes = [f"The {bone} was not found on this film." for bone in missing]
    rows = [row for row in beyond if np.isfinite(distances[row])]
    if rows:
        unit = float(np.sqrt(np.mean(frame.spacing**2)))
        lengths = [
            f"{unit * distances[row]:.1f} mm" if frame.has_millimetres else f"{distances[row]:.1f} px" for row in rows
        ]
        named = ", ".join(f"{landmarks.schema.ids[row]} ({length})" for row, length in zip(rows, lengths, strict=True))
        notes.append(f"Off the edge of the bone as it is drawn: {named}; look at these landmarks.")
    return tuple(notes)
