"""Segmentation by a static atlas, what an anatomical prior is measured against: alone, or with EM on the gray values.

The atlas is the mean of many label maps, one probability for each label and cell, the same for every image.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..geometry import Frame
from ..images import Image
from .anatomy_segmentation import Segmentation
from .anatomy_statistics import Appearance, fitted_statistics, log_densities, posteriors
from .anatomy_view import AnatomyView
from .anatomy_volume_view import VolumeView


def mean_atlas(maps: Tensor, labels: int, smallest: float = 1e-9) -> Tensor:
    """Atlas ``(L, [D,] H, W)`` from label maps ``(N, [D,] H, W)``, each probability at least about ``smallest``."""
    frequencies = torch.stack([(maps == label).float().mean(0) for label in range(labels)])
    return (frequencies + smallest) / (frequencies + smallest).sum(0, keepdim=True)


@dataclass(frozen=True, eq=False)
class StaticAtlas:
    """An atlas ``(L, [D,] H, W)`` in the standard pose, with view and appearance of the prior it stands by."""

    probabilities: Tensor
    view: AnatomyView | VolumeView
    appearance: Appearance
    rounds: int = 30

    def prior_only(self, window: Frame) -> Segmentation:
        """The atlas itself, whatever the film shows."""
        return Segmentation(window, self.probabilities.numpy())

    def segment(self, image: Image, window: Frame) -> Segmentation:
        """EM of the Gaussian mixture with the atlas as the weights of each cell."""
        gray = torch.from_numpy(self.view.gray(image, window))[None, None]
        return Segmentation(window, self.posterior(gray)[0].numpy())

    def posterior(self, gray: Tensor) -> Tensor:
        """Posteriors ``(B, L, [D,] H, W)`` of gray values ``(B, 1, [D,] H, W)``."""
        flat = gray.flatten(1)
        log_labels = self.probabilities.log().flatten(1).expand(len(flat), -1, -1)
        statistics = fitted_statistics(flat, log_labels, self.appearance, self.rounds)
        result = posteriors(log_labels, log_densities(flat, *statistics))
        return result.view(len(flat), *self.probabilities.shape)
