"""A film with its landmarks drawn on it, as a picture for people."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont

from ..images import Image
from ..landmarks import LandmarkSet, Status

COLOURS: dict[Status, str] = {"predicted": "#4cd964", "moved": "#5ac8fa", "review": "#ffb03b", "absent": "#8e8e93"}
TRUTH_COLOUR = "#ff4f6d"


def draw_landmarks(
    image: Image,
    landmarks: LandmarkSet,
    truth: np.ndarray | None = None,
    longest: int = 900,
    labels: bool = True,
    outlines: Sequence[np.ndarray] | None = None,
) -> Picture.Image:
    """The film, its longer side `longest` pixels, with a dot, its expected error as a circle and a label per landmark.

    Args:
        truth: (n, 2) index coordinates, drawn as crosses joined to the landmarks.
        outlines: for each landmark (s, 2, 2) segments in index coordinates around its prediction region, which is then
            drawn in place of the circle.
    """
    width, height = image.frame.size
    scale = longest / max(width, height)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    filter_ = Picture.Resampling.BOX if scale < 1 else Picture.Resampling.BICUBIC
    picture = Picture.fromarray(_bytes(image.array)).resize(size, filter_).convert("RGB")
    draw = ImageDraw.Draw(picture)
    font = ImageFont.load_default(max(10, longest // 64))
    factor = np.array(size) / np.array([width, height])
    points = (landmarks.positions + 0.5) * factor
    targets = None if truth is None else (truth + 0.5) * factor
    for k, point in enumerate(points):
        if not np.isfinite(point).all():
            continue
        colour = COLOURS[landmarks.statuses[k]]
        if targets is not None and np.isfinite(targets[k]).all():
            _cross(draw, point, targets[k])
        radius = landmarks.expected_errors[k] * scale
        if outlines is not None:
            for start, end in (outlines[k] + 0.5) * factor:
                draw.line([tuple(start), tuple(end)], fill=colour)
        elif np.isfinite(radius):
            draw.ellipse(_box(point, radius), outline=colour)
        draw.ellipse(_box(point, max(2.0, longest / 300)), fill=colour)
        if labels:
            place = (point[0] + longest / 150, point[1] - longest / 45)
            draw.text(place, landmarks.schema.ids[k], fill=colour, font=font)
    return picture


def _bytes(array: np.ndarray) -> np.ndarray:
    low, high = (float(value) for value in np.percentile(array, (1, 99)))
    if high <= low:
        low, high = float(array.min()), float(array.max())
    scaled = (array.astype(np.float32) - low) * (255 / (high - low))
    return np.clip(scaled, 0, 255).astype(np.uint8)


def _box(centre: Sequence[float], radius: float) -> list[float]:
    return [centre[0] - radius, centre[1] - radius, centre[0] + radius, centre[1] + radius]


def _cross(draw: ImageDraw.ImageDraw, point: np.ndarray, target: np.ndarray) -> None:
    x, y = (float(value) for value in target)
    draw.line([tuple(point), (x, y)], fill=TRUTH_COLOUR)
    draw.line([(x - 4, y), (x + 4, y)], fill=TRUTH_COLOUR)
    draw.line([(x, y - 4), (x, y + 4)], fill=TRUTH_COLOUR)
