"""`make_spine`: one film of the spine with exact corners of T1 to L5 from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter, map_coordinates

from . import film as films
from . import thorax, volume
from .curves import Curve, draw_curves
from .film import Exposure
from .spine_dimensions import LANDMARK_LEVELS, LANDMARKS, draw_spine_dimensions
from .trunk import tissue_path
from .tubes import Tube, project_tubes
from .vertebrae import Column, Vertebra, build_column

Field = Literal["column", "wide", "upper", "lower", "lateral"]
SIZES: dict[Field, tuple[int, int]] = {
    "column": (600, 1500), "wide": (900, 1800), "upper": (600, 1100), "lower": (600, 1000), "lateral": (700, 1500)
}  # fmt: skip
MODEL_STEP = 0.5  # mm; the model is evaluated no finer than this and interpolated onto finer films
MIRRORED = tuple(4 * (i // 4) + (1, 0, 3, 2)[i % 4] for i in range(len(LANDMARKS)))  # left corners for right ones


@dataclass(frozen=True)
class SpinePhantom:
    """A phantom film.

    Attributes:
        pixels: (h, w) uint16 gray values 0..4095, bone bright.
        spacing: mm per pixel, both ways.
        landmarks: (68, 2) index coordinates (x, y) in the order of `LANDMARKS`, left and right of the image; NaN for a
            corner outside the film, and for all of them on a lateral film.
        curves: from the head down; `degrees` is the Cobb angle of the exact endplates as projected.
        seed: what it was made from.
    """

    pixels: np.ndarray
    spacing: float
    landmarks: np.ndarray
    curves: tuple[Curve, ...]
    seed: int

    @property
    def cobb(self) -> float:
        """The largest Cobb angle, degrees; 0 for a straight spine."""
        return max((curve.degrees for curve in self.curves), default=0.0)

    def image(self, name: str = "phantom", with_spacing: bool = True):
        """The film as an `Image` in its frame."""
        from ..images import Image

        return Image.from_array(self.pixels, spacing=self.spacing if with_spacing else None, name=name)

    def mirrored(self) -> SpinePhantom:
        """The film flipped left to right: corners change their names, curves the side they bulge to."""
        points = self.landmarks[list(MIRRORED)] * (-1, 1) + (self.pixels.shape[1] - 1, 0)
        curves = tuple(replace(each, convex="left" if each.convex == "right" else "right") for each in self.curves)
        return replace(self, pixels=np.ascontiguousarray(self.pixels[:, ::-1]), landmarks=points, curves=curves)


def make_spine(
    seed: int,
    size: tuple[int, int] | None = None,
    curve: Sequence[Curve] | None = None,
    field: Field = "column",
    spacing: float | None = None,
) -> SpinePhantom:
    """Draw a spine and take its film.

    Args:
        seed: the same seed gives the same film, byte for byte.
        size: (width, height) in pixels, `SIZES` by default.
        curve: the curves from the head down, () for a straight spine; drawn from the seed where None.
        field: "column" (T1 to L5 fill the film), "wide" (jaw to hips), "upper" or "lower" (the film ends within the
            column) or "lateral" (from the side, without landmarks).
        spacing: mm per pixel; chosen to suit the field where None.

    Raises:
        ValueError: for an unknown field or curves that contradict each other.
    """
    if field not in get_args(Field):
        raise ValueError(f"There is no spine phantom of field {field!r}; use one of {', '.join(get_args(Field))}.")
    rng = np.random.default_rng([seed, 7, get_args(Field).index(field)])
    width, height = size = size or SIZES[field]
    dimensions, drawn = draw_spine_dimensions(rng), draw_curves(rng)
    column = build_column(dimensions, drawn if curve is None else tuple(curve))
    corners = film_corners(column)
    lateral = field == "lateral"
    seen = _from_the_side(corners, column) if lateral else corners
    fitting, origin = _framing(rng, seen, size, field)
    if spacing:
        origin = (origin[0] * fitting / spacing, origin[1] * fitting / spacing)
    spacing = spacing or fitting
    attenuation = shadow_of(column, size, spacing, origin, rng, lateral)
    exposure = draw_exposure(rng, collimated=field == "wide")
    shown = films.expose(_evened(attenuation, spacing, rng), spacing, exposure, rng)
    shown = films.collimate(shown, exposure)
    if rng.random() < 0.5:
        letter = str(rng.choice(["L", "R"]))
        place = (width * (0.90 if letter == "L" else 0.10), height * rng.uniform(0.02, 0.3))
        shown = films.stamp(shown, letter, place, max(14, int(12 / spacing)))
    points = np.full((len(LANDMARKS), 2), np.nan) if lateral else to_index(corners, spacing, origin)
    outside = (points < -0.5).any(axis=1) | (points > np.array(size) - 0.5).any(axis=1)
    points[outside] = np.nan
    realised = tuple(replace(each, degrees=column.cobb_angle(each.upper, each.lower)) for each in column.curves)
    return SpinePhantom(films.to_levels(shown), float(spacing), points, () if lateral else realised, seed)


def film_corners(column: Column) -> np.ndarray:
    """The corners of T1 to L5 as a beam along y shows them, (68, 2) as (x, z) mm, in the order of `LANDMARKS`."""
    bodies = [column[level].body for level in LANDMARK_LEVELS]
    return np.vstack([np.vstack([body.corners(True), body.corners(False)]) for body in bodies])


def to_index(positions: np.ndarray, spacing: float, origin: tuple[float, float]) -> np.ndarray:
    """Index coordinates (x, y) on a film whose pixel `origin` (column, row) looks at (0, 0), from (x, z) mm."""
    return np.column_stack([origin[0] + positions[:, 0] / spacing, origin[1] - positions[:, 1] / spacing])


def shadow_of(
    column: Column,
    size: tuple[int, int],
    spacing: float,
    origin: tuple[float, float],
    rng: np.random.Generator,
    lateral: bool = False,
) -> np.ndarray:
    """Attenuation (h, w) on a film whose pixel `origin` (column, row) looks at the middle of the sacral endplate.

    The beam is parallel and runs along y, or from side to side where `lateral`.
    """
    step = max(spacing, MODEL_STEP)
    left, top = -origin[0] * spacing, origin[1] * spacing
    x = left + step * np.arange(-2, int(np.ceil(size[0] * spacing / step)) + 3)
    z = top - step * np.arange(-2, int(np.ceil(size[1] * spacing / step)) + 3)
    attenuation = volume.SOFT_TISSUE * tissue_path(column, x, z, rng, lateral)
    vertebrae, tubes = bones_of(column, rng)
    if lateral:
        rotation = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # the front of the body to the image's right
        vertebrae, tubes = [each.turned(rotation) for each in vertebrae], [each.turned(rotation) for each in tubes]
    density = column.dimensions.density
    compact, trabecular = project_tubes([*tubes, *(part for each in vertebrae for part in each.arch)], x, z)
    for each in vertebrae:
        part = volume.project(each.body, x, z, rng)
        if part is not None:
            compact[part.window()] += part.compact
            trabecular[part.window()] += part.trabecular
    attenuation += density * (volume.COMPACT_BONE * compact + volume.TRABECULAR_BONE * trabecular)
    rows = np.arange(size[1]) * (spacing / step) + 2
    columns = np.arange(size[0]) * (spacing / step) + 2
    return map_coordinates(attenuation, np.meshgrid(rows, columns, indexing="ij"), order=3, mode="nearest")


def bones_of(column: Column, rng: np.random.Generator) -> tuple[list[Vertebra], list[Tube]]:
    """Every bone of the trunk: the vertebrae, and the others as tubes."""
    others = [*thorax.ribs(column, rng), *thorax.shoulders(column, rng), *thorax.pelvis(column), *thorax.jaw(column)]
    return list(column.vertebrae), others


def draw_exposure(rng: np.random.Generator, collimated: bool) -> Exposure:
    """An exposure of a trunk, for which far more light is used than for a knee and lung is the darkest part."""
    exposure = films.draw_exposure(rng, collimated)
    return replace(
        exposure,
        photons=float(np.exp(rng.uniform(np.log(1e5), np.log(4e6)))),
        scatter=float(rng.uniform(0.02, 0.2)),
        unsharpness=float(rng.uniform(0.15, 0.45)),
        black=float(rng.uniform(0.10, 0.46)),
        gamma=float(rng.uniform(0.8, 1.5)),
        shoulder=float(np.exp(rng.uniform(np.log(0.2), np.log(1.6)))),
    )


def _evened(attenuation: np.ndarray, spacing: float, rng: np.random.Generator) -> np.ndarray:
    """Attenuation after what long films go through: a graded filter from top to bottom, and evened-out wide shadows."""
    rows = np.linspace(-0.5, 0.5, attenuation.shape[0])[:, None]
    graded = attenuation + rng.uniform(-0.8, 0.5) * rows * attenuation.mean()
    if rng.random() < 0.3:  # the seam of a film put together from two
        graded = graded + rng.uniform(-0.3, 0.3) * np.tanh(40 * (rows - rng.uniform(-0.1, 0.3)))
    share = rng.uniform(0.0, 0.65)
    wide = gaussian_filter(graded[::8, ::8], 30.0 / (8 * spacing), mode="nearest")
    where = np.meshgrid(*(np.arange(n) / 8 for n in graded.shape), indexing="ij")
    wide = map_coordinates(wide, where, order=1, mode="nearest")
    return np.maximum(graded + share * (wide.mean() - wide), 0.0)


def _from_the_side(corners: np.ndarray, column: Column) -> np.ndarray:
    """The corners with their columns replaced by those of the bodies seen from the side, for the framing."""
    forward = np.repeat([-column[level].body.pose.shift[1] for level in LANDMARK_LEVELS], 4)
    return np.column_stack([forward, corners[:, 1]])


def _framing(rng, corners: np.ndarray, size: tuple[int, int], field: Field) -> tuple[float, tuple[float, float]]:
    """mm per pixel, and the pixel that looks at the origin, so that the field shows what its name says."""
    top, bottom = corners[:2, 1].max(), corners[-2:, 1].min()
    levels = corners.reshape(17, 4, 2)[..., 1].mean(axis=1)
    first, last = rng.uniform(0.02, 0.06), rng.uniform(0.91, 0.96)  # shares of the film's height
    if field == "wide":
        first, last = rng.uniform(0.18, 0.28), rng.uniform(0.76, 0.86)
    if field == "upper":
        bottom, first, last = levels[rng.integers(8, 15)] + rng.uniform(-8, 8), rng.uniform(0.02, 0.14), 0.99
    if field == "lower":
        top, first, last = levels[rng.integers(3, 10)] + rng.uniform(-8, 8), 0.01, rng.uniform(0.80, 0.94)
    shown = (corners[:, 1] <= top + 1) & (corners[:, 1] >= bottom - 1)
    low, high = corners[shown, 0].min(), corners[shown, 0].max()
    spacing = (top - bottom) / ((last - first) * (size[1] - 1))
    spacing = max(spacing, (high - low + 36) / size[0])
    middle = (low + high) / 2 + rng.uniform(-0.1, 0.1) * max(size[0] * spacing - (high - low) - 36, 0)
    # A film that had to be taken from farther away keeps the middle of what it shows.
    share = (first + last) / 2
    if field == "lower":
        share = last - (top - bottom) / spacing / (size[1] - 1) / 2
    if field == "upper":
        share = first + (top - bottom) / spacing / (size[1] - 1) / 2
    row = share * (size[1] - 1) + (top + bottom) / 2 / spacing
    return float(spacing), (float((size[0] - 1) / 2 - middle / spacing), float(row))
