"""What Contour-Hugging Heatmaps see of a film: padded to the right and below to one shape, reduced to one size."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...geometry import Frame
from ...images import Image
from ...preprocessing.resample import sample
from .kneel import stretched


@dataclass(frozen=True)
class ContourPlan:
    """How a film is brought to the network.

    Attributes:
        size: of the network's input and heatmaps, x first.
        percentiles: gray values at these become 0 and 1.
        mean, deviation: of the gray values 0..1 of the training films, standardized away.
    """

    size: tuple[int, int] = (640, 800)
    percentiles: tuple[float, float] = (0.0, 100.0)
    mean: float = 0.0
    deviation: float = 1.0

    def standardized(self, gray: Tensor) -> Tensor:
        """Gray values 0..1 as the network takes them."""
        return (gray - self.mean) / self.deviation


def network_frame(frame: Frame, plan: ContourPlan) -> Frame:
    """The pixels that the network sees: square in the film's space, their first corner that of the film.

    A film of another shape than the plan's is smaller than them, on the right or below.
    """
    step = (frame.spacing * frame.size / plan.size).max()
    factor = step / frame.spacing
    return Frame(plan.size, frame.to_physical(0.5 * factor - 0.5), frame.steps * factor, frame.spacing_source)


def gray_view(image: Image, plan: ContourPlan) -> tuple[np.ndarray, Frame]:
    """Gray values 0..1 (float32), shape ``plan.size[::-1]``, zero beyond the film, and the frame of their pixels."""
    frame = network_frame(image.frame, plan)
    gray = sample(Image(stretched(image.array, plan.percentiles), image.frame, image.name), frame) / np.float32(255)
    factor = frame.spacing / image.frame.spacing
    columns, rows = (
        scale * (np.arange(n) + 0.5) > limit
        for scale, n, limit in zip(factor, plan.size, image.frame.size, strict=True)
    )
    gray[:, columns] = 0
    gray[rows] = 0
    return gray, frame


def network_input(gray: np.ndarray, plan: ContourPlan) -> Tensor:
    """Gray values 0..1 ``(H, W)`` as input ``(1, 1, H, W)``."""
    return plan.standardized(torch.from_numpy(np.ascontiguousarray(gray, dtype=np.float32))[None, None])
