"""Films of one view of the body, as they are: neither mirrored nor sorted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ...errors import LandmarkDetectionError
from .films import Films, read_labels, square_bytes


def read_view_films(folder: Path, split: str, size: int) -> Films:
    """The films of one split with all landmarks, each fitted into a square of ``size`` pixels and its own subject.

    Others are left out: windows follow the size of the shape, which is not known where a landmark is missing.

    Raises:
        LandmarkDetectionError: no film of the split has all landmarks.
    """
    labels, splits = read_labels(folder)
    names = tuple(name for name, known in splits.items() if known == split and np.isfinite(labels[name]).all())
    if not names:
        raise LandmarkDetectionError(
            f"No image of the split '{split}' in '{folder.name}' has all landmarks; complete some in landmarks.csv."
        )
    images, points = [], []
    for name in names:
        pixels, scale, offset = square_bytes(folder / "images" / name, size)
        images.append(torch.from_numpy(pixels)[None])
        points.append(torch.tensor(labels[name] * scale + offset, dtype=torch.float32))
    return Films(torch.stack(images), torch.stack(points), names, names, (split,) * len(names), ("",) * len(names))
