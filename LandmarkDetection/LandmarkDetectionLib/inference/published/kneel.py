"""Inference of KNEEL (Tiulpin et al., ICCVW 2019): knee centers on the film, then 16 landmarks in a square region.

1. Gray values between two percentiles are stretched to 0..255.
2. Each half of a bilateral film is resampled to 1 mm, padded and cropped; the one-point networks find the knee.
3. A square of 140 mm about it is cut, resampled to 0.3 mm, mirrored for a left knee, padded and cropped; the
   sixteen-point networks find the landmarks.
4. The square is centered on the tibial center that was found, and step 3 is done once more.

Every view of a network carries its `Frame`, so that padding and cropping are undone exactly: the original multiplied
coordinates of the crop by the size of the uncropped region, which magnifies all knees by 3.6 %.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from ...geometry import Frame
from ...images import Image, require_film
from ...preprocessing.resample import sample

Side = Literal["left", "right"]
Layout = Literal["bilateral", "left", "right"]

Predictor = Callable[[np.ndarray], np.ndarray]
"""From gray values 0..255 (B, side, side) to shares of the extent (B, K, 2); see `fold_ensemble.FoldEnsemble`."""


@dataclass(frozen=True)
class KneelPlan:
    """Constants of the two stages.

    Attributes:
        percentiles: gray values at these become 0 and 255.
        side, padded_side: networks see ``side`` pixels square, cut from the middle after padding to ``padded_side``.
        global_spacing: mm per pixel of the first stage.
        region_extent, region_spacing: mm, of the second stage.
        landmarks: number of landmarks of a knee.
        center_landmark: the landmark that the region is centered on again.
        recenterings: how often; KNEEL's "two-stage" result is 1.
        unknown_width: mm taken for the width of one knee's film that does not say its spacing, so that the region is
            relative to the crop.
    """

    percentiles: tuple[float, float] = (5.0, 99.0)
    side: int = 450
    padded_side: int = 520
    global_spacing: float = 1.0
    region_extent: float = 140.0
    region_spacing: float = 0.3
    landmarks: int = 16
    center_landmark: int = 4
    recenterings: int = 1
    unknown_width: float = 140.0


@dataclass(frozen=True, eq=False)
class View:
    """What a network sees: gray values (side, side), and the frame of those pixels in the film's working space."""

    array: np.ndarray
    frame: Frame

    def to_film(self, shares: np.ndarray, film: Frame) -> np.ndarray:
        """Film indices (K, 2) of points given as shares of this view's extent (K, 2); the exact inverse of the cut."""
        return film.to_index(self.frame.to_physical(np.asarray(shares) * self.frame.size - 0.5))

    def flipped(self) -> View:
        """This view mirrored left to right, its frame with it."""
        return View(np.ascontiguousarray(self.array[:, ::-1]), self.frame.flipped(0))


@dataclass(frozen=True, eq=False)
class Knee:
    """One knee of a film.

    Attributes:
        side: of the body.
        center: (2,) film index of the center that the first stage found, NaN where there is no knee.
        positions: (K, 2) film indices of the landmarks, NaN where there is no knee.
    """

    side: Side
    center: np.ndarray
    positions: np.ndarray

    @property
    def is_absent(self) -> bool:
        """Whether no knee was found."""
        return not np.isfinite(self.positions).all()


@dataclass(frozen=True)
class TwoStageKneel:
    """KNEEL's inference around any predictors for one point and for all landmarks."""

    center_predictor: Predictor
    landmark_predictor: Predictor
    plan: KneelPlan = field(default_factory=KneelPlan)

    def detect(self, image: Image, layout: Layout = "bilateral") -> tuple[Knee, ...]:
        """Landmarks of both knees (right, then left) or of the only one.

        Args:
            image: a film; mm are taken from its frame, or where they are unknown from ``plan.unknown_width``.
            layout: ``"bilateral"`` for a film of both knees in the usual order, the right knee in the image's left
                half, or the side of the only knee.

        Raises:
            ImageError: the image is a volume.
        """
        require_film(image)
        halves = knee_columns(image.frame.size[0], layout)
        film = working_film(image, layout, self.plan)
        return tuple(self.detect_knee(film, side, columns) for side, columns in halves.items())

    def detect_knee(self, film: Image, side: Side, columns: tuple[int, int]) -> Knee:
        """Both stages for the knee between two columns of a stretched film."""
        view = global_view(film, columns, self.plan)
        center = view.to_film(self.center_predictor(view.array[None])[0], film.frame)[0]
        middle_of_region = center
        for _ in range(1 + self.plan.recenterings):
            if not is_inside(middle_of_region, columns, film.frame.size[1]) or np.ptp(view.array) == 0:
                return Knee(side, np.full(2, np.nan), np.full((self.plan.landmarks, 2), np.nan))
            view = region_view(film, middle_of_region, side, self.plan)
            positions = view.to_film(self.landmark_predictor(view.array[None])[0], film.frame)
            middle_of_region = positions[self.plan.center_landmark]
        return Knee(side, center, positions)


def working_film(image: Image, layout: Layout, plan: KneelPlan) -> Image:
    """The film with stretched gray values, on its own indices, with mm that are known or assumed."""
    frame = image.frame
    if frame.has_millimetres:
        frame = Frame.film(frame.size, frame.spacing, frame.spacing_source)
    else:
        knees = 2 if layout == "bilateral" else 1
        frame = Frame.film(frame.size, knees * plan.unknown_width / frame.size[0])
    return Image(stretched(image.array, plan.percentiles), frame, image.name)


def knee_columns(width: int, layout: Layout) -> dict[Side, tuple[int, int]]:
    """First column and column after the last of each knee; the middle column of an odd width is the right knee's."""
    if layout != "bilateral":
        return {layout: (0, width)}
    middle = width // 2 + width % 2
    return {"right": (0, middle), "left": (middle, width)}


def is_inside(point: np.ndarray, columns: tuple[int, int], height: int) -> bool:
    """Whether a film index is finite and between two columns of the film."""
    low, high = (columns[0] - 0.5, -0.5), (columns[1] - 0.5, height - 0.5)
    return bool(np.isfinite(point).all() and (point >= low).all() and (point <= high).all())


def stretched(array: np.ndarray, percentiles: tuple[float, float]) -> np.ndarray:
    """Gray values as float32 from 0 at the lower percentile to 255 at the upper one, clipped."""
    low, high = np.percentile(array, percentiles)
    result = array.astype(np.float32)
    result -= np.float32(low)
    result *= np.float32(255 / (high - low) if high > low else 0)
    return np.clip(result, 0, 255, out=result)


def half(film: Image, columns: tuple[int, int], plan: KneelPlan) -> View:
    """The film between two columns at the first stage's spacing."""
    start, size = (columns[0], 0), (columns[1] - columns[0], film.frame.size[1])
    return resampled(cut(film, start, size), plan.global_spacing)


def global_view(film: Image, columns: tuple[int, int], plan: KneelPlan) -> View:
    """The film between two columns as the first stage sees it, padded and cropped."""
    return middle(half(film, columns, plan), plan)


def region(film: Image, center: np.ndarray, plan: KneelPlan) -> View:
    """The square about a film index at the second stage's spacing."""
    size = np.round(plan.region_extent / film.frame.spacing).astype(int)
    start = np.round(center).astype(int) - size // 2
    return resampled(cut(film, start, size), plan.region_spacing)


def region_view(film: Image, center: np.ndarray, side: Side, plan: KneelPlan) -> View:
    """The square about a film index as the second stage sees it, padded and cropped, mirrored for a left knee."""
    view = middle(region(film, center, plan), plan)
    return view.flipped() if side == "left" else view


def resampled(view: View, spacing: float) -> View:
    """The view on a grid of about ``spacing`` mm whose outer edges are the same."""
    frame = view.frame.resampled(spacing=spacing)
    return View(sample(Image(view.array, view.frame, "region"), frame), frame)


def middle(view: View, plan: KneelPlan) -> View:
    """The view padded with zeros to ``plan.padded_side``, then the ``plan.side`` pixels in its middle."""
    size = np.array(view.frame.size)
    padded = np.maximum(size, plan.padded_side)
    start = (padded - plan.side) // 2 - (padded - size) // 2
    return cut(view, start, (plan.side, plan.side))


def cut(source: Image | View, start: tuple[int, int], size: tuple[int, int]) -> View:
    """The pixels from index ``start`` (x, y) on; zeros where the source ends."""
    (x, y), (width, height) = (int(n) for n in start), (int(n) for n in size)
    result = np.zeros((height, width), dtype=np.float32)
    rows, columns = source.array.shape
    top, bottom = max(y, 0), min(y + height, rows)
    left, right = max(x, 0), min(x + width, columns)
    if top < bottom and left < right:
        result[top - y : bottom - y, left - x : right - x] = source.array[top:bottom, left:right]
    return View(result, source.frame.cropped((x, y), (width, height)))
