"""`make_knee`: one knee film with exact landmarks from a seed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.ndimage import map_coordinates

from . import film as films
from . import outline, volume
from .bones import KneeModel, build
from .dimensions import draw_dimensions, draw_stance
from .film import Exposure, draw_exposure

Side = Literal["right", "left"]
Field = Literal["crop", "wide", "bilateral"]
MODEL_STEP = 0.5  # mm; the model is evaluated no finer than this and interpolated onto finer films
LANDMARKS = tuple(f"T{i}" for i in range(9)) + tuple(f"F{i}" for i in range(7))


@dataclass(frozen=True)
class KneePhantom:
    """A phantom film.

    Attributes:
        pixels: (h, w) uint16 gray values 0..4095, bone bright.
        spacing: mm per pixel, both ways.
        landmarks: for each side on the film the (16, 2) index coordinates (x, y), T0..T8 then F0..F6, lateral first.
        seed: what it was made from.
    """

    pixels: np.ndarray
    spacing: float
    landmarks: dict[Side, np.ndarray]
    seed: int

    @property
    def side(self) -> Side:
        """The side of a film of one knee; the first of two."""
        return next(iter(self.landmarks))

    def image(self, name: str = "phantom", with_spacing: bool = True):
        """The film as an `Image` in its frame."""
        from ..images import Image

        return Image.from_array(self.pixels, spacing=self.spacing if with_spacing else None, name=name)


def make_knee(
    seed: int,
    side: Side = "right",
    size: tuple[int, int] = (224, 224),
    spacing: float | None = None,
    field: Field = "crop",
    marker: bool | None = None,
) -> KneePhantom:
    """Draw a knee and take its film.

    Args:
        seed: the same seed gives the same film, byte for byte.
        side: of the body; ignored by "bilateral", which shows both with the patient's right on the image's left.
        size: (width, height) in pixels.
        spacing: mm per pixel; drawn to suit the field where None.
        field: "crop" (the joint fills the film), "wide" (much of both shafts, collimated) or "bilateral".
        marker: lay the side letter on the film; by default on all but crops.

    Raises:
        ValueError: for an unknown side or field.
    """
    if side not in ("right", "left") or field not in ("crop", "wide", "bilateral"):
        raise ValueError(
            f"There is no phantom of side {side!r} and field {field!r}; use right or left and crop, wide or bilateral."
        )
    rng = np.random.default_rng(
        [seed, ("crop", "wide", "bilateral").index(field), int(side == "left" and field != "bilateral")]
    )
    dimensions = draw_dimensions(rng)
    spacing = spacing or _draw_spacing(rng, size, field, dimensions.plateau_width)
    sides: tuple[Side, ...] = ("right", "left") if field == "bilateral" else (side,)
    attenuation, points = np.zeros(size[::-1]), {}
    level = size[1] * (rng.uniform(0.51, 0.59) if field == "crop" else rng.uniform(0.40, 0.60))
    for each in sides:
        model = build(dimensions, draw_stance(rng, dimensions))
        centre = (_draw_column(rng, size[0], field), level + rng.uniform(-4, 4) / spacing)
        shadow, positions = shadow_of(model, size, spacing, centre, rng)
        if each == "left":
            shadow = shadow[:, ::-1]
            positions = np.column_stack([size[0] - 1 - positions[:, 0], positions[:, 1]])
        attenuation += shadow
        points[each] = positions
    exposure = draw_exposure(rng, collimated=field != "crop")
    shown = films.expose(attenuation, spacing, exposure, rng)
    shown = films.collimate(shown, exposure)
    if marker if marker is not None else field != "crop":
        shown = _marked(shown, sides, exposure, spacing)
    return KneePhantom(films.to_levels(shown), float(spacing), points, seed)


def shadow_of(
    model: KneeModel, size: tuple[int, int], spacing: float, centre: tuple[float, float], rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Attenuation (h, w) of a right knee on a film whose pixel `centre` (column, row) looks at the joint's middle.

    Also returns the landmarks as (16, 2) index coordinates. The beam is parallel and runs along y.
    """
    step = max(spacing, MODEL_STEP)
    left, top = -centre[0] * spacing, centre[1] * spacing
    x = left + step * np.arange(-2, int(np.ceil(size[0] * spacing / step)) + 3)
    z = top - step * np.arange(-2, int(np.ceil(size[1] * spacing / step)) + 3)
    attenuation = volume.SOFT_TISSUE * _leg_path(model, x, z, rng)
    silhouettes = {}
    for solid in model.bones:
        part = volume.project(solid, x, z, rng)
        if part is None:
            continue
        attenuation[part.window()] += volume.COMPACT_BONE * part.compact + volume.TRABECULAR_BONE * part.trabecular
        whole = np.full(attenuation.shape, 10.0)
        whole[part.window()] = part.silhouette
        silhouettes[solid.name] = whole
    positions = outline.landmarks(model, silhouettes, x, z)
    index = np.column_stack([(positions[:, 0] - left) / spacing, (top - positions[:, 1]) / spacing])
    rows = (np.arange(size[1]) * spacing) / step + 2
    columns = (np.arange(size[0]) * spacing) / step + 2
    return map_coordinates(attenuation, np.meshgrid(rows, columns, indexing="ij"), order=3, mode="nearest"), index


def _leg_path(model: KneeModel, x: np.ndarray, z: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Length of the beam's way (mm) through the soft tissue, uneven as muscle and fat are, on the grid (z, x)."""
    half_depth = model.leg.section.depth(z)[:, None]
    lateral, medial = model.leg.section.lateral(z)[:, None], model.leg.section.medial(z)[:, None]
    share = np.square((x[None, :] - (lateral + medial) / 2) / ((medial - lateral) / 2))
    path = 2 * half_depth * np.sqrt(np.clip(1 - share, 0, None))
    return path * volume.soft_tissue_grain(rng, path.shape, float(x[1] - x[0]))


def _draw_spacing(rng: np.random.Generator, size: tuple[int, int], field: Field, width: float) -> float:
    """mm per pixel so that the field shows what its name says."""
    if field == "crop":
        return width / (rng.uniform(0.69, 0.83) * size[0])
    if field == "wide":
        return width / (rng.uniform(0.30, 0.55) * min(size))
    return width / (rng.uniform(0.17, 0.22) * size[0])


def _draw_column(rng: np.random.Generator, width: int, field: Field) -> float:
    """Column of the joint's middle in the film of a right knee."""
    if field == "crop":
        return width / 2 + width * rng.uniform(-0.045, 0.045)
    return width * (rng.uniform(0.24, 0.28) if field == "bilateral" else rng.uniform(0.42, 0.58))


def _marked(shown: np.ndarray, sides: tuple[Side, ...], exposure: Exposure, spacing: float) -> np.ndarray:
    """Lay the letters beside the lateral side of the knee, inside the collimator's field."""
    rows, columns = shown.shape
    height = int(max(14, 10 / spacing))
    for each in sides:
        edge = exposure.open_field[0] if each == "right" else exposure.open_field[2]
        inward = 1.2 * height if each == "right" else -1.2 * height
        shown = films.stamp(shown, each[0].upper(), (edge * columns + inward, 0.16 * rows), height)
    return shown
