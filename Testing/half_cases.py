"""A film and its half: what a scanner with pixels twice as large gives."""

from __future__ import annotations

import numpy as np
from LandmarkDetectionLib.images import Image
from LandmarkDetectionLib.inference.detector import Detector
from PIL import Image as Picture


def halved(film: np.ndarray) -> np.ndarray:
    """Means of two by two pixels of a float32 film by Pillow."""
    return np.asarray(Picture.fromarray(film).reduce(2))


def check_half(detector: Detector, array: np.ndarray) -> None:
    """A fine film gives the points and flags of its half, which does not show an odd last row or column."""
    rows, columns = (n // 2 * 2 for n in array.shape)
    film = np.ascontiguousarray(array[:rows, :columns], dtype=np.float32)
    whole, half = (detector.detect(Image.from_array(pixels)).landmarks for pixels in (film, halved(film)))
    np.testing.assert_allclose(2 * half.positions + 0.5, whole.positions, atol=1e-2)
    assert half.statuses == whole.statuses
