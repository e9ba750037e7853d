"""Frames laid about an anatomy: upright windows of any width, mirrored where the model wants the other side."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..geometry import Frame
from ..images import Image
from .foreground import foreground_box
from .pyramid import coarse


def centroid_size(points: np.ndarray) -> float:
    """Root mean square distance of points ``(n, d)`` from their centroid, rows with NaN left out."""
    known = points[np.isfinite(points).all(axis=1)]
    return float(np.sqrt(((known - known.mean(axis=0)) ** 2).sum(axis=1).mean()))


def crop_about(
    frame: Frame, centre: np.ndarray, width: float, size: Sequence[int], mirrored: bool = False
) -> Frame:
    """A window of ``size`` pixels about a point, parallel to ``frame``, with square pixels.

    Args:
        frame: of the image.
        centre: LPS position of the middle of the window.
        width: of the window along x, in physical units.
        size: pixels along each axis, x first.
        mirrored: reverse x.
    """
    steps = frame.direction() * (width / size[0])
    origin = np.asarray(centre) - steps @ ((np.asarray(size) - 1) / 2)
    window = Frame(tuple(size), origin, steps, frame.spacing_source)
    return window.flipped(0) if mirrored else window


def whole_film(image: Image, size: Sequence[int], crop: str, mirrored: bool = False) -> Frame:
    """A window that holds the foreground (``crop="foreground"``) or all of a film; that of its half is the same."""
    film = coarse(image)
    frame = film.frame
    start, extent = foreground_box(film.array) if crop == "foreground" else ((0,) * frame.dims, frame.size)
    centre = frame.to_physical(np.asarray(start) + (np.asarray(extent) - 1) / 2)
    width = float((np.asarray(extent) * frame.spacing * (size[0] / np.asarray(size))).max())
    return crop_about(frame, centre, width, size, mirrored)
