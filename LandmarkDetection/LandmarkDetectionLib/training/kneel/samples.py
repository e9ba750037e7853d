"""What KNEEL's networks learn from: half films with the tibial center, and regions about it with all landmarks.

Both are cut by the functions that inference cuts with, so a network sees the same pixels in training and in use.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...errors import LandmarkDetectionError
from ...images import Image, read_image
from ...inference.published.kneel import KneelPlan, Side, View, half, region, working_film
from ..data.films import read_labels, side_of, subject_of

STAGES = ("low_cost", "high_cost")


@dataclass(frozen=True)
class Sample:
    """Gray values (H, W) as bytes, and points (K, 2) as indices of them, NaN where absent."""

    image: np.ndarray
    points: np.ndarray


@dataclass(frozen=True)
class KneeFilm:
    """A film of one knee: its file, landmarks (K, 2) as film indices, side and subject."""

    path: Path
    points: np.ndarray
    side: Side
    subject: str

    def image(self) -> Image:
        """The film as it was stored."""
        return read_image(self.path)


def read_knees(folder: Path, split: str, plan: KneelPlan) -> tuple[KneeFilm, ...]:
    """The labelled films of one split of a data set.

    Raises:
        LandmarkDetectionError: there are none, or they have another number of landmarks than the plan.
    """
    points, splits = read_labels(folder)
    names = [name for name in points if splits[name] == split]
    if not names:
        raise LandmarkDetectionError(f"The data set '{folder}' has no labelled image of the split '{split}'.")
    count = len(points[names[0]])
    if count != plan.landmarks:
        raise LandmarkDetectionError(
            f"The data set '{folder}' has {count} landmarks; the recipe's plan {plan.landmarks}."
        )
    return tuple(KneeFilm(folder / "images" / name, points[name], side_of(name), subject_of(name)) for name in names)


def sample_of(knee: KneeFilm, stage: str, plan: KneelPlan) -> Sample:
    """One knee as a stage sees it before padding and cropping."""
    film = working_film(knee.image(), knee.side, plan)
    center = knee.points[plan.center_landmark]
    if stage == "low_cost":
        view, points = half(film, (0, film.frame.size[0]), plan), center[None]
    else:
        view, points = region(film, center, plan), knee.points
        view = view.flipped() if knee.side == "left" else view
    return Sample(np.round(view.array).astype(np.uint8), indices_in(view, points, film))


def indices_in(view: View, points: np.ndarray, film: Image) -> np.ndarray:
    """Film indices (K, 2) as indices of a view."""
    return view.frame.to_index(film.frame.to_physical(points))


def gray_statistics(samples: Sequence[Sample]) -> tuple[float, float]:
    """Mean and standard deviation of all gray values."""
    count = sum(sample.image.size for sample in samples)
    mean = sum(float(sample.image.sum(dtype=np.float64)) for sample in samples) / count
    squares = sum(float(np.square(sample.image - mean).sum()) for sample in samples)
    return mean, float(np.sqrt(squares / count))
