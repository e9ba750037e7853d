"""Films as Contour-Hugging Heatmaps see them: read once, brought to the network's size, kept as bytes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ...evaluation.dataset import DataSet
from ...images import read_image
from ...inference.published.contour_view import ContourPlan, gray_view


@dataclass(frozen=True)
class ContourFilms:
    """Films of one split.

    Attributes:
        images: ``(N, 1, H, W)`` bytes.
        points: ``(N, K, 2)`` true points (the mean of the readings) as indices of the network's pixels, float64, NaN
            where unknown.
        cells: ``(N,)`` width of the network's pixels in ``unit``: mm where every film says its spacing, else pixels.
        names: of length N.
    """

    images: Tensor
    points: Tensor
    cells: Tensor
    unit: Literal["mm", "px"]
    names: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.names)

    def select(self, rows: Sequence[int]) -> ContourFilms:
        """Some of the films."""
        rows = list(rows)
        names = tuple(self.names[row] for row in rows)
        return ContourFilms(self.images[rows], self.points[rows], self.cells[rows], self.unit, names)

    def batch(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Gray values 0..1 and landmarks of some rows."""
        return self.images[rows].float() / 255, self.points[rows]

    def gray_statistics(self) -> tuple[float, float]:
        """Mean and standard deviation of all gray values, 0..1."""
        counts = torch.bincount(self.images.flatten(), minlength=256).double()
        values = torch.arange(256, dtype=torch.float64) / 255
        mean = (counts @ values / counts.sum()).item()
        return mean, (counts @ (values - mean).square() / counts.sum()).sqrt().item()

    def whole_shapes(self) -> np.ndarray:
        """(m, K, 2) the landmarks of the films on which all are known."""
        return self.points[torch.isfinite(self.points).all(dim=-1).all(dim=-1)].numpy()


def read_contour_films(data: DataSet, split: str, plan: ContourPlan) -> ContourFilms:
    """The films of one split.

    Raises:
        LandmarkDetectionError: there are none, or one cannot be read.
    """
    cases = data.split(split)
    images, points, millimetres, pixels = [], [], [], []
    for case in cases:
        image = read_image(case.path, spacing=data.spacing_mm)
        gray, frame = gray_view(image, plan)
        images.append(torch.from_numpy(np.round(255 * gray).astype(np.uint8))[None])
        points.append(torch.tensor(frame.to_index(image.frame.to_physical(case.truth))))
        millimetres.append(frame.spacing[0] if frame.has_millimetres else np.nan)
        pixels.append(np.sqrt(np.mean((frame.spacing / image.frame.spacing) ** 2)))
    known = bool(np.isfinite(millimetres).all())
    return ContourFilms(
        torch.stack(images),
        torch.stack(points),
        torch.tensor(np.array(millimetres if known else pixels)),
        "mm" if known else "px",
        tuple(case.name for case in cases),
    )
