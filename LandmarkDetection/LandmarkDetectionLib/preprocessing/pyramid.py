"""Halves of a film, and halves of these: what a fine film and a coarser one of the same patient have in common."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import numpy as np

from ..geometry import Frame
from ..images import Image
from .resample import sample

FIRST_LOOK = 2 / 3
"""Pixel of a film's half, at most, against that of a window in which the anatomy is looked for."""

CLOSE_LOOK = 1.5
"""The same for a window in which points are placed. It blurs films a little, which cost no accuracy where measured:
spines kept out of training 14.5 px before and after, skulls 5.37 px."""

_LONGEST = 1024  # pixels of a film's half from which windows are laid
_SHORTEST = 64  # pixels of a side that is halved: a narrow film is not halved away

_halves: WeakKeyDictionary[Image, Image] = WeakKeyDictionary()


def halved(image: Image, factors: tuple[int, int] = (2, 2)) -> Image:
    """Means of so many pixels of a film along x and y, float32; what is left over at the end is left out."""
    across, down = factors
    columns, rows = (n // factor for n, factor in zip(image.frame.size, factors, strict=True))
    array = image.array[: down * rows, : across * columns]
    # Sums of every other line and column: a tenth of the time that a mean over the axes of blocks takes.
    lines = sum(array[start::down].astype(np.float32) for start in range(down))
    means = sum(lines[:, start::across] for start in range(across)) / np.float32(across * down)
    frame = image.frame.cropped((0, 0), (across * columns, down * rows)).resampled(size=(columns, rows))
    return Image(means, frame, image.name)


def _half(image: Image) -> Image:
    """`halved`, once for each film: several windows of one film are looked at, one after the other."""
    if image not in _halves:
        _halves[image] = halved(image)
    return _halves[image]


def sample_halves(image: Image, frame: Frame, coarsest: float) -> np.ndarray:
    """`sample` of the coarsest half of a film whose pixels are at most ``coarsest`` times those of ``frame``.

    A film and its half so come to the same values, and to the same landmarks: the mean of two by two pixels is what a
    detector with pixels twice as large measures. The axes of ``frame`` are those of the film.
    """
    while (finer := _halvable(image, coarsest * frame.spacing)).any():
        image = _half(image) if finer.all() else halved(image, tuple(np.where(finer, 2, 1).tolist()))
    return sample(image, frame)


def _halvable(image: Image, pixel: np.ndarray) -> np.ndarray:
    """(2,) whether a film is long enough to be halved along each axis, and its half not coarser than ``pixel`` (2,)."""
    return (2 * image.frame.spacing <= pixel) & (np.asarray(image.frame.size) >= _SHORTEST)


def coarse(image: Image) -> Image:
    """The finest half of a film that is small enough to lay the first window by.

    A film and its half so get the same window, also where a row of pixels too many makes the film a little longer.
    """
    while max(image.frame.size) > _LONGEST and min(image.frame.size) >= _SHORTEST:
        image = _half(image)
    return image
