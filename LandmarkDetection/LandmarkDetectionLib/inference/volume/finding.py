"""The first look at a volume: all of it at low resolution, slab by slab, so that memory stays bounded."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from ...geometry import Frame
from ...images import Image
from ...preprocessing.resample import sample
from ...preprocessing.volume_window import GrayScale, WindowPlan, whole_window
from ..networks import Ensemble, stop_if

_MOST = 3 * 2**20  # voxels of a slab without its surroundings
_AROUND = 48  # voxels above and below a slab that its own depend on, as high as half a training window


def window_values(image: Image, window: Frame, plan: WindowPlan) -> np.ndarray:
    """Scaled gray values (d, h, w) of a volume on a window."""
    return GrayScale.of(image.array, plan).scaled(sample(image, window))


class FindingStage:
    """Networks from a whole volume to maps on one grid.

    Args:
        ensemble: its members' output has ``stride`` voxels a cell; their input has sides that ``divisor`` divides.
        beyond: mm above and below a volume that they look at, too: what is cut off there may have its middle past it.
    """

    def __init__(self, ensemble: Ensemble, beyond: float = 0.0) -> None:
        self.ensemble, self.beyond = ensemble, beyond
        self.divisor = ensemble.members[0].divisor

    def window(self, image: Image) -> Frame:
        """The grid on which the networks see a volume."""
        return whole_window(image.frame, self.ensemble.plan.spacing, self.divisor, self.beyond)

    def grid(self, window: Frame) -> Frame:
        """The grid of the maps."""
        return window.resampled(size=tuple(n // self.ensemble.stride for n in window.size))

    def logits(self, voxels: np.ndarray, cancelled: Callable[[], bool]) -> Tensor:
        """Mean output (C, d, h, w) of the members for voxels on a `window`."""
        return torch.stack([self.of_member(member, voxels, cancelled) for member in self.ensemble.members]).mean(dim=0)

    def of_member(self, member: torch.nn.Module, voxels: np.ndarray, cancelled: Callable[[], bool]) -> Tensor:
        """Output of one member, put together from slabs."""
        stride, parts = self.ensemble.stride, []
        for start, end, first, last in slabs(voxels.shape, self.divisor):
            stop_if(cancelled)
            seen = self.ensemble.logits(member, voxels[None, None, first:last])[0]
            parts.append(seen[:, (start - first) // stride : (end - first) // stride])
        return torch.cat(parts, dim=1)


def slabs(shape: tuple[int, ...], divisor: int) -> list[tuple[int, int, int, int]]:
    """Start and end of each slab of slices, and of it with its surroundings; all multiples of a divisor."""
    thick = max(1, _MOST // (shape[1] * shape[2] * divisor)) * divisor
    around = -(-_AROUND // divisor) * divisor
    starts = range(0, shape[0], thick)
    ends = [min(start + thick, shape[0]) for start in starts]
    return [(a, b, max(0, a - around), min(shape[0], b + around)) for a, b in zip(starts, ends, strict=True)]
