"""A volume with its landmarks as a picture for people: an axial, a coronal and a sagittal slice side by side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from scipy.ndimage import map_coordinates

from ..geometry import Frame
from ..images import Image
from ..landmarks import LandmarkSchema, LandmarkSet
from .film import COLOURS, TRUTH_COLOUR

NEAR = 6.0
"""Millimeters from a slice within which a landmark is drawn as lying in it."""

GAP = 6
_FAINT = 0.45  # of the brightness of a landmark that lies in front of a slice or behind it


@dataclass(frozen=True, eq=False)
class Plane:
    """A slice: unit vectors in LPS to the right and down the picture, and across it."""

    name: str
    right: np.ndarray
    down: np.ndarray

    @property
    def across(self) -> np.ndarray:
        """(3,) unit vector."""
        return np.cross(self.right, self.down)


PLANES = (
    Plane("axial", np.array([1.0, 0.0, 0.0]), np.array([0.0, 1.0, 0.0])),
    Plane("coronal", np.array([1.0, 0.0, 0.0]), np.array([0.0, 0.0, -1.0])),
    Plane("sagittal", np.array([0.0, 1.0, 0.0]), np.array([0.0, 0.0, -1.0])),
)
"""As radiologists look at them: the patient's left, or back, on the right."""


def draw_slices(
    image: Image,
    landmarks: LandmarkSet,
    truth: np.ndarray | None = None,
    centre: np.ndarray | None = None,
    longest: int = 480,
) -> Picture.Image:
    """Three slices of one scale, the longest side of the longest one `longest` pixels.

    Landmarks in a slice have a dot, their expected error as a circle, and a label; those of a column one label for each
    vertebra. Landmarks in front of a slice or behind it are small dots.

    Args:
        image: a volume in any orientation.
        truth: (n, 3) index coordinates, drawn as crosses, joined to landmarks in the same slice.
        centre: (3,) index coordinates of the point where the slices meet; the middle of the landmarks where not given.
    """
    low, high = _box(image.frame)
    point = _middle(image.frame, landmarks) if centre is None else image.frame.to_physical(centre)
    scale = longest / float((high - low).max())
    slices = [_slice(image, plane, point, low, high, scale) for plane in PLANES]
    values = np.concatenate([one[np.isfinite(one)] for one in slices])
    limits = np.percentile(values, (1, 99.5)) if values.size else (0.0, 1.0)
    pictures = [_shown(one, limits) for one in slices]
    for plane, picture in zip(PLANES, pictures, strict=True):
        start = np.array([np.minimum(low @ axis, high @ axis) for axis in (plane.right, plane.down)])
        _draw(picture, plane, landmarks, truth, point, start, scale)
    whole = Picture.new("RGB", (sum(one.width for one in pictures) + 2 * GAP, max(one.height for one in pictures)))
    left = 0
    for picture in pictures:
        whole.paste(picture, (left, 0))
        left += picture.width + GAP
    return whole


def _box(frame: Frame) -> tuple[np.ndarray, np.ndarray]:
    """Least and greatest LPS coordinates of the edges of a volume."""
    corners = np.stack(np.meshgrid(*[(-0.5, n - 0.5) for n in frame.size], indexing="ij"), axis=-1).reshape(-1, 3)
    places = frame.to_physical(corners)
    return places.min(axis=0), places.max(axis=0)


def _middle(frame: Frame, landmarks: LandmarkSet) -> np.ndarray:
    places = landmarks.physical()
    places = places[np.isfinite(places).all(axis=1)]
    return places.mean(axis=0) if len(places) else frame.to_physical((np.array(frame.size) - 1) / 2)


def _slice(
    image: Image, plane: Plane, point: np.ndarray, low: np.ndarray, high: np.ndarray, scale: float
) -> np.ndarray:
    """(h, w) gray values of a plane through a point, NaN beyond the volume."""
    spans = [sorted((low @ axis, high @ axis)) for axis in (plane.right, plane.down)]
    across, down = (start + (np.arange(max(1, round((end - start) * scale))) + 0.5) / scale for start, end in spans)
    places = across[None, :, None] * plane.right + down[:, None, None] * plane.down
    places = places + (point @ plane.across) * plane.across
    index = np.moveaxis(image.frame.to_index(places), -1, 0)[::-1]
    return map_coordinates(image.array, index, output=np.float32, order=1, cval=np.nan)


def _shown(values: np.ndarray, limits: Sequence[float]) -> Picture.Image:
    """Black beyond the volume."""
    low, high = (float(limit) for limit in limits)
    shares = np.nan_to_num((values - low) / max(high - low, 1e-6), nan=0.0)
    return Picture.fromarray((255 * np.clip(shares, 0, 1)).astype(np.uint8)).convert("RGB")


def _draw(
    picture: Picture.Image,
    plane: Plane,
    landmarks: LandmarkSet,
    truth: np.ndarray | None,
    point: np.ndarray,
    start: np.ndarray,
    scale: float,
) -> None:
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(11)
    draw.text((4, 3), plane.name, fill="#c8d0d8", font=font)

    def seen(places: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where places (n, 3) in LPS lie in the picture, and whether they lie in the slice."""
        flat = (np.stack([places @ plane.right, places @ plane.down], axis=-1) - start) * scale
        return flat, np.abs((places - point) @ plane.across) <= NEAR

    names = _labels(landmarks.schema)
    dots, inside = seen(landmarks.physical())
    radii = landmarks.expected_errors * np.sqrt(np.mean(landmarks.frame.spacing**2)) * scale
    aims, aimed = (dots, inside & False) if truth is None else seen(landmarks.frame.to_physical(truth))
    found = np.isfinite(dots).all(axis=1)
    for row in sorted(np.flatnonzero(found), key=lambda row: inside[row]):
        colour = COLOURS[landmarks.statuses[row]]
        x, y = dots[row]
        if not inside[row]:
            draw.ellipse([x - 1, y - 1, x + 1, y + 1], fill=_dark(colour))
            continue
        if np.isfinite(radii[row]):
            draw.ellipse([x - radii[row], y - radii[row], x + radii[row], y + radii[row]], outline=colour)
        draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        if names[row]:
            draw.text((x + 4, y - 12), names[row], fill=colour, font=font)
    for row in np.flatnonzero(aimed & np.isfinite(aims).all(axis=1)):
        x, y = aims[row]
        if found[row] and inside[row]:
            draw.line([tuple(dots[row]), (x, y)], fill=TRUTH_COLOUR)
        draw.line([(x - 4, y), (x + 4, y)], fill=TRUTH_COLOUR)
        draw.line([(x, y - 4), (x, y + 4)], fill=TRUTH_COLOUR)


def _labels(schema: LandmarkSchema) -> list[str]:
    """What is written beside each landmark: its id, or for the first one of a level the level's name."""
    names = list(schema.ids) if not schema.levels else [""] * len(schema.ids)
    for level in schema.levels:
        names[schema.index(level[0])] = level[0].split("_")[0]
    return names


def _dark(colour: str) -> tuple[int, ...]:
    return tuple(round(_FAINT * int(colour[k : k + 2], 16)) for k in (1, 3, 5))
