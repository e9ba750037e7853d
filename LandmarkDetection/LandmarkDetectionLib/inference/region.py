"""The region stage: is the anatomy in the image, where, how large, and of which side of the body?

A side is a hypothesis about the orientation of the film. The film and its mirror image are both shown to networks that
know one orientation only, and each answers how present the anatomy is and where. A film of anatomy without sides is
shown as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from ..geometry import Frame
from ..heatmaps import cell_to_index, local_expectation, log_probabilities
from ..images import Image
from ..preprocessing.crop import centroid_size, crop_about, whole_film
from ..preprocessing.intensity import normalise
from ..preprocessing.pyramid import FIRST_LOOK, sample_halves
from .networks import Ensemble, mixture, stop_if

Side = Literal["left", "right"]
SIDES: tuple[Side, Side] = ("right", "left")


@dataclass(frozen=True)
class Candidate:
    """The anatomy as one hypothesis sees it: coarse landmarks ``(n, 3)`` in LPS and the logit of its presence."""

    side: Side | None
    points: np.ndarray
    presence: float


def physical_points(cells: Tensor, stride: int, window: Frame) -> np.ndarray:
    """LPS positions of heatmap cells ``(n, 2)`` of a network that saw ``window``."""
    return window.to_physical(cell_to_index(cells, stride).double().numpy())


class RegionStage:
    """Finds a candidate for each side, first in the whole film, then once more in a window about it.

    Args:
        ensemble: networks from a window to coarse heatmaps and, last, a map of presence.
        mirrored_side: side that the networks see mirrored; None where the anatomy has no sides.
    """

    def __init__(self, ensemble: Ensemble, mirrored_side: Side | None) -> None:
        self.ensemble = ensemble
        self.plan = ensemble.plan
        self.mirrored_side = mirrored_side

    def mirrored(self, side: Side | None) -> bool:
        """Whether the networks see the film mirrored under a hypothesis."""
        return side is not None and side == self.mirrored_side

    def candidates(self, image: Image, cancelled: Callable[[], bool]) -> dict[Side | None, Candidate]:
        """One candidate for each side of the body, or a single one, of the side None."""
        whole = whole_film(image, self.plan.size, self.plan.crop)
        sides = (None,) if self.mirrored_side is None else SIDES
        windows = {side: whole.flipped(0) if self.mirrored(side) else whole for side in sides}
        found = self.look(image, windows, cancelled)
        for side, candidate in found.items():
            width = self.plan.extent * centroid_size(candidate.points)
            centre = candidate.points.mean(axis=0)
            windows[side] = crop_about(image.frame, centre, width, self.plan.size, self.mirrored(side))
        return self.look(image, windows, cancelled)

    def look(
        self, image: Image, windows: dict[Side | None, Frame], cancelled: Callable[[], bool]
    ) -> dict[Side | None, Candidate]:
        """What the networks say of one window for each hypothesis."""
        views = [sample_halves(image, window, FIRST_LOOK) for window in windows.values()]
        inputs = np.stack([normalise(view, self.plan.percentiles) for view in views])
        members = []
        for member in self.ensemble.members:
            stop_if(cancelled)
            members.append(self.ensemble.logits(member, inputs))
        presence = torch.stack([logits[:, -1].flatten(1).amax(dim=1) for logits in members]).mean(dim=0)
        heatmaps = mixture([log_probabilities(logits[:, :-1]) for logits in members])
        cells = local_expectation(heatmaps)
        return {
            side: Candidate(side, physical_points(cells[row], self.ensemble.stride, window), float(presence[row]))
            for row, (side, window) in enumerate(windows.items())
        }
