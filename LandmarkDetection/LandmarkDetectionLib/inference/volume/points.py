"""The second look at a volume: windows about what was found, each with heatmaps of its points, given hints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...geometry import Frame
from ...heatmaps import log_probabilities
from ...images import Image
from ...networks.hints import hint_maps
from ...preprocessing.resample import sample
from ...preprocessing.volume_window import GrayScale, window_about
from ..networks import Ensemble, mixture, stop_if

HINT_DEVIATION = 1.2
"""Standard deviation of a hint's bump, in cells of the heatmaps, in training and in use."""

_BATCH = 4  # windows at once; the time between two looks at whether the user wants to go on


@dataclass(frozen=True, eq=False)
class PointsLook:
    """Windows of a volume as the members see them, before any hint.

    Attributes:
        grids: of the heatmaps of each window.
        encoded: what each member keeps of each window, (W, C, d, h, w).
        heatmaps: (W, P, d, h, w) log-probabilities without hints.
    """

    grids: tuple[Frame, ...]
    encoded: tuple[Tensor, ...]
    heatmaps: Tensor

    def with_more(self, other: PointsLook) -> PointsLook:
        """These windows, then those of another look."""
        encoded = tuple(torch.cat(pair) for pair in zip(self.encoded, other.encoded, strict=True))
        return PointsLook(self.grids + other.grids, encoded, torch.cat([self.heatmaps, other.heatmaps]))


class PointsStage:
    """Networks from a window to the heatmaps of the points of one anatomy."""

    def __init__(self, ensemble: Ensemble) -> None:
        self.ensemble = ensemble

    def look(
        self, image: Image, centres: np.ndarray, mirrored: bool, cancelled: Callable[[], bool]
    ) -> PointsLook:
        """Windows about LPS positions (W, 3)."""
        plan, stride = self.ensemble.plan, self.ensemble.stride
        gray = GrayScale.of(image.array, plan)
        windows = [window_about(image.frame, centre, plan.spacing, plan.size, mirrored) for centre in centres]
        grids = tuple(window.resampled(size=tuple(n // stride for n in plan.size)) for window in windows)
        encoded, heatmaps = [[] for _ in self.ensemble.members], []
        for start in range(0, len(windows), _BATCH):
            stop_if(cancelled)
            inputs = np.stack([gray.scaled(sample(image, window))[None] for window in windows[start : start + _BATCH]])
            kept = [self.ensemble.encoded(member, inputs) for member in self.ensemble.members]
            for parts, part in zip(encoded, kept, strict=True):
                parts.append(part)
            heatmaps.append(self.decoded(kept, None))
        return PointsLook(grids, tuple(torch.cat(parts) for parts in encoded), torch.cat(heatmaps))

    def hinted(self, look: PointsLook, which: int, places: Mapping[int, np.ndarray]) -> Tensor:
        """Heatmaps (P, d, h, w) of one window, told the LPS position of some of its points."""
        points = torch.full((1, look.heatmaps.shape[1], 3), torch.nan)
        for point, place in places.items():
            points[0, point] = torch.from_numpy(look.grids[which].to_index(place).astype(np.float32))
        hints = hint_maps(points, look.grids[which].size, HINT_DEVIATION)
        return self.decoded([encoded[which : which + 1] for encoded in look.encoded], hints)[0]

    def decoded(self, encoded: list[Tensor], hints: Tensor | None) -> Tensor:
        """Log-probabilities (W, P, d, h, w) of all members together."""
        members = zip(self.ensemble.members, encoded, strict=True)
        return mixture([log_probabilities(self.ensemble.decoded(member, kept, hints), 3) for member, kept in members])
