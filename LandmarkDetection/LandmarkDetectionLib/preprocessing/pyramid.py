"""Halves of a film, and halves of these: what a fine film and a coarser one of the same patient have in common."""

from __future__ import annotations

import numpy as np

from ..geometry import Frame
from ..images import Image
from .resample import sample


def halved(image: Image, factors: tuple[int, int] = (2, 2)) -> Image:
    """Means of so many pixels of a film along x and y, float32; what is left over at the end is left out."""
    across, down = factors
    columns, rows = (n // factor for n, factor in zip(image.frame.size, factors, strict=True))
    blocks = image.array[: down * rows, : across * columns].reshape(rows, down, columns, across)
    frame = image.frame.cropped((0, 0), (across * columns, down * rows)).resampled(size=(columns, rows))
    return Image(blocks.mean(axis=(1, 3), dtype=np.float32), frame, image.name)


def sample_halves(image: Image, frame: Frame, coarsest: float) -> np.ndarray:
    """`sample` of the coarsest half of a film whose pixels are at most ``coarsest`` times those of ``frame``.

    A film and its half so come to the same values, and to the same landmarks: the mean of two by two pixels is what a
    detector with pixels twice as large measures. The axes of ``frame`` are those of the film.
    """
    while (finer := 2 * image.frame.spacing <= coarsest * frame.spacing).any():
        image = halved(image, tuple(np.where(finer, 2, 1).tolist()))
    return sample(image, frame)
